"""
Files read from the disk from their beginning to their end, to see that they are
what was stored; past the page cache, which has better uses.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EINVAL
from fcntl import F_SETFL, fcntl
from mmap import mmap
from threading import Lock

from d360.archive.incoming import ALIGNMENT, O_DIRECT
from d360.digests import sameKind
from d360.errors import FileDamaged

#: Bytes that are read at a time.
STEP = 1024 * 1024

#: In nanoseconds.
_SECOND = 1_000_000_000

_READ = os.O_RDONLY | os.O_CLOEXEC


class Examination:
    """
    One file that is read step by step, each in a thread.

    Its memory is its own: should nobody wait any more for a step, the thread may
    go on with it all the same.

    @param offset: where the data set begins.
    @param size: of the data set, in bytes.
    @param digest: of the data set, see L{d360.digests}.
    @ivar head: what stands before the data set, as far as it has been read.
    @ivar complete: all of it was read, and is what was stored.
    @ivar closed: it is of no more use.
    """

    def __init__(self, path: str, offset: int, size: int, digest: bytes) -> None:
        self.head = b""
        self.complete = False
        self._path = path
        self._offset = offset
        self._size = size
        self._wanted = digest
        self._digest = sameKind(digest)
        self._lock = Lock()
        self.closed = False
        self._descriptor = -1
        self._direct = False
        self._position = 0
        self._end = offset + size
        whole = -(-max(self._end, 1) // ALIGNMENT) * ALIGNMENT
        self._block = memoryview(mmap(-1, min(whole, STEP)))

    def step(self) -> int:
        """
        Read some more. Blocks.

        @return: how many bytes that were.
        @raise OSError: it cannot be read.
        @raise FileDamaged: it is not what was stored.
        """
        with self._lock:
            try:
                return self._step()
            except BaseException:
                self._close()
                raise

    def close(self) -> None:
        """Before it has come to its end. Blocks while a step is made."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self.closed = True
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)

    def _step(self) -> int:
        if self.closed:
            raise ValueError("the examination was closed")
        if self._descriptor < 0:
            self._open()
        count = min(self._read(), self._end - self._position)
        if not count and self._position < self._end:
            raise FileDamaged("it has become shorter")
        inHead = min(max(self._offset - self._position, 0), count)
        self.head += bytes(self._block[:inHead])
        self._digest.update(self._block[inHead:count])
        self._position += count
        if self._position >= self._end:
            self._close()
            if self._digest.digest() != self._wanted:
                raise FileDamaged("its digest is not the stored one")
            self.complete = True
        return count

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, _READ | O_DIRECT)
            self._direct = bool(O_DIRECT)
        except OSError as error:
            if error.errno != EINVAL:
                raise
            self._descriptor = os.open(self._path, _READ)
        size = os.fstat(self._descriptor).st_size - self._offset
        if size != self._size:
            raise FileDamaged(f"{size} bytes of data set, not {self._size}")

    def _read(self) -> int:
        try:
            count = os.preadv(self._descriptor, [self._block], self._position)
        except OSError as error:
            if error.errno != EINVAL or not self._direct:
                raise
            # It begins, or ends, where this file system does not want it to.
            fcntl(self._descriptor, F_SETFL, 0)
            self._direct = False
            count = os.preadv(self._descriptor, [self._block], self._position)
        if not self._direct:
            os.posix_fadvise(
                self._descriptor, self._position, count, os.POSIX_FADV_DONTNEED
            )
        return count


def distrust(path: str) -> None:
    """
    Have no process take a damaged file for the one that it once found intact, see
    L{d360.archive.intact}: its time becomes another, by as little as there is, for
    it tells when the instance was received. Blocks.

    It stays in its second, and becomes no later unless it has to for that: programs
    that make backups would take it for a newer one, and put it in the place of the
    good copy.
    """
    with suppress(OSError):
        state = os.stat(path)
        step = -1 if state.st_mtime_ns % _SECOND else 1
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + step))
