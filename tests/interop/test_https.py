"""HTTPS on the web port with curl and d360ctl, one server for all."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import PATIENCE, Answer, sharedFolder
from tests.interop.tls import HTTPSServer

_servers: list[HTTPSServer] = []


def httpsServer() -> HTTPSServer:
    """Started when it is first asked for, and stopped at the end."""
    if not _servers:
        server = HTTPSServer(sharedFolder("https"))
        atexit.register(server.stop)
        server.start()
        _servers.append(server)
    return _servers[0]


class HTTPSTests(SynchronousTestCase):
    """C{web.certificate}."""

    def setUp(self) -> None:
        self.server = httpsServer()
        self.ca = str(self.server.folder / "ca.pem")

    def curl(self, *arguments: str) -> Answer:
        done = subprocess.run(
            ["curl", "-sS", *arguments], capture_output=True, timeout=PATIENCE
        )
        return Answer(done.returncode, (done.stdout + done.stderr).decode())

    def ctl(self, *arguments: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "d360.admin.ctl", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return Answer(done.returncode, done.stdout + done.stderr)

    def test_curl(self) -> None:
        """Calls and the page, with the name or the address."""
        answer = self.curl("--cacert", self.ca, f"{self.server.web}/api/status")
        uses = {one["use"] for one in json.loads(answer.output)["certificates"]}
        self.assertEqual(uses, {"DICOM", "web"})
        byName = self.server.web.replace("127.0.0.1", "localhost")
        page = self.curl("--cacert", self.ca, f"{byName}/")
        self.assertIn("<title>", page.output)
        put = self.curl(
            *("--cacert", self.ca, "-X", "PUT", "-H", f"Origin: {self.server.web}"),
            *("-d", '{"host": "127.0.0.1", "port": 104}'),
            f"{self.server.web}/api/aes/WS1",
        )
        self.assertIn('"WS1"', put.output)

    def test_untrusted(self) -> None:
        """Who does not know the CA is told nothing; plain HTTP is no HTTP here."""
        self.assertEqual(self.curl(f"{self.server.web}/api/status").status, 60)
        plain = self.server.web.replace("https", "http")
        self.assertNotEqual(self.curl(f"{plain}/api/status").status, 0)

    def test_oldVersions(self) -> None:
        """TLS 1.1 and older are refused."""
        for version in ("1.0", "1.1"):
            answer = self.curl(
                *("--cacert", self.ca, "--tls-max", version),
                *("--ciphers", "DEFAULT@SECLEVEL=0", f"{self.server.web}/api/status"),
            )
            self.assertEqual(answer.status, 35, answer.output)

    def test_large(self) -> None:
        """An answer of many records, and a body of as many."""
        body = Path(self.mktemp()).absolute()
        body.write_text(json.dumps({"PatientName": "x" * 900_000}))
        items = self.curl(
            *("--cacert", self.ca, "-d", f"@{body}"),
            f"{self.server.web}/api/worklist",
        )
        self.assertIn("error", items.output)
        document = self.curl("--cacert", self.ca, f"{self.server.web}/api/openapi.json")
        self.assertGreater(len(json.loads(document.output)["paths"]), 10)

    def test_ctl(self) -> None:
        """C{--ca}; without it a line that says so."""
        answer = self.ctl("--url", self.server.web, "--ca", self.ca, "status")
        self.assertEqual(answer.status, 0, answer.output)
        self.assertIn("certificate   web, CN=pacs", answer.output)
        answer = self.ctl("--url", self.server.web, "status")
        self.assertEqual(answer.status, 1)
        self.assertIn("give the CA that signed it by --ca", answer.output)
        answer = self.ctl("--url", self.server.web.replace("https", "http"), "status")
        self.assertEqual(answer.status, 1)

    def test_metrics(self) -> None:
        """When each certificate ends."""
        answer = self.curl("--cacert", self.ca, f"{self.server.web}/metrics")
        end = self.server.ours.certificate.not_valid_after_utc.timestamp()
        for use in ("DICOM", "web"):
            name = f'd360_certificate_expiry_timestamp_seconds{{use="{use}"}}'
            (line,) = (x for x in answer.output.splitlines() if x.startswith(name))
            self.assertEqual(float(line.rpartition(" ")[2]), end)

    def test_plainWarned(self) -> None:
        """No warning of a plain web port: there is none."""
        self.assertNotIn("without TLS", self.server.logged())
