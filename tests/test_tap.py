"""Tests for L{d360.tap}: the command line, and the server put together."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from d360 import composition
from d360.errors import StartupError
from d360.logs import Logger
from d360.model import Duplicates
from d360.server import Server
from d360.tap import Options, makeService
from d360.ul.factory import UpperLayerFactory
from d360.workers.doorway import Doorway


class OptionsTests(SynchronousTestCase):
    """C{twistd d360}'s options."""

    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def refused(self, *arguments: str) -> str:
        """The one line of a mistake."""
        ended = self.assertRaises(SystemExit, self.parse, *arguments)
        line = str(ended.code)
        self.assertTrue(line.startswith("twistd d360: "), line)
        self.assertTrue(line.endswith("; see twistd d360 --help"), line)
        self.assertNotIn("\n", line)
        return line

    def test_defaults(self) -> None:
        """Conformance 4.4.3."""
        configuration = self.parse().configuration
        self.assertEqual(configuration.dicom.port, 104)
        self.assertEqual(configuration.dicom.aeTitle, "D360PACS")
        self.assertEqual(configuration.dicom.address, "127.0.0.1")
        self.assertEqual(configuration.web.port, 8360)
        self.assertEqual(configuration.dataDirectory, Path.cwd() / "d360-data")
        self.assertEqual(configuration.database.url, "")

    def test_all(self) -> None:
        """Each of them has its place in the configuration."""
        configuration = self.parse(
            "--port=11112",
            "--address=0.0.0.0",
            "--aet=PACS",
            "--web-port=0",
            "--data-directory=/srv/d360",
            "--database=postgresql://d360@host/d360",
        ).configuration
        self.assertEqual(configuration.dicom.port, 11112)
        self.assertEqual(configuration.dicom.address, "0.0.0.0")
        self.assertEqual(configuration.dicom.aeTitle, "PACS")
        self.assertEqual(configuration.web.port, 0)
        self.assertEqual(configuration.dataDirectory, Path("/srv/d360"))
        self.assertEqual(configuration.database.url, "postgresql://d360@host/d360")

    def test_short(self) -> None:
        """The short forms."""
        configuration = self.parse("-p11112", "-aPACS", "-w1", "-dx").configuration
        self.assertEqual(configuration.dicom.port, 11112)
        self.assertEqual(configuration.dicom.aeTitle, "PACS")
        self.assertEqual(configuration.web.port, 1)
        self.assertEqual(configuration.dataDirectory, Path.cwd() / "x")

    def test_file(self) -> None:
        """They win over the file; the rest is as the file has it."""
        path = Path(self.mktemp())
        path.write_text('[dicom]\nport = 1\nae_title = "F"\nduplicates = "keep"\n')
        configuration = self.parse(f"--config={path}", "--port=2").configuration
        self.assertEqual(configuration.dicom.port, 2)
        self.assertEqual(configuration.dicom.aeTitle, "F")
        self.assertIs(configuration.dicom.duplicates, Duplicates.KEEP)

    def test_mistakes(self) -> None:
        """One line for each, and no traceback."""
        for argument, words in (
            ("--port=dicom", "--port 'dicom' is not a number"),
            ("--port=-1", "is not a number"),
            ("--port=١", "is not a number"),
            ("--port=70000", "from 0 to 65535"),
            ("--web-port=", "--web-port '' is not a number"),
            ("--aet=", "1 to 16 characters"),
            ("--address=localhost", "an IP address"),
            ("--database=mysql://x", "postgresql://"),
            ("--config=no-such-file", "cannot read"),
            ("--prot=1", "not recognized"),
            ("start", "unexpected argument 'start'"),
        ):
            self.assertIn(words, self.refused(argument))

    def test_version(self) -> None:
        """C{--version} says which it is, and ends."""
        self.patch(sys, "stdout", io.StringIO())
        ended = self.assertRaises(SystemExit, self.parse, "--version")
        self.assertFalse(ended.code)
        self.assertRegex(sys.stdout.getvalue(), r"^D360 \d+\.\d+")


class ServiceTestCase(SynchronousTestCase):
    """A server that is put together."""

    def setUp(self) -> None:
        self.patch(sys, "excepthook", sys.excepthook)
        self.patch(Logger, "threshold", Logger.threshold)
        self.data = Path(self.mktemp()).absolute()

    def make(self, text: str = "", workers: int = 1) -> Server:
        path = Path(self.mktemp())
        path.write_text(f"workers = {workers}\n{text}")
        options = Options()
        options.parseOptions(
            [f"--config={path}", "--aet=PACS", f"--data-directory={self.data}"]
        )
        return makeService(options)


class ServiceTests(ServiceTestCase):
    """L{makeService} puts a server together and opens nothing."""

    def test_parts(self) -> None:
        """Both ports and what they serve."""
        server = self.make("[dicom]\nshutdown_timeout = 7\n")
        self.assertEqual(server.name, "d360")
        dicom, web = server._parts.ports._listeners
        self.assertIsInstance(dicom.factory, UpperLayerFactory)
        self.assertIsInstance(web.factory, Site)
        self.assertEqual((dicom.port, web.port), (104, 8360))
        self.assertEqual((dicom.option, web.option), ("--port", "--web-port"))
        self.assertEqual(server._parts.shutdownTimeout, 7)
        self.assertIn("PACS", server._parts.ready)
        self.assertFalse(self.data.exists())

    def test_workers(self) -> None:
        """Connections are handed over where others serve them."""
        server = self.make("[dicom]\nshutdown_timeout = 7\n", workers=3)
        dicom, web = server._parts.ports._listeners
        self.assertIsInstance(dicom.factory, Doorway)
        self.assertIsInstance(web.factory, Site)
        self.assertEqual((dicom.port, dicom.option), (104, "--port"))
        # Which the workers keep to themselves.
        self.assertGreater(server._parts.shutdownTimeout, 7)
        self.assertFalse(self.data.exists())

    def test_database(self) -> None:
        """An embedded PostgreSQL unless there is a URL."""
        self.assertEqual(self.make()._parts.database.kind, "embedded")
        server = self.make('[database]\nurl = "postgresql://d360@host/d360"\n')
        self.assertEqual(server._parts.database.kind, "external")
        self.assertFalse(self.data.exists())

    def test_threshold(self) -> None:
        """The level of the log is set."""
        self.make('[log]\nlevel = "error"\n')
        self.assertEqual(Logger.threshold.name, "error")

    def test_errors(self) -> None:
        """A StartupError is one line for a person; all else has its traceback."""
        self.make()
        errors = io.StringIO()
        shown: list[object] = []
        self.patch(sys, "__stderr__", errors)
        self.patch(sys, "__excepthook__", lambda *error: shown.append(error[1]))
        expected = StartupError("cannot listen: choose another port")
        sys.excepthook(StartupError, expected, None)
        self.assertEqual(
            errors.getvalue(), "twistd d360: cannot listen: choose another port\n"
        )
        unexpected = ZeroDivisionError("of a test")
        sys.excepthook(ZeroDivisionError, unexpected, None)
        self.assertEqual(shown, [unexpected])

    def test_disk(self) -> None:
        """There are threads for the disk, for more than one association."""
        self.assertGreater(composition.DISK_THREADS, 1)


class WatchingTests(ServiceTestCase):
    """What the server shows of itself is put in its place."""

    def test_calls(self) -> None:
        """Each has its path, and C{/metrics} stands beside C{/api}."""
        _, web = self.make()._parts.ports._listeners
        children = web.factory.resource.children
        self.assertIn(b"metrics", children)
        for name in (b"rates", b"associations", b"errors", b"settings"):
            self.assertIn(name, children[b"api"].children)

    def test_tokens(self) -> None:
        """The one for everything, and the one that only watches."""
        server = self.make('[web]\ntoken = "a secret"\nmonitoring_token = "another"\n')
        _, web = server._parts.ports._listeners
        web.factory.timeOut = None
        for method, path, token, code in (
            ("GET", "/api/rates", "another", 200),
            ("GET", "/api/settings", "another", 403),
            ("GET", "/api/settings", "a secret", 200),
            ("POST", "/metrics", "another", 403),
            ("POST", "/metrics", "a secret", 405),
            ("GET", "/metrics", "neither", 401),
        ):
            protocol, transport = web.factory.buildProtocol(None), StringTransport()
            protocol.makeConnection(transport)
            lines = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"
            request = f"{method} {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"
            protocol.dataReceived(request.encode())
            self.assertEqual(transport.value().split()[1], b"%d" % code, path)

    def metrics(self, workers: int) -> str:
        """What is there before anything has begun."""
        _, web = self.make(workers=workers)._parts.ports._listeners
        resource = web.factory.resource.children[b"metrics"].children[b""]
        return str(resource._exposition.text(False, None).decode())

    def test_workersMetrics(self) -> None:
        """The same, and what is of each worker."""
        text = self.metrics(2)
        for line in (
            "d360_associations_accepted_total 0.0",
            'd360_queue_length{queue="disk"} 0.0',
            'd360_worker_cpu_seconds_total{worker="2"} 0.0',
            'd360_worker_restarts_total{worker="2"} 0.0',
        ):
            self.assertIn(f"{line}\n", text)
        self.assertNotIn("worker", self.metrics(1))

    def test_metrics(self) -> None:
        """What is read where it is kept can be read."""
        text = self.metrics(1)
        for line in (
            "d360_associations_live 0.0",
            "d360_associations_accepted_total 0.0",
            'd360_queue_length{queue="disk"} 0.0',
            'd360_queue_length{queue="registration"} 0.0',
            'd360_queue_length{queue="reading connection"} 0.0',
            'd360_database_connections{pool="writing",state="idle"} 0.0',
            "d360_disk_low 0.0",
            "d360_disk_min_free_bytes 1.073741824e+09",
        ):
            self.assertIn(f"{line}\n", text)

    def test_log(self) -> None:
        """Warnings go to the file, and to C{/api/errors}."""
        server = self.make()
        _, web = server._parts.ports._listeners
        errors = web.factory.resource.children[b"api"].children[b"errors"]
        observer = server._parts.makeLogObserver()
        logger = Logger("tests")
        logger.observer = observer
        logger.warn("it is {what}", what="late")
        [event] = errors._events.recent()
        self.assertEqual(event.text, "it is late")
        path = self.data / "log" / "d360.log"
        self.assertIn("it is late", path.read_text())
