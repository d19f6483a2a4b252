"""The worklist, in a real PostgreSQL and in memory."""

from __future__ import annotations

import time
from contextlib import closing
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from d360.errors import DatabaseUnavailable
from d360.index.database import PostgreSQLIndex
from d360.index.migration import connect
from d360.index.pool import StatementRefused
from d360.index.sql import Statement
from d360.index.worklist import PostgreSQLWorklist, firstSteps
from d360.model import AnyOf, Condition, Duplicates, Range, Wildcard, WorklistItem
from d360.worklistattributes import START, stepsOf
from tests.contracts.instances import drained, place, record
from tests.contracts.memoryworklist import MemoryWorklist
from tests.contracts.postgres import dropDatabase, execute, freshDatabase
from tests.contracts.worklist import WorklistContract, attribute, name, procedure, step


class MemoryWorklistTests(WorklistContract, TestCase):
    def setUp(self) -> None:
        self.worklist: Any = MemoryWorklist()

    async def arrive(self, study: str) -> None:
        self.worklist.arrived.add(study)

    async def test_away(self) -> None:
        self.worklist.away = True
        for waiting in (
            self.worklist.get("x"),
            self.worklist.schedule(procedure()),
            self.worklist.list((), "", 1),
            self.worklist.match(()).nextBatch(),
        ):
            await self.assertFailure(waiting, DatabaseUnavailable)

    async def test_mine(self) -> None:
        """What is kept does not change with what was given or got."""
        given = procedure()
        item = await self.worklist.schedule(given)
        given.clear()
        item.attributes.clear()
        (step,) = await drained(self.worklist.match(()))
        self.assertEqual(step.item.attributes, procedure())


class PostgreSQLCase(TestCase):
    timeout = 300

    def setUp(self) -> None:
        self.url = freshDatabase()
        self.addCleanup(dropDatabase, self.url)
        self.index = PostgreSQLIndex(reactor, self.url, "embedded")
        self.addCleanup(self.index.close)
        self.worklist: Any = PostgreSQLWorklist(self.index.reading, self.index.writing)


def _someItem(chance: Random, study: str) -> dict[str, Any]:
    def step_() -> dict[str, Any]:
        day, hour = chance.choice(("20260301", "20260302")), chance.randrange(24)
        stations = tuple(
            chance.sample(("CT01", "CT02", "MR01"), chance.randrange(1, 3))
        )
        return step(
            f"{day} {hour:02}0000",
            Modality=chance.choice(("CT", "MR")),
            ScheduledStationAETitle=stations,
            ScheduledPerformingPhysicianName=chance.choice(("House^Greg", "=山田")),
        )

    return procedure(
        study,
        *(step_() for _ in range(chance.randrange(1, 4))),
        PatientID=chance.choice(("P1", "P2", "P%1", "P_1")),
        PatientName=chance.choice(
            ("Müller^Jörg", "Rossi", "Rossi^Anna", "A=山田^太郎")
        ),
        PatientBirthDate=chance.choice(("19700101", "19800101")),
    )


def _someConditions(chance: Random) -> list[Condition]:
    date, time = chance.choice(("20260301", "20260302")), f"{chance.randrange(24):02}"
    everything: list[Condition] = [
        AnyOf(attribute("PatientID"), ("P1", "P%1")),
        Wildcard(attribute("PatientID"), (chance.choice(("P_*", "P%*", "P?1")),)),
        name("PatientName", chance.choice(("rossi*", "*anna", "m?ller^*", "山*"))),
        name("PatientName", chance.choice(("", "山田*", "a")), chance.randrange(3)),
        Range(attribute("PatientBirthDate"), None, "19750101"),
        AnyOf(attribute("Modality"), ("CT",)),
        # One key has one condition.
        chance.choice((
            AnyOf(attribute("ScheduledStationAETitle"), ("CT02", "MR01")),
            Wildcard(attribute("ScheduledStationAETitle"), ("CT*",)),
        )),
        name("ScheduledPerformingPhysicianName", "house*"),
        Range(attribute("ScheduledProcedureStepStartDate"), date, date),
        Range(attribute("ScheduledProcedureStepStartTime"), f"{time}0000", None),
        Range(START, f"{date}{time}0000", None),
    ]  # fmt: skip
    return chance.sample(everything, chance.randrange(4))


class SameTests(PostgreSQLCase):
    """The worklist in PostgreSQL finds what the one in memory does."""

    async def test_random(self) -> None:
        chance, memory = Random(4), MemoryWorklist()
        for number in range(40):
            item = _someItem(chance, f"1.{number}")
            await self.worklist.schedule(item)
            await memory.schedule(item)

        def studyOf(item: WorklistItem) -> str:
            return str(item.attributes["0020000D"]["Value"][0])

        async def found(worklist: Any, conditions: list[Condition]) -> Any:
            steps = await drained(worklist.match(conditions))
            listed = await worklist.list(conditions, "", 100)
            return (
                sorted((studyOf(one.item), one.number) for one in steps),
                sorted(map(studyOf, listed)),
            )

        for _ in range(300):
            conditions = _someConditions(chance)
            self.assertEqual(
                await found(self.worklist, conditions),
                await found(memory, conditions),
                conditions,
            )


class PostgreSQLWorklistTests(WorklistContract, PostgreSQLCase):
    async def arrive(self, study: str) -> None:
        one = record(study, f"{study}.1", f"{study}.1.1")
        await self.index.register(one, place(one), Duplicates.REPLACE)

    async def test_durable(self) -> None:
        """What was scheduled is committed: another connection sees it."""
        item = await self.worklist.schedule(procedure("1"))
        self.assertEqual(
            execute(self.url, "SELECT identifier, version FROM worklist_items"),
            [(item.identifier, 1)],
        )
        await self.worklist.remove(item.identifier)
        for table in ("items", "steps"):
            self.assertEqual(execute(self.url, f"SELECT * FROM worklist_{table}"), [])

    async def test_neverHalf(self) -> None:
        """What fails half-way has changed nothing."""
        item = await self.worklist.schedule(procedure("1"))
        execute(self.url, "ALTER TABLE worklist_steps ADD CHECK (modality <> 'BROKEN')")
        broken = procedure("1", step(), step(Modality="BROKEN"))
        for writing in (
            self.worklist.replace(item.identifier, broken),
            self.worklist.schedule({**broken, **procedure("2", *stepsOf(broken))}),
        ):
            await self.assertFailure(writing, StatementRefused)
        self.assertEqual(await self.worklist.list((), "", 9), (item,))
        self.assertEqual(await self.found(), [("1", 0)])

    async def test_closed(self) -> None:
        self.index.close()
        await self.assertFailure(self.worklist.get("x"), DatabaseUnavailable)


#: Items of one step each, as a busy year of twenty modalities makes them.
MANY = 100_000

_FILL = f"""
INSERT INTO worklist_items SELECT
    md5(n::text), 1,
    jsonb_build_object('0020000D', jsonb_build_object('vr', 'UI', 'Value',
        jsonb_build_array('1.2.' || n)), '00400100', jsonb_build_object('vr', 'SQ',
        'Value', jsonb_build_array(jsonb_build_object()))),
    day || '080000.000000', '1.2.' || n,
    'P' || n / 3, name, '=' || lower(name) || '=', '19700101', '19700101', 'F',
    'A' || n, '', '', '', '', '', 'R' || n, ''
FROM (
    SELECT n, to_char(date '2026-01-01' + n % 365, 'YYYYMMDD') AS day,
        initcap(substr(md5(n::text), 1, 7)) || '^'
            || initcap(substr(md5('x' || n), 1, 5)) AS name
    FROM generate_series(1, {MANY}) n
) made;
INSERT INTO worklist_steps SELECT
    i.identifier, 0, i.first_start, 'CT',
    'CT' || ('x' || substr(i.identifier, 1, 4))::bit(16)::int % 20,
    left(i.first_start, 8), left(i.first_start, 8), '080000', '080000.000000',
    '', '', 'S'
FROM worklist_items i;
ANALYZE worklist_items; ANALYZE worklist_steps
"""


class ManyItemsTests(PostgreSQLCase):
    """A query over 100 000 items is answered from an index."""

    def plan(self, statement: Statement) -> str:
        with closing(connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement.text}", statement.parameters)
            return "\n".join(row[0] for row in cursor.fetchall())

    async def test_indexes(self) -> None:
        execute(self.url, _FILL)
        (row,) = execute(
            self.url,
            "SELECT patient_name, patient_id, accession_number FROM worklist_items"
            " WHERE identifier = md5('77')",
        )
        family = str(row[0]).split("^")[0]
        day = "20260318"
        station = AnyOf(attribute("ScheduledStationAETitle"), ("CT7",))
        date = attribute("ScheduledProcedureStepStartDate")
        cases: list[tuple[str, tuple[Condition, ...], str]] = [
            ("station and date", (station, AnyOf(date, (day,))), "_station"),
            (
                "station and dates",
                (station, Range(date, day, "20260320")),
                "_station",
            ),
            ("dates", (Range(date, day, day),), "_start_date"),
            (
                "station, date and time",
                (
                    station,
                    Range(date, day, day),
                    Range(START, f"{day}070000", f"{day}120000"),
                ),
                "_station",
            ),
            ("Patient ID", (AnyOf(attribute("PatientID"), ("P25",)),), "_patient_id"),
            (
                "Patient ID's prefix",
                (Wildcard(attribute("PatientID"), ("P2577*",)),),
                "_patient_id",
            ),
            (
                "Accession Number",
                (AnyOf(attribute("AccessionNumber"), ("A77",)),),
                "_accession_number",
            ),
            ("name", (name("PatientName", f"{family}^*"),), "_patient_name"),
            (
                "name's prefix",
                (name("PatientName", f"{family[:5]}*"),),
                "_patient_name",
            ),
            (
                "name's infix",
                (name("PatientName", f"*{family[1:6]}*"),),
                "_patient_name",
            ),
        ]
        for what, conditions, index in cases:
            plan = self.plan(firstSteps(conditions, 5000, 50))
            self.assertIn(index, plan, what)
            self.assertNotIn("Seq Scan", plan, what)
            await self.worklist.match(conditions).nextBatch()
            began = time.perf_counter()
            found = await drained(self.worklist.match(conditions))
            took = (time.perf_counter() - began) * 1000
            self.assertTrue(0 < len(found) < 1000, (what, len(found)))
            # Whatever the machine does meanwhile.
            self.assertLess(took, 10_000, what)

    async def test_all(self) -> None:
        """A walk over all of them holds no more than a page at a time."""
        execute(self.url, _FILL)
        steps = self.worklist.match(())
        seen = set()
        while batch := await steps.nextBatch():
            self.assertLessEqual(len(batch), 500)
            seen.update(one.item.identifier for one in batch)
        self.assertEqual(len(seen), MANY)
