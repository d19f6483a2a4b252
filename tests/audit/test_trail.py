"""Tests for L{d360.audit.trail}, L{d360.audit.origins} and L{d360.audit.null}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.attributes import Level
from d360.audit.events import MAX_INSTANCES, Ourselves
from d360.audit.gathering import REPEATING
from d360.audit.messages import AuditSource
from d360.audit.null import NULL_AUDIT
from d360.audit.origins import Origins, folderOf
from d360.audit.trail import PATIENCE, AuditTrail
from d360.audit.values import Action, AuditedInstance, AuditedStudy, Peer
from d360.audit.writer import AuditWriter
from d360.errors import AssociationReleased, DatabaseUnavailable
from d360.model import (
    CommitmentFinding,
    FileState,
    Finding,
    Outcome,
    Query,
    Referenced,
)
from tests.audit.reading import Read
from tests.audit.test_writer import HEADER, MemoryFile
from tests.contracts.audit import (
    CT,
    CT01,
    FIND,
    STUDY,
    USER,
    AuditContract,
    associated,
    storedInstance,
)
from tests.contracts.instances import drained, place, record
from tests.contracts.memoryaudit import MemoryAudit
from tests.contracts.memoryindex import MemoryIndex

WS1 = Peer("WS1", "ws1.example.org")


class MemoryOrigins:
    """
    See L{Origins}.

    @ivar answer: in place of the studies.
    """

    def __init__(self) -> None:
        self.answer: Deferred[Any] | None = None

    def studiesOf(
        self, folders: Mapping[str, str]
    ) -> Deferred[dict[str, AuditedStudy]]:
        if self.answer is not None:
            return self.answer
        return succeed(
            {one: AuditedStudy(one.split("/")[1], "4711", "Rossi^A") for one in folders}
        )


class NullTests(SynchronousTestCase, AuditContract):
    """Where nobody keeps it."""

    def makeAudit(self) -> Any:
        return NULL_AUDIT


class MemoryTests(SynchronousTestCase, AuditContract):
    """In memory."""

    def makeAudit(self) -> Any:
        return MemoryAudit()


class TrailTests(SynchronousTestCase, AuditContract):
    """What is told becomes messages."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1767268800)
        self.file = MemoryFile()
        self.origins = MemoryOrigins()
        self.audit = self.makeAudit()

    def makeAudit(self) -> AuditTrail:
        writer = AuditWriter(
            self.clock,
            maybeDeferred,
            AuditSource("D360PACS"),
            HEADER,
            self.file,  # type: ignore[arg-type]
            None,
        )
        ours = Ourselves("D360PACS", "4711", "pacs1")
        trail = AuditTrail(self.clock, ours, self.origins, writer)
        trail.start()
        return trail

    def read(self) -> list[Read]:
        """The messages, once all are written."""
        self.clock.pump([0.5] * 4)
        return [Read(line) for line in self.file.lines]

    def received(self, count: int, outcome: Outcome | None, why: str = "") -> Any:
        association = associated()
        for number in range(count):
            instance = AuditedInstance(STUDY, CT, f"1.1.1.{number}")
            self.audit.received(association, instance, outcome, why)
        return association

    def test_received(self) -> None:
        """One message for those of a study that came over an association."""
        association = self.received(3, Outcome.STORED)
        self.assertEqual(self.read(), [])
        association.end(AssociationReleased("released"))
        (message,) = self.read()
        self.assertEqual((message.kind, message.action), ("110104", "C"))
        self.assertEqual(message.instances, ["1.1.1.0", "1.1.1.1", "1.1.1.2"])
        self.assertEqual(message.requestor, "CT01")
        # When the transfer has completed (A.5.3.7).
        self.assertEqual(message.time, "2026-01-01T12:00:00.000000Z")

    def test_pause(self) -> None:
        """And also while it is open, after some seconds."""
        self.received(3, Outcome.STORED)
        self.clock.pump([0.5] * 20)
        (message,) = self.read()
        self.assertEqual(len(message.instances), 3)

    def test_outcomes(self) -> None:
        """A.5.3.7: what we had of it before."""
        for outcome, action in (
            (Outcome.STORED, "C"),
            (Outcome.REPLACED, "U"),
            (Outcome.DUPLICATE, "R"),
            (Outcome.KEPT, "R"),
        ):
            self.received(1, outcome).end(AssociationReleased("released"))
            self.assertEqual(self.read()[-1].action, action)

    def test_notKept(self) -> None:
        """What is refused is a failure, with why."""
        why = "A700 No space left in the archive"
        self.received(2, None, why).end(AssociationReleased("released"))
        (message,) = self.read()
        self.assertEqual((message.outcome, message.why), ("8", why))

    def test_queried(self) -> None:
        """A.5.3.10."""
        self.audit.queried(associated(), FIND, b"keys", "A700 away")
        (message,) = self.read()
        self.assertEqual((message.kind, message.query), ("110112", b"keys"))
        self.assertEqual(message.why, "A700 away")

    def test_overHTTP(self) -> None:
        """A.5.3.8, A.5.3.10, A.5.3.11, A.5.3.15."""
        self.audit.searched(USER, "/api/studies")
        self.audit.studyDeleted(USER, STUDY, 3)
        self.audit.worklistUsed(USER, Action.UPDATE, STUDY)
        self.audit.configured(USER, "/api/aes/WS1", "removed")
        found = [(one.kind, one.action, one.type) for one in self.read()]
        self.assertEqual(
            found,
            [
                ("110112", "E", ""),
                ("110105", "D", ""),
                ("110111", "U", ""),
                ("110113", "E", "110129"),
            ],
        )

    def test_alerts(self) -> None:
        """A.5.3.11; those that repeat are told of together."""
        for _ in range(10):
            self.audit.refused(CT01, "rejected 1,1,3")
            self.audit.notPermitted(CT01, "Not permitted: store")
        self.assertEqual([one.type for one in self.read()], ["110126", "110132"])
        self.clock.pump([1] * int(REPEATING))
        texts = [one.details["Alert Description"] for one in self.read()[2:]]
        self.assertEqual(
            texts,
            [
                b"9 more of this host, of which the first was: rejected 1,1,3",
                b"9 more of this host, of which the first was: Not permitted: store",
            ],
        )

    def committed(self, *findings: tuple[str, int]) -> None:
        """So many instances, each with its folder and what was found."""
        references = [Referenced(CT, f"1.9.{n}") for n in range(len(findings))]
        # One is named twice.
        references.append(references[0])
        findings = (*findings, findings[0])
        folders, reasons = zip(*findings, strict=True)
        finding = CommitmentFinding(reasons, folders)
        self.audit.committed(CT01, "1.2.9", references, finding)

    def test_committed(self) -> None:
        """A.5.3.6: of each study, what was told for good, and what not and why."""
        one, other = "00/1.1/1.1.1", "00/1.2/1.2.1"
        self.committed((one, 0), (other, 0), (one, 0), (one, 0x0110), ("", 0x0112))
        messages = self.read()
        self.assertEqual({(m.kind, m.action) for m in messages}, {("110103", "R")})
        self.assertEqual({m.requestor for m in messages}, {"CT01"})
        self.assertEqual(
            [(m.study, m.outcome, m.instances, m.why) for m in messages],
            [
                ("1.1", "0", ["1.9.0", "1.9.2"], ""),
                ("1.2", "0", ["1.9.1"], ""),
                ("1.1", "8", ["1.9.3"], "Not committed, Failure Reason 0110"),
                (
                    "",
                    "8",
                    ["1.9.4"],
                    "Not committed, Failure Reason 0112, of 1 that are not known",
                ),
            ],
        )
        self.assertEqual(messages[0].patient, ("4711", "Rossi^A"))
        details = {"Storage Commitment": b"Transaction UID 1.2.9"}
        self.assertEqual(messages[0].details, details)

    def test_committedMany(self) -> None:
        """Thousands are several messages, and not made by the reactor's thread."""
        self.committed(*[("00/1.1/1.1.1", 0)] * (3 * MAX_INSTANCES))
        counts = [len(message.instances) for message in self.read()]
        self.assertEqual(counts, [MAX_INSTANCES] * 3)

    def test_committedUnknown(self) -> None:
        """Of thousands that never were there, one message."""
        self.committed(*[("", 0x0112)] * 5000)
        (message,) = self.read()
        self.assertEqual(len(message.instances), MAX_INSTANCES)
        self.assertIn("of 5000 that are not known", message.why)

    def test_damaged(self) -> None:
        """A.5.3.6: what is wrong with the files of a study, found by ourselves."""
        for number, state in enumerate(
            (FileState.DAMAGED, FileState.MISSING, FileState.DAMAGED)
        ):
            path = f"00/1.1/1.1.1/{number}.dcm"
            self.audit.damaged(Finding(state, f"1.9.{number}", path, "other bytes"))
        first, second = self.read()
        self.assertEqual((first.kind, first.action), ("110103", "R"))
        self.assertEqual((first.requestor, first.outcome), ("4711", "8"))
        self.assertEqual((first.study, first.patient), ("1.1", ("4711", "Rossi^A")))
        self.assertEqual(first.instances, ["1.9.0", "1.9.2"])
        self.assertEqual(first.why, "The file is damaged")
        self.assertEqual(second.why, "The file is missing")
        # Each is told of once, also at the end.
        self.audit.damaged(Finding(FileState.MISSING, "1.9.4", "00/1.1/1/4.dcm", ""))
        self.successResultOf(self.audit.stop())
        self.assertEqual(len(self.read()), 3)

    def test_byItself(self) -> None:
        """A.5.3.15: what nobody has asked for, the server asks for itself."""
        self.audit.worklistUsed(None, Action.DELETE, STUDY)
        (message,) = self.read()
        self.assertEqual((message.kind, message.action), ("110111", "D"))
        self.assertEqual(message.requestor, "4711")

    def test_unnamed(self) -> None:
        """Who is turned away before he has said his name goes by his address."""
        self.audit.refused(Peer("", "192.0.2.66"), "TLS: no certificate")
        (message,) = self.read()
        (_, who) = message.root.findall("ActiveParticipant")
        self.assertEqual(who.get("UserID"), "192.0.2.66")
        self.assertIsNone(who.get("AlternativeUserID"))

    def test_sent(self) -> None:
        """A.5.3.3 before, A.5.3.7 after."""
        instances = [storedInstance(number) for number in range(4)]
        transfer = self.audit.sending(CT01, WS1, instances)
        (begin,) = self.read()
        self.assertEqual((begin.kind, begin.classes), ("110102", {CT: 4}))
        self.assertEqual((begin.requestor, begin.study), ("CT01", "1.1"))
        transfer.sent(instances[0])
        transfer.failed(instances[1:3], "it was refused with A700")
        transfer.end()
        transfer.end()
        taken, refused = self.read()[1:]
        self.assertEqual((taken.kind, taken.action), ("110104", "R"))
        self.assertEqual(taken.instances, ["1.1.1.0"])
        self.assertEqual((taken.outcome, refused.outcome), ("0", "8"))
        self.assertEqual(refused.instances, ["1.1.1.1", "1.1.1.2"])
        self.assertEqual(refused.why, "it was refused with A700")

    def test_sentStudies(self) -> None:
        """A message is of one patient, and so of one study."""
        instances = [storedInstance(n, s) for s in ("1.1", "1.2") for n in (1, 2)]
        transfer = self.audit.sending(CT01, CT01, instances)
        for one in instances:
            transfer.sent(one)
        transfer.end()
        found = [(one.kind, one.study) for one in self.read()]
        self.assertEqual(
            found,
            [("110102", s) for s in ("1.1", "1.2")]
            + [("110104", s) for s in ("1.1", "1.2")],
        )

    def test_endedBeforeKnown(self) -> None:
        """It may have ended before it is known what they are."""
        self.origins.answer = answer = Deferred()
        transfer = self.audit.sending(CT01, CT01, [storedInstance(1)])
        transfer.sent(storedInstance(1))
        transfer.end()
        stopped = self.audit.stop()
        self.assertNoResult(stopped)
        answer.callback({folderOf(storedInstance(1)): STUDY})
        self.successResultOf(stopped)
        found = [(one.kind, one.patient[0]) for one in self.read()]
        self.assertEqual(found, [("110102", "4711"), ("110104", "4711")])

    def test_databaseAway(self) -> None:
        """Then it is not known whose they are, but which."""
        self.origins.answer = fail(DatabaseUnavailable("away"))
        transfer = self.audit.sending(CT01, CT01, [storedInstance(1)])
        transfer.sent(storedInstance(1))
        transfer.end()
        begin, end = self.read()
        self.assertEqual((begin.patient, end.instances), (("", ""), ["1.1.1.1"]))

    def test_databaseHangs(self) -> None:
        """It does not hold the end of the server up."""
        self.origins.answer = Deferred()
        self.audit.sending(CT01, CT01, [storedInstance(1)]).end()
        stopped = self.audit.stop()
        self.assertNoResult(stopped)
        self.clock.advance(PATIENCE)
        self.successResultOf(stopped)
        self.assertEqual([one.kind for one in self.read()], ["110102"])

    def test_neverFails(self) -> None:
        """A mistake of ours is logged, and no concern of those who tell."""
        self.audit.received(None, None, Outcome.STORED)  # type: ignore[arg-type]
        self.audit.queried(None, FIND, b"")  # type: ignore[arg-type]
        self.origins.answer = fail(ZeroDivisionError())
        self.audit.sending(CT01, CT01, [storedInstance(1)]).end()
        self.audit.sending(CT01, CT01, None).end()  # type: ignore[arg-type]
        self.assertEqual(self.read(), [])
        self.assertEqual(len(self.flushLoggedErrors()), 3)

    def test_lifetime(self) -> None:
        """A.5.3.1; what was gathered is written before the end."""
        self.audit.start()
        self.audit.applicationStarts()
        self.received(1, Outcome.STORED)
        self.audit.refused(CT01, "rejected 1,1,3")
        self.audit.refused(CT01, "rejected 1,1,3")
        self.successResultOf(self.audit.stop())
        found = [(one.kind, one.type) for one in self.read()]
        self.assertEqual(
            found,
            [
                ("110100", "110120"),
                ("110113", "110126"),
                ("110104", ""),
                ("110113", "110126"),
                ("110100", "110121"),
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_worker(self) -> None:
        """One of several processes is not the application."""
        self.successResultOf(self.audit.stop())
        self.assertEqual(self.read(), [])


class OriginsTests(SynchronousTestCase):
    """The index knows whose an instance is."""

    def test_found(self) -> None:
        """One of each series is asked for, whatever else there is."""
        index = MemoryIndex()
        records = [
            record(
                f"1.{study}",
                f"1.{study}.1",
                f"1.{study}.1.{number}",
                PatientID=f"P{study}",
                PatientName=f"Rossi^{study}",
                AccessionNumber="A1",
            )
            for study in (1, 2)
            for number in (1, 2, 3)
        ]
        for one in records:
            self.successResultOf(index.announce(one, place(one)))
        instances = self.successResultOf(
            Deferred.fromCoroutine(drained(index.locate(Query(Level.IMAGE))))
        )
        self.assertEqual(len(instances), 6)
        folders = {folderOf(one): one.SOPInstanceUID for one in instances}
        found = self.successResultOf(Origins(index).studiesOf(folders))
        self.assertEqual(
            {found[folderOf(one)] for one in instances},
            {AuditedStudy(f"1.{n}", f"P{n}", f"Rossi^{n}", "A1") for n in (1, 2)},
        )

    def test_gone(self) -> None:
        """What the index does not know any more is not known here."""
        asked = Origins(MemoryIndex()).studiesOf({"00/1.1/1.1.1": "1.1.1.1"})
        self.assertEqual(
            self.successResultOf(asked), {"00/1.1/1.1.1": AuditedStudy("")}
        )
