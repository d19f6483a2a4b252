"""
An archive in memory, for unit tests.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from zope.interface import implementer

from d360.digests import digestOf, sameKind
from d360.errors import ArchiveError, FileDamaged, FileMissing
from d360.interfaces import IArchive, IBlobWriter, IDatasetReader
from d360.model import Blob, DiskSpace, Location
from d360.services.uids import isUID

T = TypeVar("T")


@implementer(IBlobWriter)
class MemoryWriter:
    """See L{IBlobWriter}."""

    def __init__(self, archive: MemoryArchive, head: bytes) -> None:
        self.size = 0
        self._archive = archive
        self._head = head
        self._data = bytearray()
        self._location: Location | None = None
        self._closed = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """It is never behind."""

    def unregisterProducer(self) -> None:
        """See L{registerProducer}."""

    def write(self, data: bytes | memoryview) -> None:
        if not self._closed:
            self.size += len(data)
            self._data += data

    def expect(self, study: str, series: str, instance: str) -> None:
        if not all(map(isUID, (study, series, instance))):
            raise ArchiveError("not a valid UID")

    def commit(
        self,
        study: str,
        series: str,
        instance: str,
        placed: Callable[[Blob], None] | None = None,
    ) -> Deferred[Blob]:
        if self._closed:
            return fail(ArchiveError("the file is closed already"))
        self._closed = True
        if self._archive.failure is not None:
            error = ArchiveError("cannot keep a file")
            error.__cause__ = self._archive.failure
            return fail(error)
        if not all(map(isUID, (study, series, instance))):
            return fail(ArchiveError("not a valid UID"))
        files = self._archive.files
        path, number = f"00/{study}/{series}/{instance}.dcm", 0
        while path in files:
            number += 1
            path = f"00/{study}/{series}/{instance}-{number:08x}.dcm"
        files[path] = self._head + bytes(self._data)
        self._location = Location(path, len(self._head))
        self._archive.marks.add(self._location)
        self._archive.inUse[path] = self
        blob = Blob(self._location, digestOf(self._data), len(self._data))
        if placed is not None:
            placed(blob)
        if self._archive.lateFailure is not None:
            files[path] = files[path][:-1]
            error = ArchiveError("cannot keep a file")
            error.__cause__ = self._archive.lateFailure
            return fail(error)
        return succeed(blob)

    def settle(self) -> Deferred[None]:
        self._archive.marks.discard(self._location)
        self._archive.inUse.pop(self._location.path, None)
        return succeed(None)

    def discard(self) -> Deferred[None]:
        self._closed = True
        if self._location is not None:
            self._archive.files.pop(self._location.path, None)
            return self.settle()
        return succeed(None)


@implementer(IDatasetReader)
class MemoryReader:
    """See L{IDatasetReader}."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.closed = False
        self._left = BytesIO(data)

    def read(self, count: int) -> Deferred[bytes]:
        return succeed(self._left.read(count))

    def close(self) -> None:
        self.closed = True


@implementer(IArchive)
class MemoryArchive:
    """
    See L{IArchive}.

    @ivar files: by path.
    @ivar marks: of the files that were not settled.
    @ivar failure: what each commit fails of.
    @ivar lateFailure: what it fails of when the file has its place.
    @ivar unreadable: what opening a file fails of.
    @ivar synced: what was asked to be durable.
    @ivar aside: what was set aside, by path.
    @ivar readers: all that were opened.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.marks: set[Location] = set()
        self.inUse: dict[str, MemoryWriter] = {}
        self.failure: OSError | None = None
        self.lateFailure: OSError | None = None
        self.unreadable: OSError | None = None
        self.synced: list[Location] = []
        self.aside: dict[str, bytes] = {}
        self.readers: list[MemoryReader] = []

    def restart(self) -> None:
        """The server ends and begins again: no writer is in use any more."""
        self.inUse.clear()

    def create(self, head: bytes) -> IBlobWriter:
        return MemoryWriter(self, head)

    def remove(self, location: Location) -> Deferred[None]:
        self.files.pop(location.path, None)
        return succeed(None)

    def setAside(self, location: Location) -> Deferred[None]:
        file = self.files.pop(location.path, None)
        if file is not None:
            self.aside[location.path] = file
        return succeed(None)

    def sync(self, location: Location) -> Deferred[None]:
        if location.path not in self.files:
            return fail(ArchiveError("no such file"))
        self.synced.append(location)
        return succeed(None)

    def exists(self, location: Location) -> Deferred[bool]:
        path = location.path
        return succeed(
            any(name == path or name.startswith(path + "/") for name in self.files)
        )

    def open(
        self, location: Location, size: int, digest: bytes
    ) -> Deferred[IDatasetReader]:
        if self.unreadable is not None:
            error = ArchiveError("it cannot be read")
            error.__cause__ = self.unreadable
            return fail(error)
        file = self.files.get(location.path)
        if file is None:
            return fail(ArchiveError("the file is gone"))
        data = file[location.dataSetOffset :]
        if len(data) != size or digestOf(data) != digest:
            return fail(ArchiveError("the file is damaged"))
        reader = MemoryReader(data)
        self.readers.append(reader)
        return succeed(reader)

    def examine(
        self,
        location: Location,
        size: int,
        digest: bytes,
        pace: Callable[[int], Deferred[None]],
    ) -> Deferred[bytes]:
        if self.unreadable is not None:
            return fail(ArchiveError("it cannot be read"))
        file = self.files.get(location.path)
        if file is None:
            return fail(FileMissing("the file is gone"))
        head, data = file[: location.dataSetOffset], file[location.dataSetOffset :]

        def compare(_: None) -> bytes:
            found = sameKind(digest)
            found.update(data)
            if found.digest() != digest:
                raise FileDamaged("its digest is not the stored one")
            return head

        if len(data) != size:
            return fail(FileDamaged(f"{len(data)} bytes of data set, not {size}"))
        return pace(len(file)).addCallback(compare)

    def isSettled(self, location: Location) -> Deferred[bool]:
        return succeed(location.path not in {mark.path for mark in self.marks})

    def pathOf(self, location: Location) -> str:
        if location.path.startswith(("/", ".")) or ".." in location.path:
            raise ArchiveError("not a file of the archive")
        return f"/memory/{location.path}"

    def readWith(
        self, location: Location, reader: Callable[[BinaryIO], T]
    ) -> Deferred[T]:
        if location.path not in self.files:
            return fail(ArchiveError("cannot be read"))
        return maybeDeferred(reader, BytesIO(self.files[location.path]))

    def unsettled(self) -> Deferred[tuple[Location, ...]]:
        found = [mark for mark in self.marks if mark.path not in self.inUse]
        return succeed(tuple(sorted(found, key=lambda mark: mark.path)))

    def settle(self, location: Location) -> Deferred[None]:
        self.marks.discard(location)
        return succeed(None)

    def discard(self, location: Location) -> Deferred[None]:
        if location in self.marks:
            self.files.pop(location.path, None)
        return self.settle(location)

    def unsettle(self, location: Location) -> Deferred[None]:
        if location.path in self.files:
            self.marks.add(location)
        return succeed(None)

    def paths(self) -> Deferred[tuple[str, ...]]:
        return succeed(("00", "01"))

    def pathsBelow(self, folder: str) -> Deferred[tuple[str, ...]]:
        marked = {location.path for location in self.marks}
        found = (path for path in self.files if path.startswith(f"{folder}/"))
        return succeed(tuple(sorted(path for path in found if path not in marked)))

    def space(self) -> Deferred[DiskSpace]:
        return succeed(DiskSpace(2**40, 2**39))
