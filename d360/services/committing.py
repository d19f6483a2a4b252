"""
What a storage commitment that was asked for comes to (PS3.4 J.3.3): each
instance's file is read and compared with its digest, and the requestor is told
by an N-EVENT-REPORT which of them we have for good, and which not and why.

It is told over the association that it asked over, if that is still open, else
over one of ours, with the remote AE of its AE title; again and again if that
fails, also after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID
from twisted.internet.defer import (
    Deferred,
    DeferredList,
    DeferredSemaphore,
    fail,
    succeed,
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.attributes import Level
from d360.dimse import status
from d360.errors import (
    ArchiveError,
    AssociationEnded,
    AssociationRejected,
    DatabaseError,
)
from d360.interfaces import (
    IArchive,
    IAssociation,
    IAssociationOpener,
    ICommitmentRequests,
    IDatasetReader,
    IIndex,
    IRemoteAEs,
)
from d360.logs import Logger
from d360.model import (
    AnyOf,
    Command,
    CommitmentRequest,
    PresentationContext,
    Query,
    Referenced,
    RemoteAE,
    StoredInstance,
)
from d360.services import transfersyntaxes
from d360.services.commitment import LEASE
from d360.services.selection import UNIQUE_KEYS
from d360.services.sopclasses import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE

_N_EVENT_REPORT = 0x0100

#: PS3.4 Table J.3-3, by whether any instance is not kept.
_EVENT_TYPES = {False: 1, True: 2}

#: Requests that are seen to at the same time.
AT_ONCE = 4

#: Requests that wait for that in memory; further ones do in the database, and
#: are told of over associations of ours.
MAX_WAITING = 16

#: Instances that the index is asked for at once.
_TOGETHER = 500

#: Seconds between looks for requests that are due.
INTERVAL = 15.0

#: Seconds that the requestor has for the end of what else it does on the
#: association it asked over, and for its response.
IDLE_PATIENCE = 10.0
PATIENCE = 60.0

#: Seconds to the next attempt, doubled up to the last, and after how many
#: nobody is told any more.
FIRST_DELAY = 60.0
LAST_DELAY = 3600.0
GIVE_UP = 7 * 86400.0

_PROPOSED = (
    transfersyntaxes.EXPLICIT_VR_LITTLE_ENDIAN,
    transfersyntaxes.IMPLICIT_VR_LITTLE_ENDIAN,
)


class _NotTold(Exception):
    """The requestor could not be told; the message says why."""


@implementer(IDatasetReader)
class _Encoded:
    """A data set that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._rest = memoryview(data)

    def read(self, count: int) -> Deferred[bytes | memoryview]:
        piece, self._rest = self._rest[:count], self._rest[count:]
        return succeed(piece)

    def close(self) -> None:
        """There is nothing to close."""


def encodeReport(
    request: CommitmentRequest, aeTitle: str, transferSyntax: str
) -> bytes:
    """
    The Event Information of PS3.4 Table J.3-4. Blocks: for a thread.

    @param request: with its reasons.
    @param aeTitle: ours, from which the instances can be retrieved.
    """
    assert request.reasons is not None
    dataset = Dataset()
    dataset.TransactionUID = request.transactionUID
    dataset.RetrieveAETitle = aeTitle
    kept, failed = [], []
    for reference, reason in zip(request.references, request.reasons, strict=True):
        item = Dataset()
        item.ReferencedSOPClassUID = reference.SOPClassUID
        item.ReferencedSOPInstanceUID = reference.SOPInstanceUID
        if reason:
            item.FailureReason = reason
            failed.append(item)
        else:
            kept.append(item)
    if kept:
        dataset.ReferencedSOPSequence = kept
    if failed:
        dataset.FailedSOPSequence = failed
    syntax = UID(transferSyntax)
    output = DicomBytesIO()
    output.is_implicit_VR = syntax.is_implicit_VR
    output.is_little_endian = syntax.is_little_endian
    write_dataset(output, dataset)
    return output.getvalue()


class Commitments:
    """
    See the module.

    @param aeTitle: ours.
    @param inThread: runs a function in a thread, with its arguments.
    """

    _log = Logger("d360.commitment")

    def __init__(
        self,
        requests: ICommitmentRequests,
        archive: IArchive,
        index: IIndex,
        remoteAEs: IRemoteAEs,
        opener: IAssociationOpener,
        clock: IReactorTime,
        aeTitle: str,
        inThread: Callable[..., Deferred[Any]],
    ) -> None:
        self._requests = requests
        self._archive = archive
        self._index = index
        self._remoteAEs = remoteAEs
        self._opener = opener
        self._clock = clock
        self._aeTitle = aeTitle
        self._inThread = inThread
        self._turns = DeferredSemaphore(AT_ONCE)
        self._underWay: set[Deferred[Any]] = set()
        self._call: IDelayedCall | None = None
        # Who could not be told in this look: not to wait for them again and again.
        self._away: set[str] = set()
        self._stopped = False

    # --- what is seen to

    def begin(
        self,
        request: CommitmentRequest,
        association: IAssociation,
        context: PresentationContext,
    ) -> None:
        """See L{d360.services.commitment.ITeller}."""
        if len(self._underWay) < AT_ONCE + MAX_WAITING:
            self._goOn(self._turns.run(self._seeTo, request, association, context))
        else:
            self._goOn(self._requests.postpone(request.identifier, 0))

    def start(self) -> None:
        """Look for requests that are due, now and from now on."""
        self._goOn(self._look())

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires when what is under way has ended."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        return DeferredList(list(self._underWay)).addCallback(lambda _: None)

    def _goOn(self, work: Deferred[Any]) -> None:
        ended: Deferred[None] = Deferred()
        self._underWay.add(ended)

        def end(_: object) -> None:
            self._underWay.discard(ended)
            ended.callback(None)

        work.addErrback(lambda f: self._log.failure("storage commitment failed", f))
        work.addCallback(end)

    @asynchronous
    async def _look(self) -> None:
        self._call = None
        self._away.clear()
        try:
            await DeferredList([self._lookOnce() for _ in range(AT_ONCE)])
        finally:
            if not self._stopped:
                self._call = self._clock.callLater(
                    INTERVAL, lambda: self._goOn(self._look())
                )

    @asynchronous
    async def _lookOnce(self) -> None:
        """See to what is due, one after the other."""
        try:
            while not self._stopped:
                request = await self._requests.due(LEASE)
                if request is None:
                    return
                await self._seeTo(request, None, None)
        except DatabaseError as error:
            self._log.warn("Cannot look for commitments: {why}", why=str(error))

    @asynchronous
    async def _seeTo(
        self,
        request: CommitmentRequest,
        association: IAssociation | None,
        context: PresentationContext | None,
    ) -> None:
        """Check it, tell, and forget it; or see to it that it is tried again."""
        try:
            # It may have waited for its turn so long that others had theirs.
            if self._stopped or not await self._requests.renew(request, LEASE):
                return
            if association is None:
                await self._remoteOf(request)
            request = await self._check(request)
            await self._tell(request, association, context)
            await self._requests.remove(request.identifier)
        except DatabaseError as error:
            # The lease brings it up again.
            self._log.warn(
                "Storage commitment {transaction} has to wait: {why}",
                transaction=request.transactionUID,
                why=str(error),
            )
        except _NotTold as error:
            await self._notTold(request, str(error))
        except Exception:
            # One must not stand in the way of all others.
            self._log.failure("storage commitment failed", Failure())
            await self._notTold(request, "see the log for the error")

    @asynchronous
    async def _remoteOf(self, request: CommitmentRequest) -> RemoteAE:
        """
        Who is to be told.

        @raise _NotTold: nobody, now.
        """
        if self._stopped:
            raise _NotTold("the server stops")
        if request.aeTitle in self._away:
            raise _NotTold("it could not be told of another one just before")
        remote = await self._remoteAEs.get(request.aeTitle)
        if remote is None:
            raise _NotTold(
                "it is none of the remote AEs: d360ctl ae add, or have it keep its "
                "association open until it is told"
            )
        return remote

    @asynchronous
    async def _notTold(self, request: CommitmentRequest, why: str) -> None:
        if self._stopped:
            # At the next start, or as soon as others look.
            await self._requests.postpone(request.identifier, 0)
            return
        if request.age > GIVE_UP:
            self._log.error(
                "{title} cannot be told of storage commitment {transaction}, which "
                "is given up: {why}",
                title=request.aeTitle,
                transaction=request.transactionUID,
                why=why,
            )
            await self._requests.remove(request.identifier)
            return
        delay = min(FIRST_DELAY * 2 ** min(request.attempts, 10), LAST_DELAY)
        self._log.warn(
            "{title} cannot be told of storage commitment {transaction}, which is "
            "tried again in {seconds:.0f} s: {why}",
            title=request.aeTitle,
            transaction=request.transactionUID,
            seconds=delay,
            why=why,
        )
        await self._requests.postpone(request.identifier, delay)

    # --- what we have

    @asynchronous
    async def _check(self, request: CommitmentRequest) -> CommitmentRequest:
        """It, with the reasons."""
        if request.reasons is not None:
            return request
        # One that is named twice need not be read twice.
        reasons: dict[Referenced, int] = {}
        began = self._clock.seconds()
        for first in range(0, len(request.references), _TOGETHER):
            some = request.references[first : first + _TOGETHER]
            stored = await self._find([one.SOPInstanceUID for one in some])
            for one in some:
                if self._stopped:
                    raise _NotTold("the server stops")
                if one not in reasons:
                    reasons[one] = await self._reasonOf(one, stored)
                if self._clock.seconds() - began > LEASE / 4:
                    began = self._clock.seconds()
                    await self._requests.renew(request, LEASE)
        found = tuple(reasons[one] for one in request.references)
        await self._requests.checked(request.identifier, found)
        return evolve(request, reasons=found)

    @asynchronous
    async def _find(self, instances: Sequence[str]) -> dict[str, StoredInstance]:
        key = AnyOf(UNIQUE_KEYS[Level.IMAGE], tuple(dict.fromkeys(instances)))
        batches = self._index.locate(Query(Level.IMAGE, (key,)))
        found: dict[str, StoredInstance] = {}
        try:
            while batch := await batches.nextBatch():
                found |= {one.SOPInstanceUID: one for one in batch}
        finally:
            batches.close()
        return found

    @asynchronous
    async def _reasonOf(
        self, reference: Referenced, found: dict[str, StoredInstance]
    ) -> int:
        """0, or why it is not kept (PS3.3 C.14.1.1)."""
        stored = found.get(reference.SOPInstanceUID)
        if stored is None:
            return status.NO_SUCH_SOP_INSTANCE
        if stored.SOPClassUID != reference.SOPClassUID:
            return status.CLASS_INSTANCE_CONFLICT
        if await self._isKept(stored):
            return status.SUCCESS
        # It may have been replaced since it was found.
        again = (await self._find([reference.SOPInstanceUID])).get(
            reference.SOPInstanceUID
        )
        if again is None:
            return status.NO_SUCH_SOP_INSTANCE
        if again != stored and await self._isKept(again):
            return status.SUCCESS
        self._log.error(
            "The file of {instance} is gone or damaged: {path}; restore it from a "
            "backup, or have the instance sent again",
            instance=reference.SOPInstanceUID,
            path=again.location.path,
        )
        return status.PROCESSING_FAILURE

    @asynchronous
    async def _isKept(self, stored: StoredInstance) -> bool:
        try:
            await self._archive.examine(
                stored.location, stored.size, stored.digest, self._pace
            )
            # One that is on its way may be whole and not durable yet.
            await self._archive.sync(stored.location)
        except ArchiveError:
            return False
        return True

    def _pace(self, count: int) -> Deferred[None]:
        return fail(_NotTold("the server stops")) if self._stopped else succeed(None)

    # --- who is told

    @asynchronous
    async def _tell(
        self,
        request: CommitmentRequest,
        association: IAssociation | None,
        context: PresentationContext | None,
    ) -> None:
        """
        @raise _NotTold: it could not be done.
        """
        if association is not None and context is not None:
            data = await self._encode(request, context)
            await self._untilIdle(association)
            if association.isIdle:
                try:
                    await self._report(request, association, context, data)
                    return
                except _NotTold as error:
                    self._log.info(
                        "{title} is told over an association of ours: {why}",
                        title=request.aeTitle,
                        why=str(error),
                    )
        remote = await self._remoteOf(request)
        try:
            await self._tellAt(remote, request)
        except _NotTold:
            self._away.add(request.aeTitle)
            raise

    @asynchronous
    async def _untilIdle(self, association: IAssociation) -> None:
        """Unless it ends, or takes too long."""
        deadline = self._clock.seconds() + IDLE_PATIENCE
        while association.isOpen and not association.isIdle:
            if self._clock.seconds() >= deadline or self._stopped:
                return
            await deferLater(self._clock, 0.1)

    @asynchronous
    async def _tellAt(self, remote: RemoteAE, request: CommitmentRequest) -> None:
        try:
            association = await self._opener.open(
                remote, [(STORAGE_COMMITMENT, _PROPOSED)], (STORAGE_COMMITMENT,)
            )
        except (AssociationRejected, AssociationEnded) as error:
            raise _NotTold(f"{remote.host}, port {remote.port}: {error}") from None
        try:
            contexts = tuple(association.established.contexts.values())
            if not contexts:
                raise _NotTold("it does not accept Storage Commitment")
            data = await self._encode(request, contexts[0])
            await self._report(request, association, contexts[0], data)
        finally:
            await association.release()

    def _encode(
        self, request: CommitmentRequest, context: PresentationContext
    ) -> Deferred[bytes]:
        return self._inThread(
            encodeReport, request, self._aeTitle, context.transferSyntax
        )

    @asynchronous
    async def _report(
        self,
        request: CommitmentRequest,
        association: IAssociation,
        context: PresentationContext,
        data: bytes,
    ) -> None:
        """
        Send the N-EVENT-REPORT (PS3.7 10.1.1). The association is idle.

        @raise _NotTold: it was not taken.
        """
        assert request.reasons is not None
        command = Command(
            _N_EVENT_REPORT,
            AffectedSOPClassUID=STORAGE_COMMITMENT,
            AffectedSOPInstanceUID=STORAGE_COMMITMENT_INSTANCE,
            EventTypeID=_EVENT_TYPES[any(request.reasons)],
        )
        why = f"no response to N-EVENT-REPORT within {PATIENCE:.0f} s"
        guard = self._clock.callLater(PATIENCE, association.abort, why)
        try:
            response = await association.request(context, command, _Encoded(data))
        except AssociationEnded as error:
            raise _NotTold(str(error) if guard.active() else why) from None
        finally:
            if guard.active():
                guard.cancel()
        if response.Status is None or not _isTaken(response.Status):
            raise _NotTold(f"it answers with status {response.Status or 0:04X}")
        failed = sum(map(bool, request.reasons))
        self._log.info(
            "{title} is told of storage commitment {transaction}: {kept} instances "
            "kept, {failed} not",
            title=request.aeTitle,
            transaction=request.transactionUID,
            kept=len(request.reasons) - failed,
            failed=failed,
        )


def _isTaken(code: int) -> bool:
    return code == status.SUCCESS or status.isWarning(code)
