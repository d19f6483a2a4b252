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
from hashlib import sha256
from itertools import count
from typing import Any, BinaryIO, TypeVar
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.archive.blocks import BLOCK, Blocks
from d360.archive.incoming import (
    FOLDER_MODE,
    Folders,
    IncomingFile,
    syncFolder,
    takesDirect,
)
from d360.archive.intact import Intact, Signature
from d360.archive.layout import (
    INCOMING,
    PART,
    checkFolder,
    checkPath,
    checkUID,
    folderOf,
    fromMark,
    markOf,
)
from d360.archive.reader import Wanted, openDataset
from d360.asynchronous import asynchronous
from d360.errors import ArchiveError
from d360.interfaces import IArchive, IBlobWriter, IDatasetReader
from d360.logs import Logger
from d360.model import Blob, DiskSpace, Location

T = TypeVar("T")

#: Runs a function in a thread, as C{deferToThread} does.
InThread = Callable[..., Deferred[Any]]

#: Calls a function after so many seconds, as C{reactor.callLater} does.
Later = Callable[..., Any]

#: Seconds for which marks that can be taken away are gathered.
SETTLE_DELAY = 0.05


class _Settling:
    """
    Takes away the marks of several files in one job. Nobody waits for it, and
    a job of its own for each would cost as much as to receive a small
    instance.
    """

    def __init__(self, inThread: InThread, later: Later | None) -> None:
        self._inThread = inThread
        self._later = later
        self._waiting: list[tuple[IncomingFile, Deferred[None]]] = []

    def settle(self, file: IncomingFile) -> Deferred[None]:
        """Fires when the mark is gone."""
        settled: Deferred[None] = Deferred()
        self._waiting.append((file, settled))
        if self._later is None:
            self._begin()
        elif len(self._waiting) == 1:
            self._later(SETTLE_DELAY, self._begin)
        return settled

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        done = self._inThread(_settleAll, [file for file, _ in waiting])
        done.addCallbacks(
            lambda problems: _tell(waiting, problems),
            lambda failure: _tell(waiting, [failure] * len(waiting)),
        )


def _settleAll(files: list[IncomingFile]) -> list[OSError | None]:
    problems: list[OSError | None] = []
    for file in files:
        try:
            file.settle()
            problems.append(None)
        except OSError as error:
            problems.append(error)
    return problems


def _tell(
    waiting: list[tuple[IncomingFile, Deferred[None]]], problems: list[Any]
) -> None:
    for (_, settled), problem in zip(waiting, problems, strict=True):
        if problem is None:
            settled.callback(None)
        else:
            settled.errback(problem)


@implementer(IBlobWriter)
class _Writer:
    """See L{IBlobWriter}."""

    _log = Logger("d360.archive")

    def __init__(
        self,
        head: bytes,
        file: IncomingFile,
        blocks: Blocks,
        intact: Intact,
        inThread: InThread,
        settling: _Settling,
        ended: Callable[[str], None],
    ) -> None:
        self.size = 0
        self._digest = sha256()
        self._head = head
        self._file = file
        self._blocks = blocks
        self._intact = intact
        self._inThread = inThread
        self._settling = settling
        self._ended = ended
        # The one that is being filled, and those that wait to be written.
        self._block: memoryview | None = None
        self._filled = 0
        self._full: list[memoryview] = []
        # One job at a time, in the order in which they were asked for.
        self._turn = DeferredLock()
        self._writing = False
        self._touched = False
        self._closed = False
        # A part of it was given up, so that it can only be removed; and why.
        self._isLost = False
        self._failure: BaseException | None = None
        self._producer: IPushProducer | None = None
        self._paused = False

    # --- IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if not streaming:
            raise ValueError("only push producers can be paused")
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None
        self._paused = False

    def write(self, data: bytes | memoryview) -> None:
        if self._closed or self._isLost:
            return
        self.size += len(data)
        # Here, where the bytes still are in the processor's cache, and not in
        # the job, where they would have to be fetched again.
        self._digest.update(data)
        self._gather(memoryview(data))
        if self._full:
            if not self._writing:
                self._write()
            elif self._producer is not None and not self._paused:
                self._paused = True
                self._producer.pauseProducing()

    def _gather(self, data: memoryview) -> None:
        """Copy bytes into blocks, after those that every file begins with."""
        if self._head:
            head, self._head = self._head, b""
            self._gather(memoryview(head))
        while data:
            if self._block is None:
                self._block = self._blocks.take()
            end = min(self._filled + len(data), BLOCK)
            taken = end - self._filled
            self._block[self._filled : end] = data[:taken]
            data = data[taken:]
            self._filled = end
            if end == BLOCK:
                self._full.append(self._block)
                self._block, self._filled = None, 0

    def _write(self) -> None:
        """Have a job write a full block, and go on when it is done."""
        self._writing = True
        self._touched = True
        done = self._turn.run(self._append, self._full.pop(0))
        done.addErrback(lambda f: self._log.failure("while writing", f))

    def _append(self, block: memoryview) -> Deferred[None]:
        # It is our turn until all of this is done: whose turn is the next, and
        # that may be the commit, must know how this one ended.
        done: Deferred[None] = self._inThread(self._file.append, block)
        done.addErrback(self._failed)
        done.addCallback(self._written, block)
        return done

    def _failed(self, failure: Failure) -> None:
        if not failure.check(OSError):
            self._log.failure("a block was not written", failure)
        self._failure = failure.value
        self._drop()

    def _written(self, _: object, block: memoryview) -> None:
        self._blocks.give(block)
        self._writing = False
        if self._full and not self._closed:
            self._write()
        self._resume()

    def _drop(self) -> None:
        """What no job has yet is not wanted any more."""
        self._isLost = True
        for block in self._full:
            self._blocks.give(block)
        if self._block is not None:
            self._blocks.give(self._block)
        self._full, self._block, self._filled = [], None, 0

    def _resume(self) -> None:
        if self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()

    # --- IBlobWriter

    @asynchronous
    async def commit(self, study: str, series: str, instance: str) -> Blob:
        if self._closed:
            raise ArchiveError("the file is closed already")
        self._closed = True
        try:
            folder = folderOf(study, series)
            checkUID(instance)
        except ArchiveError:
            await self._remove()
            raise
        await self._turn.acquire()
        try:
            if not self._isLost:
                location = await self._keep(folder, instance)
                return Blob(location, self._digest.digest(), self.size)
        except ArchiveError:
            self._ended(self._file.token)
            raise
        finally:
            self._turn.release()
        await self._remove()
        why = getattr(self._failure, "strerror", "it was given up")
        raise ArchiveError(f"cannot write a file: {why}") from self._failure

    @asynchronous
    async def _keep(self, folder: str, instance: str) -> Location:
        """Have what is left written, and the file durable in its place."""
        self._touched = True
        self._gather(memoryview(b""))
        blocks, pieces = self._full, list(self._full)
        if self._block is not None:
            blocks.append(self._block)
            pieces.append(self._block[: self._filled])
        self._full, self._block = [], None
        location: Location
        signature: Signature
        location, signature = await self._inThread(
            self._file.commit, pieces, folder, instance
        )
        # Only now is it certain that no thread is at work with them.
        for block in blocks:
            self._blocks.give(block)
        self._intact.remember(location.path, self._digest.digest(), signature)
        return location

    @asynchronous
    async def settle(self) -> None:
        try:
            await self._settling.settle(self._file)
        except OSError as error:
            raise ArchiveError(f"cannot settle a file: {error.strerror}") from error
        self._ended(self._file.token)

    @asynchronous
    async def discard(self) -> None:
        self._closed = True
        await self._remove()

    @asynchronous
    async def _remove(self) -> None:
        self._drop()
        self._resume()
        if self._touched:
            problems = await self._turn.run(self._inThread, self._file.remove)
            for problem in problems:
                self._log.error(
                    "Cannot remove {file}: {why}",
                    file=self._file.token,
                    why=problem.strerror,
                )
        self._ended(self._file.token)


@implementer(IArchive)
class FileArchive:
    """
    See L{IArchive}.

    @param directory: the archive's folder; L{prepare} makes it.
    @param inThread: runs a function with arguments in a thread, and returns a
        Deferred of its result; jobs must be able to run side by side.
    @param later: if given, marks are taken away some time later, several at
        once.
    """

    def __init__(
        self, directory: str, inThread: InThread, later: Later | None = None
    ) -> None:
        self._root = os.path.abspath(directory)
        self._inThread = inThread
        self._settling = _Settling(inThread, later)
        self._folders = Folders(self._root)
        self._blocks = Blocks()
        self._intact = Intact()
        self._direct = False
        # Of one run of the server, so that those of earlier runs are known.
        self._runID = secrets.token_hex(4)
        self._serial = count()
        self._writers: WeakValueDictionary[str, _Writer] = WeakValueDictionary()

    def prepare(self) -> None:
        """
        Make the folders, and try out what the archive needs of its file
        system. Blocks: for the start of the server.

        @raise ArchiveError: what is wrong, in one line.
        """
        incoming = os.path.join(self._root, INCOMING)
        probe = os.path.join(incoming, f"{self._runID}-probe{PART}")
        try:
            os.makedirs(incoming, FOLDER_MODE, exist_ok=True)
            self._direct = takesDirect(probe)
            with open(probe, "wb") as file:
                os.link(probe, probe + "2" + PART)
                os.fsync(file.fileno())
            os.unlink(probe + "2" + PART)
            os.unlink(probe)
            for folder in (self._root, os.path.dirname(self._root)):
                syncFolder(folder)
        except OSError as error:
            raise ArchiveError(
                f"the archive {self._root} cannot be used: {error.strerror}; it must "
                "be writable, on a file system with hard links"
            ) from error

    def create(self, head: bytes) -> IBlobWriter:
        token = f"{self._runID}-{next(self._serial):x}"
        file = IncomingFile(self._folders, token, len(head), self._direct)
        writer = _Writer(
            head,
            file,
            self._blocks,
            self._intact,
            self._inThread,
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

    @asynchronous
    async def open(
        self, location: Location, size: int, digest: bytes
    ) -> IDatasetReader:
        wanted = Wanted(
            self.pathOf(location),
            location.dataSetOffset,
            size,
            digest,
            self._intact.get(location.path, digest),
        )
        reader = await openDataset(wanted, self._blocks, self._inThread)
        self._intact.remember(location.path, digest, reader.signature)
        return reader

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
        incoming = os.path.join(self._root, INCOMING)
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
        incoming = os.path.join(self._root, INCOMING)
        for name in os.listdir(incoming):
            mark = fromMark(name)
            if mark and mark[0].path == location.path and mark[1] not in inUse:
                _unlinkAll([os.path.join(incoming, name)])

    @asynchronous
    async def unsettle(self, location: Location) -> None:
        path = self.pathOf(location)
        token = f"{self._runID}-{next(self._serial):x}"
        mark = markOf(location.path, location.dataSetOffset, token)

        incoming = os.path.join(self._root, INCOMING)

        def link() -> None:
            with suppress(FileNotFoundError):
                os.link(path, os.path.join(incoming, mark))
                # What the index does next is durable, so this has to be too.
                syncFolder(incoming)

        await self._system(link)

    @asynchronous
    async def paths(self) -> tuple[str, ...]:
        def read() -> tuple[str, ...]:
            # All that the layout uses, so that also the loss of a whole folder
            # is seen by those who compare.
            names = {f"{number:02x}" for number in range(256)}
            with os.scandir(self._root) as entries:
                names.update(entry.name for entry in entries if entry.is_dir())
            names.discard(INCOMING)
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
            marks = map(fromMark, os.listdir(os.path.join(self._root, INCOMING)))
            onTheirWay = {mark[0].path for mark in marks if mark is not None}
            return tuple(sorted(path for path in found if path not in onTheirWay))

        return await self._system(read)

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
