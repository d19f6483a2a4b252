"""
Data sets read from files, in threads, into blocks of memory that are used
again and again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.archive.blocks import BLOCK, Blocks
from d360.archive.intact import Signature, signatureOf
from d360.asynchronous import asynchronous
from d360.digests import Digest, sameKind
from d360.errors import ArchiveError
from d360.interfaces import IDatasetReader

T = TypeVar("T")

#: Read only what is in memory (Linux).
RWF_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)


@frozen
class Wanted:
    """
    What a file must be.

    @ivar offset: where its data set begins.
    @ivar size: of the data set; C{None} for whatever it is.
    @ivar digest: see L{d360.digests}; or C{None}.
    @ivar signature: with this one the digest need not be looked at.
    """

    path: str
    offset: int = 0
    size: int | None = None
    digest: bytes | None = None
    signature: Signature | None = None


@frozen
class _Opened:
    """
    @ivar descriptor: where the rest is; -1 if all of it has been read.
    """

    size: int
    signature: Signature
    descriptor: int


@implementer(IDatasetReader)
class DatasetReader:
    """
    See L{IDatasetReader}. A data set that fits into a block is read by the job
    that opens it; of a larger one, two blocks are in use in turn.

    @param offset: where in the file the data set begins.
    """

    def __init__(
        self,
        opened: _Opened,
        offset: int,
        block: memoryview,
        blocks: Blocks,
        inThread: Callable[..., Deferred[Any]],
    ) -> None:
        self.size = opened.size
        self.signature = opened.signature
        self._descriptor = opened.descriptor
        self._offset = offset
        self._mine = [block]
        self._blocks = blocks
        self._position = 0
        self._inThread = inThread
        # Jobs that are at work with the blocks.
        self._reading = 0
        self._closed = False

    def read(self, count: int) -> Deferred[bytes | memoryview]:
        if self._closed:
            raise RuntimeError("the data set was closed")
        count = min(count, BLOCK, self.size - self._position)
        position, self._position = self._position, self._position + count
        if self._descriptor < 0:
            return succeed(self._mine[0][position : position + count])
        if len(self._mine) < 2:
            self._mine.append(self._blocks.take())
        self._mine.reverse()
        return self._readOn(self._mine[0][:count], position)

    @asynchronous
    async def _readOn(self, place: memoryview, position: int) -> bytes | memoryview:
        self._reading += 1
        job: Deferred[None] = self._inThread(
            _readAll, self._descriptor, place, self._offset + position
        )
        try:
            await _resultOf(job.addBoth(self._hasRead))
        except OSError as error:
            raise ArchiveError(f"it cannot be read: {error.strerror}") from error
        return place

    def _hasRead(self, outcome: T) -> T:
        self._reading -= 1
        if self._closed and not self._reading:
            self._giveBack()
        return outcome

    def close(self) -> None:
        # What a thread is still at work with could be another's by then.
        if not self._closed and not self._reading:
            self._giveBack()
        self._closed = True

    def _giveBack(self) -> None:
        for block in self._mine:
            self._blocks.give(block)
        self._mine = []
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)


@asynchronous
async def openDataset(
    wanted: Wanted,
    blocks: Blocks,
    inThread: Callable[..., Deferred[Any]],
) -> DatasetReader:
    """
    Open a file whose data set ends with the file.

    @raise ArchiveError: it is not there, or not what it must be.
    """
    block = blocks.take()

    # The block is the thread's until its job has ended, whoever waits for that.
    def giveBack(failure: Failure) -> Failure:
        blocks.give(block)
        return failure

    def tooLate(outcome: Any) -> None:
        if isinstance(outcome, _Opened):
            blocks.give(block)
            if outcome.descriptor >= 0:
                os.close(outcome.descriptor)

    job: Deferred[_Opened] = inThread(_open, wanted, block)
    try:
        opened = await _resultOf(job.addErrback(giveBack), tooLate)
    except FileNotFoundError:
        raise ArchiveError("the file is gone") from None
    except OSError as error:
        raise ArchiveError(f"it cannot be read: {error.strerror}") from error
    return DatasetReader(opened, wanted.offset, block, blocks, inThread)


def openCached(wanted: Wanted, blocks: Blocks) -> DatasetReader | None:
    """
    The same on the spot, without a thread, for a short file that was read not
    long ago: its name and inode are in the system's memory, and its data set is
    read only if that is too. Waking a thread and being woken by it takes as long
    as to copy the data set.

    @return: C{None} where it would have to be waited for, or looked at.
    """
    size = wanted.size
    if not RWF_NOWAIT or size is None or size > BLOCK or wanted.signature is None:
        return None
    block = blocks.take()
    try:
        descriptor = os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            signature = signatureOf(descriptor)
            place = [block[:size]]
            count = os.preadv(descriptor, place, wanted.offset, RWF_NOWAIT)
        finally:
            os.close(descriptor)
    except OSError:
        count, signature = -1, wanted.signature
    if count != size or signature != wanted.signature:
        blocks.give(block)
        return None
    opened = _Opened(size, signature, -1)
    return DatasetReader(opened, wanted.offset, block, blocks, _noThread)


def _noThread(*arguments: Any) -> Deferred[Any]:
    raise RuntimeError("all of it has been read")


def _resultOf(
    job: Deferred[T], tooLate: Callable[[Any], None] = lambda _: None
) -> Deferred[T]:
    """
    What a job in a thread results in. To cancel it is to wait for it no longer:
    a thread cannot be interrupted, and what it is at work with is its own until
    it has ended.

    @param tooLate: is called with what comes after that.
    """
    result: Deferred[T] = Deferred()

    def arrived(outcome: Any) -> None:
        if result.called:
            tooLate(outcome)
        else:
            result.callback(outcome)

    job.addBoth(arrived)
    return result


def _open(wanted: Wanted, block: memoryview) -> _Opened:
    """In a thread: check the file, and read what fits into the block."""
    descriptor = os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        signature = signatureOf(descriptor)
        size = signature[1] - wanted.offset
        if size < 0 or (wanted.size is not None and size != wanted.size):
            raise ArchiveError(
                f"the file is damaged: {size} bytes of data set, not {wanted.size}"
            )
        isWhole = size <= len(block)
        if isWhole:
            _readAll(descriptor, block[:size], wanted.offset)
        else:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        if wanted.digest is not None and wanted.signature != signature:
            digest = sameKind(wanted.digest)
            if isWhole:
                digest.update(block[:size])
            else:
                _digestAll(descriptor, wanted.offset, block, digest)
            if digest.digest() != wanted.digest:
                raise ArchiveError(
                    "the file is damaged: its digest is not the stored one"
                )
    except BaseException:
        os.close(descriptor)
        raise
    if isWhole:
        os.close(descriptor)
    return _Opened(size, signature, -1 if isWhole else descriptor)


def _digestAll(descriptor: int, offset: int, block: memoryview, digest: Digest) -> None:
    while count := os.preadv(descriptor, [block], offset):
        digest.update(block[:count])
        offset += count


def _readAll(descriptor: int, place: memoryview, offset: int) -> None:
    while place:
        count = os.preadv(descriptor, [place], offset)
        if not count:
            raise ArchiveError("the file has become shorter")
        place, offset = place[count:], offset + count
