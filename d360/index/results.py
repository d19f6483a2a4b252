"""
The answers to a query, pulled batch by batch. Between two batches nothing is
held in the database: a batch begins where the one before it ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.index import sql
from d360.index.pool import ConnectionPool
from d360.interfaces import IMatches, IStoredInstances
from d360.model import Location, Match, Query, StoredInstance

#: The first batch is small, so that the first match leaves at once.
FIRST_BATCH = 50
NEXT_BATCH = 500

#: As many entities are found first, in whatever order, and kept as IDs.
FEW = 5000


class _Questions:
    """
    What one query asks the database.

    @ivar wanted: whether its answers still are; then what has not been sent
        yet is not.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self.wanted = True
        self._pool = pool

    def query(
        self, name: str, statement: sql.Statement
    ) -> Deferred[list[tuple[Any, ...]]]:
        """L{ConnectionPool.query}; without rows when no answer is wanted."""
        return self._pool.query(name, statement, isWanted=lambda: self.wanted)


class _MatchingIDs:
    """
    The IDs of the entities that match, in order, slice by slice.

    @ivar _rest: those still to give; of a query with few matches all of them.
    @ivar _complete: no more than C{_rest} are to come.
    """

    def __init__(self, questions: _Questions, query: Query) -> None:
        self._questions = questions
        self._query = query
        self._rest: list[int] = []
        self._complete = False
        self._begun = False
        self._last: int | None = None

    @asynchronous
    async def take(self, count: int) -> Sequence[int]:
        """Up to C{count} more; none when there are no more."""
        if not self._begun:
            if self._query.conditions:
                await self._findFew()
            self._begun = True
        if self._complete:
            ids, self._rest = self._rest[:count], self._rest[count:]
            return ids
        rows = await self._questions.query(
            "match: walk", sql.nextIDs(self._query, self._last, count)
        )
        ids = [row[0] for row in rows]
        if len(ids) < count:
            self._complete = True
        if ids:
            self._last = ids[-1]
        return ids

    @asynchronous
    async def _findFew(self) -> None:
        rows = await self._questions.query(
            "match: find", sql.firstIDs(self._query, FEW + 1)
        )
        if len(rows) <= FEW:
            self._rest = sorted(
                (row[0] for row in rows), reverse=sql.newestFirst(self._query.level)
            )
            self._complete = True


@implementer(IMatches)
class Matches:
    """The entities that match a query."""

    def __init__(self, pool: ConnectionPool, query: Query) -> None:
        self._questions = _Questions(pool)
        self._query = query
        self._ids = _MatchingIDs(self._questions, query)
        self._size = FIRST_BATCH
        self._closed = False

    @asynchronous
    async def nextBatch(self) -> tuple[Match, ...]:
        width = len(self._query.returned)
        while not self._closed:
            ids = await self._ids.take(self._size)
            if not ids:
                self._closed = True
                break
            self._size = NEXT_BATCH
            rows = await self._questions.query(
                "match: details", sql.details(self._query, ids)
            )
            # All of a page may have been removed since it was found.
            if rows:
                return (
                    tuple(Match(row) for row in rows)
                    if width
                    else ((Match(()),) * len(rows))
                )
        return ()

    def close(self) -> None:
        self._closed = True
        self._questions.wanted = False


class _HoldingSeries:
    """
    The series that hold an instance asked for, in order, some at a time:
    together about as many instances as a batch takes.
    """

    def __init__(self, questions: _Questions, query: Query) -> None:
        self._questions = questions
        self._query = query
        self._found: deque[tuple[int, int]] = deque()
        self._complete = False
        self._last = 0

    @asynchronous
    async def take(self, instances: int) -> Sequence[int]:
        if not self._found and not self._complete:
            await self._find()
        taken: list[int] = []
        total = 0
        while self._found and (not taken or total + self._found[0][1] <= instances):
            series, count = self._found.popleft()
            taken.append(series)
            total += count
        return taken

    @asynchronous
    async def _find(self) -> None:
        if not self._last:
            rows = await self._questions.query(
                "locate: find", sql.firstSeries(self._query, FEW + 1)
            )
            if len(rows) <= FEW:
                self._found.extend(sorted((row[0], row[1]) for row in rows))
                self._complete = True
                return
        rows = await self._questions.query(
            "locate: walk", sql.nextSeries(self._query, self._last, NEXT_BATCH)
        )
        self._found.extend((row[0], row[1]) for row in rows)
        self._complete = len(rows) < NEXT_BATCH
        if rows:
            self._last = rows[-1][0]


@implementer(IStoredInstances)
class StoredInstances:
    """The instances below the entities that match a query."""

    def __init__(self, pool: ConnectionPool, query: Query) -> None:
        self._questions = _Questions(pool)
        self._query = query
        self._holding = _HoldingSeries(self._questions, query)
        self._series: Sequence[int] = ()
        self._after = sql.START
        self._closed = False

    @asynchronous
    async def nextBatch(self) -> tuple[StoredInstance, ...]:
        while not self._closed:
            if not self._series:
                self._series = await self._holding.take(NEXT_BATCH)
                self._after = sql.START
                if not self._series:
                    self._closed = True
                    break
            rows = await self._questions.query(
                "locate: instances",
                sql.instancesOf(self._query, self._series, self._after, NEXT_BATCH),
            )
            if len(rows) < NEXT_BATCH:
                self._series = ()
            else:
                self._after = rows[-1][:3]
            if rows:
                return tuple(
                    StoredInstance(
                        uid,
                        sopClass,
                        syntax,
                        Location(path, offset),
                        size,
                        bytes(digest),
                    )
                    for _, _, uid, sopClass, syntax, path, offset, size, digest in rows
                )
        return ()

    def close(self) -> None:
        self._closed = True
        self._questions.wanted = False


@asynchronous
async def locationsBelow(pool: ConnectionPool, folder: str) -> tuple[Location, ...]:
    """L{d360.interfaces.IIndex.locationsBelow}, fetched in pieces."""
    found: list[Location] = []
    last = 0
    while True:
        rows = await pool.query("locations below", sql.pathsBelow(folder, last, FEW))
        found.extend(Location(path, offset) for _, path, offset in rows)
        if len(rows) < FEW:
            return tuple(found)
        last = rows[-1][0]
