"""Tests for L{d360.admin.ctlcommitments}."""

from __future__ import annotations

import json
from typing import Any

from tests.admin.test_ctl import CtlTestCase

LIST = "GET /api/commitments"

FOUND: list[dict[str, Any]] = [
    {
        "id": 7,
        "aet": "CT01",
        "transaction": "1.2.3",
        "instances": 120,
        "state": "waiting",
        "asked": "2026-01-01T12:00:00Z",
        "attempts": 3,
        "failed": "2026-01-01T12:07:00Z",
        "error": "192.0.2.7, port 104: \x1b[31mtimed out",
        "next": "2026-01-01T12:15:00Z",
    },
    {
        "id": 12,
        "aet": "MR 1",
        "transaction": "1.2.4",
        "instances": 1,
        "state": "under way",
        "asked": "2026-01-01T12:08:00Z",
        "attempts": 0,
        "failed": None,
        "error": "",
        "next": "2026-01-01T12:18:00Z",
    },
]

TEXT = """\
ID  AE TITLE  INSTANCES  ASKED                 STATE      LAST TRIED            NEXT
7   CT01            120  2026-01-01T12:00:00Z  waiting    2026-01-01T12:07:00Z\
  2026-01-01T12:15:00Z
12  MR 1              1  2026-01-01T12:08:00Z  under way
7: 192.0.2.7, port 104: ?[31mtimed out
"""


class CommitmentsCtlTests(CtlTestCase):
    """C{d360ctl commitments}."""

    def setUp(self) -> None:
        super().setUp()
        self.connections.answers[LIST] = (200, {"commitments": FOUND})

    def calls(self) -> list[str]:
        """What was asked of the server."""
        return [call for call, _, _ in self.connections.calls]

    def test_list(self) -> None:
        """For people; what is wrong below."""
        self.assertEqual(self.run_("commitments", "list"), (0, TEXT, ""))

    def test_none(self) -> None:
        self.connections.answers[LIST] = (200, {"commitments": []})
        status, output, errors = self.run_("commitments", "list")
        self.assertEqual((status, output), (0, ""))
        self.assertIn("everybody was told", errors)

    def test_json(self) -> None:
        """For scripts."""
        status, output, _ = self.run_("commitments", "list", "--json")
        self.assertEqual((status, json.loads(output)), (0, {"commitments": FOUND}))

    def test_retry(self) -> None:
        """Some, or all that there are."""
        for number in (7, 12):
            path = f"POST /api/commitments/{number}/retry"
            self.connections.answers[path] = (204, b"")
        status, output, _ = self.run_("commitments", "retry", "12")
        self.assertEqual((status, output), (0, "12 is tried now\n"))
        status, output, _ = self.run_("commitments", "retry", "all", "--json")
        self.assertEqual((status, json.loads(output)), (0, {"retried": ["7", "12"]}))

    def test_drop(self) -> None:
        self.connections.answers["DELETE /api/commitments/7"] = (204, b"")
        status, output, _ = self.run_("commitments", "drop", "7")
        self.assertEqual((status, output), (0, "7 is dropped\n"))

    def test_unknown(self) -> None:
        """One that there is not is said; the others are done."""
        answers = self.connections.answers
        answers["DELETE /api/commitments/7"] = (204, b"")
        answers["DELETE /api/commitments/a%2Fb"] = (404, {"error": "no such"})
        status, output, errors = self.run_("commitments", "drop", "a/b", "7")
        self.assertEqual((status, output), (1, "7 is dropped\n"))
        self.assertIn("d360ctl: a/b: no such", errors)

    def test_away(self) -> None:
        """What says the same of each is said once."""
        self.connections.answers["DELETE /api/commitments/7"] = (503, {"error": "away"})
        line = self.refused("commitments", "drop", "7", "8")
        self.assertIn("away", line)
        self.assertEqual(len(self.calls()), 1)
