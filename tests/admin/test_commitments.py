"""Tests for L{d360.admin.commitments}: through a real Site, without a socket."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from d360.admin.commitments import CommitmentsResource
from d360.admin.site import makeSite
from tests.admin.test_site import SiteTestCase
from tests.contracts.commitments import FIRST, SECOND
from tests.contracts.memorycommitments import MemoryCommitmentRequests

#: 2026-01-01 12:00:00 UTC.
NOON = 1767268800


class CommitmentsTests(SiteTestCase):
    """C{/api/commitments}, and what can be done to one of them."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.clock.advance(NOON)
        self.requests = MemoryCommitmentRequests(self.clock)
        self.looks: list[None] = []
        resource = CommitmentsResource(self.requests, lambda: self.looks.append(None))
        self.site = makeSite({b"commitments": resource}, self.token)
        self.site.timeOut = None
        for one in (FIRST, SECOND):
            self.successResultOf(self.requests.add(one, 600))
        self.successResultOf(self.requests.postpone(1, 60, "unreachable"))

    def listed(self) -> list[Any]:
        """All there are."""
        return list(self.call("GET", "/api/commitments").json["commitments"])

    def test_list(self) -> None:
        """The oldest first, and how far each one is."""
        self.assertEqual(
            self.listed(),
            [
                {
                    "id": 1,
                    "aet": "MODALITY",
                    "transaction": "1.2.3.1",
                    "instances": 2,
                    "state": "waiting",
                    "asked": "2026-01-01T12:00:00Z",
                    "attempts": 0,
                    "failed": "2026-01-01T12:00:00Z",
                    "error": "unreachable",
                    "next": "2026-01-01T12:01:00Z",
                },
                {
                    "id": 2,
                    "aet": "MODALITY",
                    "transaction": "1.2.3.2",
                    "instances": 1,
                    "state": "under way",
                    "asked": "2026-01-01T12:00:00Z",
                    "attempts": 0,
                    "failed": None,
                    "error": "",
                    "next": "2026-01-01T12:10:00Z",
                },
            ],
        )

    def test_retry(self) -> None:
        """It is due, and looked for at once."""
        answer = self.call("POST", "/api/commitments/1/retry")
        self.assertEqual((answer.code, answer.body), (204, b""))
        self.assertEqual(len(self.looks), 1)
        self.assertEqual(self.listed()[0]["next"], "2026-01-01T12:00:00Z")

    def test_drop(self) -> None:
        answer = self.call("DELETE", "/api/commitments/1")
        self.assertEqual((answer.code, answer.body), (204, b""))
        self.assertEqual([one["id"] for one in self.listed()], [2])

    def test_unknown(self) -> None:
        """What there is not, or is no number."""
        for name in ("3", "0", "-1", "x", "1" * 30, "%31%00", "%C2%B2"):
            self.refused(404, "DELETE", f"/api/commitments/{name}")
            self.refused(404, "POST", f"/api/commitments/{name}/retry")
        self.assertEqual(self.looks, [])
        self.assertEqual(len(self.listed()), 2)

    def test_away(self) -> None:
        """503 while the database is away."""
        self.requests.away = True
        self.refused(503, "GET", "/api/commitments")
        self.refused(503, "DELETE", "/api/commitments/1")
        self.refused(503, "POST", "/api/commitments/1/retry")

    def test_methods(self) -> None:
        """Nothing else is done."""
        self.refused(405, "POST", "/api/commitments", b"{}")
        self.refused(405, "GET", "/api/commitments/1")
        self.refused(405, "GET", "/api/commitments/1/retry")
