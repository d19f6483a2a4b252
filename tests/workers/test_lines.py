"""Tests for L{d360.workers.lines}."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from d360.logs import fileObserver
from d360.workers.lines import (
    PATIENCE,
    LineSender,
    WholeLines,
    WithoutLines,
    shownElsewhere,
)


class LineSenderTests(SynchronousTestCase):
    """A worker's end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.end, write = os.pipe()
        os.set_blocking(self.end, False)
        self.addCleanup(os.close, self.end)
        self.addCleanup(os.close, write)
        self.sender = LineSender(write, self.clock)

    def written(self) -> bytes:
        """What has come through up to now."""
        try:
            return os.read(self.end, 1 << 20)
        except BlockingIOError:
            return b""

    def test_together(self) -> None:
        """Lines wait for each other a moment."""
        self.sender.write("a\n")
        self.sender.write("ü\n")
        self.assertEqual(self.written(), b"")
        self.clock.advance(PATIENCE)
        self.assertEqual(self.written(), "a\nü\n".encode())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_flush(self) -> None:
        """Until somebody says that they shall not."""
        self.sender.write("a\n")
        self.sender.write("b\n")
        self.sender.flush()
        self.assertEqual(self.written(), b"a\nb\n")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """Or there are very many."""
        self.sender.write("a" * 40000)
        self.assertEqual(len(self.written()), 40000)

    def test_serverGone(self) -> None:
        """Nobody reads any more: that is for others to notice."""
        end, write = os.pipe()
        os.close(end)
        self.addCleanup(os.close, write)
        sender = LineSender(write, self.clock)
        sender.write("a\n")
        sender.flush()


class WholeLinesTests(SynchronousTestCase):
    """The server's end."""

    def test_pieces(self) -> None:
        """Whole lines only, whatever comes."""
        for size in (1, 7, 100):
            written: list[bytes] = []
            lines = WholeLines(written.append)
            data = b"one\ntwo\n\tof two\nthree"
            for at in range(0, len(data), size):
                lines.feed(data[at : at + size])
            self.assertEqual(b"".join(written), b"one\ntwo\n\tof two\n")
            self.assertTrue(all(piece.endswith(b"\n") for piece in written))
            lines.end()
            self.assertEqual(written[-1], b"three\n")

    def test_endless(self) -> None:
        """A line without an end does not grow for ever."""
        written: list[bytes] = []
        lines = WholeLines(written.append)
        for _ in range(20):
            lines.feed(b"a" * 100000)
        self.assertGreaterEqual(len(written), 1)


class FileTests(SynchronousTestCase):
    """Where the lines go."""

    def test_asTheyAre(self) -> None:
        """Into the log file as they came; elsewhere as one event."""
        path = Path(self.mktemp()) / "d360.log"
        observer = fileObserver(path, "info", 1 << 20, 1)
        observer.append("a ü\n\tb\n".encode())
        events: list[dict[str, Any]] = []
        others = WithoutLines(observer)
        for each in (others, events.append):
            globalLogPublisher.addObserver(each)
            self.addCleanup(globalLogPublisher.removeObserver, each)
        shownElsewhere("a ü\n\tb\n".encode())
        self.assertEqual([event["workerLines"] for event in events], ["a ü\n\tb"])
        self.assertEqual(path.read_bytes(), "a ü\n\tb\n".encode())
