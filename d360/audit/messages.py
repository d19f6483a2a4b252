"""
Audit messages as XML: the schema of PS3.15 A.5.1.1, as values and as what is
written. Pure; what a message of each kind consists of is in
L{d360.audit.events}.
"""

from __future__ import annotations

import enum
import re
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from xml.etree.ElementTree import Element, SubElement, tostring

from attrs import frozen

from d360.audit.codes import Code
from d360.audit.values import Action

#: What XML cannot have, and what would end a line somewhere.
_UNWRITABLE = re.compile(
    "[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)

_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'

#: PS3.15 A.5.1.2.1: an application server.
_SOURCE_TYPE = "4"


class EventOutcome(enum.Enum):
    """C{EventOutcomeIndicator}, PS3.15 A.5.2."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"


class ObjectType(enum.Enum):
    """C{ParticipantObjectTypeCode}, PS3.15 A.5.2."""

    PERSON = "1"
    SYSTEM = "2"


class ObjectRole(enum.Enum):
    """C{ParticipantObjectTypeCodeRole}, PS3.15 A.5.1.2.2."""

    PATIENT = "1"
    REPORT = "3"
    SECURITY_RESOURCE = "13"


@frozen
class Participant:
    """
    An C{ActiveParticipant}.

    @ivar alternativeID: C{AETITLES=...} for an application entity (A.5.2.2).
    @ivar address: its network access point: an IP address or a host's name.
    """

    userID: str
    isRequestor: bool
    roles: tuple[Code, ...] = ()
    alternativeID: str = ""
    name: str = ""
    address: str = ""


@frozen
class Instances:
    """
    Instances of one SOP class: C{SOPClass} of C{ParticipantObjectDescription}.

    @ivar SOPClassUID: C{""} where it does not matter which.
    @ivar uids: SOP Instance UIDs, where they are told.
    """

    SOPClassUID: str
    count: int
    uids: tuple[str, ...] = ()


@frozen
class ParticipantObject:
    """
    A C{ParticipantObjectIdentification}.

    @ivar name: is written unless there is a query.
    @ivar details: each with its type.
    """

    identifier: str
    identifierType: Code
    type: ObjectType
    role: ObjectRole
    name: str = ""
    query: bytes | None = None
    details: tuple[tuple[str, bytes], ...] = ()
    accession: str = ""
    instances: tuple[Instances, ...] = ()


@frozen
class AuditMessage:
    """
    An C{AuditMessage}.

    @ivar time: of the event, in seconds since the epoch.
    @ivar description: why it failed.
    """

    event: Code
    action: Action
    time: float
    participants: tuple[Participant, ...]
    objects: tuple[ParticipantObject, ...] = ()
    type: Code | None = None
    outcome: EventOutcome = EventOutcome.SUCCESS
    description: str = ""


@frozen
class AuditSource:
    """
    C{AuditSourceIdentification}: who reports.

    @ivar siteID: C{AuditEnterpriseSiteID}, C{""} for none.
    """

    sourceID: str
    siteID: str = ""


def encode(message: AuditMessage, source: AuditSource) -> bytes:
    """A whole document, in UTF-8 and in one line, without its end."""
    root = Element("AuditMessage")
    _addEvent(root, message)
    for participant in message.participants:
        _addParticipant(root, participant)
    site = {"AuditEnterpriseSiteID": _clean(source.siteID)} if source.siteID else {}
    place = _add(
        root,
        "AuditSourceIdentification",
        site | {"AuditSourceID": _clean(source.sourceID)},
    )
    _add(place, "AuditSourceTypeCode", {"csd-code": _SOURCE_TYPE})
    for item in message.objects:
        _addObject(root, item)
    xml: bytes = tostring(root, "utf-8", xml_declaration=False)
    return _DECLARATION + xml


def timestamp(time: float) -> str:
    """UTC, as XML Schema and RFC 5424 have it."""
    moment = datetime.fromtimestamp(time, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _clean(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)


def _add(parent: Element, name: str, attributes: dict[str, str]) -> Element:
    return SubElement(parent, name, attributes)


def _addText(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = _clean(text)


def _addCode(parent: Element, name: str, code: Code) -> None:
    _add(
        parent,
        name,
        {
            "csd-code": code.value,
            "codeSystemName": code.system,
            "originalText": code.meaning,
        },
    )


def _addEvent(root: Element, message: AuditMessage) -> None:
    event = _add(
        root,
        "EventIdentification",
        {
            "EventActionCode": message.action.value,
            "EventDateTime": timestamp(message.time),
            "EventOutcomeIndicator": message.outcome.value,
        },
    )
    _addCode(event, "EventID", message.event)
    if message.type is not None:
        _addCode(event, "EventTypeCode", message.type)
    if message.description:
        _addText(event, "EventOutcomeDescription", message.description)


def _addParticipant(root: Element, participant: Participant) -> None:
    attributes = {"UserID": _clean(participant.userID)}
    if participant.alternativeID:
        attributes["AlternativeUserID"] = _clean(participant.alternativeID)
    if participant.name:
        attributes["UserName"] = _clean(participant.name)
    attributes["UserIsRequestor"] = "true" if participant.isRequestor else "false"
    if participant.address:
        attributes["NetworkAccessPointID"] = _clean(participant.address)
        attributes["NetworkAccessPointTypeCode"] = _accessPointType(participant.address)
    place = _add(root, "ActiveParticipant", attributes)
    for role in participant.roles:
        _addCode(place, "RoleIDCode", role)


def _accessPointType(address: str) -> str:
    """PS3.15 A.5.1.1: a machine's name, or an IP address."""
    try:
        ip_address(address)
    except ValueError:
        return "1"
    return "2"


def _addObject(root: Element, item: ParticipantObject) -> None:
    place = _add(
        root,
        "ParticipantObjectIdentification",
        {
            "ParticipantObjectID": _clean(item.identifier),
            "ParticipantObjectTypeCode": item.type.value,
            "ParticipantObjectTypeCodeRole": item.role.value,
        },
    )
    _addCode(place, "ParticipantObjectIDTypeCode", item.identifierType)
    if item.query is None:
        _addText(place, "ParticipantObjectName", item.name)
    else:
        _addText(place, "ParticipantObjectQuery", b64encode(item.query).decode())
    for name, value in item.details:
        pair = {"type": name, "value": b64encode(value).decode()}
        _add(place, "ParticipantObjectDetail", pair)
    if item.accession or item.instances:
        _addDescription(place, item.accession, item.instances)


def _addDescription(
    parent: Element, accession: str, instances: Iterable[Instances]
) -> None:
    place = _add(parent, "ParticipantObjectDescription", {})
    if accession:
        _add(place, "Accession", {"Number": _clean(accession)})
    for one in instances:
        attributes = {"NumberOfInstances": str(one.count)}
        if one.SOPClassUID:
            attributes["UID"] = _clean(one.SOPClassUID)
        kind = _add(place, "SOPClass", attributes)
        for uid in one.uids:
            _add(kind, "Instance", {"UID": _clean(uid)})
