"""Storage commitments in memory, for the unit tests of what uses them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import DatabaseUnavailable
from d360.index.sql import MAX_COMMITMENTS
from d360.interfaces import ICommitmentRequests
from d360.model import CommitmentRequest, PendingCommitment

#: Seconds for which it stays true what was found.
_CHECK_HOLDS = 86400


@implementer(ICommitmentRequests)
class MemoryCommitmentRequests:
    """
    See L{ICommitmentRequests}.

    @param clock: tells the time.
    @ivar away: as if the database were.
    @ivar most: requests of one AE title.
    """

    def __init__(self, clock: Any) -> None:
        self.away = False
        self.most = MAX_COMMITMENTS
        self._clock = clock
        self._last = 0
        self._kept: dict[int, CommitmentRequest] = {}
        self._dueAt: dict[int, float] = {}
        self._addedAt: dict[int, float] = {}
        self._checkedAt: dict[int, float] = {}
        # Why it could not be told, and when; None while somebody sees to it.
        self._failures: dict[int, str | None] = {}
        self._failedAt: dict[int, float] = {}

    def _reach(self) -> None:
        if self.away:
            raise DatabaseUnavailable("the database is away")

    def _now(self) -> float:
        return float(self._clock.seconds())

    @asynchronous
    async def add(
        self, request: CommitmentRequest, patience: float
    ) -> CommitmentRequest | None:
        self._reach()
        ours = [k for k in self._kept.values() if k.aeTitle == request.aeTitle]
        if len(ours) >= self.most:
            return None
        name = request.aeTitle, request.transactionUID
        for identifier, kept in list(self._kept.items()):
            if (kept.aeTitle, kept.transactionUID) == name:
                del self._kept[identifier]
        self._last += 1
        kept = evolve(request, identifier=self._last)
        self._kept[self._last] = kept
        self._addedAt[self._last] = self._now()
        self._dueAt[self._last] = self._now() + patience
        return kept

    @asynchronous
    async def due(
        self, patience: float, without: Collection[str] = ()
    ) -> CommitmentRequest | None:
        self._reach()
        due = [
            i
            for i, one in self._kept.items()
            if self._dueAt[i] <= self._now() and one.aeTitle not in without
        ]
        if not due:
            return None
        identifier = min(due, key=lambda i: (self._dueAt[i], i))
        kept = self._kept[identifier]
        self._dueAt[identifier] = self._now() + patience
        self._failures[identifier] = None
        self._kept[identifier] = kept = evolve(kept, attempts=kept.attempts + 1)
        if self._now() - self._checkedAt.get(identifier, 0) > _CHECK_HOLDS:
            kept = evolve(kept, reasons=None)
        return evolve(kept, age=self._now() - self._addedAt[identifier])

    @asynchronous
    async def renew(self, request: CommitmentRequest, patience: float) -> bool:
        self._reach()
        kept = self._kept.get(request.identifier)
        if kept is None or kept.attempts != request.attempts:
            return False
        self._dueAt[request.identifier] = self._now() + patience
        return True

    @asynchronous
    async def postpone(self, identifier: int, patience: float, why: str = "") -> None:
        self._reach()
        self._dueAt[identifier] = self._now() + patience
        self._failures[identifier] = why
        if why:
            self._failedAt[identifier] = self._now()

    @asynchronous
    async def putOff(self, aeTitle: str, patience: float) -> None:
        self._reach()
        for identifier, one in self._kept.items():
            if one.aeTitle == aeTitle and not self._isUnderWay(identifier):
                dueAt = self._dueAt[identifier]
                self._dueAt[identifier] = max(dueAt, self._now() + patience)

    @asynchronous
    async def retry(self, identifier: int) -> bool:
        self._reach()
        if identifier in self._kept and not self._isUnderWay(identifier):
            self._dueAt[identifier] = self._now()
        return identifier in self._kept

    def _isUnderWay(self, identifier: int) -> bool:
        isHeld = self._failures.get(identifier) is None
        return isHeld and self._dueAt[identifier] > self._now()

    @asynchronous
    async def checked(self, identifier: int, reasons: Sequence[int]) -> None:
        self._reach()
        if identifier in self._kept:
            kept = self._kept[identifier]
            self._kept[identifier] = evolve(kept, reasons=tuple(reasons))
            self._checkedAt[identifier] = self._now()

    @asynchronous
    async def remove(self, identifier: int) -> bool:
        self._reach()
        return self._kept.pop(identifier, None) is not None

    @asynchronous
    async def all(self, count: int) -> tuple[PendingCommitment, ...]:
        self._reach()
        return tuple(self._pending(i) for i in sorted(self._kept)[:count])

    def _pending(self, identifier: int) -> PendingCommitment:
        kept, failure = self._kept[identifier], self._failures.get(identifier) or ""
        failedAt = self._failedAt.get(identifier)
        return PendingCommitment(
            identifier,
            kept.aeTitle,
            kept.transactionUID,
            len(kept.references),
            kept.attempts,
            _timeOf(self._addedAt[identifier]),
            _timeOf(self._dueAt[identifier]),
            self._isUnderWay(identifier),
            None if failedAt is None else _timeOf(failedAt),
            failure,
        )


def _timeOf(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
