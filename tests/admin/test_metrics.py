"""Tests for L{d360.admin.metrics}: through a real Site, without a socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from d360.admin.metrics import PATIENCE, MetricsCall, MetricsResource
from d360.admin.site import makeSite
from d360.errors import ArchiveError, DatabaseUnavailable
from d360.interfaces import IExposition
from d360.model import DatabaseState, DiskSpace
from tests.admin.test_site import SiteTestCase, readAnswer

SPACE = DiskSpace(100, 40)
STATE = DatabaseState(True, "embedded", "18.6", 1)


@implementer(IExposition)
class FakeExposition:
    """Says what it was told."""

    contentType = "text/plain; version=9"

    def text(self, databaseAnswers: bool, space: DiskSpace | None) -> bytes:
        return f"{databaseAnswers} {space and space.free}\n".encode()

    def processText(self) -> bytes:
        return b"memory\n"


class MetricsTestCase(SiteTestCase):
    """A site with C{/metrics}."""

    def setUp(self) -> None:
        super().setUp()
        self.stating: Deferred[Any] = succeed(STATE)
        self.measuring: Deferred[Any] = succeed(SPACE)
        self.reading: Deferred[bytes] | None = None
        resource = MetricsResource(
            FakeExposition(), self.workers, self, self, self.clock, self.inThread
        )
        self.site = makeSite({}, self.token)
        self.site.timeOut = None
        self.site.resource.putChild(b"metrics", MetricsCall(resource, self.token))

    def state(self) -> Deferred[Any]:
        """See L{d360.interfaces.IIndex}."""
        return self.stating

    def space(self) -> Deferred[Any]:
        """See L{d360.interfaces.IArchive}."""
        return self.measuring

    def inThread(self, function: Callable[[], bytes]) -> Deferred[bytes]:
        return succeed(function()) if self.reading is None else self.reading

    def ask(self) -> StringTransport:
        """Ask; the answer may come later."""
        return self.connect(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")


class MetricsTests(MetricsTestCase):
    """C{GET /metrics}."""

    def test_get(self) -> None:
        """What there is, in its own content type."""
        answer = self.call("GET", "/metrics")
        self.assertEqual((answer.code, answer.body), (200, b"True 40\nmemory\n"))
        self.assertEqual(answer.headers["content-type"], "text/plain; version=9")
        self.assertEqual(answer.headers["content-length"], "15")
        self.assertEqual(self.workers.asked, ["counters"])
        self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        answer = self.call("HEAD", "/metrics")
        self.assertEqual((answer.code, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], "15")

    def test_monitoringToken(self) -> None:
        """It is what that is for."""
        resource = MetricsResource(
            FakeExposition(), self.workers, self, self, self.clock, self.inThread
        )
        call = MetricsCall(resource, "long secret", "another secret")
        self.site.resource.putChild(b"metrics", call)
        for given, code in (("another secret", 200), ("long secret", 200), ("no", 401)):
            answer = self.call("GET", "/metrics", Authorization=f"Bearer {given}")
            self.assertEqual(answer.code, code)
        shown = {"Authorization": "Bearer another secret"}
        self.assertEqual(self.call("POST", "/metrics", b"{}", **shown).code, 403)

    def test_others(self) -> None:
        """No other method, and nothing below."""
        self.refused(405, "POST", "/metrics", b"{}")
        self.refused(404, "GET", "/metrics/x")

    def test_databaseAway(self) -> None:
        """It says so, or raises."""
        for stating in (
            succeed(DatabaseState(False, "embedded", "", 0)),
            fail(DatabaseUnavailable("gone")),
        ):
            self.stating = stating
            body = self.call("GET", "/metrics").body
            self.assertEqual(body, b"False 40\nmemory\n")

    def test_diskFails(self) -> None:
        """The rest is told all the same."""
        for error in (ArchiveError("it is gone"), OSError("so it is")):
            self.measuring = fail(error)
            body = self.call("GET", "/metrics").body
            self.assertEqual(body, b"True None\nmemory\n")

    def test_hanging(self) -> None:
        """Neither database nor disk is waited for longer than so."""
        self.stating, self.measuring = Deferred(), Deferred()
        self.reading = Deferred()
        transport = self.ask()
        self.clock.advance(PATIENCE - 0.1)
        self.assertEqual(transport.value(), b"")
        self.clock.advance(0.1)
        self.assertEqual(readAnswer(transport.value()).body, b"False None\n")
        self.stating.callback(STATE)
        self.measuring.callback(SPACE)
        self.reading.callback(b"")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ours(self) -> None:
        """A mistake of ours is in the log."""
        self.measuring = fail(ZeroDivisionError("of a test"))
        body = self.call("GET", "/metrics").body
        self.assertEqual(body, b"True None\nmemory\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class TokenTests(MetricsTestCase):
    """C{web.token} guards it too."""

    token = "long secret"

    def test_token(self) -> None:
        self.refused(401, "GET", "/metrics")
        self.refused(401, "GET", "/metrics", Authorization="Bearer wrong")
        answer = self.call("GET", "/metrics", Authorization="Bearer long secret")
        self.assertEqual((answer.code, answer.body), (200, b"True 40\nmemory\n"))
