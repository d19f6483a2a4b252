"""C{python -m d360.postgres}: PostgreSQL's programs on D360's database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from d360 import postgres
from d360.errors import StartupError
from d360.index.embedded import EmbeddedServer
from d360.index.leftover import socketsOf
from tests.contracts.postgres import execute, sharedServer


class PostgresCase(SynchronousTestCase):
    """Runs it as a person does."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="d360-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Exit status, standard output and error."""
        done = subprocess.run(
            [sys.executable, "-m", "d360.postgres", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            **options,
        )
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def psql(self, statement: str, *options: str, **others: Any) -> str:
        """What psql answers."""
        status, output, errors = self.run_(
            *options, "psql", "-At", "-c", statement, **others
        )
        self.assertEqual((status, errors), (0, ""))
        return output.strip()


class EmbeddedTests(PostgresCase):
    """An embedded database, running or not."""

    def test_notRunning(self) -> None:
        """It is started for the program, made if need be, and stopped again."""
        place = f"--data-directory={self.folder}"
        self.psql("CREATE TABLE kept AS SELECT 360 AS x", place)
        self.assertEqual(self.psql("SELECT x FROM kept", place), "360")
        self.assertIsNone(socketsOf(self.folder / "postgresql" / "data"))

    def test_running(self) -> None:
        """That of a D360 that runs is used, and stays as it is."""
        server = EmbeddedServer(self.folder)
        self.addCleanup(server.stopNow)
        server.start()
        pid = server.pid
        execute(server.url, "CREATE TABLE kept AS SELECT 360 AS x")
        place = f"--data-directory={self.folder}"
        self.assertEqual(self.psql("SELECT x FROM kept", place), "360")
        self.assertEqual(server.pid, pid)

    def test_longPath(self) -> None:
        """Where the socket is elsewhere."""
        folder = self.folder / ("x" * 100)
        folder.mkdir()
        self.assertEqual(self.psql("SELECT 1", f"--data-directory={folder}"), "1")

    def test_environment(self) -> None:
        """What else is told libpq by the environment is of another database."""
        environment = {**os.environ, "PGHOST": "nowhere.invalid", "PGDATABASE": "x"}
        place = f"--data-directory={self.folder}"
        found = self.psql("SELECT current_database()", place, env=environment)
        self.assertEqual(found, "d360")

    def test_status(self) -> None:
        """That of the program, and its database is stopped all the same."""
        place = f"--data-directory={self.folder}"
        status, _, errors = self.run_(place, "psql", "-c", "nonsense")
        self.assertEqual(status, 1)
        self.assertIn("syntax error", errors)
        self.assertIsNone(socketsOf(self.folder / "postgresql" / "data"))


class ExternalTests(PostgresCase):
    """A PostgreSQL of one's own, by the option or the configuration file."""

    def test_url(self) -> None:
        url = sharedServer().urlOf("postgres")
        self.assertEqual(
            self.psql("SELECT current_database()", f"--database={url}"), "postgres"
        )
        path = self.folder / "d360.toml"
        path.write_text(f'[database]\nurl = "{url}"\n')
        self.assertEqual(
            self.psql("SELECT current_user", "--config", str(path)), "d360"
        )

    def test_notAnURL(self) -> None:
        """One line, without the password."""
        url = "postgresql://d360:geheim@[x/d360"
        status, _, errors = self.run_(f"--database={url}", "psql")
        self.assertEqual(status, 1)
        (line,) = errors.splitlines()
        self.assertIn("no PostgreSQL URL", line)
        self.assertNotIn("geheim", line)


class RefusedTests(PostgresCase):
    """One line that says what to do, and nothing is made."""

    def refused(self, *arguments: str) -> str:
        status, output, errors = self.run_(*arguments)
        self.assertEqual((status, output), (1, ""))
        (line,) = errors.splitlines()
        self.assertEqual(list(self.folder.iterdir()), [])
        return line

    def test_noProgram(self) -> None:
        for name in ("nix", "../bin/psql", str(shutil.which("true"))):
            line = self.refused(f"--data-directory={self.folder}", name)
            self.assertIn("none of the programs", line)
            self.assertIn("pg_dump", line)

    def test_noFolder(self) -> None:
        line = self.refused(f"--data-directory={self.folder / 'no'}", "psql")
        self.assertIn("no data directory", line)

    def test_anotherAccount(self) -> None:
        """D360 could not use what another account has written there."""
        self.patch(os, "geteuid", lambda: os.stat(self.folder).st_uid + 1)
        error = self.assertRaises(StartupError, postgres._checkOwner, self.folder)
        self.assertIn("sudo -u", str(error))

    def test_configuration(self) -> None:
        line = self.refused("--config=no-such-file.toml", "psql")
        self.assertIn("no-such-file.toml", line)
