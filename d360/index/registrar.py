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
from d360.errors import DatabaseUnavailable
from d360.index import sql
from d360.index.pool import ConnectionPool, StatementRefused
from d360.index.rows import batch
from d360.logs import Logger
from d360.model import Location, Outcome, Registration

#: Registrations in one batch at most.
LARGEST_BATCH = 256

#: Serialization failure and deadlock: nothing is wrong with the statement.
_TRANSIENT = frozenset({"40001", "40P01"})
_ATTEMPTS = 5


@frozen(eq=False)
class _Entry:
    row: str
    done: Deferred[Registration]


class Registrar:
    """
    Sends registrations, one batch at a time.

    @param pool: where a connection is free for it; one of its own, best.
    """

    log = Logger()

    def __init__(self, reactor: Any, pool: ConnectionPool) -> None:
        self._reactor = reactor
        self._pool = pool
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

    @asynchronous
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
            if not error.uncertain:
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
                entry.done.callback(_registration(row))

    @asynchronous
    async def _send(self, entries: Sequence[_Entry]) -> list[tuple[Any, ...]]:
        statement = sql.register(batch([entry.row for entry in entries]))
        for attempt in range(_ATTEMPTS):
            if attempt:
                await deferLater(self._reactor, 0.01 * 2**attempt)
            try:
                return await self._pool.query("register", statement, repeatable=False)
            except StatementRefused as error:
                if error.code not in _TRANSIENT or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("not reached")


def _registration(row: tuple[Any, ...]) -> Registration:
    """A row of the schema's type C{registered}."""
    outcome, path, offset, supersededPath, supersededOffset, conflict = row
    return Registration(
        Outcome(outcome),
        Location(path, offset),
        None if supersededPath is None else Location(supersededPath, supersededOffset),
        conflict,
    )
