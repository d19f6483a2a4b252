"""The last day's work, minute by minute, in a ring of a fixed size."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from d360.interfaces import IRates
from d360.metrics.values import RateHistory

#: Seconds of an interval, and how many intervals are kept.
INTERVAL = 60
INTERVALS = 24 * 60

# What is counted, in the order of L{RateHistory}.
STORED, BYTES, QUERIES, RETRIEVED, FAILED = _KINDS = range(5)

_NOTHING = (0,) * len(_KINDS)


@implementer(IRates)
class Rates:
    """
    Counts by interval. An interval is a whole minute of the clock, so that the
    first and the last one are shorter.

    @param clock: tells the time of day.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._past: deque[tuple[int, ...]] = deque(maxlen=INTERVALS - 1)
        self._now = list(_NOTHING)
        self._from = self._clock.seconds() // INTERVAL * INTERVAL
        self._until = self._from + INTERVAL

    def add(self, kind: int, count: int, size: int = 0) -> None:
        """
        Count in the interval that is under way.

        @param size: bytes that were stored with it.
        """
        if not self._from <= self._clock.seconds() < self._until:
            self._turn()
        self._now[kind] += count
        self._now[BYTES] += size

    def _turn(self) -> None:
        """The interval is over, or somebody has put the clock back."""
        now = self._clock.seconds()
        if now < self._from:
            # The times of what is kept have become wrong.
            self._begin()
            return
        passed = int((now - self._from) // INTERVAL)
        if passed:
            self._past.append(tuple(self._now))
            self._past.extend([_NOTHING] * min(passed - 1, INTERVALS))
            self._now = list(_NOTHING)
            self._from += passed * INTERVAL
            self._until = self._from + INTERVAL

    def history(self) -> RateHistory:
        """See L{IRates.history}."""
        self._turn()
        rows = [*self._past, tuple(self._now)]
        start = self._from - INTERVAL * len(self._past)
        stored, size, queries, retrieved, failed = zip(*rows, strict=True)
        return RateHistory(
            INTERVAL,
            datetime.fromtimestamp(start, UTC),
            stored,
            size,
            queries,
            retrieved,
            failed,
        )
