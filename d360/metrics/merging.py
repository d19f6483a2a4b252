"""
What several processes have counted, added up. A process says it in plain values
that JSON has; only what grows outlives the process that has counted it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import asdict, evolve
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from d360.interfaces import (
    IAssociations,
    ILiveAssociations,
    IRates,
    IRecentEvents,
    IWorkers,
)
from d360.metrics.counters import Tally, Work
from d360.metrics.exposition import Reading
from d360.metrics.rates import INTERVALS
from d360.metrics.values import LiveAssociation, LogEvent, RateHistory, WorkerState

#: The questions to a worker, see L{IWorkers.refresh}.
COUNTERS, RATES, ASSOCIATIONS = "counters", "rates", "associations"

#: Associations that one process names at most.
_NAMED = 100

#: Events that are kept of all processes but our own.
_KEPT = 100

#: What L{Work} counts in one number.
_PLAIN = (
    "refusedConnections",
    "received",
    "sent",
    "stored",
    "storedBytes",
    "subOperationsCompleted",
    "subOperationsFailed",
    "retrievedBytes",
)

#: The lists of L{RateHistory}.
_LISTS = ("stored", "bytes", "queries", "retrieved", "failed")


@implementer(IWorkers)
class NoWorkers:
    """See L{IWorkers}: all is done in this process."""

    def states(self) -> tuple[WorkerState, ...]:
        """See L{IWorkers.states}."""
        return ()

    def refresh(self, what: str) -> Deferred[None]:
        """See L{IWorkers.refresh}."""
        return succeed(None)

    def said(self, what: str) -> Sequence[Any]:
        """See L{IWorkers.said}."""
        return ()


@implementer(IAssociations)
class NoAssociations:
    """See L{IAssociations}: this process has none."""

    live = accepted = 0


# --- counters


def countersOf(work: Work, readings: Sequence[Reading]) -> dict[str, Any]:
    """The answer to L{COUNTERS}."""
    return {
        "work": _workOf(work),
        "grown": {_keyOf(r): r.read() for r in readings if r.isCounter},
        "now": {_keyOf(r): r.read() for r in readings if not r.isCounter},
    }


def _workOf(work: Work) -> dict[str, Any]:
    return {
        "plain": {name: getattr(work, name) for name in _PLAIN},
        "rejected": [[*key, n] for key, n in work.rejected.items()],
        "requested": dict(work.requested),
        "operations": {
            service: [list(tally.statuses.items()), tally.buckets, tally.seconds]
            for service, tally in work.operations.items()
        },
    }


def _add(total: Work, work: dict[str, Any]) -> None:
    for name in _PLAIN:
        setattr(total, name, getattr(total, name) + work["plain"][name])
    for result, source, reason, count in work["rejected"]:
        total.rejected[result, source, reason] += count
    total.requested.update(work["requested"])
    for service, (statuses, buckets, seconds) in work["operations"].items():
        tally = total.operations.setdefault(service, Tally())
        for status, count in statuses:
            tally.statuses[status] = tally.statuses.get(status, 0) + count
        tally.buckets = [a + b for a, b in zip(tally.buckets, buckets, strict=True)]
        tally.seconds += seconds


def total(own: Work, answers: Iterable[dict[str, Any]]) -> Work:
    """Ours, and what the workers have answered to L{COUNTERS}."""
    found = Work()
    _add(found, _workOf(own))
    for answer in answers:
        _add(found, answer["work"])
    return found


def _keyOf(reading: Reading) -> str:
    return " ".join([reading.name, *reading.labels.values()])


def _addUp(numbers: Iterable[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in numbers:
        for key, value in each.items():
            found[key] = found.get(key, 0) + value
    return found


def withWorkers(readings: Sequence[Reading], workers: IWorkers) -> list[Reading]:
    """Each of them for all processes."""

    def added(reading: Reading) -> Callable[[], float]:
        key, part = _keyOf(reading), "grown" if reading.isCounter else "now"
        return lambda: (
            reading.read()
            + sum(answer[part].get(key, 0) for answer in workers.said(COUNTERS))
        )

    return [evolve(reading, read=added(reading)) for reading in readings]


# --- rates


def ratesOf(rates: IRates) -> dict[str, Any]:
    """The answer to L{RATES}."""
    history = rates.history()
    return {
        "interval": history.interval,
        "start": history.start.timestamp(),
        **{name: list(getattr(history, name)) for name in _LISTS},
    }


def _addRates(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """
    Interval by interval. All begin with a whole one of the same clock, which
    somebody may set, so that no more are kept than one process keeps.
    """
    step = answers[0]["interval"]
    end = max(one["start"] + step * len(one["stored"]) for one in answers)
    start = min(one["start"] for one in answers)
    count = min(round((end - start) / step), INTERVALS)
    start = end - step * count
    found = {name: [0] * count for name in _LISTS}
    for one in answers:
        shift = round((one["start"] - start) / step)
        for name in _LISTS:
            for place, value in enumerate(one[name], shift):
                if place >= 0:
                    found[name][place] += value
    return {"interval": step, "start": start, **found}


@implementer(IRates)
class AllRates:
    """See L{IRates}, for all processes."""

    def __init__(self, own: IRates, workers: IWorkers) -> None:
        self._own = own
        self._workers = workers

    def history(self) -> RateHistory:
        """See L{IRates.history}."""
        found = _addRates([ratesOf(self._own), *self._workers.said(RATES)])
        return RateHistory(
            found["interval"],
            datetime.fromtimestamp(found["start"], UTC),
            *(tuple(found[name]) for name in _LISTS),
        )


# --- associations


def associationsOf(each: ILiveAssociations) -> list[dict[str, Any]]:
    """The answer to L{ASSOCIATIONS}."""
    return [
        asdict(one) | {"since": one.since.timestamp()} for one in each.newest(_NAMED)
    ]


@implementer(ILiveAssociations)
class AllAssociations:
    """See L{ILiveAssociations}, for all workers; our own process has none."""

    def __init__(self, workers: IWorkers) -> None:
        self._workers = workers

    def newest(self, count: int) -> tuple[LiveAssociation, ...]:
        """See L{ILiveAssociations.newest}."""
        found = [
            LiveAssociation(
                **one | {"since": datetime.fromtimestamp(one["since"], UTC)}
            )
            for answer in self._workers.said(ASSOCIATIONS)
            for one in answer
        ]
        found.sort(key=lambda one: one.since, reverse=True)
        return tuple(found[:count])


# --- what outlives a worker


def merge(what: str, answers: Sequence[Any]) -> Any:
    """What is kept of workers that have died, of which the last has just."""
    if what == COUNTERS:
        work = Work()
        for answer in answers:
            _add(work, answer["work"])
        grown = _addUp(answer["grown"] for answer in answers)
        return {"work": _workOf(work), "grown": grown, "now": {}}
    return _addRates(answers) if what == RATES else []


# --- warnings and errors


@implementer(IRecentEvents)
class AllEvents:
    """
    See L{IRecentEvents}, for all processes.

    @param own: those of this one.
    """

    def __init__(self, own: IRecentEvents) -> None:
        self._own = own
        self._others: list[LogEvent] = []

    def add(self, event: LogEvent) -> None:
        """Another process has logged it."""
        self._others = [*self._others[1 - _KEPT :], event]

    def recent(self) -> tuple[LogEvent, ...]:
        """See L{IRecentEvents.recent}."""
        found = [*self._own.recent(), *reversed(self._others)]
        found.sort(key=lambda event: event.time, reverse=True)
        return tuple(found[:_KEPT])
