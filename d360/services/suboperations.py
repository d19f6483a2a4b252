"""
What becomes of the instances that are sent, and the sub-operations of a C-MOVE
or C-GET (PS3.4 C.4.2, C.4.3), of which the requestor is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from d360.asynchronous import asynchronous
from d360.audit.null import NULL_TRANSFER
from d360.dimse import status
from d360.errors import AssociationEnded
from d360.interfaces import IMetrics, IOperation, ITransfer
from d360.logs import ContextLogger
from d360.metrics.null import NULL_METRICS
from d360.model import StoredInstance

T = TypeVar("T")

#: Seconds after which the requestor hears of us, even if nothing was done.
PENDING_INTERVAL = 5.0

#: Counts are of VR US (PS3.7 Annex E.1).
_MAX_COUNT = 0xFFFF


class Progress:
    """
    Counts what becomes of some instances that are sent. Completed, failed and
    warning together with what remains are always the total.

    @ivar transfer: is told of each of them.
    """

    transfer: ITransfer = NULL_TRANSFER

    def __init__(
        self, log: ContextLogger, total: int, metrics: IMetrics = NULL_METRICS
    ) -> None:
        self._metrics = metrics
        self.total = total
        self.completed = 0
        self.warnings = 0
        self.failedUIDs: list[str] = []
        self._log = log

    @property
    def remaining(self) -> int:
        """Those of which nothing is known yet."""
        return self.total - self.completed - self.warnings - len(self.failedUIDs)

    @property
    def isWanted(self) -> bool:
        """Whether anybody still waits for them."""
        raise NotImplementedError

    def whenUnwanted(self) -> Deferred[None]:
        """Fires when nobody does any more; may be cancelled."""
        raise NotImplementedError

    def tell(self) -> Deferred[None]:
        """A number has changed: tell those who wait."""
        return succeed(None)

    @asynchronous
    async def whileWanted(self, opening: Deferred[T]) -> T:
        """
        What is being opened.

        @raise CancelledError: it is not wanted any more.
        """
        unwanted = self.whenUnwanted()
        unwanted.addCallbacks(lambda _: opening.cancel(), lambda _: None)
        try:
            return await opening
        finally:
            if not unwanted.called:
                unwanted.cancel()

    def answered(self, instance: StoredInstance, code: int) -> Deferred[None]:
        """
        The receiver has answered.

        @param code: its Status (PS3.4 Table B.2-1).
        """
        if code == status.SUCCESS:
            self.completed += 1
            self.transfer.sent(instance)
            self._metrics.subOperationsEnded(1, 0, instance.size)
        elif status.isWarning(code):
            self.warnings += 1
            self.transfer.sent(instance)
            self._metrics.subOperationsEnded(1, 0, instance.size)
            self._log.warn(
                "{instance} was taken with warning {status}",
                instance=instance.SOPInstanceUID,
                status=f"{code:04X}",
            )
        else:
            return self.failed([instance], f"it was refused with {code:04X}")
        return self.tell()

    def failed(self, instances: Iterable[StoredInstance], why: str) -> Deferred[None]:
        """They could not be sent."""
        instances = tuple(instances)
        uids = [instance.SOPInstanceUID for instance in instances]
        if not uids:
            return succeed(None)
        self.failedUIDs += uids
        self.transfer.failed(instances, why)
        self._metrics.subOperationsEnded(0, len(uids), 0)
        self._log.error(
            "Cannot send {instance}{others}: {why}",
            instance=uids[0],
            others=f" and {len(uids) - 1} others" if len(uids) > 1 else "",
            why=why,
        )
        return self.tell()


def _isUnwanted(failure: Failure) -> None:
    """Where the association has ended, which is looked at elsewhere."""
    failure.trap(AssociationEnded)


class SubOperations(Progress):
    """Those of a C-MOVE or C-GET, whose requestor is told by responses."""

    def __init__(self, operation: IOperation, total: int, clock: IReactorTime) -> None:
        super().__init__(operation.log, total, operation.metrics)
        self._operation = operation
        self._timer = LoopingCall(self.tell)
        self._timer.clock = clock

    @property
    def isWanted(self) -> bool:
        return not self._operation.cancelled

    def whenUnwanted(self) -> Deferred[None]:
        return self._operation.whenCancelled()

    def start(self) -> None:
        """Tell the requestor from time to time that there is more to come."""
        self._timer.start(PENDING_INTERVAL, now=False)

    def stop(self) -> None:
        """End L{start}."""
        if self._timer.running:
            self._timer.stop()

    def _counts(self) -> dict[str, Any]:
        return {
            "NumberOfCompletedSuboperations": min(self.completed, _MAX_COUNT),
            "NumberOfFailedSuboperations": min(len(self.failedUIDs), _MAX_COUNT),
            "NumberOfWarningSuboperations": min(self.warnings, _MAX_COUNT),
        }

    def tell(self) -> Deferred[None]:
        """Pending; not of what is the last, which the final response tells."""
        remaining = self.remaining
        if not remaining or not self.isWanted:
            return succeed(None)
        return self._operation.respond(
            status.PENDING,
            NumberOfRemainingSuboperations=min(remaining, _MAX_COUNT),
            **self._counts(),
        ).addErrback(_isUnwanted)

    @asynchronous
    async def finish(self) -> None:
        """
        The final response (PS3.4 C.4.2.1.5 to C.4.2.1.9).

        @raise AssociationEnded: nobody is there to take it.
        """
        self.stop()
        elements = self._counts()
        if self._operation.cancelled and (self.remaining or not self.total):
            code = status.CANCEL
            remaining = min(self.remaining, _MAX_COUNT)
            elements["NumberOfRemainingSuboperations"] = remaining
        elif not self.failedUIDs and not self.warnings:
            code = status.SUCCESS
        elif not self.completed and not self.warnings:
            code = status.UNABLE_TO_PERFORM_SUBOPERATIONS
        else:
            code = status.WARNING
        identifier = None
        failed = len(self.failedUIDs)
        if failed:
            identifier = Dataset()
            # There may be very many, and it takes long to look at each again.
            identifier.add(
                DataElement(
                    "FailedSOPInstanceUIDList",
                    "UI",
                    self.failedUIDs,
                    already_converted=True,
                )
            )
            elements["ErrorComment"] = (
                f"{failed} of {self.total} not sent, see the server's log"
            )
        self._operation.log.info(
            "{done} of {total} instances sent, {failed} failed",
            done=self.completed + self.warnings,
            total=self.total,
            failed=failed,
        )
        await self._operation.respond(code, identifier, **elements)
