"""
The archive as files: one Part 10 file an instance, kept as received.

Nothing blocks the reactor: every system call runs in a thread. What is smaller
than a block of memory is gathered there, and opened, written, linked and synced
by one single job when it is committed; what is larger is written block by block
while it arrives, and its producer is paused while the disk is behind, so that
the largest instance takes no more memory than three blocks.

How a file becomes durable, and what remains after a crash, is told in
L{d360.archive.incoming}; where files are, in L{d360.archive.layout}.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, BinaryIO, TypeVar
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from d360.archive.blocks import Blocks
from d360.archive.disk import IDisk, IDiskMaker, InThread, ThreadedDisk
from d360.archive.examination import Examination, distrust
from d360.archive.incoming import (
    FOLDER_MODE,
    Folders,
    awaitOthers,
    syncFolder,
    takesDirect,
)
from d360.archive.incomingfiles import IncomingFiles
from d360.archive.intact import Intact
from d360.archive.layout import (
    DAMAGED,
    INCOMING,
    PART,
    checkFolder,
    checkPath,
    fromMark,
    markOf,
)
from d360.archive.reader import DatasetReader, Wanted, openCached, openDataset
from d360.archive.writer import Later, Settling, Writer
from d360.asynchronous import asynchronous
from d360.errors import ArchiveError, FileDamaged, FileMissing
from d360.interfaces import IArchive, IBlobWriter, IDatasetReader
from d360.model import DiskSpace, Location

T = TypeVar("T")


def _tellNow(function: Callable[[T], None], argument: T) -> None:
    function(argument)


@implementer(IArchive)
class FileArchive:
    """
    See L{IArchive}.

    @param directory: the archive's folder; L{prepare} makes it.
    @param inThread: runs a function with arguments in a thread, and returns a
        Deferred of its result; jobs must be able to run side by side.
    @param later: if given, marks are taken away some time later, several at
        once.
    @param makeDisk: makes what new files are written by, when the folders are
        there; if not given, that is done by C{inThread}.
    @param incoming: the folder for what is on its way, below the archive's:
        each process that writes has its own, which is L{INCOMING} or in it.
    """

    def __init__(
        self,
        directory: str,
        inThread: InThread,
        later: Later | None = None,
        makeDisk: IDiskMaker | None = None,
        incoming: str = INCOMING,
    ) -> None:
        self._root = os.path.abspath(directory)
        self._inThread = inThread
        self._later = later
        self._makeDisk = makeDisk or self._makeThreadedDisk
        self._incoming = os.path.join(self._root, incoming)
        self._folders = Folders(self._root)
        self._blocks = Blocks()
        self._intact = Intact()
        # Of one run of the server, so that those of earlier runs are known.
        self._runID = secrets.token_hex(4)
        self._serial = count()
        self._writers: WeakValueDictionary[str, Writer] = WeakValueDictionary()

    def prepare(self) -> None:
        """
        Make the folders, and try out what the archive needs of its file
        system. Blocks: for the start of the server.

        @raise ArchiveError: what is wrong, in one line.
        """
        probe = os.path.join(self._incoming, f"{self._runID}-probe{PART}")
        try:
            os.makedirs(self._incoming, FOLDER_MODE, exist_ok=True)
            awaitOthers(self._incoming)
            direct = takesDirect(probe)
            with open(probe, "wb") as file:
                os.link(probe, probe + "2" + PART)
                os.fsync(file.fileno())
            os.unlink(probe + "2" + PART)
            os.unlink(probe)
            above = os.path.dirname(self._incoming)
            for folder in {above, self._root, os.path.dirname(self._root)}:
                syncFolder(folder)
            self._disk = self._makeDisk(
                self._root, self._incoming, direct, self._blocks
            )
        except OSError as error:
            raise ArchiveError(
                f"the archive {self._root} cannot be used: {error.strerror}; it must "
                "be writable, on a file system with hard links"
            ) from error
        self._settling = Settling(self._disk, self._later)

    @asynchronous
    async def awaitOthers(self) -> None:
        """
        Wait until nobody writes any more who began it before us; as L{prepare}
        does.

        @raise ArchiveError: it does not end.
        """
        await self._system(awaitOthers, self._incoming)

    def _makeThreadedDisk(
        self, root: str, incoming: str, direct: bool, blocks: Blocks
    ) -> IDisk:
        """One without threads of its own: what tells the reactor is in it."""
        files = IncomingFiles(root, incoming, direct)
        return ThreadedDisk(files, self._inThread, _tellNow)

    def create(self, head: bytes) -> IBlobWriter:
        token = f"{self._runID}-{next(self._serial):x}"
        writer = Writer(
            token,
            head,
            self._disk,
            self._blocks,
            self._intact,
            self._settling,
            self._forgetWriter,
        )
        self._writers[token] = writer
        return writer

    def _forgetWriter(self, token: str) -> None:
        self._writers.pop(token, None)

    @asynchronous
    async def _system(self, function: Callable[..., T], *arguments: Any) -> T:
        """In a thread; what the system refuses is an L{ArchiveError}."""
        try:
            result: T = await self._inThread(function, *arguments)
        except OSError as error:
            raise ArchiveError(f"the archive refuses: {error.strerror}") from error
        return result

    def pathOf(self, location: Location) -> str:
        checkPath(location.path)
        return os.path.join(self._root, location.path)

    @asynchronous
    async def remove(self, location: Location) -> None:
        path = self.pathOf(location)

        def unlink() -> None:
            try:
                os.unlink(path)
            except FileNotFoundError:
                return
            self._folders.prune(location.path.rpartition("/")[0])

        await self._system(unlink)

    @asynchronous
    async def setAside(self, location: Location) -> None:
        path = self.pathOf(location)

        def rename() -> None:
            folder = os.path.join(self._root, DAMAGED)
            os.makedirs(folder, FOLDER_MODE, exist_ok=True)
            name = f"{secrets.token_hex(4)}~{location.path.replace('/', '~')}"
            with suppress(FileNotFoundError):
                os.rename(path, os.path.join(folder, name))
            self._folders.prune(location.path.rpartition("/")[0])

        await self._system(rename)

    @asynchronous
    async def sync(self, location: Location) -> None:
        path = self.pathOf(location)

        def sync() -> None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            syncFolder(os.path.dirname(path))

        await self._system(sync)

    @asynchronous
    async def exists(self, location: Location) -> bool:
        path = self.pathOf(location)

        def look() -> bool:
            try:
                os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

        # Whatever else goes wrong does not mean that it is gone.
        return await self._system(look)

    def open(
        self, location: Location, size: int, digest: bytes
    ) -> Deferred[IDatasetReader]:
        wanted = Wanted(
            self.pathOf(location),
            location.dataSetOffset,
            size,
            digest,
            self._intact.get(location.path, digest),
        )

        def opened(reader: DatasetReader) -> IDatasetReader:
            self._intact.wasRead(location.path, digest, reader.signature)
            return reader

        if self._intact.isWarm(location.path):
            reader = openCached(wanted, self._blocks)
            if reader is not None:
                # So most are while a study is sent, where each coroutine counts.
                return succeed(opened(reader))
        return openDataset(wanted, self._blocks, self._inThread).addCallback(opened)

    @asynchronous
    async def examine(
        self,
        location: Location,
        size: int,
        digest: bytes,
        pace: Callable[[int], Deferred[None]],
    ) -> bytes:
        path = self.pathOf(location)
        examination = Examination(path, location.dataSetOffset, size, digest)
        try:
            while not examination.complete:
                await pace(await self._inThread(examination.step))
        except FileDamaged:
            await self._inThread(distrust, path)
            raise
        except (FileNotFoundError, NotADirectoryError):
            raise FileMissing("the file is gone") from None
        except OSError as error:
            raise ArchiveError(f"it cannot be read: {error.strerror}") from error
        finally:
            if not examination.closed:
                await self._inThread(examination.close)
        return examination.head

    @asynchronous
    async def isSettled(self, location: Location) -> bool:
        def look() -> bool:
            marks = map(fromMark, self._namesOnTheirWay())
            return all(mark is None or mark[0].path != location.path for mark in marks)

        return await self._system(look)

    @asynchronous
    async def openOther(self, path: str) -> IDatasetReader:
        """
        Read a file that is none of the archive's: all of it is the data set.

        @raise ArchiveError: it cannot be read.
        """
        return await openDataset(Wanted(path), self._blocks, self._inThread)

    @asynchronous
    async def readWith(self, location: Location, reader: Callable[[BinaryIO], T]) -> T:
        path = self.pathOf(location)

        def read() -> T:
            with open(path, "rb") as file:
                return reader(file)

        return await self._system(read)

    @asynchronous
    async def unsettled(self) -> tuple[Location, ...]:
        incoming = self._incoming
        names = await self._system(os.listdir, incoming)
        # Here, not in the thread: a writer that is not known now either was
        # created after the list, or its files are of no more use to it.
        found, stale = {}, []
        inUse = set(self._writers)
        for name in names:
            mark = fromMark(name)
            if mark is not None and mark[1] not in inUse:
                found[os.path.join(incoming, name)] = mark[0]
            elif name.endswith(PART) and name.removesuffix(PART) not in inUse:
                stale.append(os.path.join(incoming, name))
        return await self._system(self._marked, found, stale)

    def _marked(
        self, found: dict[str, Location], stale: list[str]
    ) -> tuple[Location, ...]:
        """
        The places of marks that lead to a file. One that was lost before it
        was linked leads to none, or to the file of another receipt, which is
        no business of its.
        """
        marked = {}
        for mark, location in found.items():
            place = os.path.join(self._root, location.path)
            try:
                isLinked = os.path.samefile(mark, place)
            except (FileNotFoundError, NotADirectoryError):
                isLinked = False
            if isLinked:
                marked[location.path] = location
            else:
                stale.append(mark)
        _unlinkAll(stale)
        return tuple(marked[path] for path in sorted(marked))

    @asynchronous
    async def settle(self, location: Location) -> None:
        checkPath(location.path)
        inUse = set(self._writers)
        await self._system(self._settle, location, inUse)

    def _settle(self, location: Location, inUse: set[str]) -> None:
        for name in os.listdir(self._incoming):
            mark = fromMark(name)
            if mark and mark[0].path == location.path and mark[1] not in inUse:
                _unlinkAll([os.path.join(self._incoming, name)])

    @asynchronous
    async def discard(self, location: Location) -> None:
        checkPath(location.path)
        inUse = set(self._writers)
        await self._system(self._discard, location.path, inUse)

    def _discard(self, path: str, inUse: set[str]) -> None:
        place = os.path.join(self._root, path)
        for name in os.listdir(self._incoming):
            mark = fromMark(name)
            if mark is None or mark[0].path != path or mark[1] in inUse:
                continue
            marked = os.path.join(self._incoming, name)
            with suppress(FileNotFoundError, NotADirectoryError):
                if os.path.samefile(marked, place):
                    os.unlink(place)
            _unlinkAll([marked])
        self._folders.prune(path.rpartition("/")[0])

    @asynchronous
    async def unsettle(self, location: Location) -> None:
        path = self.pathOf(location)
        token = f"{self._runID}-{next(self._serial):x}"
        mark = markOf(location.path, location.dataSetOffset, token)

        def link() -> None:
            with suppress(FileNotFoundError):
                os.link(path, os.path.join(self._incoming, mark))
                # What the index does next is durable, so this has to be too.
                syncFolder(self._incoming)

        await self._system(link)

    @asynchronous
    async def paths(self) -> tuple[str, ...]:
        def read() -> tuple[str, ...]:
            # All that the layout uses, so that also the loss of a whole folder
            # is seen by those who compare.
            names = {f"{number:02x}" for number in range(256)}
            with os.scandir(self._root) as entries:
                names.update(entry.name for entry in entries if entry.is_dir())
            names -= {INCOMING, DAMAGED}
            return tuple(sorted(names))

        return await self._system(read)

    @asynchronous
    async def pathsBelow(self, folder: str) -> tuple[str, ...]:
        checkFolder(folder)

        def read() -> tuple[str, ...]:
            found = []
            top = os.path.join(self._root, folder)
            for above, _, names in os.walk(top, onerror=_unlessGone):
                relative = os.path.relpath(above, self._root)
                found += [f"{relative}/{n}" for n in names if not n.startswith(".")]
            # What is on its way is entered by who receives it, or not at all.
            marks = map(fromMark, self._namesOnTheirWay())
            onTheirWay = {mark[0].path for mark in marks if mark is not None}
            return tuple(sorted(path for path in found if path not in onTheirWay))

        return await self._system(read)

    def _namesOnTheirWay(self) -> list[str]:
        """Of all processes that write."""
        names: list[str] = []
        for _, _, files in os.walk(os.path.join(self._root, INCOMING)):
            names += files
        return names

    @asynchronous
    async def space(self) -> DiskSpace:
        state = await self._system(os.statvfs, self._root)
        return DiskSpace(
            total=state.f_frsize * state.f_blocks, free=state.f_frsize * state.f_bavail
        )


def _unlessGone(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _unlinkAll(paths: list[str]) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
