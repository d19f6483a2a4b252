"""Tests for L{d360.audit.writer}."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.audit import events, writer
from d360.audit.messages import AuditMessage, AuditSource
from d360.audit.syslog import Header, Syslog
from d360.audit.writer import INTERVAL, MAX_WAITING, RETRY, AuditWriter
from tests.audit.reading import Read
from tests.audit.test_messages import NOON, OURS, USER

HEADER = Header("pacs1", "4711")


class MemoryFile:
    """
    See L{d360.audit.file.AuditFile}.

    @ivar error: what appending fails with.
    @ivar tries: how often it was asked for.
    """

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.error: OSError | None = None
        self.tries = 0

    def append(self, lines: Sequence[bytes]) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.lines += lines


class MemorySyslog(Syslog):
    """Keeps what is sent."""

    isFailing = False

    def __init__(self) -> None:
        super().__init__(Clock(), "udp://log")
        self.calls: list[Any] = []

    def start(self) -> None:
        self.calls.append("start")

    def send(self, messages: Sequence[bytes]) -> None:
        self.calls += messages

    def stop(self, patience: float) -> Deferred[None]:
        self.calls.append("stop")
        return succeed(None)


def searched(number: int) -> Callable[[], list[AuditMessage]]:
    return lambda: [events.search(OURS, NOON, USER, f"/api/studies?limit={number}")]


class WriterTests(SynchronousTestCase):
    """Messages get to the file and to syslog, in a thread."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.file = MemoryFile()
        self.threads: list[tuple[Deferred[Any], Callable[..., Any], Any]] = []
        self.holds = False
        self.writer = self.make(self.file)
        self.writer.start()

    def make(self, file: Any, syslog: Syslog | None = None) -> AuditWriter:
        source = AuditSource("D360PACS")
        return AuditWriter(self.clock, self.run_, source, HEADER, file, syslog)

    def run_(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """See L{d360.archive.threads.DiskThreads.run}."""
        if not self.holds:
            return maybeDeferred(function, *arguments)
        result: Deferred[Any] = Deferred()
        self.threads.append((result, function, arguments))
        return result

    def letGo(self) -> None:
        """The threads have their turn."""
        while self.threads:
            result, function, arguments = self.threads.pop(0)
            result.callback(function(*arguments))

    def queries(self) -> list[str]:
        """What was searched for, by the lines of the file."""
        found = [Read(line).query.decode() for line in self.file.lines]
        return [text.removeprefix("/api/studies?limit=") for text in found]

    def test_soon(self) -> None:
        """They are written within a second, some at a time."""
        for number in range(3):
            self.writer.add(searched(number))
        self.assertEqual((self.queries(), self.writer.waiting), ([], 3))
        self.clock.advance(INTERVAL)
        self.assertEqual(self.queries(), ["0", "1", "2"])
        self.assertEqual((self.writer.written, self.writer.waiting), (3, 0))
        self.assertLess(INTERVAL, 1)

    def test_inThread(self) -> None:
        """Nothing is made into XML or written on the reactor."""
        self.holds = True
        self.writer.add(lambda: self.fail("made on the reactor"))
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.threads), 1)
        self.threads.clear()

    def test_inTheirOrder(self) -> None:
        """What comes while others are written follows them."""
        self.holds = True
        self.writer.add(searched(1))
        self.clock.advance(INTERVAL)
        self.writer.add(searched(2))
        self.clock.pump([INTERVAL] * 5)
        self.assertEqual(len(self.threads), 1)
        self.letGo()
        self.clock.advance(INTERVAL)
        self.letGo()
        self.assertEqual(self.queries(), ["1", "2"])

    def test_diskFull(self) -> None:
        """Messages wait until there is room; it is told, and not each time."""
        self.file.error = OSError(errno.ENOSPC, "No space left on device")
        self.writer.add(searched(1))
        self.clock.pump([INTERVAL] * 10)
        self.assertTrue(self.writer.isFailing)
        self.writer.add(searched(2))
        self.clock.pump([INTERVAL] * 10)
        self.assertEqual((self.writer.written, self.writer.waiting), (0, 2))
        self.file.error = None
        self.clock.pump([INTERVAL] * int(RETRY / INTERVAL + 1))
        self.assertEqual(self.queries(), ["1", "2"])
        self.assertFalse(self.writer.isFailing)
        self.assertEqual(self.writer.dropped, 0)

    def test_notAgainAndAgain(self) -> None:
        """It is not tried so often that others have less room."""
        self.file.error = OSError(errno.ENOSPC, "No space left on device")
        self.writer.add(searched(1))
        self.clock.pump([INTERVAL] * int(10 * RETRY / INTERVAL))
        self.assertLess(self.file.tries, 12)
        self.file.error = None
        self.successResultOf(self.writer.stop())
        self.assertEqual(self.queries(), ["1"])

    def test_bounded(self) -> None:
        """What comes too fast does not fill the memory."""
        for number in range(40):
            self.writer.add(searched(number), 1 << 20)
        # Each takes a little more.
        self.assertEqual(self.writer.waiting, (MAX_WAITING >> 20) - 1)
        self.assertEqual(self.writer.dropped, 40 - self.writer.waiting)
        self.clock.advance(INTERVAL)
        self.writer.add(searched(99), 1 << 20)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.queries()[-2:], ["30", "99"])

    def test_boundedWhenWritten(self) -> None:
        """Nor does what cannot be written; syslog gets it all the same."""
        self.patch(writer, "MAX_WAITING", 1 << 18)
        self.file.error = OSError(errno.ENOSPC, "No space left on device")
        syslog = MemorySyslog()
        one = self.make(self.file, syslog)
        one.start()
        for number in range(500):
            one.add(searched(number))
            if number % 10 == 9:
                self.clock.advance(INTERVAL)
        size = sum(len(line) for line in one._lines)
        self.assertGreater(size, 1 << 17)
        self.assertLess(size, 1 << 18)
        self.assertEqual(one.dropped, 500 - one.waiting)
        self.assertEqual(len(syslog.calls), 1 + 500)
        self.file.error = None
        self.successResultOf(one.stop())
        self.assertEqual(one.written, 500 - one.dropped)
        self.assertEqual(self.queries()[0], "0")

    def test_mistake(self) -> None:
        """One that cannot be made does not keep the others."""
        self.writer.add(lambda: [1 // 0])  # type: ignore[list-item]
        self.writer.add(searched(2))
        self.clock.advance(INTERVAL)
        self.assertEqual(self.queries(), ["2"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        """What waits is written."""
        self.holds = True
        self.writer.add(searched(1))
        self.clock.advance(INTERVAL)
        self.writer.add(searched(2))
        stopped = self.writer.stop()
        self.assertNoResult(stopped)
        self.letGo()
        self.successResultOf(stopped)
        self.assertEqual(self.queries(), ["1", "2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_neverStarted(self) -> None:
        """The server may stop before it has begun."""
        self.successResultOf(self.make(self.file).stop())

    def test_syslog(self) -> None:
        """Syslog gets them with its header, also while the file fails."""
        self.file.error = OSError(errno.ENOSPC, "No space left on device")
        syslog = MemorySyslog()
        writer = self.make(self.file, syslog)
        writer.start()
        writer.add(searched(1))
        self.clock.pump([INTERVAL] * 3)
        self.successResultOf(writer.stop())
        start, message, stop = syslog.calls
        self.assertEqual((start, stop), ("start", "stop"))
        head, _, xml = message.partition(b"\xef\xbb\xbf")
        self.assertTrue(head.startswith(b"<85>1 2026-01-01T12:00:00.250000Z pacs1 "))
        self.assertEqual(Read(xml).kind, "110112")

    def test_syslogOnly(self) -> None:
        """There need be no file."""
        syslog = MemorySyslog()
        writer = self.make(None, syslog)
        writer.start()
        writer.add(searched(1))
        self.clock.advance(INTERVAL)
        self.assertEqual(len(syslog.calls), 2)
        self.assertEqual((writer.written, writer.waiting), (1, 0))
