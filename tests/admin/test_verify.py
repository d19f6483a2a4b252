"""C{/api/verify}."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.admin.site import makeSite
from d360.admin.verify import VerifyResource
from d360.interfaces import IVerify
from d360.model import FileState, Finding, VerifyProgress
from tests.admin.test_site import SiteTestCase

PROGRESS = VerifyProgress(
    True,
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    50 * 2**20,
    "",
    7,
    total=10,
    done=4,
    size=1000,
    intact=3,
    damaged=1,
    findings=(Finding(FileState.DAMAGED, "1.2.3", "ab/1.dcm", "why"),),
)


@implementer(IVerify)
class Verify:
    """See L{d360.interfaces.IVerify}."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.now: VerifyProgress | None = None
        self.begins = True

    def start(self, rate: float, study: str = "", after: int = 0) -> bool:
        self.calls.append((rate, study, after))
        self.now = PROGRESS
        return self.begins

    def progress(self) -> VerifyProgress | None:
        return self.now

    def stop(self) -> Deferred[None]:
        self.calls.append("stop")
        self.now = evolve(PROGRESS, running=False, error="stopped")
        return succeed(None)


class VerifyTests(SiteTestCase):
    """C{/api/verify}."""

    def setUp(self) -> None:
        super().setUp()
        self.verify, self.regular = Verify(), Verify()
        verifyObject(IVerify, self.verify)
        self.site = makeSite({b"verify": VerifyResource(self.verify, self.regular)}, "")
        self.site.timeOut = None

    def test_start(self) -> None:
        """POST begins; an empty body is the default."""
        self.assertIsNone(self.call("GET", "/api/verify").json["progress"])
        answer = self.call("POST", "/api/verify", b"")
        self.assertEqual(answer.code, 202)
        progress = answer.json["progress"]
        self.assertEqual(
            (progress["started"], progress["rate"], progress["position"]),
            ("2026-01-02T03:04:05Z", 50, 7),
        )
        self.assertEqual(
            progress["findings"],
            [
                {
                    "state": "damaged",
                    "SOPInstanceUID": "1.2.3",
                    "path": "ab/1.dcm",
                    "why": "why",
                }
            ],
        )
        self.call("POST", "/api/verify", b'{"rate": 0, "after": 17}')
        self.call("POST", "/api/verify", b'{"rate": 0.5, "study": "1.2"}')
        self.assertEqual(
            self.verify.calls,
            [(50 * 2**20, "", 0), (0, "", 17), (2**19, "1.2", 0)],
        )

    def test_regular(self) -> None:
        """What the server does by itself is beside it, and is not ended."""
        self.regular.now = PROGRESS
        answer = self.call("GET", "/api/verify").json
        self.assertIsNone(answer["progress"])
        self.assertTrue(answer["regular"]["running"])
        self.call("DELETE", "/api/verify")
        self.assertEqual(self.regular.calls, [])

    def test_running(self) -> None:
        """409 while one is running."""
        self.verify.begins = False
        self.assertIn("running", self.refused(409, "POST", "/api/verify", b"{}"))

    def test_stop(self) -> None:
        """DELETE ends it, and says where it was."""
        progress = self.call("DELETE", "/api/verify").json["progress"]
        self.assertEqual((progress["error"], progress["position"]), ("stopped", 7))

    def test_badBodies(self) -> None:
        """400 with the reason; nothing begins."""
        for body, words in (
            (b'{"rate": "fast"}', "rate must be a number"),
            (b'{"rate": true}', "rate must be a number"),
            (b'{"rate": -1}', "rate must be from 0"),
            (b'{"rate": 1e300}', "rate must be from 0"),
            (b'{"study": 1}', "study must be a Study Instance UID"),
            (b'{"study": "%s"}' % (b"1" * 65), "study must be a Study Instance UID"),
            (b'{"after": 1.5}', "after must be the position"),
            (b'{"after": -1}', "after must be the position"),
            (b'{"after": 9223372036854775808}', "after must be the position"),
            (b'{"after": true}', "after must be the position"),
            (b'{"after": 1, "study": "1"}', "give either"),
            (b'{"speed": 1}', "unknown: speed"),
        ):
            self.assertIn(words, self.refused(400, "POST", "/api/verify", body))
        self.assertEqual(self.verify.calls, [])
