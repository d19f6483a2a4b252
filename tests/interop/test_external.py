"""
A PostgreSQL of one's own, by C{--database}: with a password, over TCP, going
away and coming back.
"""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from pydicom.dataset import Dataset
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import StartupError
from d360.index.account import accountFor
from d360.index.embedded import packagedBinaries
from tests.contracts.postgres import execute
from tests.interop import wire
from tests.interop.findset import many
from tests.interop.running import (
    HOST,
    PATIENCE,
    RunningServer,
    freePort,
    twistdCommand,
)
from tests.services.datasets import encode

PASSWORD = "correct horse"

#: Seconds within which a sender must hear that the database is away.
QUICKLY = 30.0

OUT_OF_RESOURCES = 0xA700
NOT_AUTHORIZED = 0x0124


class ExternalPostgreSQL:
    """A server below a folder, which no one watches over."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._data = folder / "data"
        self._port = freePort()
        self._process: subprocess.Popen[bytes] | None = None
        binaries = packagedBinaries()
        self._program = binaries / "postgres"
        self._account = accountFor(folder, self._program, "nobody")
        passwordFile = folder / "password"
        passwordFile.write_text(PASSWORD)
        self._account.give(folder)
        subprocess.run(
            [
                *self._account.prefix,
                str(binaries / "initdb"),
                f"--pgdata={self._data}",
                "--username=d360",
                f"--pwfile={passwordFile}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **self._account.arguments,
        )

    def url(self, database: str = "d360", password: str = PASSWORD) -> str:
        """Where it is."""
        quoted = password.replace(" ", "%20")
        return f"postgresql://d360:{quoted}@{HOST}:{self._port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with open(self._folder / "output.log", "ab") as output:
            self._process = subprocess.Popen(
                [
                    *self._account.prefix,
                    str(self._program),
                    *("-D", str(self._data), "-p", str(self._port)),
                    *("-c", f"listen_addresses={HOST}"),
                    *("-c", "unix_socket_directories="),
                ],
                stdout=output,
                stderr=output,
                cwd="/",
                **self._account.arguments,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                execute(self.url("postgres"), "SELECT 1")
                return
            except StartupError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """A fast shutdown, which ends all connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None


class ExternalTests(SynchronousTestCase):
    """Conformance 5.2.3.1, 7.2.2.3: out of resources, and back again."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        self.postgres = ExternalPostgreSQL(folder / "postgres")
        self.addCleanup(self.postgres.stop)
        self.postgres.start()
        execute(self.postgres.url("postgres"), "CREATE DATABASE d360")
        self.folder = folder
        self.server = RunningServer(folder, f"--database={self.postgres.url()}")
        self.addCleanup(self.server.stop)

    def open(self) -> wire.Peer:
        """An association, closed at the end."""
        peer = wire.Peer(self.server)
        self.addCleanup(peer.socket.close)
        peer.associate([(wire.CT, [wire.EXPLICIT]), (wire.STUDY_FIND, [wire.EXPLICIT])])
        return peer

    def sendStore(self, peer: wire.Peer, number: int) -> None:
        """Send an instance."""
        (dataset,) = many("EXTERNAL", number, 1)
        peer.send(
            wire.store(1, number, wire.CT, dataset.SOPInstanceUID, encode(dataset))
        )

    def store(self, peer: wire.Peer, number: int) -> int:
        """The status of a C-STORE."""
        self.sendStore(peer, number)
        return peer.response().status

    def sendFind(self, peer: wire.Peer) -> None:
        """Ask for all studies."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.StudyInstanceUID = ""
        peer.send(wire.find(3, 1000, wire.STUDY_FIND, encode(query)))

    def find(self, peer: wire.Peer) -> list[int]:
        """The statuses of a C-FIND for all studies."""
        self.sendFind(peer)
        statuses = [peer.response().status]
        while statuses[-1] == 0xFF00:
            statuses.append(peer.response().status)
        return statuses

    def test_awayAndBack(self) -> None:
        """
        While it is away, A700 comes quickly and nothing is half stored; when
        it is back, no restart is needed.
        """
        self.server.start()
        self.assertFalse((self.folder / "data" / "postgresql").exists())
        peer = self.open()
        self.assertEqual(self.store(peer, 1), 0)
        self.assertEqual(self.find(peer), [0xFF00, 0])
        database = self.server.get("/api/status")["database"]
        self.assertEqual((database["available"], database["kind"]), (True, "external"))

        self.postgres.stop()
        other = self.open()
        began = time.monotonic()
        self.sendStore(peer, 2)
        self.sendFind(other)
        status = self.server.ctl("status")
        for asking in (peer, other):
            self.assertEqual(asking.response().status, OUT_OF_RESOURCES)
        self.assertLess(time.monotonic() - began, QUICKLY)
        self.assertIn("external PostgreSQL, NOT AVAILABLE", status.output)
        self.assertEqual(status.status, 0)
        self.assertEqual(self.server.client("echoscu").status, 0)
        deadline = time.monotonic() + PATIENCE
        while self.server.incoming():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertEqual(len(list(self.server.archived())), 1)

        self.postgres.start()
        deadline = time.monotonic() + PATIENCE
        while self.store(peer, 4) != 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertEqual(self.find(peer), [0xFF00, 0xFF00, 0])
        self.assertEqual(self.find(self.open()), [0xFF00, 0xFF00, 0])
        self.assertEqual(len(list(self.server.archived())), 2)
        peer.release()
        self.assertEqual(self.server.stop(), 0)
        log = self.server.logged()
        self.assertNotIn("Traceback", log)
        self.assertNotIn("horse", log)

    def test_notPermitted(self) -> None:
        """
        Who opened an association while nobody could know what it may do may
        still do no more than that when the database is back.
        """
        self.server.start()
        added = ("ae", "add", "PEER", HOST, "104", "--permissions", "query")
        self.assertEqual(self.server.ctl(*added).status, 0)
        self.postgres.stop()
        peer = self.open()
        self.assertEqual(self.store(peer, 1), OUT_OF_RESOURCES)
        self.postgres.start()
        deadline = time.monotonic() + PATIENCE
        while self.find(peer) != [0]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertEqual(self.store(peer, 2), NOT_AUTHORIZED)
        self.assertEqual(list(self.server.archived()), [])
        self.assertEqual(self.server.incoming(), [])

    def test_startAgain(self) -> None:
        """The index is in the database, also after a restart of D360."""
        self.server.start()
        self.assertEqual(self.store(self.open(), 1), 0)
        self.server.stop()
        self.server.start()
        self.assertEqual(self.find(self.open()), [0xFF00, 0])

    def refused(self, url: str) -> str:
        """The one line of a start that fails."""
        done = subprocess.run(
            twistdCommand("--port=0", "--web-port=0", f"--database={url}"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        (line,) = done.stderr.strip().splitlines()
        return line

    def test_wrongPassword(self) -> None:
        """One line, exit status 1, and no password in it."""
        line = self.refused(self.postgres.url(password="wrong horse"))
        self.assertIn("password", line)
        self.assertNotIn("horse", line)

    def test_noSuchDatabase(self) -> None:
        """The line names the database."""
        line = self.refused(self.postgres.url("elsewhere"))
        self.assertIn("elsewhere", line)
        self.assertNotIn("horse", line)
