"""
Data sets read from files, in threads, and never more of one in memory than
L{AT_ONCE}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import ArchiveError
from d360.interfaces import IDatasetReader

#: A data set up to this long is read by the job that opens and checks it.
AT_ONCE = 1024 * 1024


@frozen
class _Opened:
    """
    @ivar descriptor: where the rest is; -1 if all of it is in C{data}.
    """

    size: int
    data: bytes
    descriptor: int


@implementer(IDatasetReader)
class DatasetReader:
    """
    See L{IDatasetReader}.

    @param opened: what L{openDataset} found.
    @param offset: where in the file the data set begins.
    """

    def __init__(
        self, opened: _Opened, offset: int, inThread: Callable[..., Deferred[Any]]
    ) -> None:
        self.size = opened.size
        self._data = opened.data
        self._descriptor = opened.descriptor
        self._offset = offset
        self._position = 0
        self._inThread = inThread
        self._reading = False
        self._closed = False

    def read(self, count: int) -> Deferred[bytes]:
        if self._closed:
            raise RuntimeError("the data set was closed")
        count = min(count, self.size - self._position)
        position, self._position = self._position, self._position + count
        if self._descriptor < 0:
            if count == self.size:
                return succeed(self._data)
            return succeed(self._data[position : position + count])
        return self._readOn(count, position)

    @asynchronous
    async def _readOn(self, count: int, position: int) -> bytes:
        self._reading = True
        try:
            data: bytes = await self._inThread(
                _readAll, self._descriptor, count, self._offset + position
            )
        except OSError as error:
            raise ArchiveError(f"it cannot be read: {error.strerror}") from error
        finally:
            self._reading = False
            if self._closed:
                self._closeFile()
        return data

    def close(self) -> None:
        self._closed = True
        self._data = b""
        # Its number could be another file's before a thread is done with it.
        if not self._reading:
            self._closeFile()

    def _closeFile(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


@asynchronous
async def openDataset(
    inThread: Callable[..., Deferred[Any]],
    path: str,
    offset: int = 0,
    size: int | None = None,
    digest: bytes | None = None,
) -> IDatasetReader:
    """
    Open a file whose data set begins at C{offset} and ends with the file.

    @param size: how long it must be, if that is known.
    @param digest: its SHA-256, if that is known; it is read once for it.
    @raise ArchiveError: it is not there, or not what it must be.
    """
    try:
        opened = await _orDiscard(inThread(_open, path, offset, size, digest))
    except FileNotFoundError:
        raise ArchiveError("the file is gone") from None
    except OSError as error:
        raise ArchiveError(f"it cannot be read: {error.strerror}") from error
    return DatasetReader(opened, offset, inThread)


def _orDiscard(opening: Deferred[_Opened]) -> Deferred[_Opened]:
    """
    The same, but when it is cancelled, what comes all the same is closed: a
    thread cannot be interrupted.
    """
    wanted: Deferred[_Opened] = Deferred()

    def arrived(result: Any) -> None:
        if not wanted.called:
            wanted.callback(result)
        elif isinstance(result, _Opened) and result.descriptor >= 0:
            os.close(result.descriptor)

    opening.addBoth(arrived)
    return wanted


def _open(path: str, offset: int, size: int | None, digest: bytes | None) -> _Opened:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = os.fstat(descriptor).st_size - offset
        if length < 0 or (size is not None and length != size):
            raise ArchiveError(
                f"the file is damaged: {length} bytes of data set, not {size}"
            )
        if length <= AT_ONCE:
            data = _readAll(descriptor, length, offset)
            _check(sha256(data).digest() if digest else None, digest)
            opened = _Opened(length, data, -1)
        else:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            _check(_digestOf(descriptor, offset) if digest else None, digest)
            opened = _Opened(length, b"", descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if opened.descriptor < 0:
        os.close(descriptor)
    return opened


def _check(found: bytes | None, wanted: bytes | None) -> None:
    if found != wanted:
        raise ArchiveError("the file is damaged: its digest is not the stored one")


def _digestOf(descriptor: int, offset: int) -> bytes:
    digest = sha256()
    block = memoryview(bytearray(AT_ONCE))
    while count := os.preadv(descriptor, [block], offset):
        digest.update(block[:count])
        offset += count
    return digest.digest()


def _readAll(descriptor: int, count: int, offset: int) -> bytes:
    data = os.pread(descriptor, count, offset)
    while len(data) < count:
        more = os.pread(descriptor, count - len(data), offset + len(data))
        if not more:
            raise ArchiveError("the file has become shorter")
        data += more
    return data
