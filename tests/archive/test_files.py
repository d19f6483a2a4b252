"""The archive of files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from time import monotonic
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.archive import blocks, files, incoming, intact, reader
from d360.archive.blocks import BLOCK
from d360.archive.files import FileArchive
from d360.archive.intact import Intact
from d360.archive.writer import AGAIN, SETTLE_DELAY, TIMES
from d360.digests import digestOf, sameKind
from d360.errors import ArchiveError
from d360.model import Location
from tests.contracts.archive import (
    DATA,
    HEAD,
    INSTANCE,
    SERIES,
    STUDY,
    ArchiveContract,
)


class Threads:
    """
    Runs jobs at once, or keeps them until L{run}.

    @ivar jobs: how many there were.
    """

    def __init__(self) -> None:
        self.jobs = 0
        self.holding = False
        self.held: list = []

    def __call__(self, function, *arguments) -> Deferred:
        self.jobs += 1
        if not self.holding:
            return maybeDeferred(function, *arguments)
        waiting: Deferred = Deferred()
        waiting.addCallback(lambda _: function(*arguments))
        self.held.append(waiting)
        return waiting

    def run(self) -> None:
        held, self.held = self.held, []
        for waiting in held:
            waiting.callback(None)


class Producer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")


class PowerLoss(BaseException):
    """No step after this one is done."""


class FilesCase(SynchronousTestCase):
    def makeArchive(self) -> FileArchive:
        self.directory = self.mktemp()
        self.threads = Threads()
        return self.restartedArchive()

    def restartedArchive(self) -> FileArchive:
        archive = FileArchive(self.directory, self.threads)
        archive.prepare()
        return archive

    def names(self) -> list[str]:
        """All files there are, relative."""
        return sorted(
            os.path.relpath(os.path.join(above, name), self.directory)
            for above, _, names in os.walk(self.directory)
            for name in names
        )


class FileArchiveTests(ArchiveContract, FilesCase):
    """The contract of L{d360.interfaces.IArchive}."""

    def failingLate(self):
        full = OSError(errno.ENOSPC, "No space left on device")
        return patch.object(incoming, "signatureOf", side_effect=full)


class LayoutTests(FilesCase):
    """Files speak for themselves: UIDs are their paths."""

    def setUp(self) -> None:
        self.archive = self.makeArchive()

    def store(self, data: bytes = DATA):
        writer = self.archive.create(HEAD)
        writer.write(data)
        blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        return writer, blob

    def test_path(self) -> None:
        """Hash, study, series, instance."""
        writer, blob = self.store()
        self.successResultOf(writer.settle())
        self.assertRegex(
            blob.location.path, r"\A[0-9a-f]{2}/1\.2\.3/1\.2\.3\.4/1\.2\.3\.4\.5\.dcm\Z"
        )
        self.assertEqual([blob.location.path], self.names())

    def test_takenName(self) -> None:
        """A second receipt has a token in its name."""
        self.store()
        _, blob = self.store()
        self.assertRegex(blob.location.path, r"/1\.2\.3\.4\.5-[0-9a-f]{8}\.dcm\Z")

    def test_longestUIDs(self) -> None:
        """64 characters each make a mark that a file system can name."""
        uid = "1." + "2" * 62
        writer = self.archive.create(HEAD)
        self.successResultOf(writer.commit(uid, uid, uid))
        writer = self.archive.create(HEAD)
        blob = self.successResultOf(writer.commit(uid, uid, uid))
        self.archive = self.restartedArchive()
        self.assertIn(blob.location, self.successResultOf(self.archive.unsettled()))

    def test_modes(self) -> None:
        """Patients' data is not for everybody."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        _, blob = self.store()
        path = os.path.join(self.directory, blob.location.path)
        self.assertEqual(0o640, stat.S_IMODE(os.stat(path).st_mode))
        folder = os.path.dirname(path)
        self.assertEqual(0o750, stat.S_IMODE(os.stat(folder).st_mode))

    def test_emptyFoldersGo(self) -> None:
        """With its last instance a study's folders are removed."""
        writer, blob = self.store()
        self.successResultOf(writer.discard())
        study = os.path.dirname(os.path.dirname(blob.location.path))
        self.assertFalse(os.path.exists(os.path.join(self.directory, study)))
        _, again = self.store()
        self.assertEqual(blob.location, again.location)

    def test_folderGoesInBetween(self) -> None:
        """A folder that another's discard has just removed is made again."""
        writer, blob = self.store()
        self.successResultOf(writer.settle())
        path = os.path.join(self.directory, blob.location.path)
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
        _, again = self.store()
        self.assertTrue(self.successResultOf(self.archive.exists(again.location)))

    def test_studyGoesInBetween(self) -> None:
        """
        So is that of a study, for another series of it: its instances were removed
        by who knows nothing of what the writing process remembers.
        """
        writer, blob = self.store()
        self.successResultOf(writer.settle())
        self.successResultOf(self.archive.remove(blob.location))
        writer = self.archive.create(HEAD)
        again = self.successResultOf(writer.commit(STUDY, "1.2.3.9", INSTANCE))
        self.assertTrue(self.successResultOf(self.archive.exists(again.location)))

    def test_onlyPathsOfTheArchive(self) -> None:
        """A location that leads elsewhere is refused."""
        for path in ("../x", "/etc/passwd", "a/../../b", ".incoming/x", "a//b", ""):
            self.failureResultOf(
                self.archive.readWith(Location(path, 0), bytes), ArchiveError
            )
            self.failureResultOf(self.archive.remove(Location(path, 0)), ArchiveError)
        for folder in ("..", "a/b", ".incoming", ""):
            self.failureResultOf(self.archive.pathsBelow(folder), ArchiveError)

    def test_prepareSaysWhatIsWrong(self) -> None:
        """One line for the person at the terminal."""
        with open(self.mktemp(), "w") as file:
            archive = FileArchive(file.name + "/archive", self.threads)
        error = self.assertRaises(ArchiveError, archive.prepare)
        self.assertIn("must be writable", str(error))


class JobTests(FilesCase):
    """The reactor never blocks, and an instance costs few thread hops."""

    def setUp(self) -> None:
        self.archive = self.makeArchive()
        self.threads.jobs = 0

    def test_oneJob(self) -> None:
        """A small instance is written, hashed and synced by one job."""
        writer = self.archive.create(HEAD)
        for _ in range(60):
            writer.write(memoryview(bytes(16384)))
        self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.assertEqual(1, self.threads.jobs)

    def test_untouchedDiscard(self) -> None:
        """What never reached the disk needs no job to be removed."""
        writer = self.archive.create(HEAD)
        writer.write(DATA)
        self.successResultOf(writer.discard())
        self.assertEqual(0, self.threads.jobs)

    def test_backPressure(self) -> None:
        """The producer is paused while the disk is behind."""
        writer, producer = self.archive.create(HEAD), Producer()
        writer.registerProducer(producer, True)
        self.threads.holding = True
        piece = memoryview(bytes(BLOCK // 2))
        for _ in range(3):
            writer.write(piece)
        self.assertEqual([], producer.calls)
        writer.write(piece)
        self.assertEqual(["pause"], producer.calls)
        self.threads.run()
        self.assertEqual(["pause", "resume"], producer.calls)
        self.threads.run()
        self.threads.holding = False
        writer.unregisterProducer()
        blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.assertEqual(BLOCK * 2, blob.size)

    def test_manyBehind(self) -> None:
        """
        While the disk is behind with many, each of them is paused with one block
        that is being written, and not with two and a part of a third.
        """
        self.patch(blocks, "_PLENTY", 4)
        self.threads.holding = True
        producers = [Producer() for _ in range(10)]
        writers = [self.archive.create(HEAD) for _ in producers]
        for writer, producer in zip(writers, producers, strict=True):
            writer.registerProducer(producer, True)
            while not producer.calls:
                writer.write(bytes(65536))
        sizes = [writer.size // BLOCK for writer in writers]
        self.assertEqual([2, 1, 1, 1, 1, 1, 1, 1, 1, 1], sizes)
        while self.threads.held:
            self.threads.run()
        self.assertEqual({("pause", "resume")}, {tuple(p.calls) for p in producers})
        self.threads.holding = False
        for writer in writers:
            self.successResultOf(writer.discard())
        self.assertFalse(self.archive._blocks._taken)

    def test_shortPieces(self) -> None:
        """Pieces of one byte do not pile up."""
        writer = self.archive.create(HEAD)
        for value in DATA:
            writer.write(memoryview(bytes([value])))
        blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        content = self.archive.readWith(blob.location, lambda file: file.read())
        self.assertEqual(HEAD + DATA, self.successResultOf(content))

    def test_largeInstance(self) -> None:
        """Memory is bounded whatever the size; the order of bytes stays."""
        writer = self.archive.create(HEAD)
        for number in range(100):
            writer.write(memoryview(bytes([number]) * 65536))
            self.assertEqual([], writer._full)
        blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        content = self.successResultOf(
            self.archive.readWith(blob.location, lambda file: file.read())
        )
        self.assertEqual(
            HEAD + b"".join(bytes([n]) * 65536 for n in range(100)), content
        )

    def test_partialWrites(self) -> None:
        """The system may write less than it is asked to."""
        write = os.write

        def some(descriptor: int, data: memoryview) -> int:
            return write(descriptor, data[:700])

        writer = self.archive.create(HEAD)
        for start in range(0, len(DATA), 100):
            writer.write(memoryview(DATA)[start : start + 100])
        writer.write(bytes(5000))
        with patch.object(incoming.os, "write", some):
            blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        content = self.archive.readWith(blob.location, lambda file: file.read())
        self.assertEqual(HEAD + DATA + bytes(5000), self.successResultOf(content))


class DirectTests(FilesCase):
    """Larger files are written past the page cache."""

    SIZES = (
        65535,
        65536,
        300_000,
        BLOCK - len(HEAD) - 1,
        BLOCK - len(HEAD),
        BLOCK - len(HEAD) + 1,
        BLOCK + 4096,
        3 * BLOCK + 12345,
    )

    def setUp(self) -> None:
        self.archive = self.makeArchive()

    def store(self, size: int) -> tuple[bytes, bytes]:
        data = bytes(range(251)) * (size // 251 + 1)
        writer = self.archive.create(HEAD)
        for start in range(0, size, 16372):
            writer.write(memoryview(data)[start : min(start + 16372, size)])
        blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.successResultOf(writer.settle())
        self.assertEqual(size, blob.size)
        self.assertEqual(digestOf(data[:size]), blob.digest)
        content = self.archive.readWith(blob.location, lambda file: file.read())
        return HEAD + data[:size], self.successResultOf(content)

    def test_sizes(self) -> None:
        """Blocks used again leave no byte of an earlier instance behind."""
        for size in self.SIZES:
            wanted, content = self.store(size)
            self.assertTrue(wanted == content, size)

    def written(self, size: int) -> list[int]:
        """How each write of one instance was done."""
        flags = []
        system = os.write

        def look(descriptor: int, data: memoryview) -> int:
            flags.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
            return system(descriptor, data)

        with patch.object(incoming.os, "write", look):
            self.store(size)
        return flags

    def test_onlyLarger(self) -> None:
        """Short ones take two waits so, and one through the cache."""
        self.assertEqual([0], self.written(1000))
        if incoming.takesDirect(self.mktemp()):
            self.assertEqual([os.O_DIRECT, 0], self.written(65536))

    def test_refused(self) -> None:
        """
        Where the file system does not take them, they go the usual way; also
        if it did when the server began.
        """

        def refuse(descriptor: int, command: int, flags: int) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

        with patch.object(incoming, "fcntl", refuse):
            self.assertFalse(incoming.takesDirect(self.mktemp()))
            wanted, content = self.store(BLOCK + 4096)
        self.assertTrue(wanted == content)

    def test_refusedLater(self) -> None:
        """
        Also where it took the first ones: as part of a write can be done, and
        leave the rest at an odd place.
        """
        system = os.write
        sizes: list[int] = []

        def write(descriptor: int, data: memoryview) -> int:
            sizes.append(len(data))
            direct = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT
            if direct and len(sizes) > 1:
                raise OSError(errno.EINVAL, "Invalid argument")
            return system(descriptor, data[: 4096 if direct else 5000])

        with patch.object(incoming.os, "write", write):
            wanted, content = self.store(2 * BLOCK + 100)
        self.assertTrue(wanted == content)

    def test_invalidAnyway(self) -> None:
        """What is refused through the cache as well is an error."""
        with patch.object(
            incoming.os, "write", side_effect=OSError(errno.EINVAL, "Invalid argument")
        ):
            writer = self.archive.create(HEAD)
            writer.write(bytes(BLOCK))
            self.failureResultOf(writer.commit(STUDY, SERIES, INSTANCE), ArchiveError)
        self.assertEqual([], self.names())


class ReaderTests(FilesCase):
    """Data sets read back."""

    def setUp(self) -> None:
        self.archive = self.makeArchive()

    def store(self, data: bytes):
        writer = self.archive.create(HEAD)
        writer.write(data)
        blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.successResultOf(writer.settle())
        return blob

    def open(self, blob):
        return self.archive.open(blob.location, blob.size, blob.digest)

    def overwrite(self, blob, place: int) -> None:
        """Change one byte, as a broken disk or a careless person would."""
        with open(self.archive.pathOf(blob.location), "r+b") as file:
            file.seek(place)
            file.write(b"X")

    def test_hashedOnce(self) -> None:
        """What is known to be intact is not read for its digest again."""
        for size in (1000, 2 * BLOCK + 1):
            blob = self.store(bytes(size))
            with patch.object(reader, "sameKind", side_effect=AssertionError):
                self.successResultOf(self.open(blob)).close()
            self.archive = self.restartedArchive()
            with patch.object(reader, "sameKind", wraps=sameKind) as hashed:
                self.successResultOf(self.open(blob)).close()
                self.successResultOf(self.open(blob)).close()
            self.assertEqual(1, hashed.call_count)

    def test_changed(self) -> None:
        """A file that was changed since is looked at again."""
        for size in (1000, 2 * BLOCK + 1):
            blob = self.store(bytes(size))
            self.successResultOf(self.open(blob)).close()
            self.overwrite(blob, len(HEAD) + size - 1)
            failure = self.failureResultOf(self.open(blob), ArchiveError)
            self.assertIn("digest", str(failure.value))

    def readTwice(self, size: int = 1000):
        """Written, and then read once: by a thread."""
        blob = self.store(bytes(size))
        self.successResultOf(self.open(blob)).close()
        self.threads.jobs = 0
        return blob

    def test_cached(self) -> None:
        """What was read not long ago is read on the spot, if it is short."""
        blob = self.readTwice()
        opened = self.successResultOf(self.open(blob))
        self.assertEqual(bytes(1000), bytes(self.successResultOf(opened.read(2000))))
        opened.close()
        self.assertEqual(0, self.threads.jobs)
        self.successResultOf(self.open(self.readTwice(2 * BLOCK))).close()
        self.assertEqual(1, self.threads.jobs)

    def test_notCached(self) -> None:
        """Where the disk would be waited for, a thread does."""
        refuse = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        system = os.preadv

        def preadv(descriptor: int, places: list, offset: int, *flags: int) -> int:
            if flags:
                raise refuse
            return system(descriptor, places, offset)

        blob = self.readTwice()
        with patch.object(reader.os, "preadv", preadv):
            self.successResultOf(self.open(blob)).close()
        self.assertEqual(1, self.threads.jobs)
        with patch.object(intact, "monotonic", lambda: monotonic() + intact.WARM):
            self.successResultOf(self.open(blob)).close()
        self.assertEqual(2, self.threads.jobs)

    def test_cachedButChanged(self) -> None:
        """It is looked at as any other."""
        blob = self.readTwice()
        self.overwrite(blob, len(HEAD))
        self.assertIn(
            "digest", str(self.failureResultOf(self.open(blob), ArchiveError).value)
        )
        os.unlink(self.archive.pathOf(blob.location))
        self.assertIn(
            "gone", str(self.failureResultOf(self.open(blob), ArchiveError).value)
        )

    def test_becomesShorter(self) -> None:
        """While it is being read."""
        blob = self.store(bytes(3 * BLOCK))
        opened = self.successResultOf(self.open(blob))
        os.truncate(self.archive.pathOf(blob.location), BLOCK)
        self.successResultOf(opened.read(BLOCK // 2))
        self.failureResultOf(opened.read(BLOCK), ArchiveError)
        opened.close()

    def descriptors(self) -> int:
        """Those of files; the memory of archives that have gone is not."""
        folder = "/proc/self/fd"
        count = 0
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                count += "memfd" not in os.readlink(f"{folder}/{name}")
        return count

    def test_closedWhileReading(self) -> None:
        """The thread keeps what it is at work with until it is done."""
        before = self.descriptors()
        blob = self.store(bytes(3 * BLOCK))
        opened = self.successResultOf(self.open(blob))
        self.threads.holding = True
        reading = opened.read(BLOCK)
        opened.close()
        self.assertEqual(before + 1, self.descriptors())
        self.threads.run()
        self.successResultOf(reading)
        self.assertEqual(before, self.descriptors())
        self.assertRaises(RuntimeError, opened.read, 1)

    def test_cancelledReading(self) -> None:
        """Just so if what it reads is not waited for any more."""
        before = self.descriptors()
        blob = self.store(bytes(3 * BLOCK))
        opened = self.successResultOf(self.open(blob))
        self.threads.holding = True
        reading = opened.read(BLOCK)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        opened.close()
        self.assertEqual(before + 1, self.descriptors())
        self.threads.run()
        self.assertEqual(before, self.descriptors())

    def test_cancelledOpening(self) -> None:
        """A file that comes too late is closed."""
        before = self.descriptors()
        blob = self.store(bytes(3 * BLOCK))
        self.threads.holding = True
        opening = self.open(blob)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.threads.run()
        self.assertEqual(before, self.descriptors())

    def test_twoAtATime(self) -> None:
        """What was read stays as it is until the call after the next one."""
        data = b"".join(bytes([number]) * BLOCK for number in range(4))
        opened = self.successResultOf(self.open(self.store(data)))
        first = self.successResultOf(opened.read(BLOCK))
        second = self.successResultOf(opened.read(BLOCK))
        self.assertEqual((0, 1), (first[-1], second[-1]))
        opened.close()

    def test_forgets(self) -> None:
        """No more files are remembered than the limit."""
        known = Intact()
        known.LIMIT = 2
        for path in ("a", "b", "c"):
            known.remember(path, b"digest", (1, 2, 3))
        self.assertIsNone(known.get("a", b"digest"))
        self.assertEqual((1, 2, 3), known.get("c", b"digest"))
        self.assertIsNone(known.get("c", b"other"))


class FailureTests(FilesCase):
    """A disk that is full or broken: nothing half-stored stays behind."""

    def setUp(self) -> None:
        self.archive = self.makeArchive()

    def test_everyStep(self) -> None:
        """Whatever fails, the commit says so, and nothing is left."""
        for name in ("write", "link", "fsync", "mkdir", "open"):
            writer = self.archive.create(HEAD)
            writer.write(DATA)
            full = OSError(errno.ENOSPC, "No space left on device")
            with patch.object(incoming.os, name, side_effect=full):
                failure = self.failureResultOf(
                    writer.commit("1." + str(len(name)), SERIES, INSTANCE), ArchiveError
                )
            self.assertEqual(errno.ENOSPC, failure.value.__cause__.errno, name)
            self.successResultOf(writer.discard())
            self.assertEqual([], self.names(), name)

    def test_settledAfterAll(self) -> None:
        """What was whole although its commit failed is kept, and closed."""
        writer = self.archive.create(HEAD)
        writer.write(DATA)
        full = OSError(errno.EIO, "Input/output error")
        with patch.object(incoming, "signatureOf", side_effect=full):
            self.failureResultOf(
                writer.commit(STUDY, SERIES, INSTANCE, lambda blob: None), ArchiveError
            )
        self.successResultOf(writer.settle())
        (name,) = self.names()
        path = os.path.realpath(os.path.join(self.directory, name))
        opened = []
        for one in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                opened.append(os.stat(f"/proc/self/fd/{one}").st_ino)
        self.assertNotIn(os.stat(path).st_ino, opened)

    def test_whileArriving(self) -> None:
        """After an error further bytes are swallowed; the commit fails."""
        writer, producer = self.archive.create(HEAD), Producer()
        writer.registerProducer(producer, True)
        self.threads.holding = True
        for _ in range(2):
            writer.write(bytes(BLOCK))
        self.assertEqual(["pause"], producer.calls)
        full = OSError(errno.ENOSPC, "No space left on device")
        with patch.object(incoming.os, "write", side_effect=full):
            self.threads.run()
        self.assertEqual(["pause", "resume"], producer.calls)
        self.threads.holding = False
        writer.write(bytes(BLOCK))
        failure = self.failureResultOf(
            writer.commit(STUDY, SERIES, INSTANCE), ArchiveError
        )
        self.assertEqual(errno.ENOSPC, failure.value.__cause__.errno)
        self.assertEqual([], self.names())

    def failWhileCommitting(self, error: BaseException) -> Failure:
        """A block cannot be written, of which the commit waits for the end."""
        writer = self.archive.create(HEAD)
        self.threads.holding = True
        writer.write(bytes(BLOCK))
        committed = writer.commit(STUDY, SERIES, INSTANCE)
        with patch.object(incoming.os, "write", side_effect=error):
            self.threads.run()
        self.threads.holding = False
        self.threads.run()
        failure = self.failureResultOf(committed, ArchiveError)
        self.assertEqual([], self.names())
        return failure

    def test_beforeTheCommit(self) -> None:
        """The commit knows how the job ended that it has waited for."""
        failure = self.failWhileCommitting(OSError(errno.EIO, "Input/output error"))
        self.assertEqual(errno.EIO, failure.value.__cause__.errno)

    def test_anyError(self) -> None:
        """A block that was not written is missed, whatever the reason."""
        self.failWhileCommitting(MemoryError())
        self.assertEqual(1, len(self.flushLoggedErrors(MemoryError)))

    def test_discardWhileCommitting(self) -> None:
        """A file of which blocks were given up is never committed."""
        writer = self.archive.create(HEAD)
        self.threads.holding = True
        writer.write(bytes(2 * BLOCK))
        committed = writer.commit(STUDY, SERIES, INSTANCE)
        discarded = writer.discard()
        self.threads.holding = False
        self.threads.run()
        self.failureResultOf(committed, ArchiveError)
        self.successResultOf(discarded)
        self.assertEqual([], self.names())

    def test_discardResumes(self) -> None:
        """A producer is not left paused by a writer that wants no more."""
        writer, producer = self.archive.create(HEAD), Producer()
        writer.registerProducer(producer, True)
        self.threads.holding = True
        for _ in range(2):
            writer.write(bytes(BLOCK))
        discarded = writer.discard()
        self.assertEqual(["pause", "resume"], producer.calls)
        writer.write(bytes(BLOCK))
        self.threads.run()
        self.threads.run()
        self.successResultOf(discarded)
        self.assertEqual([], self.names())


class PowerLossTests(FilesCase):
    """
    After a loss of power at any step, recovery is told of each file that has a
    place, and files that were never committed are gone.
    """

    def setUp(self) -> None:
        self.archive = self.makeArchive()

    def crashIn(self, name: str) -> None:
        writer = self.archive.create(HEAD)
        writer.write(DATA)
        with patch.object(incoming.os, name, side_effect=PowerLoss):
            failure = self.failureResultOf(
                writer.commit(STUDY, SERIES, INSTANCE), PowerLoss
            )
        failure.cleanFailure()
        self.archive = self.restartedArchive()

    def test_beforeTheMark(self) -> None:
        for name in ("mkdir", "open"):
            self.crashIn(name)
            self.assertEqual((), self.successResultOf(self.archive.unsettled()))
            self.assertEqual([], self.names(), name)

    def prepareFolders(self) -> list[str]:
        """Make the folders, so that only the file's own steps are hit."""
        writer = self.archive.create(HEAD)
        self.successResultOf(writer.commit(STUDY, SERIES, "1"))
        self.successResultOf(writer.settle())
        return self.names()

    def test_betweenMarkAndLink(self) -> None:
        """The mark leads to no file, and goes."""
        before = self.prepareFolders()
        self.crashIn("link")
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))
        self.assertEqual(before, self.names())

    def test_betweenMarkAndTakenName(self) -> None:
        """The mark names a file that is another receipt's, which stays."""
        writer = self.archive.create(HEAD)
        writer.write(DATA)
        self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.successResultOf(writer.settle())
        before = self.names()
        self.crashIn("link")
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))
        self.assertEqual(before, self.names())

    def test_afterTheMark(self) -> None:
        """Mark and file are there, the file perhaps without all its bytes."""
        for name in ("write", "fsync"):
            self.prepareFolders()
            self.crashIn(name)
            self.lookAfter()

    def lookAfter(self) -> None:
        (location,) = self.successResultOf(self.archive.unsettled())
        self.assertEqual(len(HEAD), location.dataSetOffset)
        self.assertTrue(self.successResultOf(self.archive.exists(location)))
        self.successResultOf(self.archive.remove(location))
        self.successResultOf(self.archive.settle(location))
        self.assertEqual((), self.successResultOf(self.archive.unsettled()))

    def test_markedForGood(self) -> None:
        """What the index is about to forget does not lose its mark."""
        writer = self.archive.create(HEAD)
        blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        self.successResultOf(writer.settle())
        synced: list[str] = []
        fsync = os.fsync

        def sync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        with patch.object(incoming.os, "fsync", sync):
            self.successResultOf(self.archive.unsettle(blob.location))
        self.assertEqual([os.path.realpath(f"{self.directory}/.incoming")], synced)

    def test_syncedBeforeSuccess(self) -> None:
        """File and folder, and the parents of new folders."""
        synced: list[str] = []
        fsync = os.fsync

        def sync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        writer = self.archive.create(HEAD)
        writer.write(DATA)
        with patch.object(incoming.os, "fsync", sync):
            blob = self.successResultOf(writer.commit(STUDY, SERIES, INSTANCE))
        first, study, series, _ = blob.location.path.split("/")
        root = os.path.realpath(self.directory)
        self.assertEqual(
            [root, f"{root}/{first}", f"{root}/{first}/{study}"], synced[:3]
        )
        self.assertIn(".incoming/", synced[3])
        self.assertEqual([f"{root}/{first}/{study}/{series}"], synced[4:])


class SettlingTests(FilesCase):
    """Marks are taken away several at once, a moment later."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.threads = Threads()
        self.clock = Clock()
        self.archive = FileArchive(self.directory, self.threads, self.clock.callLater)
        self.archive.prepare()

    def committed(self, instance: str):
        writer = self.archive.create(HEAD)
        writer.write(DATA)
        self.successResultOf(writer.commit(STUDY, SERIES, instance))
        return writer

    def marks(self) -> list[str]:
        return [name for name in self.names() if name.startswith(".incoming")]

    def test_together(self) -> None:
        """One job for all that came in the meantime."""
        writers = [self.committed(f"1.2.{number}") for number in range(5)]
        jobs = self.threads.jobs
        settled = [writer.settle() for writer in writers]
        self.assertNoResult(settled[0])
        self.assertEqual(len(self.marks()), 5)
        self.clock.advance(SETTLE_DELAY)
        for done in settled:
            self.successResultOf(done)
        self.assertEqual(self.marks(), [])
        self.assertEqual(self.threads.jobs, jobs + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_oneFails(self) -> None:
        """What cannot be taken away is its own failure, and no other's."""
        first, second = self.committed("1.2.1"), self.committed("1.2.2")
        unlink = os.unlink

        def refuse(path: str) -> None:
            if "1.2.1.dcm" in path:
                raise PermissionError(errno.EACCES, "no")
            unlink(path)

        with patch.object(incoming.os, "unlink", refuse):
            settled = [first.settle(), second.settle()]
            self.clock.advance(SETTLE_DELAY)
        self.failureResultOf(settled[0], ArchiveError)
        self.successResultOf(settled[1])
        self.assertEqual(1, len(self.marks()))
        self.clock.advance(AGAIN)
        self.assertEqual([], self.marks())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_discardFails(self) -> None:
        """What cannot be removed is tried again, and then left to the next start."""
        first = self.committed("1.2.1")
        with patch.object(incoming.os, "unlink", side_effect=OSError(errno.EIO, "no")):
            self.successResultOf(first.discard())
            self.clock.advance(AGAIN)
        self.assertEqual(2, len(self.names()))
        self.clock.advance(AGAIN)
        self.assertEqual([], self.names())
        second = self.committed("1.2.2")
        with patch.object(incoming.os, "unlink", side_effect=OSError(errno.EIO, "no")):
            self.successResultOf(second.discard())
            self.clock.pump([AGAIN] * TIMES)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(1, len(self.marks()))


class ReadErrorTests(FilesCase):
    """What cannot be looked at is not gone."""

    def test_exists(self) -> None:
        """Only a file that is not there is not there."""
        archive = self.makeArchive()
        location = Location("00/1/2/3.dcm", 132)
        self.assertFalse(self.successResultOf(archive.exists(location)))
        with patch.object(files.os, "stat", side_effect=OSError(errno.EIO, "no")):
            self.failureResultOf(archive.exists(location), ArchiveError)

    def test_pathsBelow(self) -> None:
        """A folder that cannot be read is no empty folder."""
        archive = self.makeArchive()
        os.makedirs(os.path.join(self.directory, "00", "1"))
        refuse = OSError(errno.EIO, "no")
        with patch.object(files.os, "scandir", side_effect=refuse):
            self.failureResultOf(archive.pathsBelow("00"), ArchiveError)
