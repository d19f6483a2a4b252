"""Buffers on their way into a TCP connection."""

from __future__ import annotations

import random
import socket
from typing import Any
from unittest.mock import patch

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from d360.ul.tcp import writeAll


class Reactor:
    """Knows who wants to write."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def addReader(self, reader: Any) -> None:
        """Nothing is read here."""

    removeReader = addReader


class Producer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")


class WriteAllTests(SynchronousTestCase):
    """L{writeAll} with a connection of the system's."""

    def setUp(self) -> None:
        ours, self.peer = socket.socketpair()
        for each in (ours, self.peer):
            each.setblocking(False)
            self.addCleanup(each.close)
        self.reactor = Reactor()
        self.connection = Connection(ours, Protocol(), self.reactor)
        self.connection.connected = True
        self.producer = Producer()
        self.connection.registerProducer(self.producer, True)

    def received(self, count: int = 1 << 30) -> bytes:
        """What has arrived, up to C{count} bytes."""
        data = bytearray()
        try:
            while len(data) < count:
                data += self.peer.recv(min(count - len(data), 65536))
        except BlockingIOError:
            pass
        return bytes(data)

    def rest(self) -> bytes:
        """All that is still to arrive."""
        data = bytearray(self.received())
        while self.reactor.writers:
            self.assertIsNone(self.connection.doWrite())
            data += self.received()
        return bytes(data)

    def test_atOnce(self) -> None:
        """What there is room for is not kept, and nobody is paused."""
        block = bytearray(b"data" * 100)
        writeAll(self.connection, [b"head", b"", memoryview(block), b""])
        block[:] = bytes(400)
        self.assertEqual(set(), self.reactor.writers)
        self.assertEqual(b"head" + b"data" * 100, self.received())
        self.assertEqual([], self.producer.calls)

    def test_full(self) -> None:
        """What there is no room for is copied, and the producer is paused."""
        wanted = bytes(range(256)) * 8192
        block = bytearray(wanted)
        writeAll(self.connection, [b"head", memoryview(block)])
        block[:] = bytes(len(block))
        self.assertEqual(["pause"], self.producer.calls)
        self.assertTrue(self.rest() == b"head" + wanted)
        self.assertEqual(["pause", "resume"], self.producer.calls)

    def test_order(self) -> None:
        """Bytes arrive in the order of the calls, however full it was."""
        chance = random.Random(360)
        wanted, arrived = bytearray(), bytearray()
        for _ in range(400):
            buffers = [
                chance.randbytes(chance.choice((0, 1, 12, 5000, 70000)))
                for _ in range(chance.randrange(6))
            ]
            wanted += b"".join(buffers)
            if chance.random() < 0.2:
                self.connection.write(b"".join(buffers))
            else:
                writeAll(self.connection, buffers)
            if chance.random() < 0.5:
                arrived += self.received(chance.randrange(1, 300_000))
            if self.reactor.writers and chance.random() < 0.5:
                self.connection.doWrite()
        arrived += self.rest()
        self.assertTrue(wanted == arrived)

    def test_everySplit(self) -> None:
        """The system takes any number of bytes, also none."""
        buffers = [b"ab", b"", memoryview(b"cde"), b"f", b""]
        for count in range(7):
            sent: list[bytes] = []

            def sendmsg(
                given: Any, sent: list[bytes] = sent, count: int = count
            ) -> int:
                sent.append(b"".join(given)[:count])
                return count

            with patch.object(self.connection, "getHandle") as handle:
                handle.return_value.sendmsg = sendmsg
                writeAll(self.connection, buffers)
            self.assertEqual(b"abcdef", sent[0] + self.rest(), count)

    def test_manyBuffers(self) -> None:
        """More than the system takes in one call."""
        writeAll(self.connection, [b"ab"] * 3000)
        self.assertEqual(b"ab" * 3000, self.rest())

    def test_closing(self) -> None:
        """What is written after the order to close is not lost before it."""
        self.connection.write(b"first")
        self.connection.disconnecting = True
        writeAll(self.connection, [b"second"])
        self.connection.doWrite()
        self.assertEqual(b"firstsecond", self.received())

    def test_peerGone(self) -> None:
        """The connection notices; the caller does not."""
        self.peer.close()
        writeAll(self.connection, [b"data"])
        self.assertIsInstance(self.connection.doWrite(), Exception)

    def test_otherTransports(self) -> None:
        """They are written to as they know it."""
        transport = StringTransport()
        writeAll(transport, [b"a", memoryview(b"b")])
        self.assertEqual(b"ab", transport.value())
