"""Storage Commitment: what is asked for, and what is told (PS3.4 Annex J)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.attributes import Level
from d360.audit.values import Peer
from d360.dimse import status
from d360.errors import AssociationRejected, ConnectionClosed, DIMSEError
from d360.interfaces import IServiceClass
from d360.model import (
    AnyOf,
    Command,
    CommitmentRequest,
    EstablishedAssociation,
    Location,
    PresentationContext,
    Query,
    Referenced,
    RemoteAE,
)
from d360.services import committing
from d360.services.commitment import (
    LEASE,
    MAX_LENGTH,
    MAX_REFERENCES,
    MAX_TOGETHER,
    CommitmentService,
    _Gathering,
    readRequest,
)
from d360.services.commitmentreports import PATIENCE
from d360.services.committing import GIVE_UP, INTERVAL, Commitments
from d360.services.selection import UNIQUE_KEYS
from d360.services.sopclasses import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from d360.services.storage import StorageService
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryaudit import MemoryAudit
from tests.contracts.memorycommitments import MemoryCommitmentRequests
from tests.contracts.memoryfreespace import MemoryFreeSpace
from tests.contracts.memoryindex import MemoryIndex
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.opener import FakeOpener, OpenedAssociation
from tests.contracts.operation import FakeOperation
from tests.services.datasets import CT, EXPLICIT, IMPLICIT, encode, instance

CONTEXT = PresentationContext(1, STORAGE_COMMITMENT, EXPLICIT)
TITLE = "MODALITY"

#: Requests of one AE that are seen to at the same time.
MOST_OF_ONE = committing.MOST_OF_ONE // committing.LEAST


def asked(*instances: str, transaction: str | None = "1.2.9") -> Dataset:
    """The Action Information."""
    dataset = Dataset()
    if transaction is not None:
        dataset.TransactionUID = transaction
    dataset.ReferencedSOPSequence = []
    for uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = CT
        item.ReferencedSOPInstanceUID = uid
        dataset.ReferencedSOPSequence.append(item)
    return dataset


class ReadRequestTests(SynchronousTestCase):
    def test_read(self) -> None:
        for syntax in (EXPLICIT, IMPLICIT):
            data = encode(asked("1.2.3", "1.2.4"), syntax)
            self.assertEqual(
                readRequest(data, syntax),
                ("1.2.9", (Referenced(CT, "1.2.3"), Referenced(CT, "1.2.4"))),
            )

    def test_refused(self) -> None:
        """What is missing or no UID, and what is no data set."""
        many = asked()
        item = asked("1.2").ReferencedSOPSequence[0]
        many.ReferencedSOPSequence = [item] * (MAX_REFERENCES + 1)
        for data, code in (
            (encode(asked("1.2.3", transaction=None)), 0x0115),
            (encode(asked("1.2.3", transaction="x")), 0x0115),
            (encode(asked()), 0x0115),
            (encode(asked("../1")), 0x0115),
            (b"", 0x0115),
            (b"\x08\x00\x95\x11UI\xff\xff", 0x0115),
            (encode(asked("1.2.3"))[:-3], 0x0115),
            (encode(many), 0x0213),
        ):
            error = self.assertRaises(DIMSEError, readRequest, data, EXPLICIT)
            self.assertEqual(error.status, code)


class Case(SynchronousTestCase):
    """An archive with two instances in it, and who asks for them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.archive, self.index = MemoryArchive(), MemoryIndex()
        self.remoteAEs = MemoryRemoteAEs(RemoteAE(TITLE, "192.0.2.7", 104))
        self.opener, self.audit = FakeOpener(), MemoryAudit()
        self.requests = MemoryCommitmentRequests(self.clock)
        self.commitments = Commitments(
            self.requests,
            self.archive,
            self.index,
            self.remoteAEs,
            self.opener,
            self.clock,
            "D360PACS",
            maybeDeferred,
            self.audit,
        )
        self.service = CommitmentService(self.requests, self.commitments, maybeDeferred)
        storage = StorageService(
            self.archive, self.index, None, self.clock, MemoryFreeSpace()
        )
        for uid in ("1.2.3.4.5", "1.2.3.4.6"):
            dataset = encode(instance(SOPInstanceUID=uid))
            operation = FakeOperation(
                PresentationContext(1, CT, EXPLICIT),
                Command(0x0001, AffectedSOPClassUID=CT, AffectedSOPInstanceUID=uid),
                dataset,
            )
            self.successResultOf(storage.perform(operation))
        self.answers: list[Any] = []
        self.association = OpenedAssociation(
            EstablishedAssociation(
                False, TITLE, "D360PACS", "192.0.2.7", 16384, {1: CONTEXT}
            ),
            lambda received: self.answers.pop(0) if self.answers else 0,
        )

    def ask(self, dataset: Dataset, **others: Any) -> FakeOperation:
        """An N-ACTION."""
        elements = {
            "RequestedSOPClassUID": STORAGE_COMMITMENT,
            "RequestedSOPInstanceUID": STORAGE_COMMITMENT_INSTANCE,
            "ActionTypeID": 1,
        } | others
        return FakeOperation(
            CONTEXT,
            Command(0x0130, MessageID=1, **elements),
            encode(dataset),
            association=self.association,
        )

    def perform(self, dataset: Dataset, **others: Any) -> FakeOperation:
        """One that is answered."""
        operation = self.ask(dataset, **others)
        self.successResultOf(self.service.perform(operation))
        return operation

    def refused(self, dataset: Dataset, **others: Any) -> int:
        """The status of one that is not."""
        failed = self.failureResultOf(
            self.service.perform(self.ask(dataset, **others)), DIMSEError
        )
        return failed.value.status

    def left(self) -> int:
        """How many nobody was told of."""
        return len(self.successResultOf(self.requests.all(10)))

    def told(self, received: list[Any]) -> tuple[int, dict[str, int]]:
        """The event, and each instance with its Failure Reason."""
        (one,) = received
        self.assertEqual(one.command.CommandField, 0x0100)
        self.assertEqual(one.command.AffectedSOPClassUID, STORAGE_COMMITMENT)
        self.assertEqual(
            one.command.AffectedSOPInstanceUID, STORAGE_COMMITMENT_INSTANCE
        )
        isImplicit = one.context.transferSyntax == IMPLICIT
        dataset = read_dataset(BytesIO(one.data), isImplicit, True)
        self.assertEqual(dataset.TransactionUID, "1.2.9")
        self.assertEqual(dataset.RetrieveAETitle, "D360PACS")
        reasons = {}
        for keyword in ("ReferencedSOPSequence", "FailedSOPSequence"):
            for item in dataset.get(keyword) or ():
                reason = item.get("FailureReason", 0)
                self.assertEqual(bool(reason), keyword == "FailedSOPSequence")
                reasons[str(item.ReferencedSOPInstanceUID)] = reason
        return one.command.EventTypeID, reasons


class CommitmentServiceTests(Case):
    def test_interface(self) -> None:
        verifyObject(IServiceClass, self.service)

    def test_answered(self) -> None:
        """Kept first, then answered, then told on the same association."""
        operation = self.perform(asked("1.2.3.4.5", "1.2.3.4.6"))
        ((response),) = operation.responses
        self.assertEqual((response.status, response.elements), (0, {"ActionTypeID": 1}))
        self.assertEqual(
            self.told(self.association.received),
            (1, {"1.2.3.4.5": 0, "1.2.3.4.6": 0}),
        )
        self.assertEqual(self.opener.opened, [])
        self.assertEqual(self.left(), 0)

    def test_refused(self) -> None:
        good = asked("1.2.3.4.5")
        self.assertEqual(self.refused(good, ActionTypeID=2), 0x0123)
        self.assertEqual(self.refused(good, RequestedSOPInstanceUID="1.2"), 0x0112)
        self.assertEqual(self.refused(good, RequestedSOPClassUID=CT), 0x0122)
        self.assertEqual(self.refused(asked()), 0x0115)
        self.assertEqual(self.left(), 0)

    def test_tooLong(self) -> None:
        """It is not kept in memory without a bound."""
        gathering = _Gathering()
        gathering.write(bytes(MAX_LENGTH))
        error = self.assertRaises(DIMSEError, gathering.write, b"\0")
        self.assertEqual(error.status, 0x0213)

    def test_tooMany(self) -> None:
        """One who cannot be told may not ask for ever."""
        self.requests.most = 0
        self.assertEqual(self.refused(asked("1.2.3.4.5")), 0x0213)

    def test_tooManyAtOnce(self) -> None:
        """Nor do many at the same time fill the memory, who are forgotten then."""
        self.service._held = MAX_TOGETHER - 10
        self.assertEqual(self.refused(asked("1.2.3.4.5")), 0x0213)
        self.assertEqual(self.service._held, MAX_TOGETHER - 10)
        self.service._held = 0
        self.perform(asked("1.2.3.4.5"))
        self.assertEqual(self.service._held, 0)

    def test_databaseAway(self) -> None:
        """It cannot be kept: it may be asked for again."""
        self.requests.away = True
        self.assertEqual(self.refused(asked("1.2.3.4.5")), 0x0213)
        self.requests.away = False
        self.assertEqual(self.left(), 0)
        self.assertEqual(self.association.received, [])


class CommitmentsTests(Case):
    def tearDown(self) -> None:
        self.successResultOf(self.commitments.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def failures(self, *references: Referenced) -> dict[str, int]:
        """What is told of them."""
        request = CommitmentRequest("1.2.9", TITLE, references)
        kept = self.successResultOf(self.requests.add(request, LEASE))
        self.association.received.clear()
        self.commitments.begin(kept, self.association, CONTEXT)
        event, reasons = self.told(self.association.received)
        self.assertEqual(event, 2 if any(reasons.values()) else 1)
        return reasons

    def test_reasons(self) -> None:
        """Not there, of another class, damaged, gone."""
        kept, other = Referenced(CT, "1.2.3.4.5"), Referenced(CT, "1.2.3.4.6")
        self.assertEqual(
            self.failures(
                kept, Referenced(CT, "1.2.7"), Referenced("1.2", "1.2.3.4.6")
            ),
            {"1.2.3.4.5": 0, "1.2.7": 0x0112, "1.2.3.4.6": 0x0119},
        )
        for path, data in list(self.archive.files.items()):
            if "1.2.3.4.6" in path:
                self.archive.files[path] = data[:-1] + b"\xfe"
        self.assertEqual(
            self.failures(kept, other), {"1.2.3.4.5": 0, "1.2.3.4.6": 0x0110}
        )
        self.archive.files.clear()
        self.assertEqual(
            self.failures(kept, other), {"1.2.3.4.5": 0x0110, "1.2.3.4.6": 0x0110}
        )

    def test_namedTwice(self) -> None:
        """It is read once, and told of as often as it was named."""
        read = []
        examine = self.archive.examine
        self.archive.examine = lambda *a: read.append(a) or examine(*a)
        self.perform(asked("1.2.3.4.5", "1.2.3.4.5"))
        self.assertEqual(len(read), 1)
        data = BytesIO(self.association.received[0].data)
        told = read_dataset(data, False, True).ReferencedSOPSequence
        self.assertEqual(len(told), 2)

    def begin(self) -> None:
        """One that is asked for over an association that is gone."""
        self.association.release()
        self.perform(asked("1.2.3.4.5"))

    def test_newAssociation(self) -> None:
        """Over one of ours, as SCP."""
        self.begin()
        self.assertEqual(self.told(self.opener.received), (1, {"1.2.3.4.5": 0}))
        ((remote, ((abstractSyntax, _),)),) = self.opener.opened
        self.assertEqual((remote.title, abstractSyntax), (TITLE, STORAGE_COMMITMENT))
        self.assertEqual(self.opener.asSCP, [STORAGE_COMMITMENT])
        self.assertIsNotNone(self.opener.associations[0].ended)
        self.assertEqual(self.left(), 0)

    def test_lostThere(self) -> None:
        """The association it asked over ends under the report."""
        self.answers = [ConnectionClosed("gone")]
        self.perform(asked("1.2.3.4.5"))
        self.assertEqual(self.told(self.opener.received)[0], 1)
        self.assertEqual(self.left(), 0)

    def test_busyThere(self) -> None:
        """Nothing is sent in between; it is told after a while, elsewhere."""
        self.association._busy = True
        self.perform(asked("1.2.3.4.5"))
        self.assertEqual(self.opener.opened, [])
        self.clock.pump([0.1] * 110)
        self.assertEqual(self.told(self.opener.received)[0], 1)
        self.assertEqual(self.association.received, [])

    def test_idleSoon(self) -> None:
        self.association._busy = True
        self.perform(asked("1.2.3.4.5"))
        self.association._busy = False
        self.clock.advance(0.1)
        self.assertEqual(self.told(self.association.received)[0], 1)

    def test_noResponse(self) -> None:
        """Who does not answer is told elsewhere."""
        self.answers = [Deferred()]
        self.perform(asked("1.2.3.4.5"))
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(self.opener.received)[0], 1)

    def test_triedAgain(self) -> None:
        """Until it can be told: unreachable, refusing, with a failure, unknown."""
        self.opener.refusal = ConnectionClosed("unreachable")
        self.begin()
        self.assertEqual(self.left(), 1)
        self.commitments.start()
        delays = 0.0
        for change in (
            {"refusal": AssociationRejected(1, 1, 7)},
            {"refusal": None, "accept": lambda *_: None},
            {"accept": lambda _, syntaxes: syntaxes[0], "answer": lambda _: 0x0110},
        ):
            for name, value in change.items():
                setattr(self.opener, name, value)
            before = len(self.opener.opened)
            while len(self.opener.opened) == before:
                self.clock.advance(INTERVAL)
                delays += INTERVAL
            self.assertEqual(self.left(), 1)
        self.opener.associations.clear()
        self.opener.answer = lambda _: 0
        while self.left():
            self.clock.advance(INTERVAL)
            delays += INTERVAL
        self.assertEqual(self.told(self.opener.received)[0], 1)
        self.assertGreater(delays, 60 + 120 + 240)

    def test_unknownAE(self) -> None:
        """It stays; and is told when it is entered among the remote AEs."""
        self.successResultOf(self.remoteAEs.remove(TITLE))
        self.begin()
        self.assertEqual(self.left(), 1)
        self.successResultOf(self.remoteAEs.put(RemoteAE(TITLE, "192.0.2.7", 104)))
        self.commitments.start()
        self.clock.pump([INTERVAL] * 6)
        self.assertEqual(self.told(self.opener.received)[0], 1)

    def test_givenUp(self) -> None:
        self.opener.refusal = ConnectionClosed("unreachable")
        self.begin()
        self.commitments.start()
        self.clock.pump([3600] * int(GIVE_UP // 3600 + 2))
        self.assertEqual(self.left(), 0)

    def test_databaseAway(self) -> None:
        """While it is away nothing is lost; the lease brings it up."""
        self.association.release()
        request = CommitmentRequest("1.2.9", TITLE, (Referenced(CT, "1.2.3.4.5"),))
        kept = self.successResultOf(self.requests.add(request, LEASE))
        self.requests.away = True
        self.commitments.begin(kept, self.association, CONTEXT)
        self.commitments.start()
        self.clock.pump([INTERVAL] * 3)
        self.requests.away = False
        self.assertEqual(self.left(), 1)
        self.clock.pump([INTERVAL] * int(LEASE / INTERVAL + 1))
        self.assertEqual(self.told(self.opener.received)[0], 1)
        self.assertEqual(self.left(), 0)

    def test_restart(self) -> None:
        """What an earlier run has left is told at the start."""
        request = CommitmentRequest("1.2.9", TITLE, (Referenced(CT, "1.2.3.4.5"),))
        self.successResultOf(self.requests.add(request, 0))
        self.commitments.start()
        self.assertEqual(self.told(self.opener.received)[0], 1)

    def test_many(self) -> None:
        """Some at a time; what has no room waits in the database."""
        gate: Deferred[None] = Deferred()
        self.opener.waiter = gate
        self.association.release()
        for number in range(MOST_OF_ONE + 3):
            self.perform(asked("1.2.3.4.5", transaction=f"1.2.{number}"))
        self.assertEqual(len(self.opener.opened), 1)
        self.opener.waiter = None
        gate.callback(None)
        self.assertEqual(self.left(), 3)
        self.commitments.start()
        self.assertEqual(self.left(), 0)

    def test_oneByOne(self) -> None:
        """
        Many that are asked for over one association are told there, one after the
        other, however long each one takes.
        """
        self.answers = [Deferred() for _ in range(MOST_OF_ONE)]
        answers = list(self.answers)
        for number in range(MOST_OF_ONE):
            self.perform(asked("1.2.3.4.5", transaction=f"1.2.{number}"))
        for number, answer in enumerate(answers):
            self.assertEqual(len(self.association.received), number + 1)
            self.clock.pump([0.1] * 10)
            answer.callback(0)
            self.clock.advance(0.1)
        self.assertEqual(self.left(), 0)
        self.assertEqual(self.opener.opened, [])

    def test_stopped(self) -> None:
        """What is under way ends, and is due at the next start."""
        gate: Deferred[None] = Deferred()
        self.opener.waiter = gate
        self.begin()
        stopped = self.commitments.stop()
        self.assertNoResult(stopped)
        gate.errback(ConnectionClosed("the server is stopping"))
        self.successResultOf(stopped)
        self.assertEqual(self.left(), 1)
        due = self.successResultOf(self.requests.due(60))
        self.assertEqual(due.transactionUID, "1.2.9")

    def test_mistake(self) -> None:
        """What fails unexpectedly with one does not keep others from being told."""
        for number in (1, 2):
            request = CommitmentRequest(
                f"1.2.{number}", TITLE, (Referenced(CT, f"1.2.3.4.{4 + number}"),)
            )
            self.successResultOf(self.requests.add(request, 0))
        locate, broken = self.index.locate, ["a mistake"]
        self.index.locate = lambda query: locate(broken.pop() if broken else query)
        self.commitments.start()
        self.assertEqual(len(self.opener.received), 1)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.clock.pump([INTERVAL] * 10)
        self.assertEqual(len(self.opener.received), 2)
        self.assertEqual(self.left(), 0)

    def test_takenByAnother(self) -> None:
        """What had to wait so long that another process has it is not told twice."""
        request = CommitmentRequest("1.2.9", TITLE, (Referenced(CT, "1.2.3.4.5"),))
        kept = self.successResultOf(self.requests.add(request, 0))
        self.successResultOf(self.requests.due(60))
        self.commitments.begin(kept, self.association, CONTEXT)
        self.assertEqual(self.association.received, [])
        self.assertEqual(self.left(), 1)

    def test_statuses(self) -> None:
        """A warning is an answer."""
        self.answers = [status.WARNING]
        self.perform(asked("1.2.3.4.5"))
        self.assertEqual(self.left(), 0)

    def test_audited(self) -> None:
        """Who was told what, and where he is."""
        told = {Referenced(CT, "1.2.3.4.5"): 0, Referenced(CT, "1.2.7"): 0x0112}
        expected = ("committed", Peer(TITLE, "192.0.2.7"), "1.2.9", told)
        self.perform(asked("1.2.3.4.5", "1.2.7"))
        self.begin()
        self.assertEqual(self.audit.calls[0], expected)
        self.assertEqual(len(self.audit.calls), 2)
        self.opener.refusal = ConnectionClosed("unreachable")
        self.begin()
        self.assertEqual(len(self.audit.calls), 2)

    def test_role(self) -> None:
        """
        PS3.7 D.3.3.4: who does not answer what role we propose is told all the
        same, but not who refuses it.
        """
        for scu, scp, isTold in (
            (False, True, True),
            (True, False, True),
            (False, False, False),
        ):
            context = PresentationContext(1, STORAGE_COMMITMENT, EXPLICIT, scu, scp)
            self.opener._establish = lambda remote, _, c=context: OpenedAssociation(
                EstablishedAssociation(
                    True, "D360PACS", remote.title, remote.host, 16384, {1: c}
                )
            )
            self.begin()
            self.assertEqual(self.left(), not isTold)


class TurnTests(Case):
    """One that cannot be told makes nobody else wait."""

    def setUp(self) -> None:
        super().setUp()
        # Who does not answer, or not at all; all others do.
        self.hanging: dict[str, Deferred[Any]] = {}
        opened = self.opener.open

        def open_(remote: RemoteAE, *others: Any) -> Deferred[Any]:
            opening = opened(remote, *others)
            return self.hanging.get(remote.title, opening)

        self.opener.open = open_  # type: ignore[method-assign]
        self.addCleanup(self.stop)

    def stop(self) -> None:
        stopped = self.commitments.stop()
        for opening in self.hanging.values():
            if not opening.called:
                opening.errback(ConnectionClosed("the server is stopping"))
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def due(self, title: str, *transactions: str) -> None:
        """A remote AE, of which requests are due."""
        remote = RemoteAE(title, "192.0.2.7", 104)
        self.successResultOf(self.remoteAEs.put(remote))
        for transaction in transactions:
            request = CommitmentRequest(
                transaction, title, (Referenced(CT, "1.2.3.4.5"),)
            )
            self.successResultOf(self.requests.add(request, 0))

    def waiting(self) -> list[str]:
        """Of whom there are requests."""
        found = self.successResultOf(self.requests.all(1000))
        return [one.aeTitle for one in found]

    def opened(self) -> list[str]:
        """With whom associations were opened."""
        return [remote.title for remote, _ in self.opener.opened]

    def test_hanging(self) -> None:
        """Whoever hangs is waited for once; all others are told meanwhile."""
        titles = [f"HANGS{number}" for number in range(committing.AT_ONCE + 3)]
        for title in titles:
            self.hanging[title] = Deferred()
            self.due(title, "1.2.1", "1.2.2", "1.2.3")
        self.due("WELL", *(f"1.3.{number}" for number in range(20)))
        self.commitments.start()
        self.assertEqual(set(self.waiting()), set(titles))
        self.assertEqual(len(self.opener.received), 20)
        self.assertEqual(sorted(set(self.opened())), [*titles, "WELL"])
        self.assertEqual(len(self.opened()), len(titles) + 20)
        # Nor is anybody asked again while he hangs.
        self.clock.pump([INTERVAL] * 4)
        self.assertEqual(len(self.opened()), len(titles) + 20)

    def test_asksMeanwhile(self) -> None:
        """Who asks while others hang is told at once."""
        for number in range(committing.AT_ONCE):
            title = f"HANGS{number}"
            self.hanging[title] = Deferred()
            self.due(title, "1.2.1")
        self.commitments.start()
        self.perform(asked("1.2.3.4.5"))
        self.assertEqual(self.told(self.association.received)[0], 1)

    def test_reads(self) -> None:
        """Nor does one wait for the files of who has asked for many."""
        examine, reading = self.archive.examine, []

        def slow(location: Location, *others: Any) -> Deferred[bytes]:
            if "1.2.3.4.5" in location.path:
                return examine(location, *others)
            reading.append(Deferred())
            return reading[-1]

        self.archive.examine = slow
        for number in range(MOST_OF_ONE):
            self.perform(asked("1.2.3.4.6", transaction=f"1.2.{number}"))
        self.assertEqual(len(reading), 1)
        waiting, self.association = self.association, self.other()
        self.perform(asked("1.2.3.4.5"))
        self.assertEqual(self.told(self.association.received)[0], 1)
        while reading:
            reading.pop().callback(b"")
        self.assertEqual(len(waiting.received), MOST_OF_ONE)

    def other(self) -> OpenedAssociation:
        """An association of somebody else."""
        return OpenedAssociation(
            EstablishedAssociation(
                False, "OTHER", "D360PACS", "192.0.2.8", 16384, {1: CONTEXT}
            )
        )

    def test_hangsThere(self) -> None:
        """Also where they hang on the association that they asked over."""
        self.answers = [Deferred() for _ in range(MOST_OF_ONE)]
        for number in range(MOST_OF_ONE):
            self.perform(asked("1.2.3.4.5", transaction=f"1.2.{number}"))
        waiting, self.association = self.association, self.other()
        self.perform(asked("1.2.3.4.5"))
        self.assertEqual(self.told(self.association.received)[0], 1)
        waiting.abort("the test ends")
        self.clock.advance(1)

    def test_retryTime(self) -> None:
        """Whoever cannot be reached is tried seldom, however much there is."""
        self.opener.refusal = ConnectionClosed("unreachable")
        self.due("GONE", *(f"1.2.{number}" for number in range(50)))
        self.commitments.start()
        self.assertEqual(len(self.opened()), 1)
        self.clock.pump([INTERVAL] * int((60 + 120 + 240 + 60) / INTERVAL))
        self.assertEqual(len(self.opened()), 4)
        self.assertEqual(len(self.waiting()), 50)
        self.clock.pump([INTERVAL] * int(86400 / INTERVAL))
        self.assertLess(len(self.opened()), 4 + 30)
        # And then all of it at once.
        self.opener.refusal = None
        self.clock.pump([INTERVAL] * int((3600 + INTERVAL) / INTERVAL))
        self.assertEqual(self.waiting(), [])

    def test_refusesOne(self) -> None:
        """Who does not take one report is told of all others."""
        self.due("PICKY", *(f"1.2.{number}" for number in range(5)))
        answers = [0x0110]
        self.opener.answer = lambda _: answers.pop() if answers else 0
        self.commitments.start()
        self.assertEqual(len(self.waiting()), 1)

    def test_inTurn(self) -> None:
        """Several that have just asked are one after the other; all fail at once."""
        hanging = self.hanging[TITLE] = Deferred()
        self.association.release()
        for number in range(3):
            self.perform(asked("1.2.3.4.5", transaction=f"1.2.{number}"))
        self.assertEqual(self.opened(), [TITLE])
        hanging.errback(ConnectionClosed("unreachable"))
        self.assertEqual(self.opened(), [TITLE])
        found = self.successResultOf(self.requests.all(10))
        self.assertEqual(
            [one.failure for one in found],
            ["192.0.2.7, port 104: unreachable"]
            + ["it could not be told of another one just before"] * 2,
        )

    def test_stopsMeanwhile(self) -> None:
        """No association is begun that nobody would end."""
        self.association.release()
        renew, gates = self.requests.renew, [Deferred(), Deferred()]
        self.requests.renew = lambda *arguments: gates.pop(0).addCallback(
            lambda _: renew(*arguments)
        )
        checking, telling = gates
        self.perform(asked("1.2.3.4.5"))
        checking.callback(None)
        stopped = self.commitments.stop()
        telling.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.opened(), [])
        due = self.successResultOf(self.requests.due(60))
        self.assertEqual(due.transactionUID, "1.2.9")

    def test_dropped(self) -> None:
        """What somebody drops while it waits for its turn is not told."""
        hanging = self.hanging[TITLE] = Deferred()
        self.association.release()
        for number in range(2):
            self.perform(asked("1.2.3.4.5", transaction=f"1.2.{number}"))
        first, second = self.successResultOf(self.requests.all(10))
        self.successResultOf(self.requests.remove(second.identifier))
        del self.hanging[TITLE]
        hanging.errback(ConnectionClosed("unreachable"))
        self.assertEqual(self.opened(), [TITLE])
        self.assertEqual(self.waiting(), [first.aeTitle])


class AgainTests(Case):
    """What was found is not what is told a day later."""

    def setUp(self) -> None:
        super().setUp()
        self.opener.refusal = ConnectionClosed("unreachable")
        self.association.release()
        self.read: list[Any] = []
        examine = self.archive.examine
        self.archive.examine = lambda *a: self.read.append(a) or examine(*a)
        self.perform(asked("1.2.3.4.5", "1.2.3.4.6"))
        self.assertEqual(len(self.read), 2)
        self.opener.refusal = None

    def tell(self) -> dict[str, int]:
        """What it is told in the end."""
        self.addCleanup(lambda: self.successResultOf(self.commitments.stop()))
        self.clock.advance(60)
        self.commitments.start()
        return self.told(self.opener.received)[1]

    def test_same(self) -> None:
        """Files that are there are not read once more."""
        self.assertEqual(self.tell(), {"1.2.3.4.5": 0, "1.2.3.4.6": 0})
        self.assertEqual(len(self.read), 2)

    def test_deleted(self) -> None:
        """One that was deleted meanwhile is not kept for good."""
        query = Query(Level.IMAGE, (AnyOf(UNIQUE_KEYS[Level.IMAGE], ("1.2.3.4.6",)),))
        (one,) = self.successResultOf(self.index.locate(query).nextBatch())
        self.successResultOf(self.index.forget(one.location))
        self.assertEqual(self.tell(), {"1.2.3.4.5": 0, "1.2.3.4.6": 0x0112})

    def test_lost(self) -> None:
        """Nor one whose file is gone, as after a restore of the database."""
        for path in list(self.archive.files):
            if "1.2.3.4.6" in path:
                del self.archive.files[path]
        self.assertEqual(self.tell(), {"1.2.3.4.5": 0, "1.2.3.4.6": 0x0110})

    def test_onItsWay(self) -> None:
        """A file that is on its way is read."""
        for path in list(self.archive.files):
            if "1.2.3.4.6" in path:
                self.archive.marks.add(Location(path, 0))
        self.assertEqual(self.tell(), {"1.2.3.4.5": 0, "1.2.3.4.6": 0})
        self.assertEqual(len(self.read), 3)
