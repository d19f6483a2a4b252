"""Studies as people look at them, and their way to remote AEs."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, fail

from d360.audit.values import User
from d360.errors import (
    ArchiveError,
    AssociationAborted,
    AssociationRejected,
    DatabaseUnavailable,
)
from d360.interfaces import ISending, IStudies
from d360.model import RemoteAE
from d360.services.studies import Sending, Studies
from tests.contracts.archive import checkSignatures
from tests.services.test_retrieve import WS1, RetrieveCase

USER = User("token", "192.0.2.9")


class StudiesTests(RetrieveCase):
    """Search, drill down, delete."""

    def makeService(self, parallel: int = 1) -> Any:
        return Studies(self.archive, self.index)

    def search(self, skip: int = 0, count: int = 10, **keys: str) -> list[str]:
        rows = self.successResultOf(self.service.search(keys, skip, count))
        return [row["StudyInstanceUID"] for row in rows]

    def test_interface(self) -> None:
        checkSignatures(self, IStudies, self.service)

    def test_search(self) -> None:
        """As a C-FIND would."""
        for number in range(1, 4):
            self.stored(number, study=f"1.{number}", PatientName=f"Rossi^{number}")
        self.assertEqual(["1.2"], self.search(PatientName="rossi^2"))
        self.assertEqual(3, len(self.search(PatientName="ros*")))
        self.assertEqual([], self.search(PatientID="other"))

    def test_pages(self) -> None:
        """Each study once, whatever the batches of the index."""
        for number in range(1, 8):
            self.stored(number, study=f"1.{number}")
        self.index.batchSize = 3
        everything = self.search()
        pages = [self.search(skip, 2) for skip in (0, 2, 4, 6, 8)]
        self.assertEqual([2, 2, 2, 1, 0], list(map(len, pages)))
        self.assertEqual(everything, [uid for page in pages for uid in page])

    def test_badKeys(self) -> None:
        """They are named."""
        for keys in ({"Colour": "red"}, {"StudyDate": "1-2\\3-4"}):
            failure = self.failureResultOf(self.service.search(keys, 0, 1), ValueError)
            self.assertIn(next(iter(keys)), str(failure.value))

    def test_drillDown(self) -> None:
        """Series and instances with what people ask of them."""
        self.stored(2)
        self.stored(1)
        (series,) = self.successResultOf(self.service.series("1.1"))
        self.assertEqual("1.1.1", series["SeriesInstanceUID"])
        self.assertEqual("2", series["NumberOfSeriesRelatedInstances"])
        instances = self.successResultOf(self.service.instances("1.1", "1.1.1"))
        self.assertEqual(["1", "2"], [one["InstanceNumber"] for one in instances])
        self.assertEqual(len(b"instance 1" * 10000), instances[0]["size"])
        self.assertEqual((), self.successResultOf(self.service.series("9")))

    def test_delete(self) -> None:
        """Rows and files of that study, and of no other."""
        for number in range(1, 20):
            self.stored(number)
        self.stored(30, study="1.2")
        self.assertEqual(19, self.successResultOf(self.service.delete("1.1")))
        self.assertEqual(["1.2"], self.search())
        self.assertEqual(["00/1.2/1.1.1/1.1.1.30.dcm"], list(self.archive.files))
        self.assertEqual(set(), self.archive.marks)

    def test_deleteInterrupted(self) -> None:
        """What the index has forgotten is marked, for recovery to remove."""
        self.stored(1)
        broken = ArchiveError("cannot be removed")

        def remove(location: Any) -> Any:
            raise broken

        self.archive.remove = remove
        self.failureResultOf(self.service.delete("1.1"))
        self.assertEqual([], self.search())
        (mark,) = self.archive.marks
        self.assertEqual("00/1.1/1.1.1/1.1.1.1.dcm", mark.path)

    def test_deleteWithoutDatabase(self) -> None:
        """The error is the one that was, for others know what it means."""
        for number in range(1, 4):
            self.stored(number)

        def forget(location: Any) -> Any:
            return fail(DatabaseUnavailable("away"))

        with patch.object(self.index, "forget", forget):
            self.failureResultOf(self.service.delete("1.1"), DatabaseUnavailable)
        self.assertEqual(3, self.successResultOf(self.service.delete("1.1")))

    def test_deleteWhatCanBe(self) -> None:
        """One file that cannot be removed does not keep the others."""
        for number in range(1, 20):
            self.stored(number)
        remove = self.archive.remove

        def refuse(location: Any) -> Any:
            if location.path.endswith(".7.dcm"):
                return fail(ArchiveError("cannot be removed"))
            return remove(location)

        with patch.object(self.archive, "remove", refuse):
            self.failureResultOf(self.service.delete("1.1"), ArchiveError)
        self.assertEqual(["00/1.1/1.1.1/1.1.1.7.dcm"], list(self.archive.files))
        self.assertEqual(1, len(self.archive.marks))


class SendingTests(RetrieveCase):
    """Jobs."""

    def makeService(self, parallel: int = 1) -> Any:
        return Sending(self.index, self.sender, self.opener, self.clock)

    def job(self) -> Any:
        return self.service.jobs()[0]

    def test_interface(self) -> None:
        checkSignatures(self, ISending, self.service)

    def test_done(self) -> None:
        """All of it arrives."""
        for number in (2, 1):
            self.stored(number)
        began = self.service.send("1.1", WS1, USER)
        job = self.job()
        self.assertEqual(began.identifier, job.identifier)
        self.assertEqual(("done", 2, 2, 0, ""), self.numbers(job))
        self.assertEqual(
            ["1.1.1.1", "1.1.1.2"],
            [one.command.AffectedSOPInstanceUID for one in self.opener.received],
        )

    def numbers(self, job: Any) -> tuple[Any, ...]:
        return job.state, job.total, job.completed, job.failed, job.error

    def test_failed(self) -> None:
        """Refused, unreachable, or only in part."""
        self.stored(1)
        self.stored(2)
        self.opener.refusal = AssociationRejected(1, 1, 7)
        self.service.send("1.1", WS1, USER)
        self.assertEqual(("failed", 2, 0, 2), self.numbers(self.job())[:4])
        self.opener.refusal = None
        self.opener.answer = lambda one: 0xA700 if one.command.MessageID == 1 else 0
        self.service.send("1.1", WS1, USER)
        self.assertEqual(("failed", 2, 1, 1), self.numbers(self.job())[:4])
        self.assertIn("1 not sent", self.job().error)
        self.opener.answer = lambda one: AssociationAborted(0, 0)
        self.service.send("1.1", WS1, USER)
        self.assertEqual(("failed", 2, 0, 2), self.numbers(self.job())[:4])

    def test_databaseAway(self) -> None:
        self.index.away = True
        self.service.send("1.1", WS1, USER)
        self.assertEqual("failed", self.job().state)
        self.assertIn("away", self.job().error)

    def test_cancel(self) -> None:
        """After the instance that is under way."""
        for number in range(1, 4):
            self.stored(number)
        waiter: Deferred[int] = Deferred()
        self.opener.answer = lambda one: waiter
        identifier = self.service.send("1.1", WS1, USER).identifier
        self.assertEqual("running", self.job().state)
        self.assertTrue(self.service.cancel(identifier))
        self.assertFalse(self.service.cancel("nonsense"))
        waiter.callback(0)
        self.assertEqual(("cancelled", 3, 1, 0, ""), self.numbers(self.job()))
        self.assertEqual(1, len(self.opener.received))

    def test_stop(self) -> None:
        """The server waits until they have ended."""
        self.stored(1)
        waiter: Deferred[int] = Deferred()
        self.opener.answer = lambda one: waiter
        self.service.send("1.1", WS1, USER)
        stopped = self.service.stop()
        self.assertNoResult(stopped)
        waiter.callback(0)
        self.successResultOf(stopped)

    def test_stopAll(self) -> None:
        """None begins anything while another one is waited for."""
        self.stored(1, SOPClassUID="1.2")
        self.stored(2, SOPClassUID="1.3")
        waiters: list[Deferred[int]] = []

        def answer(one: Any) -> Deferred[int]:
            waiters.append(Deferred())
            return waiters[-1]

        self.opener.answer = answer
        for _ in range(2):
            self.service.send("1.1", WS1, USER)
        stopped = self.service.stop()
        self.assertEqual(["cancelled"] * 2, [one.state for one in self.service.jobs()])
        for waiter in waiters:
            waiter.callback(0)
        self.successResultOf(stopped)
        self.assertEqual(2, len(waiters))

    def test_forgotten(self) -> None:
        """Not all that ever were are remembered."""
        self.stored(1)
        for _ in range(150):
            self.service.send("1.1", RemoteAE("WS2", "192.0.2.3", 104), USER)
        self.assertLessEqual(len(self.service.jobs()), 102)
        self.assertEqual("150", self.job().identifier)
