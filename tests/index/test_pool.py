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
from d360.index.pool import ConnectionPool, StatementRefused
from d360.index.sql import Statement
from tests.contracts.postgres import dropDatabase, execute, freshDatabase

reactor: Any = _reactor

_ONE = Statement("SELECT 1")
_READ_ONLY = "SELECT set_config('default_transaction_read_only', 'on', false)"
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


class TransientTests(TestCase):
    """Serialization failures and deadlocks: nothing is wrong with the statement."""

    timeout = 300

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)
        self.pool = ConnectionPool(reactor, self.url, 1)
        self.addCleanup(self.pool.close)
        execute(self.url, "CREATE SEQUENCE attempts")
        execute(
            self.url,
            "CREATE FUNCTION try(failures int, code text) RETURNS bigint"
            " LANGUAGE plpgsql AS $$ DECLARE attempt bigint := nextval('attempts');"
            " BEGIN IF attempt <= failures THEN"
            " RAISE EXCEPTION 'injected' USING ERRCODE = code; END IF;"
            " RETURN attempt; END $$",
        )

    def tried(self, failures: int, code: str) -> Any:
        """A statement that fails so often."""
        execute(self.url, "ALTER SEQUENCE attempts RESTART")
        statement = Statement("SELECT try(%s, %s)", (failures, code))
        return self.pool.query("try", statement, repeatable=False)

    async def test_again(self) -> None:
        """It is tried again, whatever it does: it has had no effect."""
        for code in ("40001", "40P01"):
            self.assertEqual(await self.tried(4, code), [(5,)])

    async def test_tooOften(self) -> None:
        """Not for ever."""
        error = await self.assertFailure(self.tried(99, "40001"), StatementRefused)
        self.assertEqual(error.code, "40001")
        self.assertEqual(execute(self.url, "SELECT last_value FROM attempts"), [(5,)])

    async def test_others(self) -> None:
        """What is wrong with the statement stays wrong."""
        await self.assertFailure(self.tried(1, "22000"), StatementRefused)


class LostTests(TestCase):
    """
    libpq closes the socket of a connection that it finds to be lost, and the
    next one is given the same descriptor: a reactor that still knows the old
    one would not hear of the new one, or take it from it.
    """

    timeout = 300

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
        self.patch(_pool, "_GRACE", -18.0)
        self.pool = self.open(self.url, statementTimeout=20)
        connection = await self.used()
        await self.assertFailure(
            self.pool.query("sleep", _SLEEP, repeatable=False), DatabaseUnavailable
        )
        await self.healed(connection)

    async def test_tooSlow(self) -> None:
        """A statement's time is over: said so, and the connection stays."""
        self.pool = self.open(self.url, statementTimeout=1.0)
        connection = await self.used()
        error = await self.assertFailure(
            self.pool.query("sleep", _SLEEP, repeatable=False), DatabaseUnavailable
        )
        self.assertIn("too slow", str(error))
        self.assertFalse(error.uncertain)
        self.assertIs(await self.used(), connection)

    async def test_readOnly(self) -> None:
        """Another server has its place, perhaps: nothing was changed on this one."""
        connection = await self.used()
        execute(self.url, "CREATE TABLE marks (number int)")
        await self.pool.query("read-only", Statement(_READ_ONLY))
        error = await self.assertFailure(
            self.pool.query(
                "mark", Statement("INSERT INTO marks VALUES (1)"), repeatable=False
            ),
            DatabaseUnavailable,
        )
        self.assertFalse(error.uncertain)
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
