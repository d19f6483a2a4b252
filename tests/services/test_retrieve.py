"""The Retrieve service classes (PS3.4 C.4.2, C.4.3; conformance 8, 9)."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectionClosed,
    DIMSEError,
)
from d360.interfaces import IServiceClass
from d360.model import (
    Command,
    EstablishedAssociation,
    Location,
    PresentationContext,
    RemoteAE,
)
from d360.services.delivery import AHEAD
from d360.services.retrieve import GetService, MoveService
from d360.services.sending import PAUSES, Sender
from d360.services.suboperations import PENDING_INTERVAL
from tests.contracts.instances import REPLACE, record
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryindex import MemoryIndex
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.opener import FakeOpener, OpenedAssociation
from tests.contracts.operation import FakeOperation
from tests.contracts.transcoder import FakeTranscoder
from tests.services.datasets import EXPLICIT, IMPLICIT, encode

STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
JPEG = "1.2.840.10008.1.2.4.50"
WS1 = RemoteAE("WS1", "192.0.2.1", 11113)


def counts(response: Any) -> tuple[int | None, ...]:
    """Remaining, completed, failed, warning."""
    return tuple(
        response.elements.get(f"NumberOf{name}Suboperations")
        for name in ("Remaining", "Completed", "Failed", "Warning")
    )


class RetrieveCase(SynchronousTestCase):
    sopClass = STUDY_ROOT_MOVE
    commandField = 0x0021

    def setUp(self) -> None:
        self.clock = Clock()
        self.archive = MemoryArchive()
        self.index = MemoryIndex()
        self.transcoder = FakeTranscoder()
        self.remoteAEs = MemoryRemoteAEs(WS1)
        self.opener = FakeOpener()
        self.sender = Sender(self.archive, self.index, self.transcoder, self.clock)
        self.service = self.makeService()

    def makeService(self, parallel: int = 1) -> Any:
        return MoveService(
            self.index, self.sender, self.clock, self.remoteAEs, self.opener, parallel
        )

    def tearDown(self) -> None:
        """Whatever happens, what was opened is closed."""
        for reader in (*self.archive.readers, *self.transcoder.readers):
            self.assertTrue(reader.closed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def stored(self, number: int, data: bytes | None = None, **elements: Any) -> str:
        """An instance of the study 1.1."""
        sopClass = elements.pop("SOPClassUID", CT)
        syntax = elements.pop("TransferSyntaxUID", EXPLICIT)
        uid = f"1.1.1.{number}"
        one = record(
            elements.pop("study", "1.1"),
            instance=uid,
            InstanceNumber=str(number),
            **elements,
        )
        data = f"instance {number}".encode() * 10000 if data is None else data
        writer = self.archive.create(b"head")
        writer.write(data)
        blob = self.successResultOf(
            writer.commit(one.StudyInstanceUID, one.SeriesInstanceUID, uid)
        )
        self.successResultOf(writer.settle())
        one = evolve(
            one,
            digest=blob.digest,
            size=blob.size,
            SOPClassUID=sopClass,
            TransferSyntaxUID=syntax,
        )
        self.successResultOf(self.index.register(one, blob.location, REPLACE))
        return uid

    def operation(self, level: str = "STUDY", **keys: Any) -> FakeOperation:
        dataset = Dataset()
        dataset.QueryRetrieveLevel = level
        for keyword, value in (keys or {"StudyInstanceUID": "1.1"}).items():
            setattr(dataset, keyword, value)
        return FakeOperation(
            PresentationContext(1, self.sopClass, IMPLICIT),
            Command(
                self.commandField,
                AffectedSOPClassUID=self.sopClass,
                MessageID=7,
                Priority=1,
                MoveDestination="WS1",
                CommandDataSetType=1,
            ),
            encode(dataset, IMPLICIT),
            association=self.association(),
        )

    def association(self) -> OpenedAssociation | None:
        return None

    def retrieve(self, operation: FakeOperation | None = None) -> FakeOperation:
        """Carry it out, and check what is true of each."""
        operation = operation or self.operation()
        self.successResultOf(self.service.perform(operation))
        self.check(operation)
        return operation

    def check(self, operation: FakeOperation) -> None:
        """Counts always add up (PS3.4 C.4.2.1.6 and following)."""
        totals = {
            sum(number or 0 for number in counts(response))
            for response in operation.responses
        }
        self.assertEqual(1, len(totals))
        *pending, final = operation.responses
        self.assertEqual({0xFF00} if pending else set(), {r.status for r in pending})
        self.assertNotEqual(0xFF00, final.status)
        remaining = [counts(response)[0] for response in pending]
        self.assertEqual(sorted(remaining, reverse=True), remaining)
        self.assertNotIn(None, remaining)
        if final.status != 0xFE00:
            self.assertIsNone(counts(final)[0])
        failed = counts(final)[2]
        uids = [] if final.dataset is None else final.dataset.FailedSOPInstanceUIDList
        self.assertEqual(failed, 1 if isinstance(uids, str) else len(uids))

    def failedUIDs(self, operation: FakeOperation) -> list[str]:
        uids = operation.responses[-1].dataset.FailedSOPInstanceUIDList
        return [uids] if isinstance(uids, str) else list(uids)


class MoveTests(RetrieveCase):
    """C-MOVE."""

    def test_interface(self) -> None:
        verifyObject(IServiceClass, self.service)

    def test_unknownDestination(self) -> None:
        """C001, as the statement has it; nothing is opened."""
        self.stored(1)
        operation = self.operation()
        operation.request = evolve(operation.request, MoveDestination="NOBODY")
        failure = self.failureResultOf(self.service.perform(operation), DIMSEError)
        self.assertEqual(0xC001, failure.value.status)
        self.assertEqual([], self.opener.opened)

    def test_databaseAway(self) -> None:
        """A701, whichever of the two questions fails."""
        for away in (self.remoteAEs, self.index):
            away.away = True
            failure = self.failureResultOf(
                self.service.perform(self.operation()), DIMSEError
            )
            self.assertEqual(0xA701, failure.value.status)
            away.away = False

    def test_badIdentifier(self) -> None:
        failure = self.failureResultOf(
            self.service.perform(self.operation(PatientID="1")), DIMSEError
        )
        self.assertEqual(0xA900, failure.value.status)

    def test_nothingMatched(self) -> None:
        """Success with zero counts, and no association."""
        operation = self.retrieve()
        self.assertEqual([0x0000], operation.statuses())
        self.assertEqual((None, 0, 0, 0), counts(operation.responses[0]))
        self.assertEqual([], self.opener.opened)

    def test_all(self) -> None:
        """In order, byte by byte, over one association that is released."""
        for number in (3, 1, 10, 2):
            self.stored(number)
        operation = self.retrieve()
        self.assertEqual([0xFF00] * 3 + [0x0000], operation.statuses())
        self.assertEqual(
            [(3, 1, 0, 0), (2, 2, 0, 0), (1, 3, 0, 0), (None, 4, 0, 0)],
            list(map(counts, operation.responses)),
        )
        received = self.opener.received
        self.assertEqual(
            [f"instance {n}".encode() * 10000 for n in (1, 2, 3, 10)],
            [one.data for one in received],
        )
        self.assertEqual(["release"], self.opener.associations[0].calls)
        self.assertEqual([WS1], [remote for remote, _ in self.opener.opened])

    def test_command(self) -> None:
        """Who asked for it is told (PS3.7 9.3.1)."""
        self.stored(1)
        self.retrieve()
        self.assertEqual(
            Command(
                CommandField=0x0001,
                AffectedSOPClassUID=CT,
                AffectedSOPInstanceUID="1.1.1.1",
                MessageID=1,
                Priority=1,
                CommandDataSetType=1,
                MoveOriginatorApplicationEntityTitle="MODALITY",
                MoveOriginatorMessageID=7,
            ),
            self.opener.received[0].command,
        )

    def test_refusedOrUnreachable(self) -> None:
        """A702 with counts, and all UIDs."""
        for refusal in (AssociationRejected(1, 1, 7), ConnectionClosed("refused")):
            uids = [self.stored(1), self.stored(2)]
            self.opener.refusal = refusal
            operation = self.retrieve()
            self.assertEqual(0xA702, operation.statuses()[-1])
            self.assertEqual((None, 0, 2, 0), counts(operation.responses[-1]))
            self.assertEqual(uids, self.failedUIDs(operation))
            self.assertIn("WS1 at 192.0.2.1:11113", operation.log.events[-2][1])

    def test_someRefused(self) -> None:
        """B000 and the UIDs; the others are sent all the same."""
        for number in range(1, 5):
            self.stored(number)
        statuses = {"1.1.1.2": 0xA700, "1.1.1.3": 0xC123}
        self.opener.answer = lambda one: statuses.get(
            one.command.AffectedSOPInstanceUID, 0
        )
        operation = self.retrieve()
        self.assertEqual(0xB000, operation.statuses()[-1])
        self.assertEqual((None, 2, 2, 0), counts(operation.responses[-1]))
        self.assertEqual(["1.1.1.2", "1.1.1.3"], self.failedUIDs(operation))

    def test_warnings(self) -> None:
        """B000 without a list."""
        self.stored(1)
        self.stored(2)
        self.opener.answer = lambda one: 0xB000
        operation = self.retrieve()
        self.assertEqual(0xB000, operation.statuses()[-1])
        self.assertEqual((None, 0, 0, 2), counts(operation.responses[-1]))

    def test_diesHalfWay(self) -> None:
        """The rest has failed, and the final response is still sent."""
        for number in range(1, 6):
            self.stored(number)
        answers = [0x0000, 0x0000, AssociationAborted(0, 0)]
        self.opener.answer = lambda one: answers.pop(0)
        operation = self.retrieve()
        self.assertEqual(0xB000, operation.statuses()[-1])
        self.assertEqual((None, 2, 3, 0), counts(operation.responses[-1]))
        self.assertEqual(
            ["1.1.1.3", "1.1.1.4", "1.1.1.5"], sorted(self.failedUIDs(operation))
        )
        self.assertEqual(1, len(self.opener.opened))

    def test_onlySomeClasses(self) -> None:
        """What no context takes has failed; nothing is aborted."""
        self.stored(1)
        self.stored(2, SOPClassUID=MR)
        self.stored(3)
        self.opener.accept = lambda sopClass, syntaxes: (
            None if sopClass == MR else syntaxes[0]
        )
        operation = self.retrieve()
        self.assertEqual((None, 2, 1, 0), counts(operation.responses[-1]))
        self.assertEqual(["1.1.1.2"], self.failedUIDs(operation))

    def test_contexts(self) -> None:
        """What it can be brought to once, then each stored syntax by itself."""
        self.stored(1, TransferSyntaxUID=JPEG)
        self.stored(2, TransferSyntaxUID=EXPLICIT)
        self.stored(3, TransferSyntaxUID=JPEG, SOPClassUID=MR)
        self.retrieve()
        self.assertEqual(
            [
                (CT, (IMPLICIT,)),
                (CT, (JPEG,)),
                (CT, (EXPLICIT,)),
                (MR, (EXPLICIT, IMPLICIT)),
                (MR, (JPEG,)),
            ],
            self.opener.opened[0][1],
        )
        self.assertEqual([], self.transcoder.readers)

    def test_transcoded(self) -> None:
        """Only where the receiver does not take what is stored."""
        self.stored(1, TransferSyntaxUID=JPEG)
        self.stored(2, TransferSyntaxUID=EXPLICIT)
        self.opener.accept = lambda sopClass, syntaxes: (
            EXPLICIT if EXPLICIT in syntaxes else None
        )
        self.retrieve()
        self.assertEqual(
            [
                f"00/1.1/1.1.1/1.1.1.1.dcm in {EXPLICIT}".encode(),
                b"instance 2" * 10000,
            ],
            [one.data for one in self.opener.received],
        )
        self.assertEqual(
            [EXPLICIT] * 2,
            [one.context.transferSyntax for one in self.opener.received],
        )

    def test_notDecodable(self) -> None:
        """Fails as that one; the file is damaged, or of a video."""
        video = "1.2.840.10008.1.2.4.100"
        self.transcoder.targets[video] = ()
        self.transcoder.broken.add("00/1.1/1.1.1/1.1.1.1.dcm")
        self.stored(1, TransferSyntaxUID=JPEG)
        self.stored(2, TransferSyntaxUID=video)
        self.stored(3)
        self.opener.accept = lambda sopClass, syntaxes: (
            EXPLICIT if EXPLICIT in syntaxes else None
        )
        operation = self.retrieve()
        self.assertEqual((None, 1, 2, 0), counts(operation.responses[-1]))
        self.assertEqual(["1.1.1.1", "1.1.1.2"], self.failedUIDs(operation))

    def test_files(self) -> None:
        """A file that is gone or damaged fails alone, and is an error."""
        for number in range(1, 5):
            self.stored(number)
        del self.archive.files["00/1.1/1.1.1/1.1.1.2.dcm"]
        self.archive.files["00/1.1/1.1.1/1.1.1.3.dcm"] = b"headother"
        operation = self.operation()
        done = self.service.perform(operation)
        self.clock.pump(PAUSES)
        self.successResultOf(done)
        self.check(operation)
        self.assertEqual((None, 2, 2, 0), counts(operation.responses[-1]))
        self.assertEqual(["1.1.1.2", "1.1.1.3"], self.failedUIDs(operation))
        errors = [text for level, text in operation.log.events if level == "error"]
        self.assertIn("1.1.1.2: the file is gone", errors[0])
        self.assertIn("1.1.1.3: the file is damaged", errors[1])

    def test_replacedMeanwhile(self) -> None:
        """What is at another place by now is sent from there."""
        for number in range(1, 10):
            self.stored(number)

        def answer(one: Any) -> int:
            if one.command.MessageID == 1:
                old = Location("00/1.1/1.1.1/1.1.1.9.dcm", 4)
                self.stored(9, b"newer")
                self.archive.remove(old)
            return 0

        self.opener.answer = answer
        self.retrieve()
        self.assertEqual(b"newer", self.opener.received[-1].data)

    def test_replacedByAnotherClass(self) -> None:
        """
        What is of another SOP class by now fails: SOP class of command and data
        set are the same (PS3.4 B.2.2).
        """
        for number in range(1, 10):
            self.stored(number)

        def answer(one: Any) -> int:
            if one.command.MessageID == 1:
                old = Location("00/1.1/1.1.1/1.1.1.9.dcm", 4)
                self.stored(9, b"newer", SOPClassUID=MR)
                self.archive.remove(old)
            return 0

        self.opener.answer = answer
        operation = self.retrieve()
        self.assertEqual((None, 8, 1, 0), counts(operation.responses[-1]))
        self.assertEqual(["1.1.1.9"], self.failedUIDs(operation))

    def test_ahead(self) -> None:
        """
        While the disk is waited for, so many are opened; where nothing is, one
        is opened while the one before it is under way.
        """
        for number in range(1, 10):
            self.stored(number)
        openNow, asked = self.archive.open, list[Any]()

        def openLater(*arguments: Any) -> Any:
            opening: Deferred[Any] = Deferred()
            opening.addCallback(lambda _: openNow(*arguments))
            asked.append(opening)
            return opening

        self.archive.open = openLater
        done = self.service.perform(self.operation())
        self.assertEqual(AHEAD, len(asked))
        asked[0].callback(None)
        self.assertEqual(AHEAD + 1, len(asked))
        for opening in iter(lambda: asked.pop(1) if asked[1:] else None, None):
            opening.callback(None)
        self.successResultOf(done)
        self.assertEqual(9, len(self.opener.received))

    def test_aheadInMemory(self) -> None:
        """What need not be waited for is opened when it is about to be sent."""
        for number in range(1, 10):
            self.stored(number)
        opened: list[int] = []

        def answer(one: Any) -> int:
            opened.append(len(self.archive.readers))
            return 0

        self.opener.answer = answer
        self.retrieve()
        self.assertEqual(list(range(1, 10)), opened)

    def test_manyContexts(self) -> None:
        """More than 128 pairs are spread over several associations."""
        for number in range(100):
            self.stored(number + 1, b"x", SOPClassUID=f"1.2.3.{number}")
        self.retrieve()
        proposed = [len(contexts) for _, contexts in self.opener.opened]
        self.assertEqual([128, 72], proposed)
        self.assertEqual(100, len(self.opener.received))

    def test_cancel(self) -> None:
        """FE00, with what remains; the one under way is ended."""
        for number in range(1, 5):
            self.stored(number)
        operation = self.operation()

        def answer(one: Any) -> int:
            if one.command.MessageID == 2:
                operation.cancel()
            return 0

        self.opener.answer = answer
        self.retrieve(operation)
        self.assertEqual(0xFE00, operation.statuses()[-1])
        self.assertEqual((2, 2, 0, 0), counts(operation.responses[-1]))
        self.assertEqual(["release"], self.opener.associations[0].calls)

    def test_cancelBeforeAnything(self) -> None:
        """While the instances are still looked for."""
        self.stored(1)
        operation = self.operation()
        operation.cancel()
        self.retrieve(operation)
        self.assertEqual([0xFE00], operation.statuses())
        self.assertEqual([], self.opener.opened)

    def test_cancelWhileOpening(self) -> None:
        """A destination that does not answer is not waited for."""
        self.stored(1)
        self.opener.waiter = Deferred()
        operation = self.operation()
        done = self.service.perform(operation)
        operation.cancel()
        self.successResultOf(done)
        self.check(operation)
        self.assertEqual([0xFE00], operation.statuses())
        self.assertEqual((1, 0, 0, 0), counts(operation.responses[-1]))

    def test_cancelEndsOpening(self) -> None:
        """So it is if the opener says in its own way that it has given up."""
        self.stored(1)
        self.opener.waiter = Deferred(lambda d: d.errback(ConnectionClosed("given up")))
        operation = self.operation()
        done = self.service.perform(operation)
        operation.cancel()
        self.successResultOf(done)
        self.assertEqual((1, 0, 0, 0), counts(operation.responses[-1]))

    def test_cancelTooLate(self) -> None:
        """With nothing left it has succeeded."""
        self.stored(1)
        operation = self.operation()
        self.opener.answer = lambda one: operation.cancel() or 0
        self.retrieve(operation)
        self.assertEqual([0x0000], operation.statuses())

    def test_cancelWhileTranscoding(self) -> None:
        """A transcoding is not waited for."""
        self.stored(1, TransferSyntaxUID=JPEG)
        self.opener.accept = lambda sopClass, syntaxes: (
            EXPLICIT if EXPLICIT in syntaxes else None
        )
        self.transcoder.waiter = Deferred()
        operation = self.operation()
        done = self.service.perform(operation)
        operation.cancel()
        self.successResultOf(done)
        self.assertEqual((1, 0, 0, 0), counts(operation.responses[-1]))

    def test_cancelWhileReplaced(self) -> None:
        """Nor is where an instance is by now, while that is looked up."""
        self.stored(1)
        operation = self.operation()
        found, asked = self.index.locate, list[Any]()

        def locate(query: Any) -> Any:
            asked.append(query)
            results = found(query)
            if len(asked) == 2:
                results.nextBatch = lambda: Deferred()
            return results

        self.index.locate = locate
        self.archive.files.clear()
        done = self.service.perform(operation)
        self.assertNoResult(done)
        operation.cancel()
        self.successResultOf(done)
        self.assertEqual(2, len(asked))
        self.assertEqual((1, 0, 0, 0), counts(operation.responses[-1]))

    def test_requestorGone(self) -> None:
        """Sub-operations stop."""
        for number in range(1, 5):
            self.stored(number)
        operation = self.operation()

        def answer(one: Any) -> int:
            if one.command.MessageID == 2:
                operation.lose()
            return 0

        self.opener.answer = answer
        self.failureResultOf(self.service.perform(operation), AssociationAborted)
        self.assertEqual(2, len(self.opener.received))
        self.assertEqual(["release"], self.opener.associations[0].calls)

    def test_timer(self) -> None:
        """While one instance takes long, the requestor hears of us."""
        self.stored(1)
        waiter: Deferred[int] = Deferred()
        self.opener.answer = lambda one: waiter
        operation = self.operation()
        done = self.service.perform(operation)
        for _ in range(3):
            self.clock.advance(PENDING_INTERVAL)
        self.assertEqual([0xFF00] * 3, operation.statuses())
        waiter.callback(0)
        self.successResultOf(done)
        self.check(operation)


class ParallelTests(RetrieveCase):
    """Several associations with one destination."""

    def makeService(self, parallel: int = 3) -> Any:
        return super().makeService(parallel)

    def setUp(self) -> None:
        super().setUp()
        for number in range(1, 10):
            self.stored(number)

    def test_shared(self) -> None:
        """Each instance goes over one of them."""
        waiting: list[Deferred[int]] = []

        def answer(one: Any) -> Deferred[int]:
            waiting.append(Deferred())
            return waiting[-1]

        self.opener.answer = answer
        operation = self.operation()
        done = self.service.perform(operation)
        self.assertEqual(3, len(waiting))
        while waiting:
            waiting.pop(0).callback(0)
        self.successResultOf(done)
        self.check(operation)
        self.assertEqual((None, 9, 0, 0), counts(operation.responses[-1]))
        self.assertEqual(3, len(self.opener.associations))
        self.assertTrue(all(one.received for one in self.opener.associations))
        self.assertEqual(
            {f"1.1.1.{n}" for n in range(1, 10)},
            {one.command.AffectedSOPInstanceUID for one in self.opener.received},
        )

    def test_onlyOne(self) -> None:
        """A receiver that takes one association at a time gets all by it."""
        pending: list[Deferred[None]] = []
        opener, opening = self.opener, self.opener.open

        def open(remote: Any, contexts: Any) -> Any:
            if opener.associations:
                pending.append(Deferred())
                return pending[-1]
            return opening(remote, contexts)

        opener.open = open
        self.retrieve()
        self.assertEqual(9, len(opener.associations[0].received))
        self.assertEqual(2, len(pending))

    def test_oneDies(self) -> None:
        """The others go on; only what was under way has failed."""
        died: list[str] = []

        def answer(one: Any) -> Any:
            if one.command.AffectedSOPInstanceUID == "1.1.1.2":
                return AssociationAborted(0, 0)
            waiter: Deferred[int] = Deferred()
            self.clock.callLater(1, waiter.callback, 0)
            return waiter

        self.opener.answer = answer
        operation = self.operation()
        done = self.service.perform(operation)
        for _ in range(20):
            self.clock.advance(1)
        self.successResultOf(done)
        self.check(operation)
        self.assertEqual([], died)
        self.assertEqual(["1.1.1.2"], self.failedUIDs(operation))

    def test_diesLast(self) -> None:
        """What it had not begun with goes over another one."""
        stuck: Deferred[Any] = Deferred()
        self.opener.answer = lambda one: (
            stuck if one.command.AffectedSOPInstanceUID == "1.1.1.1" else 0
        )
        operation = self.operation()
        done = self.service.perform(operation)
        self.assertNoResult(done)
        stuck.callback(AssociationAborted(0, 0))
        self.successResultOf(done)
        self.check(operation)
        self.assertEqual(["1.1.1.1"], self.failedUIDs(operation))
        self.assertEqual((None, 8, 1, 0), counts(operation.responses[-1]))


class GetTests(RetrieveCase):
    """C-GET."""

    sopClass = STUDY_ROOT_GET
    commandField = 0x0010

    def makeService(self, parallel: int = 1) -> Any:
        return GetService(self.index, self.sender, self.clock)

    def association(self) -> OpenedAssociation:
        contexts = [
            PresentationContext(1, STUDY_ROOT_GET, IMPLICIT),
            PresentationContext(3, CT, EXPLICIT, scp=True),
            PresentationContext(5, CT, IMPLICIT, scp=True),
            # Granted as an SCU only: it wants to store, and not to get.
            PresentationContext(7, MR, EXPLICIT),
        ]
        established = EstablishedAssociation(
            False, "WS2", "D360PACS", "192.0.2.2", 0, {c.contextID: c for c in contexts}
        )
        self.own = OpenedAssociation(established, lambda one: self.answer(one))
        return self.own

    def answer(self, one: Any) -> Any:
        return 0

    def test_interface(self) -> None:
        verifyObject(IServiceClass, self.service)

    def test_all(self) -> None:
        """Over the requestor's association, which stays open."""
        for number in (2, 1):
            self.stored(number)
        operation = self.retrieve()
        self.assertEqual([0xFF00, 0x0000], operation.statuses())
        self.assertEqual(
            [f"instance {n}".encode() * 10000 for n in (1, 2)],
            [one.data for one in self.own.received],
        )
        self.assertEqual([3, 3], [one.context.contextID for one in self.own.received])
        self.assertEqual([], self.own.calls)
        command = self.own.received[0].command
        self.assertEqual("", command.MoveOriginatorApplicationEntityTitle)

    def test_nothingMatched(self) -> None:
        operation = self.retrieve()
        self.assertEqual((None, 0, 0, 0), counts(operation.responses[0]))

    def test_needsTheRole(self) -> None:
        """A class without a context, or without the role, has failed."""
        self.stored(1)
        self.stored(2, SOPClassUID=MR)
        self.stored(3, SOPClassUID="1.2.3")
        operation = self.retrieve()
        self.assertEqual(0xB000, operation.statuses()[-1])
        self.assertEqual(["1.1.1.2", "1.1.1.3"], self.failedUIDs(operation))

    def test_manyDoNotFit(self) -> None:
        """
        They are told of together: one by one, the server would do nothing else
        for a long time.
        """
        for number in range(1, 51):
            self.stored(number, b"x", SOPClassUID=MR if number > 1 else CT)
        operation = self.retrieve()
        self.assertEqual([0xFF00, 0xB000], operation.statuses())
        self.assertEqual((None, 1, 49, 0), counts(operation.responses[-1]))
        errors = [text for level, text in operation.log.events if level == "error"]
        self.assertEqual(1, len(errors))
        self.assertIn("1.1.1.2 and 48 others", errors[0])

    def test_noneFits(self) -> None:
        """All failed is A702."""
        self.stored(1, SOPClassUID=MR)
        self.assertEqual([0xA702], self.retrieve().statuses())

    def test_timer(self) -> None:
        """While the requestor takes long over one, it hears of us too."""
        self.stored(1)
        waiter: Deferred[int] = Deferred()
        self.answer = lambda one: waiter
        operation = self.operation()
        done = self.service.perform(operation)
        self.clock.advance(PENDING_INTERVAL)
        self.assertEqual([0xFF00], operation.statuses())
        waiter.callback(0)
        self.successResultOf(done)

    def test_associationEnds(self) -> None:
        """Nobody is there for a response; nothing more is sent."""
        for number in range(1, 4):
            self.stored(number)
        operation = self.operation()

        def answer(one: Any) -> Any:
            operation.lose()
            return AssociationAborted(0, 0)

        self.answer = answer
        self.failureResultOf(self.service.perform(operation), AssociationAborted)
        self.assertEqual(1, len(self.own.received))
