"""Tests for L{d360.metrics.opener}."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import AssociationRejected, ConnectionClosed
from d360.interfaces import IAssociationOpener
from d360.metrics.counters import Metrics
from d360.metrics.opener import CountingOpener
from d360.model import RemoteAE
from tests.contracts.archive import checkSignatures

REMOTE = RemoteAE("WS1", "192.0.2.7", 104)


class CountingOpenerTests(SynchronousTestCase):
    """It passes on what comes, and counts it."""

    def setUp(self) -> None:
        self.metrics = Metrics(Clock())
        self.asked: list[Any] = []
        self.opening: Deferred[Any] = Deferred()
        self.opener = CountingOpener(self, self.metrics)

    def open(self, remote: Any, contexts: Any, asSCP: Any = ()) -> Deferred[Any]:
        """The opener within."""
        self.asked.append((remote, contexts, asSCP))
        return self.opening

    def test_interface(self) -> None:
        checkSignatures(self, IAssociationOpener, self.opener)

    def test_accepted(self) -> None:
        contexts = [("1.2", ("1.3",))]
        opened = self.opener.open(REMOTE, contexts, ["1.2"])
        self.assertEqual(self.asked, [(REMOTE, contexts, ["1.2"])])
        self.opening.callback("an association")
        self.assertEqual(self.successResultOf(opened), "an association")
        self.assertEqual(self.metrics.requested, {"accepted": 1})

    def test_failures(self) -> None:
        """The failure stays what it is."""
        for error, outcome in (
            (AssociationRejected(1, 1, 7), "rejected"),
            (ConnectionClosed("refused"), "failed"),
        ):
            self.setUp()
            opened = self.opener.open(REMOTE, [])
            self.opening.errback(error)
            self.assertIs(self.failureResultOf(opened).value, error)
            self.assertEqual(self.metrics.requested, {outcome: 1})

    def test_cancelled(self) -> None:
        """It can be given up."""
        opened = self.opener.open(REMOTE, [])
        opened.cancel()
        self.failureResultOf(opened, CancelledError)
        self.assertEqual(self.metrics.requested, {"failed": 1})
