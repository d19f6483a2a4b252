"""What one host may have of associations and connections (PS3.8 9.3.4)."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import AssociationRejected
from d360.hosts import HostLimits
from d360.metrics.counters import Metrics
from d360.ul.factory import UpperLayerFactory
from d360.ul.settings import UpperLayerSettings
from tests.ul.association import (
    RELEASE_RQ,
    REQUEST,
    AcceptorSide,
    StrictTransport,
    Supported,
)

#: A-ASSOCIATE-RJ: transient, by the presentation part, local limit exceeded.
REJECTION = bytes.fromhex("0300 00000004 00 02 03 02")

DONE = Failure(ConnectionDone())


class CrowdingTestCase(SynchronousTestCase):
    """One host may have two associations and four connections."""

    def setUp(self) -> None:
        self.side = AcceptorSide()
        self.metrics = Metrics(self.side.clock)
        self.factory = UpperLayerFactory(
            self.side.buildUser,
            self.side.admission,
            Supported(),
            self.side.clock,
            UpperLayerSettings(perHost=HostLimits(2, 4)),
            self.metrics,
        )
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def connect(self, host: str = "192.0.2.7", factory: Any = None) -> Any:
        """A connection of a host; C{None} where it is closed at once."""
        address = IPv4Address("TCP", host, 5000)
        protocol = (factory or self.factory).buildProtocol(address)
        if protocol is not None:
            protocol.makeConnection(StrictTransport(peerAddress=address))
        return protocol

    def request(self, host: str = "192.0.2.7", factory: Any = None) -> Any:
        """An association that is asked for."""
        protocol = self.connect(host, factory)
        protocol.dataReceived(REQUEST)
        return protocol

    def isRejected(self, protocol: Any) -> bool:
        """Whether it was; else it was accepted."""
        answer = protocol.transport.value()
        self.assertIn(answer[:1], (b"\2", b"\3"))
        if answer[:1] == b"\3":
            self.assertEqual(answer, REJECTION)
        return bool(answer[:1] == b"\3")

    def lines(self) -> list[str]:
        """Of the log, as it is configured by default."""
        return [
            formatEvent(event)
            for event in self.events
            if event["log_level"] >= LogLevel.info
        ]


class AssociationTests(CrowdingTestCase):
    """Associations of one host."""

    def test_rejected(self) -> None:
        """Those beyond, and none of another host."""
        told = [self.isRejected(self.request()) for _ in range(3)]
        self.assertEqual(told, [False, False, True])
        self.assertFalse(self.isRejected(self.request("192.0.2.8")))
        self.assertEqual(self.metrics.rejected, {(2, 3, 2): 1})

    def test_released(self) -> None:
        """As soon as one is over there is room, though its connection is open."""
        first, _ = self.request(), self.request()
        first.dataReceived(RELEASE_RQ)
        self.side.users[0].upperLayer.confirmRelease()
        self.assertFalse(self.isRejected(self.request()))
        self.assertTrue(self.isRejected(self.request()))

    def test_lost(self) -> None:
        """So there is when it is lost, or was rejected itself."""
        first, _ = self.request(), self.request()
        for _ in range(5):
            rejected = self.request()
            self.assertTrue(self.isRejected(rejected))
            rejected.connectionLost(DONE)
        first.connectionLost(DONE)
        self.assertFalse(self.isRejected(self.request()))

    def test_admitting(self) -> None:
        """Those that wait to be admitted count, until they are not."""
        waiting: Deferred[Any] = Deferred()
        self.side.admission.answer = waiting
        self.request()
        self.side.admission.answer = Deferred()
        self.request()
        self.assertTrue(self.isRejected(self.request()))
        waiting.errback(AssociationRejected(1, 1, 3))
        self.side.admission.answer = None
        self.assertFalse(self.isRejected(self.request()))

    def test_log(self) -> None:
        """One line for all of a minute, which says what to look at."""
        for _ in range(2):
            self.request()
        self.events.clear()
        for _ in range(5):
            self.request().connectionLost(DONE)
        (line,) = self.lines()
        self.assertIn("192.0.2.7, ECHOSCU to D360PACS", line)
        self.assertIn("max_associations_per_host = 2", line)
        self.side.clock.advance(60)
        self.request()
        self.assertIn("(5 since the last such line)", self.lines()[-1])

    def test_otherRejections(self) -> None:
        """Each of them has its line."""
        self.side.admission.answer = AssociationRejected(1, 1, 7, "no")
        for _ in range(3):
            self.request().connectionLost(DONE)
        self.assertEqual(len(self.lines()), 3)

    def test_others(self) -> None:
        """Where others count, who comes by here is rejected, and is among ours."""
        refusing = self.factory.refusing()
        protocol = self.request(factory=refusing)
        self.assertTrue(self.isRejected(protocol))
        self.assertEqual(self.factory.connections, 1)
        self.assertEqual(self.factory.connectionsOf("192.0.2.7"), 1)
        protocol.connectionLost(DONE)
        self.assertEqual(self.factory.connectionsOf("192.0.2.7"), 0)
        self.assertFalse(self.isRejected(self.request()))


class ConnectionTests(CrowdingTestCase):
    """Connections of one host, with an association or without."""

    def test_closed(self) -> None:
        """Those beyond, until another one has ended."""
        first, *_ = [self.connect() for _ in range(4)]
        self.assertIsNone(self.connect())
        self.assertIsNone(self.connect())
        self.assertIsNotNone(self.connect("192.0.2.8"))
        self.assertEqual(self.metrics.refusedConnections, 2)
        (line,) = self.lines()
        self.assertEqual(line, "connection from 192.0.2.7 closed: its host has 4 open")
        first.connectionLost(DONE)
        self.assertIsNotNone(self.connect())
        self.assertIsNone(self.connect())

    def test_nothingKept(self) -> None:
        """Nothing is kept of hosts that have gone."""
        protocols = [self.request(f"192.0.2.{n}") for n in range(50)]
        for protocol in protocols:
            protocol.connectionLost(DONE)
        associations = self.factory._associations
        self.assertEqual(len(associations.connectionsOf), 0)
        self.assertEqual(len(associations.requestedOf), 0)
