"""
The counters of the server's work. They are plain numbers, added to from the
reactor's thread only: what a general library does for each of them, a lock
among other things, would cost ten times as much, and they are read once in many
seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from d360.dimse.status import CANCEL, SUCCESS, isWarning
from d360.interfaces import IMetrics
from d360.metrics.rates import FAILED, QUERIES, RETRIEVED, STORED, Rates

#: Upper ends of the durations' buckets, in seconds: a C-ECHO takes less than
#: the first, a C-MOVE of a large study minutes.
BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)


def classOf(status: int | None) -> str:
    """What a final status means, in a word (PS3.7 Annex C)."""
    if status is None:
        return "lost"
    if status == SUCCESS:
        return "success"
    if status == CANCEL:
        return "cancel"
    return "warning" if isWarning(status) else "failure"


class Tally:
    """
    The operations of one service.

    @ivar statuses: how many ended with each status; C{None} for those whose
        association was lost before.
    @ivar buckets: how many took up to each of L{BOUNDS}, and longer.
    @ivar seconds: how long they took together.
    """

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int | None, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class Work:
    """
    What was done since the start.

    @ivar operations: by the name of the service.
    @ivar rejected: associations, by result, source and reason.
    @ivar requested: associations that we requested, by outcome.
    """

    def __init__(self) -> None:
        self.operations: dict[str, Tally] = {}
        self.rejected: Counter[tuple[int, int, int]] = Counter()
        self.refusedConnections = 0
        self.requested: Counter[str] = Counter()
        self.received = 0
        self.sent = 0
        self.stored = 0
        self.storedBytes = 0
        self.subOperationsCompleted = 0
        self.subOperationsFailed = 0
        self.retrievedBytes = 0


@implementer(IMetrics)
class Metrics(Work):
    """
    See L{IMetrics}.

    @ivar rates: the last day's work.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self.rates = Rates(clock)

    def associationRejected(self, result: int, source: int, reason: int) -> None:
        self.rejected[result, source, reason] += 1

    def connectionRefused(self) -> None:
        self.refusedConnections += 1

    def associationRequested(self, outcome: str) -> None:
        self.requested[outcome] += 1

    def operationEnded(
        self, service: str, status: int | None, seconds: float, size: int
    ) -> None:
        tally = self.operations.get(service)
        if tally is None:
            tally = self.operations[service] = Tally()
        statuses = tally.statuses
        statuses[status] = statuses.get(status, 0) + 1
        tally.buckets[bisect_left(BOUNDS, seconds)] += 1
        tally.seconds += seconds
        if service == "C-FIND":
            self.rates.add(QUERIES, 1)
        if status == SUCCESS:
            if service == "C-STORE":
                self.stored += 1
                self.storedBytes += size
                self.rates.add(STORED, 1, size)
        elif classOf(status) in ("failure", "lost"):
            self.rates.add(FAILED, 1)

    def subOperationsEnded(self, completed: int, failed: int, size: int) -> None:
        self.subOperationsCompleted += completed
        self.subOperationsFailed += failed
        self.retrievedBytes += size
        if completed:
            self.rates.add(RETRIEVED, completed)

    def bytesReceived(self, count: int) -> None:
        self.received += count

    def bytesSent(self, count: int) -> None:
        self.sent += count
