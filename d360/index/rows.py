"""
An instance as the row that the schema's C{register_instances} takes: its
attributes, their match keys, and the identity of its patient. Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter

from d360.attributes import REGISTRY, foldName, matchKey
from d360.model import Duplicates, InstanceRecord, Location

#: Characters of a value that the index keeps. The longest that an indexed VR
#: allows is 194 (a PN of three groups); what is broken beyond that must still
#: fit the page of a PostgreSQL index.
LONGEST = 512

_STORED = REGISTRY.stored()
_VALUES = attrgetter(*(a.keyword for a in _STORED))
_COLUMNS = tuple(a.column for a in _STORED)
_KEYED = tuple(
    (a.vr, a.column, a.matchColumn) for a in _STORED if a.matchColumn != a.column
)

# The same names, dates and numbers come with each instance of a study.
_key = lru_cache(4096)(matchKey)


def clean(text: str) -> str:
    """
    Text as the database takes it: without NUL and lone surrogates, not longer
    than L{LONGEST}.
    """
    if text.isascii():
        return text.replace("\0", "")[:LONGEST]
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "")[:LONGEST]


def patientIdentity(record: InstanceRecord) -> str:
    """
    What makes two patients the same: Patient ID with its issuer, or where
    that is empty, which is legal (PS3.3 C.7.1.1, type 2), the name without
    case and accents, birth date and sex.
    """
    identity = _identityInFull(record)
    if len(identity) <= LONGEST:
        return identity
    return f"digest\\{sha256(identity.encode('utf-8')).hexdigest()}"


def _identityInFull(record: InstanceRecord) -> str:
    patientID = clean(record.PatientID).strip()
    if patientID:
        return f"id\\{patientID}\\{clean(record.IssuerOfPatientID).strip()}"
    birthDate = clean(record.PatientBirthDate).strip()
    return "\\".join(
        (
            "name",
            foldName(clean(record.PatientName))[:LONGEST],
            str(_key("DA", birthDate) or birthDate[:64]),
            clean(record.PatientSex).strip()[:64],
        )
    )


def registrationRow(
    record: InstanceRecord,
    location: Location,
    duplicates: Duplicates | None,
    relocated: bool,
) -> str:
    """
    One registration as a JSON object; see L{batch}.

    @param duplicates: C{None} where L{d360.interfaces.IIndex.announce} was
        called.
    @param relocated: L{d360.interfaces.IIndex.relocate} was called.
    """
    row: dict[str, str | int | bool | None] = dict(
        zip(_COLUMNS, map(clean, _VALUES(record)), strict=True)
    )
    for vr, column, keyColumn in _KEYED:
        row[keyColumn] = _key(vr, str(row[column]))
    row["duplicates"] = "announced" if duplicates is None else duplicates.value
    row["relocated"] = relocated
    row["identity"] = patientIdentity(record)
    row["transfer_syntax_uid"] = record.TransferSyntaxUID
    row["digest"] = "\\x" + record.digest.hex()
    row["size"] = record.size
    row["path"] = location.path
    row["data_set_offset"] = location.dataSetOffset
    row["calling_ae_title"] = clean(record.callingAETitle)
    row["called_ae_title"] = clean(record.calledAETitle)
    row["source_address"] = clean(record.sourceAddress)
    row["received_at"] = _instant(record.receivedAt)
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def batch(rows: Sequence[str]) -> str:
    """The rows as one JSON array."""
    return f"[{','.join(rows)}]"


def _instant(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a time of reception without a time zone")
    return moment.isoformat()
