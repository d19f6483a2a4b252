"""Connections that are lost: whoever notices it, the reactor has no part left."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import Any

from psycopg2.extensions import make_dsn, parse_dsn
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from d360.errors import DatabaseUnavailable
from d360.index import pool as _pool
from d360.index.pool import ConnectionPool
from d360.index.sql import Statement
from tests.contracts.postgres import dropDatabase, freshDatabase

reactor: Any = _reactor

_ONE = Statement("SELECT 1")
_SLEEP = Statement("SELECT pg_sleep(20)")

#: More than libpq keeps back: it sends, and notices, before it returns.
_LONG = Statement("SELECT 1 WHERE %s <> ''", ("x" * 100000,))


def lose(connection: Any) -> None:
    """
    End a connection as the server's death does: what is sent is refused, what
    is read is the end.
    """
    with closing(socket.socket(fileno=os.dup(connection.fileno()))) as shared:
        shared.shutdown(socket.SHUT_RDWR)


class LostTests(TestCase):
    """
    libpq closes the socket of a connection that it finds to be lost, and the
    next one is given the same descriptor: a reactor that still knows the old
    one would not hear of the new one, or take it from it.
    """

    timeout = 30

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)
        self.pool: Any = self.open(self.url)

    def open(self, dsn: str, **limits: float) -> ConnectionPool:
        pool = ConnectionPool(reactor, dsn, 1, **limits)
        self.addCleanup(pool.close)
        return pool

    async def used(self) -> Any:
        """The one connection, once it is open and was used."""
        self.assertEqual(await self.pool.query("one", _ONE), [(1,)])
        [connection] = self.pool._idle
        return connection

    async def healed(self, lost: Any) -> None:
        """Another one has taken its place, and the reactor knows but this."""
        connection = await self.used()
        self.assertIsNot(connection, lost)
        watched = [*reactor.getReaders(), *reactor.getWriters()]
        self.assertEqual(watched.count(connection), 1)
        self.assertEqual(
            [s for s in watched if s.fileno() in (-1, connection.fileno())],
            [connection],
        )

    async def test_sending(self) -> None:
        """It is noticed when the next statement is sent."""
        connection = await self.used()
        lose(connection)
        error = await self.assertFailure(
            self.pool.query("long", _LONG, repeatable=False), DatabaseUnavailable
        )
        self.assertTrue(error.uncertain)
        await self.healed(connection)

    async def test_sendingAgain(self) -> None:
        """The same, where the statement is tried once more at once."""
        connection = await self.used()
        lose(connection)
        self.assertEqual(await self.pool.query("long", _LONG), [(1,)])
        await self.healed(connection)

    async def test_waiting(self) -> None:
        """It is noticed by who waits for an answer."""
        connection = await self.used()
        waiting = self.pool.query("sleep", _SLEEP, repeatable=False)
        await deferLater(reactor, 0.05)
        lose(connection)
        error = await self.assertFailure(waiting, DatabaseUnavailable)
        self.assertTrue(error.uncertain)
        await self.healed(connection)

    async def test_idle(self) -> None:
        """It is noticed while nobody uses it."""
        connection = await self.used()
        lose(connection)
        while self.pool._idle:
            await deferLater(reactor, 0.01)
        await self.healed(connection)

    async def test_guard(self) -> None:
        """A statement's time is over, and not even an error has come."""
        self.patch(_pool, "_GRACE", -19.8)
        self.pool = self.open(self.url, statementTimeout=20)
        connection = await self.used()
        await self.assertFailure(
            self.pool.query("sleep", _SLEEP, repeatable=False), DatabaseUnavailable
        )
        await self.healed(connection)

    async def test_closed(self) -> None:
        """The pool is closed with a statement on its way."""
        connection = await self.used()
        waiting = self.pool.query("sleep", _SLEEP, repeatable=False)
        self.pool.close()
        await self.assertFailure(waiting, DatabaseUnavailable)
        self.assertNotIn(connection, reactor.getReaders() + reactor.getWriters())
        self.pool = self.open(self.url)
        await self.used()

    async def test_nextHost(self) -> None:
        """An attempt to connect goes on to another host, with another socket."""
        refusing = socket.socket()
        self.addCleanup(refusing.close)
        refusing.bind(("127.0.0.1", 0))  # But it does not listen.
        parts = parse_dsn(self.url)
        parts["host"] = f"127.0.0.1,{parts['host']}"
        parts["port"] = f"{refusing.getsockname()[1]},{parts.get('port', '')}"
        self.pool = self.open(make_dsn(**parts))
        connection = await self.used()
        lose(connection)
        self.assertEqual(await self.pool.query("long", _LONG), [(1,)])
        await self.healed(connection)
