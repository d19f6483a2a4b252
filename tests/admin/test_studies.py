"""Tests for L{d360.admin.studies}: through a real Site, without a socket."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from d360.admin.site import makeSite
from d360.admin.studies import JobsResource, StudiesResource
from d360.model import RemoteAE
from d360.services.sending import Sender
from d360.services.studies import Sending, Studies
from tests.admin.test_site import SiteTestCase
from tests.contracts.instances import REPLACE, record
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryindex import MemoryIndex
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.opener import FakeOpener
from tests.contracts.transcoder import FakeTranscoder


class StudiesTestCase(SiteTestCase):
    """A site with three studies, of two instances each."""

    def setUp(self) -> None:
        super().setUp()
        self.archive, self.index = MemoryArchive(), MemoryIndex()
        self.opener = FakeOpener()
        sender = Sender(self.archive, self.index, FakeTranscoder(), Clock())
        remotes = MemoryRemoteAEs(RemoteAE("WS 1", "192.0.2.1", 104))
        sending = Sending(self.index, sender, self.opener, Clock())
        studies = Studies(self.archive, self.index)
        self.site = makeSite(
            {
                b"studies": StudiesResource(studies, remotes, sending),
                b"jobs": JobsResource(sending),
            },
            self.token,
        )
        self.site.timeOut = None
        for study in (1, 2, 3):
            for number in (1, 2):
                self.store(study, number)

    def store(self, study: int, number: int) -> None:
        one = record(
            f"1.{study}",
            f"1.{study}.1",
            f"1.{study}.1.{number}",
            content=f"{study} {number}",
            PatientName=f"Rossi^{study}",
            InstanceNumber=str(number),
        )
        writer = self.archive.create(b"")
        writer.write(f"{study} {number}".encode())
        blob = self.successResultOf(
            writer.commit(
                one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID
            )
        )
        self.successResultOf(writer.settle())
        one = evolve(one, digest=blob.digest, size=blob.size)
        self.successResultOf(self.index.register(one, blob.location, REPLACE))

    def found(self, query: str = "") -> list[str]:
        answer = self.call("GET", f"/api/studies{query}")
        self.assertEqual(200, answer.code, answer.body)
        return [study["StudyInstanceUID"] for study in answer.json["studies"]]

    def refused(self, code: int, method: str, path: str, *body: bytes) -> str:
        answer = self.call(method, path, *body)
        self.assertEqual(code, answer.code, answer.body)
        why: str = answer.json["error"]
        return why


class SearchTests(StudiesTestCase):
    """C{/api/studies}."""

    def test_search(self) -> None:
        self.assertEqual({"1.1", "1.2", "1.3"}, set(self.found()))
        self.assertEqual(["1.2"], self.found("?PatientName=rossi%5E2"))
        self.assertEqual([], self.found("?PatientID=unknown"))
        (study,) = self.call("GET", "/api/studies?StudyInstanceUID=1.1").json["studies"]
        self.assertEqual("Rossi^1", study["PatientName"])
        self.assertEqual("2", study["NumberOfStudyRelatedInstances"])

    def test_pages(self) -> None:
        """C{next} is where to go on, until there is no more."""
        seen: list[str] = []
        after: Any = "0"
        while after is not None:
            answer = self.call("GET", f"/api/studies?limit=2&after={after}").json
            seen += [study["StudyInstanceUID"] for study in answer["studies"]]
            after = answer["next"]
        self.assertEqual(self.found(), seen)

    def test_bad(self) -> None:
        """Each with its reason."""
        for query, word in (
            ("Colour=red", "Colour"),
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("limit=1&limit=2", "limit"),
            ("after=-1", "after"),
            ("after=99999999999", "after"),
            ("PatientName=%FF", "UTF-8"),
            ("StudyDate=1-2%5C3-4", "StudyDate"),
            ("StudyDate=2026-01-01", "StudyDate"),
            ("StudyDate=20260201-20260101", "StudyDate"),
        ):
            self.assertIn(word, self.refused(400, "GET", f"/api/studies?{query}"))


class StudyTests(StudiesTestCase):
    """One study, its series, and its end."""

    def test_drillDown(self) -> None:
        answer = self.call("GET", "/api/studies/1.2").json
        self.assertEqual("1.2", answer["study"]["StudyInstanceUID"])
        self.assertEqual(["1.2.1"], [s["SeriesInstanceUID"] for s in answer["series"]])
        for path in ("/api/studies/1.2/series", "/api/studies/1.2"):
            self.assertEqual(
                answer["series"], self.call("GET", path).json["series"], path
            )
        answer = self.call("GET", "/api/studies/1.2/series/1.2.1").json
        self.assertEqual("1.2.1", answer["series"]["SeriesInstanceUID"])
        self.assertEqual(
            ["1.2.1.1", "1.2.1.2"],
            [one["SOPInstanceUID"] for one in answer["instances"]],
        )

    def test_unknown(self) -> None:
        for path in (
            "/api/studies/9",
            "/api/studies/..",
            "/api/studies/*",
            "/api/studies/1.1%5C1.2",
            "/api/studies/%FF",
            "/api/studies/9/series",
            "/api/studies/9/series/9",
            "/api/studies/1.1/series/1.2.1",
            "/api/studies/1.1/nothing",
        ):
            self.refused(404, "GET", path)
        for path in ("/api/studies/9", "/api/studies/*", "/api/studies/"):
            self.refused(404, "DELETE", path)
        self.assertEqual(3, len(self.found()))

    def test_delete(self) -> None:
        """It is gone, file and row, and others stay."""
        self.assertEqual({"instances": 2}, self.call("DELETE", "/api/studies/1.2").json)
        self.assertEqual({"1.1", "1.3"}, set(self.found()))
        self.assertEqual(4, len(self.archive.files))
        self.refused(404, "DELETE", "/api/studies/1.2")


class SendTests(StudiesTestCase):
    """C{/api/studies/UID/send} and C{/api/jobs}."""

    def send(self) -> str:
        answer = self.call("POST", "/api/studies/1.1/send", b'{"aet": "WS 1"}')
        self.assertEqual(202, answer.code, answer.body)
        identifier: str = answer.json["id"]
        return identifier

    def test_send(self) -> None:
        identifier = self.send()
        job = self.call("GET", f"/api/jobs/{identifier}").json
        self.assertEqual(
            ("done", 2, 2, 0, "WS 1", "1.1"),
            tuple(
                job[key]
                for key in (
                    "state",
                    "total",
                    "completed",
                    "failed",
                    "aet",
                    "StudyInstanceUID",
                )
            ),
        )
        self.assertEqual([job], self.call("GET", "/api/jobs").json["jobs"])
        self.assertEqual(2, len(self.opener.received))

    def test_cancel(self) -> None:
        waiter: Deferred[int] = Deferred()
        self.opener.answer = lambda one: waiter
        identifier = self.send()
        job = self.call("DELETE", f"/api/jobs/{identifier}").json
        self.assertEqual("cancelled", job["state"])
        waiter.callback(0)
        self.assertEqual(
            1, self.call("GET", f"/api/jobs/{identifier}").json["completed"]
        )

    def test_bad(self) -> None:
        path = "/api/studies/1.1/send"
        for body in (b"{}", b'{"aet": 1}', b'{"aet": "WS 1", "x": 1}', b"[]", b"{"):
            self.refused(400, "POST", path, body)
        self.assertIn("add it", self.refused(404, "POST", path, b'{"aet": "NO"}'))
        self.refused(404, "POST", "/api/studies/9/send", b'{"aet": "WS 1"}')
        for method in ("GET", "DELETE"):
            self.refused(404, method, "/api/jobs/9")
        self.assertEqual([], self.call("GET", "/api/jobs").json["jobs"])
