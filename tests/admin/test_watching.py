"""Tests for L{d360.admin.watching}: through a real Site, without a socket."""

from __future__ import annotations

from zope.interface import implementer

from d360.admin.site import makeSite
from d360.admin.watching import (
    MAX_ASSOCIATIONS,
    AssociationsResource,
    ErrorsResource,
    RatesResource,
    SettingsResource,
)
from d360.interfaces import ILiveAssociations, IRates, IRecentEvents
from d360.metrics.values import LiveAssociation, LogEvent, RateHistory
from tests.admin.test_site import NOON, Associations, SiteTestCase


@implementer(IRates, ILiveAssociations, IRecentEvents)
class Server:
    """All that is asked."""

    def history(self) -> RateHistory:
        return RateHistory(60, NOON, (1, 2), (3, 4), (5, 6), (7, 8), (9, 0))

    def newest(self, count: int) -> tuple[LiveAssociation, ...]:
        self.count = count
        return (
            LiveAssociation(
                7, "CT01", "D360PACS", "192.0.2.7", NOON, "C-STORE", {"C-STORE": 12}
            ),
            LiveAssociation(8, "WS<1>", "D360PACS", "::1", NOON, "", {}),
        )

    def recent(self) -> tuple[LogEvent, ...]:
        return (LogEvent(NOON, "error", "Cannot store: Größe"),)


class WatchingTests(SiteTestCase):
    """C{/api/rates}, C{associations}, C{errors} and C{settings}."""

    def setUp(self) -> None:
        super().setUp()
        self.server = Server()
        self.site = makeSite(
            {
                b"rates": RatesResource(self.server, self.workers),
                b"associations": AssociationsResource(
                    Associations(), self.server, self.workers
                ),
                b"errors": ErrorsResource(self.server),
                b"settings": SettingsResource({"dicom.port": 104, "web.token": "***"}),
            },
            self.token,
        )
        self.site.timeOut = None

    def test_rates(self) -> None:
        """Lists of one length."""
        self.assertEqual(
            self.call("GET", "/api/rates").json,
            {
                "interval_seconds": 60,
                "from": "2026-01-01T12:00:00Z",
                "stored": [1, 2],
                "bytes": [3, 4],
                "queries": [5, 6],
                "retrieved": [7, 8],
                "failed": [9, 0],
            },
        )
        self.assertEqual(self.workers.asked, ["rates"])

    def test_associations(self) -> None:
        """How many there are, and a bounded number of them."""
        self.assertEqual(
            self.call("GET", "/api/associations").json,
            {
                "live": 2,
                "associations": [
                    {
                        "number": 7,
                        "calling": "CT01",
                        "called": "D360PACS",
                        "peer": "192.0.2.7",
                        "since": "2026-01-01T12:00:00Z",
                        "operation": "C-STORE",
                        "operations": {"C-STORE": 12},
                    },
                    {
                        "number": 8,
                        "calling": "WS<1>",
                        "called": "D360PACS",
                        "peer": "::1",
                        "since": "2026-01-01T12:00:00Z",
                        "operation": "",
                        "operations": {},
                    },
                ],
            },
        )
        self.assertEqual(self.server.count, MAX_ASSOCIATIONS)
        self.assertEqual(self.workers.asked, ["associations"])

    def test_errors(self) -> None:
        """Time, level and text."""
        self.assertEqual(
            self.call("GET", "/api/errors").json,
            {
                "errors": [
                    {
                        "time": "2026-01-01T12:00:00Z",
                        "level": "error",
                        "text": "Cannot store: Größe",
                    }
                ]
            },
        )

    def test_settings(self) -> None:
        """As they were given."""
        self.assertEqual(
            self.call("GET", "/api/settings").json,
            {"settings": {"dicom.port": 104, "web.token": "***"}},
        )

    def test_methods(self) -> None:
        """They are for reading."""
        for name in ("rates", "associations", "errors", "settings"):
            self.refused(405, "POST", f"/api/{name}", b"{}")


class TokenTests(WatchingTests):
    """With a token, none of them answers without it."""

    token = "long secret"

    def call(self, *arguments, **headers):
        headers.setdefault("Authorization", "Bearer long secret")
        return super().call(*arguments, **headers)

    def test_missing(self) -> None:
        for name in ("rates", "associations", "errors", "settings"):
            self.refused(401, "GET", f"/api/{name}", Authorization="Bearer x")
