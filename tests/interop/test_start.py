"""
How the server starts, stops, and says why it cannot: as a person at a
terminal sees it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.files import makeCT
from tests.interop.running import PATIENCE, RunningServer, dcmtk, twistdCommand


class HelpTests(SynchronousTestCase):
    """C{twistd d360} is known wherever one stands."""

    def run_(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        folder = Path(self.mktemp())
        folder.mkdir()
        return subprocess.run(
            twistdCommand(*arguments),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def test_help(self) -> None:
        """C{--help} names each option of the outside interface."""
        done = self.run_("--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        for option in (
            "config",
            "port",
            "address",
            "aet",
            "web-port",
            "data-directory",
            "database",
        ):
            self.assertIn(f"--{option}=", done.stdout)

    def test_version(self) -> None:
        """C{--version} says which it is."""
        self.assertIn("D360 ", self.run_("--version").stdout)

    def test_ctl(self) -> None:
        """C{d360ctl} is installed, and has examples in its help."""
        program = Path(sys.executable).with_name("d360ctl")
        done = subprocess.run([program, "--help"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("examples:", done.stdout)


class RefusalTests(SynchronousTestCase):
    """What it cannot start with: one clear line, and exit status 1."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def refused(self, *arguments: str, wrapper: Sequence[str] = ()) -> str:
        """The last line of a start that fails."""
        options = ["--port=0", "--web-port=0", "--data-directory=data", *arguments]
        done = subprocess.run(
            [*wrapper, *twistdCommand(*options)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("twistd d360: "), lines[0])
        return lines[0]

    def test_unknownOption(self) -> None:
        """An option that there is not."""
        self.assertIn("option --prot not recognized", self.refused("--prot=1"))
        self.assertIn("unexpected argument 'start'", self.refused("start"))

    def test_wrongValue(self) -> None:
        """A value that is not right."""
        self.assertIn("from 0 to 65535", self.refused("--port=70000"))
        self.assertIn("not a number", self.refused("--port=dicom"))
        self.assertIn("1 to 16 characters", self.refused("--aet=ABCDEFGHIJKLMNOPQ"))

    def test_configuration(self) -> None:
        """A file that is not there, or says what is not known."""
        self.assertIn("cannot read", self.refused("--config=nowhere.toml"))
        path = self.folder / "d360.toml"
        path.write_text("[dicom]\nprot = 104\n")
        self.assertIn("unknown key 'dicom.prot'", self.refused(f"--config={path}"))

    def test_portInUse(self) -> None:
        """A port that another listens on."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            line = self.refused(f"--port={port}")
            self.assertIn(f"DICOM on 127.0.0.1:{port}: the port is in use", line)
            self.assertIn("--web-port", self.refused(f"--web-port={port}"))

    def test_noPrivilege(self) -> None:
        """Port 104 for an ordinary user."""
        setting = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        if int(setting.read_text()) <= 104:
            raise AssertionError(f"{setting} lets each user have port 104")
        # root without this capability is, for ports, an ordinary user.
        without = ["setpriv", "--bounding-set=-net_bind_service"]
        line = self.refused("--port=104", wrapper=without if os.geteuid() == 0 else ())
        self.assertIn("needs a privilege", line)
        self.assertIn("--port", line)

    def test_noSuchAddress(self) -> None:
        """An address that is none of this machine's."""
        self.assertIn("an address of this machine", self.refused("--address=192.0.2.1"))

    def test_unwritableData(self) -> None:
        """A data directory that cannot be written: here, below a file."""
        (self.folder / "file").write_text("")
        line = self.refused(f"--data-directory={self.folder}/file/data")
        self.assertIn("cannot write the data directory", line)

    def test_unreachableDatabase(self) -> None:
        """A database that does not answer; its password is not shown."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            line = self.refused(
                f"--database=postgresql://d360:secret@127.0.0.1:{port}/d360"
            )
        self.assertIn("database", line)
        self.assertIn(str(port), line)
        self.assertNotIn("secret", line)

    def test_dataInUse(self) -> None:
        """Two servers on one data directory."""
        server = RunningServer(self.folder)
        server.start()
        self.addCleanup(server.stop)
        self.assertIn("another D360", self.refused())
        self.assertEqual(server.client("echoscu").status, 0)

    def test_dataOfAnotherPostgreSQL(self) -> None:
        """Data of another major version of PostgreSQL is left alone."""
        server = RunningServer(self.folder)
        server.start()
        server.stop()
        (version,) = (
            self.folder.glob("data/postgresql/**/PG_VERSION")[:1]
            if False
            else [
                min(
                    self.folder.glob("data/postgresql/**/PG_VERSION"),
                    key=lambda p: len(p.parts),
                )
            ]
        )
        version.write_text("17\n")
        line = self.refused()
        self.assertIn("PostgreSQL 17", line)
        self.assertEqual(version.read_text(), "17\n")


class LifeTests(SynchronousTestCase):
    """Starting, stopping, dying, and what is there afterwards."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.server = RunningServer(self.folder)
        self.addCleanup(self.server.stop)
        self.files = self.folder / "files"
        makeCT(self.files, 5)

    def found(self) -> list[str]:
        """The Number of Study Related Instances of all studies."""
        responses = self.server.find(
            "STUDY", "StudyInstanceUID", "NumberOfStudyRelatedInstances"
        )
        self.assertEqual(responses.statuses[-1:], ["0000"])
        return [match["0020,1208"] for match in responses.matches]

    def test_stopAndStart(self) -> None:
        """It stops with exit status 0, and all is there when it runs again."""
        self.server.start()
        self.assertEqual(self.server.store("+sd", str(self.files)).status, 0)
        self.assertEqual(self.server.stop(), 0)
        # Whatever it ends in order is no error, its child processes neither.
        self.assertEqual(
            re.findall(r"#(?:error|critical)\].*", self.server.logged()), []
        )
        self.server.start()
        self.assertEqual(self.found(), ["5"])

    def test_killed(self) -> None:
        """After SIGKILL too; nothing of it is left running."""
        self.server.start()
        self.assertEqual(self.server.store("+sd", str(self.files)).status, 0)
        self.server.stop(signal.SIGKILL)
        self.server.start()
        self.assertEqual(self.found(), ["5"])
        self.assertEqual(self.server.stop(), 0)

    def test_databaseKilled(self) -> None:
        """Its PostgreSQL is started again when it dies."""
        self.server.start()
        self.assertEqual(self.server.store("+sd", str(self.files)).status, 0)
        pidFile = next(self.folder.glob("data/postgresql/**/postmaster.pid"))
        os.kill(int(pidFile.read_text().split()[0]), signal.SIGKILL)
        self.server.waitFor(re.compile("PostgreSQL ended"))
        deadline = time.monotonic() + PATIENCE
        while self.server.find("STUDY", "StudyInstanceUID").statuses[-1:] != ["0000"]:
            self.assertLess(time.monotonic(), deadline)
        self.assertTrue(self.server.get("/api/status")["database"]["available"])
        self.assertEqual(self.found(), ["5"])

    def test_leftBehind(self) -> None:
        """What was being received when it died is swept at the start."""
        self.server.start()
        self.server.stop()
        incoming = self.folder / "data" / "archive" / ".incoming"
        (incoming / "0123456789abcdef.part").write_bytes(b"half")
        self.server.start()
        self.assertEqual(self.server.incoming(), [])

    def test_log(self) -> None:
        """The log file has time stamps, UIDs, and no patient."""
        self.server.start()
        self.server.store("+sd", str(self.files))
        self.server.find("STUDY", "PatientName=Rossi*", "StudyInstanceUID")
        self.server.stop()
        text = (self.folder / "data" / "log" / "d360.log").read_text()
        for line in text.splitlines():
            self.assertRegex(line, r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|\t)")
        name = dcmread(next(self.files.iterdir())).PatientName
        self.assertNotIn(str(name.family_name), text)
        self.assertNotIn("Rossi", text)
        self.assertIn("C-STORE", text)

    def test_stopDuringStore(self) -> None:
        """SIGTERM lets the operation under way end; what got 0000 is kept."""
        makeCT(self.folder / "many", 300)
        self.server.start()
        sender = subprocess.Popen(
            [dcmtk("storescu"), "-v", "-aec", "D360PACS", "+sd"]
            + ["127.0.0.1", str(self.server.port), str(self.folder / "many")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.server.waitFor(re.compile("C-STORE 20"))
        self.assertEqual(self.server.stop(), 0)
        output, _ = sender.communicate(timeout=PATIENCE)
        acknowledged = output.count("Received Store Response (Success)")
        self.assertGreater(acknowledged, 0)
        self.server.start()
        self.assertGreaterEqual(sum(map(int, self.found())), acknowledged)
