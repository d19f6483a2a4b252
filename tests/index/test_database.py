"""The index in a real PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from d360.attributes import REGISTRY, Level, foldComponentGroup, foldText
from d360.errors import DatabaseUnavailable
from d360.index import pages, results, sql
from d360.index.database import PostgreSQLIndex
from d360.index.migration import connect
from d360.index.pool import StatementRefused
from d360.index.rows import batch, registrationRow
from d360.model import AnyOf, NameMatch, Query, Range, Totals, Wildcard
from tests.contracts.index import IndexContract
from tests.contracts.instances import REPLACE, attribute, drained, place, record
from tests.contracts.memoryindex import MemoryIndex
from tests.contracts.postgres import dropDatabase, execute, freshDatabase


class _Database(TestCase):
    """A fresh database for each test."""

    timeout = 300

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)
        self.index: Any = self.open()

    def open(self) -> PostgreSQLIndex:
        """Another index on it, as another process would have."""
        index = PostgreSQLIndex(reactor, self.url, "embedded")
        self.addCleanup(index.close)
        return index


class PostgreSQLIndexTests(IndexContract, _Database):
    def setUp(self) -> None:
        super().setUp()
        # Totals are remembered for a while, which the contract does not wait for.
        self.patch(PostgreSQLIndex, "totals", _totalsAnew)


class ManyMatchesTests(PostgreSQLIndexTests):
    """The same, as if each query found too many to keep their IDs."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(results, "FEW", 1)
        self.patch(results, "MANY", 1)
        self.patch(results, "FIRST_BATCH", 1)
        self.patch(results, "NEXT_BATCH", 2)


class FarMatchesTests(ManyMatchesTests):
    """And as if they were not among the newest, so that IDs are kept after all."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(results, "MANY", 1000)
        self.patch(results, "NEWEST", 0)


_totals = PostgreSQLIndex.totals


def _totalsAnew(self: PostgreSQLIndex) -> Deferred[Totals]:
    self._totals = None
    return _totals(self)


class ConcurrencyTests(_Database):
    """Several processes on one database."""

    async def test_oppositeOrders(self) -> None:
        """Overlapping instances, in different orders: no deadlock, no loss."""
        records = [
            record(f"{n % 7}", f"{n % 7}.{n % 3}", f"i{n}", PatientID=f"P{n % 5}")
            for n in range(300)
        ]
        others = [self.open() for _ in range(3)]
        orders = (records, records[::-1], sorted(records, key=hash), records[150:])
        waiting = [
            index.register(one, place(one), REPLACE)
            for index, order in zip((self.index, *others), orders, strict=True)
            for one in order
        ]
        await gatherResults(waiting)
        totals = await self.index.totals()
        self.assertEqual(
            (totals.studies, totals.series, totals.instances), (7, 21, 300)
        )

    async def test_oneNewStudy(self) -> None:
        others = [self.index, *(self.open() for _ in range(7))]
        records = [record("1", "1.1", f"1.1.{n}") for n in range(64)]
        await gatherResults(
            [
                others[n % 8].register(one, place(one), REPLACE)
                for n, one in enumerate(records)
            ]
        )
        self.assertEqual(await self.index.totals(), Totals(1, 1, 1, 64, 64000))

    async def test_refusedRowHarmsNoOther(self) -> None:
        """A batch with one that the database refuses is entered row by row."""
        good = [record(instance=str(n)) for n in range(3)]
        bad = evolve(record(instance="bad"), size=2**70)
        waiting = [self.index.register(r, place(r), REPLACE) for r in (*good, bad)]
        await gatherResults(waiting[:3])
        error = await self.assertFailure(waiting[3], StatementRefused)
        self.assertNotIn("Rossi", str(error))
        self.assertEqual((await self.index.totals()).instances, 3)

    async def test_storedAtWaitsForWhatIsOnItsWay(self) -> None:
        """
        A batch whose connection was lost may yet commit: only then can it be
        said what the index has, or a file is removed that a row will name.
        """
        one = record()
        with closing(connect(self.url)) as connection, connection.cursor() as cursor:
            row = registrationRow(one, place(one), REPLACE, False)
            statement = sql.register(batch([row]), "", None)
            cursor.execute(statement.text, statement.parameters)
            known = self.index.storedAt(place(one))
            await deferLater(reactor, 0.3)
            self.assertFalse(known.called)
            connection.commit()
        self.assertTrue(await known)

    async def test_unconfirmedByAnother(self) -> None:
        """
        After a crash another process finds what was announced, and what was
        confirmed is not among it for much longer than the quiet takes.
        """
        other = self.open()
        first = [record(instance=f"1.1.1.{n}") for n in range(3)]
        told = [await self.index.announce(one, place(one)) for one in first]
        self.assertEqual(3, len(await other.unconfirmed()))
        for one in told:
            self.index.confirm(one)
        for _ in range(100):
            if not await other.unconfirmed():
                break
            await deferLater(reactor, 0.1)
        self.assertEqual((), await other.unconfirmed())
        later = record(instance="1.1.1.9")
        await self.index.announce(later, place(later))
        (found,) = await other.unconfirmed()
        self.assertEqual(later.SOPInstanceUID, found.SOPInstanceUID)
        await other.confirmAll()

    async def test_finished(self) -> None:
        """A server that stops in order leaves nothing to look at."""
        other = self.open()
        one = record()
        self.index.confirm(await self.index.announce(one, place(one)))
        await self.index.registrar.finish()
        self.assertEqual((), await other.unconfirmed())

    async def test_oneOfTwoUnconfirmed(self) -> None:
        """What another process has confirmed does not confirm ours."""
        other = PostgreSQLIndex(reactor, self.url, "embedded", writer="1")
        self.addCleanup(other.close)
        ours, its = record(), record(instance="1.1.1.2")
        await self.index.announce(ours, place(ours))
        other.confirm(await other.announce(its, place(its)))
        await other.registrar.finish()
        found = {one.SOPInstanceUID for one in await other.unconfirmed()}
        self.assertIn(ours.SOPInstanceUID, found)

    async def test_replacedWhileItIsFound(self) -> None:
        """Who asks at that moment is given the one or the other."""
        self.patch(results, "FIRST_BATCH", 1)
        records = [record(f"1.{n}", f"1.{n}.1", f"1.{n}.1.1") for n in range(2)]
        for one in records:
            await self.index.register(one, place(one), REPLACE)
        for level, keyword in (
            (Level.PATIENT, "PatientID"),
            (Level.STUDY, "StudyInstanceUID"),
            (Level.SERIES, "SeriesInstanceUID"),
            (Level.IMAGE, "SOPInstanceUID"),
        ):
            asked = attribute(keyword)
            matches = self.index.match(Query(level, (), (asked,)))
            found = [m.values for m in await matches.nextBatch()]
            for one in records:
                again = evolve(one, digest=bytes([level]) * 32)
                await self.index.register(again, place(one, str(level)), REPLACE)
            found += [m.values for m in await drained(matches)]
            expected = {(getattr(one, keyword),) for one in records}
            self.assertEqual(set(found), expected)
            self.assertEqual(len(found), len(expected))

    async def test_longestPatientIdentity(self) -> None:
        """What is far too long is entered all the same, and told apart."""
        for n in range(2):
            text = "".join(chr(0x20000 + 7919 * k % 40000) for k in range(512))
            one = record(
                f"1.{n}", instance=f"{n}", PatientID=text, IssuerOfPatientID=text[n:]
            )
            await self.index.register(one, place(one), REPLACE)
        self.assertEqual((await self.index.totals()).patients, 2)


class PlanTests(_Database):
    """What is selective is found by its index."""

    def plan(self, query: Query) -> str:
        statement = pages.found(query, 5000, 50)
        with closing(connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + statement.text, statement.parameters)
            return "\n".join(row[0] for row in cursor.fetchall())

    def test_indexes(self) -> None:
        execute(
            self.url,
            """
            WITH p AS (INSERT INTO patients (identity, patient_id,
                issuer_of_patient_id, patient_name, patient_name_key,
                patient_birth_date, patient_birth_date_key, patient_sex)
              SELECT n, n, '', 'x', '=' || md5(n::text) || '^' || md5(n || 'x') || '=',
                '', '19700101', '' FROM generate_series(1, 20000) n RETURNING *)
            INSERT INTO studies (patient, described_at, described_by,
                study_instance_uid, patient_id, issuer_of_patient_id, patient_name,
                patient_name_key, patient_birth_date, patient_birth_date_key,
                patient_sex, study_id, study_date, study_date_key, study_time,
                study_time_key, accession_number, study_description,
                referring_physician_name, referring_physician_name_key)
            SELECT id, now(), '', id, patient_id, '', patient_name,
                patient_name_key, '', patient_birth_date_key, '', '', '',
                (20000000 + id % 4000)::text, '', NULL, id, '', '', '' FROM p
            """,
        )
        execute(self.url, "ANALYZE")
        for condition, index in (
            (NameMatch(attribute("PatientName"), ("abcdef*",)), "patient_name_start"),
            (NameMatch(attribute("PatientName"), ("*abcde*",)), "studies_patient_name"),
            (AnyOf(attribute("PatientID"), ("77",)), "studies_patient_id"),
            (Wildcard(attribute("AccessionNumber"), ("123*",)), "studies_accession"),
            (Range(attribute("StudyDate"), "20000100", "20000109"), "study_date"),
        ):
            self.assertIn(index, self.plan(Query(Level.STUDY, (condition,))))


_NAMES = st.lists(
    st.sampled_from(["Rossi", "rossi", "Müller", "山田", "a", "%", "_", "\\", "^", "=",
                     "", "Łukasz", "o'N", "Ros", " ", ".", "(", "+", "$"]),
    max_size=6,
).map("".join)  # fmt: skip
_PATTERNS = st.lists(
    st.sampled_from(["*", "?", "rossi", "ros", "ü", "山", "a", "%", "_", "\\", "^",
                     "**", ".", "(", "+", "$", "["]),
    min_size=1,
    max_size=5,
).map("".join)  # fmt: skip
_DATES = st.sampled_from(["", "20260101", "2026.02.03", "19991231", "bad", "20261301"])
_CONDITIONS = st.one_of(
    st.builds(
        NameMatch,
        st.sampled_from(
            [attribute("PatientName"), attribute("ReferringPhysicianName")]
        ),
        st.lists(_PATTERNS.map(foldComponentGroup), min_size=1, max_size=2).map(tuple),
        st.sampled_from([None, None, 0, 1, 2]),
    ),
    st.builds(
        Wildcard,
        st.sampled_from([attribute("StudyDescription"), attribute("PatientID")]),
        _PATTERNS,
    ),
    st.builds(
        AnyOf, st.just(attribute("StudyDescription")), st.lists(_NAMES).map(tuple)
    ),
    st.builds(
        Range,
        st.just(attribute("StudyDate")),
        st.sampled_from([None, "20000101", "20260101"]),
        st.sampled_from([None, "20260101", "20260301"]),
    ),
    st.builds(
        AnyOf,
        st.just(attribute("ModalitiesInStudy")),
        st.lists(st.sampled_from(["CT", "MR", "X%"]), max_size=2).map(tuple),
    ),
)
_RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "PatientName": _NAMES,
            "PatientID": _NAMES,
            "ReferringPhysicianName": _NAMES,
            "StudyDescription": _NAMES,
            "StudyDate": _DATES,
            "Modality": st.sampled_from(["CT", "MR", ""]),
        }
    ),
    min_size=1,
    max_size=8,
)


class EqualToMemoryTests(_Database):
    """SQL finds what PS3.4 C.2.2.2, written in plain Python, finds."""

    def test_matching(self) -> Deferred[None]:
        cases: list[tuple[Any, Any, Any]] = []

        @settings(
            max_examples=120,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            _RECORDS,
            st.lists(st.lists(_CONDITIONS, max_size=2), min_size=4, max_size=4),
            st.sampled_from([Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE]),
        )
        def collect(records: Any, queries: Any, level: Any) -> None:
            cases.append((records, queries, level))

        # Under the reactor's own loop nothing may wait: the cases are drawn
        # first, then compared.
        collect()
        return ensureDeferred(self.compareAll(cases))

    async def compareAll(self, cases: list[tuple[Any, Any, Any]]) -> None:
        for case in cases:
            await self.compare(*case)

    async def compare(self, drawn: Any, queries: Any, level: Level) -> None:
        memory = MemoryIndex(batchSize=100)
        records = [
            record(f"1.{n}", f"1.{n}.1", f"1.{n}.1.1", minute=n, **elements)
            for n, elements in enumerate(drawn)
        ]
        for one in records:
            await memory.register(one, place(one), REPLACE)
        await gatherResults(
            [self.index.register(one, place(one), REPLACE) for one in records]
        )
        returned = tuple(
            a for a in REGISTRY.attributes
            if a.level <= level and a.keyword not in ("PatientName", "PatientID")
        )  # fmt: skip
        for drawnConditions in queries:
            conditions = tuple(c for c in drawnConditions if c.attribute.level <= level)
            query = Query(level, conditions, returned)
            found = [
                sorted(m.values for m in await drained(index.match(query)))
                for index in (memory, self.index)
            ]
            self.assertEqual(found[1], found[0], f"{query.conditions} in {drawn}")
            below = [
                sorted(s.SOPInstanceUID for s in await drained(index.locate(query)))
                for index in (memory, self.index)
            ]
            self.assertEqual(below[1], below[0])
        for one in records:
            await self.index.forget(place(one))

    async def test_hostilePattern(self) -> None:
        """A pattern that is nothing but wild cards costs no more than a search."""
        await self.index.register(record(), place(record()), REPLACE)
        pattern = foldText("a*?b" * 128)
        query = Query(Level.STUDY, (NameMatch(attribute("PatientName"), (pattern,)),))
        self.assertEqual(await drained(self.index.match(query)), [])


class ClosedTests(_Database):
    async def test_closed(self) -> None:
        self.index.close()
        await self.assertFailure(self.index.totals(), DatabaseUnavailable)
        self.assertFalse((await self.index.state()).available)
