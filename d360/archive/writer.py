"""
One file on its way: what L{d360.archive.incoming} does step by step in threads,
as the reactor sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.archive.blocks import BLOCK, Blocks
from d360.archive.disk import IDisk, Part
from d360.archive.intact import Intact, Signature
from d360.archive.layout import checkUID, folderOf
from d360.asynchronous import asynchronous
from d360.digests import newDigest
from d360.errors import ArchiveError
from d360.interfaces import IBlobWriter
from d360.logs import Logger
from d360.model import Blob, Location

#: Calls a function after so many seconds, as C{reactor.callLater} does.
Later = Callable[..., Any]

#: Asks for something to be done with a file, by its token; fires with what is
#: wrong, nothing or empty texts where nothing is.
Ask = Callable[[str], Deferred[list[str]]]

#: Seconds for which marks that can be taken away are gathered.
SETTLE_DELAY = 0.05

#: Seconds after which what could not be settled or removed is tried again, and
#: how often, before it is left to the next start: the process that writes files
#: may just have died, or the disk been away for a moment.
AGAIN, TIMES = 2.0, 5


class Settling:
    """
    Takes away the marks of several files in one job. Nobody waits for it, and
    a job of its own for each would cost as much as to receive a small
    instance. And tries again what could not be taken away at first.
    """

    def __init__(self, disk: IDisk, later: Later | None) -> None:
        self._disk = disk
        self._later = later
        self._waiting: list[tuple[str, Deferred[None]]] = []

    def settle(self, token: str) -> Deferred[None]:
        """
        Fires when the mark is gone.

        @raise ArchiveError: it cannot be taken away.
        """
        settled: Deferred[None] = Deferred()
        self._waiting.append((token, settled))
        if self._later is None:
            self._begin()
        elif len(self._waiting) == 1:
            self._later(SETTLE_DELAY, self._begin)
        return settled

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        done = self._disk.settle([token for token, _ in waiting])
        done.addCallbacks(
            lambda problems: self._tell(waiting, problems),
            lambda failure: self._tell(waiting, [str(failure.value)] * len(waiting)),
        )

    def _tell(
        self, waiting: list[tuple[str, Deferred[None]]], problems: list[str]
    ) -> None:
        for (token, settled), problem in zip(waiting, problems, strict=True):
            if problem:
                self.tryAgain(self._settleOne, token)
                settled.errback(ArchiveError(f"cannot settle a file: {problem}"))
            else:
                settled.callback(None)

    def _settleOne(self, token: str) -> Deferred[list[str]]:
        return self._disk.settle([token])

    def tryAgain(self, ask: Ask, token: str, times: int = TIMES) -> None:
        """
        Ask the disk some time later for what has failed.

        @param times: for which it is asked at most.
        """
        if self._later is not None and times:
            self._later(AGAIN, self._askAgain, ask, token, times)

    def _askAgain(self, ask: Ask, token: str, times: int) -> None:
        def answered(problems: list[str]) -> None:
            if any(problems):
                self.tryAgain(ask, token, times - 1)

        asked = ask(token)
        asked.addErrback(lambda failure: [str(failure.value)])
        asked.addCallback(answered)


@implementer(IBlobWriter)
class Writer:
    """See L{IBlobWriter}."""

    _log = Logger("d360.archive")

    def __init__(
        self,
        token: str,
        head: bytes,
        disk: IDisk,
        blocks: Blocks,
        intact: Intact,
        settling: Settling,
        ended: Callable[[str], None],
    ) -> None:
        self.size = 0
        self._digest = newDigest()
        self._token = token
        self._head = head
        self._offset = len(head)
        self._disk = disk
        self._blocks = blocks
        self._intact = intact
        self._settling = settling
        self._ended = ended
        # The one that is being filled, how far it is, and how far the digest
        # has it, of which the head is no part; and those that wait to be written.
        self._block: memoryview | None = None
        self._filled = 0
        self._digested = len(head)
        self._full: list[memoryview] = []
        self._expected: tuple[str, str] | None = None
        self._location: Location | None = None
        # Others know where it is.
        self._isAnnounced = False
        # Who waits for its place.
        self._atPlace: Callable[[Location], None] | None = None
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
        if self._expected is not None and not self._touched:
            # There is more than what told where it belongs.
            self._place(*self._expected)
        self._gather(memoryview(data))
        if self._full and not self._writing:
            self._write()
        if self._isBehind and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    @property
    def _isBehind(self) -> bool:
        """
        A block waits for the one that is being written; or, where many files are
        on their way, one is being written.
        """
        return bool(self._full) or (self._writing and self._blocks.isShort)

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
                self._digestUpTo(BLOCK)
                self._full.append(self._block)
                self._block, self._filled, self._digested = None, 0, 0

    def _digestUpTo(self, end: int) -> None:
        """
        Here, where the bytes still are in the processor's cache, and not in the
        job, where they would have to be fetched again; but many at a time.
        """
        assert self._block is not None
        if end > self._digested:
            self._digest.update(self._block[self._digested : end])
            self._digested = end

    def _write(self) -> None:
        """Have a full block written, and go on when that is done."""
        self._writing = True
        self._touched = True
        block = self._full.pop(0)
        done = self._disk.append(self._token, self._offset, Part(block, 0, BLOCK))
        done.addErrback(self._failed)
        done.addCallback(self._written, block)
        done.addErrback(lambda f: self._log.failure("while writing", f))

    def _place(self, folder: str, instance: str) -> None:
        """Have it made in its place, which takes a while."""
        self._touched = True
        placing = self._disk.place(self._token, self._offset, folder, instance)
        placing.addCallbacks(self._placed, self._failed)

    def _placed(self, location: Location) -> None:
        self._location = location
        waiting, self._atPlace = self._atPlace, None
        if waiting is not None:
            waiting(location)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(OSError):
            self._log.failure("a block was not written", failure)
        self._failure = failure.value
        self._drop()

    def _written(self, _: object, block: memoryview) -> None:
        self._blocks.give(block)
        self._writing = False
        if self._full and not self._closed and not self._isLost:
            self._write()
        self._resume()

    def _drop(self) -> None:
        """What nobody is at work with yet is not wanted any more."""
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

    def expect(self, study: str, series: str, instance: str) -> None:
        folder = folderOf(study, series)
        checkUID(instance)
        if not self._touched:
            self._expected = folder, instance

    @asynchronous
    async def commit(
        self,
        study: str,
        series: str,
        instance: str,
        placed: Callable[[Blob], None] | None = None,
    ) -> Blob:
        if self._closed:
            raise ArchiveError("the file is closed already")
        self._closed = True
        try:
            folder = folderOf(study, series)
            checkUID(instance)
        except ArchiveError:
            await self._remove()
            raise
        if not self._isLost:
            try:
                blob = await self._keep(folder, instance, placed)
            except OSError as error:
                self._failure = error
            else:
                if not self._isLost:
                    return blob
        if not self._isAnnounced:
            await self._remove()
        why = getattr(self._failure, "strerror", "it was given up")
        raise ArchiveError(f"cannot keep a file: {why}") from self._failure

    async def _keep(
        self, folder: str, instance: str, placed: Callable[[Blob], None] | None
    ) -> Blob:
        """Have what is left written, and the file durable in its place."""
        isPlaced = self._touched and self._expected is not None
        self._touched = True
        self._gather(memoryview(b""))
        blocks = list(self._full)
        parts = [Part(block, 0, BLOCK) for block in blocks]
        if self._block is not None:
            self._digestUpTo(self._filled)
            blocks.append(self._block)
            parts.append(Part(self._block, 0, self._filled))
        self._full, self._block = [], None
        digest = self._digest.digest()

        def atPlace(location: Location) -> None:
            if placed is not None and not self._isLost:
                self._isAnnounced = True
                placed(Blob(location, digest, self.size))

        location: Location
        signature: Signature
        kept = self._disk.commit(
            self._token, self._offset, parts, folder, instance, atPlace
        )
        if self._location is not None:
            atPlace(self._location)
        elif isPlaced:
            self._atPlace = atPlace
        try:
            location, signature = await kept
        finally:
            # Only now is it certain that nobody is at work with them.
            for block in blocks:
                self._blocks.give(block)
        if signature[1] != self._offset + self.size:
            raise OSError(EIO, "the file is not as long as what came")
        self._intact.remember(location.path, digest, signature)
        return Blob(location, digest, self.size)

    @asynchronous
    async def settle(self) -> None:
        await self._settling.settle(self._token)
        self._ended(self._token)

    @asynchronous
    async def discard(self) -> None:
        self._closed = True
        await self._remove()

    async def _remove(self) -> None:
        self._drop()
        self._resume()
        if self._touched:
            try:
                problems = await self._disk.remove(self._token)
            except OSError as error:
                # Its mark stays, if need be until the next start looks at it.
                problems = [error.strerror or str(error)]
            for problem in problems:
                self._log.error(
                    "Cannot remove {file} yet: {why}", file=self._token, why=problem
                )
            if problems:
                self._settling.tryAgain(self._disk.remove, self._token)
        self._ended(self._token)
