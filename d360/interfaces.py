"""
Every seam of D360. Read this first.

The way of the data: bytes -> PDUs -> association (L{IUpperLayer},
L{IUpperLayerUser}) -> DIMSE operations (L{IOperation}) -> service class
(L{IServiceClass}) -> archive and index (L{IArchive}, L{IIndex}).

Methods return Deferreds unless they say otherwise; those that run for each
PDU are plain calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from datetime import date

    from pydicom.dataset import Dataset

    from d360.audit.values import (
        Action,
        AuditedInstance,
        AuditedStudy,
        Peer,
        Requestor,
        User,
    )
    from d360.logs import ContextLogger
    from d360.metrics.values import (
        CertificateState,
        LiveAssociation,
        LogEvent,
        RateHistory,
        WorkerState,
    )
    from d360.model import (
        Announcement,
        AssociationRequest,
        Blob,
        Command,
        CommitmentFinding,
        CommitmentRequest,
        Condition,
        DatabaseState,
        DiskSpace,
        Duplicates,
        EstablishedAssociation,
        Extent,
        Finding,
        Fragment,
        InstanceRecord,
        Location,
        Match,
        NumberedInstance,
        Outcome,
        PendingCommitment,
        Permission,
        PresentationContext,
        Query,
        Referenced,
        Registration,
        ReindexProgress,
        RemoteAE,
        ScheduledStep,
        SendJob,
        StoredInstance,
        Totals,
        VerifyProgress,
        VerifyRound,
        WorklistItem,
    )

T = TypeVar("T")


# --- PS3.8: the upper layer and its user ------------------------------------


class IAdmission(Interface):
    """Who may open an association (PS3.8 9.3.4, conformance 4.2.4)."""

    def admit(
        request: AssociationRequest, live: int
    ) -> Deferred[frozenset[Permission] | None]:
        """
        Fire to admit, with what the requestor may ask of us: the presentation
        contexts of all else are refused. With C{None} where that cannot be
        known now; then none is, and each operation is looked at.

        @param live: how many associations are open now, this one not
            counted.
        @raise AssociationRejected: with what the A-ASSOCIATE-RJ says.
        """


class ICallers(Interface):
    """What those who call us may do."""

    def permissionsOf(aeTitle: str) -> Deferred[frozenset[Permission]]:
        """
        What an AE may ask of us that was admitted while that was not known.

        @raise DatabaseError: nor is it now.
        """


class ISupportedSyntaxes(Interface):
    """What negotiation needs to know of the services (PS3.7 D.3)."""

    def transferSyntaxesFor(abstractSyntax: str) -> frozenset[str] | None:
        """
        The transfer syntaxes accepted for an abstract syntax; C{None} where
        that is not supported. A plain call.
        """

    def grantsSCURole(abstractSyntax: str, permissions: frozenset[Permission]) -> bool:
        """
        Whether an association's requestor that is permitted so much may be the
        SCU of it. A plain call.
        """

    def grantsSCPRole(abstractSyntax: str, permissions: frozenset[Permission]) -> bool:
        """
        Whether it may be the SCP of it, which C-GET needs of storage classes
        (PS3.7 D.3.3.4). A plain call.
        """


class IUpperLayer(Interface):
    """
    The upper layer service of one association, as its user sees it: the
    primitives of PS3.8 7.1 to 7.6. Plain calls. After the association's end
    each of them does nothing.
    """

    def sendPData(buffers: Sequence[bytes | memoryview]) -> None:
        """
        P-DATA request: write whole P-DATA-TF PDUs, in one go.

        @param buffers: encoded PDUs, headers included, none longer than
            C{peerMaxPDULength} allows.
        """

    def pauseReceiving() -> None:
        """
        Hand out no more fragments, also none that is buffered already, and
        stop reading the connection. Calls do not nest.
        """

    def resumeReceiving() -> None:
        """Go on with what L{pauseReceiving} held back."""

    def setBusy(busy: bool) -> None:
        """
        Whether we are at work for the peer, so that its silence is no reason
        to end the association. At first we are not.
        """

    def registerProducer(producer: Any, streaming: bool) -> None:
        """Have a producer paused and resumed as the connection fills."""

    def unregisterProducer() -> None:
        """End L{registerProducer}."""

    def release() -> None:
        """A-RELEASE request."""

    def confirmRelease() -> None:
        """A-RELEASE response to an indication."""

    def abort(why: str) -> None:
        """A-ABORT request; C{why} is for the log only."""


class IUpperLayerUser(Interface):
    """
    What an L{IUpperLayer} calls: the indications and confirmations of PS3.8
    chapter 7. Plain calls.
    """

    def associationEstablished(
        upperLayer: IUpperLayer, established: EstablishedAssociation
    ) -> None:
        """The association is open; the first call, made once."""

    def fragmentReceived(fragment: Fragment) -> None:
        """
        P-DATA indication. Its context ID is an accepted one.

        @raise PDUError: what came is no message; the provider aborts.
        """

    def releaseIndicated() -> None:
        """A-RELEASE indication: answer it by C{confirmRelease}."""

    def associationEnded(reason: Exception) -> None:
        """
        The last call, made once, however it ended, and also when the
        association was never established.

        @param reason: an L{AssociationEnded}, or an L{AssociationRejected}
            where we were the requestor.
        """


# --- PS3.7: operations ------------------------------------------------------


class IAssociation(Interface):
    """An open association, requested by us or by the peer."""

    established: EstablishedAssociation = Attribute("What was negotiated.")
    log: ContextLogger = Attribute("Names the association in each event.")
    isOpen: bool = Attribute("It was established, and has not ended.")
    isIdle: bool = Attribute("It is open, and neither side has asked for anything.")

    def request(
        context: PresentationContext,
        command: Command,
        dataset: IDatasetReader | None = None,
    ) -> Deferred[Command]:
        """
        Send a request of ours and wait for its response (PS3.7 9.3). One at a
        time, also while an operation of the peer's is being served.

        @param command: its Message ID and Command Data Set Type are set here.
        @param dataset: is read to its end, and left open.
        @return: fires with the response's command set.
        @raise ArchiveError: the data set could not be read to its end. If a
            part of the message was sent, the association had to be aborted,
            for it cannot be left so.
        @raise AssociationEnded: no response came.
        """

    def release() -> Deferred[None]:
        """End it in order; fires when it has ended, in whatever way."""

    def abort(why: str) -> None:
        """End it by an A-ABORT of the service user. A plain call."""

    def whenEnded() -> Deferred[None]:
        """Fires when it has ended, in whatever way; at once if it has."""


class IAssociationOpener(Interface):
    """Opens associations with remote AEs (PS3.8 7.1; conformance 4.2.3)."""

    def open(
        remote: RemoteAE,
        contexts: Sequence[tuple[str, tuple[str, ...]]],
        asSCP: Sequence[str] = (),
    ) -> Deferred[IAssociation]:
        """
        @param contexts: at most 128 abstract syntaxes, each with the transfer
            syntaxes that are proposed for it, in the order of our preference.
        @param asSCP: those of them of which we propose to be the SCP, and not the
            SCU (PS3.7 D.3.3.4).
        @return: can be cancelled; then the association is given up.
        @raise AssociationRejected: the remote AE refuses.
        @raise AssociationEnded: it cannot be reached, or breaks off.
        """


class IVerification(Interface):
    """C-ECHO as an SCU (PS3.4 Annex A)."""

    def verify(remote: RemoteAE) -> Deferred[float]:
        """
        @return: the seconds from the request to its response, on an open
            association.
        @raise AssociationRejected: the remote AE refuses us.
        @raise AssociationEnded: it cannot be reached, or breaks off.
        @raise DIMSEError: it answers with a failure, or not to C-ECHO at all.
        """


class IOperation(Interface):
    """
    One DIMSE request, as a service class sees it (PS3.7 chapter 9).

    An association has one operation at a time. A data set that a service
    class does not ask for is read and thrown away.
    """

    association: IAssociation = Attribute("Where it came in.")
    context: PresentationContext = Attribute("Its presentation context.")
    request: Command = Attribute("Its command set.")
    log: ContextLogger = Attribute("Names association and operation in each event.")
    metrics: IMetrics = Attribute("Counts what becomes of it.")
    identifier: bytes = Attribute(
        "What C{readDataset} has read, as it came; empty before."
    )
    cancelled: bool = Attribute("A C-CANCEL came for it, or the association has ended.")

    def readDataset(limit: int) -> Deferred[Dataset]:
        """
        The whole data set, decoded in the context's transfer syntax: for
        identifiers.

        @param limit: bytes; more is refused.
        @raise DIMSEError: C000 when it is too long or cannot be decoded.
        @raise AssociationEnded: it did not come to its end.
        """

    def deliverDataset(consumer: IConsumer, limit: int | None = None) -> Deferred[None]:
        """
        Write the bytes of the data set, as they came, to C{consumer}, and
        register a push producer with it, which is unregistered at the end.

        @param limit: bytes that the consumer takes; the association is aborted
            if far more come. C{None} for as many as there are.
        @return: fires when the last byte was written; the consumer may still
            be busy with it.
        @raise AssociationEnded: it did not come to its end.
        """

    def respond(
        status: int, dataset: Dataset | bytes | None = None, **elements: Any
    ) -> Deferred[None]:
        """
        Send a response; one whose status is not pending ends the operation.

        @param dataset: an identifier; C{bytes} are encoded already in the
            context's transfer syntax.
        @param elements: further elements of the response's command set, by
            keyword: C{ErrorComment}, C{NumberOfRemainingSuboperations} ...
        @return: fires when the association can take more.
        @raise AssociationEnded: it cannot be sent any more.
        """

    def respondAll(status: int, datasets: Sequence[bytes]) -> Deferred[None]:
        """
        Send pending responses, one for each data set, in one write: a query
        has thousands, and a write each costs more than all the rest of them.

        @param datasets: encoded in the context's transfer syntax.
        @return: as L{respond}.
        @raise AssociationEnded: they cannot be sent any more.
        """

    def whenCancelled() -> Deferred[None]:
        """
        Fires when a C-CANCEL for this operation comes or the association
        ends; never when it ends first in another way.
        """


class IServiceClass(Interface):
    """A service class of PS3.4, in the role of SCP."""

    sopClasses: frozenset[str] = Attribute("UIDs of the SOP classes it serves.")
    commandFields: frozenset[int] = Attribute(
        "The requests it performs, by Command Field (PS3.7 E.1); any other is "
        "answered with 0211."
    )
    permission: Permission | None = Attribute(
        "What a peer must be permitted that makes use of it; C{None} where each "
        "may. Any other is answered with 0124."
    )

    def transferSyntaxesFor(sopClass: str) -> frozenset[str]:
        """The transfer syntaxes it accepts for one of them. A plain call."""

    def grantsSCPRole(sopClass: str) -> bool:
        """
        Whether the requestor may be the SCP of one of them, if it may retrieve
        (PS3.7 D.3.3.4). A plain call.
        """

    def perform(operation: IOperation) -> Deferred[None]:
        """
        Serve one operation, its final response included.

        @raise DIMSEError: is answered with its status.
        @raise AssociationEnded: is of no further consequence.
        """


# --- what is kept -----------------------------------------------------------


class IBlobWriter(IConsumer):
    """
    One file on its way into the archive. Its producer is paused while the
    disk is behind.
    """

    size: int = Attribute("Bytes of the data set written so far.")

    def expect(study: str, series: str, instance: str) -> None:
        """
        What L{commit} will be called with, if it is: so the file can have its
        place, and a part of its bytes be written there, before it is complete.
        A plain call.

        @param study: Study Instance UID, and so on: valid UIDs.
        @raise ArchiveError: they are none.
        """

    def commit(
        study: str,
        series: str,
        instance: str,
        placed: Callable[[Blob], None] | None = None,
    ) -> Deferred[Blob]:
        """
        Make it durable under its place in the archive. Until L{settle}, it
        stays marked as one that the index may not know.

        @param study: Study Instance UID, and so on: valid UIDs.
        @param placed: is called once, before the result is there: the file has
            its place and its mark, so that the index may be told of it; this is
            what it will be when it is durable. Not called if it fails before. If
            it fails afterwards, the file is still there, whole or not, until it
            is settled or discarded: so its name is not another's, before the
            index has forgotten it.
        @raise ArchiveError: it could not be kept, and is gone, unless C{placed}
            was called. Its cause is the C{OSError}, if there was one.
        """

    def settle() -> Deferred[None]:
        """The index knows it: take the mark away."""

    def discard() -> Deferred[None]:
        """Remove it, at any stage; what cannot be removed is logged."""


class IDatasetReader(Interface):
    """The data set of an instance, read once from its first byte to its last."""

    size: int = Attribute("Its length in bytes.")

    def read(count: int) -> Deferred[bytes | memoryview]:
        """
        The next bytes: C{count} of them, which are at most 1 MiB, fewer only
        at the end. They stay as they are until the call after the next one, or
        L{close}. Fires at once where they are in memory already.

        @raise ArchiveError: they cannot be read.
        """

    def close() -> None:
        """It is of no more use. A plain call; again is no error."""


class IArchive(Interface):
    """One Part 10 file an instance, below one folder."""

    def create(head: bytes) -> IBlobWriter:
        """
        A new file. A plain call that does not touch the disk.

        @param head: what stands before the data set: preamble, prefix and
            File Meta Information (PS3.10 7.1).
        """

    def remove(location: Location) -> Deferred[None]:
        """Remove a file; one that is not there is no error."""

    def setAside(location: Location) -> Deferred[None]:
        """
        Put a file where it is not in the way, for somebody to look at; one that
        is not there is no error.
        """

    def exists(location: Location) -> Deferred[bool]:
        """Whether the file, or the folder, is there."""

    def sync(location: Location) -> Deferred[None]:
        """
        Have a file durable that another may be about to commit.

        @raise ArchiveError: it cannot be.
        """

    def open(location: Location, size: int, digest: bytes) -> Deferred[IDatasetReader]:
        """
        Read a file's data set, after a check that it is the one that was
        stored.

        @param size: of the data set.
        @param digest: of the data set, see L{d360.digests}.
        @raise ArchiveError: the file is gone, or holds other bytes.
        """

    def examine(
        location: Location,
        size: int,
        digest: bytes,
        pace: Callable[[int], Deferred[None]],
    ) -> Deferred[bytes]:
        """
        Read all of a file from the disk, whatever is known of it, and compare its
        data set with what was stored. It takes no other file out of the system's
        memory.

        @param size: of the data set.
        @param digest: of the data set, see L{d360.digests}.
        @param pace: is called after each piece with its length in bytes; the next
            one, of at most 1 MiB, is read when it has fired. What it fails with
            ends the examination.
        @return: fires with what stands before the data set.
        @raise FileMissing: it is not there.
        @raise FileDamaged: it holds other bytes; nobody will take it for intact
            without having read it.
        @raise ArchiveError: it cannot be read.
        """

    def isSettled(location: Location) -> Deferred[bool]:
        """
        Whether nobody, in whichever process, has yet to L{settle} a file or to
        remove it.
        """

    def pathOf(location: Location) -> str:
        """
        The absolute path of a file, for another process to read it. A plain
        call.

        @raise ArchiveError: it would be none of the archive's.
        """

    def readWith(location: Location, reader: Callable[[BinaryIO], T]) -> Deferred[T]:
        """
        Run C{reader} on the open file, in a thread.

        @raise ArchiveError: it cannot be read.
        """

    def unsettled() -> Deferred[tuple[Location, ...]]:
        """
        The files that no L{IBlobWriter.settle} or C{discard} was done for,
        in this run of the server or an earlier one, other than those whose
        writer is still in use; files that were never committed are removed
        by the way.
        """

    def settle(location: Location) -> Deferred[None]:
        """L{IBlobWriter.settle} for one of L{unsettled}."""

    def discard(location: Location) -> Deferred[None]:
        """
        L{IBlobWriter.discard} for one of L{unsettled}. Another file that has
        its name by now stays.
        """

    def unsettle(location: Location) -> Deferred[None]:
        """
        Mark a file as one that the index may not know: before it is made to
        forget it, or to know another in its place, so that no crash leaves the
        file behind. A file that is not there is no error.
        """

    def paths() -> Deferred[tuple[str, ...]]:
        """The folders on the archive's first level, for L{pathsBelow}."""

    def pathsBelow(folder: str) -> Deferred[tuple[str, ...]]:
        """
        The paths of the files below such a folder, sorted; without those that
        are L{unsettled} or on their way.
        """

    def space() -> Deferred[DiskSpace]:
        """Space of its file system."""


class IFreeSpace(Interface):
    """Whether there is room on the disk for more to be stored."""

    minimum: int = Attribute("The low-water mark, in bytes; 0 for none.")
    isLow: bool = Attribute("Less is free: nothing more is to be stored.")
    isCritical: bool = Attribute(
        "Less than half of it is free: what is on its way is not to be stored either."
    )

    def take(size: int) -> None:
        """So many bytes are about to be written. A plain call."""

    def look() -> None:
        """
        Look now: for who has just found that something cannot be written. A
        plain call.
        """


class IMatches(Interface):
    """The answers to a query, pulled batch by batch."""

    def nextBatch() -> Deferred[tuple[Match, ...]]:
        """
        Some more; an empty tuple after the last. Between two calls nothing
        is held in the database.

        @raise DatabaseError: the database is away.
        """

    def close() -> None:
        """No more are wanted. A plain call; calling it again is no error."""


class IStoredInstances(Interface):
    """The instances of a query, pulled batch by batch."""

    def nextBatch() -> Deferred[tuple[StoredInstance, ...]]:
        """As L{IMatches.nextBatch}."""

    def close() -> None:
        """As L{IMatches.close}."""


class IIndex(Interface):
    """What is stored, by attribute."""

    def register(
        record: InstanceRecord, location: Location, duplicates: Duplicates
    ) -> Deferred[Registration]:
        """
        Enter an instance, and whatever of its patient, study and series is
        new. Fires after the commit. Calls made at the same time may share
        one.

        The same SOP Instance UID with the same digest and transfer syntax is
        a DUPLICATE, unless C{location} is where it is known to be already:
        then its row is brought up to date, and the outcome is DUPLICATE with
        nothing superseded. Otherwise C{duplicates} decides. An instance is
        never moved between studies or series, other than by REPLACED.

        @raise DatabaseUnavailable: it is not entered, or, if C{uncertain},
            may not be.
        """

    def relocate(record: InstanceRecord, location: Location) -> Deferred[Registration]:
        """
        As L{register}, for an instance whose known file is gone: C{location}
        takes its place even if the bytes are the same.
        """

    def announce(
        record: InstanceRecord, location: Location
    ) -> Deferred[Announcement | None]:
        """
        As L{register}, for an instance whose file has its place and its mark
        but is not durable yet; only if the index does not know the instance.
        Until it is confirmed it is among the L{unconfirmed}, also after a crash.

        @return: C{None} where it is known, and nothing was changed.
        """

    def confirm(announcement: Announcement) -> None:
        """
        The file is durable, or the instance forgotten. A plain call, which is
        not durable itself.
        """

    def unconfirmed() -> Deferred[tuple[StoredInstance, ...]]:
        """
        What was announced and not confirmed, by whichever process, and perhaps
        some that were: for the start, before there is anything to announce.
        """

    def confirmAll() -> Deferred[None]:
        """What is L{unconfirmed} was looked at."""

    def match(query: Query) -> IMatches:
        """
        The entities that match, each once, in a stable order. A plain call;
        the work begins with the first batch.
        """

    def locate(query: Query) -> IStoredInstances:
        """
        All instances below the entities that match, by series, then Instance
        Number. C{query.returned} is not looked at. A plain call.
        """

    def storedAt(location: Location) -> Deferred[StoredInstance | None]:
        """
        The instance that is entered with this location. What was sent to the
        index before, by whomever, has had its effect.
        """

    def locationsBelow(folder: str) -> Deferred[tuple[Location, ...]]:
        """The locations entered whose path begins with C{folder + "/"}."""

    def extent(after: int) -> Deferred[Extent]:
        """
        The instances with a number above C{after}, see L{NumberedInstance
        <d360.model.NumberedInstance>}.
        """

    def instancesAfter(
        number: int, count: int
    ) -> Deferred[tuple[NumberedInstance, ...]]:
        """
        The next instances in the order of their numbers, at most so many. In
        between nothing is held in the database.
        """

    def forget(location: Location) -> Deferred[bool]:
        """
        Remove the instance entered with this location, and what of its
        series, study and patient has no instance left. Fires with whether
        there was one.
        """

    def totals() -> Deferred[Totals]:
        """How much is entered."""

    def state() -> Deferred[DatabaseState]:
        """The database's state; answers also while that is away."""


class ITranscoder(Interface):
    """
    Encodes data sets in another transfer syntax (PS3.5 Annex A), away from
    the reactor. What is stored stays as it is.
    """

    def targetsOf(transferSyntax: str) -> tuple[str, ...]:
        """
        The transfer syntaxes that a data set of C{transferSyntax} can be
        brought to, the best one first; none where it cannot be decoded. A
        plain call.
        """

    def transcode(
        location: Location, transferSyntax: str, target: str
    ) -> Deferred[IDatasetReader]:
        """
        The data set of a file, in another transfer syntax.

        @raise TranscodingError: it cannot be done.
        """


class IRemoteAEs(Interface):
    """The remote AEs that we know (conformance 4.2.3), by AE title."""

    def get(aeTitle: str) -> Deferred[RemoteAE | None]:
        """
        The one with this title; C{None} where there is none.

        @raise DatabaseUnavailable: it cannot be known now; so all of these.
        """

    def all() -> Deferred[tuple[RemoteAE, ...]]:
        """All, by title."""

    def put(remote: RemoteAE) -> Deferred[bool]:
        """
        Add it, or replace the one of the same title. Fires, after the commit,
        with whether it is new.
        """

    def remove(aeTitle: str) -> Deferred[bool]:
        """Fires, after the commit, with whether there was one."""


class IScheduledSteps(Interface):
    """The answers of a worklist, pulled batch by batch."""

    def nextBatch() -> Deferred[tuple[ScheduledStep, ...]]:
        """As L{IMatches.nextBatch}."""

    def close() -> None:
        """As L{IMatches.close}."""


class IWorklist(Interface):
    """
    The modality worklist: requested procedures, each with its scheduled
    procedure steps (PS3.4 Annex K; conformance 5).
    """

    def match(conditions: Sequence[Condition]) -> IScheduledSteps:
        """
        The scheduled procedure steps for which all conditions hold, those on
        the sequence's attributes in one item of it, by start date and time. A
        plain call; the work begins with the first batch.
        """

    def list(
        conditions: Sequence[Condition], after: str, count: int
    ) -> Deferred[tuple[WorklistItem, ...]]:
        """
        The items that have a step for which the conditions hold, each once, by
        start of their first step.

        @param after: the identifier of the item before the first one wanted;
            C{""} to begin.
        """

    def get(identifier: str) -> Deferred[WorklistItem | None]:
        """One item; C{None} where there is none."""

    def schedule(attributes: dict[str, Any]) -> Deferred[WorklistItem]:
        """
        Add an item, with an identifier of ours and version 1. Fires after the
        commit.

        @param attributes: in the DICOM JSON Model, valid and complete.
        @raise WorklistConflict: there is an item with its Study Instance UID.
        """

    def replace(
        identifier: str, attributes: dict[str, Any], version: int | None = None
    ) -> Deferred[WorklistItem | None]:
        """
        Give an item other attributes; it gets the next version. C{None} where
        there is none.

        @param version: the one that is to be replaced; C{None} for whichever.
        @raise WorklistConflict: it has another version by now, or its Study
            Instance UID is another item's.
        """

    def remove(identifier: str, version: int | None = None) -> Deferred[bool]:
        """
        Fires, after the commit, with whether there was one.

        @raise WorklistConflict: it has another version by now.
        """

    def removeOld(before: date, count: int) -> Deferred[tuple[WorklistItem, ...]]:
        """
        Remove items of which each step starts before a day, at most so many.
        Fires with them.
        """

    def removeArrived(count: int) -> Deferred[tuple[WorklistItem, ...]]:
        """
        Remove items whose Study Instance UID the index knows, at most so many.
        Fires with them.
        """


class ICommitmentRequests(Interface):
    """
    The storage commitments that were asked for and not told of yet (PS3.4
    Annex J), whichever process they came to.
    """

    def add(
        request: CommitmentRequest, patience: float
    ) -> Deferred[CommitmentRequest | None]:
        """
        Keep one, with an identifier of its own; in the place of one that has the
        same AE title and Transaction UID. Fires after the commit.

        @param patience: seconds after which it is L{due}.
        @return: it; C{None} where there are too many of its AE title.
        @raise DatabaseUnavailable: it is not kept, or, if C{uncertain}, may not
            be.
        """

    def due(
        patience: float, without: Collection[str] = ()
    ) -> Deferred[CommitmentRequest | None]:
        """
        The one that has been due longest, as one more attempt; C{None} where
        there is none.

        @param patience: seconds after which it is due again.
        @param without: AE titles of which none is wanted now.
        """

    def renew(request: CommitmentRequest, patience: float) -> Deferred[bool]:
        """
        Have it for so many seconds more. Fires with whether it is there, and was
        not given to anybody else since.
        """

    def postpone(identifier: int, patience: float, why: str = "") -> Deferred[None]:
        """
        Nobody sees to one now, if it is still there: have it due again after so
        many seconds.

        @param why: it could not be told; C{""} if that was not tried.
        """

    def putOff(aeTitle: str, patience: float) -> Deferred[None]:
        """
        Have none of an AE title that nobody sees to now due before so many
        seconds.
        """

    def retry(identifier: int) -> Deferred[bool]:
        """
        Have one due at once, if nobody sees to it now. Fires with whether there
        is one.
        """

    def checked(identifier: int, reasons: Sequence[int]) -> Deferred[None]:
        """Keep what was found, see L{CommitmentRequest.reasons}."""

    def remove(identifier: int) -> Deferred[bool]:
        """It was told of, or given up. Fires with whether there was one."""

    def all(count: int) -> Deferred[tuple[PendingCommitment, ...]]:
        """The oldest of them, that many at most."""


# --- what administrators see ------------------------------------------------


class IMetrics(Interface):
    """
    Counts what the server does. Plain calls, made for each operation or piece
    of data, so that they do no more than to add.
    """

    def associationRejected(result: int, source: int, reason: int) -> None:
        """We have answered with an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    def connectionRefused() -> None:
        """A connection was closed at once, for too many are open."""

    def associationRequested(outcome: str) -> None:
        """
        We have requested an association.

        @param outcome: C{"accepted"}, C{"rejected"} or C{"failed"}.
        """

    def operationEnded(
        service: str, status: int | None, seconds: float, size: int
    ) -> None:
        """
        An operation that a peer asked for has ended.

        @param service: its name in PS3.7, such as C{"C-STORE"}.
        @param status: of the final response; C{None} if the association was
            lost before.
        @param size: bytes of the data set that came with the request.
        """

    def subOperationsEnded(completed: int, failed: int, size: int) -> None:
        """
        Sub-operations of a C-MOVE or C-GET have ended (PS3.4 C.4.2, C.4.3).

        @param completed: those that the receiver has taken, with a warning or
            without.
        @param size: bytes of their data sets, as they are stored.
        """

    def bytesReceived(count: int) -> None:
        """These came from a peer, in messages."""

    def bytesSent(count: int) -> None:
        """These go to a peer, in messages."""


class ITransfer(Interface):
    """
    Instances on their way to somebody, as the audit trail follows them. Plain
    calls, which never fail.
    """

    def sent(instance: StoredInstance) -> None:
        """It was taken."""

    def failed(instances: Iterable[StoredInstance], why: str) -> None:
        """They could not be sent."""

    def end() -> None:
        """No more of them are sent. Calling it again does nothing."""


class IAudit(Interface):
    """
    The audit trail: who has stored, queried, retrieved and changed what (PS3.15
    A.5). Plain calls that return at once and never fail, whatever becomes of
    the message.
    """

    def received(
        association: IAssociation,
        instance: AuditedInstance,
        outcome: Outcome | None,
        why: str = "",
    ) -> None:
        """
        A peer has sent an instance.

        @param outcome: what became of it; C{None} if it is not kept.
        @param why: it is not.
        """

    def queried(
        association: IAssociation,
        context: PresentationContext,
        identifier: bytes,
        why: str = "",
    ) -> None:
        """
        A peer has asked what there is.

        @param identifier: in the context's transfer syntax.
        @param why: it was refused or failed; C{""} otherwise.
        """

    def sending(
        requestor: Requestor, destination: Peer, instances: Sequence[StoredInstance]
    ) -> ITransfer:
        """
        Instances are about to be sent.

        @param requestor: who has asked for it, perhaps C{destination} itself.
        """

    def committed(
        requestor: Peer,
        transactionUID: str,
        references: Sequence[Referenced],
        finding: CommitmentFinding,
    ) -> None:
        """
        A peer was told which instances we have for good, by which it may delete
        its own.

        @param finding: what it was told, aligned with C{references}.
        """

    def damaged(finding: Finding) -> None:
        """A file was read, and is not what was stored."""

    def searched(user: User, uri: str, why: str = "") -> None:
        """
        Somebody has read of patients over HTTP.

        @param uri: path and query of the call.
        @param why: it was refused or failed; C{""} otherwise.
        """

    def studyDeleted(
        user: User, study: AuditedStudy, count: int, why: str = ""
    ) -> None:
        """
        Somebody has removed a study.

        @param count: of its instances that are gone.
        @param why: it could not be removed, or not as a whole.
        """

    def worklistUsed(user: User | None, action: Action, study: AuditedStudy) -> None:
        """
        Somebody has made, read, changed or removed a worklist item.

        @param user: C{None} where it was D360 by itself.
        """

    def configured(user: User, uri: str, text: str) -> None:
        """
        Somebody has changed who may do what.

        @param uri: what was changed.
        @param text: how.
        """

    def refused(who: Requestor, why: str) -> None:
        """Somebody was turned away at the door."""

    def notPermitted(who: Requestor, why: str) -> None:
        """Somebody has asked for what he may not do."""


class IRates(Interface):
    """The last day's work, for plots."""

    def history() -> RateHistory:
        """Interval by interval, since the start. A plain call."""


class IExposition(Interface):
    """The metrics as a monitoring system reads them."""

    contentType: str = Attribute("What they are written in.")

    def text(databaseAnswers: bool, space: DiskSpace | None) -> bytes:
        """
        What the server itself counts and knows, now. A plain call.

        @param space: of the archive; C{None} while it cannot be known.
        """

    def processText() -> bytes:
        """
        What the system knows of the process: memory, time, open files. A
        plain call that reads files, and is for a thread.
        """


class ILiveAssociations(Interface):
    """The associations that are open now, one by one."""

    def newest(count: int) -> tuple[LiveAssociation, ...]:
        """Those established last, by their numbers. A plain call."""


class IRecentEvents(Interface):
    """The events of the log that somebody should look at."""

    def recent() -> tuple[LogEvent, ...]:
        """The last ones, the latest first. A plain call."""


class IWorkers(Interface):
    """The processes that serve associations, if there are several."""

    def states() -> tuple[WorkerState, ...]:
        """Each of them, as far as is known. A plain call."""

    def refresh(what: str) -> Deferred[None]:
        """
        Ask all of them what they have counted; fires soon, also where one
        does not answer. Never fails.

        @param what: C{"counters"}, C{"rates"} or C{"associations"}.
        """

    def said(what: str) -> Sequence[Any]:
        """
        What each has answered last, those that have died included. A plain
        call.
        """


class IAssociations(Interface):
    """The open associations of this process."""

    live: int = Attribute("How many are established now.")
    accepted: int = Attribute("How many were established since the start.")


class IStudies(Interface):
    """What is stored, as people look at it; attributes by keyword, as text."""

    def search(
        keys: dict[str, str], skip: int, count: int
    ) -> Deferred[tuple[dict[str, str], ...]]:
        """
        Studies, newest first.

        @param keys: text by keyword, as a C-FIND would have it.
        @param skip: how many are passed over.
        @raise ValueError: a keyword is none, or its text cannot be matched.
        """

    def series(study: str) -> Deferred[tuple[dict[str, str], ...]]:
        """Of a study, by its Study Instance UID; none where there is none."""

    def instances(study: str, series: str) -> Deferred[tuple[dict[str, Any], ...]]:
        """Of a series, in their order; with size in bytes."""

    def delete(study: str) -> Deferred[int]:
        """
        Remove a study with its files, for good. Fires with how many instances
        there were.
        """


class ISending(Interface):
    """Studies that are sent to remote AEs in the background."""

    def send(study: str, remote: RemoteAE, requestor: Requestor) -> SendJob:
        """
        Begin. A plain call.

        @param requestor: who has asked for it.
        """

    def jobs() -> tuple[SendJob, ...]:
        """Those under way and the last that have ended, newest first."""

    def cancel(identifier: str) -> bool:
        """
        End one after the instance under way. Says whether there is one. A
        plain call.
        """


class IReindex(Interface):
    """The rebuild of the index from the files."""

    def start(prune: bool, full: bool) -> bool:
        """
        Begin in the background. A plain call.

        @param prune: remove rows whose file is not there.
        @param full: read also files that the index knows already.
        @return: C{False} if one is running.
        """

    def progress() -> ReindexProgress | None:
        """How far it has come; C{None} before the first. A plain call."""

    def stop() -> Deferred[None]:
        """End it after the file under way; running it again goes on."""


class ICertificates(Interface):
    """The certificates that we show to peers (PS3.15 Annex B)."""

    def states() -> tuple[CertificateState, ...]:
        """Those in use, and how long they are valid. A plain call."""

    def reload() -> Deferred[None]:
        """
        Read their files now. One that cannot be used is logged, and the one
        before it stays.
        """


class IVerify(Interface):
    """The verification that the files are what was stored."""

    def start(rate: float, study: str = "", after: int = 0) -> bool:
        """
        Begin in the background. A plain call.

        @param rate: bytes a second at most; 0 for no limit.
        @param study: a Study Instance UID, to look at this one only.
        @param after: go on behind a C{position} of an earlier one.
        @return: C{False} if one is running.
        """

    def progress() -> VerifyProgress | None:
        """How far it has come; C{None} before the first. A plain call."""

    def stop() -> Deferred[None]:
        """End it where it is."""


class IVerifyNotes(Interface):
    """Remembers how far the regular verification is, whatever ends the server."""

    def read() -> Deferred[VerifyRound | None]:
        """
        What was written last; C{None} where nothing was, or nothing of use.

        @raise ArchiveError: the disk refuses.
        """

    def write(round: VerifyRound) -> Deferred[None]:
        """
        Remember it, in place of what was before.

        @raise ArchiveError: the disk refuses.
        """
