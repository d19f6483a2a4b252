"""Tests for L{d360.admin.site}: through a real Site, without a socket."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site
from zope.interface import implementer

from d360.admin.resource import JSONResource
from d360.admin.site import MAX_BODY, ReindexResource, StatusResource, makeSite
from d360.errors import DatabaseUnavailable
from d360.interfaces import ICertificates, IWorkers
from d360.metrics.values import CertificateState, WorkerState
from d360.model import DatabaseState, DiskSpace, ReindexProgress, Totals
from tests.contracts.memoryfreespace import MemoryFreeSpace

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)

DATABASE = DatabaseState(True, "embedded", "18.6", 1)

AUDIT = {
    "file": True,
    "syslog": False,
    "failing": False,
    "written": 7,
    "waiting": 1,
    "dropped": 0,
}

PROGRESS = ReindexProgress(True, False, 10, 4, 3, 1, 0, 0, 0, 1.5)


class Associations:
    """See L{d360.interfaces.IAssociations}."""

    live = 2
    accepted = 7


@implementer(IWorkers)
class Workers:
    """
    One that answers and one that has died.

    @ivar asked: what they were asked.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def states(self) -> tuple[WorkerState, ...]:
        return (
            WorkerState(1, 4711, True, 3, 2, NOON, 0),
            WorkerState(2, 0, False, 0, 0, NOON, 1),
        )

    def refresh(self, what: str) -> Deferred[None]:
        self.asked.append(what)
        return succeed(None)

    def said(self, what: str) -> Sequence[Any]:
        return ()


@implementer(ICertificates)
class Certificates:
    """One that has ended."""

    def states(self) -> tuple[CertificateState, ...]:
        return (CertificateState("DICOM", "CN=pacs", "ab12", NOON, -1),)

    def reload(self) -> Deferred[None]:
        return succeed(None)


class Index:
    """What L{StatusResource} asks of an index."""

    def __init__(self) -> None:
        self.database = DATABASE
        self.totalled: list[Deferred[Totals]] = []

    def state(self) -> Deferred[DatabaseState]:
        return succeed(self.database)

    def totals(self) -> Deferred[Totals]:
        if self.totalled:
            return self.totalled.pop(0)
        return succeed(Totals(1, 2, 3, 4, 5000))


class Archive:
    """What L{StatusResource} asks of an archive."""

    def space(self) -> Deferred[DiskSpace]:
        return succeed(DiskSpace(100, 40))


class Reindex:
    """See L{d360.interfaces.IReindex}."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.now: ReindexProgress | None = None
        self.begins = True

    def start(self, prune: bool, full: bool) -> bool:
        self.calls.append(("start", prune, full))
        self.now = PROGRESS
        return self.begins

    def progress(self) -> ReindexProgress | None:
        return self.now

    def stop(self) -> Deferred[None]:
        self.calls.append("stop")
        self.now = evolve(PROGRESS, running=False, error="stopped")
        return succeed(None)


class Broken(JSONResource):
    """A call with a mistake of ours."""

    async def get(self, request: Any) -> None:
        raise ZeroDivisionError("a secret of the inside")


class Slow(JSONResource):
    """A call that waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waiter: Deferred[str] = Deferred()

    async def get(self, request: Any) -> str:
        return await self.waiter


@frozen
class Answer:
    """An HTTP response."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def readAnswer(data: bytes) -> Answer:
    """Take a response apart."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, body)


class SiteTestCase(SynchronousTestCase):
    """A site with all the calls."""

    token = monitoringToken = ""

    def setUp(self) -> None:
        self.clock = Clock()
        self.index = Index()
        self.freeSpace = MemoryFreeSpace()
        self.reindex = Reindex()
        self.slow = Slow()
        self.workers = Workers()
        status = StatusResource(
            "D360PACS",
            Associations(),
            self.workers,
            self.index,
            Archive(),
            self.freeSpace,
            Certificates(),
            self.clock,
            lambda: dict(AUDIT),
        )
        calls: dict[bytes, JSONResource] = {
            b"status": status,
            b"reindex": ReindexResource(self.reindex),
            b"broken": Broken(),
            b"slow": self.slow,
        }
        self.site: Site = makeSite(calls, self.token, self.monitoringToken)
        self.site.timeOut = None

    def connect(self, data: bytes) -> StringTransport:
        """A connection that this was sent on."""
        protocol = self.site.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        self.protocol = protocol
        return transport

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        kind: str = "application/json",
        **headers: str,
    ) -> Answer:
        """Make a call; its answer must be there at once."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        if body:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return readAnswer(self.connect(head + body).value())

    def refused(self, code: int, *arguments: Any, **headers: str) -> str:
        """The reason of an error, which is JSON."""
        answer = self.call(*arguments, **headers)
        self.assertEqual(answer.code, code, answer.body)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(list(answer.json), ["error"])
        return str(answer.json["error"])


class StatusTests(SiteTestCase):
    """C{GET /api/status}."""

    def test_status(self) -> None:
        """All that there is to say."""
        self.clock.advance(12.34)
        answer = self.call("GET", "/api/status")
        self.assertEqual(answer.code, 200)
        self.assertEqual(answer.headers["cache-control"], "no-store")
        status = answer.json
        self.assertRegex(status.pop("version"), r"^\d+\.\d+")
        self.assertEqual(
            status,
            {
                "ae_title": "D360PACS",
                "uptime_seconds": 12.3,
                "associations": {"live": 2, "accepted": 7},
                "workers": [
                    {
                        "number": 1,
                        "pid": 4711,
                        "answers": True,
                        "connections": 3,
                        "live": 2,
                        "since": "2026-01-01T12:00:00Z",
                        "restarts": 0,
                    },
                    {
                        "number": 2,
                        "pid": 0,
                        "answers": False,
                        "connections": 0,
                        "live": 0,
                        "since": "2026-01-01T12:00:00Z",
                        "restarts": 1,
                    },
                ],
                "certificates": [
                    {
                        "use": "DICOM",
                        "subject": "CN=pacs",
                        "fingerprint": "ab12",
                        "expires": "2026-01-01T12:00:00Z",
                        "days_left": -1,
                    }
                ],
                "counts": {
                    "patients": 1,
                    "studies": 2,
                    "series": 3,
                    "instances": 4,
                    "size": 5000,
                },
                "database": {
                    "available": True,
                    "kind": "embedded",
                    "version": "18.6",
                    "schema": 1,
                },
                "disk": {
                    "total": 100,
                    "free": 40,
                    "min_free": 1 << 30,
                    "low": False,
                },
                "audit": AUDIT,
            },
        )
        self.assertEqual(self.workers.asked, ["counters"])

    def test_databaseAway(self) -> None:
        """The rest is answered all the same, without counts."""
        self.index.database = evolve(DATABASE, available=False)
        status = self.call("GET", "/api/status").json
        self.assertIsNone(status["counts"])
        self.assertFalse(status["database"]["available"])
        self.assertEqual(status["disk"]["free"], 40)

    def test_diskLow(self) -> None:
        """Nothing is stored for want of space."""
        self.freeSpace.isLow = True
        self.assertTrue(self.call("GET", "/api/status").json["disk"]["low"])

    def test_databaseGoes(self) -> None:
        """Also when it goes away between the two questions."""
        self.index.totalled = [fail(DatabaseUnavailable("gone"))]
        answer = self.call("GET", "/api/status")
        self.assertEqual(answer.code, 200)
        self.assertIsNone(answer.json["counts"])

    def test_head(self) -> None:
        """HEAD is GET without the body (RFC 9110 9.3.2)."""
        whole = self.call("GET", "/api/status")
        answer = self.call("HEAD", "/api/status")
        self.assertEqual((answer.code, answer.body), (200, b""))
        self.assertEqual(
            answer.headers["content-length"], whole.headers["content-length"]
        )


class ReindexTests(SiteTestCase):
    """C{/api/reindex}."""

    def test_start(self) -> None:
        """POST begins; an empty body is the default."""
        self.assertIsNone(self.call("GET", "/api/reindex").json["progress"])
        answer = self.call("POST", "/api/reindex", b'{"prune": true}')
        self.assertEqual(answer.code, 202)
        self.assertTrue(answer.json["progress"]["running"])
        self.call("POST", "/api/reindex", b'{"full": true, "prune": false}')
        self.call("POST", "/api/reindex", b"{}", "application/json; charset=utf-8")
        self.assertEqual(
            self.reindex.calls,
            [("start", True, False), ("start", False, True), ("start", False, False)],
        )
        self.assertEqual(self.call("GET", "/api/reindex").json["progress"]["done"], 4)

    def test_running(self) -> None:
        """409 while one is running."""
        self.reindex.begins = False
        self.assertIn("running", self.refused(409, "POST", "/api/reindex", b"{}"))

    def test_stop(self) -> None:
        """DELETE ends it."""
        answer = self.call("DELETE", "/api/reindex")
        self.assertEqual(answer.code, 200)
        self.assertEqual(answer.json["progress"]["error"], "stopped")
        self.assertEqual(self.reindex.calls, ["stop"])

    def test_badBodies(self) -> None:
        """400 with the reason; nothing begins."""
        for body, words in (
            (b"{", "not valid JSON"),
            (b"\xff", "not valid JSON"),
            (b"[" * 10000, "not valid JSON"),
            (b"[]", "JSON object"),
            (b'"x"', "JSON object"),
            (b'{"full": NaN}', "NaN is no number"),
            (b'{"full": true, "full": false}', "full is there twice"),
            (b'{"\\ud800": 1}', "half of a surrogate pair"),
            (b'{"prune": ' + b"7" * 4000 + b"}", "more than 1000 digits"),
            (b'{"prune": [' + b"{}," * 50000 + b"0]}", "more than 16000 brackets"),
            (b'{"prune": 1}', "prune must be true or false"),
            (b'{"full": null}', "full must be true or false"),
            (b'{"prone": true}', "unknown: prone"),
        ):
            self.assertIn(words, self.refused(400, "POST", "/api/reindex", body))
        self.assertEqual(self.reindex.calls, [])

    def test_contentType(self) -> None:
        """415 for what says that it is no JSON."""
        for kind in ("text/plain", "multipart/form-data; boundary=x", "x"):
            error = self.refused(415, "POST", "/api/reindex", b"{}", kind)
            self.assertIn("application/json", error)
        self.assertEqual(self.reindex.calls, [])

    def test_curl(self) -> None:
        """As C{curl -d} sends it, and without a content type or a body."""
        for body, kind in (
            (b'{"full": true}', "application/x-www-form-urlencoded"),
            (b'{"full": true}', ""),
            (b"", ""),
        ):
            self.assertEqual(self.call("POST", "/api/reindex", body, kind).code, 202)
        self.assertEqual(
            self.reindex.calls,
            [("start", False, True), ("start", False, True), ("start", False, False)],
        )

    def test_tooLong(self) -> None:
        """413 for a body of more than a mebibyte, however it comes."""
        body = b" " * (MAX_BODY + 1)
        self.assertIn(str(MAX_BODY), self.refused(413, "POST", "/api/reindex", body))
        head = (
            b"POST /api/reindex HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunks = (b"10000\r\n" + bytes(0x10000) + b"\r\n") * 17 + b"0\r\n\r\n"
        answer = readAnswer(self.connect(head + chunks).value())
        self.assertEqual(answer.code, 413)
        self.assertEqual(self.reindex.calls, [])


class ErrorTests(SiteTestCase):
    """Errors are JSON with a status of 4xx or 5xx."""

    def test_noSuchCall(self) -> None:
        """404."""
        for path in ("/api", "/api/", "/api/nothing", "/x", "/x/y", "/%ff"):
            self.refused(404, "GET", path)
        self.refused(404, "POST", "/api/nothing", b"{}")

    def test_belowACall(self) -> None:
        """A call is its whole path; C{..} is a name like any other."""
        for path in (
            "/api/status/",
            "/api/status/nothing",
            "/api/status/../../etc/passwd",
            "/api/status/%2e%2e/reindex",
            "/api/reindex/..",
            "/api/openapi.json/x",
        ):
            self.refused(404, "GET", path)
        self.refused(404, "DELETE", "/api/reindex/x")
        self.assertEqual(self.reindex.calls, [])

    def test_methods(self) -> None:
        """405, with what is possible (RFC 9110 15.5.6)."""
        for method, path, allowed in (
            ("POST", "/api/status", "get, head"),
            ("PATCH", "/api/reindex", "delete, get, head, post"),
            ("OPTIONS", "/api/status", "get, head"),
            ("render", "/api/status", "get, head"),
        ):
            answer = self.call(method, path, b"{}")
            self.assertEqual(answer.code, 405)
            self.assertIn("not possible", answer.json["error"])
            self.assertEqual(answer.headers["allow"].lower(), allowed)

    def test_ours(self) -> None:
        """500 for a mistake of ours, which is in the log and not in the answer."""
        error = self.refused(500, "GET", "/api/broken")
        self.assertNotIn("secret", error)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_databaseAway(self) -> None:
        """503 where nothing can be said without the database."""
        self.slow.waiter.errback(DatabaseUnavailable("gone"))
        self.assertIn("database", self.refused(503, "GET", "/api/slow"))

    def test_late(self) -> None:
        """An answer may take its time."""
        transport = self.connect(b"GET /api/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(transport.value(), b"")
        self.slow.waiter.callback("done")
        self.assertEqual(readAnswer(transport.value()).json, "done")

    def test_clientGone(self) -> None:
        """Who is gone gets no answer, and leaves no error."""
        transport = self.connect(b"GET /api/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.protocol.connectionLost(Failure(ConnectionLost()))
        self.slow.waiter.callback("done")
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])


class LogTests(SiteTestCase):
    """What the log says of requests."""

    def test_line(self) -> None:
        """What was asked of which path; no search, which may name a patient."""
        said = io.StringIO()
        self.patch(self.site, "_logFile", said)
        self.call("GET", "/api/status?PatientName=Rossi", Referer="/?Rossi")
        (line,) = said.getvalue().splitlines()
        self.assertRegex(line, r'^\S+ "GET /api/status HTTP/1.1" 200 [1-9]\d*$')


class TokenTests(SiteTestCase):
    """C{web.token}: each call carries it."""

    token = "long secret"

    def test_missing(self) -> None:
        """401 without, for whatever call."""
        for path in ("/api/status", "/api/reindex", "/api/nothing"):
            answer = self.call("GET", path)
            self.assertEqual(answer.code, 401)
            self.assertEqual(answer.headers["www-authenticate"], "bearer")
            self.assertIn("token", answer.json["error"])

    def test_wrong(self) -> None:
        """401 with another."""
        for given in ("Bearer long", "Bearer", "Bearer ", "Basic long secret", "é"):
            self.refused(401, "GET", "/api/status", Authorization=given)
        self.refused(401, "POST", "/api/reindex", b"{}")
        self.assertEqual(self.reindex.calls, [])

    def test_right(self) -> None:
        """200 with it; the scheme's case does not matter (RFC 9110 11.1)."""
        for scheme in ("Bearer", "bearer", "BEARER"):
            answer = self.call(
                "GET", "/api/status", Authorization=f"{scheme} long secret"
            )
            self.assertEqual(answer.code, 200)


class MonitoringTokenTests(SiteTestCase):
    """C{web.monitoring_token}: to watch, and nothing else."""

    token, monitoringToken = "long secret", "another secret"

    def asked(self, method: str, path: str, given: str, body: bytes = b"") -> int:
        """The status of the answer."""
        shown = {"Authorization": f"Bearer {given}"}
        return self.call(method, path, body, **shown).code

    def test_watched(self) -> None:
        """What names no patient is read with either."""
        for given in (self.token, self.monitoringToken):
            for method in ("GET", "HEAD"):
                self.assertEqual(self.asked(method, "/api/status", given), 200)

    def test_others(self) -> None:
        """403, so that nobody is asked for a token that he has; 401 for none."""
        for method, path, body in (
            ("GET", "/api/reindex", b""),
            ("POST", "/api/reindex", b"{}"),
            ("DELETE", "/api/reindex", b""),
            ("POST", "/api/status", b"{}"),
            ("GET", "/api/nothing", b""),
        ):
            code = self.asked(method, path, self.monitoringToken, body)
            self.assertEqual(code, 403, path)
            self.assertEqual(self.asked(method, path, "another", body), 401)
        self.assertEqual(self.reindex.calls, [])
        self.assertEqual(self.call("GET", "/api/status").code, 401)
