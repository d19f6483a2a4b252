"""The remote AEs, in a real PostgreSQL and in memory."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from d360.errors import DatabaseUnavailable
from d360.index.database import PostgreSQLIndex
from d360.index.migration import connect
from d360.index.pool import StatementRefused
from d360.index.remoteaes import PostgreSQLRemoteAEs
from d360.model import RemoteAE
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.postgres import dropDatabase, execute, freshDatabase
from tests.contracts.remoteaes import WS1, RemoteAEsContract


class MemoryRemoteAEsTests(RemoteAEsContract, TestCase):
    def setUp(self) -> None:
        self.remoteAEs: Any = MemoryRemoteAEs()

    async def test_away(self) -> None:
        self.remoteAEs.away = True
        for waiting in (self.remoteAEs.get("WS1"), self.remoteAEs.put(WS1)):
            await self.assertFailure(waiting, DatabaseUnavailable)


class PostgreSQLRemoteAEsTests(RemoteAEsContract, TestCase):
    timeout = 300

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)
        self.index, self.remoteAEs = self.open()

    def open(self) -> tuple[PostgreSQLIndex, Any]:
        """An index and its remote AEs, as each process has them."""
        index = PostgreSQLIndex(reactor, self.url, "embedded")
        self.addCleanup(index.close)
        return index, PostgreSQLRemoteAEs(index.writing)

    async def test_durable(self) -> None:
        """What was put is committed: another connection sees it."""
        await self.remoteAEs.put(WS1)
        rows = execute(self.url, "SELECT * FROM remote_aes")
        everything = ["query", "retrieve", "store", "worklist"]
        self.assertEqual(rows, [("WS1", "127.0.0.1", 11113, everything, False, "")])
        await self.remoteAEs.remove("WS1")
        self.assertEqual(execute(self.url, "SELECT * FROM remote_aes"), [])

    async def test_otherProcess(self) -> None:
        """What another process changes is seen at once."""
        _, other = self.open()
        self.assertIsNone(await other.get("WS1"))
        await self.remoteAEs.put(WS1)
        self.assertEqual(await other.get("WS1"), WS1)
        await other.remove("WS1")
        self.assertIsNone(await self.remoteAEs.get("WS1"))

    async def test_noLongQueryBefore(self) -> None:
        """Who calls is looked up while each reading connection is busy."""
        await self.remoteAEs.put(WS1)
        with closing(connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute("LOCK patients, series IN ACCESS EXCLUSIVE MODE")
            waiting = [self.index.totals() for _ in range(10)]
            await deferLater(reactor, 0.1)
            self.assertEqual(await self.remoteAEs.get("WS1"), WS1)
            self.assertFalse(any(one.called for one in waiting))
            connection.rollback()
        for one in waiting:
            await one

    async def test_lostWhileWriting(self) -> None:
        """A connection that is lost under a write leaves it uncertain."""
        await self.remoteAEs.put(WS1)
        with closing(connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute("LOCK remote_aes IN ACCESS EXCLUSIVE MODE")
            waiting = self.remoteAEs.put(WS1)
            await deferLater(reactor, 0.1)
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                " wait_event_type = 'Lock' AND datname = current_database()"
            )
            error = await self.assertFailure(waiting, DatabaseUnavailable)
            self.assertTrue(error.uncertain)
            connection.rollback()
        # The next one has a connection that works.
        self.assertIs(await self.remoteAEs.put(WS1), False)

    async def test_closed(self) -> None:
        self.index.close()
        await self.assertFailure(self.remoteAEs.get("WS1"), DatabaseUnavailable)

    async def test_checks(self) -> None:
        """The table takes none that could not be opened."""
        for remote in (
            RemoteAE("", "127.0.0.1", 104),
            RemoteAE(" WS1", "127.0.0.1", 104),
            RemoteAE("X" * 17, "127.0.0.1", 104),
            RemoteAE("WS1", "", 104),
            RemoteAE("WS1", "h" * 254, 104),
            RemoteAE("WS1", "127.0.0.1", 0),
            RemoteAE("WS1", "127.0.0.1", 65536),
            evolve(WS1, certificate="ab"),
            evolve(WS1, certificate="AB" * 32),
            evolve(WS1, certificate="ab:" * 31 + "ab"),
        ):
            await self.assertFailure(self.remoteAEs.put(remote), StatementRefused)
        self.assertEqual(await self.remoteAEs.all(), ())
