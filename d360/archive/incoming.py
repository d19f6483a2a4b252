"""
The steps by which one file becomes durable. Everything here blocks and runs in
a thread, one step of a file at a time.

The order of L{IncomingFile.place}, L{IncomingFile.append} and
L{IncomingFile.commit}, and why a loss of power or a C{kill -9} between any two
steps does no harm:

 1. Missing folders are made, and the parent of each is synced, so that no file
    can be durable in a folder that is not.
 2. The file is made under the name of its mark, which tells the place that it
    will have. Lost here: the mark leads to no file; recovery asks the index,
    which knows nothing, and removes the mark. Only where so much comes before
    the place is known that it must be written is the file first called
    C{<token>.part}, which the next start removes.
 3. The mark is linked to its place. C{link} never replaces a file: if the name
    is taken, another one is. From now on the index may be told of the file,
    though it is not complete. Lost here or later: mark and file are there, and
    recovery removes both unless the index has the instance and the file has
    the digest that the index gives.
 4. The bytes are written, past the page cache where there are many of them.
 5. The file is synced, then the folder that it is linked in. On a file system
    with one journal (ext4, XFS) the first covers the second; elsewhere it does
    not, and as the second costs some 70 microseconds where the first takes 300,
    it is always done. Only now C{commit} succeeds.
 6. The sender gets its answer when the index has committed as well, and the
    mark is unlinked (L{IncomingFile.settle}). If that unlink is lost with the
    power, the mark is back, recovery finds the instance in the index and its
    file complete, and unlinks it again.

The mark itself is not synced. Were it lost with the power while the link
survived, there would be a file too many that nobody was told about, which a
rebuild of the index finds; with one journal not even that, as the mark precedes
the link. Were the file lost while the index had committed, the index knows
which of its instances were not confirmed yet
(L{d360.interfaces.IIndex.announce}), and these are looked at after a crash.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EBUSY, EINVAL
from fcntl import F_SETFL, LOCK_EX, LOCK_NB, fcntl, flock
from mmap import mmap
from threading import Lock
from time import sleep

from attrs import evolve, frozen

from d360.archive.intact import Signature, signatureOf
from d360.archive.layout import PART, markOf
from d360.model import Location

FILE_MODE = 0o640
FOLDER_MODE = 0o750

#: Whether, and how, a file can be written past the page cache. An archive does
#: not read soon what it has just written; through the cache each byte would be
#: copied once more, into memory that has to be found and cleared for it. That
#: takes the system up to five times as long.
O_DIRECT: int = getattr(os, "O_DIRECT", 0)

#: What is written so begins and ends at multiples of this, in memory and file.
ALIGNMENT = 4096

#: Files shorter than this pass through the cache all the same.
_DIRECT = 64 * 1024

#: How a new file is opened.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

#: How often a folder may be removed by others between its making and its use.
_ATTEMPTS = 16

#: The file that is locked by who is at work in a folder for marks.
LOCK = "lock"

#: Seconds for which one that is at work is waited for.
_PATIENCE = 60

#: So many folders are remembered to be durable.
_MAX_REMEMBERED = 16384


def syncFolder(path: str) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim(incoming: str) -> int:
    """
    Say that this process is at work in a folder for marks, until it ends.

    @return: a descriptor to keep.
    """
    descriptor = os.open(
        os.path.join(incoming, LOCK), os.O_RDWR | os.O_CREAT, FILE_MODE
    )
    flock(descriptor, LOCK_EX)
    return descriptor


def awaitOthers(incoming: str) -> None:
    """
    Wait until nobody is at work in a folder any more: who was killed may have a
    process that is bringing something to its end, which the index and the next
    start must not be told two things of. Blocks.

    @raise OSError: it does not end.
    """
    with suppress(FileNotFoundError):
        descriptor = os.open(os.path.join(incoming, LOCK), os.O_RDWR)
        try:
            for _ in range(_PATIENCE * 20):
                try:
                    flock(descriptor, LOCK_EX | LOCK_NB)
                except BlockingIOError:
                    sleep(0.05)
                else:
                    return
            raise OSError(EBUSY, "a process of an earlier run does not end")
        finally:
            os.close(descriptor)


class Folders:
    """
    The folders below the archive's, made durably and removed when empty. A
    folder that another thread has just made counts only once it is synced.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = Lock()
        self._durable: set[str] = set()

    def isDurable(self, folder: str) -> bool:
        """Whether a relative folder, parents included, is known to be kept."""
        return folder in self._durable

    def make(self, folder: str) -> None:
        """Make it and its parents, and have them durable."""
        with self._lock:
            if len(self._durable) > _MAX_REMEMBERED:
                self._durable.clear()
            parent, made = self.root, ""
            for name in folder.split("/"):
                made = f"{made}/{name}" if made else name
                path = os.path.join(parent, name)
                if made not in self._durable:
                    with suppress(FileExistsError):
                        os.mkdir(path, FOLDER_MODE)
                    syncFolder(parent)
                    self._durable.add(made)
                parent = path

    def forget(self, folder: str) -> None:
        """It, or a parent of it, has turned out to be gone."""
        with self._lock:
            while folder:
                self._durable.discard(folder)
                folder = folder.rpartition("/")[0]

    def prune(self, folder: str) -> None:
        """Remove it, and its parents but for the first level, if empty."""
        with self._lock:
            while "/" in folder:
                self._durable.discard(folder)
                try:
                    os.rmdir(os.path.join(self.root, folder))
                except OSError:
                    return
                folder = folder.rpartition("/")[0]


@frozen
class _Place:
    path: str
    mark: str
    isLinked: bool = False


def takesDirect(path: str) -> bool:
    """
    Whether the file system of a new file takes writes past the page cache.
    Blocks.

    @raise OSError: the file cannot be made at all.
    """
    if not O_DIRECT:
        return False
    descriptor = os.open(path, _NEW, FILE_MODE)
    try:
        fcntl(descriptor, F_SETFL, O_DIRECT)
        return os.write(descriptor, mmap(-1, ALIGNMENT)) == ALIGNMENT
    except OSError:
        return False
    finally:
        os.close(descriptor)


class IncomingFile:
    """
    One file on its way.

    @ivar token: its name while it has no other.
    @param incoming: the absolute folder of its mark.
    @param offset: where in it the data set begins.
    @param direct: whether it may be written past the page cache.
    """

    def __init__(
        self, folders: Folders, incoming: str, token: str, offset: int, direct: bool
    ) -> None:
        self.token = token
        self._folders = folders
        self._incoming = incoming
        self._temporary = os.path.join(self._incoming, token + PART)
        self._offset = offset
        self._mayBeDirect = direct
        self._direct = False
        self._descriptor = -1
        self._inode = -1
        self._place: _Place | None = None
        self._failure: OSError | None = None

    @property
    def location(self) -> Location | None:
        """Its place, as soon as it has one."""
        if self._place is None or not self._place.isLinked:
            return None
        return Location(self._place.path, self._offset)

    def place(self, folder: str, instance: str) -> Location:
        """
        Make it, under its mark and in its place.

        @raise OSError: the file can only be removed.
        """
        with self._failing():
            return self._link(folder, instance)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What has failed once is not committed."""
        try:
            yield
        except OSError as error:
            self._failure = error
            raise

    def append(self, data: memoryview) -> None:
        """
        Write bytes.

        @param data: page-aligned; not the file's last only if its length is a
            multiple of L{ALIGNMENT}.
        @raise OSError: the file can only be removed.
        """
        with self._failing():
            self._append(data)

    def _append(self, data: memoryview) -> None:
        if self._descriptor < 0:
            self._create(self._temporary)
        if self._mayBeDirect and len(data) >= _DIRECT:
            self._passBy()
        if self._direct:
            whole = len(data) - len(data) % ALIGNMENT
            self._write(data[:whole])
            data = data[whole:]
            if data:
                # The tail is less than the disk's unit.
                self._passThroughCache()
        self._write(data)

    def _create(self, path: str) -> None:
        self._descriptor = os.open(path, _NEW, FILE_MODE)
        self._inode = os.fstat(self._descriptor).st_ino

    def _passBy(self) -> None:
        """Write past the page cache, if that can be done."""
        # Not with open(), which makes the file before it refuses.
        if not self._direct:
            with suppress(OSError):
                fcntl(self._descriptor, F_SETFL, O_DIRECT)
                self._direct = True

    def _passThroughCache(self) -> None:
        fcntl(self._descriptor, F_SETFL, 0)
        self._direct = self._mayBeDirect = False

    def _write(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                if error.errno != EINVAL or not self._direct:
                    raise
                # A part was written, and the rest does not begin where the disk
                # wants it to; or it wants more than what was tried out.
                self._passThroughCache()

    def commit(
        self,
        blocks: Sequence[memoryview],
        folder: str,
        instance: str,
        placed: Callable[[Location], None],
    ) -> tuple[Location, Signature]:
        """
        Write the last bytes and make the file durable in its place.

        @param placed: is called, in this thread, when it has its place, if it
            has not had it before.
        @raise OSError: it could not be done, now or before; the file can only be
            removed.
        """
        if self._failure is not None:
            raise self._failure
        location = self.location
        if location is None:
            location = self._link(folder, instance)
            placed(location)
        for block in blocks:
            self._append(block)
        os.fsync(self._descriptor)
        syncFolder(os.path.join(self._folders.root, folder))
        signature = signatureOf(self._descriptor)
        self._close()
        return location, signature

    def _link(self, folder: str, instance: str) -> Location:
        """Mark it and link it to a free name in the folder."""
        name = f"{instance}.dcm"
        for _ in range(_ATTEMPTS):
            path = f"{folder}/{name}"
            try:
                # Another process may have removed it, or a parent of it, that is
                # remembered here.
                if not self._folders.isDurable(folder):
                    self._folders.make(folder)
                os.link(self._mark(path), self._final(path))
            except FileExistsError:
                name = f"{instance}-{secrets.token_hex(4)}.dcm"
            except FileNotFoundError:
                self._folders.forget(folder)
            else:
                if not self._folders.isDurable(folder):
                    self._folders.make(folder)
                assert self._place is not None
                self._place = evolve(self._place, isLinked=True)
                return Location(path, self._offset)
        raise OSError(0, "its folder does not stay")

    def _absolute(self, mark: str) -> str:
        return os.path.join(self._incoming, mark)

    def _final(self, path: str) -> str:
        return os.path.join(self._folders.root, path)

    def _mark(self, path: str) -> str:
        """Name it by its mark, and return the mark's path."""
        mark = markOf(path, self._offset, self.token)
        before = self._temporary
        if self._place is not None:
            before = self._absolute(self._place.mark)
        if self._descriptor < 0:
            self._create(self._absolute(mark))
        elif before != self._absolute(mark):
            os.rename(before, self._absolute(mark))
        self._place = _Place(path, mark)
        return self._absolute(mark)

    def settle(self) -> None:
        """Unlink the mark. It may be a file whose commit failed at its very end."""
        self._close()
        if self._place is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._absolute(self._place.mark))

    def remove(self) -> list[OSError]:
        """
        Remove all of it.

        @return: why some of it is still there, if it is.
        """
        problems = []
        opened = self._descriptor >= 0 or self._place is not None
        self._close()
        if not opened:
            return []
        names = [self._temporary]
        if self._place is not None:
            names = [self._absolute(self._place.mark)]
            final = self._final(self._place.path)
            # The name may be another receipt's by now.
            with suppress(OSError):
                if os.stat(final).st_ino == self._inode:
                    names.insert(0, final)
        for name in names:
            try:
                os.unlink(name)
            except FileNotFoundError:
                pass
            except OSError as error:
                problems.append(error)
                break
        if self._place is not None:
            self._folders.prune(self._place.path.rpartition("/")[0])
        if not problems:
            self._place = None
        return problems

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)
