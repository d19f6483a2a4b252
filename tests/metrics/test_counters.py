"""Tests for L{d360.metrics.counters} and L{d360.metrics.null}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.interfaces import IMetrics
from d360.metrics.counters import BOUNDS, Metrics, classOf
from d360.metrics.null import NULL_METRICS
from tests.contracts.archive import checkSignatures


class MetricsTests(SynchronousTestCase):
    """What is counted, and where it shows among the rates."""

    def setUp(self) -> None:
        self.metrics = Metrics(Clock())

    def test_interface(self) -> None:
        for metrics in (self.metrics, NULL_METRICS):
            checkSignatures(self, IMetrics, metrics)

    def test_null(self) -> None:
        """It takes whatever it is told."""
        NULL_METRICS.associationRejected(1, 1, 7)
        NULL_METRICS.connectionRefused()
        NULL_METRICS.associationRequested("failed")
        NULL_METRICS.operationEnded("C-ECHO", None, 0.0, 0)
        NULL_METRICS.subOperationsEnded(1, 0, 1)
        NULL_METRICS.bytesReceived(1)
        NULL_METRICS.bytesSent(1)

    def test_classes(self) -> None:
        """PS3.7 Annex C."""
        for status, kind in (
            (0x0000, "success"),
            (0xFE00, "cancel"),
            (0xB000, "warning"),
            (0x0107, "warning"),
            (0xA700, "failure"),
            (0xC001, "failure"),
            (0x0211, "failure"),
            (None, "lost"),
        ):
            self.assertEqual(classOf(status), kind)

    def test_durations(self) -> None:
        """Each is in the first bucket that it is not longer than."""
        for seconds in (0.0, 0.001, 0.0011, 600.0, 600.1):
            self.metrics.operationEnded("C-ECHO", 0, seconds, 0)
        tally = self.metrics.operations["C-ECHO"]
        self.assertEqual(tally.buckets[:3], [2, 1, 0])
        self.assertEqual(tally.buckets[-2:], [1, 1])
        self.assertEqual(sum(tally.buckets), 5)
        self.assertAlmostEqual(tally.seconds, 1200.1021)
        self.assertEqual(sorted(BOUNDS), list(BOUNDS))

    def test_stored(self) -> None:
        """A C-STORE with 0000 has stored an instance; with another it has not."""
        self.metrics.operationEnded("C-STORE", 0x0000, 0.01, 1000)
        self.metrics.operationEnded("C-STORE", 0x0000, 0.01, 24)
        self.metrics.operationEnded("C-STORE", 0xA700, 0.01, 5)
        self.metrics.operationEnded("C-STORE", None, 0.01, 6)
        self.assertEqual((self.metrics.stored, self.metrics.storedBytes), (2, 1024))
        self.assertEqual(
            self.metrics.operations["C-STORE"].statuses, {0: 2, 0xA700: 1, None: 1}
        )
        history = self.metrics.rates.history()
        self.assertEqual((history.stored, history.bytes), ((2,), (1024,)))
        self.assertEqual(history.failed, (2,))

    def test_queries(self) -> None:
        """Each C-FIND is a query; one that is cancelled has not failed."""
        for status in (0x0000, 0xFE00, 0xA900):
            self.metrics.operationEnded("C-FIND", status, 0.01, 100)
        history = self.metrics.rates.history()
        self.assertEqual((history.queries, history.failed), ((3,), (1,)))
        self.assertEqual((history.stored, history.bytes), ((0,), (0,)))

    def test_subOperations(self) -> None:
        """Those completed are what was retrieved."""
        self.metrics.subOperationsEnded(1, 0, 500)
        self.metrics.subOperationsEnded(0, 7, 0)
        self.assertEqual(self.metrics.subOperationsCompleted, 1)
        self.assertEqual(self.metrics.subOperationsFailed, 7)
        self.assertEqual(self.metrics.retrievedBytes, 500)
        self.assertEqual(self.metrics.rates.history().retrieved, (1,))
