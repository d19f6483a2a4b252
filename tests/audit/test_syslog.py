"""Tests for L{d360.audit.syslog}: PS3.15 A.6 and A.7."""

from __future__ import annotations

import re
import socket
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectionDone,
    ConnectionRefusedError,
    MessageLengthError,
)
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.audit import syslog
from d360.audit.syslog import DatagramSyslog, Header, StreamSyslog, localHeader


class HeaderTests(SynchronousTestCase):
    """RFC 5424 6."""

    def test_frame(self) -> None:
        """PRI 85 (PS3.15 A.6), or 84 where something failed; in UTF-8, so a BOM."""
        header = Header("pacs1", "4711")
        for succeeded, priority in ((True, b"<85>"), (False, b"<84>")):
            self.assertEqual(
                header.frame("<AuditMessage é/>".encode(), 1767268800.25, succeeded),
                priority + b"1 2026-01-01T12:00:00.250000Z pacs1 D360 4711"
                b" DICOM+RFC3881 - \xef\xbb\xbf<AuditMessage \xc3\xa9/>",
            )

    def test_host(self) -> None:
        """HOSTNAME and PROCID are printable, and there."""
        for name, expected in (
            ("pacs 1\n", "pacs1"),
            ("é", "-"),
            ("x" * 300, "x" * 255),
        ):
            self.patch(socket, "gethostname", lambda name=name: name)
            self.assertEqual(localHeader().host, expected)
        self.assertTrue(re.fullmatch("[0-9]+", localHeader().process))


class Endpoint:
    """
    Where connections come from.

    @ivar transports: of those that were made.
    """

    def __init__(self) -> None:
        self.refuses = False
        self.waiting: list[Deferred[Any]] = []
        self.transports: list[StringTransport] = []
        self.protocols: list[Any] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.refuses:
            return fail(ConnectionRefusedError())
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        # As TCP does it.
        transport.loseConnection = lambda: self.lose(protocol)  # type: ignore[method-assign]
        self.transports.append(transport)
        self.protocols.append(protocol)
        protocol.makeConnection(transport)
        return succeed(protocol)

    def lose(self, protocol: Any) -> None:
        protocol.connectionLost(Failure(ConnectionDone()))


class StreamTests(SynchronousTestCase):
    """TCP and TLS."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.syslog = StreamSyslog(self.clock, "tcp://log", self.endpoint)

    def sent(self, number: int = -1) -> bytes:
        return self.endpoint.transports[number].value()

    def test_framing(self) -> None:
        """RFC 6587 3.4.1, RFC 5425 4.3: the length in octets, a space."""
        self.syslog.start()
        self.assertFalse(self.syslog.isFailing)
        self.syslog.send([b"one", "é".encode()])
        self.syslog.send([b"x" * 300])
        self.assertEqual(self.sent(), b"3 one2 \xc3\xa9300 " + b"x" * 300)

    def test_noReceiver(self) -> None:
        """Messages wait for it, and are then sent in their order."""
        self.endpoint.refuses = True
        self.syslog.start()
        self.syslog.send([b"one"])
        self.assertTrue(self.syslog.isFailing)
        self.endpoint.refuses = False
        self.syslog.send([b"two"])
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.sent(), b"3 one3 two")

    def test_again(self) -> None:
        """A connection that is lost is made again."""
        self.syslog.start()
        self.syslog.send([b"one"])
        self.endpoint.lose(self.endpoint.protocols[0])
        self.assertTrue(self.syslog.isFailing)
        self.syslog.send([b"two"])
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.sent(), b"3 two")
        self.assertEqual(len(self.endpoint.transports), 2)

    def test_handshake(self) -> None:
        """Nothing is sent before it is known who the receiver is (RFC 5425 5.2)."""
        self.syslog = StreamSyslog(self.clock, "tls://log", self.endpoint, True)
        self.syslog.start()
        self.syslog.send([b"one"])
        self.assertEqual((self.sent(), self.syslog.isFailing), (b"", True))
        self.assertEqual(self.syslog.waiting, 1)
        # The certificate was not the right one.
        self.endpoint.lose(self.endpoint.protocols[0])
        self.clock.pump([1.0] * 60)
        self.endpoint.protocols[1].handshakeCompleted()
        self.assertEqual((self.sent(), self.syslog.isFailing), (b"3 one", False))

    def test_backPressure(self) -> None:
        """What the connection does not take waits here, where it is bounded."""
        self.syslog.start()
        self.endpoint.transports[0].producer.pauseProducing()
        self.syslog.send([b"one"])
        self.assertEqual(self.sent(), b"")
        self.endpoint.transports[0].producer.resumeProducing()
        self.assertEqual(self.sent(), b"3 one")

    def test_bounded(self) -> None:
        """Beyond that they are dropped and counted, the first ones stay."""
        self.patch(syslog, "MAX_WAITING", 10)
        self.endpoint.refuses = True
        self.syslog.start()
        self.syslog.send([b"12345", b"67890", b"x", b"y"])
        self.assertEqual(self.syslog.dropped, 2)
        self.endpoint.refuses = False
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.sent(), b"5 123455 67890")
        self.syslog.send([b"z"])
        self.assertEqual(self.syslog.dropped, 2)

    def test_stop(self) -> None:
        """The connection is closed, and not made again."""
        self.syslog.start()
        self.syslog.send([b"one"])
        self.successResultOf(self.syslog.stop(5.0))
        self.assertIsNone(self.endpoint.transports[0].producer)
        self.clock.pump([1.0] * 120)
        self.assertEqual(len(self.endpoint.transports), 1)

    def test_stopWaits(self) -> None:
        """What waits is sent first, if it is taken in time."""
        self.syslog.start()
        producer = self.endpoint.transports[0].producer
        producer.pauseProducing()
        self.syslog.send([b"one"])
        stopped = self.syslog.stop(5.0)
        self.assertNoResult(stopped)
        producer.resumeProducing()
        self.successResultOf(stopped)
        self.assertEqual(self.sent(), b"3 one")

    def test_stopGivesUp(self) -> None:
        """A receiver that is away does not hold the server up."""
        self.endpoint.refuses = True
        self.syslog.start()
        self.syslog.send([b"one"])
        stopped = self.syslog.stop(5.0)
        self.clock.pump([1.0] * 6)
        self.successResultOf(stopped)
        self.assertEqual(self.syslog.dropped, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Port:
    """A UDP port."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.error: Exception | None = None

    def write(self, data: bytes, address: Any) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((data, address))

    def stopListening(self) -> Deferred[None]:
        self.sent.append("stop")
        return succeed(None)


class DatagramTests(SynchronousTestCase):
    """UDP (RFC 5426)."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = Port()
        self.families: list[socket.AddressFamily] = []
        self.found: Any = succeed((socket.AF_INET6, "2001:db8::1"))

    def make(self) -> DatagramSyslog:
        def listen(protocol: Any, family: socket.AddressFamily) -> Any:
            self.families.append(family)
            return self.port

        return DatagramSyslog(self.clock, "udp://log", 514, listen, lambda: self.found)

    def test_oneEach(self) -> None:
        """A message is a datagram, without a length."""
        one = self.make()
        one.start()
        one.send([b"one", b"two"])
        address = ("2001:db8::1", 514)
        self.assertEqual(self.port.sent, [(b"one", address), (b"two", address)])
        self.assertEqual(self.families, [socket.AF_INET6])
        self.successResultOf(one.stop(5.0))
        self.assertEqual(self.port.sent[2:], ["stop"])

    def test_unknownHost(self) -> None:
        """It is looked for again."""
        one = self.make()
        self.found = fail(OSError("no such host"))
        one.start()
        one.send([b"one"])
        self.assertEqual((one.dropped, one.isFailing), (1, True))
        self.found = succeed((socket.AF_INET, "192.0.2.7"))
        self.clock.advance(60)
        one.send([b"two"])
        self.assertEqual(self.port.sent, [(b"two", ("192.0.2.7", 514))])
        self.assertFalse(one.isFailing)

    def test_stopUnknown(self) -> None:
        """It is not looked for any more."""
        one = self.make()
        self.found = fail(OSError("no such host"))
        one.start()
        self.successResultOf(one.stop(5.0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_notSent(self) -> None:
        """What is too long, or has no way, is counted."""
        one = self.make()
        one.start()
        for error in (MessageLengthError(), OSError("no route")):
            self.port.error = error
            one.send([b"one"])
        self.assertEqual(one.dropped, 2)
