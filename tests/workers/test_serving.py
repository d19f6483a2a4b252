"""Tests for L{d360.workers.serving}: a worker's side."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.workers.serving import PATIENCE, Work, WorkerWire
from d360.workers.wire import (
    Answer,
    Ask,
    Begin,
    Message,
    Ready,
    Report,
    Stop,
    Take,
    Tell,
    Wire,
    encode,
)

BEGIN = Begin(1, 2, {}, "", 10, 1, False)


class Reactor(Clock):
    """
    What adopts connections.

    @ivar isGone: the peers have gone.
    """

    isGone = False

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[Any] = []

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        if self.isGone:
            raise OSError(107, "Transport endpoint is not connected")
        self.adopted.append((os.fstat(descriptor).st_ino, family, factory))
        factory.connections += 1


class Factory:
    """What counts; see L{IConnectionFactory}. Its numbers are its own, too."""

    connections = live = accepted = 0
    next = 1

    def connectionsOf(self, host: str) -> int:
        return self.connections


class Listening(Wire):
    """The server's end."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def received(self, message: Message) -> None:
        self.messages.append(message)


class WorkerTests(SynchronousTestCase):
    """What it is told, and what it says."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.factory, self.back, self.refusing = Factory(), Factory(), Factory()
        self.known: list[Any] = []
        self.opened: Deferred[int] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.closing: list[str] = []
        self.ends: list[str] = []
        self.wire = WorkerWire(
            self.reactor,
            self.build,
            lambda: self.ends.append("ended"),
            lambda: self.ends.append("lost"),
        )
        self.transport = StringTransport()
        self.wire.makeConnection(self.transport)

    def build(self, begin: Begin, wire: WorkerWire) -> Work:
        """See L{WorkerWire}."""
        self.assertEqual(begin, BEGIN)

        def close(why: str) -> Deferred[None]:
            self.closing.append(why)
            return self.closed

        questions = {"counters": lambda: {"a": 1}}
        return Work(
            self.factory,
            {"front": self.factory, "back": self.back},
            {"front": self.refusing},
            {"credentials": self.known.append},
            self.factory,
            questions,
            lambda: self.opened,
            close,
        )

    def tell(self, message: Message) -> None:
        """The server says something."""
        data = encode(message)
        self.wire.dataReceived(len(data).to_bytes(4, "big") + data)

    def told(self) -> list[Message]:
        """What it has said since it was asked last."""
        server = Listening()
        server.makeConnection(StringTransport())
        server.dataReceived(self.transport.value())
        self.transport.clear()
        return server.messages

    def begin(self) -> None:
        """It takes connections."""
        self.tell(BEGIN)
        self.opened.callback(0)
        self.told()

    def take(self, door: str = "front", isTooMany: bool = False) -> int:
        """A connection comes; returns what it is known by."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        inode = os.fstat(ours.fileno()).st_ino
        self.wire.fileDescriptorReceived(ours.detach())
        self.tell(Take(socket.AF_INET, door, isTooMany))
        return inode

    def test_ready(self) -> None:
        """When all is open, and not before."""
        self.tell(BEGIN)
        self.assertEqual(self.told(), [])
        self.opened.callback(3)
        self.assertEqual(self.told(), [Ready(3), Report(0, 0, 0, 0, 1)])

    def test_known(self) -> None:
        """What it is told is known before it is ready."""
        self.tell(BEGIN)
        self.tell(Tell("credentials", {"key": "PEM"}))
        self.assertEqual(self.known, [{"key": "PEM"}])

    def test_door(self) -> None:
        """A connection is served as its door says."""
        self.begin()
        first = self.take("back")
        self.assertEqual(self.reactor.adopted, [(first, socket.AF_INET, self.back)])

    def test_tooMany(self) -> None:
        """One that its host has too many of is served as such."""
        self.begin()
        first = self.take(isTooMany=True)
        self.assertEqual(self.reactor.adopted, [(first, socket.AF_INET, self.refusing)])

    def test_cannotBegin(self) -> None:
        """There is no use for it."""
        self.opened = fail(OSError("no disk"))
        self.tell(BEGIN)
        self.assertEqual(self.ends, ["lost"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_take(self) -> None:
        """A connection is adopted, and that is told at once."""
        self.begin()
        first, second = self.take(), self.take()
        family = socket.AF_INET
        self.assertEqual(
            self.reactor.adopted,
            [(first, family, self.factory), (second, family, self.factory)],
        )
        self.reactor.advance(0)
        self.assertEqual(self.told(), [Report(2, 2, 0, 0, 1)])

    def test_gone(self) -> None:
        """One whose peer has gone meanwhile counts as taken all the same."""
        self.begin()
        self.reactor.isGone = True
        before = len(os.listdir("/proc/self/fd"))
        self.take()
        # The peer's end is still open, ours is not.
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        self.reactor.advance(0)
        self.assertEqual(self.told(), [Report(1, 0, 0, 0, 1)])

    def test_noDescriptor(self) -> None:
        """
        One that the system has dropped, for too many files are open, is lost, and
        nothing else is: also it counts as taken, so that the server closes it.
        """
        self.begin()
        self.tell(Take(socket.AF_INET, "front"))
        self.reactor.advance(0)
        self.assertEqual(self.told(), [Report(1, 0, 0, 0, 1)])
        self.take()
        self.assertEqual(len(self.reactor.adopted), 1)

    def test_changes(self) -> None:
        """Changes are told together, soon."""
        self.begin()
        self.factory.live = 1
        self.wire.changed("192.0.2.7")
        self.factory.live, self.factory.accepted, self.factory.next = 2, 3, 10
        self.factory.connections = 4
        self.wire.changed("192.0.2.8")
        self.assertEqual(self.told(), [])
        self.reactor.advance(PATIENCE)
        hosts = {"192.0.2.7": 4, "192.0.2.8": 4}
        self.assertEqual(self.told(), [Report(0, 4, 2, 3, 10, hosts)])
        self.wire.changed("192.0.2.8")
        self.reactor.advance(PATIENCE)
        hosts = {"192.0.2.8": 4}
        self.assertEqual(self.told(), [Report(0, 4, 2, 3, 10, hosts)])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_ask(self) -> None:
        """Questions are answered; what has changed is told before."""
        self.begin()
        self.factory.live = 1
        self.wire.changed("192.0.2.7")
        self.tell(Ask(7, "counters"))
        report = Report(0, 0, 1, 0, 1, {"192.0.2.7": 0})
        self.assertEqual(self.told(), [report, Answer(7, {"a": 1})])

    def test_stop(self) -> None:
        """It ends when all is closed, and then its server may go."""
        self.begin()
        self.tell(Stop("the server stops"))
        self.assertEqual((self.closing, self.ends), (["the server stops"], []))
        self.closed.callback(None)
        self.wire.connectionLost()
        self.assertEqual(self.ends, ["ended"])

    def test_stopFails(self) -> None:
        """It ends all the same."""
        self.begin()
        self.closed.errback(Failure(ZeroDivisionError()))
        self.tell(Stop("the server stops"))
        self.assertEqual(self.ends, ["ended"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_serverGone(self) -> None:
        """Without its server it is nothing."""
        self.begin()
        self.wire.connectionLost()
        self.assertEqual(self.ends, ["lost"])
