"""One worker, as the server sees it: a child process and the way to it."""

from __future__ import annotations

import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, ProcessProtocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import Interface

from d360.children import commandOf, environment
from d360.errors import D360Error
from d360.hosts import HostCounts
from d360.logs import ContextLogger
from d360.workers.lines import WholeLines
from d360.workers.wire import (
    Answer,
    Ask,
    Begin,
    Message,
    Noted,
    Ready,
    Report,
    Stop,
    Take,
    Tell,
    Wire,
)

#: The descriptor of the way to the server, in the worker.
WIRE = 3

#: That of the number by which it sees that remote AEs have changed.
CHANGES = 4

#: Seconds after the end of a worker in which lines of it may still come.
LAST_LINES = 1.0

_NOTHING = Report(0, 0, 0, 0, 0)


@frozen
class Arrival:
    """
    A connection that was accepted.

    @ivar peer: the address it comes from.
    @ivar door: see L{d360.workers.doorway.Doorway}.
    """

    connection: socket.socket
    peer: str
    door: str


class WorkerGone(D360Error):
    """The worker has ended, and answers nothing any more."""


class IOwner(Interface):
    """What hears of a worker's life."""

    def ready(worker: WorkerProcess, recovered: int) -> None:
        """It takes connections now."""

    def reported(worker: WorkerProcess) -> None:
        """Its numbers have changed."""

    def noted(worker: WorkerProcess, message: Noted) -> None:
        """A warning or an error of its log."""

    def ended(worker: WorkerProcess, how: str) -> None:
        """
        It has ended.

        @param how: its exit status, or the signal that ended it.
        """

    def silent(worker: WorkerProcess) -> None:
        """It has ended, and nothing of its log comes any more."""


class _ServerWire(Wire):
    """The server's end."""

    worker: WorkerProcess

    def received(self, message: Message) -> None:
        """See L{Wire.received}."""
        self.worker.received(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The worker has gone, or is about to: nothing holds it any more."""
        self.worker.wireLost()


class WorkerProcess(ProcessProtocol):
    """
    See the module.

    @ivar number: its place, which it shares with those started before and
        after it in its stead.
    @ivar pid: its process, while there is one whose log may come.
    @ivar since: when it was started, in seconds since the epoch.
    @ivar isReady: it takes connections.
    @ivar report: what it said last of itself.
    @param write: takes its lines of the log.
    @param inherited: further descriptors that it has: those of ours, by its own.
    """

    transport: Any

    def __init__(
        self,
        reactor: Any,
        number: int,
        owner: Any,
        write: Callable[[bytes], None],
        inherited: Mapping[int, int] | None = None,
    ) -> None:
        self.number = number
        self.pid = 0
        self.since = reactor.seconds()
        self.isReady = False
        self.report = _NOTHING
        self.log = ContextLogger("d360.workers", f"worker {number}")
        self._reactor = reactor
        self._owner = owner
        self._inherited = dict(inherited or {})
        self._lines = (WholeLines(write), WholeLines(write))
        self._handed: deque[Arrival] = deque()
        # Of each host, on their way to it, and those that it has.
        self._handedOf, self._takenOf = HostCounts(), HostCounts()
        self._taken = 0
        self._serial = 0
        self._asked: dict[int, Deferred[Any]] = {}
        self._wire: _ServerWire | None = None
        self._closing: IDelayedCall | None = None

    # --- start and end

    def spawn(self, begin: Begin) -> None:
        """
        Start the process.

        @raise OSError: it cannot be.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            process = self._reactor.spawnProcess(
                self,
                sys.executable,
                commandOf("d360.worker"),
                environment(),
                childFDs={
                    0: "w",
                    1: "r",
                    2: "r",
                    WIRE: theirs.fileno(),
                    **self._inherited,
                },
            )
            self.pid = process.pid
            self.connect(ours)
        process.closeStdin()
        self._send(begin)

    def connect(self, ours: socket.socket) -> None:
        """Speak over this end."""
        wire = _ServerWire()
        wire.worker = self
        self._wire = wire
        factory = Factory.forProtocol(lambda: wire)
        factory.noisy = False
        self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)

    def stop(self, why: str) -> None:
        """Have it end in order."""
        self.isReady = False
        self._send(Stop(why))

    def kill(self) -> None:
        """End it at once."""
        try:
            self.transport.signalProcess(signal.SIGKILL)
        except ProcessExitedAlready:
            return

    def _send(self, message: Message) -> None:
        if self._wire is not None:
            self._wire.send(message)

    def tell(self, what: str, value: Any) -> None:
        """See L{Tell}."""
        self._send(Tell(what, value))

    # --- connections

    @property
    def connections(self) -> int:
        """Those that it has, and those that are on their way to it."""
        return self.report.connections + len(self._handed)

    def connectionsOf(self, host: str) -> int:
        """The same of one host."""
        return self._takenOf.of(host) + self._handedOf.of(host)

    def hand(self, arrival: Arrival, isTooMany: bool = False) -> None:
        """
        Have it serve a connection. Our own descriptor stays open until it has
        taken it, so that nothing is lost if it ends before.

        @param isTooMany: see L{Take}.
        """
        assert self._wire is not None
        self._handed.append(arrival)
        self._handedOf.add(arrival.peer)
        transport: Any = self._wire.transport
        transport.sendFileDescriptor(arrival.connection.fileno())
        self._send(Take(arrival.connection.family, arrival.door, isTooMany))

    def _release(self, taken: int) -> None:
        """It has taken so many in all."""
        while self._taken < taken:
            self._taken += 1
            arrival = self._handed.popleft()
            self._handedOf.remove(arrival.peer)
            arrival.connection.close()

    def leftConnections(self) -> list[Arrival]:
        """Now that it has ended: what was handed over and never taken."""
        left, self._handed = list(self._handed), deque()
        self._handedOf = HostCounts()
        return left

    # --- questions and answers

    def ask(self, what: str, patience: float) -> Deferred[Any]:
        """
        Fires with the answer.

        @param patience: seconds to wait for it.
        @raise WorkerGone: there will be none.
        @raise TimeoutError: there was none in time.
        """
        if self._wire is None or not self.isReady:
            return fail(WorkerGone())
        self._serial += 1
        serial = self._serial
        answered: Deferred[Any] = Deferred(lambda _: self._forget(serial))
        self._asked[serial] = answered
        self._send(Ask(serial, what))
        return answered.addTimeout(patience, self._reactor)

    def _forget(self, serial: int) -> None:
        self._asked.pop(serial, None)

    def received(self, message: Message) -> None:
        """It has said something."""
        if isinstance(message, Report):
            self._release(message.taken)
            self.report = message
            for host, count in message.hosts.items():
                self._takenOf.put(host, count)
            self._owner.reported(self)
        elif isinstance(message, Answer):
            asked = self._asked.pop(message.serial, None)
            if asked is not None:
                asked.callback(message.value)
        elif isinstance(message, Noted):
            self._owner.noted(self, message)
        elif isinstance(message, Ready):
            self.isReady = True
            self._owner.ready(self, message.recovered)

    def wireLost(self) -> None:
        """It can be told nothing more; what is left of it ends."""
        self.isReady = False
        self._wire = None
        asked, self._asked = self._asked, {}
        for answered in asked.values():
            answered.errback(WorkerGone())

    # --- ProcessProtocol

    def outReceived(self, data: bytes) -> None:
        """Lines of its log."""
        self._lines[0].feed(data)

    def errReceived(self, data: bytes) -> None:
        """What Python says where there is no log yet, or no more."""
        self._lines[1].feed(data)

    def processExited(self, reason: Failure) -> None:
        """
        See L{ProcessProtocol.processExited}. A child of the worker's may have
        its end of our pipes open yet: nothing waits for that.
        """
        self._closing = self._reactor.callLater(
            LAST_LINES, self.transport.loseConnection
        )
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.abortConnection()  # type: ignore[attr-defined]
        self.wireLost()
        status: Any = reason.value
        if status.signal:
            how = signal.Signals(status.signal).name
        else:
            how = f"exit status {status.exitCode or 0}"
        self._owner.ended(self, how)

    def processEnded(self, reason: Failure) -> None:
        """See L{ProcessProtocol.processEnded}: its last line has come."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        for lines in self._lines:
            lines.end()
        self.pid = 0
        self._owner.silent(self)
