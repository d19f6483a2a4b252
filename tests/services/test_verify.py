"""The verification of the files against the index."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.interfaces import IVerify
from d360.model import Duplicates, FileState, Location, VerifyProgress
from d360.services import verify
from d360.services.part10 import encodeHead
from d360.services.reindex import readInstance
from d360.services.verify import MAX_FINDINGS, Verify
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryaudit import MemoryAudit
from tests.contracts.memoryindex import MemoryIndex
from tests.services.datasets import CT, EXPLICIT, encode, instance


class VerifyCase(SynchronousTestCase):
    """An archive and an index in memory, with instances in both."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.archive = MemoryArchive()
        self.index = MemoryIndex()
        self.audit = MemoryAudit()
        self.verify = Verify(self.archive, self.index, self.clock, 2, self.audit)

    def put(self, number: int, study: str = "1.2.3", **elements: Any) -> Location:
        """An instance, as it is after it was stored."""
        uid = f"{study}.4.{number}"
        head = encodeHead(CT, uid, EXPLICIT, "MODALITY", "D360PACS")
        location = Location(f"00/{study}/{study}.4/{uid}.dcm", len(head))
        dataset = instance(SOPInstanceUID=uid, StudyInstanceUID=study, **elements)
        self.archive.files[location.path] = head + encode(dataset)
        self.enter(location)
        return location

    def enter(self, location: Location) -> None:
        reading = readInstance(BytesIO(self.archive.files[location.path]))
        record = evolve(reading.record, receivedAt=datetime(2026, 1, 1, tzinfo=UTC))
        self.successResultOf(self.index.register(record, location, Duplicates.REPLACE))

    def spoil(self, location: Location, place: int = -1) -> None:
        """A bit of its file turns."""
        data = bytearray(self.archive.files[location.path])
        data[place] ^= 1
        self.archive.files[location.path] = bytes(data)

    def whileExamined(self, change: Any) -> None:
        """Have something happen while a file is read for the first time."""
        examine = self.archive.examine

        def examined(*arguments: Any) -> Any:
            self.patch(self.archive, "examine", examine)
            change()
            return examine(*arguments)

        self.patch(self.archive, "examine", examined)

    def run_(self, **arguments: Any) -> VerifyProgress:
        """To its end, without a limit of the rate."""
        self.assertTrue(self.verify.start(0, **arguments))
        progress = self.verify.progress()
        assert progress is not None
        self.assertFalse(progress.running)
        return progress

    def counts(self, progress: VerifyProgress) -> tuple[int, ...]:
        """Intact, damaged, missing, unreadable, changed."""
        self.assertEqual("", progress.error)
        counts = (
            progress.intact,
            progress.damaged,
            progress.missing,
            progress.unreadable,
            progress.changed,
        )
        self.assertEqual(sum(counts), progress.done)
        return counts


class VerifyTests(VerifyCase):
    """See L{d360.interfaces.IVerify}."""

    def test_interface(self) -> None:
        verifyObject(IVerify, self.verify)
        self.assertIsNone(self.verify.progress())
        self.successResultOf(self.verify.stop())

    def test_empty(self) -> None:
        """There is nothing that could be wrong."""
        progress = self.run_()
        self.assertEqual((0, 0, 0, 0, 0), self.counts(progress))
        self.assertEqual(0, progress.total)

    def test_intact(self) -> None:
        """All of them are read, all of each; over several pages."""
        self.patch(verify, "PAGE", 3)
        locations = [self.put(number) for number in range(1, 8)]
        progress = self.run_()
        self.assertEqual((7, 0, 0, 0, 0), self.counts(progress))
        self.assertEqual((7, 7), (progress.total, progress.position))
        size = sum(len(self.archive.files[one.path]) for one in locations)
        self.assertEqual(size, progress.size)
        self.assertEqual((), progress.findings)

    def test_damaged(self) -> None:
        """One bit of the pixels, a file too short, one too long, one with nothing."""
        locations = [self.put(number) for number in range(1, 6)]
        files = self.archive.files
        self.spoil(locations[0])
        files[locations[1].path] = files[locations[1].path][:-1]
        files[locations[2].path] += b"\0"
        files[locations[3].path] = b""
        progress = self.run_()
        self.assertEqual((1, 4, 0, 0, 0), self.counts(progress))
        self.assertEqual(
            [one.path for one in locations[:4]], [one.path for one in progress.findings]
        )
        self.assertEqual({FileState.DAMAGED}, {one.state for one in progress.findings})
        self.assertEqual("1.2.3.4.1", progress.findings[0].SOPInstanceUID)

    def test_fileMetaInformation(self) -> None:
        """What the digest does not cover, and a reader of the file relies on."""
        for place, words in (
            (130, "not a dicom part 10 file"),
            (CT, "sop class uid"),
            ("1.2.3.4.2", "sop instance uid"),
            (EXPLICIT, "transfer syntax"),
            (140, ""),
        ):
            self.setUp()
            location = self.put(2)
            if isinstance(place, str):
                place = self.archive.files[location.path].index(place.encode()) + 4
            self.spoil(location, place)
            progress = self.run_()
            self.assertEqual((0, 1, 0, 0, 0), self.counts(progress))
            self.assertIn(words, progress.findings[0].why.lower())

    def test_otherWriter(self) -> None:
        """A file of another program, which tells less of itself, is intact."""
        head = encodeHead("", "", EXPLICIT, "", "")
        location = Location("00/other.dcm", len(head))
        self.archive.files[location.path] = head + encode(instance())
        self.enter(location)
        self.assertEqual((1, 0, 0, 0, 0), self.counts(self.run_()))

    def test_missing(self) -> None:
        location = self.put(1)
        self.put(2)
        del self.archive.files[location.path]
        progress = self.run_()
        self.assertEqual((1, 0, 1, 0, 0), self.counts(progress))
        self.assertIs(FileState.MISSING, progress.findings[0].state)

    def test_unreadable(self) -> None:
        """What the system does not read says nothing about what it holds."""
        self.put(1)
        self.archive.unreadable = OSError(errno.EIO, "Input/output error")
        progress = self.run_()
        self.assertEqual((0, 0, 0, 1, 0), self.counts(progress))

    def test_nothingIsChanged(self) -> None:
        """Neither the files nor what is known of them."""
        locations = [self.put(number) for number in range(1, 4)]
        self.spoil(locations[0])
        del self.archive.files[locations[1].path]
        before = dict(self.archive.files)
        self.run_()
        self.assertEqual(before, self.archive.files)
        self.assertEqual(3, self.successResultOf(self.index.totals()).instances)

    def test_manyFindings(self) -> None:
        """All are counted, the first are named."""
        for number in range(1, MAX_FINDINGS + 20):
            self.put(number)
        self.archive.files.clear()
        progress = self.run_()
        self.assertEqual(MAX_FINDINGS + 19, progress.missing)
        self.assertEqual(MAX_FINDINGS, len(progress.findings))
        # The audit trail is told of those that are named.
        told = tuple(finding for _, finding in self.audit.calls)
        self.assertEqual(progress.findings, told)

    def test_study(self) -> None:
        """Only one; none by this name is said."""
        self.put(1, "1.2.3")
        spoilt = self.put(1, "1.2.4")
        self.spoil(spoilt)
        progress = self.run_(study="1.2.3")
        self.assertEqual((1, 0, 0, 0, 0), self.counts(progress))
        self.assertEqual((1, 0), (progress.total, progress.position))
        progress = self.run_(study="1.2.4")
        self.assertEqual((0, 1, 0, 0, 0), self.counts(progress))
        self.assertIn("no study", self.run_(study="1.2.5").error)

    def test_after(self) -> None:
        """It goes on where an earlier one was."""
        locations = [self.put(number) for number in range(1, 6)]
        self.spoil(locations[0])
        progress = self.run_(after=2)
        self.assertEqual((3, 0, 0, 0, 0), self.counts(progress))
        self.assertEqual((3, 5), (progress.total, progress.position))
        self.assertEqual(0, self.run_(after=5).total)


class PaceTests(VerifyCase):
    """It leaves the disk to others, and ends when it is told to."""

    def test_rate(self) -> None:
        """Bytes a second, of all files under way together."""
        for number in range(1, 11):
            self.put(number)
        size = sum(map(len, self.archive.files.values()))
        self.assertTrue(self.verify.start(size / 20))
        self.assertFalse(self.verify.start(0), "one at a time")
        self.clock.pump([0.5] * 20)
        progress = self.verify.progress()
        assert progress is not None
        self.assertTrue(progress.running)
        self.assertEqual(10.0, progress.seconds)
        self.assertTrue(4 <= progress.done <= 7, progress.done)
        self.clock.pump([0.5] * 22)
        progress = self.verify.progress()
        self.assertEqual((10, 0, 0, 0, 0), self.counts(progress))

    def test_stop(self) -> None:
        """At once; and it says where it is, so that nothing is left out."""
        self.patch(verify, "PAGE", 4)
        for number in range(1, 11):
            self.put(number)
        size = sum(map(len, self.archive.files.values()))
        self.verify.start(size / 10)
        self.clock.pump([0.5] * 11)
        self.successResultOf(self.verify.stop())
        progress = self.verify.progress()
        self.assertEqual((False, "stopped"), (progress.running, progress.error))
        self.assertTrue(0 < progress.position < 10)
        self.assertTrue(progress.position <= progress.done)
        again = self.run_(after=progress.position)
        self.assertEqual(10 - progress.position, again.intact)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_clockSetBack(self) -> None:
        """It does not wait until that time comes again."""
        for number in range(1, 4):
            self.put(number)

        def setBack() -> None:
            self.clock.rightNow -= 3600

        self.whileExamined(setBack)
        self.verify.start(100_000)
        self.clock.pump([0.1] * 10)
        self.assertEqual((3, 0, 0, 0, 0), self.counts(self.verify.progress()))

    def test_databaseAway(self) -> None:
        """It is waited for: a verification goes on for days."""
        for number in range(1, 4):
            self.put(number)
        self.index.away = True
        self.verify.start(0)
        self.clock.pump([1.0] * 100)
        self.assertTrue(self.verify.progress().running)
        self.index.away = False
        self.clock.advance(30)
        self.assertEqual((3, 0, 0, 0, 0), self.counts(self.verify.progress()))

    def test_stopWhileTheDatabaseIsAway(self) -> None:
        self.index.away = True
        self.verify.start(0)
        self.successResultOf(self.verify.stop())
        self.assertEqual("stopped", self.verify.progress().error)


class MeanwhileTests(VerifyCase):
    """What is stored, replaced or deleted meanwhile is not called damaged."""

    def test_onItsWay(self) -> None:
        """The index is told of a file before it is whole."""
        location = self.put(1)
        whole = self.archive.files[location.path]
        self.archive.files[location.path] = whole[:-100]
        self.archive.marks.add(location)
        self.assertEqual((0, 0, 0, 0, 1), self.counts(self.run_()))
        self.archive.files[location.path] = whole
        self.archive.marks.clear()
        self.assertEqual((1, 0, 0, 0, 0), self.counts(self.run_()))

    def test_wholeMeanwhile(self) -> None:
        """It was not, and its mark is gone when that is looked at."""
        location = self.put(1)
        whole = self.archive.files[location.path]
        self.archive.files[location.path] = whole[:-100]
        settled = self.archive.isSettled

        def becomesWhole(of: Location) -> Deferred[bool]:
            self.archive.files[location.path] = whole
            return settled(of)

        self.patch(self.archive, "isSettled", becomesWhole)
        self.assertEqual((1, 0, 0, 0, 0), self.counts(self.run_()))

    def test_deleted(self) -> None:
        location = self.put(1)
        self.put(2)

        def delete() -> None:
            self.successResultOf(self.index.forget(location))
            del self.archive.files[location.path]

        self.whileExamined(delete)
        self.assertEqual((1, 0, 0, 0, 1), self.counts(self.run_()))

    def test_replaced(self) -> None:
        """The old file goes when the index has the new one."""
        location = self.put(1)
        data = self.archive.files[location.path]
        newer = Location(location.path.replace(".dcm", "-2.dcm"), len(data) - 1)

        def replace() -> None:
            head = encodeHead(CT, "1.2.3.4.1", EXPLICIT, "MODALITY", "D360PACS")
            other = Location(newer.path, len(head))
            self.archive.files[newer.path] = head + encode(
                instance(SOPInstanceUID="1.2.3.4.1", StudyDescription="again")
            )
            self.enter(other)
            del self.archive.files[location.path]

        self.whileExamined(replace)
        self.assertEqual((0, 0, 0, 0, 1), self.counts(self.run_()))
        self.assertEqual((1, 0, 0, 0, 0), self.counts(self.run_()))

    def test_storedMeanwhile(self) -> None:
        """It is left to the next one, or this one might never end."""
        self.put(1)
        self.whileExamined(lambda: self.put(2))
        progress = self.run_()
        self.assertEqual((1, 0, 0, 0, 0), self.counts(progress))
        self.assertEqual(2, self.run_().intact)

    def test_deletedAndStoredAgain(self) -> None:
        """The same bytes in the same place: the file was away for a moment."""
        location = self.put(1)
        data = self.archive.files.pop(location.path)
        settled = self.archive.isSettled

        def again(of: Location) -> Deferred[bool]:
            self.archive.files[location.path] = data
            return settled(of)

        self.patch(self.archive, "isSettled", again)
        self.assertEqual((1, 0, 0, 0, 0), self.counts(self.run_()))
