"""Tests for L{d360.metrics.rates}."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.interfaces import IRates
from d360.metrics.rates import FAILED, INTERVALS, QUERIES, RETRIEVED, STORED, Rates

#: 2026-01-01 12:00:30 UTC.
NOON = 1767268830


class RatesTests(SynchronousTestCase):
    """Minutes of the clock, in a ring."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOON)
        self.rates = Rates(self.clock)

    def test_interface(self) -> None:
        verifyObject(IRates, self.rates)

    def test_first(self) -> None:
        """The minute of the start is the first, and there at once."""
        history = self.rates.history()
        self.assertEqual(history.interval, 60)
        self.assertEqual(history.start, datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
        self.assertEqual(history.stored, (0,))

    def test_kinds(self) -> None:
        """Each is counted by itself; bytes come with what is stored."""
        self.rates.add(STORED, 1, 500)
        self.rates.add(STORED, 1, 20)
        self.rates.add(QUERIES, 3)
        self.clock.advance(30)
        self.rates.add(RETRIEVED, 4)
        self.rates.add(FAILED, 5)
        history = self.rates.history()
        self.assertEqual(history.stored, (2, 0))
        self.assertEqual(history.bytes, (520, 0))
        self.assertEqual(history.queries, (3, 0))
        self.assertEqual(history.retrieved, (0, 4))
        self.assertEqual(history.failed, (0, 5))

    def test_nothing(self) -> None:
        """Minutes in which nothing is done count too."""
        self.rates.add(STORED, 1)
        self.clock.advance(180)
        self.rates.add(STORED, 2)
        self.clock.advance(60)
        self.assertEqual(self.rates.history().stored, (1, 0, 0, 2, 0))

    def test_ring(self) -> None:
        """No more than a day is kept, and the start moves on."""
        for number in range(INTERVALS + 5):
            self.rates.add(STORED, number)
            self.clock.advance(60)
        history = self.rates.history()
        self.assertEqual(len(history.stored), 1440)
        self.assertEqual(history.stored[:2], (6, 7))
        self.assertEqual(history.stored[-2:], (1444, 0))
        self.assertEqual(history.start, datetime(2026, 1, 1, 12, 6, tzinfo=UTC))

    def test_longSilence(self) -> None:
        """After years without work it is a day of nothing."""
        self.rates.add(STORED, 1)
        self.clock.advance(86400 * 365)
        history = self.rates.history()
        self.assertEqual(history.stored, (0,) * 1440)
        self.assertEqual(history.start, datetime(2026, 12, 31, 12, 1, tzinfo=UTC))

    def test_clockPutBack(self) -> None:
        """Counting begins anew, for its times would be wrong."""
        self.rates.add(STORED, 1)
        self.clock.rightNow -= 3600
        self.rates.add(STORED, 2)
        history = self.rates.history()
        self.assertEqual(history.stored, (2,))
        self.assertEqual(history.start, datetime(2026, 1, 1, 11, 0, tzinfo=UTC))
