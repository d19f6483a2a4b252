"""
The remote AEs of a running server: by HTTP, by C{d360ctl}, and as those who
call it.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import (
    HOST,
    PATIENCE,
    RunningServer,
    dcmtk,
    freePort,
    sharedServer,
)


class RemoteAEsTestCase(SynchronousTestCase):
    """Tests that ask C{server}."""

    server: RunningServer

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded answer of an HTTP call."""
        request = urllib.request.Request(
            self.server.web + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                data = response.read()
                return response.status, json.loads(data) if data else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def ctl(self, *arguments: str, status: int = 0) -> str:
        """What C{d360ctl} says."""
        answer = self.server.ctl(*arguments)
        self.assertEqual(answer.status, status, answer.output)
        self.assertNotIn("Traceback", answer.output)
        return answer.output

    def titles(self) -> list[str]:
        """Those that are registered."""
        return [one["aet"] for one in self.server.get("/api/aes")["aes"]]


class RegistryTests(RemoteAEsTestCase):
    """What is added stays."""

    def setUp(self) -> None:
        self.server = RunningServer(Path(self.mktemp()).absolute())
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_restart(self) -> None:
        """
        Added by HTTP and by C{d360ctl}, seen by both, also after a crash
        right behind the answer.
        """
        everything = ["store", "query", "retrieve", "worklist"]
        open_ = {"permissions": everything, "tls": False, "certificate": ""}
        place = {"host": "192.0.2.7", "port": 104}
        added = {"aet": "CT 1", **place, **open_}
        self.assertEqual(self.call("PUT", "/api/aes/CT%201", place), (201, added))
        digits = "0123456789abcdef" * 4
        restricted = ("--permissions=store,query", "--tls", f"--certificate={digits}")
        said = self.ctl("ae", "add", "WS1", HOST, "11113", *restricted)
        self.assertIn("permissions: store, query;", said)
        self.assertIn("d360ctl ae echo WS1", said)
        self.server.stop(signal.SIGKILL)
        self.server.start()
        self.assertEqual(
            self.ctl("ae", "list").splitlines(),
            [
                "AE TITLE  HOST        PORT  MAY                            TLS  "
                "CERTIFICATE",
                "CT 1      192.0.2.7    104  store,query,retrieve,worklist  no",
                f"WS1       127.0.0.1  11113  store,query                    yes  "
                f"{digits}",
            ],
        )
        moved = {"host": "ws1.example.org", "port": 105, **open_, "permissions": []}
        replaced = {"aet": "WS1", **moved}
        self.assertEqual(self.call("PUT", "/api/aes/WS1", moved), (200, replaced))
        self.assertEqual(
            json.loads(self.ctl("ae", "list", "--json")), {"aes": [added, replaced]}
        )
        self.assertEqual(self.call("DELETE", "/api/aes/CT%201"), (204, None))
        self.assertEqual(self.ctl("ae", "remove", "WS1"), "WS1 is removed\n")
        self.server.stop()
        self.server.start()
        self.assertEqual(self.titles(), [])
        self.assertIn("no known remote AE", self.ctl("ae", "remove", "WS1", status=1))
        self.assertNotIn("Traceback", self.server.logged())


class RefusalTests(RemoteAEsTestCase):
    """What is none is refused with the reason, by HTTP and by C{d360ctl}."""

    def setUp(self) -> None:
        self.server = sharedServer()
        self.before = self.titles()

    def tearDown(self) -> None:
        self.assertEqual(self.titles(), self.before)

    def test_titles(self) -> None:
        for title, encoded in (
            ("ABCDEFGHIJKLMNOPQ", "ABCDEFGHIJKLMNOPQ"),
            ("A\\B", "A%5CB"),
            ("A\nB", "A%0AB"),
            ("Ä", "%C3%84"),
            (" ", "%20"),
            ("", ""),
        ):
            status, answer = self.call(
                "PUT", f"/api/aes/{encoded}", {"host": HOST, "port": 104}
            )
            self.assertEqual(status, 400)
            self.assertIn("1 to 16 characters", answer["error"])
            for arguments in (("add", title, HOST, "104"), ("echo", title)):
                line = self.ctl("ae", *arguments, status=1)
                self.assertIn("1 to 16 characters", line)
                self.assertEqual(len(line.splitlines()), 1)

    def test_hosts(self) -> None:
        for host in ("", "a b", "http://ws1", "ws1:104", "192.0.2.256", "Ä", "-"):
            status, answer = self.call(
                "PUT", "/api/aes/BAD", {"host": host, "port": 104}
            )
            self.assertEqual(status, 400)
            self.assertIn("a host name or an IP address", answer["error"])
            line = self.ctl("ae", "add", "BAD", "--", host, "104", status=1)
            self.assertIn("a host name or an IP address", line)

    def test_ports(self) -> None:
        for port in (0, 65536, -1, 104.5, "104", True, None):
            status, answer = self.call(
                "PUT", "/api/aes/BAD", {"host": HOST, "port": port}
            )
            self.assertEqual(status, 400)
            self.assertIn("from 1 to 65535", answer["error"])
        for text in ("0", "65536", "-1", "dicom", ""):
            line = self.ctl("ae", "add", "BAD", HOST, text, status=1)
            self.assertIn("from 1 to 65535", line)


class KnownCallersTests(RemoteAEsTestCase):
    """C{require_known_callers}, as DCMTK's echoscu meets it (PS3.8 Table 9-21)."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        path = folder / "d360.toml"
        path.write_text("[dicom]\nrequire_known_callers = true\n")
        self.server = RunningServer(folder, f"--config={path}")
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_callers(self) -> None:
        """Seen by the next association, without a restart."""
        refused = self.server.client("echoscu", "-aet", "MODALITY")
        self.assertNotEqual(refused.status, 0)
        self.assertIn("Calling AE Title Not Recognized", refused.output)
        self.server.linesOf("d360ctl ae add", 0, 1)
        self.ctl("ae", "add", "MODALITY", HOST, "104")
        self.assertEqual(self.server.client("echoscu", "-aet", "MODALITY").status, 0)
        other = self.server.client("echoscu", "-aet", "modality")
        self.assertIn("Calling AE Title Not Recognized", other.output)
        self.ctl("ae", "remove", "MODALITY")
        again = self.server.client("echoscu", "-aet", "MODALITY")
        self.assertIn("Calling AE Title Not Recognized", again.output)


class EchoTests(RemoteAEsTestCase):
    """C-ECHO from the server to DCMTK's storescp, and to who is none."""

    def setUp(self) -> None:
        self.server = sharedServer()
        self.port = freePort()
        self.ctl("ae", "add", "ECHOED", HOST, str(self.port))
        self.addCleanup(self.call, "DELETE", "/api/aes/ECHOED")

    def storescp(self, *options: str) -> None:
        """Have a storescp listen."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        process = subprocess.Popen(
            [dcmtk("storescp"), *options, str(self.port)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, self.port)) == 0:
                    return
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_answered(self) -> None:
        self.storescp()
        status, answer = self.call("POST", "/api/aes/ECHOED/echo")
        self.assertEqual((status, answer["ok"]), (200, True))
        self.assertLess(answer["milliseconds"], 10000)
        self.assertRegex(
            self.ctl("ae", "echo", "ECHOED"), r"^ECHOED answers within [\d.]+ ms\n$"
        )

    def test_nobody(self) -> None:
        """The reason on standard error, exit status 1."""
        status, answer = self.call("POST", "/api/aes/ECHOED/echo")
        self.assertEqual((status, answer["ok"]), (200, False))
        self.assertIn(f"ECHOED at {HOST}:{self.port}", answer["error"])
        self.assertIn("refused", self.ctl("ae", "echo", "ECHOED", status=1))

    def test_rejected(self) -> None:
        self.storescp("--refuse")
        line = self.ctl("ae", "echo", "ECHOED", status=1)
        self.assertIn("rejects the association", line)

    def test_itself(self) -> None:
        """The server called by a title that is not its own: 1,1,7."""
        self.ctl("ae", "add", "ECHOED", HOST, str(self.server.port))
        line = self.ctl("ae", "echo", "ECHOED", status=1)
        self.assertIn("is not called ECHOED", line)

    def test_another(self) -> None:
        """What listens there speaks no DICOM."""
        listener = socket.create_server((HOST, self.port))
        self.addCleanup(listener.close)

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 ready\r\n")
                connection.recv(1)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        line = self.ctl("ae", "echo", "ECHOED", status=1)
        self.assertIn(f"no association with ECHOED at {HOST}:{self.port}", line)
        thread.join(PATIENCE)

    def test_unknown(self) -> None:
        status, answer = self.call("POST", "/api/aes/NOBODY/echo")
        self.assertEqual(status, 404)
        self.assertIn("'NOBODY' is no known remote AE", answer["error"])
