"""The schema, and what a person reads when a database cannot be used."""

from __future__ import annotations

import threading

import psycopg2
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import StartupError
from d360.index import migration
from d360.index.migration import checkAndMigrate
from tests.contracts.postgres import (
    dropDatabase,
    execute,
    freshDatabase,
    sharedServer,
)

VERSIONS = [version for version, _ in migration.migrations()]
LATEST = 8

PATIENT = (
    "INSERT INTO patients (identity, patient_id, issuer_of_patient_id,"
    " patient_name, patient_name_key, patient_birth_date, patient_sex)"
    " VALUES ('1', '1', '', '', '', '', '')"
)


class MigrationTests(SynchronousTestCase):
    def fresh(self) -> str:
        url = freshDatabase(migrated=False)
        self.addCleanup(dropDatabase, url)
        return url

    def test_fromNothingAndAgain(self) -> None:
        url = self.fresh()
        self.assertEqual([checkAndMigrate(url), checkAndMigrate(url)], [LATEST, LATEST])
        rows = execute(url, "SELECT version FROM schema_version ORDER BY version")
        self.assertEqual(rows, [(n,) for n in VERSIONS])

    def test_fromEach(self) -> None:
        """An older schema is brought up to date, and keeps what it holds."""
        known = migration.migrations()
        for count, version in enumerate(VERSIONS[:-1], 1):
            url = self.fresh()
            self.patch(migration, "migrations", lambda to=count: known[:to])
            self.assertEqual(checkAndMigrate(url), version)
            execute(url, PATIENT)
            self.patch(migration, "migrations", lambda: known)
            self.assertEqual(checkAndMigrate(url), LATEST)
            for table, count in (("patients", 1), ("remote_aes", 0)):
                rows = execute(url, f"SELECT count(*)::int FROM {table}")
                self.assertEqual(rows, [(count,)])

    def test_remoteAEs(self) -> None:
        """
        To 6: those that are known may do what they could do, and whoever adds
        one says what it may.
        """
        known = migration.migrations()
        url = self.fresh()
        self.patch(migration, "migrations", lambda: known[:5])
        checkAndMigrate(url)
        add = "INSERT INTO remote_aes (title, host, port) VALUES ('%s', 'h', 104)"
        execute(url, add % "WS1")
        self.patch(migration, "migrations", lambda: known)
        checkAndMigrate(url)
        rows = execute(url, "SELECT * FROM remote_aes")
        everything = ["store", "query", "retrieve", "worklist"]
        self.assertEqual(rows, [("WS1", "h", 104, everything, False, "")])
        error = self.assertRaises(psycopg2.Error, execute, url, add % "WS2")
        self.assertIn("permissions", str(error))

    def test_severalAtOnce(self) -> None:
        """Processes that start together take turns."""
        url = self.fresh()
        versions: list[int] = []
        threads = [
            threading.Thread(target=lambda: versions.append(checkAndMigrate(url)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(versions, [LATEST] * 6)

    def test_newerIsRefused(self) -> None:
        url = self.fresh()
        checkAndMigrate(url)
        execute(url, "INSERT INTO schema_version (version) VALUES (99)")
        error = self.assertRaises(StartupError, checkAndMigrate, url)
        self.assertIn("newer", str(error))

    def test_failedMigrationLeavesNothing(self) -> None:
        url = self.fresh()
        checkAndMigrate(url)
        broken = (
            *migration.migrations(),
            (LATEST + 1, "CREATE TABLE half (); nonsense"),
        )
        self.patch(migration, "migrations", lambda: broken)
        self.assertRaises(StartupError, checkAndMigrate, url)
        self.assertEqual(
            execute(
                url, "SELECT max(version), to_regclass('half') FROM schema_version"
            ),
            [(LATEST, None)],
        )

    def test_otherEncodingIsRefused(self) -> None:
        server = sharedServer()
        execute(
            server.urlOf("postgres"),
            "CREATE DATABASE latin ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc"
            " LOCALE 'C' TEMPLATE template0",
        )
        url = server.urlOf("latin")
        self.addCleanup(dropDatabase, url)
        self.assertIn(
            "UTF8", str(self.assertRaises(StartupError, checkAndMigrate, url))
        )

    def test_oldServerIsRefused(self) -> None:
        self.patch(migration, "OLDEST_SERVER", 99)
        error = self.assertRaises(StartupError, checkAndMigrate, self.fresh())
        self.assertIn("99", str(error))

    def test_noExtension(self) -> None:
        """Who may not make it is told what to do."""
        url = self.fresh()
        server = sharedServer()
        execute(server.urlOf("postgres"), "CREATE ROLE guest LOGIN")
        self.addCleanup(execute, server.urlOf("postgres"), "DROP ROLE guest")
        guest = url.replace("user=d360", "user=guest")
        error = self.assertRaises(StartupError, checkAndMigrate, guest)
        self.assertIn("pg_trgm", str(error))

    def test_messagesAreOneLineWithoutThePassword(self) -> None:
        here = sharedServer().urlOf("no_such")
        for url, expected in (
            ("postgresql://u:geheim@127.0.0.1:1/d", "127.0.0.1 port 1"),
            ("postgresql://u:geheim@nowhere.invalid/d", "nowhere.invalid"),
            ("mysql://u:geheim@host/d", "no PostgreSQL URL"),
            (f"{here}&password=geheim", "createdb"),
        ):
            text = str(self.assertRaises(StartupError, checkAndMigrate, url))
            self.assertIn(expected, text)
            self.assertNotIn("geheim", text)
            self.assertNotIn("\n", text)
