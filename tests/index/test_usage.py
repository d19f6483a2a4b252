"""What the connections and the registrar say of how busy they are."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from d360.index.pool import ConnectionPool
from d360.index.registrar import Registrar
from d360.index.sql import Statement
from tests.contracts.postgres import dropDatabase, freshDatabase

reactor: Any = _reactor

_SHORT = Statement("SELECT pg_sleep(0.2)")


class PoolTests(TestCase):
    """L{ConnectionPool}."""

    timeout = 300

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)
        self.pool = ConnectionPool(reactor, self.url, 1)
        self.addCleanup(self.pool.close)

    def usage(self) -> tuple[int, int, int]:
        return self.pool.opened, self.pool.idle, self.pool.waiting

    async def test_usage(self) -> None:
        """Opened, idle and waiting, while it is used and afterwards."""
        self.assertEqual(self.usage(), (0, 0, 0))
        await self.pool.query("short", _SHORT)
        self.assertEqual(self.usage(), (1, 1, 0))
        first, second, third = (self.pool.query("short", _SHORT) for _ in range(3))
        self.assertEqual(self.usage(), (1, 0, 2))
        await first
        self.assertEqual(self.usage(), (1, 0, 1))
        await second
        await third
        self.assertEqual(self.usage(), (1, 1, 0))


class _Pool:
    """Never answers."""

    def query(self, name: str, statement: Any, repeatable: bool) -> Deferred[Any]:
        return Deferred()


class RegistrarTests(SynchronousTestCase):
    """L{Registrar}."""

    def test_waiting(self) -> None:
        """Those that are on their way do not wait any more."""
        registrar = Registrar(None, _Pool(), "")
        self.assertEqual(registrar.waiting, 0)
        for count in (0, 1, 2):
            registrar.register("row")
            self.assertEqual(registrar.waiting, count)
