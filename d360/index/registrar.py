"""
Group commit: registrations that come in while a batch is being committed
share the next one, its round trip and its commit. With one caller each has
its own, at once; with many the disk is waited for once in each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from d360.asynchronous import asynchronous
from d360.errors import DatabaseError, DatabaseUnavailable
from d360.index import sql
from d360.index.pool import ConnectionPool, StatementRefused
from d360.index.rows import batch
from d360.logs import Logger
from d360.model import Announcement, Location, Outcome, Registration

#: Registrations in one batch at most.
LARGEST_BATCH = 256

#: The outcome of an announcement of what is there already.
_KNOWN = "known"

# Columns of the schema's type C{registered}.
_CONFLICT, _NUMBER = 5, 6

#: Seconds after which whoever is in doubt has found out.
_DOUBT = 3600.0


#: Seconds without anything to confirm after which the database is told so.
_QUIET = 1.0


@frozen(eq=False)
class _Entry:
    row: str
    done: Deferred[tuple[Any, ...]]


class Registrar:
    """
    Sends registrations, one batch at a time, and knows which of them wait to
    be confirmed.

    @param pool: where a connection is free for it; one of its own, best.
    @param writer: the name of this process among those that write.
    """

    log = Logger()

    def __init__(self, reactor: Any, pool: ConnectionPool, writer: str) -> None:
        self._reactor = reactor
        self._pool = pool
        self._writer = writer
        self._unconfirmed: set[int] = set()
        self._isNoted = self._closed = False
        self._highest = 0
        self._quiet: Any = None
        self._doubts: list[Any] = []
        self._queue: list[_Entry] = []
        self._running = False

    @property
    def waiting(self) -> int:
        """How many wait for the batch after the one under way."""
        return len(self._queue)

    def register(self, row: str) -> Deferred[Registration]:
        """
        Enter one row of L{d360.index.rows.registrationRow}.

        @raise DatabaseUnavailable: C{uncertain} where its batch was sent.
        """
        return self._enqueue(row).addCallback(_registration)

    def announce(self, row: str) -> Deferred[Announcement | None]:
        """
        Enter one row whose instance is new; see L{IIndex.announce}.

        @raise DatabaseUnavailable: as for L{register}.
        """
        return self._enqueue(row).addCallback(self._announced)

    def _announced(self, row: tuple[Any, ...]) -> Announcement | None:
        if row[0] == _KNOWN:
            return None
        number = row[_NUMBER]
        self._unconfirmed.add(number)
        return Announcement(number, row[_CONFLICT])

    def confirm(self, announcement: Announcement) -> None:
        """See L{IIndex.confirm}."""
        self._unconfirmed.discard(announcement.number)
        if not self._unconfirmed and self._quiet is None and not self._closed:
            self._quiet = self._reactor.callLater(_QUIET, self._becomeQuiet)

    def _becomeQuiet(self) -> None:
        self._quiet = None
        if not self._running:
            # Else the confirmation of what is under way comes here again.
            self._noteConfirmed()

    @asynchronous
    async def _noteConfirmed(self) -> None:
        """Tell the database, if there is nothing left to confirm."""
        if self._unconfirmed or not self._isNoted:
            return
        self._isNoted = False
        try:
            await self._pool.query(
                "confirmed", sql.confirmed(self._writer), repeatable=False
            )
        except DatabaseError as error:
            # So that more is looked at after a crash than need be.
            self.log.debug("not noted as confirmed: {why}", why=str(error))

    @asynchronous
    async def finish(self) -> None:
        """Nothing more will come. Fires when the database knows."""
        self.close()
        while self._running:
            await deferLater(self._reactor, 0)
        await self._noteConfirmed()

    def close(self) -> None:
        """Begin nothing more by itself. A plain call."""
        self._closed = True
        for call in (self._quiet, *self._doubts):
            if call is not None and call.active():
                call.cancel()

    def _doubt(self) -> None:
        """
        A batch may have been committed: until its instances are looked at,
        what is above all that is known counts as not confirmed.
        """
        floor = self._highest + 1
        if floor > 1:
            self._unconfirmed.add(floor)
            forget = self._reactor.callLater(_DOUBT, self._unconfirmed.discard, floor)
            self._doubts = [call for call in self._doubts if call.active()]
            self._doubts.append(forget)

    def _enqueue(self, row: str) -> Deferred[tuple[Any, ...]]:
        entry = _Entry(row, Deferred())
        self._queue.append(entry)
        if not self._running:
            self._running = True
            self._run()
        return entry.done

    @asynchronous
    async def _run(self) -> None:
        while self._queue:
            entries = self._queue[:LARGEST_BATCH]
            del self._queue[:LARGEST_BATCH]
            await self._enter(entries)
        self._running = False

    async def _enter(self, entries: Sequence[_Entry]) -> None:
        """Enter a batch; every outcome goes to the entries."""
        try:
            rows = await self._send(entries)
        except StatementRefused as error:
            if len(entries) == 1:
                entries[0].done.errback(error)
                return
            # One of them is at fault: let the others not suffer from it.
            for entry in entries:
                await self._enter([entry])
        except DatabaseUnavailable as error:
            queue: list[_Entry] = []
            if error.uncertain:
                self._doubt()
            else:
                # No connection: those behind have waited as long.
                queue, self._queue = self._queue, queue
            for entry in [*entries, *queue]:
                entry.done.errback(
                    DatabaseUnavailable(str(error), uncertain=error.uncertain)
                )
        except Exception:
            self.log.failure("entering a batch")
            for entry in entries:
                # It may have been committed before whatever went wrong.
                entry.done.errback(
                    DatabaseUnavailable("a mistake of ours", uncertain=True)
                )
        else:
            for entry, row in zip(entries, rows, strict=True):
                self._highest = max(self._highest, row[_NUMBER] or 0)
                entry.done.callback(row)

    async def _send(self, entries: Sequence[_Entry]) -> list[tuple[Any, ...]]:
        lowest = min(self._unconfirmed, default=None)
        statement = sql.register(
            batch([entry.row for entry in entries]), self._writer, lowest
        )
        self._isNoted = True
        return await self._pool.query("register", statement, repeatable=False)


def _registration(row: tuple[Any, ...]) -> Registration:
    """A row of the schema's type C{registered}."""
    outcome, path, offset, supersededPath, supersededOffset, conflict, _ = row
    return Registration(
        Outcome(outcome),
        Location(path, offset),
        None if supersededPath is None else Location(supersededPath, supersededOffset),
        conflict,
    )
