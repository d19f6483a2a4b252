"""
The sub-operations of one C-MOVE or C-GET (PS3.4 C.4.2, C.4.3): what became of
each, and what the requestor is told of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from d360.asynchronous import asynchronous
from d360.dimse import status
from d360.errors import AssociationEnded
from d360.interfaces import IDatasetReader, IOperation
from d360.model import StoredInstance

#: Seconds after which the requestor hears of us, even if nothing was done.
PENDING_INTERVAL = 5.0

#: Counts are of VR US (PS3.7 Annex E.1).
_MAX_COUNT = 0xFFFF


class SubOperations:
    """
    Counts. Completed, failed and warning together with what remains are always
    the total.
    """

    def __init__(self, operation: IOperation, total: int, clock: IReactorTime) -> None:
        self._operation = operation
        self._total = total
        self._completed = 0
        self._warnings = 0
        self._failed: list[str] = []
        self._timer = LoopingCall(self._tell)
        self._timer.clock = clock

    @property
    def isWanted(self) -> bool:
        """Whether the requestor still waits for them."""
        return not self._operation.cancelled

    @asynchronous
    async def whileWanted(self, opening: Deferred[IDatasetReader]) -> IDatasetReader:
        """
        What is being opened.

        @raise CancelledError: it is not wanted any more.
        """
        cancelled = self._operation.whenCancelled()
        cancelled.addCallbacks(lambda _: opening.cancel(), lambda _: None)
        try:
            return await opening
        finally:
            if not cancelled.called:
                cancelled.cancel()

    def start(self) -> None:
        """Tell the requestor from time to time that there is more to come."""
        self._timer.start(PENDING_INTERVAL, now=False)

    def stop(self) -> None:
        """End L{start}."""
        if self._timer.running:
            self._timer.stop()

    # --- what became of them

    @asynchronous
    async def answered(self, instance: StoredInstance, code: int) -> None:
        """
        The receiver has answered.

        @param code: its Status (PS3.4 Table B.2-1).
        """
        if code == status.SUCCESS:
            self._completed += 1
        elif status.isWarning(code):
            self._warnings += 1
            self._operation.log.warn(
                "{instance} was taken with warning {status}",
                instance=instance.SOPInstanceUID,
                status=f"{code:04X}",
            )
        else:
            await self.failed([instance], f"it was refused with {code:04X}")
            return
        await self._tell()

    @asynchronous
    async def failed(self, instances: Iterable[StoredInstance], why: str) -> None:
        """They could not be sent."""
        uids = [instance.SOPInstanceUID for instance in instances]
        if not uids:
            return
        self._failed += uids
        self._operation.log.error(
            "Cannot send {instance}{others}: {why}",
            instance=uids[0],
            others=f" and {len(uids) - 1} others" if len(uids) > 1 else "",
            why=why,
        )
        await self._tell()

    # --- what the requestor is told

    def _counts(self) -> dict[str, Any]:
        return {
            "NumberOfCompletedSuboperations": min(self._completed, _MAX_COUNT),
            "NumberOfFailedSuboperations": min(len(self._failed), _MAX_COUNT),
            "NumberOfWarningSuboperations": min(self._warnings, _MAX_COUNT),
        }

    @property
    def _remaining(self) -> int:
        done = self._completed + len(self._failed) + self._warnings
        return min(self._total - done, _MAX_COUNT)

    @asynchronous
    async def _tell(self) -> None:
        """Pending; not of what is the last, which the final response tells."""
        if not self._remaining or not self.isWanted:
            return
        try:
            await self._operation.respond(
                status.PENDING,
                NumberOfRemainingSuboperations=self._remaining,
                **self._counts(),
            )
        except AssociationEnded:
            # Then they are not wanted either, which is looked at elsewhere.
            return

    @asynchronous
    async def finish(self) -> None:
        """
        The final response (PS3.4 C.4.2.1.5 to C.4.2.1.9).

        @raise AssociationEnded: nobody is there to take it.
        """
        self.stop()
        elements = self._counts()
        if self._operation.cancelled and (self._remaining or not self._total):
            code = status.CANCEL
            elements["NumberOfRemainingSuboperations"] = self._remaining
        elif not self._failed and not self._warnings:
            code = status.SUCCESS
        elif not self._completed and not self._warnings:
            code = status.UNABLE_TO_PERFORM_SUBOPERATIONS
        else:
            code = status.WARNING
        identifier = None
        if self._failed:
            identifier = Dataset()
            identifier.FailedSOPInstanceUIDList = self._failed
            elements["ErrorComment"] = (
                f"{len(self._failed)} of {self._total} not sent, see the server's log"
            )
        self._operation.log.info(
            "{done} of {total} instances sent, {failed} failed",
            done=self._completed + self._warnings,
            total=self._total,
            failed=len(self._failed),
        )
        await self._operation.respond(code, identifier, **elements)
