"""What the audit trail is told: frozen values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Union

from attrs import frozen

#: Component groups of a name (PS3.18 F.2.2).
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


@frozen
class Peer:
    """
    An application entity that takes part in something.

    @ivar title: its AE title.
    @ivar address: its IP address, or the name of its host.
    """

    title: str
    address: str


@frozen
class User:
    """
    Somebody who makes a call over HTTP.

    @ivar name: C{"token"} for who has the token, else C{"anonymous"}.
    @ivar address: the IP address that the call came from.
    """

    name: str
    address: str


#: Who asks for something.
Requestor = Union[Peer, User]


@frozen
class AuditedStudy:
    """
    A study and whose it is. Of a patient's data, this is what PS3.15 A.5.3
    asks for.
    """

    StudyInstanceUID: str
    PatientID: str = ""
    PatientName: str = ""
    AccessionNumber: str = ""


def studyOfItem(attributes: Mapping[str, Any]) -> AuditedStudy:
    """
    Of a worklist item.

    @param attributes: in the DICOM JSON Model (PS3.18 F.2).
    """
    return AuditedStudy(
        _text(attributes, "0020000D"),
        _text(attributes, "00100020"),
        _text(attributes, "00100010"),
        _text(attributes, "00080050"),
    )


def _text(attributes: Mapping[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    value = values[0] or ""
    if isinstance(value, Mapping):
        groups = (value.get(g) or "" for g in _GROUPS)
        return "=".join(groups).rstrip("=")
    return str(value)


@frozen
class AuditedInstance:
    """An instance that somebody sends us."""

    study: AuditedStudy
    SOPClassUID: str
    SOPInstanceUID: str


class Action(enum.Enum):
    """What is done to something (C{EventActionCode}, PS3.15 A.5.2)."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"
