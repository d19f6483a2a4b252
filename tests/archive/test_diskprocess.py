"""New files written by another process."""

from __future__ import annotations

import errno
import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from d360.archive import files
from d360.archive.blocks import BLOCK, Blocks, MappedBlocks
from d360.archive.diskchild import DiskChild
from d360.archive.diskmessages import join, split
from d360.archive.diskprocess import ProcessDisk, _Channel
from d360.archive.files import FileArchive
from d360.archive.incoming import LOCK
from d360.archive.incomingfiles import IncomingFiles
from d360.digests import digestOf
from d360.errors import ArchiveError
from tests.contracts.archive import HEAD, INSTANCE, SERIES, STUDY


class MessageTests(SynchronousTestCase):
    """Messages in a stream."""

    def test_pieces(self) -> None:
        """However they are cut."""
        messages = [(1, "append", None), (2, [b"x" * 1000], ("a", 3)), ()]
        data = b"".join(map(join, messages))
        for length in (1, 7, len(data)):
            found, rest = [], b""
            for start in range(0, len(data), length):
                some, rest = split(rest + data[start : start + length])
                found += some
            self.assertEqual((messages, b""), (found, rest))


class _Reactor(Clock):
    """Keeps what wants to read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: set[Any] = set()

    def addReader(self, one: Any) -> None:
        """Not of interest."""

    removeReader = addReader

    def addWriter(self, one: Any) -> None:
        self.writers.add(one)

    def removeWriter(self, one: Any) -> None:
        self.writers.discard(one)


class ChannelTests(SynchronousTestCase):
    """An end that takes no more is waited for."""

    def test_full(self) -> None:
        """Everything arrives, in order."""
        ours, other = socket.socketpair()
        self.addCleanup(other.close)
        clock = _Reactor()
        channel = _Channel(clock, ours, lambda message: None, lambda: None)
        self.addCleanup(channel.close)
        for number in range(200):
            channel.send((number, bytes(10000)))
        self.assertEqual({channel}, clock.writers)
        other.setblocking(False)
        rest, numbers = b"", []
        while len(numbers) < 200:
            some, rest = split(rest + other.recv(100000))
            numbers += [number for number, _ in some]
            for writer in tuple(clock.writers):
                writer.doWrite()
        self.assertEqual(list(range(200)), numbers)
        self.assertEqual(set(), clock.writers)


class ProcessDiskTests(TestCase):
    """An archive whose files another process writes."""

    timeout = 300

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.disk: Any = None

        def makeDisk(*arguments: Any) -> ProcessDisk:
            self.disk = ProcessDisk(reactor, *arguments)
            self.addCleanup(self.disk.stop)
            return self.disk

        self.archive = FileArchive(str(self.directory), deferToThread, None, makeDisk)
        self.archive.prepare()

    def names(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.directory))
            for path in self.directory.rglob("*")
            if path.is_file() and path.name != LOCK
        )

    async def commit(self, data: bytes, instance: str = INSTANCE) -> Any:
        writer = self.archive.create(HEAD)
        writer.expect(STUDY, SERIES, instance)
        for start in range(0, len(data), 65000):
            writer.write(data[start : start + 65000])
            await deferLater(reactor, 0)
        placed: list[Any] = []
        blob = await writer.commit(STUDY, SERIES, instance, placed.append)
        self.assertEqual([blob], placed)
        return writer, blob

    async def test_kept(self) -> None:
        """Of all sizes: the bytes, in their place, under a mark until settled."""
        for number, size in enumerate((0, 1, 300_000, BLOCK, 3 * BLOCK + 17)):
            data = os.urandom(size)
            writer, blob = await self.commit(data, f"1.2.{number}")
            path = self.directory / blob.location.path
            self.assertTrue(path.read_bytes() == HEAD + data)
            self.assertEqual(digestOf(data), blob.digest)
            self.assertEqual((blob.location,), await self.others())
            await writer.settle()
            self.assertEqual((), await self.others())

    async def others(self) -> Any:
        """What another process finds on its way."""
        archive = FileArchive(str(self.directory), deferToThread)
        self.patch(files, "awaitOthers", lambda folder: None)
        archive.prepare()
        return await archive.unsettled()

    async def test_manyAtATime(self) -> None:
        """Each its own bytes."""
        datas = [os.urandom(400_000 + number) for number in range(24)]
        writers = []
        for number, data in enumerate(datas):
            writer = self.archive.create(HEAD)
            writer.expect(STUDY, SERIES, f"1.2.{number}")
            writer.write(data)
            writers.append(writer)
        blobs = [
            writer.commit(STUDY, SERIES, f"1.2.{number}")
            for number, writer in enumerate(writers)
        ]
        for data, committed in zip(datas, blobs, strict=True):
            blob = await committed
            self.assertTrue(
                (self.directory / blob.location.path).read_bytes() == HEAD + data
            )

    async def test_takenName(self) -> None:
        """Another name, of which the index is told."""
        await self.commit(b"first")
        _, blob = await self.commit(b"second")
        self.assertRegex(blob.location.path, r"-[0-9a-f]{8}\.dcm$")

    async def test_discarded(self) -> None:
        """Nothing is left, whether it had its place or not."""
        for size in (1000, 2 * BLOCK):
            writer = self.archive.create(HEAD)
            writer.expect(STUDY, SERIES, INSTANCE)
            writer.write(bytes(size))
            await writer.discard()
        self.assertEqual([], self.names())

    async def test_refused(self) -> None:
        """What the system says is the cause."""
        await self.commit(b"first")
        folder = next(self.directory.glob("??")) / STUDY
        (folder / "1.9").write_text("a file where a folder must be")
        writer = self.archive.create(HEAD)
        with self.assertRaises(ArchiveError) as raised:
            await writer.commit(STUDY, "1.9", INSTANCE)
        cause = raised.exception.__cause__
        assert isinstance(cause, OSError)
        self.assertEqual(errno.ENOTDIR, cause.errno)

    async def test_dies(self) -> None:
        """
        What it was asked for fails, and leaves nothing; the next instance is
        written by another one.
        """
        writer = self.archive.create(HEAD)
        writer.expect(STUDY, SERIES, INSTANCE)
        writer.write(bytes(2 * BLOCK))
        while not self.names():
            await deferLater(reactor, 0.01)
        os.kill(self.disk.pid, signal.SIGSTOP)
        committed = writer.commit(STUDY, SERIES, INSTANCE)
        await deferLater(reactor, 1.1)
        os.kill(self.disk.pid, signal.SIGKILL)
        with self.assertRaises(ArchiveError):
            await committed
        _, blob = await self.commit(b"data", "1.2.9")
        self.assertEqual(2, len(self.names()), self.names())
        self.assertIn(blob.location.path, self.names())

    async def test_diesBetween(self) -> None:
        """
        While nothing of a file was asked for: the next process does not go on
        with it, as if what came before had never been.
        """
        writer = self.archive.create(HEAD)
        writer.expect(STUDY, SERIES, INSTANCE)
        for _ in range(3):
            writer.write(bytes(BLOCK))
        while self.disk._waiting:
            await deferLater(reactor, 0.01)
        os.kill(self.disk.pid, signal.SIGKILL)
        while self.disk.pid:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 1.1)
        # Another one is at work by now.
        await self.commit(b"data", "1.2.9")
        writer.write(bytes(BLOCK + 5))
        told: list[Any] = []
        with self.assertRaises(ArchiveError):
            await writer.commit(STUDY, SERIES, INSTANCE, told.append)
        await writer.discard()
        self.assertEqual(2, len(self.names()), self.names())

    async def test_isWaitedFor(self) -> None:
        """
        Who starts after a server that was killed waits for the process that
        still writes for it.
        """
        await self.commit(b"data")
        os.kill(self.disk.pid, signal.SIGSTOP)
        archive = FileArchive(str(self.directory), deferToThread)
        preparing = deferToThread(archive.prepare)
        await deferLater(reactor, 0.3)
        self.assertFalse(preparing.called)
        os.kill(self.disk.pid, signal.SIGCONT)
        self.disk.stop()
        await preparing
        self.assertEqual(1, len(await archive.unsettled()))

    async def test_serverVanishes(self) -> None:
        """It ends also where nobody has read its answers."""
        ours, its = socket.socketpair()
        mapped, found = Blocks(), IncomingFiles(str(self.directory), ".incoming", False)
        child = DiskChild(its, MappedBlocks(mapped.descriptor), found)
        running = deferToThread(child.run, 2)
        ours.sendall(join((1, "remove", "none")) * 2000)
        await deferLater(reactor, 0.1)
        ours.close()
        await running

    async def test_endsWithTheServer(self) -> None:
        """What it is at work with is brought to its end."""
        await self.commit(b"data")
        pid = self.disk.pid
        self.disk.stop()
        self.assertRaises(ProcessLookupError, partial(os.kill, pid, 0))
