"""A worker's own side: what it is told, and what it tells."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IFileDescriptorReceiver
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.logs import Logger
from d360.metrics.values import LogEvent
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

#: Seconds that a change may wait for others before it is reported.
PATIENCE = 0.05


class IConnectionFactory(Protocol):
    """What serves connections, and knows how many there are."""

    @property
    def connections(self) -> int:
        """Open ones."""

    @property
    def live(self) -> int:
        """Associations that are established."""

    @property
    def accepted(self) -> int:
        """Those established since the start."""

    def connectionsOf(self, host: str) -> int:
        """Open ones of a host."""


class INumbers(Protocol):
    """Where the numbers of associations come from."""

    @property
    def next(self) -> int:
        """The one that follows."""


@frozen
class Work:
    """
    What a worker is made of.

    @ivar factory: counts all connections.
    @ivar doors: what serves those of each door, see L{Take}.
    @ivar refusing: what tells them that there are too many of their host.
    @ivar told: what takes what it is told, by name, see L{Tell}.
    @ivar questions: what it can be asked, by name, and what answers.
    @ivar open: gets all ready; fires with how many files were left behind by
        the worker before and are resolved.
    @ivar close: lets what is under way end, and then all.
    """

    factory: IConnectionFactory
    doors: Mapping[str, Any]
    refusing: Mapping[str, Any]
    told: Mapping[str, Callable[[Any], None]]
    numbers: INumbers
    questions: Mapping[str, Callable[[], Any]]
    open: Callable[[], Deferred[int]]
    close: Callable[[str], Deferred[None]]


@implementer(IFileDescriptorReceiver)
class WorkerWire(Wire):
    """
    The worker's end. It lives as long as the server wants it to, and as long
    as there is a server.

    @param build: puts it together; nothing is opened yet.
    @param ended: all has come to its end in order.
    @param lost: there is no server any more, or nothing can be opened.
    """

    _log = Logger("d360.workers")

    def __init__(
        self,
        reactor: Any,
        build: Callable[[Begin, WorkerWire], Work],
        ended: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._build = build
        self._ended = ended
        self._lost = lost
        self._work: Work | None = None
        self._descriptors: deque[int] = deque()
        self._taken = 0
        self._hosts: set[str] = set()
        self._call: IDelayedCall | None = None
        self._hasEnded = False

    # --- what it is told

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """A connection; L{Take} follows."""
        self._descriptors.append(descriptor)

    def received(self, message: Message) -> None:
        """See L{Wire.received}."""
        if isinstance(message, Begin):
            self._work = work = self._build(message, self)
            work.open().addCallbacks(self._opened, self._cannotOpen)
            return
        assert self._work is not None
        if isinstance(message, Take):
            self._take(message)
        elif isinstance(message, Tell):
            self._work.told[message.what](message.value)
        elif isinstance(message, Ask):
            if self._call is not None:
                self._report()
            answer = self._work.questions[message.what]()
            self.send(Answer(message.serial, answer))
        elif isinstance(message, Stop):
            closed = self._work.close(message.why)
            closed.addErrback(lambda f: self._log.failure("cannot end in order", f))
            closed.addCallback(self._closed)

    def _opened(self, recovered: int) -> None:
        self.send(Ready(recovered))
        self._report()

    def _cannotOpen(self, failure: Failure) -> None:
        self._log.failure("cannot begin", failure)
        self._lost()

    def _closed(self, _: None) -> None:
        self._hasEnded = True
        self._ended()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server has gone: what is not acknowledged now never was."""
        if not self._hasEnded:
            self._lost()

    # --- connections

    def _take(self, message: Take) -> None:
        assert self._work is not None
        doors = self._work.refusing if message.isTooMany else self._work.doors
        self._taken += 1
        # The server holds it open until it hears of it.
        self._reportWithin(0.0)
        if not self._descriptors:
            # The system has dropped it, for there was no room for another one.
            self._log.error(
                "A connection was lost, for no more files can be open; raise the "
                "limit (LimitNOFILE of systemd, ulimit -n)"
            )
            return
        descriptor = self._descriptors.popleft()
        try:
            self._reactor.adoptStreamConnection(
                descriptor, socket.AddressFamily(message.family), doors[message.door]
            )
        except OSError:
            # The peer has gone already.
            self._log.debug("a connection has ended on its way here")
        finally:
            os.close(descriptor)

    # --- what it tells

    def changed(self, host: str) -> None:
        """A connection or an association of a host has begun or ended."""
        self._hosts.add(host)
        self._reportWithin(PATIENCE)

    def note(self, event: LogEvent) -> None:
        """A warning or an error of the log."""
        self.send(Noted(event.time.timestamp(), event.level, event.text))

    def _reportWithin(self, seconds: float) -> None:
        if self._call is None:
            self._call = self._reactor.callLater(seconds, self._report)
        elif self._call.getTime() > self._reactor.seconds() + seconds:
            self._call.reset(seconds)

    def _report(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        assert self._work is not None
        factory = self._work.factory
        hosts, self._hosts = self._hosts, set()
        self.send(
            Report(
                self._taken,
                factory.connections,
                factory.live,
                factory.accepted,
                self._work.numbers.next,
                {host: factory.connectionsOf(host) for host in hosts},
            )
        )
