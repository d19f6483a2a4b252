"""Tests for L{d360.metrics.merging}: several processes as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.interfaces import (
    IAssociations,
    ILiveAssociations,
    IRates,
    IRecentEvents,
    IWorkers,
)
from d360.metrics.counters import Metrics
from d360.metrics.exposition import Exposition, Reading
from d360.metrics.merging import (
    ASSOCIATIONS,
    COUNTERS,
    RATES,
    AllAssociations,
    AllEvents,
    AllRates,
    NoAssociations,
    NoWorkers,
    associationsOf,
    countersOf,
    merge,
    ratesOf,
    total,
    withWorkers,
)
from d360.metrics.rates import INTERVALS
from d360.metrics.values import LiveAssociation, LogEvent, WorkerState

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@implementer(IWorkers)
class Workers:
    """
    Who has said something.

    @ivar answers: by question; each passes through JSON.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = json.loads(json.dumps(answers))

    def states(self) -> tuple[WorkerState, ...]:
        return ()

    def refresh(self, what: str) -> Deferred[None]:
        return succeed(None)

    def said(self, what: str) -> Sequence[Any]:
        found: Sequence[Any] = self.answers.get(what, [])
        return found


class NothingTests(SynchronousTestCase):
    """Where there is one process only."""

    def test_interfaces(self) -> None:
        """They are what they say."""
        verifyObject(IWorkers, NoWorkers())
        verifyObject(IAssociations, NoAssociations())
        self.successResultOf(NoWorkers().refresh(COUNTERS))
        self.assertEqual((NoWorkers().states(), NoWorkers().said(RATES)), ((), ()))


class CountersTests(SynchronousTestCase):
    """What is counted is added up."""

    def metrics(self) -> Metrics:
        """A process that has done one of each."""
        metrics = Metrics(Clock())
        metrics.connectionRefused()
        metrics.associationRejected(1, 1, 7)
        metrics.associationRequested("accepted")
        metrics.operationEnded("C-STORE", 0, 0.002, 100)
        metrics.operationEnded("C-FIND", 0xA700, 3.0, 0)
        metrics.operationEnded("C-MOVE", None, 1000.0, 0)
        metrics.subOperationsEnded(3, 1, 50)
        metrics.bytesReceived(10)
        metrics.bytesSent(20)
        return metrics

    def text(self, work: Any) -> str:
        return Exposition(lambda: work, []).text(True, None).decode()

    def test_total(self) -> None:
        """Three that did the same did three times as much."""
        own = self.metrics()
        answer = countersOf(self.metrics(), [])
        workers = Workers(counters=[answer, answer])
        found = self.text(total(own, workers.said(COUNTERS)))
        for line in (
            "d360_connections_refused_total 3.0",
            'd360_associations_rejected_total{reason="called AE title"} 3.0',
            'd360_associations_requested_total{outcome="accepted"} 3.0',
            'd360_operation_duration_seconds_count{service="C-STORE"} 3.0',
            'd360_operations_total{class="failure",service="C-FIND",status="A700"} 3.0',
            'd360_operations_total{class="lost",service="C-MOVE",status="none"} 3.0',
            'd360_operation_duration_seconds_sum{service="C-FIND"} 9.0',
            "d360_instances_stored_bytes_total 300.0",
            'd360_suboperations_total{outcome="failed"} 3.0',
            "d360_received_bytes_total 30.0",
        ):
            self.assertIn(f"{line}\n", found)
        # And ours is as it was.
        self.assertEqual(own.stored, 1)

    def test_alone(self) -> None:
        """One alone is what it was."""
        own = self.metrics()
        self.assertEqual(self.text(total(own, [])), self.text(own))

    def test_readings(self) -> None:
        """By name and labels."""
        theirs = [
            Reading("a", "A.", lambda: 3, {"queue": "disk"}),
            Reading("b", "B.", lambda: 5, isCounter=True),
        ]
        ours = [
            Reading("a", "A.", lambda: 1, {"queue": "disk"}),
            Reading("a", "A.", lambda: 1, {"queue": "index"}),
            Reading("b", "B.", lambda: 1, {}, True),
        ]
        answer = countersOf(Metrics(Clock()), theirs)
        workers = Workers(counters=[answer, answer])
        values = [r.read() for r in withWorkers(ours, workers)]
        self.assertEqual(values, [7, 1, 11])

    def test_dead(self) -> None:
        """What grew stays, what was is gone."""
        readings = [
            Reading("a", "A.", lambda: 3),
            Reading("b", "B.", lambda: 5, isCounter=True),
        ]
        answer = json.loads(json.dumps(countersOf(self.metrics(), readings)))
        workers = Workers(counters=[merge(COUNTERS, [answer, answer])])
        values = [r.read() for r in withWorkers(readings, workers)]
        self.assertEqual(values, [3, 15])
        own = Metrics(Clock())
        self.assertEqual(total(own, workers.said(COUNTERS)).stored, 2)


class RatesTests(SynchronousTestCase):
    """Interval by interval."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOON.timestamp())

    def test_added(self) -> None:
        """One that began later has no share in what was before."""
        old = Metrics(self.clock)
        old.operationEnded("C-STORE", 0, 0.0, 100)
        self.clock.advance(120)
        new = Metrics(self.clock)
        for metrics in (old, new):
            metrics.operationEnded("C-STORE", 0, 0.0, 10)
        workers = Workers(rates=[ratesOf(new.rates)])
        rates = AllRates(old.rates, workers)
        verifyObject(IRates, rates)
        history = rates.history()
        self.assertEqual((history.start, history.interval), (NOON, 60))
        self.assertEqual(history.stored, (1, 0, 2))
        self.assertEqual(history.bytes, (100, 0, 20))
        # The other way round it is the same.
        other = AllRates(new.rates, Workers(rates=[ratesOf(old.rates)]))
        self.assertEqual(other.history(), history)

    def test_dead(self) -> None:
        """One that has died a while ago; no more is kept than of one."""
        dead = Metrics(self.clock)
        dead.operationEnded("C-STORE", 0, 0.0, 100)
        kept = merge(RATES, [ratesOf(dead.rates), ratesOf(dead.rates)])
        rates = AllRates(Metrics(self.clock).rates, Workers(rates=[kept]))
        self.assertEqual(rates.history().stored, (2,))
        self.clock.advance(60 * (INTERVALS + 5))
        history = rates.history()
        self.assertEqual(len(history.stored), INTERVALS)
        self.assertEqual(sum(history.stored), 0)


@implementer(ILiveAssociations)
class Live:
    """Some of a process."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def newest(self, count: int) -> tuple[LiveAssociation, ...]:
        return tuple(
            LiveAssociation(
                number,
                "CT01",
                "D360PACS",
                "::1",
                NOON + timedelta(seconds=number),
                "C-STORE",
                {"C-STORE": number},
            )
            for number in self.numbers
        )


class AssociationsTests(SynchronousTestCase):
    """Those of all workers."""

    def test_newest(self) -> None:
        """Established last, whoever has them."""
        first, second = Live(1, 4, 7), Live(2, 5)
        workers = Workers(associations=[associationsOf(first), associationsOf(second)])
        found = AllAssociations(workers)
        verifyObject(ILiveAssociations, found)
        newest = found.newest(3)
        self.assertEqual([one.number for one in newest], [7, 5, 4])
        self.assertEqual(newest[0], first.newest(9)[-1])

    def test_dead(self) -> None:
        """Of one that has died there is none."""
        self.assertEqual(merge(ASSOCIATIONS, [associationsOf(Live(1))]), [])


@implementer(IRecentEvents)
class Recent:
    """Our own."""

    def recent(self) -> tuple[LogEvent, ...]:
        return (
            LogEvent(NOON + timedelta(seconds=3), "error", "3"),
            LogEvent(NOON + timedelta(seconds=1), "warn", "1"),
        )


class EventsTests(SynchronousTestCase):
    """Those of all processes, by time."""

    def test_order(self) -> None:
        """The latest first, and not too many."""
        events = AllEvents(Recent())
        verifyObject(IRecentEvents, events)
        events.add(LogEvent(NOON + timedelta(seconds=2), "warn", "2"))
        self.assertEqual([event.text for event in events.recent()], ["3", "2", "1"])
        for number in range(200):
            events.add(LogEvent(NOON + timedelta(seconds=9), "warn", f"n{number}"))
        found = [event.text for event in events.recent()]
        self.assertEqual(len(found), 100)
        self.assertEqual(found[:2], ["n199", "n198"])
