"""
Audit messages on their way out: made into XML and written in a thread, some at a
time, so that the reactor does no more than to note what has happened.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from d360.asynchronous import asynchronous
from d360.audit.file import AuditFile
from d360.audit.messages import AuditMessage, AuditSource, EventOutcome, encode
from d360.audit.syslog import Header, Syslog
from d360.logs import ContextLogger

#: Seconds that a message may wait for others.
INTERVAL = 0.25

#: Bytes that wait at most to be made into XML, as far as can be told, and to be
#: written; more is dropped.
MAX_WAITING = 32 << 20

#: Bytes of a message without what may be long in it.
_SMALL = 2000

#: Seconds that a receiver of syslog may take when the server stops.
_STOPPING = 5.0

#: Seconds after which a file that cannot be written is tried again.
RETRY = 5.0

#: Seconds between two lines of the log that say that the file cannot be written.
_QUIET = 60.0

_log = ContextLogger("d360.audit", "audit trail")

#: Makes the messages of an event; is called in a thread.
Make = Callable[[], Iterable[AuditMessage]]

#: L{d360.archive.threads.DiskThreads.run}.
Run = Callable[..., Deferred[Any]]


@frozen
class Written:
    """
    A message as it goes out.

    @ivar xml: as the file has it.
    @ivar frame: as syslog has it; empty where there is none.
    """

    xml: bytes
    frame: bytes


class AuditWriter:
    """
    Writes messages to a file, sends them by syslog, or both.

    @param run: runs a function in a thread.
    @param file: C{None} for none.
    @param syslog: C{None} for none.
    @ivar written: messages that are in the file, or handed to syslog where there
        is no file.
    @ivar dropped: messages for which there was no room.
    @ivar isFailing: the file cannot be written.
    """

    def __init__(
        self,
        clock: IReactorTime,
        run: Run,
        source: AuditSource,
        header: Header,
        file: AuditFile | None,
        syslog: Syslog | None,
    ) -> None:
        self.written = 0
        self.dropped = 0
        self.isFailing = False
        self._run = run
        self._clock = clock
        self._source = source
        self._header = header
        self._file = file
        self.syslog = syslog
        self._events: deque[tuple[int, Make]] = deque()
        self._eventsSize = 0
        self._lines: list[bytes] = []
        self._linesSize = 0
        self._told = -_QUIET
        self._retryAt = 0.0
        self._loop = LoopingCall(self.flush)
        self._loop.clock = clock
        self._ended: Deferred[Any] = succeed(None)

    def start(self) -> None:
        """Begin to write."""
        if self.syslog is not None:
            self.syslog.start()
        self._ended = self._loop.start(INTERVAL, now=False)

    def add(self, make: Make, size: int = 0) -> None:
        """
        Have messages written soon.

        @param size: bytes of what may be long in them.
        """
        size += _SMALL
        if self._eventsSize + size > MAX_WAITING:
            self.dropped += 1
            self._complain("there are too many messages")
            return
        self._eventsSize += size
        self._events.append((size, make))

    @property
    def allDropped(self) -> int:
        """Messages that were dropped here or on their way to syslog."""
        return self.dropped + (self.syslog.dropped if self.syslog else 0)

    @property
    def allWaiting(self) -> int:
        """Messages that are not written or sent yet."""
        return self.waiting + (self.syslog.waiting if self.syslog else 0)

    @property
    def cannotWrite(self) -> bool:
        """The file cannot be written, or nothing sent."""
        return self.isFailing or (self.syslog is not None and self.syslog.isFailing)

    @property
    def waiting(self) -> int:
        """Messages that are not written yet, as far as it is known."""
        return len(self._events) + len(self._lines)

    @asynchronous
    async def flush(self) -> None:
        """Write what waits. Never fails."""
        try:
            await self._flush()
        except Exception:
            _log.failure("cannot write messages")

    async def _flush(self) -> None:
        # What comes meanwhile waits for the next time.
        events = tuple(self._events)
        self._events.clear()
        if events:
            size = sum(size for size, _ in events)
            try:
                made = await self._run(self._make, [make for _, make in events])
            finally:
                self._eventsSize -= size
            self._take([one for one in made if isinstance(one, Written)])
            for failure in (one for one in made if isinstance(one, Failure)):
                _log.failure("a message cannot be made", failure)
        if self._lines and (
            not self.isFailing or self._clock.seconds() >= self._retryAt
        ):
            await self._append()

    def _take(self, made: Sequence[Written]) -> None:
        if self.syslog is not None:
            self.syslog.send([one.frame for one in made])
        if self._file is None:
            self.written += len(made)
            return
        for one in made:
            if self._linesSize + len(one.xml) > MAX_WAITING:
                self.dropped += 1
            else:
                self._linesSize += len(one.xml)
                self._lines.append(one.xml)

    async def _append(self) -> None:
        assert self._file is not None
        try:
            await self._run(self._file.append, self._lines)
        except OSError as error:
            self.isFailing = True
            self._retryAt = self._clock.seconds() + RETRY
            self._complain(
                f"the file cannot be written: {error.strerror or error}; storing goes "
                "on, and messages are kept in memory while there is room"
            )
            return
        if self.isFailing:
            _log.info("the file can be written again")
        self.isFailing = False
        self.written += len(self._lines)
        self._lines = []
        self._linesSize = 0

    def _make(self, makers: Sequence[Make]) -> list[Written | Failure]:
        """In a thread."""
        made: list[Written | Failure] = []
        for make in makers:
            try:
                for message in make():
                    xml = encode(message, self._source)
                    made.append(Written(xml, self._frame(message, xml)))
            except Exception:
                made.append(Failure())
            # Let the reactor have its turn.
            time.sleep(0)
        return made

    def _frame(self, message: AuditMessage, xml: bytes) -> bytes:
        if self.syslog is None:
            return b""
        succeeded = message.outcome is EventOutcome.SUCCESS
        return self._header.frame(xml, message.time, succeeded)

    def _complain(self, why: str) -> None:
        now = self._clock.seconds()
        if now - self._told >= _QUIET:
            self._told = now
            _log.error(
                "{why}; {dropped} were dropped up to now", why=why, dropped=self.dropped
            )

    @asynchronous
    async def stop(self) -> None:
        """Write what waits, and end."""
        if self._loop.running:
            self._loop.stop()
            # What is being written is waited for.
            await self._ended
        self._retryAt = 0.0
        await self.flush()
        if self.waiting:
            _log.error("{count} messages are lost", count=self.waiting)
        if self.syslog is not None:
            await self.syslog.stop(_STOPPING)
