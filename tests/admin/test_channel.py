"""The measure that connections of the second port are held to."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.admin.resource import JSONResource
from d360.admin.site import SiteLimits, makeSite

GET = b"GET /api/now HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/now HTTP/1.1\r\nHost: localhost\r\n"
LATER = GET.replace(b"now", b"later")


class Now(JSONResource):
    """Answers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def get(self, request: Any) -> dict[str, str]:
        self.asked += 1
        return {"answer": "x" * 1000}

    post = get


class Later(JSONResource):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[dict[str, str]]] = []

    async def get(self, request: Any) -> dict[str, str]:
        self.waiting.append(Deferred())
        return await self.waiting[-1]


class ChannelTests(SynchronousTestCase):
    """C{request_timeout} is 10 s, C{max_connections} 3."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now, self.later = Now(), Later()
        calls: dict[bytes, JSONResource] = {b"now": self.now, b"later": self.later}
        self.site = makeSite(calls, "", limits=SiteLimits(10, 3))
        self.site.reactor = self.clock

    def connect(self) -> tuple[Any, StringTransport]:
        protocol = self.site.buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        return protocol, transport

    def assertSlowIsClosed(self, first: bytes, piece: bytes) -> None:
        protocol, transport = self.connect()
        if first:
            protocol.dataReceived(first)
        for _ in range(30):
            self.clock.advance(1)
            if transport.disconnecting:
                break
            protocol.dataReceived(piece)
        self.assertTrue(transport.disconnecting, piece)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """A request has its time as a whole, however it comes."""
        for first, piece in (
            (b"", b"G"),
            (GET[:-2], b"X"),
            (GET[:-2], b"X: 1\r\n"),
            (POST + b"Content-Length: 1000\r\n\r\n", b" "),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        ):
            self.assertSlowIsClosed(first, piece)

    def test_several(self) -> None:
        """One request after the other, for longer than one may take."""
        protocol, transport = self.connect()
        for _ in range(20):
            for piece in (GET[:20], GET[20:]):
                self.clock.advance(4)
                protocol.dataReceived(piece)
        self.assertEqual(self.now.asked, 20)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(11)
        self.assertTrue(transport.disconnecting)

    def test_longAnswer(self) -> None:
        """What the server takes to answer is not the client's time."""
        protocol, transport = self.connect()
        protocol.dataReceived(LATER)
        self.clock.advance(100)
        self.assertFalse(transport.disconnecting)
        self.later.waiting[0].callback({})
        self.assertIn(b"200 OK", transport.value())

    def test_pipelined(self) -> None:
        """Of requests in one read the first is answered, and that is the end."""
        for requests in (GET * 100, POST + b"Content-Length: 0\r\n\r\n" + GET * 100):
            self.now.asked = 0
            protocol, transport = self.connect()
            protocol.dataReceived(requests)
            self.assertEqual(self.now.asked, 1)
            self.assertEqual(transport.value().count(b"HTTP/1.1 200"), 1)
            self.assertTrue(transport.disconnecting)
            protocol.dataReceived(GET)
            self.assertEqual(self.now.asked, 1)
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_eager(self) -> None:
        """So of those that come before the first is answered, in whatever reads."""
        protocol, transport = self.connect()
        protocol.dataReceived(LATER + GET)
        protocol.dataReceived(GET)
        self.later.waiting[0].callback({})
        self.assertEqual(self.now.asked, 0)
        self.assertEqual(transport.value().count(b"HTTP/1.1 200"), 1)
        self.assertTrue(transport.disconnecting)

    def test_emptyLine(self) -> None:
        """One behind a body, as some clients send it, is no request."""
        protocol, transport = self.connect()
        protocol.dataReceived(POST + b"Content-Length: 2\r\n\r\n{}\r\n")
        protocol.dataReceived(GET)
        self.assertEqual(self.now.asked, 2)
        self.assertFalse(transport.disconnecting)

    def test_answerNotTaken(self) -> None:
        """Who does not take the last answer has as long, and not for ever."""
        protocol, transport = self.connect()
        aborted: list[bool] = []
        transport.abortConnection = lambda: aborted.append(True)  # type: ignore[method-assign]
        protocol.dataReceived(GET[:-2] + b"Connection: close\r\n\r\n")
        self.assertTrue(transport.disconnecting)
        self.clock.pump([5] * 10)
        self.assertEqual(aborted, [True])
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connections(self) -> None:
        """There are so many, and another one when one of them has ended."""
        protocols = [self.connect()[0] for _ in range(3)]
        self.assertIsNone(self.site.buildProtocol(None))
        protocols[0].connectionLost(Failure(ConnectionDone()))
        self.connect()
        self.assertIsNone(self.site.buildProtocol(None))


class HostTests(SynchronousTestCase):
    """C{max_connections} is 8, of which a host may have 6."""

    def setUp(self) -> None:
        self.site = makeSite({b"now": Now()}, "", limits=SiteLimits(10, 8))
        self.site.timeOut = None
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def connect(self, host: str) -> Any:
        """C{None} where it is closed."""
        protocol = self.site.buildProtocol(IPv4Address("TCP", host, 5000))
        if protocol is not None:
            protocol.makeConnection(StringTransport())
        return protocol

    def test_perHost(self) -> None:
        """So one host keeps nobody out; the log has a line a host."""
        first, *others = [self.connect("192.0.2.7") for _ in range(8)]
        self.assertEqual([each is None for each in others], [False] * 5 + [True] * 2)
        self.assertIsNotNone(self.connect("192.0.2.8"))
        first.connectionLost(Failure(ConnectionDone()))
        self.assertIsNotNone(self.connect("192.0.2.7"))
        self.assertIsNone(self.connect("192.0.2.7"))
        lines = [formatEvent(event) for event in self.events]
        line = "web: connection from 192.0.2.7 closed: its host has 6 open"
        self.assertEqual([each for each in lines if "closed" in each], [line])

    def test_all(self) -> None:
        """Nor have all hosts together more than there are."""
        for number in range(8):
            self.assertIsNotNone(self.connect(f"192.0.2.{number}"))
        self.assertIsNone(self.connect("192.0.2.9"))
