"""
The answers to a query, pulled batch by batch. Between two batches nothing is
held in the database: a batch begins where the one before it ended. One is
fetched ahead of the one that is asked for, and no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.index import pages, sql
from d360.index.pool import ConnectionPool
from d360.interfaces import IMatches, IStoredInstances
from d360.model import Location, Match, Query, StoredInstance

#: The first batch is small, so that the first match leaves at once. The others
#: are no larger than can be encoded while other associations wait.
FIRST_BATCH = 50
NEXT_BATCH = 100

#: As many entities are found first, in whatever order, and kept as IDs.
FEW = 5000

#: If there are more, so many of the newest patients or studies are looked at; and
#: where the first page is not full then, so many are found and kept.
NEWEST = 20000
MANY = 100000

#: Instances to retrieve, and locations, that are fetched at once.
INSTANCES = 500
LOCATIONS = 5000


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


class _Pages:
    """
    The pages of what matches, one after the other.

    @ivar complete: there are no more.
    @ivar _rest: the IDs of those that are still to come, where they were few, as
        the text that they came in: to part all of it at once would take long.
    @ivar _after: else where the page before has ended.
    """

    def __init__(self, questions: _Questions, query: Query) -> None:
        self.complete = False
        self._questions = questions
        self._query = query
        self._isWalk = pages.isWalk(query)
        self._rest: str | None = None
        self._after: pages.Position = ()
        self._size = FIRST_BATCH

    @asynchronous
    async def next(self) -> tuple[Match, ...]:
        """
        The next one. It may be empty though more are to come: all of a page
        may have been removed since it was found.
        """
        if self._rest is not None:
            found = await self._details()
        elif self._isWalk:
            found = await self._walked()
        else:
            found = await self._found()
        self._size = NEXT_BATCH
        return found

    @asynchronous
    async def _found(self) -> tuple[Match, ...]:
        found = await self._foundUpTo(FEW)
        if found is None and pages.canProbe(self._query):
            rows = await self._questions.query(
                "match: probe", pages.probe(self._query, NEWEST, self._size)
            )
            if len(rows) == self._size:
                self._isWalk = True
                return self._on(rows)
        if found is None and not pages.hasDates(self._query):
            found = await self._foundUpTo(MANY)
        if found is None:
            self._isWalk = True
            return await self._walked()
        return found

    @asynchronous
    async def _foundUpTo(self, number: int) -> tuple[Match, ...] | None:
        """
        The first of all that match, with the others as IDs; C{None} if they
        are more.
        """
        rows = await self._questions.query(
            "match: find", pages.found(self._query, number, self._size)
        )
        ids = ""
        values = []
        for row in rows:
            if row[0] is None:
                values.append(row[1:])
            else:
                ids = row[0]
        if ids.count(" ") >= number:
            return None
        _, self._rest = _cut(ids, self._size)
        self.complete = not self._rest
        return self._matches(values)

    @asynchronous
    async def _details(self) -> tuple[Match, ...]:
        assert self._rest is not None
        ids, self._rest = _cut(self._rest, self._size)
        self.complete = not self._rest
        rows = await self._questions.query(
            "match: details", pages.details(self._query, ids)
        )
        return self._matches(rows)

    @asynchronous
    async def _walked(self) -> tuple[Match, ...]:
        rows = await self._questions.query(
            "match: walk", pages.walk(self._query, self._after, self._size)
        )
        self.complete = len(rows) < self._size
        return self._on(rows)

    def _on(self, rows: Sequence[tuple[Any, ...]]) -> tuple[Match, ...]:
        """The matches of a page of the walk, which goes on behind it."""
        length = pages.positionLength(self._query)
        if rows:
            self._after = rows[-1][:length]
        return self._matches([row[length:] for row in rows])

    def _matches(self, rows: Sequence[tuple[Any, ...]]) -> tuple[Match, ...]:
        if not self._query.returned:
            return (Match(()),) * len(rows)
        return tuple(map(Match, rows))


def _cut(ids: str, count: int) -> tuple[list[str], str]:
    """The first of some IDs with a space between, and the others."""
    parts = ids.split(" ", count)
    return parts[:count], "".join(parts[count:])


@implementer(IMatches)
class Matches:
    """
    The entities that match a query.

    @ivar _ahead: the page after the one given last: the database is at work on
        it while that one is being sent.
    """

    def __init__(self, pool: ConnectionPool, query: Query) -> None:
        self._questions = _Questions(pool)
        self._pages = _Pages(self._questions, query)
        self._ahead: Deferred[tuple[Match, ...]] | None = None

    @asynchronous
    async def nextBatch(self) -> tuple[Match, ...]:
        while self._questions.wanted:
            page, self._ahead = self._ahead, None
            if page is None:
                if self._pages.complete:
                    break
                page = self._pages.next()
            matches = await page
            if matches and self._questions.wanted:
                if not self._pages.complete:
                    self._ahead = self._pages.next()
                return matches
        return ()

    def close(self) -> None:
        self._questions.wanted = False
        if self._ahead is not None:
            # Nobody is there for a failure.
            self._ahead.addErrback(lambda _: None)


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
            "locate: walk", sql.nextSeries(self._query, self._last, INSTANCES)
        )
        self._found.extend((row[0], row[1]) for row in rows)
        self._complete = len(rows) < INSTANCES
        if rows:
            self._last = rows[-1][0]


def storedInstance(row: Sequence[Any]) -> StoredInstance:
    """A value of the columns that L{sql} has for one."""
    uid, sopClass, syntax, path, offset, size, digest = row
    location = Location(path, offset)
    return StoredInstance(uid, sopClass, syntax, location, size, bytes(digest))


@asynchronous
async def unconfirmed(pool: ConnectionPool) -> tuple[StoredInstance, ...]:
    """See L{d360.interfaces.IIndex.unconfirmed}."""
    found: list[StoredInstance] = []
    after = 0
    while True:
        rows = await pool.query("unconfirmed", sql.unconfirmed(after, INSTANCES))
        found += [storedInstance(row[1:]) for row in rows]
        if len(rows) < INSTANCES:
            return tuple(found)
        after = rows[-1][0]


@implementer(IStoredInstances)
class StoredInstances:
    """The instances below the entities that match a query."""

    def __init__(self, pool: ConnectionPool, query: Query) -> None:
        self._questions = _Questions(pool)
        self._query = query
        self._isNamed = sql.namesInstances(query)
        self._holding = _HoldingSeries(self._questions, query)
        self._series: Sequence[int] = ()
        self._after = sql.START
        self._closed = False

    @asynchronous
    async def nextBatch(self) -> tuple[StoredInstance, ...]:
        if self._isNamed and not self._closed:
            return await self._named()
        while not self._closed:
            if not self._series:
                self._series = await self._holding.take(INSTANCES)
                self._after = sql.START
                if not self._series:
                    self._closed = True
                    break
            rows = await self._questions.query(
                "locate: instances",
                sql.instancesOf(self._query, self._series, self._after, INSTANCES),
            )
            if len(rows) < INSTANCES:
                self._series = ()
            else:
                self._after = rows[-1][:3]
            if rows:
                return tuple(storedInstance(row[2:]) for row in rows)
        return ()

    @asynchronous
    async def _named(self) -> tuple[StoredInstance, ...]:
        rows = await self._questions.query(
            "locate: named", sql.namedInstances(self._query, self._after, INSTANCES)
        )
        self._closed = len(rows) < INSTANCES
        if rows:
            self._after = rows[-1][:3]
        return tuple(storedInstance(row[2:]) for row in rows)

    def close(self) -> None:
        self._closed = True
        self._questions.wanted = False


@asynchronous
async def locationsBelow(pool: ConnectionPool, folder: str) -> tuple[Location, ...]:
    """L{d360.interfaces.IIndex.locationsBelow}, fetched in pieces."""
    found: list[Location] = []
    last = 0
    while True:
        rows = await pool.query(
            "locations below", sql.pathsBelow(folder, last, LOCATIONS)
        )
        found.extend(Location(path, offset) for _, path, offset in rows)
        if len(rows) < LOCATIONS:
            return tuple(found)
        last = rows[-1][0]
