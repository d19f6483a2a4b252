"""
The file of the audit trail: one message a line. All processes of a server write
to the same one, in turn.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

_MODE = 0o640


class AuditFile:
    """
    Appends lines so that they are durable. Its methods block.

    A file that is full is put aside under its name with the time behind it, and
    a new one begun, whichever process comes upon it; so a name, once given, stays
    with its file.

    @param maxSize: bytes after which a new file is begun.
    @param keep: how many older ones stay; 0 for all.
    """

    def __init__(self, path: Path, maxSize: int, keep: int) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._maxSize = maxSize
        self._keep = keep

    def prepare(self) -> None:
        """
        Make the folder and the file.

        @raise OSError: they cannot be.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.append([])

    def append(self, lines: Sequence[bytes]) -> None:
        """
        Have all of these lines in the file for good.

        @raise OSError: they are not there, or, if the disk itself is failing, may
            not be.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with self._alone():
            self._makeRoom()
            descriptor = os.open(self._path, flags, _MODE)
            try:
                _append(descriptor, lines)
            except OSError:
                os.close(descriptor)
                raise
        try:
            # Others need not wait for it.
            if lines:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Neither another process nor another thread is at it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._lock, flags, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _makeRoom(self) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            # Its name is durable before what is in it is said to be.
            self._path.touch(_MODE)
            self._syncFolder()
            return
        if size < self._maxSize:
            return
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._path.rename(f"{self._path}.{stamp}")
        self._path.touch(_MODE)
        if self._keep:
            for older in self.older()[: -self._keep]:
                older.unlink(missing_ok=True)
        self._syncFolder()

    def older(self) -> list[Path]:
        """The files that were put aside, the oldest first."""
        return sorted(self._path.parent.glob(f"{self._path.name}.2*Z"))

    def _syncFolder(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _append(descriptor: int, lines: Sequence[bytes]) -> None:
    if not lines:
        return
    before = os.fstat(descriptor).st_size
    data = memoryview(b"\n".join([*lines, b""]))
    try:
        if before and os.pread(descriptor, 1, before - 1) != b"\n":
            # The machine went down in the middle of a line.
            os.write(descriptor, b"\n")
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        # They come again, and are not to be there twice.
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
