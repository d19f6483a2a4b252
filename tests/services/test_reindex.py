"""The rebuild of the index from the files alone."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.attributes import REGISTRY, Level
from d360.errors import DatabaseUnavailable
from d360.interfaces import IReindex
from d360.model import (
    AnyOf,
    Duplicates,
    InstanceRecord,
    Location,
    Outcome,
    Query,
    Registration,
    ReindexProgress,
    StoredInstance,
)
from d360.services.part10 import encodeHead
from d360.services.reindex import Reindex, readInstance
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryindex import MemoryIndex
from tests.services.datasets import CT, EXPLICIT, encode, instance


class Index:
    """
    Enough of L{d360.interfaces.IIndex}: one row an instance.

    @ivar gate: what C{register} waits for.
    """

    def __init__(self) -> None:
        self.rows: dict[str, tuple[InstanceRecord, Location]] = {}
        self.error: Exception | None = None
        self.gate: Deferred[None] | None = None
        self.waiting = 0

    def register(
        self, record: InstanceRecord, location: Location, duplicates: Duplicates
    ) -> Deferred[Registration]:
        assert duplicates is Duplicates.NEWEST
        if self.error is not None:
            return fail(self.error)
        if self.gate is None:
            return succeed(self._register(record, location))
        self.waiting += 1
        result: Deferred[Any] = Deferred()
        self.gate.addCallback(
            lambda _: result.callback(self._register(record, location))
        )
        return result

    def _register(self, record: InstanceRecord, location: Location) -> Registration:
        kept = self.rows.get(record.SOPInstanceUID)
        if kept is None:
            self.rows[record.SOPInstanceUID] = record, location
            return Registration(Outcome.STORED, location)
        if kept[0].digest == record.digest:
            superseded = None if kept[1] == location else location
            return Registration(Outcome.DUPLICATE, kept[1], superseded)
        return Registration(Outcome.KEPT, kept[1], location)

    def relocate(
        self, record: InstanceRecord, location: Location
    ) -> Deferred[Registration]:
        superseded = self.rows[record.SOPInstanceUID][1]
        self.rows[record.SOPInstanceUID] = record, location
        return succeed(Registration(Outcome.REPLACED, location, superseded))

    def storedAt(self, location: Location) -> Deferred[StoredInstance | None]:
        for record, found in self.rows.values():
            if found == location:
                return succeed(
                    StoredInstance(
                        record.SOPInstanceUID,
                        record.SOPClassUID,
                        record.TransferSyntaxUID,
                        found,
                        record.size,
                        record.digest,
                    )
                )
        return succeed(None)

    def locationsBelow(self, folder: str) -> Deferred[tuple[Location, ...]]:
        if self.error is not None:
            return fail(self.error)
        found = (location for _, location in self.rows.values())
        return succeed(tuple(one for one in found if one.path.startswith(f"{folder}/")))

    def forget(self, location: Location) -> Deferred[bool]:
        for uid, (_, found) in list(self.rows.items()):
            if found == location:
                del self.rows[uid]
                return succeed(True)
        return succeed(False)


class ReindexTests(SynchronousTestCase):
    """See L{d360.interfaces.IReindex}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.archive = MemoryArchive()
        self.index = Index()
        self.reindex = Reindex(self.archive, self.index, self.clock, 2)

    def put(self, number: int, path: str = "", **elements: Any) -> Location:
        """A file of the archive that nobody has told the index of."""
        uid = f"1.2.3.4.{number}"
        head = encodeHead(CT, uid, EXPLICIT, "MODALITY", "D360PACS")
        location = Location(path or f"00/1.2.3/1.2.3.4/{uid}.dcm", len(head))
        dataset = instance(SOPInstanceUID=uid, **elements)
        self.archive.files[location.path] = head + encode(dataset)
        return location

    def run_(self, prune: bool = False, full: bool = False) -> ReindexProgress:
        self.assertTrue(self.reindex.start(prune, full))
        progress = self.reindex.progress()
        self.assertFalse(progress.running)
        return progress

    def counts(self, progress: ReindexProgress) -> tuple[int, ...]:
        self.assertEqual("", progress.error)
        self.assertTrue(progress.counted)
        self.assertEqual(progress.total, progress.done)
        return (progress.added, progress.unchanged, progress.failed, progress.missing)

    def test_interface(self) -> None:
        verifyObject(IReindex, self.reindex)
        self.assertIsNone(self.reindex.progress())
        self.successResultOf(self.reindex.stop())

    def test_rebuild(self) -> None:
        """All of it comes back, as it was when it was received."""
        locations = [self.put(number) for number in range(1, 8)]
        self.assertEqual((7, 0, 0, 0), self.counts(self.run_()))
        record, location = self.index.rows["1.2.3.4.1"]
        self.assertEqual(locations[0], location)
        self.assertEqual("Rossi^Anna", record.PatientName)
        self.assertEqual("MODALITY", record.callingAETitle)
        self.assertEqual("D360PACS", record.calledAETitle)
        self.assertEqual(EXPLICIT, record.TransferSyntaxUID)
        size = len(self.archive.files[location.path]) - location.dataSetOffset
        self.assertEqual(size, record.size)

    def test_again(self) -> None:
        """What is known is read again only if asked to; both are safe."""
        for number in range(1, 4):
            self.put(number)
        self.run_()
        self.assertEqual((0, 3, 0, 0), self.counts(self.run_()))
        self.assertEqual((0, 3, 0, 0), self.counts(self.run_(full=True)))
        self.put(4)
        self.assertEqual((1, 3, 0, 0), self.counts(self.run_()))

    def test_badFiles(self) -> None:
        """Are counted and named in the log; the rest goes on."""
        self.put(1)
        self.archive.files["00/a.dcm"] = b"nonsense"
        self.archive.files["01/b.dcm"] = encodeHead(CT, "1", EXPLICIT, "A", "B")
        self.assertEqual((1, 0, 2, 0), self.counts(self.run_()))

    def test_missing(self) -> None:
        """Rows without a file are forgotten only with prune."""
        for number in range(1, 4):
            self.put(number)
        self.run_()
        self.archive.files.clear()
        progress = self.run_()
        self.assertEqual((3, 0), (progress.missing, progress.pruned))
        self.assertEqual(3, len(self.index.rows))
        progress = self.run_(prune=True)
        self.assertEqual((3, 3), (progress.missing, progress.pruned))
        self.assertEqual({}, self.index.rows)

    def test_movedFile(self) -> None:
        """The known file is gone, and another has the instance."""
        moved = self.put(1)
        self.run_()
        data = self.archive.files.pop(moved.path)
        self.archive.files["01/moved.dcm"] = data
        progress = self.run_()
        self.assertEqual(1, progress.added)
        self.assertEqual("01/moved.dcm", self.index.rows["1.2.3.4.1"][1].path)

    def test_databaseAway(self) -> None:
        """Ends it, with the reason; it can be run again."""
        for number in range(1, 4):
            self.put(number)
        self.index.error = DatabaseUnavailable("the database is away")
        progress = self.run_()
        self.assertEqual("the database is away", progress.error)
        self.index.error = None
        self.assertEqual((3, 0, 0, 0), self.counts(self.run_()))

    def test_concurrencyAndStop(self) -> None:
        """A few at a time; it ends after those that are under way."""
        for number in range(1, 8):
            self.put(number)
        self.index.gate = Deferred()
        self.assertTrue(self.reindex.start(False, False))
        self.assertFalse(self.reindex.start(False, False))
        self.assertEqual(2, self.index.waiting)
        self.clock.advance(3)
        progress = self.reindex.progress()
        self.assertEqual(
            (True, 3.0, 7), (progress.running, progress.seconds, progress.total)
        )
        stopped = self.reindex.stop()
        self.assertNoResult(stopped)
        gate, self.index.gate = self.index.gate, None
        gate.callback(None)
        self.successResultOf(stopped)
        progress = self.reindex.progress()
        self.assertEqual((False, "stopped"), (progress.running, progress.error))
        self.assertEqual(2, len(self.index.rows))
        self.assertEqual((5, 2, 0, 0), self.counts(self.run_()))


class FullTests(SynchronousTestCase):
    """Files that are known are read again, and not believed more than the index."""

    def setUp(self) -> None:
        self.archive = MemoryArchive()
        self.index = MemoryIndex()
        self.reindex = Reindex(self.archive, self.index, Clock(), 1)
        head = encodeHead(CT, "1.2.3.4.1", EXPLICIT, "MODALITY", "D360PACS")
        self.location = Location("00/1.2.3/1.2.3.4/1.dcm", len(head))
        data = head + encode(instance(SOPInstanceUID="1.2.3.4.1"))
        self.archive.files[self.location.path] = data

    def run_(self) -> ReindexProgress:
        self.assertTrue(self.reindex.start(False, True))
        progress = self.reindex.progress()
        assert progress is not None
        self.assertEqual("", progress.error)
        return progress

    def stored(self) -> Any:
        return self.successResultOf(self.index.storedAt(self.location))

    def test_damaged(self) -> None:
        """What has changed since it was stored does not become the truth."""
        self.run_()
        before = self.stored()
        data = self.archive.files[self.location.path]
        self.archive.files[self.location.path] = data[:-1] + b"\x07"
        progress = self.run_()
        self.assertEqual((0, 1), (progress.unchanged, progress.failed))
        self.assertEqual(before, self.stored())

    def test_sha256(self) -> None:
        """Of an earlier release: the digest is checked, and stays as it is."""
        reading = readInstance(BytesIO(self.archive.files[self.location.path]))
        data = self.archive.files[self.location.path][self.location.dataSetOffset :]
        record = evolve(reading.record, digest=sha256(data).digest())
        self.successResultOf(
            self.index.register(record, self.location, Duplicates.REPLACE)
        )
        self.assertEqual(1, self.run_().unchanged)
        self.assertEqual(sha256(data).digest(), self.stored().digest)

    def test_readsMore(self) -> None:
        """What an earlier release did not read of it is entered."""
        reading = readInstance(BytesIO(self.archive.files[self.location.path]))
        record = evolve(reading.record, PatientName="")
        self.successResultOf(
            self.index.register(record, self.location, Duplicates.REPLACE)
        )
        self.assertEqual(1, self.run_().unchanged)
        named = AnyOf(REGISTRY.byKeyword["PatientID"], ("P1",))
        returned = (REGISTRY.byKeyword["PatientName"],)
        matches = self.index.match(Query(Level.IMAGE, (named,), returned))
        (match,) = self.successResultOf(matches.nextBatch())
        self.assertEqual(("Rossi^Anna",), match.values)


class DuringStoresTests(SynchronousTestCase):
    """What is stored meanwhile is neither lost nor named where it is not."""

    def setUp(self) -> None:
        self.archive = MemoryArchive()
        self.index = MemoryIndex()
        self.reindex = Reindex(self.archive, self.index, Clock(), 1)

    def put(self, name: str, description: str) -> Location:
        """A file of the same instance."""
        head = encodeHead(CT, "1.2.3.4.1", EXPLICIT, "MODALITY", "D360PACS")
        location = Location(f"00/1.2.3/1.2.3.4/{name}.dcm", len(head))
        dataset = instance(SOPInstanceUID="1.2.3.4.1", StudyDescription=description)
        self.archive.files[location.path] = head + encode(dataset)
        return location

    def enter(self, location: Location, year: int) -> None:
        reading = readInstance(BytesIO(self.archive.files[location.path]))
        record = evolve(reading.record, receivedAt=datetime(year, 1, 1, tzinfo=UTC))
        self.successResultOf(self.index.register(record, location, Duplicates.REPLACE))

    def assertAt(self, location: Location) -> None:
        self.assertIsNotNone(self.successResultOf(self.index.storedAt(location)))
        self.assertIn(location.path, self.archive.files)
        self.assertEqual(1, self.successResultOf(self.index.totals()).instances)

    def test_refusedMeanwhile(self) -> None:
        """
        With C{duplicates = "keep"} a receipt is there for a moment, and is
        then thrown away: the instance stays with the older file.
        """
        kept, refused = self.put("kept", "a"), self.put("refused", "b")
        self.enter(kept, 1960)
        read = self.archive.readWith

        def readWith(location: Location, reader: Any) -> Any:
            result = read(location, reader)
            if location.path == refused.path:
                del self.archive.files[refused.path]
            return result

        self.patch(self.archive, "readWith", readWith)
        self.reindex.start(False, False)
        self.assertFalse(self.reindex.progress().running)
        self.assertAt(kept)

    def test_replacedMeanwhile(self) -> None:
        """A copy of the older file does not take the place of the newer one."""
        older = self.put("older", "a")
        self.put("copy", "a")
        self.enter(older, 1960)
        there = self.archive.exists

        def exists(location: Location) -> Any:
            if location.path == older.path and older.path in self.archive.files:
                self.newer = self.put("newer", "b")
                self.enter(self.newer, 2026)
                del self.archive.files[older.path]
            return there(location)

        self.patch(self.archive, "exists", exists)
        self.reindex.start(False, False)
        self.assertFalse(self.reindex.progress().running)
        self.assertAt(self.newer)
