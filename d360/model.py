"""
The values that cross the seams: frozen, comparable, without behaviour beyond
their own fields. DICOM's own attributes keep DICOM's spelling.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, Union

from attrs import frozen

from d360.attributes import Attribute, Level

#: PS3.7 Annex A.2.1, the only Application Context Name.
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


class Permission(enum.Enum):
    """What a remote AE may ask of us."""

    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"
    WORKLIST = "worklist"


#: What those may that nothing else is said of.
ALL_PERMISSIONS = frozenset(Permission)


@frozen
class RemoteAE:
    """
    An application entity that we may open associations with, and that may open
    them with us.

    @ivar title: its AE title, without padding.
    @ivar host: a host name or an IP address.
    @ivar permissions: what it may ask of us; C-ECHO it always may.
    @ivar tls: whether it is to be reached over TLS (PS3.15 B).
    @ivar certificate: SHA-256 fingerprint, in lower case hexadecimal digits, of
        the certificate that it has to show when it calls us; C{""} for none.
    """

    title: str
    host: str
    port: int
    permissions: frozenset[Permission] = ALL_PERMISSIONS
    tls: bool = False
    certificate: str = ""


@frozen
class ProposedContext:
    """A presentation context as it is proposed (PS3.8 9.3.2.2)."""

    contextID: int
    abstractSyntax: str
    transferSyntaxes: tuple[str, ...]


@frozen
class ContextResult:
    """
    The answer to one proposed context (PS3.8 9.3.3.2).

    @ivar result: 0 acceptance, 1 user rejection, 3 abstract syntax not
        supported, 4 transfer syntaxes not supported.
    @ivar transferSyntax: the accepted one; of no meaning unless result is 0.
    """

    contextID: int
    result: int
    transferSyntax: str


@frozen
class RoleSelection:
    """SCP/SCU Role Selection of one SOP class (PS3.7 D.3.3.4)."""

    sopClass: str
    scu: bool
    scp: bool


@frozen
class AssociationRequest:
    """
    What an A-ASSOCIATE-RQ says (PS3.8 9.3.2, PS3.7 D.3.3), AE titles without
    padding.

    @ivar maxPDULength: the requestor's maximum length received; 0 no limit.
    @ivar protocolVersion: bit 0 is version 1.
    @ivar peer: the remote host, for the log and the index; not from the PDU.
    @ivar certificate: SHA-256 fingerprint of the certificate that the peer has
        shown over TLS, as in L{RemoteAE}; C{""} for none. Not from the PDU.
    """

    callingAETitle: str
    calledAETitle: str
    contexts: tuple[ProposedContext, ...]
    roles: tuple[RoleSelection, ...] = ()
    maxPDULength: int = 0
    implementationClassUID: str = ""
    implementationVersion: str = ""
    applicationContext: str = APPLICATION_CONTEXT
    protocolVersion: int = 1
    peer: str = ""
    certificate: str = ""


@frozen
class AssociationAcceptance:
    """
    What an A-ASSOCIATE-AC says (PS3.8 9.3.3, PS3.7 D.3.3).

    @ivar permissions: what the acceptor lets the requestor do; C{None} while
        that is not known. Not from the PDU.
    """

    results: tuple[ContextResult, ...]
    roles: tuple[RoleSelection, ...] = ()
    maxPDULength: int = 0
    implementationClassUID: str = ""
    implementationVersion: str = ""
    permissions: frozenset[Permission] | None = ALL_PERMISSIONS


@frozen
class PresentationContext:
    """
    A presentation context in use.

    @ivar scu: the association's requestor may be the SCU of it.
    @ivar scp: the association's requestor may be the SCP of it.
    """

    contextID: int
    abstractSyntax: str
    transferSyntax: str
    scu: bool = True
    scp: bool = False


@frozen
class EstablishedAssociation:
    """
    The outcome of a negotiation, the same for both sides.

    @ivar requestor: we are its requestor (else its acceptor).
    @ivar peerMaxPDULength: the largest PDU length that the peer receives; 0
        for no limit.
    @ivar contexts: the accepted ones, by context ID.
    @ivar number: names the association in the log.
    @ivar permissions: see L{AssociationAcceptance}.
    """

    requestor: bool
    callingAETitle: str
    calledAETitle: str
    peer: str
    peerMaxPDULength: int
    contexts: dict[int, PresentationContext]
    peerImplementationClassUID: str = ""
    peerImplementationVersion: str = ""
    number: int = 0
    permissions: frozenset[Permission] | None = ALL_PERMISSIONS


@frozen
class Fragment:
    """
    A piece of a message as it came off the wire: a PDV (PS3.8 9.3.5.1) or a
    part of one, for a PDV is handed on as it arrives.

    @ivar isLast: with this piece the command set or the data set is complete.
    @ivar data: valid for as long as it is referred to; never written to.
    """

    contextID: int
    isCommand: bool
    isLast: bool
    data: memoryview


@frozen
class Command:
    """
    A DIMSE command set (PS3.7 Annex E.1), elements by their keywords. Text is
    C{""} and a number C{None} where the element is absent.
    """

    CommandField: int
    AffectedSOPClassUID: str = ""
    RequestedSOPClassUID: str = ""
    MessageID: int | None = None
    MessageIDBeingRespondedTo: int | None = None
    MoveDestination: str = ""
    Priority: int | None = None
    CommandDataSetType: int = 0x0101
    Status: int | None = None
    OffendingElement: tuple[int, ...] = ()
    ErrorComment: str = ""
    ErrorID: int | None = None
    AffectedSOPInstanceUID: str = ""
    RequestedSOPInstanceUID: str = ""
    EventTypeID: int | None = None
    AttributeIdentifierList: tuple[int, ...] = ()
    ActionTypeID: int | None = None
    NumberOfRemainingSuboperations: int | None = None
    NumberOfCompletedSuboperations: int | None = None
    NumberOfFailedSuboperations: int | None = None
    NumberOfWarningSuboperations: int | None = None
    MoveOriginatorApplicationEntityTitle: str = ""
    MoveOriginatorMessageID: int | None = None


@frozen
class AnyOf:
    """
    Single value and list of UID matching (PS3.4 C.2.2.2.1, C.2.2.2.2).

    @ivar keys: match keys; an entity matches with one of them.
    """

    attribute: Attribute
    keys: tuple[Union[str, int], ...]


@frozen
class Wildcard:
    """
    Wild card matching (PS3.4 C.2.2.2.4).

    @ivar patterns: an entity matches with one of them; C{*} is any number of
        characters, C{?} one, all else is meant literally.
    """

    attribute: Attribute
    patterns: tuple[str, ...]


@frozen
class NameMatch:
    """
    Matching of a person name, wild cards or not.

    @ivar patterns: folded patterns for one component group, the whole group
        must match one of them.
    @ivar group: the group that must match, 0 alphabetic, 1 ideographic, 2
        phonetic; C{None} for any of them.
    """

    attribute: Attribute
    patterns: tuple[str, ...]
    group: int | None = None


@frozen
class Range:
    """
    Range matching (PS3.4 C.2.2.2.5), both ends included; C{None} leaves an
    end open. Values that are no date or time never match.
    """

    attribute: Attribute
    low: str | None
    high: str | None


@frozen
class Nothing:
    """
    A key that no value can match, such as a range whose ends are swapped or
    a number that is none.
    """

    attribute: Attribute


Condition = Union[AnyOf, Wildcard, NameMatch, Range, Nothing]


@frozen
class Query:
    """
    A question to the index.

    @ivar level: entities of this level are the answers.
    @ivar conditions: all must hold. Their attributes belong to this level or
        to one above it.
    @ivar returned: the attributes wanted, of this level or one above it.
    """

    level: Level
    conditions: tuple[Condition, ...] = ()
    returned: tuple[Attribute, ...] = ()


@frozen
class Match:
    """
    One entity that matches.

    @ivar values: text aligned with L{Query.returned}, C{""} where unknown;
        several values are joined by a backslash.
    """

    values: tuple[str, ...]


@frozen
class Location:
    """
    Where the archive keeps an instance.

    @ivar path: relative to the archive's folder, with C{/}.
    @ivar dataSetOffset: where in the file the data set begins, in bytes.
    """

    path: str
    dataSetOffset: int


@frozen
class InstanceRecord:
    """
    What the index keeps of an instance: its indexed attributes as Unicode
    text, C{""} where absent, and where it came from.

    @ivar digest: of the data set as received, see L{d360.digests}.
    @ivar size: of the data set, in bytes.
    @ivar sourceAddress: the host that sent it.
    @ivar receivedAt: aware, UTC.
    """

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    digest: bytes
    size: int
    callingAETitle: str
    calledAETitle: str
    sourceAddress: str
    receivedAt: datetime
    PatientID: str = ""
    IssuerOfPatientID: str = ""
    PatientName: str = ""
    PatientBirthDate: str = ""
    PatientSex: str = ""
    StudyID: str = ""
    StudyDate: str = ""
    StudyTime: str = ""
    AccessionNumber: str = ""
    StudyDescription: str = ""
    ReferringPhysicianName: str = ""
    SeriesNumber: str = ""
    Modality: str = ""
    SeriesDescription: str = ""
    SeriesDate: str = ""
    SeriesTime: str = ""
    Laterality: str = ""
    BodyPartExamined: str = ""
    PatientPosition: str = ""
    AnatomicalOrientationType: str = ""
    InstanceNumber: str = ""
    InstanceCreationDate: str = ""
    InstanceCreationTime: str = ""


@frozen
class Blob:
    """A file of the archive that has become durable."""

    location: Location
    digest: bytes
    size: int


@frozen
class StoredInstance:
    """An instance of the index, as a retrieve needs it."""

    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    location: Location
    size: int
    digest: bytes


@frozen
class Referenced:
    """An instance as others name it (PS3.3 10.8)."""

    SOPClassUID: str
    SOPInstanceUID: str


@frozen
class CommitmentRequest:
    """
    A storage commitment that was asked for (PS3.4 J.3.2).

    @ivar transactionUID: names it, for who has asked.
    @ivar aeTitle: who has asked, and is told.
    @ivar reasons: why each of them is not kept, by PS3.3 C.14.1.1, or 0; C{None}
        before they were looked at, or if that is long ago.
    @ivar attempts: how often telling was tried.
    @ivar age: seconds since it was asked for.
    @ivar identifier: names it, for us.
    """

    transactionUID: str
    aeTitle: str
    references: tuple[Referenced, ...]
    reasons: tuple[int, ...] | None = None
    attempts: int = 0
    age: float = 0.0
    identifier: int = 0


@frozen
class CommitmentFinding:
    """
    What was found of the instances of a L{CommitmentRequest}, one by one.

    @ivar reasons: see there.
    @ivar folders: the folder of the archive where each one is, which has the
        instances of one series; C{""} where the index does not know it.
    """

    reasons: tuple[int, ...]
    folders: tuple[str, ...]


@frozen
class PendingCommitment:
    """
    A L{CommitmentRequest} that nobody was told of yet, as people are shown it.

    @ivar instances: how many it names.
    @ivar dueAt: when somebody sees to it next; aware, UTC, as the others.
    @ivar isUnderWay: somebody sees to it now.
    @ivar failedAt: when it could not be told last; C{None} if it was not tried.
    @ivar failure: why; C{""} where it was not, or is being tried.
    """

    identifier: int
    aeTitle: str
    transactionUID: str
    instances: int
    attempts: int
    receivedAt: datetime
    dueAt: datetime
    isUnderWay: bool
    failedAt: datetime | None
    failure: str


@frozen
class NumberedInstance:
    """
    An instance in the order in which the index got to know them.

    @ivar number: the index' own; it stays, also when the instance is replaced.
    """

    number: int
    stored: StoredInstance


@frozen
class Extent:
    """
    @ivar last: the highest L{NumberedInstance.number}, 0 where there is none.
    @ivar instances: how many there are.
    """

    last: int
    instances: int


class Duplicates(enum.Enum):
    """What becomes of an instance that is sent again with other bytes."""

    REPLACE = "replace"
    KEEP = "keep"
    #: The one received last stays: for a rebuild from files.
    NEWEST = "newest"


class Outcome(enum.Enum):
    """What L{d360.interfaces.IIndex.register} did."""

    #: It was not known before.
    STORED = "stored"
    #: The same bytes in the same transfer syntax are kept already.
    DUPLICATE = "duplicate"
    #: Other bytes were kept; these take their place.
    REPLACED = "replaced"
    #: Other bytes are kept, and stay.
    KEPT = "kept"


@frozen
class Registration:
    """
    The committed result of registering an instance.

    @ivar location: where the index now says that the instance is.
    @ivar superseded: the file that the index no longer needs; the newly
        written one for DUPLICATE and KEPT, the older one for REPLACED. C{None}
        where old and new are the same file.
    @ivar patientConflict: its study was first seen with another patient.
    """

    outcome: Outcome
    location: Location
    superseded: Location | None = None
    patientConflict: bool = False


@frozen
class Announcement:
    """
    An instance that was entered before its file was durable.

    @ivar number: the index' own.
    @ivar patientConflict: as for L{Registration}.
    """

    number: int
    patientConflict: bool = False


@frozen
class WorklistItem:
    """
    A requested procedure with its scheduled procedure steps.

    @ivar identifier: names it for good; of no meaning.
    @ivar version: how often it was written.
    @ivar attributes: in the DICOM JSON Model (PS3.18 F.2), the Scheduled
        Procedure Step Sequence (0040,0100) with at least one item among them.
    """

    identifier: str
    version: int
    attributes: dict[str, Any]


@frozen
class ScheduledStep:
    """
    One answer of the worklist (PS3.4 K.6.1.2).

    @ivar number: which item of its Scheduled Procedure Step Sequence it is,
        from 0.
    """

    item: WorklistItem
    number: int


@frozen
class Totals:
    """How much the index holds; C{size} in bytes of data sets."""

    patients: int
    studies: int
    series: int
    instances: int
    size: int


@frozen
class DatabaseState:
    """
    @ivar kind: C{"embedded"} or C{"external"}.
    @ivar version: the server's, C{""} while unknown.
    """

    available: bool
    kind: str
    version: str
    schema: int


@frozen
class DiskSpace:
    """Space of the file system that holds the archive, in bytes."""

    total: int
    free: int


@frozen
class SendJob:
    """
    A study on its way to a remote AE.

    @ivar state: C{"running"}, C{"done"}, C{"failed"} or C{"cancelled"}.
    @ivar completed: instances that were taken, also with a warning.
    @ivar error: why it failed, C{""} otherwise.
    """

    identifier: str
    aeTitle: str
    study: str
    state: str
    total: int
    completed: int
    failed: int
    error: str
    startedAt: datetime


@frozen
class ReindexProgress:
    """
    How far a rebuild of the index has come.

    @ivar total: files found so far; final once C{counted}.
    @ivar missing: rows of the index whose file is not there.
    @ivar error: why it ended early, C{""} otherwise.
    """

    running: bool
    counted: bool
    total: int
    done: int
    added: int
    unchanged: int
    failed: int
    missing: int
    pruned: int
    seconds: float
    error: str = ""


class FileState(enum.Enum):
    """What is wrong with the file of an instance."""

    #: It holds other bytes than those that were stored.
    DAMAGED = "damaged"
    #: It is not there.
    MISSING = "missing"
    #: The system refuses to read it.
    UNREADABLE = "unreadable"


@frozen
class Finding:
    """
    A file that is not intact.

    @ivar path: below the archive's folder.
    """

    state: FileState
    SOPInstanceUID: str
    path: str
    why: str


@frozen
class VerifyProgress:
    """
    How far the verification of the files has come.

    @ivar total: instances to be looked at; 0 until they are counted.
    @ivar size: bytes read.
    @ivar changed: instances that were on their way, replaced or deleted when
        they were looked at.
    @ivar position: all that the index got to know before has been looked at, as
        a L{NumberedInstance.number}; 0 where only one study is.
    @ivar findings: the first of them.
    @ivar rate: bytes a second at most, 0 for no limit.
    @ivar study: the Study Instance UID of the only study, or C{""}.
    @ivar error: why it ended early, C{""} otherwise.
    """

    running: bool
    startedAt: datetime
    rate: float
    study: str
    position: int
    total: int = 0
    done: int = 0
    size: int = 0
    intact: int = 0
    damaged: int = 0
    missing: int = 0
    unreadable: int = 0
    changed: int = 0
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()
    error: str = ""


@frozen
class VerifyRound:
    """
    One of the verifications of all files that follow each other.

    @ivar begunAt: seconds since the epoch.
    @ivar position: see L{VerifyProgress}.
    @ivar complete: all has been looked at.
    """

    begunAt: float
    position: int = 0
    complete: bool = False
