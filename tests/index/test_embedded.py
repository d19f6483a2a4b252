"""The embedded PostgreSQL: its start, its end, and what may go wrong between."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from d360.attributes import Level
from d360.errors import DatabaseUnavailable, StartupError
from d360.index import account, leftover
from d360.index.database import PostgreSQLIndex
from d360.index.embedded import EmbeddedServer, packagedBinaries
from d360.index.migration import checkAndMigrate, connect
from d360.model import Query
from tests.contracts.instances import REPLACE, drained, place, record
from tests.contracts.postgres import execute

_CHILD = """
import os, sys
from d360.index.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1], binaries=(sys.argv[2:] or [None])[0])
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""

_WAITING = "SELECT pid FROM pg_locks WHERE NOT granted"


def waitFor(condition: Callable[[], bool]) -> bool:
    """Poll, blocking; whether it came to pass, on however slow a machine."""
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class _Folder(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="d360-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.data = self.folder / "postgresql" / "data"

    def server(self, folder: Path | None = None) -> EmbeddedServer:
        server = EmbeddedServer(folder or self.folder)
        self.addCleanup(server.stopNow)
        return server


class StartTests(_Folder):
    def test_startStopStart(self) -> None:
        """What was written is there again; only this account gets in."""
        server = self.server()
        server.start()
        pid = server.pid or 0
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        self.assertEqual(comm, "postgres", "the process is PostgreSQL itself")
        execute(server.url, "CREATE TABLE kept AS SELECT 360 AS x")
        self.assertEqual(
            execute(server.url, "SELECT current_setting('fsync'), x FROM kept"),
            [("on", 360)],
        )
        for closed in ("socket", "data"):
            mode = (self.folder / "postgresql" / closed).stat().st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o700)
        server.stopNow()
        self.assertFalse(Path(f"/proc/{pid}").exists())
        again = self.server()
        again.start()
        self.assertEqual(execute(again.url, "SELECT x FROM kept"), [(360,)])

    def test_logHasNoPatients(self) -> None:
        """A statement that fails is not written to the log."""
        server = self.server()
        server.start()
        for wrong in ("SELECT 'Rossi^Anna' FROM no_such", "SELECT 1/0 -- Rossi^Anna"):
            self.assertRaises(psycopg2.Error, execute, server.url, wrong)
        server.stopNow()
        text = "".join(p.read_text() for p in (self.data / "log").iterdir())
        self.assertNotIn("Rossi", text)

    def test_longPath(self) -> None:
        """A socket's path is bounded; the data's is not."""
        folder = self.folder / ("x" * 100)
        server = self.server(folder)
        server.start()
        self.assertEqual(execute(server.url, "SELECT 1"), [(1,)])
        place = Path(server._sockets)
        self.assertEqual(stat.S_IMODE(place.stat().st_mode), 0o700)
        server.stopNow()
        self.assertFalse(place.exists())

    def test_longPathAfterAKill(self) -> None:
        """The socket's folder of a run that was killed does not stay behind."""
        folder = self.folder / ("x" * 100)
        server = self.server(folder)
        server.start()
        place = Path(server._sockets)
        self.patch(server, "_temporary", None)  # Nobody tidies up.
        server.stopNow()
        self.assertTrue(place.exists())
        self.server(folder).start()
        self.assertFalse(place.exists())

    def test_nothingElseIsTakenForASocketsFolder(self) -> None:
        precious = self.folder / "precious"
        precious.mkdir()
        (self.folder / "postgresql").mkdir()
        note = self.folder / "postgresql" / "socket.place"
        for text in (str(precious), "", "/", "d360-x\0"):
            note.write_text(text)
            leftover.removeSockets(note)
            self.assertTrue(precious.exists())
            self.assertFalse(note.exists())

    def test_halfInitialised(self) -> None:
        """A killed initdb leaves what is made anew."""
        unfinished = self.folder / "postgresql" / "data.unfinished"
        unfinished.mkdir(parents=True)
        (unfinished / "base").write_text("half")
        self.data.mkdir()  # Empty, as a package may make it.
        self.server().start()
        self.assertFalse(unfinished.exists())

    def test_dataWithoutVersion(self) -> None:
        """Damaged, half restored or something else: none of it is touched."""
        (self.data / "base").mkdir(parents=True)
        for name in ("base/1", "postmaster.pid"):
            (self.data / name).write_text("x")
        error = self.assertRaises(StartupError, self.server().start)
        self.assertIn(f"{self.data} ", str(error))
        self.assertEqual(len(str(error).splitlines()), 1)
        for name in ("base/1", "postmaster.pid"):
            self.assertEqual((self.data / name).read_text(), "x")

    def test_otherVersion(self) -> None:
        server = self.server()
        server.start()
        server.stopNow()
        (self.data / "PG_VERSION").write_text("12\n")
        error = self.assertRaises(StartupError, self.server().start)
        self.assertIn("PostgreSQL 12", str(error))
        self.assertIn("dump", str(error))
        self.assertEqual(len(str(error).splitlines()), 1)

    def test_onlyOne(self) -> None:
        """A second D360 neither shares nor ends the first one's database."""
        server = self.server()
        server.start()
        error = self.assertRaises(StartupError, self.server().start)
        self.assertIn("another D360", str(error))
        self.assertEqual(execute(server.url, "SELECT 1"), [(1,)])

    def test_brokenData(self) -> None:
        """The server's own last words are in the message."""
        server = self.server()
        server.start()
        server.stopNow()
        (self.data / "global" / "pg_control").unlink()
        error = self.assertRaises(StartupError, self.server().start)
        self.assertIn("could not find the database system", str(error))
        self.assertEqual(len(str(error).splitlines()), 1)

    def test_notWritable(self) -> None:
        (self.folder / "postgresql").write_text("a file where the folder should be")
        error = self.assertRaises(StartupError, self.server().start)
        self.assertIn(str(self.folder), str(error))


class LeftoverTests(_Folder):
    """D360 was killed."""

    def startChild(self) -> tuple[subprocess.Popen[str], int]:
        child = self.launchChild()
        assert child.stdout is not None
        return child, int(child.stdout.readline())

    def launchChild(self, *binaries: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [
                *(sys.executable, "-c", textwrap.dedent(_CHILD)),
                *(str(self.folder), *binaries),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        self.addCleanup(self.endChild, child)
        return child

    def test_initialisingEndsWithD360(self) -> None:
        """
        Nor does initdb go on alone: the next start makes the data directory anew,
        in the same place.
        """
        binaries, noted = self.folder / "bin", self.folder / "initdb.pid"
        binaries.mkdir()
        (binaries / "postgres").symlink_to(packagedBinaries() / "postgres")
        initdb = binaries / "initdb"
        initdb.write_text(
            f"#!/bin/sh\necho $$ > {noted}.new\nmv {noted}.new {noted}\nexec sleep 60\n"
        )
        initdb.chmod(0o755)
        child = self.launchChild(str(binaries))
        self.assertTrue(waitFor(noted.exists))
        pid = int(noted.read_text())
        child.kill()
        child.wait()
        ended = waitFor(lambda: not Path(f"/proc/{pid}").exists())
        if not ended:
            os.kill(pid, signal.SIGKILL)
        self.assertTrue(ended)
        self.server().start()

    def endChild(self, child: subprocess.Popen[str]) -> None:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def test_endsWithD360(self) -> None:
        """SIGKILL of D360 shuts the database down."""
        child, _ = self.startChild()
        child.kill()
        self.assertTrue(waitFor(lambda: not leftover.processesOn(self.data)))
        self.server().start()

    def test_leftRunning(self) -> None:
        """One that did not end is ended, then replaced."""
        child, pid = self.startChild()
        os.kill(pid, signal.SIGSTOP)  # It cannot hear that its parent ends.
        self.addCleanup(self.resume, pid)
        child.kill()
        child.wait()
        self.patch(leftover, "_STEPS", (
            (signal.SIGINT, 0.3), (signal.SIGQUIT, 0.3), (signal.SIGKILL, 10.0),
        ))  # fmt: skip
        server = self.server()
        server.start()
        self.assertNotEqual(server.pid, pid)
        self.assertEqual(execute(server.url, "SELECT 1"), [(1,)])

    def resume(self, pid: int) -> None:
        if pid in leftover.processesOn(self.data):
            os.kill(pid, signal.SIGKILL)

    def test_staleLockOfAnotherProgram(self) -> None:
        """The process ID in a stale lock file may be anybody's by now."""
        server = self.server()
        server.start()
        server.stopNow()
        (self.data / "postmaster.pid").write_text(f"{os.getpid()}\n{self.data}\n")
        self.server().start()


class AccountTests(_Folder):
    """PostgreSQL refuses to run as root."""

    def setUp(self) -> None:
        super().setUp()
        self.folder.chmod(0o755)

    def test_withoutNamespaces(self) -> None:
        """An unprivileged account stands in, where there is no other way."""
        if os.geteuid() != 0:
            self.assertEqual(
                account.accountFor(self.folder, Path("x"), "nobody"), account.Account()
            )
            return
        self.patch(shutil, "which", lambda name: None)
        server = self.server()
        server.start()
        self.assertEqual(execute(server.url, "SELECT 1"), [(1,)])
        self.assertEqual(self.data.owner(), "nobody")
        server.stopNow()
        # Once its files are that account's, it stays with it.
        self.patch(shutil, "which", lambda name: f"/usr/bin/{name}")
        again = self.server()
        again.start()
        self.assertEqual(execute(again.url, "SELECT 1"), [(1,)])

    def test_noWay(self) -> None:
        self.patch(os, "geteuid", lambda: 0)
        self.patch(account, "_runs", lambda *arguments: False)
        self.patch(account.Account, "give", lambda self, folder: None)
        for name in ("nobody", "no-such-account"):
            error = self.assertRaises(
                StartupError, account.accountFor, self.folder, Path("x"), name
            )
            self.assertIn("ordinary user", str(error))


class WatchTests(TestCase):
    """It dies under load, and comes back."""

    timeout = 300

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="d360-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.server = EmbeddedServer(self.folder)
        self.server.start()
        self.addCleanup(self.server.stopNow)
        checkAndMigrate(self.server.url)
        self.server.watch(reactor)
        self.index: Any = PostgreSQLIndex(reactor, self.server.url, "embedded")

    async def tearDown(self) -> None:
        self.index.close()
        await self.server.stop(reactor)

    def register(self, *uids: str) -> list[Any]:
        """What has become of each, when it is known."""
        records = [record(instance=uid) for uid in uids]
        return [self.index.register(one, place(one), REPLACE) for one in records]

    async def outcomes(self, waiting: list[Any]) -> list[DatabaseUnavailable | None]:
        """Why each failed, C{None} where it is acknowledged."""
        results: Any = await DeferredList(waiting, consumeErrors=True)
        for success, result in results:
            if not success:
                result.trap(DatabaseUnavailable)
        return [None if success else result.value for success, result in results]

    async def restarted(self, pid: int) -> None:
        while not (await self.index.state()).available:
            await deferLater(reactor, 0.1)
        self.assertNotEqual(self.server.pid, pid)

    async def stored(self) -> set[str]:
        found = await drained(self.index.locate(Query(Level.PATIENT)))
        return {instance.SOPInstanceUID for instance in found}

    async def test_killedUnderLoad(self) -> None:
        """
        Wherever it was at that moment: what is acknowledged is kept, and what
        fails without a doubt is not.
        """
        pid = self.server.pid or 0
        acknowledged, refused = set(), set()
        for round in range(4):
            if round == 3:
                await self.restarted(pid)
            uids = [f"9.{round}.{n}" for n in range(100)]
            waiting = self.register(*uids)
            if round == 1:
                os.kill(pid, signal.SIGKILL)
            errors = await self.outcomes(waiting)
            for uid, error in zip(uids, errors, strict=True):
                if error is None:
                    acknowledged.add(uid)
                elif not error.uncertain:
                    refused.add(uid)
            if round in (0, 3):
                self.assertEqual(errors, [None] * 100)
        stored = await self.stored()
        self.assertEqual(acknowledged - stored, set())
        self.assertEqual(refused & stored, set())

    async def test_killedDuringABatch(self) -> None:
        """Whether a batch that was sent is kept cannot be known."""
        pid = self.server.pid or 0
        with closing(connect(self.server.url)) as other, other.cursor() as cursor:
            # Its answer cannot come: it waits for a lock when the server dies.
            cursor.execute("LOCK TABLE instances")
            waiting = self.register("9.1")
            cursor.execute(_WAITING)
            while not cursor.fetchall():
                await deferLater(reactor, 0.01)
                cursor.execute(_WAITING)
            waiting += self.register("9.2", "9.3")
            os.kill(pid, signal.SIGKILL)
            first, *others = await self.outcomes(waiting)
        assert first is not None
        self.assertTrue(first.uncertain)
        # They were not sent with it: another connection takes them, or none.
        self.assertFalse(any(error and error.uncertain for error in others))
        await self.restarted(pid)
        self.assertEqual(await self.outcomes(self.register("9.1", "9.4")), [None] * 2)
        self.assertLessEqual({"9.1", "9.4"}, await self.stored())

    async def test_idleConnectionsLost(self) -> None:
        """A restart between two queries is not noticed by who asks."""
        self.index.reading._patience = 120.0
        await self.index.totals()
        os.kill(self.server.pid or 0, signal.SIGINT)
        await deferLater(reactor, 0.05)
        self.assertEqual(await drained(self.index.match(Query(Level.STUDY))), [])

    async def test_away(self) -> None:
        """While it is away, calls fail in seconds; afterwards all is well."""
        for pool in (self.index.reading, self.index.writing):
            pool._patience = 0.5
        await self.server.stop(reactor)
        began = time.monotonic()
        one = record()
        error = await self.assertFailure(
            self.index.register(one, place(one), REPLACE), DatabaseUnavailable
        )
        self.assertFalse(error.uncertain)
        self.assertFalse((await self.index.state()).available)
        self.assertLess(time.monotonic() - began, 30)
        self.server = EmbeddedServer(self.folder)
        self.server.start()
        await self.index.register(one, place(one), REPLACE)
        # The state is not older than the last attempt to connect.
        while not (await self.index.state()).available:
            await deferLater(reactor, 0.1)
