"""Tests for L{d360.admin.ctl}."""

from __future__ import annotations

import http.client
import io
import json
import ssl
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from d360.admin import ctl, ctlarchive
from tests.tls.making import issue

STATUS = {
    "version": "1.2",
    "ae_title": "D360PACS",
    "uptime_seconds": 90061.5,
    "associations": {"live": 3, "accepted": 14},
    "workers": [{"number": 1, "answers": True}, {"number": 2, "answers": False}],
    "certificates": [
        {
            "use": "DICOM",
            "subject": "CN=pacs",
            "fingerprint": "ab12",
            "expires": "2026-03-01T12:00:00Z",
            "days_left": 12,
        }
    ],
    "counts": {
        "patients": 1,
        "studies": 2,
        "series": 3,
        "instances": 4,
        "size": 1536,
    },
    "database": {
        "available": True,
        "kind": "embedded",
        "version": "18.6",
        "schema": 1,
    },
    "disk": {"total": 3 << 40, "free": 5 << 30, "min_free": 1 << 30, "low": False},
    "audit": {
        "file": True,
        "syslog": True,
        "failing": False,
        "written": 7,
        "waiting": 1,
        "dropped": 0,
    },
}

TEXT = """\
D360 1.2, D360PACS
  up            1 d 01:01:01
  associations  3 open, 14 since the start
  workers       1 of 2 serve
  database      embedded PostgreSQL 18.6
  certificate   DICOM, CN=pacs, until 2026-03-01, 12 days left
  stored        1 patients, 2 studies, 3 series, 4 instances, 1.5 KiB
  disk          5.0 GiB of 3.0 TiB free
  audit trail   file and syslog, 7 messages written
"""

PROGRESS = {
    "running": False,
    "counted": True,
    "total": 5,
    "done": 5,
    "added": 3,
    "unchanged": 2,
    "failed": 0,
    "missing": 0,
    "pruned": 0,
    "seconds": 61.0,
    "error": "",
}


@frozen
class Response:
    """What C{http.client} returns."""

    status: int
    body: bytes

    def read(self) -> bytes:
        return self.body


class Connections:
    """
    In place of C{http.client.HTTPConnection}.

    @ivar answers: by method and path: a status and a body, or an error to
        raise; of a list, one after the other.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, Any, dict[str, str]]] = []
        self.places: list[Any] = []
        self.opened = self.closed = 0

    def __call__(self, *place: Any, timeout: float) -> Connections:
        self.places.append(place)
        self.opened += 1
        return self

    def request(
        self, method: str, path: str, body: str | bytes, headers: dict[str, str]
    ) -> None:
        content = body if isinstance(body, bytes) else json.loads(body)
        self.calls.append((f"{method} {path}", content, headers))

    def getresponse(self) -> Response:
        answer = self.answers[self.calls[-1][0]]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        status, body = answer
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return Response(status, body)

    def close(self) -> None:
        self.closed += 1


class Unusable:
    """In place of C{http.client.HTTPConnection}, for a host that it refuses."""

    def __init__(self, *place: Any, timeout: float) -> None:
        raise http.client.InvalidURL("URL can't contain control characters")


class CtlTestCase(SynchronousTestCase):
    """Runs the command in this process."""

    def setUp(self) -> None:
        self.connections = Connections()
        self.patch(http.client, "HTTPConnection", self.connections)
        self.patch(ctlarchive.time, "sleep", lambda seconds: None)
        self.patch(ctl.os, "environ", {})
        self.connections.answers["GET /api/status"] = (200, STATUS)

    def run_(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and error."""
        output, errors = io.StringIO(), io.StringIO()
        self.patch(ctl.sys, "stdout", output)
        self.patch(ctl.sys, "stderr", errors)
        try:
            status = ctl.main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        self.assertEqual(self.connections.opened, self.connections.closed)
        return status, output.getvalue(), errors.getvalue()

    def refused(self, *arguments: str) -> str:
        """The one line of a command that is not done."""
        status, output, errors = self.run_(*arguments)
        self.assertEqual((status, output), (1, ""))
        (line,) = errors.splitlines()
        self.assertTrue(line.startswith("d360ctl"), line)
        return line


class StatusTests(CtlTestCase):
    """C{d360ctl status}."""

    def test_text(self) -> None:
        """For people."""
        self.assertEqual(self.run_("status"), (0, TEXT, ""))

    def test_json(self) -> None:
        """For scripts; the option stands before the command or behind it."""
        for arguments in (("--json", "status"), ("status", "--json")):
            status, output, errors = self.run_(*arguments)
            self.assertEqual((status, errors), (0, ""))
            self.assertEqual(json.loads(output), STATUS)

    def test_databaseAway(self) -> None:
        """The database is away: said, and no error of the command."""
        away = {"available": False, "kind": "external", "version": "", "schema": 0}
        answer = {**STATUS, "database": away, "counts": None}
        self.connections.answers["GET /api/status"] = (200, answer)
        status, output, _ = self.run_("status")
        self.assertEqual(status, 0)
        self.assertIn("  database      external PostgreSQL, NOT AVAILABLE\n", output)
        self.assertNotIn("stored", output)

    def test_diskLow(self) -> None:
        """Storing is refused for want of space: said."""
        answer = {**STATUS, "disk": {**STATUS["disk"], "low": True}}
        self.connections.answers["GET /api/status"] = (200, answer)
        _, output, _ = self.run_("status")
        self.assertIn("of 3.0 TiB free, TOO LITTLE: NOTHING IS STORED\n", output)

    def test_expired(self) -> None:
        """A certificate that has ended is seen."""
        expired = {**STATUS["certificates"][0], "days_left": -1}  # type: ignore[index]
        answer = {**STATUS, "certificates": [expired]}
        self.connections.answers["GET /api/status"] = (200, answer)
        _, output, _ = self.run_("status")
        self.assertIn("until 2026-03-01, EXPIRED\n", output)


class SecureTests(CtlTestCase):
    """A web port with TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.contexts: list[ssl.SSLContext] = []

        def secure(*place: Any, timeout: float, context: ssl.SSLContext) -> Connections:
            self.contexts.append(context)
            return self.connections(*place, timeout=timeout)

        self.patch(http.client, "HTTPSConnection", secure)

    def write(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def test_ca(self) -> None:
        """By option or environment; certificates and names are checked."""
        ca = self.write(issue("CA", isCA=True).pem)
        url = "https://pacs:8360"
        self.assertEqual(self.run_("--url", url, "--ca", ca, "status")[0], 0)
        self.patch(ctl.os, "environ", {"D360_URL": url, "D360_CA": ca})
        self.assertEqual(self.run_("status")[0], 0)
        for context in self.contexts:
            (found,) = context.get_ca_certs()
            self.assertEqual(found["subject"], ((("commonName", "CA"),),))
            self.assertEqual(context.verify_mode, ssl.CERT_REQUIRED)
            self.assertTrue(context.check_hostname)

    def test_badCA(self) -> None:
        """A file that is missing, or no PEM."""
        for path in (self.mktemp(), self.write("nothing")):
            line = self.refused("--url", "https://pacs", "--ca", path, "status")
            self.assertIn(f"cannot read the CA {path!r}", line)

    def test_untrusted(self) -> None:
        """The line says what to give."""
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        self.connections.answers["GET /api/status"] = error
        line = self.refused("--url", "https://pacs", "status")
        self.assertIn("self-signed certificate", line)
        self.assertIn("--ca", line)

    def test_noTLS(self) -> None:
        """HTTPS to a port of HTTP."""
        error = ssl.SSLError(1, "wrong version number")
        self.connections.answers["GET /api/status"] = error
        line = self.refused("--url", "https://pacs", "status")
        self.assertIn("does not speak TLS", line)


class CallTests(CtlTestCase):
    """Where it asks, and what may go wrong there."""

    def test_url(self) -> None:
        """The option wins over the environment, that over the default."""
        self.run_("status")
        self.patch(ctl.os, "environ", {"D360_URL": "http://a:1", "D360_TOKEN": "t"})
        self.run_("status")
        self.run_("--url", "http://b:2", "status", "--token", "u")
        self.run_("--url", "http://[::1]:3", "status")
        self.run_("--url", "http://user@pacs/", "status")
        self.assertEqual(
            self.connections.places,
            [("127.0.0.1", 8360), ("a", 1), ("b", 2), ("::1", 3), ("pacs", None)],
        )
        sent = [
            headers.get("Authorization") for _, _, headers in self.connections.calls
        ]
        self.assertEqual(sent, [None, "Bearer t", "Bearer u", "Bearer t", "Bearer t"])

    def test_badURL(self) -> None:
        """One line for what is no URL."""
        for url in (
            "localhost:8360",
            "ftp://x",
            "http://",
            "http://[::1",
            "http://x:port",
            "http://x:99999",
            "",
        ):
            self.assertIn("is no URL", self.refused("--url", url, "status"))
        self.assertEqual(self.connections.opened, 0)

    def test_noAnswer(self) -> None:
        """Nobody is there, or nobody answers in time."""
        for error in (ConnectionRefusedError("refused"), TimeoutError("timed out")):
            self.connections.answers["GET /api/status"] = error
            line = self.refused("status")
            self.assertIn("no D360 answers at http://127.0.0.1:8360", line)
            self.assertIn("--url", line)

    def test_another(self) -> None:
        """What answers is another program."""
        for answer in (
            http.client.BadStatusLine("220 FTP"),
            (200, b"<html>"),
            (200, b"\xff\xfe"),
            (200, []),
            (200, "text"),
            (404, "not here"),
        ):
            self.connections.answers["GET /api/status"] = answer
            self.assertIn("is no D360", self.refused("status"))

    def test_notToBeSent(self) -> None:
        """A token or a host that HTTP cannot carry: one line."""
        for error in (
            ValueError("Invalid header value b'Bearer a\\nb'"),
            UnicodeError("encoding with 'idna' codec failed"),
        ):
            self.connections.answers["GET /api/status"] = error
            line = self.refused("status", "--token", "secret")
            self.assertIn("--url", line)
            self.assertIn("--token", line)
            self.assertNotIn("Bearer", line)
        self.patch(http.client, "HTTPConnection", Unusable)
        self.assertIn("is no URL", self.refused("--url", "http://a b", "status"))

    def test_token(self) -> None:
        """As its UTF-8, which is what the server compares with."""
        for token in ("geheim", "schlüssel€"):
            self.run_("status", "--token", token)
            _, _, headers = self.connections.calls[-1]
            sent = headers["Authorization"].encode("latin-1")
            self.assertEqual(sent, f"Bearer {token}".encode())

    def test_cannotWrite(self) -> None:
        """What cannot be printed is said, and is no success."""
        self.patch(ctl.sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
        errors = io.StringIO()
        self.patch(ctl.sys, "stderr", errors)
        self.assertEqual(ctl.main(["status"]), 1)
        (line,) = errors.getvalue().splitlines()
        self.assertIn("d360ctl: No space left on device", line)

    def test_refused(self) -> None:
        """The server's reason is shown."""
        self.connections.answers["GET /api/status"] = (401, {"error": "give the token"})
        self.assertEqual(self.refused("status"), "d360ctl: give the token")
        self.connections.answers["GET /api/status"] = (500, {})
        self.assertEqual(self.refused("status"), "d360ctl: HTTP status 500")

    def test_usage(self) -> None:
        """A wrong command line ends with 1 and one line."""
        for arguments in ((), ("stauts",), ("status", "--prune"), ("status", "x")):
            self.assertIn("--help", self.refused(*arguments))

    def test_help(self) -> None:
        """C{--help} and C{--version} end with 0."""
        status, output, _ = self.run_("--help")
        self.assertEqual(status, 0)
        self.assertIn("examples:", output)
        status, output, _ = self.run_("--version")
        self.assertEqual(status, 0)
        self.assertRegex(output, r"^D360 \d")


class ReindexTests(CtlTestCase):
    """C{d360ctl reindex}."""

    def answer(self, *progresses: Any) -> None:
        """How it goes, call by call."""
        self.connections.answers |= {
            "POST /api/reindex": (202, {"progress": None}),
            "GET /api/reindex": [(200, {"progress": p}) for p in progresses],
            "DELETE /api/reindex": (200, {"progress": None}),
        }

    def test_done(self) -> None:
        """Progress goes to standard error, and the end is success."""
        self.answer(
            {**PROGRESS, "running": True, "done": 1, "counted": False}, PROGRESS
        )
        status, output, errors = self.run_("reindex")
        self.assertEqual((status, output), (0, ""))
        self.assertEqual(
            errors.splitlines(),
            [
                "1/5+ files, 3 added, 2 known, 0 failed, 00:01:01",
                "5/5 files, 3 added, 2 known, 0 failed, 00:01:01",
            ],
        )
        self.assertEqual(
            self.connections.calls[0][:2],
            ("POST /api/reindex", {"prune": False, "full": False}),
        )

    def test_options(self) -> None:
        """C{--prune} and C{--full} are asked for."""
        self.answer(PROGRESS)
        self.run_("reindex", "--prune", "--full")
        self.assertEqual(self.connections.calls[0][1], {"prune": True, "full": True})

    def test_json(self) -> None:
        """Only the end, as JSON."""
        self.answer({**PROGRESS, "running": True}, PROGRESS)
        status, output, errors = self.run_("reindex", "--json")
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(json.loads(output), PROGRESS)

    def test_missing(self) -> None:
        """Entries without a file are named with what to do."""
        self.answer({**PROGRESS, "missing": 2})
        status, _, errors = self.run_("reindex")
        self.assertEqual(status, 0)
        self.assertIn("2 instances of the index have no file", errors)
        self.assertIn("--prune", errors)
        self.answer({**PROGRESS, "missing": 2, "pruned": 2})
        self.assertNotIn("forgets them", self.run_("reindex", "--prune")[2])

    def test_failed(self) -> None:
        """Files that could not be entered, and an early end: status 1."""
        self.answer({**PROGRESS, "failed": 1})
        status, _, errors = self.run_("reindex")
        self.assertEqual(status, 1)
        self.assertIn("1 files could not be entered", errors)
        self.answer({**PROGRESS, "error": "the database does not answer"})
        status, _, errors = self.run_("reindex")
        self.assertEqual(status, 1)
        self.assertIn("the database does not answer", errors)

    def test_running(self) -> None:
        """One that is running already is left alone."""
        self.connections.answers["POST /api/reindex"] = (409, {"error": "is running"})
        self.assertEqual(self.refused("reindex"), "d360ctl: is running")

    def test_interrupted(self) -> None:
        """Ctrl-C ends it on the server too, also at its very beginning."""
        for method in ("POST", "GET"):
            self.answer()
            self.connections.answers[f"{method} /api/reindex"] = KeyboardInterrupt()
            self.assertIn("stopped; run it again", self.refused("reindex"))
            self.assertEqual(self.connections.calls[-1][0], "DELETE /api/reindex")


WS1 = {
    "aet": "WS1",
    "host": "127.0.0.1",
    "port": 11113,
    "permissions": ["store", "query", "retrieve", "worklist"],
    "tls": False,
    "certificate": "",
}

LIST = """\
AE TITLE  HOST              PORT  MAY                            TLS  CERTIFICATE
CT 1      ct1.example.org    104  none                           yes  aabb
WS1       127.0.0.1        11113  store,query,retrieve,worklist  no
"""


class AETests(CtlTestCase):
    """C{d360ctl ae}."""

    def test_list(self) -> None:
        """Aligned for people, as it came for scripts."""
        ct = {
            "aet": "CT 1",
            "host": "ct1.example.org",
            "port": 104,
            "permissions": [],
            "tls": True,
            "certificate": "aabb",
        }
        self.connections.answers["GET /api/aes"] = (200, {"aes": [ct, WS1]})
        self.assertEqual(self.run_("ae", "list"), (0, LIST, ""))
        for arguments in (
            ("--json", "ae", "list"),
            ("ae", "--json", "list"),
            ("ae", "list", "--json"),
        ):
            status, output, errors = self.run_(*arguments)
            self.assertEqual((status, errors), (0, ""))
            self.assertEqual(json.loads(output), {"aes": [ct, WS1]})

    def test_listNone(self) -> None:
        """Without any, how to add one; nothing for scripts to stumble over."""
        self.connections.answers["GET /api/aes"] = (200, {"aes": []})
        status, output, errors = self.run_("ae", "list")
        self.assertEqual((status, output), (0, ""))
        self.assertIn("d360ctl ae add", errors)
        self.assertEqual(self.run_("ae", "list", "--json"), (0, '{"aes": []}\n', ""))

    def test_add(self) -> None:
        """A PUT; the line says how to go on."""
        self.connections.answers["PUT /api/aes/WS1"] = (201, WS1)
        status, output, errors = self.run_("ae", "add", "WS1", "127.0.0.1", "11113")
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(
            output,
            "WS1 is at 127.0.0.1, port 11113; permissions: store, query, retrieve, "
            "worklist; to test it: d360ctl ae echo WS1\n",
        )
        ((_, body, _),) = self.connections.calls
        self.assertEqual(body, {"host": "127.0.0.1", "port": 11113})
        status, output, _ = self.run_("ae", "add", "WS1", "h", "1", "--json")
        self.assertEqual((status, json.loads(output)), (0, WS1))

    def test_addRestricted(self) -> None:
        """What it may do, and how it shows who it is."""
        answer = {**WS1, "permissions": []}
        self.connections.answers["PUT /api/aes/WS1"] = (200, answer)
        place = {"host": "h", "port": 104}
        for arguments, more in (
            (("--permissions", "store,query"), {"permissions": ["store", "query"]}),
            (("--permissions", "store, query"), {"permissions": ["store", "query"]}),
            (("--permissions=",), {"permissions": []}),
            (("--permissions=none",), {"permissions": []}),
            (("--permissions=echo,",), {"permissions": ["echo", ""]}),
            (("--tls",), {"tls": True}),
            (("--certificate", "AB:CD"), {"certificate": "AB:CD"}),
            (("--certificate", ""), {}),
        ):
            status, output, _ = self.run_("ae", "add", "WS1", "h", "104", *arguments)
            self.assertEqual(status, 0)
            self.assertIn("; permissions: none; ", output)
            self.assertEqual(self.connections.calls[-1][1], place | more)

    def test_titles(self) -> None:
        """Whatever is given is encoded into the URL, the server judges it."""
        for title, path in (
            ("CT 1", "CT%201"),
            ("A/B", "A%2FB"),
            ("a?b#c", "a%3Fb%23c"),
            ("100%", "100%25"),
            ("Ä", "%C3%84"),
            ("\udcff", "%FF"),
            ("A\nB", "A%0AB"),
            ("", ""),
        ):
            self.connections.answers[f"DELETE /api/aes/{path}"] = (400, {"error": "x"})
            self.assertEqual(self.refused("ae", "remove", title), "d360ctl: x")
        self.connections.answers["PUT /api/aes/CT%201"] = (200, {**WS1, "aet": "CT 1"})
        output = self.run_("ae", "add", "CT 1", "127.0.0.1", "11113")[1]
        self.assertTrue(output.endswith("d360ctl ae echo 'CT 1'\n"), output)

    def test_ports(self) -> None:
        """What is no number is the server's to refuse too."""
        self.connections.answers["PUT /api/aes/WS1"] = (400, {"error": "port: no"})
        for port in ("0", "65536", "dicom", "", "-1", "1.5", "١", "9" * 5000, "0x10"):
            self.assertEqual(
                self.refused("ae", "add", "WS1", "h", port), "d360ctl: port: no"
            )
        sent = [body["port"] for _, body, _ in self.connections.calls]
        self.assertEqual(
            sent, [0, 65536, "dicom", "", "-1", "1.5", "١", "9" * 5000, "0x10"]
        )

    def test_remove(self) -> None:
        """An answer without a body; one that is not there is an error."""
        self.connections.answers["DELETE /api/aes/WS1"] = (204, b"")
        self.assertEqual(self.run_("ae", "remove", "WS1"), (0, "WS1 is removed\n", ""))
        status, output, _ = self.run_("ae", "remove", "WS1", "--json")
        self.assertEqual((status, json.loads(output)), (0, {"removed": "WS1"}))
        self.connections.answers["DELETE /api/aes/WS1"] = (404, {"error": "not known"})
        self.assertEqual(self.refused("ae", "remove", "WS1"), "d360ctl: not known")

    def test_echo(self) -> None:
        """It answers."""
        answer = {"ok": True, "milliseconds": 3.1}
        self.connections.answers["POST /api/aes/WS1/echo"] = (200, answer)
        self.assertEqual(
            self.run_("ae", "echo", "WS1"), (0, "WS1 answers within 3.1 ms\n", "")
        )
        status, output, _ = self.run_("ae", "echo", "WS1", "--json")
        self.assertEqual((status, json.loads(output)), (0, answer))

    def test_echoFails(self) -> None:
        """It does not: status 1, and the reason on standard error."""
        answer = {"ok": False, "error": "no association"}
        self.connections.answers["POST /api/aes/WS1/echo"] = (200, answer)
        self.assertEqual(self.refused("ae", "echo", "WS1"), "d360ctl: no association")
        status, output, errors = self.run_("ae", "echo", "WS1", "--json")
        self.assertEqual((status, errors), (1, "d360ctl: no association\n"))
        self.assertEqual(json.loads(output), answer)

    def test_usage(self) -> None:
        """A wrong command line ends with 1 and one line."""
        for arguments in (
            (),
            ("lst",),
            ("list", "x"),
            ("add", "WS1"),
            ("add", "WS1", "h"),
            ("add", "WS1", "h", "1", "x"),
            ("remove",),
            ("echo",),
            ("echo", "WS1", "WS2"),
        ):
            self.assertIn("--help", self.refused("ae", *arguments))
        self.assertEqual(self.connections.opened, 0)

    def test_help(self) -> None:
        """With examples."""
        status, output, _ = self.run_("ae", "--help")
        self.assertEqual(status, 0)
        self.assertIn("d360ctl ae add WS1 127.0.0.1 11113", output)
