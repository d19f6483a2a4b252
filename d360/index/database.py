"""The index in PostgreSQL: L{d360.interfaces.IIndex} over its connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import DatabaseError, DatabaseUnavailable
from d360.index import results, sql
from d360.index.pool import ConnectionPool
from d360.index.registrar import Registrar
from d360.index.rows import clean, registrationRow
from d360.interfaces import IIndex, IMatches, IStoredInstances
from d360.model import (
    Announcement,
    DatabaseState,
    Duplicates,
    Extent,
    InstanceRecord,
    Location,
    NumberedInstance,
    Query,
    Registration,
    StoredInstance,
    Totals,
)

#: Seconds for which totals are not asked for again, at least; and how many
#: times longer than the answer took.
TOTALS_AGE = 2.0
_TOTALS_REST = 20

#: Connections that read.
READERS = 4


@implementer(IIndex)
class PostgreSQLIndex:
    """
    The index of an archive, in a database that L{migrate
    <d360.index.migration.checkAndMigrate>} has prepared.

    @param dsn: the database, see L{ConnectionPool}.
    @param kind: C{"embedded"} or C{"external"}, for L{state}.
    @param readers: connections for queries; one more is for registrations,
        so that these never wait behind a long query.
    @param writer: the name of this process among those on this database.
    @ivar writing: that one, for whatever else is short.
    """

    def __init__(
        self,
        reactor: Any,
        dsn: str | Callable[[], str],
        kind: str = "external",
        readers: int = READERS,
        writer: str = "",
    ) -> None:
        self._reactor = reactor
        self._kind = kind
        self.reading = ConnectionPool(reactor, dsn, readers)
        self.writing = ConnectionPool(reactor, dsn, 1)
        self.registrar = Registrar(reactor, self.writing, writer)
        self._totals: Totals | None = None
        self._totalsUntil = 0.0
        self._version = ""
        self._schema = 0

    def close(self) -> None:
        """Drop the connections. A plain call; the index is of no more use."""
        self.registrar.close()
        self.reading.close()
        self.writing.close()

    def register(
        self, record: InstanceRecord, location: Location, duplicates: Duplicates
    ) -> Deferred[Registration]:
        return self.registrar.register(
            registrationRow(record, location, duplicates, False)
        )

    def relocate(
        self, record: InstanceRecord, location: Location
    ) -> Deferred[Registration]:
        return self.registrar.register(
            registrationRow(record, location, Duplicates.REPLACE, True)
        )

    def announce(
        self, record: InstanceRecord, location: Location
    ) -> Deferred[Announcement | None]:
        return self.registrar.announce(registrationRow(record, location, None, False))

    def confirm(self, announcement: Announcement) -> None:
        self.registrar.confirm(announcement)

    def unconfirmed(self) -> Deferred[tuple[StoredInstance, ...]]:
        return results.unconfirmed(self.reading)

    @asynchronous
    async def confirmAll(self) -> None:
        await self.writing.query("all confirmed", sql.ALL_CONFIRMED, repeatable=False)

    def match(self, query: Query) -> IMatches:
        return results.Matches(self.reading, query)

    def locate(self, query: Query) -> IStoredInstances:
        return results.StoredInstances(self.reading, query)

    @asynchronous
    async def storedAt(self, location: Location) -> StoredInstance | None:
        # Two statements, for the second must see what the first has waited for.
        rows = await self.reading.query("is at", sql.isAt(location.path))
        if not rows[0][0]:
            return None
        rows = await self.reading.query("stored at", sql.storedAt(location.path))
        return results.storedInstance(rows[0]) if rows else None

    def locationsBelow(self, folder: str) -> Deferred[tuple[Location, ...]]:
        return results.locationsBelow(self.reading, clean(folder))

    @asynchronous
    async def extent(self, after: int) -> Extent:
        rows = await self.reading.query("extent", sql.extent(after))
        return Extent(*rows[0])

    @asynchronous
    async def instancesAfter(
        self, number: int, count: int
    ) -> tuple[NumberedInstance, ...]:
        rows = await self.reading.query(
            "instances after", sql.instancesAfter(number, count)
        )
        return tuple(
            NumberedInstance(row[0], results.storedInstance(row[1:])) for row in rows
        )

    @asynchronous
    async def forget(self, location: Location) -> bool:
        rows = await self.writing.query(
            "forget", sql.forget(location.path), repeatable=False
        )
        return bool(rows[0][0])

    @asynchronous
    async def totals(self) -> Totals:
        began = self._reactor.seconds()
        if self._totals is None or began >= self._totalsUntil:
            rows = await self.reading.query("totals", sql.TOTALS)
            self._totals = Totals(*rows[0])
            now = self._reactor.seconds()
            self._totalsUntil = now + max(TOTALS_AGE, _TOTALS_REST * (now - began))
        return self._totals

    @asynchronous
    async def state(self) -> DatabaseState:
        try:
            # Who asks wants to know now, and not when patience is at its end.
            if self.reading.isAway:
                raise DatabaseUnavailable("it is away")
            rows = await self.reading.query("state", sql.STATE)
        except DatabaseError:
            available = False
        else:
            available = True
            self._version, self._schema = rows[0][0], rows[0][1]
        return DatabaseState(available, self._kind, self._version, self._schema)
