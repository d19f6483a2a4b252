"""The Storage service class (PS3.4 Annex B; conformance 5.2.3, 6)."""

from __future__ import annotations

import errno
import sys
import zlib
from functools import partial
from io import BytesIO
from typing import Any

from attrs import evolve
from pydicom import dcmread
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.digests import digestOf
from d360.errors import (
    AssociationEnded,
    DatabaseError,
    DatabaseUnavailable,
    DIMSEError,
)
from d360.interfaces import IServiceClass
from d360.model import (
    Announcement,
    Command,
    Duplicates,
    Location,
    Outcome,
    PresentationContext,
    Query,
    Registration,
    StoredInstance,
)
from d360.services.recovery import FIRST_DELAY, Recovery
from d360.services.storage import StorageService
from tests.contracts.memoryarchive import MemoryArchive, MemoryWriter
from tests.contracts.memoryfreespace import MemoryFreeSpace
from tests.contracts.operation import FakeOperation
from tests.services.datasets import CT, DEFLATED, EXPLICIT, IMPLICIT, encode, instance

ELSEWHERE = Location("00/1.2.3/1.2.3.4/elsewhere.dcm", 100)


class Located:
    """The instances that are known, all at once."""

    def __init__(self, index: Index, found: list[StoredInstance]) -> None:
        self.index = index
        self.found = found

    def nextBatch(self) -> Deferred[tuple[StoredInstance, ...]]:
        batch, self.found = tuple(self.found), []
        return self.index.later(batch)

    def close(self) -> None:
        pass


class Index:
    """
    Answers what it is told to, and keeps what it was asked.

    @ivar outcome: what becomes of an instance; other than STORED, it is known.
    @ivar error: what everything fails with.
    @ivar commits: although it has failed.
    @ivar known: what is entered, by location, with size and digest.
    @ivar left: what an earlier run did not confirm.
    """

    def __init__(self) -> None:
        self.outcome = Outcome.STORED
        self.error: Exception | None = None
        self.conflict = False
        self.commits = False
        self.pending: Deferred[None] | None = None
        self.announced: list[tuple[Any, Location]] = []
        self.confirmed: list[int] = []
        self.registered: list[tuple[Any, Location, Duplicates]] = []
        self.relocated: list[Location] = []
        self.known: dict[Location, tuple[int, bytes]] = {}
        self.left: list[Location] = []
        self.forgotten: list[Location] = []
        self.kept = ELSEWHERE
        self.asked = 0

    def later(self, value: Any) -> Deferred[Any]:
        if self.error is not None:
            return fail(self.error)
        if self.pending is not None:
            return self.pending.addCallback(lambda _: value)
        return succeed(value)

    def announce(self, record, location) -> Deferred[Announcement | None]:
        if self.error is None:
            self.announced.append((record, location))
        if self.outcome is not Outcome.STORED:
            return self.later(None)
        if self.error is None or self.commits:
            self.known[location] = record.size, record.digest
        return self.later(Announcement(len(self.announced), self.conflict))

    def confirm(self, announcement: Announcement) -> None:
        self.confirmed.append(announcement.number)

    def register(self, record, location, duplicates) -> Deferred[Registration]:
        if self.error is None:
            self.registered.append((record, location, duplicates))
        ours = self.outcome is Outcome.REPLACED
        superseded = self.kept if ours else location
        registration = Registration(
            self.outcome, location if ours else self.kept, superseded, self.conflict
        )
        return self.later(registration)

    def relocate(self, record, location) -> Deferred[Registration]:
        self.relocated.append(location)
        return succeed(Registration(Outcome.REPLACED, location, self.kept))

    def locate(self, query: Query) -> Located:
        return Located(
            self,
            [
                StoredInstance("1.2.3.4.5", CT, EXPLICIT, location, *known)
                for location, known in self.known.items()
                if self.outcome is not Outcome.STORED
            ],
        )

    def storedAt(self, location: Location) -> Deferred[StoredInstance | None]:
        self.asked += 1
        found = None
        if location in self.known:
            found = StoredInstance("1.2", CT, EXPLICIT, location, *self.known[location])
        return self.later(found)

    def unconfirmed(self) -> Deferred[tuple[StoredInstance, ...]]:
        return succeed(
            tuple(
                StoredInstance("1.2", CT, EXPLICIT, location, *self.known[location])
                for location in self.left
            )
        )

    def confirmAll(self) -> Deferred[None]:
        self.left = []
        return succeed(None)

    def forget(self, location: Location) -> Deferred[bool]:
        self.forgotten.append(location)
        return self.later(self.known.pop(location, None) is not None)


class StorageCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.archive = MemoryArchive()
        self.index = Index()
        self.freeSpace = MemoryFreeSpace()
        self.recovery = Recovery(self.archive, self.index, self.clock)
        self.service = self.make(Duplicates.REPLACE)

    def make(
        self, duplicates: Duplicates, maxSize: int = sys.maxsize
    ) -> StorageService:
        return StorageService(
            self.archive,
            self.index,
            self.recovery,
            self.clock,
            self.freeSpace,
            duplicates,
            maxSize=maxSize,
        )

    def operation(
        self,
        dataset: Any = None,
        transferSyntax: str = EXPLICIT,
        sopClass: str = CT,
        sopInstance: str = "1.2.3.4.5",
    ) -> FakeOperation:
        if dataset is None:
            dataset = instance()
        data = (
            dataset if isinstance(dataset, bytes) else encode(dataset, transferSyntax)
        )
        return FakeOperation(
            PresentationContext(1, CT, transferSyntax),
            Command(
                1, AffectedSOPClassUID=sopClass, AffectedSOPInstanceUID=sopInstance
            ),
            data,
            pieceLength=100,
        )

    def store(self, operation: FakeOperation) -> FakeOperation:
        self.successResultOf(self.service.perform(operation))
        return operation

    def refuse(self, operation: FakeOperation, status: int) -> DIMSEError:
        """It is refused, with a comment, and nothing of it remains."""
        failure = self.failureResultOf(self.service.perform(operation), DIMSEError)
        self.assertEqual(f"{status:04X}", f"{failure.value.status:04X}")
        self.assertTrue(0 < len(failure.value.comment) <= 64)
        self.assertNotIn("Rossi", failure.value.comment)
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))
        self.assertEqual([], operation.responses)
        return failure.value


class SuccessTests(StorageCase):
    """0000: file and index are durable."""

    def test_interface(self) -> None:
        verifyObject(IServiceClass, self.service)
        self.assertEqual(105, len(self.service.sopClasses))
        self.assertTrue(self.service.grantsSCPRole(CT))
        self.assertEqual(30, len(self.service.transferSyntaxesFor(CT)))

    def test_stored(self) -> None:
        """Bytes as received, behind a File Meta of ours; the record complete."""
        operation = self.store(self.operation())
        self.assertEqual([0x0000], operation.statuses())
        ((record, location),) = self.index.announced
        content = self.archive.files[location.path]
        self.assertEqual(operation.data, content[location.dataSetOffset :])
        meta = dcmread(BytesIO(content)).file_meta
        self.assertEqual(EXPLICIT, meta.TransferSyntaxUID)
        self.assertEqual("MODALITY", meta.SourceApplicationEntityTitle)
        self.assertEqual("D360PACS", meta.ReceivingApplicationEntityTitle)
        self.assertEqual(digestOf(operation.data), record.digest)
        self.assertEqual(len(operation.data), record.size)
        self.assertEqual("Rossi^Anna", record.PatientName)
        self.assertEqual("192.0.2.7", record.sourceAddress)
        self.assertEqual(1_700_000_000, record.receivedAt.timestamp())
        self.assertEqual("+0000", record.receivedAt.strftime("%z"))
        self.assertEqual(set(), self.archive.marks)
        self.assertEqual(len(operation.data), self.freeSpace.taken)

    def test_log(self) -> None:
        """The one line of an operation is DIMSE's; what is usual adds none."""
        self.assertEqual([], self.store(self.operation()).log.events)

    def test_answerFollowsTheIndex(self) -> None:
        """No 0000 before the commit; the mark stays until then."""
        self.index.pending = Deferred()
        operation = self.operation()
        performed = self.service.perform(operation)
        self.assertEqual([], operation.responses)
        self.assertEqual(1, len(self.archive.marks))
        self.index.pending.callback(None)
        self.successResultOf(performed)
        self.assertEqual([0x0000], operation.statuses())
        self.assertEqual(set(), self.archive.marks)

    def test_everyEncoding(self) -> None:
        """The transfer syntax of the context is what goes into File Meta."""
        deflater = zlib.compressobj(wbits=-15)
        deflated = deflater.compress(encode(instance())) + deflater.flush()
        for transferSyntax, data in (
            (IMPLICIT, None),
            ("1.2.840.10008.1.2.2", None),
            (DEFLATED, deflated),
        ):
            self.store(self.operation(data, transferSyntax))
            record = self.index.announced[-1][0]
            self.assertEqual(transferSyntax, record.TransferSyntaxUID)
            self.assertEqual("P1", record.PatientID)

    def test_emptyPatientID(self) -> None:
        """Is legal (type 2)."""
        self.store(self.operation(instance(PatientID="")))
        self.assertEqual("", self.index.announced[0][0].PatientID)

    def test_patientConflict(self) -> None:
        """Stored, with a warning that names UIDs only."""
        self.index.conflict = True
        operation = self.store(self.operation())
        self.assertEqual([0x0000], operation.statuses())
        warnings = [text for level, text in operation.log.events if level == "warn"]
        self.assertEqual(1, len(warnings))
        self.assertIn("1.2.3", warnings[0])
        self.assertNotIn("Rossi", warnings[0])

    def test_associationEndsBeforeTheAnswer(self) -> None:
        """The instance stays, and is settled."""
        operation = self.operation()
        self.index.pending = Deferred()
        performed = self.service.perform(operation)
        operation.lost = AssociationEnded()
        self.index.pending.callback(None)
        self.failureResultOf(performed, AssociationEnded)
        self.assertEqual((1, set()), (len(self.archive.files), self.archive.marks))


class DuplicateTests(StorageCase):
    """The same instance again."""

    def setUp(self) -> None:
        super().setUp()
        self.archive.files[ELSEWHERE.path] = bytes(100) + b"kept"
        self.index.known[ELSEWHERE] = (4, digestOf(b"kept"))

    def test_identical(self) -> None:
        """0000, and nothing is rewritten."""
        self.index.outcome = Outcome.DUPLICATE
        operation = self.store(self.operation())
        self.assertEqual([0x0000], operation.statuses())
        self.assertEqual({ELSEWHERE.path: bytes(100) + b"kept"}, self.archive.files)
        self.assertEqual(set(), self.archive.marks)

    def test_identicalButGone(self) -> None:
        """If the kept file is gone, ours takes its place."""
        self.archive.files.clear()
        self.index.outcome = Outcome.DUPLICATE
        operation = self.store(self.operation())
        self.assertEqual([0x0000], operation.statuses())
        (location,) = self.index.relocated
        self.assertEqual([location.path], list(self.archive.files))
        self.assertEqual(set(), self.archive.marks)

    def test_identicalButDamaged(self) -> None:
        """
        If the kept file is not what was stored, or not all of it is there yet:
        its sender may vanish before it is.
        """
        self.archive.files[ELSEWHERE.path] = bytes(100) + b"kep"
        self.index.outcome = Outcome.DUPLICATE
        operation = self.store(self.operation())
        self.assertEqual([0x0000], operation.statuses())
        (location,) = self.index.relocated
        self.assertEqual([location.path], list(self.archive.files))

    def test_identicalIsDurable(self) -> None:
        """The kept file may be another association's that is not synced yet."""
        self.index.outcome = Outcome.DUPLICATE
        self.store(self.operation())
        self.assertEqual([ELSEWHERE], self.archive.synced)

    def test_samePlace(self) -> None:
        """A rebuild of the index was quicker: the file is ours, and stays."""
        self.index.outcome = Outcome.DUPLICATE
        register = self.index.register

        def alreadyThere(record, location, duplicates):
            return register(record, location, duplicates).addCallback(
                lambda found: evolve(found, location=location, superseded=None)
            )

        self.index.register = alreadyThere
        self.store(self.operation())
        self.assertEqual((2, set()), (len(self.archive.files), self.archive.marks))

    def test_replaced(self) -> None:
        """Other bytes: the newer take the place, with a warning."""
        self.index.outcome = Outcome.REPLACED
        operation = self.store(self.operation())
        self.assertEqual([0x0000], operation.statuses())
        self.assertEqual([self.index.announced[0][1].path], list(self.archive.files))
        self.assertIn("warn", [level for level, _ in operation.log.events])

    def registering(self, operation: FakeOperation) -> Deferred[None]:
        """The index has been asked to register it, and has not answered."""
        pending: Deferred[None] = Deferred()
        register = self.index.register

        def waiting(*arguments):
            registered = register(*arguments)
            return pending.addCallback(lambda _: registered)

        self.index.register = waiting
        self.performed = self.service.perform(operation)
        self.assertNoResult(self.performed)
        return pending

    def test_markedBeforeReplaced(self) -> None:
        """
        The file that may be replaced is marked before the index is told, so that
        a crash right after that does not leave it behind.
        """
        self.index.outcome = Outcome.REPLACED
        pending = self.registering(self.operation())
        self.assertIn(ELSEWHERE, self.archive.marks)
        pending.callback(None)
        self.successResultOf(self.performed)
        self.assertEqual((1, set()), (len(self.archive.files), self.archive.marks))

    def test_crashedBeforeRemoval(self) -> None:
        """The index has replaced it, and nothing was removed yet."""
        self.index.outcome = Outcome.REPLACED
        self.registering(self.operation())
        ((record, ours, _),) = self.index.registered
        self.index.known = {ours: (record.size, record.digest)}
        self.archive.restart()
        recovery = Recovery(self.archive, self.index, self.clock)
        self.assertEqual(2, self.successResultOf(recovery.recover()))
        self.assertEqual([ours.path], list(self.archive.files))
        self.assertEqual(set(), self.archive.marks)

    def test_crashedBeforeReplacement(self) -> None:
        """The index was not told: what was there stays, and nothing else."""
        self.index.outcome = Outcome.REPLACED
        self.registering(self.operation())
        self.archive.restart()
        recovery = Recovery(self.archive, self.index, self.clock)
        self.assertEqual(2, self.successResultOf(recovery.recover()))
        self.assertEqual([ELSEWHERE.path], list(self.archive.files))
        self.assertEqual(set(), self.archive.marks)

    def test_identicalIsNotMarked(self) -> None:
        """What is the same takes no place of anything: it costs no mark."""
        operation = self.operation()
        self.index.known = {ELSEWHERE: (len(operation.data), digestOf(operation.data))}
        self.archive.files[ELSEWHERE.path] = bytes(100) + operation.data
        self.index.outcome = Outcome.DUPLICATE
        pending = self.registering(operation)
        self.assertNotIn(ELSEWHERE, self.archive.marks)
        pending.callback(None)
        self.successResultOf(self.performed)

    def uncertainly(self, commits: bool) -> None:
        """The connection is lost while other bytes are registered."""
        self.index.outcome = Outcome.REPLACED
        register = self.index.register

        def lost(record, location, duplicates):
            register(record, location, duplicates)
            if commits:
                self.index.known = {location: (record.size, record.digest)}
            return fail(DatabaseUnavailable("lost", uncertain=True))

        self.index.register = lost
        failure = self.failureResultOf(
            self.service.perform(self.operation()), DIMSEError
        )
        self.assertEqual(0xA700, failure.value.status)
        self.assertEqual(2, len(self.archive.files))
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(
            [location.path for location in self.index.known], list(self.archive.files)
        )
        self.assertEqual((set(), []), (self.archive.marks, self.index.forgotten))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_uncertainlyReplaced(self) -> None:
        """It was, as turns out later: the file that it replaced goes."""
        self.uncertainly(True)

    def test_uncertainlyNotReplaced(self) -> None:
        """It was not: that file stays."""
        self.uncertainly(False)

    def test_notReplaced(self) -> None:
        """The index refuses: that file stays, and loses its mark."""
        self.index.outcome = Outcome.REPLACED
        self.index.register = lambda *_: fail(DatabaseError("refused"))
        failure = self.failureResultOf(
            self.service.perform(self.operation()), DIMSEError
        )
        self.assertEqual(0xA700, failure.value.status)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual([ELSEWHERE.path], list(self.archive.files))
        self.assertEqual((set(), []), (self.archive.marks, self.index.forgotten))

    def test_damagedStays(self) -> None:
        """
        A crash before a damaged file is replaced: what was once acknowledged is
        not forgotten for that.
        """
        self.archive.files[ELSEWHERE.path] = bytes(100) + b"kep"
        self.index.outcome = Outcome.REPLACED
        self.registering(self.operation())
        self.archive.restart()
        recovery = Recovery(self.archive, self.index, self.clock)
        self.successResultOf(recovery.recover())
        self.assertEqual({ELSEWHERE.path: bytes(100) + b"kep"}, self.archive.files)
        self.assertEqual((set(), []), (self.archive.marks, self.index.forgotten))

    def test_markedBeforeRelocated(self) -> None:
        """Nor is what is damaged left behind by a crash."""
        self.archive.files[ELSEWHERE.path] = bytes(100) + b"kep"
        self.index.outcome = Outcome.DUPLICATE
        relocate = self.index.relocate
        marks = []

        def marked(record, location):
            marks.extend(self.archive.marks)
            return relocate(record, location)

        self.index.relocate = marked
        self.store(self.operation())
        self.assertIn(ELSEWHERE, marks)
        self.assertEqual((1, set()), (len(self.archive.files), self.archive.marks))

    def test_kept(self) -> None:
        """C{duplicates = "keep"}: ours is discarded, with a warning."""
        self.service = self.make(Duplicates.KEEP)
        self.index.outcome = Outcome.KEPT
        operation = self.store(self.operation())
        self.assertEqual([0x0000], operation.statuses())
        self.assertIs(Duplicates.KEEP, self.index.registered[0][2])
        self.assertEqual({ELSEWHERE.path: bytes(100) + b"kept"}, self.archive.files)
        self.assertIn("warn", [level for level, _ in operation.log.events])


class RefusalTests(StorageCase):
    """The failures of conformance 5.2.3.1; nothing half-stored stays behind."""

    def test_classOfTheContext(self) -> None:
        """0122: SOP class not that of the context."""
        self.refuse(self.operation(sopClass="1.2.840.10008.5.1.4.1.1.4"), 0x0122)
        self.refuse(self.operation(sopClass=""), 0x0122)

    def test_differ(self) -> None:
        """A900: command and data set name another class or instance."""
        self.refuse(self.operation(sopInstance="1.2.3.4.6"), 0xA900)
        self.refuse(self.operation(sopInstance=""), 0xA900)
        other = instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
        self.refuse(self.operation(other), 0xA900)
        self.refuse(self.operation(instance(SOPClassUID=None)), 0xA900)

    def test_identity(self) -> None:
        """C000: a UID is missing, or is none."""
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            self.refuse(self.operation(instance(**{keyword: None})), 0xC000)
            self.refuse(self.operation(instance(**{keyword: ""})), 0xC000)

    def test_pathInsteadOfUID(self) -> None:
        """C000, and no such path."""
        data = encode(instance(StudyInstanceUID="1.2.3.4.5.6.7.8.9"))
        data = data.replace(b"1.2.3.4.5.6.7.8.9\0", b"../../../etc/passwd"[:18])
        self.refuse(self.operation(data), 0xC000)
        self.refuse(self.operation(sopInstance="../../etc/passwd"), 0xC000)

    def test_unreadable(self) -> None:
        """C000: it cannot be parsed, is truncated, or is not there."""
        data = encode(instance())
        for bad in (b"", b"\xff" * 200, data[:40], data[:-1], data[:-100]):
            self.refuse(self.operation(bad), 0xC000)

    def test_earlyRefusal(self) -> None:
        """The rest of what is refused goes nowhere."""
        operation = self.operation(instance(StudyInstanceUID=""))
        operation.data += b"x" * 100000
        writers = []
        create = self.archive.create
        self.archive.create = lambda head: writers.append(create(head)) or writers[-1]
        self.refuse(operation, 0xC000)
        self.assertLess(writers[0].size, 1000)

    def test_diskFull(self) -> None:
        """A700: no space."""
        self.archive.failure = OSError(errno.ENOSPC, "No space left on device")
        error = self.refuse(self.operation(), 0xA700)
        self.assertIn("No space", error.comment)
        self.archive.failure = OSError(errno.EIO, "Input/output error")
        self.refuse(self.operation(), 0xA700)
        # How much is free is of interest now, and not within a second.
        self.assertEqual(2, self.freeSpace.looks)

    def test_lowWaterMark(self) -> None:
        """A700 before anything is written; what is on its way goes on."""
        self.freeSpace.isLow = True
        operation = self.operation()
        error = self.refuse(operation, 0xA700)
        self.assertIn("min_free_space", error.comment)
        self.assertEqual([], operation.calls)
        # What is wrong with the request itself is not a matter of space.
        self.refuse(self.operation(sopClass=""), 0x0122)

        self.freeSpace.isLow = False
        performed = self.service.perform(self.delayed(operation := self.operation()))
        self.freeSpace.isLow = True
        operation.resumeProducing()
        self.successResultOf(performed)
        self.assertEqual([0x0000], operation.statuses())

    def test_critical(self) -> None:
        """When too much of the margin is used up, that ends as well."""
        performed = self.service.perform(self.delayed(operation := self.operation()))
        self.freeSpace.isLow = self.freeSpace.isCritical = True
        operation.resumeProducing()
        failure = self.failureResultOf(performed, DIMSEError)
        self.assertEqual(0xA700, failure.value.status)
        self.assertIn("min_free_space", failure.value.comment)
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))

    def delayed(self, operation: FakeOperation) -> FakeOperation:
        """One whose data set stops after its first piece."""
        create = self.archive.create

        def stopping(head: bytes) -> MemoryWriter:
            writer = create(head)
            write = writer.write

            def writeOnce(data: bytes) -> None:
                write(data)
                writer.write = write
                operation.pauseProducing()

            writer.write = writeOnce
            return writer

        self.archive.create = stopping
        return operation

    def test_tooLong(self) -> None:
        """A700 if there is a byte more than there may be."""
        size = len(self.operation().data)
        self.service = self.make(Duplicates.REPLACE, size - 1)
        error = self.refuse(self.operation(), 0xA700)
        self.assertIn("max_instance_size", error.comment)
        self.service = self.make(Duplicates.REPLACE, size)
        self.assertEqual([0x0000], self.store(self.operation()).statuses())

    def test_tooLongAtOnce(self) -> None:
        """What was written goes before the rest comes, which goes nowhere."""
        self.service = self.make(Duplicates.REPLACE, 150)
        operation, create = self.operation(), self.archive.create
        writers: list[MemoryWriter] = []

        def pausing(head: bytes) -> MemoryWriter:
            writer = create(head)
            writers.append(writer)
            discard = writer.discard

            def pauseAndDiscard() -> Deferred[None]:
                operation.pauseProducing()
                return discard()

            writer.discard = pauseAndDiscard
            return writer

        self.archive.create = pausing
        performed = self.service.perform(operation)
        self.assertNoResult(performed)
        (writer,) = writers
        self.assertEqual((True, 100), (writer._closed, writer.size))
        operation.resumeProducing()
        failure = self.failureResultOf(performed, DIMSEError)
        self.assertEqual(0xA700, failure.value.status)
        self.assertEqual(100, writer.size)
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))

    def test_databaseAway(self) -> None:
        """A700: the index fails, so the file goes."""
        for error in (DatabaseUnavailable("away"), DatabaseError("refused")):
            self.index.error = error
            self.refuse(self.operation(), 0xA700)

    def test_mistakeOfOurs(self) -> None:
        """Whatever is raised, the file goes."""
        self.index.error = ZeroDivisionError()
        self.failureResultOf(self.service.perform(self.operation()), ZeroDivisionError)
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))

    def test_peerVanishes(self) -> None:
        """In the middle of the data set."""
        operation = self.operation()
        operation.lostAfter = 300
        self.failureResultOf(self.service.perform(operation), AssociationEnded)
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))
        self.assertEqual([], self.index.announced)


class TogetherTests(StorageCase):
    """The index is told of a file while that is synced."""

    def setUp(self) -> None:
        super().setUp()
        self.full = OSError(errno.ENOSPC, "No space left on device")

    def test_confirmed(self) -> None:
        """When both are done."""
        self.store(self.operation())
        self.assertEqual([1], self.index.confirmed)
        self.assertEqual([], self.index.registered)

    def test_fileFails(self) -> None:
        """A700, and the index has to forget it."""
        self.archive.lateFailure = self.full
        error = self.refuse(self.operation(), 0xA700)
        self.assertIn("No space", error.comment)
        self.assertEqual([self.index.announced[0][1]], self.index.forgotten)
        self.assertEqual([1], self.index.confirmed)

    def test_fileFailsOfWhatIsKnown(self) -> None:
        """What the index knew stays as it was."""
        self.index.outcome = Outcome.REPLACED
        self.archive.lateFailure = self.full
        self.refuse(self.operation(), 0xA700)
        self.assertEqual(([], []), (self.index.forgotten, self.index.registered))

    def test_bothFail(self) -> None:
        """
        It is forgotten later, since the index may have it; until then the file
        keeps its name and its mark, so that no other gets that and loses its row.
        """
        for commits in (True, False):
            self.archive.lateFailure = self.full
            self.index.error = DatabaseUnavailable("lost", uncertain=True)
            self.index.commits = commits
            operation = self.operation()
            failure = self.failureResultOf(self.service.perform(operation), DIMSEError)
            self.assertEqual(0xA700, failure.value.status)
            self.assertEqual((1, 1), (len(self.archive.files), len(self.archive.marks)))
            self.index.error = self.archive.lateFailure = None
            self.assertEqual([], self.index.forgotten)
            self.clock.advance(FIRST_DELAY)
            self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))
            self.assertEqual({}, self.index.known)
            self.assertEqual([], self.clock.getDelayedCalls())
            self.index.forgotten.clear()

    def test_reliedOn(self) -> None:
        """
        Another association was answered 0000 for the same bytes, because this
        file was whole: then it stays, though its own sender gets A700.
        """

        def commit(writer: Any, *arguments: Any) -> Any:
            done = MemoryWriter.commit(writer, *arguments)
            (path,) = self.archive.files
            self.archive.files[path] += writer._data[-1:]
            return done

        self.archive.lateFailure = OSError(errno.EIO, "Input/output error")
        create = self.archive.create

        def createOne(head: bytes) -> Any:
            writer = create(head)
            writer.commit = partial(commit, writer)
            return writer

        self.archive.create = createOne
        failure = self.failureResultOf(
            self.service.perform(self.operation()), DIMSEError
        )
        self.assertEqual(0xA700, failure.value.status)
        self.assertEqual((1, set()), (len(self.archive.files), self.archive.marks))
        self.assertEqual(([], [1]), (self.index.forgotten, self.index.confirmed))
        self.assertEqual(1, len(self.archive.synced))

    def test_waitsForTheIndex(self) -> None:
        """No answer before the commit, durable though the file is."""
        self.index.pending = Deferred()
        operation = self.operation()
        performed = self.service.perform(operation)
        self.assertNoResult(performed)
        self.assertEqual([], operation.responses)
        self.index.pending.callback(None)
        self.successResultOf(performed)
        self.assertEqual([0x0000], operation.statuses())


class UncertainTests(StorageCase):
    """The connection to the database is lost inside a commit."""

    def setUp(self) -> None:
        super().setUp()
        self.index.error = DatabaseUnavailable("lost", uncertain=True)
        failure = self.failureResultOf(
            self.service.perform(self.operation()), DIMSEError
        )
        self.assertEqual(0xA700, failure.value.status)
        (self.location,) = self.archive.marks
        self.assertIn(self.location.path, self.archive.files)

    def know(self) -> None:
        """The index has committed it."""
        data = self.archive.files[self.location.path][self.location.dataSetOffset :]
        self.index.known[self.location] = len(data), digestOf(data)

    def test_committed(self) -> None:
        """The row is there: the file stays."""
        self.index.error = None
        self.know()
        self.clock.advance(FIRST_DELAY)
        self.assertEqual((1, set()), (len(self.archive.files), self.archive.marks))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_notCommitted(self) -> None:
        """The row is not there: the file goes."""
        self.index.error = None
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))

    def test_backOff(self) -> None:
        """While the database is away it is asked less and less often."""
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(1, self.index.asked)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(1, self.index.asked)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(2, self.index.asked)
        self.index.error = None
        self.clock.advance(FIRST_DELAY * 4)
        self.assertEqual({}, self.archive.files)

    def test_stop(self) -> None:
        """What is open is left, with its mark, to the next start."""
        self.successResultOf(self.recovery.stop())
        self.assertEqual([], self.clock.getDelayedCalls())
        self.archive.restart()
        self.index.error = None
        recovery = Recovery(self.archive, self.index, self.clock)
        self.assertEqual(1, self.successResultOf(recovery.recover()))
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))

    def test_recover(self) -> None:
        """At start: what the index has is settled."""
        self.archive.restart()
        self.index.error = None
        self.know()
        recovery = Recovery(self.archive, self.index, self.clock)
        self.assertEqual(1, self.successResultOf(recovery.recover()))
        self.assertEqual((1, set()), (len(self.archive.files), self.archive.marks))
        self.assertEqual(0, self.successResultOf(recovery.recover()))

    def recover(self) -> int:
        self.archive.restart()
        self.index.error = None
        recovery = Recovery(self.archive, self.index, self.clock)
        return self.successResultOf(recovery.recover())

    def test_incomplete(self) -> None:
        """What the index was told of before all bytes were there goes."""
        self.know()
        self.index.left = [self.location]
        self.archive.files[self.location.path] = b"half"
        self.assertEqual(1, self.recover())
        self.assertEqual(({}, set()), (self.archive.files, self.archive.marks))
        self.assertEqual(
            ({}, [self.location]), (self.index.known, self.index.forgotten)
        )

    def test_withoutMark(self) -> None:
        """
        The power went after the index' commit, before the mark was on the disk:
        what was not confirmed is looked at, and stays only if it is whole.
        """
        self.know()
        self.archive.marks.clear()
        self.index.left = [self.location]
        self.assertEqual(1, self.recover())
        self.assertEqual([], self.index.forgotten)
        self.index.left = [self.location]
        beside = self.location.path.rpartition("/")[0] + "/1.9.dcm"
        self.archive.files[beside] = b"another"
        whole = self.archive.files.pop(self.location.path)
        self.assertEqual(1, self.recover())
        self.assertEqual([self.location], self.index.forgotten)
        self.archive.files[self.location.path] = whole[:-1]
        self.know()
        self.archive.files[self.location.path] = whole
        self.index.left = [self.location]
        self.recover()
        self.assertEqual({self.location.path: whole}, self.archive.aside)

    def test_notMounted(self) -> None:
        """What has no folder any more is not what a loss of power leaves."""
        self.know()
        self.archive.marks.clear()
        self.index.left = [self.location]
        self.archive.files.clear()
        self.assertEqual(1, self.recover())
        self.assertEqual([], self.index.forgotten)
        self.assertEqual([self.location], self.index.left)

    def test_cannotLook(self) -> None:
        """A disk that refuses says nothing about what it holds."""
        self.know()
        self.archive.marks.clear()
        self.index.left = [self.location]
        self.archive.unreadable = OSError(errno.EIO, "Input/output error")
        self.recover()
        self.assertEqual([], self.index.forgotten)
        self.assertEqual(1, len(self.archive.files))
