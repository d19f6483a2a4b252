"""The archive in memory keeps the contract, so that tests may rely on it."""

from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.archive import ArchiveContract
from tests.contracts.memoryarchive import MemoryArchive


class MemoryArchiveTests(ArchiveContract, SynchronousTestCase):
    """The contract of L{d360.interfaces.IArchive}."""

    def makeArchive(self) -> MemoryArchive:
        return MemoryArchive()

    def restartedArchive(self) -> MemoryArchive:
        self.archive.restart()
        return self.archive
