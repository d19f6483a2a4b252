"""The archive in memory keeps the contract, so that tests may rely on it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.archive import ArchiveContract
from tests.contracts.memoryarchive import MemoryArchive


class MemoryArchiveTests(ArchiveContract, SynchronousTestCase):
    """The contract of L{d360.interfaces.IArchive}."""

    def makeArchive(self) -> MemoryArchive:
        return MemoryArchive()

    @contextmanager
    def failingLate(self) -> Iterator[None]:
        self.archive.lateFailure = OSError(errno.ENOSPC, "No space left on device")
        yield
        self.archive.lateFailure = None

    def restartedArchive(self) -> MemoryArchive:
        self.archive.restart()
        return self.archive
