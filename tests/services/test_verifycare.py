"""The verification that goes on all the time."""

from __future__ import annotations

import os
from io import BytesIO

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from d360.archive.verifynotes import VerifyNotes
from d360.errors import ArchiveError
from d360.interfaces import IVerifyNotes
from d360.model import Duplicates, Location, VerifyProgress, VerifyRound
from d360.services import verifycare
from d360.services.part10 import encodeHead
from d360.services.reindex import readInstance
from d360.services.verify import Verify
from d360.services.verifycare import INTERVAL, VerifyCare
from tests.contracts.archive import checkSignatures
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryindex import MemoryIndex
from tests.services.datasets import CT, EXPLICIT, encode, instance

DAY = 86400.0


@implementer(IVerifyNotes)
class MemoryNotes:
    """See L{IVerifyNotes}."""

    def __init__(self) -> None:
        self.round: VerifyRound | None = None
        self.broken = False

    def read(self) -> Deferred[VerifyRound | None]:
        return succeed(self.round)

    def write(self, round: VerifyRound) -> Deferred[None]:
        if self.broken:
            return fail(ArchiveError("the disk is full"))
        self.round = round
        return succeed(None)


class CareTests(SynchronousTestCase):
    """Each file once in so many days."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.archive = MemoryArchive()
        self.index = MemoryIndex()
        self.notes = MemoryNotes()
        # So slow that a round of a few small files takes its time.
        self.patch(verifycare, "LEAST_RATE", 1)
        self.open(days=30)
        for number in range(1, 7):
            self.put(number)

    def open(self, days: int) -> None:
        """A server that starts."""
        self.verify = Verify(self.archive, self.index, self.clock, 1)
        self.care = VerifyCare(self.verify, self.index, self.notes, self.clock, days)

    def put(self, number: int) -> None:
        uid = f"1.2.3.4.{number}"
        head = encodeHead(CT, uid, EXPLICIT, "MODALITY", "D360PACS")
        location = Location(f"00/{uid}.dcm", len(head))
        data = head + encode(instance(SOPInstanceUID=uid))
        self.archive.files[location.path] = data
        reading = readInstance(BytesIO(data))
        self.successResultOf(
            self.index.register(reading.record, location, Duplicates.REPLACE)
        )

    def pass_(self, seconds: float) -> None:
        """In steps, as time does."""
        self.clock.pump([60.0] * int(seconds / 60))

    def progress(self) -> VerifyProgress:
        found = self.verify.progress()
        assert found is not None
        return found

    def test_never(self) -> None:
        """Nothing is done where nothing is wanted."""
        self.open(days=0)
        self.care.start()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertIsNone(self.verify.progress())
        self.successResultOf(self.care.stop())
        self.assertIsNone(self.notes.round)

    def test_round(self) -> None:
        """It is done in time, and not begun again before that."""
        self.care.start()
        self.assertEqual(1_700_000_000, self.notes.round.begunAt)
        self.pass_(3600)
        self.assertTrue(self.progress().running)
        self.assertGreater(self.notes.round.position, 0)
        self.pass_(5 * 3600)
        self.assertEqual(6, self.progress().intact)
        self.assertEqual(
            (6, True), (self.notes.round.position, self.notes.round.complete)
        )
        self.put(7)
        self.clock.pump([3600.0] * 24 * 29)
        self.assertEqual(6, self.progress().intact)
        self.clock.pump([3600.0] * 24)
        self.assertEqual(7, self.progress().total)
        self.successResultOf(self.care.stop())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_largeArchive(self) -> None:
        """The rate is what is needed for a round."""
        self.patch(verifycare, "LEAST_RATE", 0)
        self.care.start()
        size = self.successResultOf(self.index.totals()).size
        self.assertAlmostEqual(1.25 * size / (30 * DAY), self.progress().rate)

    def test_restart(self) -> None:
        """It goes on where it was, also with what it had half done."""
        self.care.start()
        self.pass_(3600)
        self.successResultOf(self.care.stop())
        noted = self.notes.round
        self.assertTrue(0 < noted.position < 6)
        self.assertFalse(noted.complete)
        self.open(days=30)
        self.care.start()
        self.assertEqual(noted.begunAt, self.notes.round.begunAt)
        self.pass_(5 * 3600)
        self.assertEqual(6 - noted.position, self.progress().intact)
        self.assertTrue(self.notes.round.complete)
        self.successResultOf(self.care.stop())
        self.open(days=30)
        self.care.start()
        self.assertIsNone(self.verify.progress(), "it is not due")

    def test_indexMadeAnew(self) -> None:
        """A position of another index says nothing."""
        self.notes.round = VerifyRound(1_699_999_000, 1000)
        self.care.start()
        self.assertEqual((6, 0), (self.progress().total, self.progress().position))
        self.assertEqual(1_700_000_000, self.notes.round.begunAt)

    def test_databaseAway(self) -> None:
        """At the start, or when it is to begin: it is tried again."""
        self.index.away = True
        self.care.start()
        self.pass_(INTERVAL * 2)
        self.assertIsNone(self.verify.progress())
        self.index.away = False
        self.pass_(INTERVAL)
        self.assertTrue(self.progress().running)

    def test_diskFull(self) -> None:
        """What cannot be noted is read once more."""
        self.care.start()
        self.notes.broken = True
        self.pass_(6 * 3600)
        self.assertEqual(6, self.progress().intact)
        self.notes.broken = False
        self.pass_(INTERVAL)
        self.assertTrue(self.notes.round.complete)
        self.notes.broken = True
        self.successResultOf(self.care.stop())


class NotesTests(SynchronousTestCase):
    """The file that it is noted in."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.notes = VerifyNotes(self.path, maybeDeferred)

    def test_interface(self) -> None:
        for one in (self.notes, MemoryNotes()):
            checkSignatures(self, IVerifyNotes, one)

    def test_kept(self) -> None:
        self.assertIsNone(self.successResultOf(self.notes.read()))
        for round_ in (VerifyRound(1.5, 7), VerifyRound(2.5, 9, True)):
            self.successResultOf(self.notes.write(round_))
            again = VerifyNotes(self.path, maybeDeferred)
            self.assertEqual(round_, self.successResultOf(again.read()))
        folder = os.path.dirname(self.path)
        self.assertNotIn(f"{self.path}.new", os.listdir(folder))

    def test_ofNoUse(self) -> None:
        """Whatever is in it, it begins anew."""
        for text in ("", "{", "[]", "7", '{"begunAt": 1}', '{"begunAt": "x"}', "\xff"):
            with open(self.path, "w", encoding="latin-1") as file:
                file.write(text)
            self.assertIsNone(self.successResultOf(self.notes.read()))

    def test_refused(self) -> None:
        os.mkdir(self.path)
        self.failureResultOf(self.notes.read(), ArchiveError)
        self.failureResultOf(self.notes.write(VerifyRound(1)), ArchiveError)
