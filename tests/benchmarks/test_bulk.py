"""
Tests for L{benchmarks.bulk} and L{benchmarks.bulkworklist}: what they load is
what storing and scheduling would leave.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import psycopg2
from twisted.internet import reactor as _reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks import bulk, bulkworklist, population
from d360.archive.layout import folderOf
from d360.attributes import REGISTRY, Level
from d360.index.database import PostgreSQLIndex
from d360.index.pool import ConnectionPool
from d360.index.worklist import PostgreSQLWorklist
from d360.model import Duplicates, InstanceRecord, Location, Query
from d360.services.matching import conditionsFor
from d360.services.worklistitems import readKeywords
from tests.contracts.postgres import dropDatabase, execute, freshDatabase

reactor: Any = _reactor


def _record(number: int, patients: int, instance: int) -> InstanceRecord:
    """An instance of the n-th study, as storing it would have it."""
    study = population.study(number, patients)
    uid = f"{study.StudyInstanceUID}.1.{instance}"
    return InstanceRecord(
        StudyInstanceUID=study.StudyInstanceUID,
        SeriesInstanceUID=f"{study.StudyInstanceUID}.1",
        SOPInstanceUID=uid,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        TransferSyntaxUID="1.2.840.10008.1.2.1",
        digest=sha256(uid.encode()).digest(),
        size=527_000,
        callingAETitle="STORESCU",
        calledAETitle="D360PACS",
        sourceAddress="127.0.0.1",
        receivedAt=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number),
        PatientID=study.PatientID,
        PatientName=study.PatientName,
        PatientBirthDate=study.PatientBirthDate,
        PatientSex=study.PatientSex,
        StudyID=study.StudyID,
        StudyDate=study.StudyDate,
        StudyTime=study.StudyTime,
        AccessionNumber=study.AccessionNumber,
        StudyDescription=study.StudyDescription,
        ReferringPhysicianName=study.ReferringPhysicianName,
        SeriesNumber="1",
        Modality=study.Modality,
        SeriesDate=study.StudyDate,
        SeriesTime=study.StudyTime,
        InstanceNumber=str(instance),
        InstanceCreationDate=study.StudyDate,
        InstanceCreationTime=study.StudyTime,
    )


def _rows(url: str) -> dict[str, list[str]]:
    """All rows of the index but for the keys that the database gives out."""
    return {
        table: [
            str(row[0])
            for row in execute(
                url,
                "SELECT to_jsonb(t) - '{id,patient,study,series}'::text[]"
                f" FROM {table} t ORDER BY 1",
            )
        ]
        for table in ("patients", "studies", "series", "instances")
    }


class LoadTests(TestCase):
    """L{bulk.load}."""

    timeout = 300

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)

    async def test_asStored(self) -> None:
        """The rows are those of instances that were stored one by one."""
        bulk.load(self.url, bulk.Amount(130, patients=125, instances=2))
        stored = freshDatabase()
        self.addCleanup(dropDatabase, stored)
        index = PostgreSQLIndex(reactor, stored)
        self.addCleanup(index.close)
        for number in range(130):
            for instance in (1, 2):
                one = _record(number, 125, instance)
                path = folderOf(one.StudyInstanceUID, one.SeriesInstanceUID)
                path += f"/{one.SOPInstanceUID}.dcm"
                await index.register(one, Location(path, 400), Duplicates.KEEP)
        expected, found = _rows(stored), _rows(self.url)
        for table, rows in expected.items():
            self.assertEqual(rows, found[table], table)

    async def test_found(self) -> None:
        """D360's queries find all that stands apart, and nothing else."""
        bulk.load(self.url, bulk.Amount(population.FEWEST))
        [(count,)] = execute(self.url, "SELECT count(*) FROM instances")
        self.assertEqual(count, population.FEWEST)
        index = PostgreSQLIndex(reactor, self.url)
        self.addCleanup(index.close)
        uid = REGISTRY.byKeyword["StudyInstanceUID"]
        for planted in population.PLANTED.values():
            keyword, value = planted.key
            conditions = conditionsFor(REGISTRY.byKeyword[keyword], value)
            query = Query(Level.STUDY, tuple(conditions), (uid,))
            matches = index.match(query)
            found = []
            while batch := await matches.nextBatch():
                found.extend(batch)
            matches.close()
            self.assertEqual(len(found), len(planted.numbers), planted.key)

    def test_indexesAndKeysRemain(self) -> None:
        """All indexes and foreign keys are there again."""
        what = (
            "SELECT array_agg(indexdef ORDER BY indexdef), (SELECT array_agg("
            " pg_get_constraintdef(oid) ORDER BY conname) FROM pg_constraint)::text"
            " FROM pg_indexes WHERE schemaname = 'public'"
        )
        before = execute(self.url, what)
        bulk.load(self.url, bulk.Amount(1))
        self.assertEqual(execute(self.url, what), before)

    def test_notTwice(self) -> None:
        """What has studies is left alone."""
        bulk.load(self.url, bulk.Amount(1))
        self.assertRaises(ValueError, bulk.load, self.url, bulk.Amount(1))

    def test_nothingOnError(self) -> None:
        """Where a row is refused, nothing is loaded and nothing is lost."""
        execute(self.url, "ALTER TABLE instances ADD CHECK (size = 0)")
        before = execute(self.url, "SELECT count(*) FROM pg_indexes")
        self.assertRaises(psycopg2.Error, bulk.load, self.url, bulk.Amount(10))
        self.assertEqual(execute(self.url, "SELECT count(*) FROM pg_indexes"), before)
        self.assertEqual(execute(self.url, "SELECT count(*) FROM studies"), [(0,)])


class WorklistTests(TestCase):
    """L{bulkworklist.load}."""

    timeout = 300

    async def test_asScheduled(self) -> None:
        """The rows are those of items that were scheduled one by one."""
        loaded, scheduled = freshDatabase(), freshDatabase()
        for url in (loaded, scheduled):
            self.addCleanup(dropDatabase, url)
        bulkworklist.load(loaded, 5)
        pools = [ConnectionPool(reactor, scheduled, 1) for _ in range(2)]
        for pool in pools:
            self.addCleanup(pool.close)
        worklist = PostgreSQLWorklist(*pools)
        for number in range(5):
            await worklist.schedule(readKeywords(bulkworklist.item(number)))
        for table, key in (
            ("worklist_items", "identifier"),
            ("worklist_steps", "item"),
        ):
            rows = [
                execute(url, f"SELECT to_jsonb(t) - '{key}' FROM {table} t ORDER BY 1")
                for url in (loaded, scheduled)
            ]
            self.assertEqual(len(rows[0]), 5)
            self.assertEqual(rows[0], rows[1])


class PopulationTests(SynchronousTestCase):
    """L{population}."""

    def test_names(self) -> None:
        """There are as many as a large hospital has, in Latin-1."""
        for names in (population.FAMILY_NAMES, population.GIVEN_NAMES):
            self.assertGreater(len(set(names)), 1000)
            "".join(names).encode("latin-1")
        some = {population.study(n).PatientName for n in range(10_000)}
        self.assertGreater(len(some), 9_900)

    def test_same(self) -> None:
        """A study is the same each time; its patient's others have the same name."""
        self.assertEqual(population.study(7), population.study(7))
        for number in (5, 110, 250):
            first, other = (population.study(number + more, 1500) for more in (0, 1500))
            self.assertEqual(first.PatientName, other.PatientName)
            self.assertEqual(first.PatientID, other.PatientID)
            self.assertNotEqual(first.StudyInstanceUID, other.StudyInstanceUID)
