"""
The schema brought up to date from each earlier version, with what that version
had written; and what becomes of it when that does not come to its end.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import date
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from d360.attributes import Level
from d360.errors import StartupError
from d360.index import migration
from d360.index.commitments import PostgreSQLCommitmentRequests
from d360.index.database import PostgreSQLIndex
from d360.index.migration import checkAndMigrate
from d360.index.remoteaes import PostgreSQLRemoteAEs
from d360.index.worklist import PostgreSQLWorklist
from d360.model import (
    AnyOf,
    CommitmentRequest,
    Duplicates,
    Location,
    NameMatch,
    Outcome,
    Query,
    Referenced,
)
from tests.contracts.instances import attribute, drained, place, record
from tests.contracts.postgres import dropDatabase, execute, freshDatabase
from tests.contracts.worklist import procedure

KNOWN = migration.migrations()
LATEST = KNOWN[-1][0]

#: A registration, as the first version wrote it and all since have.
_REGISTRATION = {
    "patient_id": "P1",
    "issuer_of_patient_id": "",
    "patient_name": "Rossi^Anna",
    "patient_birth_date": "",
    "patient_sex": "",
    "study_instance_uid": "1.1",
    "study_id": "",
    "study_date": "20260301",
    "study_time": "",
    "accession_number": "",
    "study_description": "",
    "referring_physician_name": "",
    "series_instance_uid": "1.1.1",
    "series_number": "",
    "modality": "CT",
    "series_description": "",
    "series_date": "",
    "series_time": "",
    "laterality": "",
    "body_part_examined": "",
    "patient_position": "",
    "anatomical_orientation_type": "",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
    "instance_number": "7",
    "instance_creation_date": "",
    "instance_creation_time": "",
    "patient_name_key": "=rossi^anna=",
    "patient_birth_date_key": None,
    "study_date_key": "20260301",
    "study_time_key": None,
    "referring_physician_name_key": "",
    "series_number_key": None,
    "series_date_key": None,
    "series_time_key": None,
    "instance_number_key": 7,
    "instance_creation_date_key": None,
    "instance_creation_time_key": None,
    "duplicates": "replace",
    "relocated": False,
    "identity": "id\\P1\\",
    "transfer_syntax_uid": "1.2.840.10008.1.2.1",
    "digest": "\\xf1412386aa8db2579aff2636cb9511cacc5fd9880ecab60c048508fbe26ee4d9",
    "size": 1000,
    "data_set_offset": 340,
    "calling_ae_title": "CT01",
    "called_ae_title": "D360PACS",
    "source_address": "192.0.2.1",
    "received_at": "2026-03-01T08:00:00+00:00",
}

#: A worklist item and its steps, as the third version wrote them.
_ITEM = {
    "attributes": procedure(),
    "first_start": "20260301080000.000000",
    "patient_name": "Rossi^Anna",
    "patient_name_key": "=rossi^anna=",
    "patient_id": "P1",
    "patient_birth_date": "",
    "patient_birth_date_key": None,
    "patient_sex": "",
    "accession_number": "",
    "referring_physician_name": "",
    "referring_physician_name_key": "",
    "study_instance_uid": "1.2.3",
    "requesting_physician": "",
    "requesting_physician_key": "",
    "admission_id": "",
    "requested_procedure_id": "R1",
    "requested_procedure_priority": "",
}
_STEPS = [
    {
        "number": 0,
        "start": "20260301080000.000000",
        "modality": "CT",
        "scheduled_procedure_step_start_date": "20260301",
        "scheduled_procedure_step_start_date_key": "20260301",
        "scheduled_procedure_step_start_time": "080000",
        "scheduled_procedure_step_start_time_key": "080000.000000",
        "scheduled_performing_physician_name": "",
        "scheduled_performing_physician_name_key": "",
        "scheduled_procedure_step_id": "S1",
        "scheduled_station_ae_title": "CT01",
    }
]


def batch(*instances: str, **other: Any) -> str:
    """Registrations of these, as a literal."""
    rows = [
        {
            **_REGISTRATION,
            "sop_instance_uid": uid,
            "path": f"ab/1.1/{uid}.dcm",
            **other,
        }
        for uid in instances
    ]
    return "'" + json.dumps(rows).replace("'", "''") + "'"


def write(url: str, version: int) -> None:
    """Have what that version of the schema could hold written as it was."""
    register = "SELECT * FROM register_instances({}, 'w', NULL)"
    if version < 5:
        register = "SELECT * FROM register_instances({})"
    execute(url, register.format(batch("1.1.1.1", "1.1.1.2", "1.1.1.3")))
    if version >= 2:
        # Whose further columns have no defaults from the sixth version on.
        further, values = "", ""
        if version >= 6:
            further = ", permissions, tls, certificate"
            values = ", '{query}', true, ''"
        execute(
            url,
            f"INSERT INTO remote_aes (title, host, port{further})"
            f" VALUES ('WS1', '192.0.2.7', 11112{values})",
        )
    if version >= 3:
        item, steps = json.dumps(_ITEM), json.dumps(_STEPS)
        execute(
            url, f"SELECT schedule_worklist_item('{'a' * 32}', '{item}', '{steps}')"
        )
    if version >= 7:
        uids = "'{1.2.840.10008.5.1.4.1.1.2}', '{1.1.1.1}'"
        execute(
            url,
            "INSERT INTO commitment_requests (ae_title, transaction_uid,"
            " sop_class_uids, sop_instance_uids, attempts, due_at)"
            f" VALUES ('CT01', '1.9', {uids}, 3, now())",
        )
    if version >= 5:
        announced = batch("1.1.1.4", duplicates="announced")
        execute(url, f"SELECT * FROM register_instances({announced}, 'w', NULL)")


class DatabaseCase(TestCase):
    """A database whose schema is of any version."""

    def databaseOf(self, count: int) -> str:
        """With the schema of so many migrations."""
        url = freshDatabase(migrated=False)
        self.addCleanup(dropDatabase, url)
        self.patch(migration, "migrations", lambda: KNOWN[:count])
        self.assertEqual(checkAndMigrate(url), KNOWN[count - 1][0])
        self.patch(migration, "migrations", lambda: KNOWN)
        return url

    def versionOf(self, url: str) -> Any:
        ((version,),) = execute(url, "SELECT max(version) FROM schema_version")
        return version


class FromEachTests(DatabaseCase):
    """What was written is found by the code of today."""

    async def test_fromEach(self) -> None:
        for count, (version, _) in enumerate(KNOWN, 1):
            url = self.databaseOf(count)
            write(url, version)
            self.assertEqual(checkAndMigrate(url), LATEST)
            index = PostgreSQLIndex(reactor, url)
            self.addCleanup(index.close)
            await self.checkInstances(index, version)
            await self.checkOthers(index, version)
            await self.checkCommitments(index, version)
            index.close()

    async def checkInstances(self, index: PostgreSQLIndex, version: int) -> None:
        uids = [f"1.1.1.{n}" for n in range(1, 5 if version >= 5 else 4)]
        name = NameMatch(attribute("PatientName"), ("ross*",))
        found = await drained(index.locate(Query(Level.STUDY, (name,))))
        self.assertEqual([one.SOPInstanceUID for one in found], uids)
        self.assertEqual(found[0].location, Location("ab/1.1/1.1.1.1.dcm", 340))
        returned = ("StudyDate", "NumberOfStudyRelatedInstances")
        (match,) = await drained(
            index.match(Query(Level.STUDY, (name,), tuple(map(attribute, returned))))
        )
        self.assertEqual(match.values, ("20260301", str(len(uids))))
        waiting = await index.unconfirmed()
        self.assertEqual(
            [one.SOPInstanceUID for one in waiting], uids[3:] if version >= 5 else []
        )
        # And it goes on: with an instance that is known, and one that is not.
        again = record(instance="1.1.1.1")
        done = await index.register(again, place(again, "-2"), Duplicates.REPLACE)
        self.assertIs(done.outcome, Outcome.DUPLICATE)
        new = record(instance="1.1.1.9")
        self.assertIsNotNone(await index.announce(new, place(new)))
        self.assertTrue(await index.forget(place(new)))
        self.assertTrue(await index.forget(place(again)))

    async def checkOthers(self, index: PostgreSQLIndex, version: int) -> None:
        remoteAEs = await PostgreSQLRemoteAEs(index.writing).all()
        known = [(one.title, one.host, one.port) for one in remoteAEs]
        expected = [("WS1", "192.0.2.7", 11112)] if version >= 2 else []
        self.assertEqual(known, expected)
        worklist = PostgreSQLWorklist(index.reading, index.writing)
        steps = await drained(worklist.match((AnyOf(attribute("PatientID"), ("P1",)),)))
        items = [step.item.identifier for step in steps]
        self.assertEqual(items, ["a" * 32] if version >= 3 else [])
        removed = await worklist.removeOld(date(2099, 1, 1), 10)
        self.assertEqual([one.identifier for one in removed], items)

    async def checkCommitments(self, index: PostgreSQLIndex, version: int) -> None:
        requests = PostgreSQLCommitmentRequests(index.writing)
        pending = await requests.all(10)
        found = [(one.transactionUID, one.instances) for one in pending]
        self.assertEqual(found, [("1.9", 1)] if version >= 7 else [])
        if version >= 7:
            # Nobody sees to it, so that a person may have it tried.
            self.assertFalse(pending[0].isUnderWay)
            self.assertTrue(await requests.retry(pending[0].identifier))
            due = await requests.due(60)
            assert due is not None
            self.assertEqual((due.aeTitle, due.attempts), ("CT01", 4))
            kept = Referenced("1.2.840.10008.5.1.4.1.1.2", "1.1.1.1")
            self.assertEqual(due.references, (kept,))
        asked = CommitmentRequest("1.8", "CT02", (Referenced("1.2", "1.3"),))
        self.assertIsNotNone(await requests.add(asked, 60))


_CHILD = """
import sys
from d360.index import migration
known = migration.migrations()
migration.migrations = lambda: (*known, (known[-1][0] + 1, sys.argv[2]))
print("begins", flush=True)
print(migration.checkAndMigrate(sys.argv[1]), flush=True)
"""

#: A migration that takes its time when it has done something.
_SLOW = "CREATE TABLE half (); SELECT pg_sleep(600)"


class InterruptedTests(DatabaseCase):
    """The schema is the older one as a whole, and the next start goes on."""

    def assertWhole(self, url: str) -> None:
        """It is that of the first version, with what it holds; then the latest."""
        self.assertEqual(self.versionOf(url), 1)
        tables = "SELECT to_regclass('remote_aes'), to_regclass('half')"
        self.assertEqual(execute(url, tables), [(None, None)])
        self.assertEqual(execute(url, "SELECT count(*)::int FROM instances"), [(3,)])
        self.patch(migration, "migrations", lambda: KNOWN)
        self.assertEqual(checkAndMigrate(url), LATEST)
        self.assertEqual(execute(url, "SELECT count(*)::int FROM instances"), [(3,)])

    def older(self) -> str:
        url = self.databaseOf(1)
        write(url, 1)
        return url

    def further(self, text: str) -> None:
        self.patch(migration, "migrations", lambda: (*KNOWN, (LATEST + 1, text)))

    def test_refused(self) -> None:
        """A statement fails: those before it have not been, whole migrations too."""
        url = self.older()
        self.further("CREATE TABLE half (); SELECT 1/0")
        error = self.assertRaises(StartupError, checkAndMigrate, url)
        self.assertIn("division by zero", str(error))
        self.assertIn("left as it was", str(error))
        self.assertWhole(url)

    def test_diskFull(self) -> None:
        """The line says what to do."""
        url = self.older()
        self.further(
            "CREATE TABLE half ();"
            "DO $$ BEGIN RAISE EXCEPTION 'could not extend file'"
            " USING ERRCODE = 'disk_full'; END $$"
        )
        error = self.assertRaises(StartupError, checkAndMigrate, url)
        self.assertIn("could not extend file; make room", str(error))
        self.assertEqual(len(str(error).splitlines()), 1)
        self.assertWhole(url)

    def waitForHalf(self, url: str) -> int:
        """Until the slow migration is at work; the process ID of its backend."""
        deadline = time.monotonic() + 60
        while True:
            rows = execute(
                url,
                "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%'"
                " AND pid <> pg_backend_pid() AND datname = current_database()",
            )
            if rows:
                return int(str(rows[0][0]))
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def child(self, url: str, text: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, url, text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        return child

    def test_killed(self) -> None:
        """D360 is killed while the database is at it."""
        url = self.older()
        child = self.child(url, _SLOW)
        self.waitForHalf(url)
        child.send_signal(signal.SIGKILL)
        child.wait()
        # The next one waits for the statement that is under way; not for long, for
        # the database notices that nobody does.
        began = time.monotonic()
        self.patch(migration, "migrations", lambda: KNOWN[:1])
        self.assertEqual(checkAndMigrate(url), 1)
        self.assertLess(time.monotonic() - began, 300)
        self.assertWhole(url)

    def test_databaseLost(self) -> None:
        """The database's process ends: one line, and no more."""
        url = self.older()
        child = self.child(url, _SLOW)
        execute(url, f"SELECT pg_terminate_backend({self.waitForHalf(url)}, 10000)")
        _, errors = child.communicate(timeout=60)
        self.assertIn("StartupError: the database's schema cannot", errors)
        self.assertWhole(url)


class TogetherTests(DatabaseCase):
    """Servers that start at the same time on one database."""

    def test_takeTurns(self) -> None:
        """One of them migrates, each migration once."""
        url = self.databaseOf(1)
        write(url, 1)
        execute(url, "CREATE TABLE counted (x integer)")
        text = "INSERT INTO counted VALUES (1); SELECT pg_sleep(0.3)"
        self.patch(migration, "migrations", lambda: (*KNOWN, (LATEST + 1, text)))
        outcomes: list[Any] = []

        def start() -> None:
            try:
                outcomes.append(checkAndMigrate(url))
            except StartupError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(outcomes, [LATEST + 1] * 4)
        self.assertEqual(execute(url, "SELECT count(*)::int FROM counted"), [(1,)])
        versions = execute(url, "SELECT version FROM schema_version ORDER BY 1")
        known = [version for version, _ in KNOWN]
        self.assertEqual([row[0] for row in versions], [*known, LATEST + 1])


class NumbersTests(SynchronousTestCase):
    """The migrations themselves."""

    def test_inOrder(self) -> None:
        """Each has its number, and all are there."""
        self.assertEqual([n for n, _ in KNOWN], sorted({n for n, _ in KNOWN}))
        self.assertEqual(KNOWN[0][0], 1)
