"""
Fills D360's index with many studies in a short time, by SQL and without
files, to see how queries behave at that size::

    python -m benchmarks.bulk --url postgresql://... --studies 1000000

The rows are those that storing the same instances would leave, see
L{benchmarks.population}. The database must have no studies yet.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from itertools import islice
from typing import Any

from attrs import frozen

from benchmarks import population
from d360.archive.layout import folderOf
from d360.attributes import matchKey
from d360.index.migration import checkAndMigrate, connect

# The values of each study, once; the tables of the index are made of it.
_COLUMNS = (
    "number",
    "spread",
    "study_instance_uid",
    "patient_id",
    "patient_name",
    "patient_name_key",
    "patient_birth_date",
    "patient_birth_date_key",
    "patient_sex",
    "study_id",
    "study_date",
    "study_date_key",
    "study_time",
    "study_time_key",
    "accession_number",
    "study_description",
    "referring_physician_name",
    "referring_physician_name_key",
    "modality",
)

_CREATE = (
    "CREATE TEMPORARY TABLE bulk (number bigint, "
    + ", ".join(f'{name} text COLLATE "C"' for name in _COLUMNS[1:])
    + ") ON COMMIT DROP"
)

_PATIENT = """
    patient_id, issuer_of_patient_id, patient_name, patient_name_key,
    patient_birth_date, patient_birth_date_key, patient_sex"""
_PATIENT_VALUES = _PATIENT.replace("issuer_of_patient_id", "''")

_RECEIVED = "timestamptz '2026-01-01Z' + number * interval '1 ms'"

_PATIENTS = f"""
INSERT INTO patients (identity, {_PATIENT})
SELECT E'id\\\\' || patient_id || E'\\\\', {_PATIENT_VALUES}
FROM (SELECT DISTINCT ON (patient_id) * FROM bulk ORDER BY patient_id) b"""

_STUDY = """
    study_id, study_date, study_date_key, study_time, study_time_key,
    accession_number, study_description, referring_physician_name,
    referring_physician_name_key"""

_STUDIES = f"""
INSERT INTO studies (
    patient, described_at, described_by, study_instance_uid, {_PATIENT}, {_STUDY})
SELECT p.id, {_RECEIVED}, study_instance_uid || '.1.1', study_instance_uid,
    {_PATIENT_VALUES.replace("patient_", "b.patient_")}, {_STUDY}
FROM bulk b JOIN patients p ON p.patient_id = b.patient_id
ORDER BY number"""

_SERIES = f"""
INSERT INTO series (
    study, described_at, described_by, instance_count, size, series_instance_uid,
    series_number, series_number_key, modality, series_description, series_date,
    series_date_key, series_time, series_time_key, laterality,
    body_part_examined, patient_position, anatomical_orientation_type)
SELECT s.id, {_RECEIVED}, b.study_instance_uid || '.' || n || '.1', %(instances)s,
    %(instances)s * %(size)s, b.study_instance_uid || '.' || n, n::text, n,
    b.modality, '', b.study_date, b.study_date_key, b.study_time,
    b.study_time_key, '', '', '', ''
FROM bulk b JOIN studies s ON s.study_instance_uid = b.study_instance_uid,
    generate_series(1, %(series)s) each(n)
ORDER BY number, each.n"""

_INSTANCES = f"""
INSERT INTO instances (
    series, sop_instance_uid, sop_class_uid, transfer_syntax_uid, digest, size,
    path, data_set_offset, calling_ae_title, called_ae_title, source_address,
    received_at, instance_number, instance_number_key, instance_creation_date,
    instance_creation_date_key, instance_creation_time,
    instance_creation_time_key)
SELECT e.id, uid, '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1',
    sha256(convert_to(uid, 'UTF8')), %(size)s,
    spread || '/' || b.study_instance_uid || '/' || e.series_instance_uid || '/'
        || uid || '.dcm',
    400, 'STORESCU', 'D360PACS', '127.0.0.1', {_RECEIVED}, n::text, n,
    b.study_date, b.study_date_key, b.study_time, b.study_time_key
FROM bulk b JOIN studies s ON s.study_instance_uid = b.study_instance_uid
    JOIN series e ON e.study = s.id, generate_series(1, %(instances)s) each(n),
    LATERAL (SELECT e.series_instance_uid || '.' || n AS uid) named
ORDER BY number, e.id, each.n"""

_TABLES = ("patients", "studies", "series", "instances")

#: Bytes of a data set that is not there.
_SIZE = 527_000


@frozen
class Amount:
    """
    How much is loaded.

    @ivar patients: how many share the studies; 0 for one each.
    @ivar series: of each study.
    @ivar instances: of each series.
    """

    studies: int
    patients: int = 0
    series: int = 1
    instances: int = 1


_key = lru_cache(100_000)(matchKey)


def _line(number: int, patients: int) -> str:
    """A study as a line of COPY: no value has a tab or a backslash."""
    s = population.study(number, patients)
    return "\t".join(
        str(value)
        for value in (
            number,
            folderOf(s.StudyInstanceUID, "1").split("/")[0],
            s.StudyInstanceUID,
            s.PatientID,
            s.PatientName,
            matchKey("PN", s.PatientName),
            s.PatientBirthDate,
            _key("DA", s.PatientBirthDate),
            s.PatientSex,
            s.StudyID,
            s.StudyDate,
            _key("DA", s.StudyDate),
            s.StudyTime,
            _key("TM", s.StudyTime),
            s.AccessionNumber,
            s.StudyDescription,
            s.ReferringPhysicianName,
            _key("PN", s.ReferringPhysicianName),
            s.Modality,
        )
    )


class _Lines(io.RawIOBase):
    """What COPY reads: lines, so many at a time."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def read(self, size: int = -1) -> bytes:
        """Some lines, whatever their size; none at the end."""
        taken = islice(self._lines, 200)
        return "".join(f"{line}\n" for line in taken).encode()


def _dependents(cursor: Any) -> tuple[list[str], list[str]]:
    """
    Statements that remove the indexes and foreign keys of the tables, and
    those that make them again: to build them at once takes far less time than
    row by row.
    """
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)"
        " FROM pg_index WHERE indrelid = ANY(%s::regclass[]) AND NOT indisunique",
        (list(_TABLES),),
    )
    indexes = cursor.fetchall()
    cursor.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
        " FROM pg_constraint"
        " WHERE contype = 'f' AND conrelid = ANY(%s::regclass[])",
        (list(_TABLES),),
    )
    keys = cursor.fetchall()
    return (
        [f"DROP INDEX {name}" for name, _ in indexes]
        + [f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name, _ in keys],
        [definition for _, definition in indexes]
        + [
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"
            for table, name, definition in keys
        ],
    )


def _load(cursor: Any, amount: Amount) -> None:
    cursor.execute("SET LOCAL statement_timeout = 0")
    cursor.execute("SET LOCAL maintenance_work_mem = '512MB'")
    cursor.execute("SET LOCAL work_mem = '256MB'")
    removing, making = _dependents(cursor)
    for statement in (*removing, _CREATE):
        cursor.execute(statement)
    lines = (_line(number, amount.patients) for number in range(amount.studies))
    cursor.copy_expert(
        f"COPY bulk ({', '.join(_COLUMNS)}) FROM STDIN WITH (NULL 'None')",
        _Lines(lines),
    )
    cursor.execute("ANALYZE bulk")
    counts = {"series": amount.series, "instances": amount.instances, "size": _SIZE}
    for table, statement in zip(
        _TABLES, (_PATIENTS, _STUDIES, _SERIES, _INSTANCES), strict=True
    ):
        cursor.execute(statement, counts)
        cursor.execute(f"ANALYZE {table}")
    for statement in making:
        cursor.execute(statement)


def load(url: str, amount: Amount) -> float:
    """
    Fill the index. All is there, or on an error nothing is.

    @param url: of the database; its schema is made or brought up to date.
    @return: seconds it took.
    @raise ValueError: there are studies already.
    """
    checkAndMigrate(url)
    start = time.monotonic()
    with closing(connect(url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM studies)")
            if cursor.fetchone()[0]:
                raise ValueError("the database has studies already")
            _load(cursor, amount)
        connection.commit()
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            for table in _TABLES:
                cursor.execute(f"VACUUM (ANALYZE) {table}")
            # What was just written is not written out while others measure.
            cursor.execute("CHECKPOINT")
    return time.monotonic() - start


def main() -> None:
    """Fill the database that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--url", required=True, help="postgresql://...")
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument(
        "--patients", type=int, default=0, help="who share them; 0: one each"
    )
    parser.add_argument("--series", type=int, default=1, help="of each study")
    parser.add_argument("--instances", type=int, default=1, help="of each series")
    given = parser.parse_args()
    amount = Amount(given.studies, given.patients, given.series, given.instances)
    seconds = load(given.url, amount)
    print(f"{amount.studies} studies in {seconds:.0f} s")


if __name__ == "__main__":
    main()
