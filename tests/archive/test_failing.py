"""A disk that refuses: whatever step it is, and whatever it says."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from d360.archive.blocks import BLOCK, Blocks
from d360.archive.disk import IDisk, ThreadedDisk
from d360.archive.files import FileArchive
from d360.archive.incomingfiles import IncomingFiles
from d360.errors import ArchiveError
from tests.contracts.archive import HEAD, INSTANCE, SERIES, STUDY

#: A full disk, a quota, broken media, a file system that became read-only after
#: an error, too many open files.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE)

SMALL, LARGE = b"d" * 1000, b"d" * (3 * BLOCK)


class FailingDisk:
    """
    Does what another one does, other than what is failing.

    @ivar failing: the number of the error, by the name of the method.
    """

    def __init__(self, disk: IDisk) -> None:
        self.failing: dict[str, int] = {}
        self._disk = disk

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        def call(*arguments: Any) -> Deferred[Any]:
            number = self.failing.get(name)
            if number is not None:
                return fail(OSError(number, os.strerror(number)))
            done: Deferred[Any] = getattr(self._disk, name)(*arguments)
            return done

        return call


class FailingTests(SynchronousTestCase):
    """An L{ArchiveError} with its cause, and nothing left over."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.archive = FileArchive(self.directory, maybeDeferred, makeDisk=self.make)
        self.archive.prepare()

    def make(self, root: str, incoming: str, direct: bool, blocks: Blocks) -> Any:
        """See L{d360.archive.disk.IDiskMaker}."""
        files = IncomingFiles(root, incoming, direct)
        disk = ThreadedDisk(files, maybeDeferred, lambda f, argument: f(argument))
        self.disk = FailingDisk(disk)
        self.blocks = blocks
        self.used: set[int] = set()
        take, give = blocks.take, blocks.give

        def taking() -> memoryview:
            block = take()
            self.used.add(id(block))
            return block

        def giving(block: memoryview) -> None:
            self.used.remove(id(block))
            give(block)

        self.patch(blocks, "take", taking)
        self.patch(blocks, "give", giving)
        return self.disk

    def store(self, data: bytes) -> Deferred[Any]:
        """A file of which is known early where it belongs."""
        writer = self.archive.create(HEAD)
        writer.expect(STUDY, SERIES, INSTANCE)
        view = memoryview(data)
        for begin in range(0, len(view), 65536):
            writer.write(view[begin : begin + 65536])
        return writer.commit(STUDY, SERIES, INSTANCE)

    def files(self) -> list[str]:
        """All that there are."""
        return [name for _, _, names in os.walk(self.directory) for name in names]

    def test_eachStep(self) -> None:
        """It says why, gives all memory back, and the next one is stored."""
        for step, data in (
            ("place", LARGE),
            ("append", LARGE),
            ("commit", LARGE),
            ("commit", SMALL),
        ):
            for number in REFUSALS:
                what = f"{step}: {os.strerror(number)}"
                self.disk.failing = {step: number}
                error = self.failureResultOf(self.store(data), ArchiveError).value
                self.assertEqual(error.__cause__.errno, number, what)
                self.assertIn(os.strerror(number), str(error))
                self.assertEqual((self.used, self.files()), (set(), []), what)
        self.disk.failing = {}
        self.successResultOf(self.store(LARGE))
        self.assertEqual(self.used, set())

    def test_cannotRemove(self) -> None:
        """What cannot be removed either stays marked, and is found later."""
        self.disk.failing = {"append": errno.EROFS, "remove": errno.EROFS}
        self.failureResultOf(self.store(LARGE), ArchiveError)
        self.assertEqual(self.used, set())
        self.assertEqual(len(self.files()), 2)
        (left,) = self.successResultOf(self.archive.unsettled())
        self.successResultOf(self.archive.remove(left))
        self.successResultOf(self.archive.settle(left))
        self.assertEqual(self.files(), [])

    def test_cannotSettle(self) -> None:
        """The file is kept, and so is its mark."""
        writer = self.archive.create(HEAD)
        writer.write(SMALL)
        self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.disk.failing = {"settle": errno.EIO}
        self.failureResultOf(writer.settle(), ArchiveError)
        self.assertEqual(len(self.files()), 2)
