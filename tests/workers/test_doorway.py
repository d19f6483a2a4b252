"""Tests for L{d360.workers.doorway}, on sockets of loopback."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import TestCase

from d360.workers.doorway import Doorway, listen


class Taker:
    """Takes one connection."""

    def __init__(self) -> None:
        self.taken: Deferred[tuple[socket.socket, str, str]] = Deferred()

    def take(self, connection: socket.socket, peer: str, door: str) -> None:
        self.taken.callback((connection, peer, door))


class DoorwayTests(TestCase):
    """Connections are accepted, and nothing is read."""

    async def test_nothingRead(self) -> None:
        """What the peer sends is there for who serves it."""
        taker = Taker()
        port = listen(reactor, 0, Doorway(taker, "front"), 5, "127.0.0.1")
        self.addCleanup(port.stopListening)
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as peer:
            peer.sendall(b"first of all")
            connection, address, door = await taker.taken
            with connection:
                self.assertEqual(door, "front")
                self.assertEqual(address, "127.0.0.1")
                self.assertEqual(connection.recv(100), b"first of all")
                connection.sendall(b"answer")
            self.assertEqual(peer.recv(100), b"answer")
            self.assertEqual(peer.recv(100), b"")

    async def test_closedIsNotShut(self) -> None:
        """Our descriptor is closed, and the connection goes on elsewhere."""
        taker = Taker()
        port = listen(reactor, 0, Doorway(taker, "front"), 5, "127.0.0.1")
        self.addCleanup(port.stopListening)
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as peer:
            connection, _, _ = await taker.taken
            with connection.dup() as elsewhere:
                connection.close()
                elsewhere.sendall(b"here")
                self.assertEqual(peer.recv(100), b"here")

    def test_inUse(self) -> None:
        """As C{listenTCP} says it."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.assertRaises(
                CannotListenError,
                listen,
                reactor,
                other.getsockname()[1],
                Doorway(Taker(), "front"),
                5,
                "127.0.0.1",
            )
