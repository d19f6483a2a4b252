"""What strangers' values come to in SQL, and what PostgreSQL makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from attrs import astuple, evolve

from d360.attributes import REGISTRY, Level
from d360.errors import DIMSEError
from d360.index import sql
from d360.index.migration import connect
from d360.index.rows import batch, registrationRow
from d360.index.worklist import _storable, firstSteps, rowsOf
from d360.model import Duplicates, InstanceRecord, Location, Query
from d360.services.matching import conditionsFor
from d360.services.text import decodeText
from d360.services.worklistitems import ItemError, readKeywords
from d360.services.worklistquestions import conditionsOf
from d360.worklistattributes import WORKLIST
from tests.admin.test_worklist import ITEM, STEP
from tests.contracts.postgres import freshDatabase
from tests.faults.fuzzing.target import Target, allowing, check

_STORED = REGISTRY.stored()
_MATCHED = tuple(a for a in REGISTRY.attributes if a.matched)
_OF_WORKLIST = tuple(a for a in WORKLIST.stored() if a.matched)
_WHOLE = 2**63


def _textOf(data: bytes) -> str:
    """As it is read from a data set; or whatever Python can hold."""
    if data[:1] == b"\xff":
        return data[1:].decode("utf-8", "surrogatepass" if data[1:2] else "replace")
    return decodeText(data, ("utf8",))


def _statement(data: bytes) -> sql.Statement | None:
    """A query for one key; the first byte chooses it."""
    attribute = _MATCHED[data[0] % len(_MATCHED)]
    try:
        text = _textOf(data[1:])
    except UnicodeDecodeError:
        return None
    with allowing(DIMSEError):
        conditions = tuple(conditionsFor(attribute, text))
        query = Query(max(attribute.level, Level(1 + data[0] % 4)), conditions)
        where = sql.where(query)
        source = sql.ENTITIES[query.level].source
        return sql.Statement(
            f"SELECT count(*) FROM {source}{where.text}", where.parameters
        )
    return None


def _checkValue(value: Any) -> None:
    if isinstance(value, (list, tuple)):
        for one in value:
            _checkValue(one)
    elif isinstance(value, str):
        check("\0" not in value, "NUL goes to the database")
        value.encode("utf-8")
    else:
        check(-_WHOLE <= value < _WHOLE, "a number that no bigint holds")


def makeStatement(data: bytes) -> None:
    """Nothing of a value's is in the text, and the database takes the values."""
    if not data:
        return
    statement = _statement(data)
    if statement is None:
        return
    check(statement.text.isascii(), "the text has more than ours")
    check("'" not in statement.text, "the text has a literal")
    check(
        statement.text.replace("%%", "").count("%s") == len(statement.parameters),
        "placeholders and parameters differ",
    )
    _checkValue(statement.parameters)


@cache
def _connection() -> Any:
    connection = connect(freshDatabase())
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '10s'")
        # Nothing is compared where there is nothing.
        for number, name in enumerate(("Rossi^Anna", "a" * 500, "b=\u5c71\u7530^" * 3)):
            record = evolve(_record(b"\0", name), SOPInstanceUID=f"1.2.{number}")
            row = registrationRow(
                record, Location(f"00/{number}", 1), Duplicates.REPLACE, False
            )
            cursor.execute(*astuple(sql.register(batch([row]), "fuzz", None)))
    connection.commit()
    return connection


def _execute(statement: sql.Statement) -> None:
    connection = _connection()
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement.text, statement.parameters)
            cursor.fetchall()
    finally:
        connection.rollback()


def _record(data: bytes, text: str) -> InstanceRecord:
    """One that has the text in some of its attributes."""
    texts = {
        attribute.keyword: text
        for number, attribute in enumerate(_STORED)
        if attribute.vr != "UI"
        and (attribute.vr == "PN" or (number + data[0]) % 3 == 0)
    }
    return InstanceRecord(
        StudyInstanceUID=f"1.2.{len(text)}",
        SeriesInstanceUID=f"1.2.{len(text)}.3",
        SOPInstanceUID="1.2.3.4",
        SOPClassUID="1.2",
        TransferSyntaxUID="1.2",
        digest=b"x" * 32,
        size=2**40,
        callingAETitle=text[:16],
        calledAETitle="D360PACS",
        sourceAddress="192.0.2.1",
        receivedAt=datetime(2026, 1, 1, tzinfo=UTC),
        **texts,
    )


def askPostgreSQL(data: bytes) -> None:
    """A value is asked for, stored, and scheduled."""
    if len(data) < 2:
        return
    statement = _statement(data)
    if statement is not None:
        _execute(statement)
    try:
        text = _textOf(data[1:])
    except UnicodeDecodeError:
        return
    row = registrationRow(
        _record(data, text), Location("00/a", 1), Duplicates.REPLACE, False
    )
    _execute(sql.register(batch([row]), "fuzz", None))
    with allowing(DIMSEError):
        attribute = _OF_WORKLIST[data[0] % len(_OF_WORKLIST)]
        conditions = conditionsOf({attribute: text})
        _execute(firstSteps(conditions, 10, 10))
    _schedule(text)


def _schedule(text: str) -> None:
    step = STEP | {"ScheduledProcedureStepDescription": text[:64]}
    item = ITEM | {
        "PatientName": text,
        "AccessionNumber": text[:16],
        "PatientID": text[:64],
        "ScheduledProcedureStepSequence": [step],
    }
    with allowing(ItemError):
        kept = _storable(readKeywords(item))
        _execute(
            sql.Statement(
                "SELECT schedule_worklist_item(%s, %s, %s)", ("1", *rowsOf(kept))
            )
        )


def _seeds() -> list[bytes]:
    values = [
        "Ro?s*^A*=\u5c71\u7530",
        "*a" * 200 + "*",
        "?" * 300,
        "1.2.3\\1.2.4",
        "20200101-20261231",
        "10-1130",
        "-999999999999",
        "'; DROP TABLE studies; --",
        "%s %% \\ _",
        "M\xfcller^J\xf6rg",
        "".join(chr(0x3300 + n % 88) for n in range(500)),
        "\ufdfa" * 400,
    ]
    found = [
        bytes([number]) + value.encode()
        for value in values
        for number in (2, 5, 11, 21)
    ]
    return [*found, b"\2\xffa\xed\xa0\x80b", b"\2\xffa\0b", b"\x15\xff\0\0"]


TARGETS = (
    Target("sql", makeStatement, _seeds, 40, longest=2048),
    Target("postgresql", askPostgreSQL, _seeds, 4, longest=2048),
)
