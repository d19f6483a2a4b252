"""Data sets read in threads: whose the blocks are, and when they are given back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from d360.archive.blocks import BLOCK, Blocks
from d360.archive.intact import signatureOf
from d360.archive.reader import DatasetReader, Wanted, openCached, openDataset
from d360.digests import digestOf
from d360.errors import ArchiveError


class CountedBlocks(Blocks):
    """
    Blocks that are each given back once.

    @ivar taken: those in use, by their numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[int] = set()

    def take(self) -> memoryview:
        block = super().take()
        self.taken.add(self.numberOf(block))
        return block

    def give(self, block: memoryview) -> None:
        self.taken.remove(self.numberOf(block))
        super().give(block)


class ReaderTests(SynchronousTestCase):
    """Jobs run at once, or when they are let."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.blocks = CountedBlocks()
        # What is mapped has a descriptor, too.
        self.blocks.give(self.blocks.take())
        self.holding = False
        self.held: list[Deferred[None]] = []
        self.descriptors = self.openFiles()

    def tearDown(self) -> None:
        """Whatever happens, nothing is kept."""
        self.assertEqual(set(), self.blocks.taken)
        self.assertEqual(self.descriptors, self.openFiles())

    def openFiles(self) -> int:
        """Those of files; the memory of archives that have gone is not."""
        count = 0
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                count += "memfd" not in os.readlink(f"/proc/self/fd/{name}")
        return count

    def inThread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        if not self.holding:
            return maybeDeferred(function, *arguments)
        waiting: Deferred[Any] = Deferred()
        self.held.append(waiting)
        return waiting.addCallback(lambda _: function(*arguments))

    def letRun(self) -> None:
        held, self.held = self.held, []
        for waiting in held:
            waiting.callback(None)

    def write(self, data: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(data)

    def open(self, **options: Any) -> Deferred[DatasetReader]:
        return openDataset(Wanted(self.path, **options), self.blocks, self.inThread)

    def test_whole(self) -> None:
        """In use until it is closed, once or twice."""
        self.write(b"data")
        reader = self.successResultOf(self.open(digest=digestOf(b"data")))
        self.assertEqual(1, len(self.blocks.taken))
        self.assertEqual(b"data", bytes(self.successResultOf(reader.read(10))))
        reader.close()
        reader.close()

    def test_gone(self) -> None:
        self.failureResultOf(self.open(), ArchiveError)

    def test_unreadable(self) -> None:
        """The system refuses to read it."""
        os.mkdir(self.path)
        self.failureResultOf(self.open(), ArchiveError)

    def test_damaged(self) -> None:
        """Of another size, or with other bytes, short and long."""
        for length in (5, 2 * BLOCK):
            self.write(bytes(length))
            self.failureResultOf(self.open(size=length + 1), ArchiveError)
            self.failureResultOf(self.open(digest=digestOf(b"other")), ArchiveError)

    def test_manyFailures(self) -> None:
        """The memory does not grow with them."""
        for _ in range(40):
            self.failureResultOf(self.open(), ArchiveError)
        self.assertEqual(16 * BLOCK, os.fstat(self.blocks.descriptor).st_size)

    def test_cancelled(self) -> None:
        """The block is the thread's until its job has ended, in whatever way."""
        for length in (5, 2 * BLOCK, None):
            if length is None:
                os.unlink(self.path)
            else:
                self.write(bytes(length))
            self.holding = True
            opening = self.open()
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            self.assertEqual(1, len(self.blocks.taken))
            self.letRun()
            self.assertEqual(set(), self.blocks.taken)

    def test_closedWhileReading(self) -> None:
        """Both blocks are given back when the last job has ended."""
        self.write(bytes(3 * BLOCK))
        reader = self.successResultOf(self.open())
        self.successResultOf(reader.read(BLOCK))
        self.holding = True
        reads = [reader.read(BLOCK), reader.read(BLOCK)]
        for read in reads:
            read.cancel()
            self.failureResultOf(read, CancelledError)
        first, second = self.held
        first.callback(None)
        reader.close()
        self.assertEqual(2, len(self.blocks.taken))
        second.callback(None)
        self.assertEqual(set(), self.blocks.taken)

    def test_shorterMeanwhile(self) -> None:
        """A read that fails leaves them to whoever closes it."""
        self.write(bytes(2 * BLOCK))
        reader = self.successResultOf(self.open())
        self.write(b"")
        self.failureResultOf(reader.read(BLOCK), ArchiveError)
        self.assertEqual(2, len(self.blocks.taken))
        reader.close()

    def test_cached(self) -> None:
        """On the spot, as it must be, or not."""
        self.write(b"data")
        descriptor = os.open(self.path, os.O_RDONLY)
        signature = signatureOf(descriptor)
        os.close(descriptor)
        reader = openCached(Wanted(self.path, 0, 4, None, signature), self.blocks)
        if reader is not None:
            reader.close()
        for path, size in ((self.path, 5), (self.path + "x", 4)):
            wanted = Wanted(path, 0, size, None, signature)
            self.assertIsNone(openCached(wanted, self.blocks))
