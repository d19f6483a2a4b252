"""Real conversations, as the requestor of an association sends them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from zope.interface import implementer

from d360.dimse import commands
from d360.dimse.fragmentation import fragments
from d360.interfaces import ISupportedSyntaxes
from d360.model import (
    AssociationRequest,
    Command,
    Permission,
    ProposedContext,
    RoleSelection,
)
from d360.services import transfersyntaxes
from d360.ul import pdus
from tests.services.datasets import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    encode,
    instance,
)

VERIFICATION = "1.2.840.10008.1.1"
PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
WORKLIST = "1.2.840.10008.5.1.4.31"
JPEG = "1.2.840.10008.1.2.4.70"

#: Context ID to abstract and transfer syntax.
_CONTEXTS = {
    1: (VERIFICATION, IMPLICIT),
    3: (CT, EXPLICIT),
    5: (CT, DEFLATED),
    7: (STUDY_FIND, EXPLICIT),
    9: (WORKLIST, IMPLICIT),
    11: (STUDY_MOVE, BIG_ENDIAN),
    13: (STUDY_GET, EXPLICIT),
    15: (CT, JPEG),
    17: (PATIENT_FIND, IMPLICIT),
    19: ("1.2.840.10008.1.20.1", IMPLICIT),
}

REQUEST = pdus.encodeRequest(
    AssociationRequest(
        "MODALITY",
        "D360PACS",
        tuple(ProposedContext(n, a, (t,)) for n, (a, t) in _CONTEXTS.items()),
        (RoleSelection(CT, True, True),),
        16384,
        "1.2.3.4",
        "TEST",
    )
)
_RELEASE = pdus.encodeReleaseRQ()
_ABORT = pdus.encodeAbort(0, 0)


@implementer(ISupportedSyntaxes)
class ServicesOffered:
    """Supports whatever is asked for here."""

    def transferSyntaxesFor(self, abstractSyntax: str) -> frozenset[str] | None:
        if any(abstractSyntax == known for known, _ in _CONTEXTS.values()):
            return transfersyntaxes.STORAGE
        return None

    def grantsSCURole(
        self, abstractSyntax: str, permissions: frozenset[Permission]
    ) -> bool:
        return True

    def grantsSCPRole(
        self, abstractSyntax: str, permissions: frozenset[Permission]
    ) -> bool:
        return abstractSyntax == CT


def identifier(level: str = "STUDY", **keys: object) -> Dataset:
    """Of a query."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def worklistIdentifier() -> Dataset:
    """Of a query of the modality worklist."""
    step = Dataset()
    step.Modality = "CT"
    step.ScheduledStationAETitle = "CT01"
    step.ScheduledProcedureStepStartDate = "20260101-20261231"
    step.ScheduledProcedureStepStartTime = ""
    dataset = Dataset()
    dataset.PatientName = "Ro*"
    dataset.PatientID = ""
    dataset.StudyInstanceUID = ""
    dataset.ScheduledProcedureStepSequence = Items([step])
    return dataset


@cache
def identifiers() -> tuple[Dataset, ...]:
    """Of queries and retrieves."""
    return (
        identifier(PatientName="Ro?s*^A*", StudyDate="20200101-", ModalitiesInStudy=""),
        identifier(StudyInstanceUID=["1.2.3", "1.2.4"], StudyTime="10-1130"),
        identifier(
            PatientName="*=\u5c71\u7530^*",
            SpecificCharacterSet="ISO_IR 192",
            AccessionNumber="A\\B*",
        ),
        identifier("SERIES", StudyInstanceUID="1.2.3", SeriesNumber="7"),
        identifier("IMAGE", StudyInstanceUID="1.2.3", SOPInstanceUID="*"),
        identifier("PATIENT", PatientID="P1", PatientBirthDate="19700101"),
        worklistIdentifier(),
    )


def messageOf(
    contextID: int, command: Command, data: bytes | None = None, limit: int = 16384
) -> bytes:
    """A whole one, as PDUs."""
    buffers = fragments(contextID, True, commands.encode(command), limit)
    if data is not None:
        buffers += fragments(contextID, False, data, limit)
    return b"".join(buffers)


def _command(field: int, sopClass: str, number: int, **elements: object) -> Command:
    elements.setdefault("CommandDataSetType", commands.DATA_SET)
    return Command(
        field,
        AffectedSOPClassUID=sopClass,
        MessageID=number,
        Priority=0,
        **elements,  # type: ignore[arg-type]
    )


def someCommands() -> Sequence[Command]:
    """One of each kind."""
    return (
        _command(0x30, VERIFICATION, 1, CommandDataSetType=commands.NO_DATA_SET),
        _command(
            1,
            CT,
            2,
            AffectedSOPInstanceUID="1.2.3.4.5",
            MoveOriginatorApplicationEntityTitle="MOVER",
            MoveOriginatorMessageID=7,
        ),
        _command(0x20, STUDY_FIND, 3),
        _command(0x21, STUDY_MOVE, 4, MoveDestination="WS1"),
        _command(0x10, STUDY_GET, 5),
        Command(commands.C_CANCEL_RQ, MessageIDBeingRespondedTo=3),
        Command(
            0x8001,
            AffectedSOPClassUID=CT,
            MessageIDBeingRespondedTo=1,
            Status=0xA900,
            OffendingElement=(0x00080018, 0x00100010),
            ErrorComment="why",
            AffectedSOPInstanceUID="1.2.3",
        ),
        Command(
            0x130,
            RequestedSOPClassUID="1.2.840.10008.1.20.1",
            RequestedSOPInstanceUID="1.2.840.10008.1.20.1.1",
            MessageID=9,
            ActionTypeID=1,
            CommandDataSetType=commands.DATA_SET,
        ),
    )


def _deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


@cache
def commitment() -> Dataset:
    """Of a request of storage commitment."""
    item = Dataset()
    item.ReferencedSOPClassUID = CT
    item.ReferencedSOPInstanceUID = "1.2.3.4.5"
    dataset = Dataset()
    dataset.TransactionUID = "1.2.3"
    dataset.ReferencedSOPSequence = [item, item]
    return dataset


def conversations() -> tuple[bytes, ...]:
    """Whole associations."""
    echo, store, find, move, get, cancel, response, action = someCommands()
    query = encode(identifiers()[0])
    pixels = encode(instance(SOPInstanceUID="1.2.3.4.5"))
    other = encode(instance(SOPInstanceUID="1.2.3.4.6"))
    second = _command(1, CT, 8, AffectedSOPInstanceUID="1.2.3.4.6")
    everything = encode(identifier(StudyInstanceUID="1.2.3"))
    backwards = encode(identifier(StudyInstanceUID="1.2.3"), BIG_ENDIAN)
    worklist = encode(worklistIdentifier(), IMPLICIT)
    said = [
        messageOf(1, echo) + _RELEASE,
        messageOf(3, store, pixels) + messageOf(3, second, other, 300) + _RELEASE,
        messageOf(5, store, _deflated(pixels)) + _RELEASE,
        messageOf(15, store, pixels) + _ABORT,
        messageOf(7, find, query) + messageOf(7, cancel) + _RELEASE,
        messageOf(9, _command(0x20, WORKLIST, 3), worklist) + _RELEASE,
        messageOf(11, move, backwards) + _RELEASE,
        messageOf(13, get, everything) + messageOf(3, response) + _RELEASE,
        messageOf(13, get, everything) + messageOf(13, get, everything),
        messageOf(1, echo) * 3 + messageOf(19, action, everything),
        messageOf(19, action, encode(commitment(), IMPLICIT)) + _RELEASE,
        messageOf(3, store, pixels[:200])[:-50],
    ]
    return tuple(REQUEST + one for one in said)
