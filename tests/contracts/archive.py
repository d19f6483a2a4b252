"""
The contract of L{IArchive} and L{IBlobWriter}, for every implementation.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from d360.digests import digestOf
from d360.errors import ArchiveError, FileDamaged, FileMissing
from d360.interfaces import IArchive, IBlobWriter, IDatasetReader
from d360.model import Blob, Location

STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.4", "1.2.3.4.5"
HEAD = b"head" * 50
DATA = bytes(range(256)) * 20


def checkSignatures(case: Any, interface: Any, implementation: object) -> None:
    """C{verifyObject} does not look through a decorator; this does."""
    verifyObject(interface, implementation)
    for name, method in interface.namesAndDescriptions(all=True):
        if isinstance(method, Method):
            found = inspect.signature(getattr(implementation, name)).parameters
            names = [
                one.name for one in found.values() if one.kind is not one.VAR_KEYWORD
            ]
            case.assertEqual(list(method.positional), names, f"of {name}")


class ArchiveContract:
    """
    Mixin for a C{SynchronousTestCase}.

    C{makeArchive()} gives an empty archive, C{restartedArchive()} another one
    on what it holds, as after the server's end.
    """

    def setUp(self) -> None:
        self.archive: IArchive = self.makeArchive()

    def stored(self, *uids: str, data: bytes = DATA) -> tuple[IBlobWriter, Blob]:
        writer = self.archive.create(HEAD)
        for start in range(0, len(data), 1000):
            writer.write(memoryview(data)[start : start + 1000])
        blob = self.successResultOf(writer.commit(*(uids or (STUDY, SERIES, INSTANCE))))
        return writer, blob

    def content(self, location: Location) -> bytes:
        return self.successResultOf(
            self.archive.readWith(location, lambda file: file.read())
        )

    def test_interfaces(self) -> None:
        """Both interfaces, arguments included."""
        checkSignatures(self, IArchive, self.archive)
        checkSignatures(self, IBlobWriter, self.archive.create(HEAD))

    def test_bytesAreKept(self) -> None:
        """A file is the head and then the data set, byte by byte."""
        writer, blob = self.stored()
        self.assertEqual(HEAD + DATA, self.content(blob.location))
        self.assertEqual(len(HEAD), blob.location.dataSetOffset)
        self.assertEqual(digestOf(DATA), blob.digest)
        self.assertEqual((len(DATA), len(DATA)), (blob.size, writer.size))
        self.assertTrue(self.successResultOf(self.archive.exists(blob.location)))

    def opened(self, blob: Blob) -> IDatasetReader:
        return self.successResultOf(
            self.archive.open(blob.location, blob.size, blob.digest)
        )

    def test_unsettle(self) -> None:
        """What is to be removed is marked, and then settled or not."""
        writer, blob = self.stored()
        self.successResultOf(writer.settle())
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))
        self.successResultOf(self.archive.unsettle(blob.location))
        self.assertEqual(
            (blob.location,), self.successResultOf(self.archive.unsettled())
        )
        self.assertEqual(HEAD + DATA, self.content(blob.location))
        self.successResultOf(self.archive.remove(blob.location))
        self.successResultOf(self.archive.settle(blob.location))
        self.successResultOf(self.archive.unsettle(blob.location))
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))

    def test_discardUnsettled(self) -> None:
        """What is marked goes with its mark; what is not marked stays."""
        writer, blob = self.stored()
        self.successResultOf(writer.settle())
        self.successResultOf(self.archive.discard(blob.location))
        self.assertEqual(HEAD + DATA, self.content(blob.location))
        self.successResultOf(self.archive.unsettle(blob.location))
        self.successResultOf(self.archive.discard(blob.location))
        self.assertFalse(self.successResultOf(self.archive.exists(blob.location)))
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))
        self.successResultOf(self.archive.discard(blob.location))

    def test_open(self) -> None:
        """The data set, piece by piece; the last one may be shorter."""
        for size in (0, 1, len(DATA), 3_000_000):
            data = (DATA * (size // len(DATA) + 1))[:size]
            _, blob = self.stored(data=data)
            reader = self.opened(blob)
            checkSignatures(self, IDatasetReader, reader)
            self.assertEqual(size, reader.size)
            pieces = []
            while sum(map(len, pieces)) < size:
                pieces.append(bytes(self.successResultOf(reader.read(70_000))))
            self.assertTrue(b"".join(pieces) == data)
            self.assertTrue(all(len(piece) == 70_000 for piece in pieces[:-1]))
            self.assertEqual(b"", bytes(self.successResultOf(reader.read(1))))
            reader.close()
            reader.close()

    def test_setAside(self) -> None:
        """It is not in the way any more, also where it has gone already."""
        _, blob = self.stored()
        for _ in range(2):
            self.successResultOf(self.archive.setAside(blob.location))
            self.assertFalse(self.successResultOf(self.archive.exists(blob.location)))

    def test_failsWhenAnnounced(self) -> None:
        """A name of which others were told is nobody else's until it is discarded."""
        writer = self.archive.create(HEAD)
        writer.write(DATA)
        told: list[Any] = []
        with self.failingLate():
            self.failureResultOf(
                writer.commit(STUDY, SERIES, INSTANCE, told.append), ArchiveError
            )
        (blob,) = told
        self.assertTrue(self.successResultOf(self.archive.exists(blob.location)))
        _, other = self.stored()
        self.assertNotEqual(blob.location, other.location)
        self.successResultOf(writer.discard())
        self.assertFalse(self.successResultOf(self.archive.exists(blob.location)))

    def examining(self, blob: Blob, **other: Any) -> Deferred[bytes]:
        """@ivar paced: the lengths of the pieces."""
        self.paced: list[int] = []

        def pace(count: int) -> Deferred[None]:
            self.paced.append(count)
            return succeed(None)

        wanted = {"size": blob.size, "digest": blob.digest, **other}
        return self.archive.examine(blob.location, pace=pace, **wanted)

    def test_examine(self) -> None:
        """All of it, whatever its length is; the head is handed out."""
        for size in (0, 1, len(DATA), 2**20 - len(HEAD), 2**20, 3_000_000):
            _, blob = self.stored(data=(DATA * (size // len(DATA) + 1))[:size])
            self.assertEqual(HEAD, self.successResultOf(self.examining(blob)))
            self.assertEqual(len(HEAD) + size, sum(self.paced))

    def test_examineSHA256(self) -> None:
        """Files of archives that were begun with an earlier release."""
        _, blob = self.stored()
        known = hashlib.sha256(DATA).digest()
        self.assertEqual(HEAD, self.successResultOf(self.examining(blob, digest=known)))
        other = hashlib.sha256(b"other").digest()
        self.failureResultOf(self.examining(blob, digest=other), FileDamaged)

    def test_examineOther(self) -> None:
        """A file that holds other bytes, more of them or fewer, or is gone."""
        for size in (len(DATA), 3_000_000):
            _, blob = self.stored(data=bytes(size))
            for other in (
                {"digest": digestOf(b"other")},
                {"size": size - 1},
                {"size": size + 1},
            ):
                self.failureResultOf(self.examining(blob, **other), FileDamaged)
            self.assertTrue(self.successResultOf(self.archive.exists(blob.location)))
        self.successResultOf(self.archive.remove(blob.location))
        self.failureResultOf(self.examining(blob), FileMissing)

    def test_examineNoFurther(self) -> None:
        """Who sets the pace may end it."""
        _, blob = self.stored(data=bytes(3_000_000))
        examining = self.archive.examine(
            blob.location, blob.size, blob.digest, lambda _: fail(ZeroDivisionError())
        )
        self.failureResultOf(examining, ZeroDivisionError)

    def test_isSettled(self) -> None:
        """Not while it is on its way, nor while it is being removed."""
        writer, blob = self.stored()
        self.stored(STUDY, SERIES, "1.9")
        self.assertFalse(self.successResultOf(self.archive.isSettled(blob.location)))
        self.successResultOf(writer.settle())
        self.assertTrue(self.successResultOf(self.archive.isSettled(blob.location)))
        self.successResultOf(self.archive.unsettle(blob.location))
        self.assertFalse(self.successResultOf(self.archive.isSettled(blob.location)))

    def test_syncGone(self) -> None:
        """What is not there cannot be durable."""
        _, blob = self.stored()
        self.assertIsNone(self.successResultOf(self.archive.sync(blob.location)))
        self.successResultOf(self.archive.remove(blob.location))
        self.failureResultOf(self.archive.sync(blob.location), ArchiveError)

    def test_openGone(self) -> None:
        """A file that is not there."""
        _, blob = self.stored()
        self.successResultOf(self.archive.remove(blob.location))
        opening = self.archive.open(blob.location, blob.size, blob.digest)
        self.assertIn("gone", str(self.failureResultOf(opening, ArchiveError).value))

    def test_openOther(self) -> None:
        """A file that holds other bytes, more of them or fewer."""
        for size in (len(DATA), 3_000_000):
            _, blob = self.stored(data=bytes(size))
            for wanted, digest in (
                (size, digestOf(b"other")),
                (size - 1, blob.digest),
                (size + 1, blob.digest),
            ):
                opening = self.archive.open(blob.location, wanted, digest)
                failure = self.failureResultOf(opening, ArchiveError)
                self.assertIn("damaged", str(failure.value))

    def test_pathOf(self) -> None:
        """Of the archive's files, and of no others."""
        _, blob = self.stored()
        self.assertTrue(self.archive.pathOf(blob.location).endswith(blob.location.path))
        for path in ("../x", "/etc/passwd"):
            self.assertRaises(ArchiveError, self.archive.pathOf, Location(path, 0))

    def test_emptyDataSet(self) -> None:
        """The archive does not ask what is in a file."""
        _, blob = self.stored(data=b"")
        self.assertEqual(HEAD, self.content(blob.location))
        self.assertEqual(digestOf(b""), blob.digest)

    def test_noTwoReceiptsShareAFile(self) -> None:
        """The same instance again is another file."""
        _, first = self.stored()
        _, second = self.stored(data=b"other")
        self.assertNotEqual(first.location.path, second.location.path)
        self.assertEqual(HEAD + DATA, self.content(first.location))
        self.assertEqual(HEAD + b"other", self.content(second.location))

    def test_pathsOfUIDsOnly(self) -> None:
        """Nothing but a UID becomes a path."""
        for bad in ("../../etc/passwd", "", "1..2", "1.2/3", "1.2\0", "1" * 65):
            for uids in (
                (bad, SERIES, INSTANCE),
                (STUDY, bad, INSTANCE),
                (STUDY, SERIES, bad),
            ):
                writer = self.archive.create(HEAD)
                writer.write(DATA)
                self.failureResultOf(writer.commit(*uids), ArchiveError)
        for folder in self.successResultOf(self.archive.paths()):
            self.assertEqual((), self.successResultOf(self.archive.pathsBelow(folder)))

    def test_commitOnce(self) -> None:
        """A file that is closed cannot be committed again."""
        writer, _ = self.stored()
        self.failureResultOf(writer.commit(STUDY, SERIES, INSTANCE), ArchiveError)
        writer = self.archive.create(HEAD)
        self.successResultOf(writer.discard())
        writer.write(DATA)
        self.failureResultOf(writer.commit(STUDY, SERIES, INSTANCE), ArchiveError)

    def test_discard(self) -> None:
        """At any stage it removes everything, and can be repeated."""
        writer = self.archive.create(HEAD)
        self.successResultOf(writer.discard())
        writer = self.archive.create(HEAD)
        writer.write(DATA)
        self.successResultOf(writer.discard())
        writer, blob = self.stored()
        self.successResultOf(writer.discard())
        self.successResultOf(writer.discard())
        self.assertFalse(self.successResultOf(self.archive.exists(blob.location)))
        self.failureResultOf(self.archive.readWith(blob.location, bytes), ArchiveError)
        self.archive = self.restartedArchive()
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))

    def test_discardLeavesOthers(self) -> None:
        """Another receipt of the same instance stays."""
        _, kept = self.stored()
        writer, _ = self.stored(data=b"other")
        self.successResultOf(writer.discard())
        self.assertEqual(HEAD + DATA, self.content(kept.location))

    def test_unsettled(self) -> None:
        """
        What was committed and not settled is found after a restart, with its
        whole location, and not before.
        """
        settled, _ = self.stored()
        self.successResultOf(settled.settle())
        writer, blob = self.stored(STUDY, SERIES, "1.9")
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))
        self.archive = self.restartedArchive()
        del writer
        self.assertEqual(
            (blob.location,), self.successResultOf(self.archive.unsettled())
        )
        self.assertEqual(HEAD + DATA, self.content(blob.location))
        self.successResultOf(self.archive.settle(blob.location))
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))
        self.assertTrue(self.successResultOf(self.archive.exists(blob.location)))

    def test_remove(self) -> None:
        """A file that is not there is no error."""
        writer, blob = self.stored()
        self.successResultOf(writer.settle())
        self.successResultOf(self.archive.remove(blob.location))
        self.successResultOf(self.archive.remove(blob.location))
        self.assertFalse(self.successResultOf(self.archive.exists(blob.location)))
        _, again = self.stored()
        self.assertEqual(HEAD + DATA, self.content(again.location))

    def test_paths(self) -> None:
        """Every file is below one of the folders."""
        stored = [self.stored(f"1.{n}", "2", "3") for n in range(5)]
        for writer, _ in stored:
            self.successResultOf(writer.settle())
        locations = [blob.location for _, blob in stored]
        # One that is on its way is not there yet.
        self.stored("1.0", "2", "4")
        found: list[str] = []
        for folder in self.successResultOf(self.archive.paths()):
            below = self.successResultOf(self.archive.pathsBelow(folder))
            self.assertEqual(tuple(sorted(below)), below)
            self.assertTrue(all(path.startswith(f"{folder}/") for path in below))
            found += below
        self.assertEqual(sorted(location.path for location in locations), sorted(found))

    def test_readWith(self) -> None:
        """What the reader returns or raises is handed on."""
        _, blob = self.stored()
        self.assertEqual(
            HEAD[:4],
            self.successResultOf(
                self.archive.readWith(blob.location, lambda file: file.read(4))
            ),
        )

        def fails(file: object) -> None:
            raise ZeroDivisionError

        self.failureResultOf(
            self.archive.readWith(blob.location, fails), ZeroDivisionError
        )

    def test_space(self) -> None:
        """Bytes, in total and free."""
        space = self.successResultOf(self.archive.space())
        self.assertTrue(0 < space.free <= space.total)
