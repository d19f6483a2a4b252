"""
New files are written by a process of their own, L{d360.archive.diskchild}.

Each step of writing one is a call of the system that waits for the disk. In a
thread of this process each of them would ask for Python's lock before it can go
on, and the reactor for it again: some hundred switches an instance, which took
as long as all that is done for it. What is in the blocks is not sent over, as
that process maps their memory; what is said in a message is some hundred bytes.
"""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.archive.blocks import Blocks
from d360.archive.disk import Part
from d360.archive.diskmessages import DONE, PLACED, join, split
from d360.archive.intact import Signature
from d360.children import commandOf, environment
from d360.logs import Logger
from d360.model import Location

#: Calls of the system that wait for the disk at the same time.
THREADS = 16

#: Seconds between two starts of the process.
_PAUSE = 1.0

#: Bytes that are read at once.
_READ = 65536


@implementer(IReadWriteDescriptor)
class _Channel:
    """
    This end of the connection: what is sent goes out at once, as a rule.

    @param received: takes each message.
    @param lost: is called when the other end is gone.
    """

    def __init__(
        self,
        reactor: Any,
        end: socket.socket,
        received: Callable[[Any], None],
        lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._end = end
        self._received = received
        self._lost = lost
        self._rest = b""
        self._unsent = b""
        end.setblocking(False)
        reactor.addReader(self)

    def fileno(self) -> int:
        """See L{IReadWriteDescriptor}; as all of these."""
        return self._end.fileno()

    def logPrefix(self) -> str:
        return "disk"

    def send(self, message: Any) -> None:
        """Send a message; whether it arrives shows in its answer."""
        data = join(message)
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._end.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The reader is told that the other end is gone.
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._reactor.addWriter(self)

    def doWrite(self) -> None:
        try:
            self._unsent = self._unsent[self._end.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""
        if not self._unsent:
            self._reactor.removeWriter(self)

    def doRead(self) -> None:
        try:
            data = self._end.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._lost()
            return
        messages, self._rest = split(self._rest + data if self._rest else data)
        for message in messages:
            self._received(message)

    def connectionLost(self, reason: Failure) -> None:
        if self._end.fileno() >= 0:
            self.close()
            # When the reactor ends it closes all connections: that is no fault.
            if self._reactor.running:
                self._lost()

    def close(self) -> None:
        """Of no more use."""
        if self._end.fileno() >= 0:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._end.close()


class ProcessDisk:
    """
    See L{d360.archive.disk.IDisk}.

    The process ends with this one, after what it is at work with. Should it die
    before, what it was asked for has failed, and another one is started when it is
    needed.

    @param atOnce: start the process now, which takes it a tenth of a second, and
        not when it is first needed.
    """

    _log = Logger("d360.archive")

    def __init__(
        self,
        reactor: Any,
        root: str,
        incoming: str,
        direct: bool,
        blocks: Blocks,
        atOnce: bool = False,
    ) -> None:
        self._reactor = reactor
        self._arguments = [root, incoming, str(int(direct)), str(THREADS)]
        self._blocks = blocks
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: _Channel | None = None
        self._startedAt = -_PAUSE
        self._number = 0
        self._waiting: dict[int, tuple[Deferred[Any], Callable[[Any], None]]] = {}
        # Files that were begun and neither settled nor removed; and those of a
        # process that died, which another one must not go on with.
        self._begun: set[str] = set()
        self._lost: set[str] = set()
        reactor.addSystemEventTrigger("after", "shutdown", self.stop)
        if atOnce:
            self._start()

    # --- the process

    def _start(self) -> None:
        self._startedAt = self._reactor.seconds()
        ours, its = socket.socketpair()
        descriptors = (its.fileno(), self._blocks.descriptor)
        arguments = [*map(str, descriptors), *self._arguments]
        self._process = subprocess.Popen(
            commandOf("d360.archive.diskchild", *arguments),
            env=environment(),
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
        )
        its.close()
        self._channel = _Channel(self._reactor, ours, self._answered, self._died)

    @property
    def pid(self) -> int:
        """The process, while there is one; else 0."""
        return 0 if self._process is None else self._process.pid

    def _died(self) -> None:
        process, self._process, self._channel = self._process, None, None
        if process is not None:
            process.kill()
            status = process.wait()
            self._log.error(
                "The process that writes files has ended ({status}); "
                "it is started again with the next instance",
                status=status,
            )
        self._lost |= self._begun
        self._begun = set()
        waiting, self._waiting = self._waiting, {}
        for answered, _ in waiting.values():
            answered.errback(_gone())

    def stop(self) -> None:
        """Let it end what it is at work with. Blocks until then."""
        channel, self._channel = self._channel, None
        process, self._process = self._process, None
        if channel is not None:
            channel.close()
        if process is not None:
            process.wait()

    # --- questions and answers

    def _ask(
        self, *question: Any, placed: Callable[[Any], None] = lambda _: None
    ) -> Deferred[Any]:
        if self._channel is None:
            if self._reactor.seconds() - self._startedAt < _PAUSE:
                return fail(_gone())
            try:
                self._start()
            except OSError as error:
                return fail(error)
        assert self._channel is not None
        self._number += 1
        answered: Deferred[Any] = Deferred()
        self._waiting[self._number] = answered, placed
        self._channel.send((self._number, *question))
        return answered

    def _answered(self, message: tuple[int, int, Any]) -> None:
        number, kind, value = message
        if kind == PLACED:
            try:
                self._waiting[number][1](Location(*value))
            except Exception:
                self._log.failure("when a file had its place")
            return
        answered, _ = self._waiting.pop(number)
        if kind == DONE:
            answered.callback(value)
        else:
            answered.errback(OSError(*value))

    def _goOn(
        self,
        what: str,
        token: str,
        *rest: Any,
        placed: Callable[[Any], None] = lambda _: None,
    ) -> Deferred[Any]:
        """Ask for something that is done to a file that may have been begun."""
        if token in self._lost:
            return fail(_gone())
        self._begun.add(token)
        return self._ask(what, token, *rest, placed=placed)

    def _forget(self, token: str) -> None:
        self._begun.discard(token)
        self._lost.discard(token)

    def _reference(self, part: Part) -> tuple[int, int, int]:
        return self._blocks.numberOf(part.block), part.begin, part.end

    def place(
        self, token: str, offset: int, folder: str, instance: str
    ) -> Deferred[Location]:
        """See L{IDisk.place}."""
        done = self._goOn("place", token, offset, folder, instance)
        return done.addCallback(_asLocation)

    def append(self, token: str, offset: int, part: Part) -> Deferred[None]:
        """See L{IDisk.append}."""
        return self._goOn("append", token, offset, self._reference(part))

    def commit(
        self,
        token: str,
        offset: int,
        parts: Sequence[Part],
        folder: str,
        instance: str,
        placed: Callable[[Location], None],
    ) -> Deferred[tuple[Location, Signature]]:
        """See L{IDisk.commit}."""
        references = [self._reference(part) for part in parts]
        done = self._goOn(
            "commit", token, offset, references, folder, instance, placed=placed
        )
        return done.addCallback(_asKept)

    def settle(self, tokens: Sequence[str]) -> Deferred[list[str]]:
        """See L{IDisk.settle}."""
        for token in tokens:
            self._forget(token)
        return self._ask("settle", list(tokens))

    def remove(self, token: str) -> Deferred[list[str]]:
        """See L{IDisk.remove}."""
        self._forget(token)
        return self._ask("remove", token)


def _gone() -> OSError:
    return OSError(errno.EIO, "the process that writes files has ended")


def _asLocation(value: tuple[str, int]) -> Location:
    return Location(*value)


def _asKept(value: tuple[tuple[str, int], Signature]) -> tuple[Location, Signature]:
    return Location(*value[0]), value[1]
