"""Tests for L{d360.audit.file}."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from d360.audit.file import AuditFile

#: Appends lines that name it, some at a time.
_PROCESS = """
import sys
from pathlib import Path
from d360.audit.file import AuditFile

file = AuditFile(Path(sys.argv[1]), 500, 0)
for number in range(40):
    file.append([f"{sys.argv[2]} {number} {i}".encode() for i in range(3)])
"""


class AuditFileTests(SynchronousTestCase):
    """One message a line, durable when it is said to be."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.path = self.folder / "audit" / "audit.log"

    def file(self, maxSize: int = 1000, keep: int = 0) -> AuditFile:
        file = AuditFile(self.path, maxSize, keep)
        file.prepare()
        return file

    def test_appended(self) -> None:
        """Behind what is there, also of an earlier run; others cannot read it."""
        self.file().append([b"one", b"two"])
        self.file().append([b"three"])
        self.assertEqual(self.path.read_bytes(), b"one\ntwo\nthree\n")
        self.assertEqual(self.path.stat().st_mode & 0o007, 0)

    def test_synced(self) -> None:
        """It is on the disk before it is said to be written."""
        file = self.file()
        synced: list[bytes] = []

        def fsync(descriptor: int) -> None:
            synced.append(self.path.read_bytes())

        with patch("os.fsync", fsync):
            file.append([b"one"])
        self.assertEqual(synced, [b"one\n"])

    def test_notSynced(self) -> None:
        """What may not be on the disk is not said to be written."""
        file = self.file()

        def fsync(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with patch("os.fsync", fsync):
            self.assertRaises(OSError, file.append, [b"one"])

    def test_halfLine(self) -> None:
        """What a loss of power has left of a line is not what another begins with."""
        file = self.file()
        self.path.write_bytes(b"one\ntw")
        file.append([b"three"])
        self.assertEqual(self.path.read_bytes(), b"one\ntw\nthree\n")

    def test_diskFull(self) -> None:
        """What could not be written as a whole is not there in part."""
        file = self.file()
        file.append([b"one"])
        write, count = os.write, 0

        def some(descriptor: int, data: bytes) -> int:
            nonlocal count
            count += 1
            if count > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:2])

        with patch("os.write", some):
            self.assertRaises(OSError, file.append, [b"two", b"three"])
        self.assertEqual(self.path.read_bytes(), b"one\n")
        file.append([b"two", b"three"])
        self.assertEqual(self.path.read_bytes(), b"one\ntwo\nthree\n")

    def test_rotated(self) -> None:
        """A full one is put aside; nothing is lost, and its name stays its own."""
        file = self.file(maxSize=10)
        for number in range(4):
            file.append([b"message %d" % number])
        older = file.older()
        self.assertEqual(
            [path.read_bytes() for path in older],
            [b"message 0\n", b"message 1\n", b"message 2\n"],
        )
        self.assertEqual(self.path.read_bytes(), b"message 3\n")
        file.append([b"message 4"])
        self.assertEqual(file.older()[:3], older)

    def test_kept(self) -> None:
        """So many older ones stay, the newest."""
        file = self.file(maxSize=10, keep=2)
        for number in range(6):
            file.append([b"message %d" % number])
        self.assertEqual(
            [path.read_bytes() for path in file.older()],
            [b"message 3\n", b"message 4\n"],
        )

    def test_movedAway(self) -> None:
        """Whoever takes the file away, such as logrotate, makes room for another."""
        file = self.file()
        file.append([b"one"])
        self.path.rename(self.folder / "elsewhere")
        file.append([b"two"])
        self.assertEqual(self.path.read_bytes(), b"two\n")

    def test_notWritable(self) -> None:
        """It is known at the start."""
        self.folder.mkdir()
        (self.folder / "audit").write_text("a file")
        self.assertRaises(OSError, self.file)

    def test_severalProcesses(self) -> None:
        """No line is lost or torn, whoever of them puts the file aside."""
        self.file()
        writers = [
            subprocess.Popen([sys.executable, "-c", _PROCESS, str(self.path), name])
            for name in "abc"
        ]
        for writer in writers:
            self.assertEqual(writer.wait(60), 0)
        every = [*AuditFile(self.path, 500, 0).older(), self.path]
        self.assertGreater(len(every), 2)
        lines = [line for path in every for line in path.read_text().splitlines()]
        for name in "abc":
            self.assertEqual(
                [line for line in lines if line[0] == name],
                [f"{name} {number} {i}" for number in range(40) for i in range(3)],
            )
