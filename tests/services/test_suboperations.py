"""What L{d360.services.suboperations} counts."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.metrics.counters import Metrics
from d360.model import Command, Location, PresentationContext, StoredInstance
from d360.services.suboperations import SubOperations
from tests.contracts.operation import FakeOperation


def instance(number: int, size: int) -> StoredInstance:
    uid = f"1.2.{number}"
    return StoredInstance(uid, "1.1", "1.3", Location(uid, 0), size, b"")


class CountingTests(SynchronousTestCase):
    """Completed, with a warning or without, and failed."""

    def test_counts(self) -> None:
        clock = Clock()
        context = PresentationContext(1, "1.2.840.10008.5.1.4.1.2.2.2", "1.2")
        operation = FakeOperation(context, Command(0x0021))
        operation.metrics = metrics = Metrics(clock)
        subOperations = SubOperations(operation, 5, clock)
        self.successResultOf(subOperations.answered(instance(1, 100), 0x0000))
        self.successResultOf(subOperations.answered(instance(2, 20), 0xB007))
        self.successResultOf(subOperations.answered(instance(3, 3), 0xA700))
        rest = [instance(4, 4), instance(5, 5)]
        self.successResultOf(subOperations.failed(rest, "it is gone"))
        self.assertEqual(metrics.subOperationsCompleted, 2)
        self.assertEqual(metrics.subOperationsFailed, 3)
        self.assertEqual(metrics.retrievedBytes, 120)
        self.assertEqual(metrics.rates.history().retrieved, (2,))
