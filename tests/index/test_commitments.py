"""Storage commitments, in a real PostgreSQL and in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from d360.errors import DatabaseUnavailable
from d360.index.commitments import PostgreSQLCommitmentRequests
from d360.index.database import PostgreSQLIndex
from tests.contracts.commitments import FIRST, CommitmentRequestsContract
from tests.contracts.memorycommitments import MemoryCommitmentRequests
from tests.contracts.postgres import dropDatabase, execute, freshDatabase


class MemoryCommitmentRequestsTests(CommitmentRequestsContract, TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.requests: Any = MemoryCommitmentRequests(self.clock)

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def test_away(self) -> None:
        self.requests.away = True
        await self.assertFailure(self.requests.add(FIRST, 0), DatabaseUnavailable)


class PostgreSQLCommitmentRequestsTests(CommitmentRequestsContract, TestCase):
    timeout = 300

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)
        self.requests = self.open()

    def open(self) -> Any:
        """The requests, as each process has them."""
        index = PostgreSQLIndex(reactor, self.url, "embedded")
        self.addCleanup(index.close)
        return PostgreSQLCommitmentRequests(index.writing)

    def later(self, seconds: float) -> None:
        """What was then is so much longer ago."""
        execute(
            self.url,
            "UPDATE commitment_requests SET"
            + ", ".join(
                f" {column} = {column} - interval '{seconds} seconds'"
                for column in ("due_at", "received_at", "checked_at")
            ),
        )

    async def test_otherProcess(self) -> None:
        """Of two that look at the same time, one gets it."""
        await self.requests.add(FIRST, 0)
        both = [one.due(60) for one in (self.requests, self.open())]
        found = [await one for one in both]
        self.assertEqual(sum(one is not None for one in found), 1)
