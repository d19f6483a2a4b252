"""
How the requestor of a storage commitment is told what it has come to: by an
N-EVENT-REPORT (PS3.4 J.3.3), over the association that it asked over or over one
of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.dimse import status
from d360.errors import AssociationEnded, AssociationRejected
from d360.interfaces import IAssociation, IAssociationOpener, IDatasetReader
from d360.logs import Logger
from d360.model import Command, CommitmentRequest, PresentationContext, RemoteAE
from d360.services import transfersyntaxes
from d360.services.sopclasses import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE

_N_EVENT_REPORT = 0x0100

#: PS3.4 Table J.3-3, by whether any instance is not kept.
_EVENT_TYPES = {False: 1, True: 2}

#: Seconds that the requestor has for the end of what else it does on the
#: association it asked over, and for its response.
IDLE_PATIENCE = 10.0
PATIENCE = 60.0

_PROPOSED = (
    transfersyntaxes.EXPLICIT_VR_LITTLE_ENDIAN,
    transfersyntaxes.IMPLICIT_VR_LITTLE_ENDIAN,
)


class NotTold(Exception):
    """The requestor could not be told; the message says why."""


class Unreachable(NotTold):
    """It could not be told of any other request either."""


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


class CommitmentReports:
    """
    See the module. Requests come here with their reasons.

    @param aeTitle: ours.
    @param inThread: runs a function in a thread, with its arguments.
    """

    _log = Logger("d360.commitment")

    def __init__(
        self,
        opener: IAssociationOpener,
        clock: IReactorTime,
        aeTitle: str,
        inThread: Callable[..., Deferred[Any]],
    ) -> None:
        self._opener = opener
        self._clock = clock
        self._aeTitle = aeTitle
        self._inThread = inThread

    @asynchronous
    async def tellThere(
        self,
        request: CommitmentRequest,
        association: IAssociation,
        context: PresentationContext,
        isStopped: Callable[[], bool],
    ) -> None:
        """
        Over the association that it asked over, as soon as that is idle.

        @param isStopped: nothing more is to be waited for.
        @raise NotTold: it could not be done.
        """
        data = await self._encode(request, context)
        deadline = self._clock.seconds() + IDLE_PATIENCE
        while association.isOpen and not association.isIdle:
            if self._clock.seconds() >= deadline or isStopped():
                raise NotTold("its association is busy")
            await deferLater(self._clock, 0.1)
        if not association.isOpen:
            raise NotTold("its association has ended")
        await self._report(request, association, context, data)

    @asynchronous
    async def tellAt(self, remote: RemoteAE, request: CommitmentRequest) -> None:
        """
        Over an association of ours.

        @raise NotTold: it could not be done.
        """
        try:
            # PS3.7 D.3.3.4: we ask for the association, and are the SCP.
            association = await self._opener.open(
                remote, [(STORAGE_COMMITMENT, _PROPOSED)], (STORAGE_COMMITMENT,)
            )
        except (AssociationRejected, AssociationEnded) as error:
            raise Unreachable(f"{remote.host}, port {remote.port}: {error}") from None
        try:
            context = _contextOf(association)
            data = await self._encode(request, context)
            await self._report(request, association, context, data)
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

        @raise NotTold: it was not taken.
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
            raise Unreachable(str(error) if guard.active() else why) from None
        finally:
            if guard.active():
                guard.cancel()
        if response.Status is None or not _isTaken(response.Status):
            raise NotTold(f"it answers with status {response.Status or 0:04X}")
        failed = sum(map(bool, request.reasons))
        self._log.info(
            "{title} is told of storage commitment {transaction}: {kept} instances "
            "kept, {failed} not",
            title=request.aeTitle,
            transaction=request.transactionUID,
            kept=len(request.reasons) - failed,
            failed=failed,
        )


def _contextOf(association: IAssociation) -> PresentationContext:
    """
    The one to report in.

    Many who want to be told do not answer our proposal to be the SCP. By PS3.7
    D.3.3.4 we would be the SCU then, who has nothing to report; but it would
    serve nobody to leave them without: who does not take it says so. Whoever
    refuses us the role in so many words is not told.

    @raise Unreachable: there is none.
    """
    contexts = tuple(association.established.contexts.values())
    if not contexts:
        raise Unreachable("it does not accept Storage Commitment")
    (context,) = contexts
    if not (context.scp or context.scu):
        raise Unreachable("it does not let us be the SCP of Storage Commitment")
    return context


def _isTaken(code: int) -> bool:
    return code == status.SUCCESS or status.isWarning(code)
