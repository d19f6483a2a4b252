"""Transcoding in child processes: what they do, and what becomes of those that die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from unittest.mock import patch

import imagecodecs
import numpy
from twisted.internet import reactor
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.errors import ArchiveError, TranscodingError
from d360.interfaces import IDatasetReader, ITranscoder
from d360.model import Location
from d360.transcoding.transcoder import Transcoder
from tests.transcoding.building import (
    EXPLICIT,
    IMPLICIT,
    JPEG_2000,
    encapsulated,
    explicit,
    header,
    implicit,
)

SMALL = explicit(0x00080060, "CS", b"CT")
BECOMES = implicit(0x00080060, b"CT")


@implementer(IDatasetReader)
class Reader:
    """A file that is open."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, count: int) -> Deferred[bytes]:
        return succeed(os.read(self._descriptor, count))

    def close(self) -> None:
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1


class TranscoderTests(TestCase):
    """With real children."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        (self.folder / "archive").mkdir(parents=True)
        self.temporary = self.folder / "temporary"
        self.transcoder = self.makeTranscoder()

    def makeTranscoder(self, **options) -> Transcoder:
        transcoder = Transcoder(
            reactor,
            str(self.temporary),
            lambda location: str(self.folder / "archive" / location.path),
            lambda path: maybeDeferred(self.open, path),
            **options,
        )
        transcoder.start()
        self.addCleanup(self.end, transcoder)
        return transcoder

    def open(self, path: str) -> Reader:
        reader = Reader(path)
        self.addCleanup(reader.close)
        return reader

    async def end(self, transcoder: Transcoder) -> None:
        await transcoder.stop()
        self.assertEqual(self.children(), [])
        await self.until(lambda: self.leftovers() == [])

    def children(self) -> list[int]:
        """The process IDs of the workers there are."""
        found = []
        for place in Path("/proc/self/task").glob("*/children"):
            for pid in place.read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"d360.transcoding.worker" in command:
                    found.append(int(pid))
        return found

    def leftovers(self) -> list[str]:
        return sorted(os.listdir(self.temporary))

    async def until(self, condition) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError("it does not come to pass")
            await deferLater(reactor, 0.01)

    def keep(self, data: bytes, name: str = "a") -> Location:
        (self.folder / "archive" / name).write_bytes(b"head" + data)
        return Location(name, 4)

    def keepSlow(self) -> Location:
        """One that takes some seconds."""
        image = numpy.random.default_rng(0).integers(0, 255, (1000, 1000)).astype("u1")
        frame = bytes(imagecodecs.jpeg2k_encode(image))
        return self.keep(
            header(1000, 1000, frames=60) + encapsulated(*[frame] * 60), "slow"
        )

    async def succeeds(self, transcoder: Transcoder) -> None:
        reader = await transcoder.transcode(self.keep(SMALL), EXPLICIT, IMPLICIT)
        self.assertEqual(reader.size, len(BECOMES))
        self.assertEqual(await reader.read(100), BECOMES)
        reader.close()

    async def test_workingDirectory(self) -> None:
        """What is in the server's working directory is none of our code."""
        for name in ("queue", "json"):
            (self.folder / f"{name}.py").write_text("raise SystemExit(77)")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        await self.succeeds(self.transcoder)

    async def failure(self, transcoded: Deferred[IDatasetReader]) -> str:
        try:
            await transcoded
        except TranscodingError as why:
            return str(why)
        raise AssertionError("it did not fail")

    def test_interface(self) -> None:
        verifyObject(ITranscoder, self.transcoder)
        self.assertEqual(self.transcoder.targetsOf(EXPLICIT)[0], IMPLICIT)

    async def test_transcode(self) -> None:
        """Children stay, and no file does. What is stored is as it was."""
        await self.succeeds(self.transcoder)
        first = self.children()
        await self.succeeds(self.transcoder)
        self.assertEqual(self.children(), first)
        self.assertEqual(len(first), 1)
        await self.until(lambda: self.leftovers() == [])
        stored = self.folder / "archive" / "a"
        self.assertEqual(stored.read_bytes(), b"head" + SMALL)

    async def test_many(self) -> None:
        """No more than the children that there may be work at a time."""
        await gatherResults([self.wrapped() for _ in range(40)])
        self.assertEqual(len(self.children()), 2)

    def wrapped(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.succeeds(self.transcoder))

    async def test_refused(self) -> None:
        """The child's reason is the failure's; the child goes on."""
        location = self.keep(b"abc", "broken")
        why = await self.failure(
            self.transcoder.transcode(location, EXPLICIT, IMPLICIT)
        )
        self.assertEqual(why, "the data set is truncated")
        await self.succeeds(self.transcoder)
        self.assertEqual(len(self.children()), 1)
        why = await self.failure(
            self.transcoder.transcode(location, "1.2.840.10008.1.2.4.100", EXPLICIT)
        )
        self.assertIn("cannot become", why)

    async def test_noFile(self) -> None:
        """An archive that cannot say where, or not open, is a failure too."""

        def fail(_: object) -> str:
            raise ArchiveError("no such place")

        for name in ("_pathOf", "_openDataset"):
            with patch.object(self.transcoder, name, fail):
                why = await self.failure(
                    self.transcoder.transcode(self.keep(SMALL), EXPLICIT, IMPLICIT)
                )
            self.assertEqual(why, "it cannot be read: no such place")

    async def test_crash(self) -> None:
        """A child that dies fails its job, and another takes its place."""
        transcoder = self.makeTranscoder(workers=1)
        slow = transcoder.transcode(self.keepSlow(), JPEG_2000, EXPLICIT)
        failed = Deferred.fromCoroutine(self.failure(slow))
        following = Deferred.fromCoroutine(self.succeeds(transcoder))
        await self.until(lambda: len(self.leftovers()) == 1)
        (child,) = self.children()
        os.kill(child, signal.SIGSEGV)
        self.assertEqual(await failed, "the process that did it died")
        await following
        self.assertNotEqual(self.children(), [child])

    async def test_idleCrash(self) -> None:
        """So it is with one that dies when it has nothing to do."""
        await self.succeeds(self.transcoder)
        (child,) = self.children()
        os.kill(child, signal.SIGKILL)
        await self.until(lambda: not Path(f"/proc/{child}").exists())
        await deferLater(reactor, 0.1)
        await self.succeeds(self.transcoder)

    async def test_timeout(self) -> None:
        """A job that takes too long ends with its child."""
        transcoder = self.makeTranscoder(workers=1)
        await self.succeeds(transcoder)
        # Of its child, which has begun by now: that takes its time as well.
        with patch.object(transcoder, "_timeout", 1.0):
            slow = transcoder.transcode(self.keepSlow(), JPEG_2000, EXPLICIT)
            self.assertEqual(await self.failure(slow), "it took longer than 1 s")
        await self.succeeds(transcoder)

    async def test_cancelled(self) -> None:
        """What is cancelled leaves nothing, whether it was begun or not."""
        transcoder = self.makeTranscoder(workers=1)
        jobs = [
            transcoder.transcode(self.keep(SMALL, n), EXPLICIT, IMPLICIT)
            for n in ("a", "b", "c")
        ]
        for job in jobs[:2]:
            job.cancel()
            self.failureResultOf(job, CancelledError)
        (await jobs[2]).close()
        await self.until(lambda: self.leftovers() == [])

    async def test_leftovers(self) -> None:
        """What an earlier run left is removed at the start, and nothing else."""
        for name in ("0123abcd-0.transcoded", "other"):
            (self.temporary / name).write_bytes(b"")
        self.makeTranscoder()
        self.assertEqual(self.leftovers(), ["other"])
        os.unlink(self.temporary / "other")

    async def test_stop(self) -> None:
        """What waits fails, and so does what comes later."""
        transcoder = self.makeTranscoder(workers=1)
        running = transcoder.transcode(self.keep(SMALL), EXPLICIT, IMPLICIT)
        waiting = transcoder.transcode(self.keep(SMALL), EXPLICIT, IMPLICIT)
        stopped = transcoder.stop()
        self.assertIn("stopping", str(self.failureResultOf(waiting).value))
        (await running).close()
        await stopped
        late = transcoder.transcode(self.keep(SMALL), EXPLICIT, IMPLICIT)
        self.assertIn("stopping", str(self.failureResultOf(late).value))

    async def test_stopInHaste(self) -> None:
        """A child that is not ready with its job in time is killed."""
        transcoder = self.makeTranscoder(workers=1)
        with patch("d360.transcoding.transcoder._LAST_PATIENCE", 0.2):
            slow = transcoder.transcode(self.keepSlow(), JPEG_2000, EXPLICIT)
            failed = Deferred.fromCoroutine(self.failure(slow))
            await transcoder.stop()
        self.assertIn("stopping", await failed)

    async def test_noProcess(self) -> None:
        """Where no process can be started, that job fails."""
        with patch.object(reactor, "spawnProcess", side_effect=OSError(12, "no")):
            why = await self.failure(
                self.transcoder.transcode(self.keep(SMALL), EXPLICIT, IMPLICIT)
            )
        self.assertEqual(why, "no process: no")
        await self.succeeds(self.transcoder)
