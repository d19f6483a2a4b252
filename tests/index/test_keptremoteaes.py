"""Remote AEs that are kept in memory: what saves a question, and what does not."""

from __future__ import annotations

import os
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from d360.errors import DatabaseUnavailable
from d360.index.remoteaes import MAX_AGE, KeptRemoteAEs
from d360.model import RemoteAE
from d360.shared import SharedNumber
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.remoteaes import WS1, RemoteAEsContract

WS2 = RemoteAE("WS2", "192.0.2.2", 104)


class Counting(MemoryRemoteAEs):
    """Counts what it is asked."""

    def __init__(self, *remotes: RemoteAE) -> None:
        super().__init__(*remotes)
        self.asked: list[str] = []

    def get(self, aeTitle: str) -> Deferred[RemoteAE | None]:
        self.asked.append(aeTitle)
        return super().get(aeTitle)

    def all(self) -> Deferred[tuple[RemoteAE, ...]]:
        self.asked.append("all")
        return super().all()


class KeptContractTests(RemoteAEsContract, TestCase):
    """As any others."""

    def setUp(self) -> None:
        changes = SharedNumber()
        self.addCleanup(os.close, changes.descriptor)
        self.remoteAEs: Any = KeptRemoteAEs(MemoryRemoteAEs(), changes, Clock())


class KeptTests(SynchronousTestCase):
    """Two processes of one server."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.changes = SharedNumber()
        self.addCleanup(os.close, self.changes.descriptor)
        self.database = Counting(WS1)
        self.ours, self.others = self.process(), self.process()

    def process(self) -> KeptRemoteAEs:
        return KeptRemoteAEs(self.database, self.changes, self.clock)

    def get(self, title: str = "WS1") -> RemoteAE | None:
        """What the one process knows now."""
        found: RemoteAE | None = self.successResultOf(self.ours.get(title))
        return found

    def test_asksOnce(self) -> None:
        """For all together, those that there are not among them."""
        for _ in range(3):
            self.assertEqual(self.get(), WS1)
            self.assertIsNone(self.get("WS2"))
        self.assertEqual(self.database.asked, ["all"])

    def test_changed(self) -> None:
        """By whichever process: seen by each, as soon as it is done."""
        self.get()
        for change in (self.ours, self.others):
            moved = evolve(WS1, port=WS1.port + 1)
            self.successResultOf(change.put(moved))
            self.assertEqual(self.get(), moved)
            self.successResultOf(change.put(WS1))
            self.assertEqual(self.get(), WS1)
            self.successResultOf(change.put(WS2))
            self.assertEqual(self.get("WS2"), WS2)
            self.successResultOf(change.remove("WS2"))
            self.assertIsNone(self.get("WS2"))

    def test_failedChange(self) -> None:
        """Nobody knows how far it came: it is looked at."""
        self.get()
        self.database.away = True
        for failing in (self.others.put(WS2), self.others.remove("WS1")):
            self.failureResultOf(failing, DatabaseUnavailable)
        self.failureResultOf(self.ours.get("WS1"), DatabaseUnavailable)
        self.database.away = False
        self.successResultOf(self.database.put(WS2))
        self.assertEqual(self.get("WS2"), WS2)

    def test_changedBehindUs(self) -> None:
        """By somebody at work on the database: seen after a while."""
        self.get()
        self.successResultOf(self.database.put(WS2))
        self.assertIsNone(self.get("WS2"))
        self.clock.advance(MAX_AGE)
        self.assertEqual(self.get("WS2"), WS2)

    def test_changedWhileReading(self) -> None:
        """What was read may be older than the change: it is read again."""
        self.database.waiter = Deferred()
        reading = self.ours.get("WS2")
        waiter, self.database.waiter = self.database.waiter, None
        self.successResultOf(self.others.put(WS2))
        waiter.callback(None)
        self.successResultOf(reading)
        asked = len(self.database.asked)
        self.assertEqual(self.get("WS2"), WS2)
        self.assertGreater(len(self.database.asked), asked)

    def test_whileReading(self) -> None:
        """Others do not wait for the whole list, nor read it as well."""
        self.database.waiter = Deferred()
        first, second = self.ours.get("WS1"), self.ours.get("WS2")
        self.assertEqual(self.database.asked, ["all", "WS2"])
        self.database.waiter.callback(None)
        self.assertEqual(self.successResultOf(first), WS1)
        self.assertIsNone(self.successResultOf(second))

    def test_old(self) -> None:
        """While the list is read only because of its age, the others have it."""
        self.get()
        self.clock.advance(MAX_AGE)
        self.database.waiter = Deferred()
        reading = self.ours.get("WS1")
        self.assertEqual(self.get(), WS1)
        self.assertEqual(self.database.asked, ["all", "all"])
        self.database.waiter.callback(None)
        self.assertEqual(self.successResultOf(reading), WS1)

    def test_away(self) -> None:
        """What nobody of ours has changed is what it was."""
        self.get()
        self.database.away = True
        for _ in range(3):
            self.clock.advance(MAX_AGE)
            self.assertEqual(self.get(), WS1)
        self.failureResultOf(self.others.get("WS1"), DatabaseUnavailable)

    def test_cancelled(self) -> None:
        """Who asked is gone: the next one reads."""
        self.database.waiter = Deferred()
        reading = self.ours.get("WS1")
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.database.waiter = None
        self.assertEqual(self.get(), WS1)
