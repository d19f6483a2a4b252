"""
One file on its way: what L{d360.archive.incoming} does step by step in threads,
as the reactor sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.archive.blocks import BLOCK, Blocks
from d360.archive.incoming import IncomingFile
from d360.archive.intact import Intact, Signature
from d360.archive.layout import checkUID, folderOf
from d360.asynchronous import asynchronous
from d360.errors import ArchiveError
from d360.interfaces import IBlobWriter
from d360.logs import Logger
from d360.model import Blob, Location

#: Runs a function in a thread, as C{deferToThread} does.
InThread = Callable[..., Deferred[Any]]

#: Calls a function after so many seconds, as C{reactor.callLater} does.
Later = Callable[..., Any]

#: Seconds for which marks that can be taken away are gathered.
SETTLE_DELAY = 0.05


class Settling:
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
class Writer:
    """See L{IBlobWriter}."""

    _log = Logger("d360.archive")

    def __init__(
        self,
        head: bytes,
        file: IncomingFile,
        blocks: Blocks,
        intact: Intact,
        inThread: InThread,
        settling: Settling,
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
