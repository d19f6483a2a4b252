"""Tests for L{d360.hosts}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogPublisher, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from d360.hosts import INTERVAL, ClosedConnections, HostCounts, Seldom, tellOfMany
from d360.logs import Logger


class CountsTests(SynchronousTestCase):
    """How many each host has."""

    def test_counts(self) -> None:
        """Of hosts that have none nothing is kept."""
        counts = HostCounts()
        for host in ("a", "b", "a"):
            counts.add(host)
        self.assertEqual([counts.of(host) for host in "abc"], [2, 1, 0])
        for host in ("a", "b", "a"):
            counts.remove(host)
        counts.put("c", 3)
        counts.put("c", 0)
        counts.put("d", 0)
        self.assertEqual(len(counts), 0)
        self.assertRaises(KeyError, counts.remove, "a")


class SeldomTests(SynchronousTestCase):
    """Nobody fills the log by being turned away again and again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.seldom = Seldom(self.clock.seconds)

    def test_first(self) -> None:
        """The first of each host at once, and then how many there were."""
        self.assertEqual(self.seldom.note("a"), 1)
        self.assertEqual([self.seldom.note("a") for _ in range(5)], [0] * 5)
        self.assertEqual(self.seldom.note("b"), 1)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.seldom.note("a"), 6)
        self.assertEqual(self.seldom.note("a"), 0)

    def test_manyHosts(self) -> None:
        """Of a thousand, most are told of together; nothing grows."""
        told = [self.seldom.note(str(number)) for number in range(1000)]
        self.assertEqual(told[:100], [1] * 100)
        self.assertEqual(sum(told), 101)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.seldom.note("new"), 1)
        self.assertLess(len(self.seldom._last), 10)
        self.assertLess(len(self.seldom._counts), 10)

    def test_clockPutBack(self) -> None:
        """It silences nobody."""
        self.clock.advance(1000)
        self.seldom.note("a")
        self.clock.rightNow = 5.0
        self.assertEqual(self.seldom.note("a"), 1)

    def test_words(self) -> None:
        """One is no number of them."""
        self.assertEqual(tellOfMany(1), "")
        self.assertEqual(tellOfMany(7), " (7 since the last such line)")


class ClosedTests(SynchronousTestCase):
    """What the log has of connections that are closed at once."""

    def test_lines(self) -> None:
        """One a minute, with the number of them."""
        events: list[Any] = []
        clock, log = Clock(), Logger("test", observer=LogPublisher(events.append))
        closed = ClosedConnections(log, clock.seconds)
        for _ in range(4):
            closed.note("192.0.2.7", "3 are open")
        clock.advance(INTERVAL)
        closed.note("192.0.2.7", "3 are open")
        line = "connection from 192.0.2.7 closed: 3 are open"
        self.assertEqual(
            [formatEvent(event) for event in events],
            [line, f"{line} (4 since the last such line)"],
        )
