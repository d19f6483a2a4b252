"""How files are read to see that they are intact."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from contextlib import suppress as suppressing
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from d360.archive import examination
from d360.archive.examination import STEP, Examination
from d360.archive.files import FileArchive
from d360.digests import digestOf
from d360.errors import ArchiveError, FileDamaged
from d360.model import Blob
from tests.contracts.archive import HEAD, INSTANCE, SERIES, STUDY

DATA = os.urandom(2 * STEP + 12345)


class ExaminationTests(SynchronousTestCase):
    """Step by step, past the page cache where that can be done."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(HEAD + DATA)

    def examination(self) -> Examination:
        return Examination(self.path, len(HEAD), len(DATA), digestOf(DATA))

    def assertIntact(self) -> None:
        one = self.examination()
        steps = []
        while not one.complete:
            steps.append(one.step())
            self.assertTrue(steps[-1] <= STEP)
        self.assertEqual(len(HEAD) + len(DATA), sum(steps))
        self.assertEqual(HEAD, one.head)
        self.assertTrue(one.closed)

    def test_steps(self) -> None:
        self.assertIntact()

    def test_withoutDirect(self) -> None:
        """Some file systems refuse it when the file is opened."""
        real = os.open

        def refusing(path: Any, flags: int, *others: Any, **named: Any) -> int:
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(path, flags, *others, **named)

        self.patch(os, "open", refusing)
        self.assertIntact()

    def test_withoutDirectLater(self) -> None:
        """And some when it is read; or a read gives less than it might."""
        real = os.preadv
        for short in (1000, STEP):
            self.calls = 0

            def reading(
                descriptor: int, buffers: list[Any], place: int, short: int = short
            ) -> int:
                self.calls += 1
                if place % 4096 and self.isDirect(descriptor):
                    raise OSError(errno.EINVAL, "Invalid argument")
                if self.calls == 2 and short == STEP and self.isDirect(descriptor):
                    raise OSError(errno.EINVAL, "Invalid argument")
                return real(descriptor, [buffers[0][:short]], place)

            self.patch(os, "preadv", reading)
            self.assertIntact()
            self.patch(os, "preadv", real)

    def isDirect(self, descriptor: int) -> bool:
        return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)

    def test_shorterMeanwhile(self) -> None:
        one = self.examination()
        one.step()
        os.truncate(self.path, STEP + 10)
        self.assertRaises(FileDamaged, lambda: [one.step() for _ in range(5)])
        self.assertTrue(one.closed)

    def test_closed(self) -> None:
        """It leaves no open file behind, wherever it ended."""
        one = self.examination()
        one.step()
        self.assertTrue(self.isOpen())
        one.close()
        one.close()
        self.assertRaises(ValueError, one.step)
        self.assertFalse(self.isOpen())
        os.truncate(self.path, 5)
        self.assertRaises(FileDamaged, self.examination().step)
        self.assertFalse(self.isOpen())
        os.unlink(self.path)
        self.assertRaises(FileNotFoundError, self.examination().step)

    def isOpen(self) -> bool:
        """Whether this process has the file open."""
        found = []
        for name in os.listdir("/proc/self/fd"):
            with suppressing(OSError):
                found.append(os.readlink(f"/proc/self/fd/{name}"))
        return os.path.realpath(self.path) in found

    def test_cacheIsLeftAlone(self) -> None:
        """What it has read does not stay in memory, where others' files could be."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = self.cached()
        self.assertIntact()
        self.assertEqual(before, self.cached())
        self.patch(examination, "O_DIRECT", 0)
        self.assertIntact()
        self.assertEqual(before, self.cached())

    def cached(self) -> int:
        """How much of the file is in memory: all of it where there is no disk."""
        command = ["fincore", "--bytes", "--noheadings", "--output=RES", self.path]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)


class DistrustTests(SynchronousTestCase):
    """A file that has changed without a trace on the outside."""

    def archive(self) -> FileArchive:
        archive = FileArchive(self.directory, maybeDeferred)
        archive.prepare()
        return archive

    def spoil(self, path: str) -> None:
        """As a disk does it."""
        state = os.stat(path)
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x01")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    def pace(self, count: int) -> Deferred[None]:
        return succeed(None)

    def test_known(self) -> None:
        """
        Who has once found it intact reads it again, so that a retrieve does not
        send it, and it is replaced when it is sent again.
        """
        self.directory = self.mktemp()
        archive = self.archive()
        writer = archive.create(HEAD)
        writer.write(bytes(5000))
        blob: Blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.successResultOf(writer.settle())
        wanted = (blob.location, blob.size, blob.digest)
        self.successResultOf(archive.open(*wanted)).close()
        path = archive.pathOf(blob.location)
        received = os.stat(path).st_mtime_ns
        self.spoil(path)
        self.failureResultOf(self.archive().examine(*wanted, self.pace), FileDamaged)
        self.failureResultOf(archive.open(*wanted), ArchiveError)
        self.assertEqual(received - 1, os.stat(path).st_mtime_ns)

    def test_backups(self) -> None:
        """What makes a backup does not put it in the place of the good copy."""
        for number, nanoseconds in enumerate((0, 1, 999_999_999)):
            folder, backup = self.mktemp(), self.mktemp()
            os.makedirs(folder)
            path = os.path.join(folder, "1.dcm")
            with open(path, "wb") as file:
                file.write(b"good")
            time = (1_700_000_000 + number) * 10**9 + nanoseconds
            os.utime(path, ns=(time, time))
            copying = ["rsync", "-a", f"{folder}/", f"{backup}/"]
            subprocess.run(copying, check=True)
            with open(path, "wb") as file:
                file.write(b"evil")
            os.utime(path, ns=(time, time))
            examination.distrust(path)
            self.assertNotEqual(time, os.stat(path).st_mtime_ns)
            subprocess.run(copying, check=True)
            with open(os.path.join(backup, "1.dcm"), "rb") as file:
                self.assertEqual(b"good", file.read())

    def test_intact(self) -> None:
        """Is not touched."""
        self.directory = self.mktemp()
        archive = self.archive()
        writer = archive.create(HEAD)
        writer.write(bytes(5000))
        blob: Blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        before = os.stat(archive.pathOf(blob.location))
        self.successResultOf(
            archive.examine(blob.location, blob.size, blob.digest, self.pace)
        )
        after = os.stat(archive.pathOf(blob.location))
        self.assertEqual(before.st_mtime_ns, after.st_mtime_ns)
        self.assertEqual(before.st_ctime_ns, after.st_ctime_ns)
