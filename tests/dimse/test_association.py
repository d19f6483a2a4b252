"""Tests for L{d360.dimse.association} and L{d360.dimse.operation}."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from attrs import evolve
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.asynchronous import asynchronous
from d360.dimse import commands
from d360.dimse.association import Association, Associations
from d360.errors import (
    AssociationAborted,
    AssociationEnded,
    ConnectionClosed,
    DIMSEError,
    PDUError,
)
from d360.interfaces import IAssociation, IOperation, IServiceClass, IUpperLayerUser
from d360.model import Command, Fragment
from tests.dimse.upperlayer import (
    CT,
    FIND,
    VERIFICATION,
    RecordingUpperLayer,
    established,
    messages,
    pieces,
)


@implementer(IServiceClass)
class RecordingService:
    """Performs what a test puts into C{body}."""

    sopClasses = frozenset({VERIFICATION, CT, FIND})
    commandFields = frozenset(
        {commands.C_ECHO_RQ, commands.C_STORE_RQ, commands.C_FIND_RQ}
    )

    def __init__(self) -> None:
        self.operations: list[Any] = []
        self.body: Callable[[Any], Deferred[None]] = lambda operation: Deferred()

    def transferSyntaxesFor(self, sopClass):
        return frozenset()

    def grantsSCPRole(self, sopClass):
        return False

    def perform(self, operation):
        self.operations.append(operation)
        return self.body(operation)

    def serviceFor(self, abstractSyntax):
        return self


class RecordingConsumer:
    """A consumer of a data set."""

    def __init__(self) -> None:
        self.data = b""
        self.producer: Any = None
        self.producers = 0

    def registerProducer(self, producer, streaming):
        self.producer = producer
        self.producers += 1

    def unregisterProducer(self):
        self.producer = None

    def write(self, data):
        self.data += data


ECHO = Command(
    CommandField=commands.C_ECHO_RQ, AffectedSOPClassUID=VERIFICATION, MessageID=1
)
STORE = Command(
    CommandField=commands.C_STORE_RQ,
    AffectedSOPClassUID=CT,
    AffectedSOPInstanceUID="1.2.3",
    MessageID=2,
    Priority=0,
    CommandDataSetType=commands.DATA_SET,
)
FIND_RQ = Command(
    CommandField=commands.C_FIND_RQ,
    AffectedSOPClassUID=FIND,
    MessageID=3,
    Priority=0,
    CommandDataSetType=commands.DATA_SET,
)
CANCEL = Command(commands.C_CANCEL_RQ, MessageIDBeingRespondedTo=3)


class AssociationTestCase(SynchronousTestCase):
    """An association over a recording upper layer, with one service."""

    peerMaxPDULength = 0

    def setUp(self) -> None:
        self.service = RecordingService()
        self.clock = Clock()
        self.upperLayer = RecordingUpperLayer()
        self.association = Association(self.service, self.clock)
        self.association.associationEstablished(
            self.upperLayer, established(self.peerMaxPDULength)
        )

    def receive(self, contextID: int, command: Command, size: int = 1 << 20) -> None:
        """A command set comes."""
        for piece in pieces(contextID, True, commands.encode(command), size):
            self.association.fragmentReceived(piece)

    def receiveData(self, contextID: int, data: bytes, size: int = 1 << 20) -> None:
        """A data set comes."""
        for piece in pieces(contextID, False, data, size):
            self.association.fragmentReceived(piece)

    def responses(self) -> list[Command]:
        """The command sets sent so far."""
        return [
            commands.decode(data)
            for _, isCommand, data in messages(self.upperLayer.written)
            if isCommand
        ]


class InterfaceTests(AssociationTestCase):
    """The seams are kept."""

    def test_interfaces(self) -> None:
        """An association and its operations provide what they promise."""
        verifyObject(IUpperLayerUser, self.association)
        verifyObject(IAssociation, self.association)
        self.receive(1, ECHO)
        verifyObject(IOperation, self.service.operations[0])


class ResponseTests(AssociationTestCase):
    """Responses of PS3.7 9.1 and 9.3."""

    def test_echo(self) -> None:
        """A response names the request by its Message ID and SOP class."""
        self.service.body = lambda operation: operation.respond(0x0000)
        for size in (1, 7, 1 << 20):
            self.upperLayer.written.clear()
            self.receive(1, ECHO, size)
            self.assertEqual(
                self.responses(),
                [
                    Command(
                        CommandField=0x8030,
                        MessageIDBeingRespondedTo=1,
                        AffectedSOPClassUID=VERIFICATION,
                        Status=0,
                    )
                ],
            )

    def test_oneWrite(self) -> None:
        """Command set and identifier of a response go out in one write."""
        identifier = Dataset()
        identifier.PatientID = "1"

        @asynchronous
        async def body(operation):
            await operation.readDataset(1000)
            await operation.respond(0xFF00, identifier)
            await operation.respond(0x0000)

        self.service.body = body
        self.receive(5, FIND_RQ)
        self.receiveData(5, b"")
        self.assertEqual(len(self.upperLayer.written), 2)
        sent = messages(self.upperLayer.written)
        self.assertEqual([isCommand for _, isCommand, _ in sent], [True, False, True])
        self.assertEqual(sent[1], (5, False, bytes.fromhex("10002000 02000000 3120")))
        self.assertEqual(commands.decode(sent[0][2]).CommandDataSetType, 1)
        self.assertEqual(commands.decode(sent[2][2]).CommandDataSetType, 0x0101)

    def test_bigEndianIdentifier(self) -> None:
        """Identifiers are in the context's transfer syntax, both ways."""
        found = []

        @asynchronous
        async def body(operation):
            found.append(await operation.readDataset(1000))
            await operation.respond(0xFF00, found[0])
            await operation.respond(0x0000)

        self.service.body = body
        data = bytes.fromhex("00100020 4c4f 0002 3120")
        self.receive(7, FIND_RQ)
        self.receiveData(7, data, 1)
        self.assertEqual(found[0].PatientID, "1")
        self.assertEqual(messages(self.upperLayer.written)[1], (7, False, data))

    def test_encodedIdentifier(self) -> None:
        """An identifier may come encoded."""

        @asynchronous
        async def body(operation):
            await operation.respond(0xFF00, b"encoded ")
            await operation.respond(0x0000)

        self.service.body = body
        self.receive(5, evolve(FIND_RQ, CommandDataSetType=0x0101))
        self.assertEqual(messages(self.upperLayer.written)[1], (5, False, b"encoded "))

    def test_errorIsTheAnswer(self) -> None:
        """What a service class raises is answered (PS3.7 C)."""

        @asynchronous
        async def body(operation):
            raise DIMSEError(0xA900, "x" * 70, [0x0020000D])

        self.service.body = body
        self.receive(3, STORE)
        self.receiveData(3, b"data")
        (response,) = self.responses()
        self.assertEqual(response.Status, 0xA900)
        self.assertEqual(response.ErrorComment, "x" * 64)
        self.assertEqual(response.OffendingElement, (0x0020000D,))
        self.assertEqual(response.AffectedSOPInstanceUID, "1.2.3")

    def test_mistakeIsAFailure(self) -> None:
        """Any other exception is logged, and answered as a failure."""

        def body(operation):
            raise ZeroDivisionError

        self.service.body = body
        self.receive(3, evolve(STORE, CommandDataSetType=0x0101))
        self.receive(1, ECHO)
        self.assertEqual(
            [response.Status for response in self.responses()], [0xC000, 0x0110]
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_noFinalResponse(self) -> None:
        """A service class that answers nothing is a mistake of ours."""
        self.service.body = lambda operation: succeed(None)
        self.receive(1, ECHO)
        self.assertEqual(self.responses()[0].Status, 0x0110)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_unrecognizedOperation(self) -> None:
        """A request that the service class does not perform: 0211."""
        self.receive(3, evolve(ECHO, CommandField=commands.C_MOVE_RQ))
        (response,) = self.responses()
        self.assertEqual((response.Status, response.CommandField), (0x0211, 0x8021))
        self.assertEqual(self.service.operations, [])

    def test_secondFinalResponse(self) -> None:
        """After the final response there is none."""
        self.receive(1, ECHO)
        (operation,) = self.service.operations
        self.successResultOf(operation.respond(0))
        self.failureResultOf(operation.respond(0), RuntimeError)


class LogTests(AssociationTestCase):
    """One line an operation."""

    def test_line(self) -> None:
        """It names the instance, whatever a peer puts there, on one line."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.service.body = lambda operation: operation.respond(0x0000)
        hostile = "1.2.3\n2026-01-01 forged line " + "9" * 100
        self.receive(3, evolve(STORE, AffectedSOPInstanceUID=hostile))
        self.receiveData(3, b"data")
        (text,) = [formatEvent(event) for event in events]
        self.assertIn("C-STORE 2: 1.2.3?2026-01-01 forged line 999", text)
        self.assertIn("answered 0000", text)
        self.assertNotIn("\n", text)
        self.assertLess(len(text), 200)


class DatasetTests(AssociationTestCase):
    """Data sets stream, with back-pressure (PS3.7 6.3.1, PS3.8 Annex E)."""

    def test_delivered(self) -> None:
        """The bytes reach the consumer as they came, however cut."""
        data = bytes(range(256)) * 5
        for size in (1, 7, len(data)):
            consumer = RecordingConsumer()
            self.service.operations.clear()
            self.receive(3, STORE)
            (operation,) = self.service.operations
            delivered = operation.deliverDataset(consumer)
            self.assertIs(consumer.producer, operation)
            self.receiveData(3, data, size)
            self.successResultOf(delivered)
            self.assertEqual(consumer.data, data)
            self.assertIs(consumer.producer, None)
            self.successResultOf(operation.respond(0))

    def test_emptyDataset(self) -> None:
        """A data set may be of no bytes."""
        self.receive(3, STORE)
        delivered = self.service.operations[0].deliverDataset(RecordingConsumer())
        self.receiveData(3, b"")
        self.successResultOf(delivered)

    def test_notAskedFor(self) -> None:
        """Until it is asked for, nothing more is received."""
        self.receive(3, STORE)
        self.assertFalse(self.upperLayer.receiving)
        self.service.operations[0].deliverDataset(RecordingConsumer())
        self.assertTrue(self.upperLayer.receiving)

    def test_consumerPauses(self) -> None:
        """A consumer that is behind stops the connection, and starts it."""
        consumer = RecordingConsumer()
        self.receive(3, STORE)
        self.service.operations[0].deliverDataset(consumer)
        consumer.producer.pauseProducing()
        self.assertFalse(self.upperLayer.receiving)
        consumer.producer.resumeProducing()
        self.assertTrue(self.upperLayer.receiving)

    def test_pausedAtTheEnd(self) -> None:
        """A pause does not outlive the data set that it was for."""
        consumer = RecordingConsumer()
        self.receive(3, STORE)
        self.service.operations[0].deliverDataset(consumer)
        consumer.producer.pauseProducing()
        producer = consumer.producer
        self.receiveData(3, b"abcd")
        self.assertTrue(self.upperLayer.receiving)
        producer.pauseProducing()
        self.assertTrue(self.upperLayer.receiving)

    def test_thrownAway(self) -> None:
        """An answer waits until the data set that nobody wants was read."""
        self.receive(3, STORE)
        responded = self.service.operations[0].respond(0x0122)
        self.assertTrue(self.upperLayer.receiving)
        self.assertEqual(self.upperLayer.written, [])
        self.receiveData(3, b"abcdef", 2)
        self.successResultOf(responded)
        self.assertEqual(self.responses()[0].Status, 0x0122)

    def test_consumerFails(self) -> None:
        """What the consumer raises fails the delivery; the rest is read."""
        consumer = RecordingConsumer()
        consumer.write = lambda data: 1 // 0  # type: ignore[method-assign]

        @asynchronous
        async def body(operation):
            try:
                await operation.deliverDataset(consumer)
            except ZeroDivisionError:
                raise DIMSEError(0xC000, "no") from None

        self.service.body = body
        self.receive(3, STORE)
        first, second = pieces(3, False, b"abcd", 2)
        self.association.fragmentReceived(first)
        self.assertEqual(self.upperLayer.written, [])
        self.association.fragmentReceived(second)
        self.assertEqual(self.responses()[0].Status, 0xC000)

    def test_stopProducing(self) -> None:
        """A consumer may want no more; the delivery still ends."""
        consumer = RecordingConsumer()
        self.receive(3, STORE)
        delivered = self.service.operations[0].deliverDataset(consumer)
        first, second = pieces(3, False, b"abcd", 2)
        self.association.fragmentReceived(first)
        consumer.producer.stopProducing()
        self.association.fragmentReceived(second)
        self.successResultOf(delivered)
        self.assertEqual(consumer.data, b"ab")

    def test_identifierTooLong(self) -> None:
        """An identifier is bounded."""
        self.service.body = lambda operation: operation.readDataset(8)
        self.receive(5, FIND_RQ)
        self.receiveData(5, b"x" * 9, 3)
        self.assertEqual(self.responses()[0].Status, 0xC000)

    def test_identifierOfTooManyKeys(self) -> None:
        """An identifier is bounded in keys too."""
        self.service.body = lambda operation: operation.readDataset(1 << 20)
        self.receive(5, FIND_RQ)
        keys = b"".join(
            bytes.fromhex("1000") + n.to_bytes(2, "little") + bytes(4)
            for n in range(2000)
        )
        self.receiveData(5, keys)
        self.assertEqual(self.responses()[0].Status, 0xC000)

    def test_identifierDamaged(self) -> None:
        """An identifier that cannot be decoded is answered C000."""
        self.service.body = lambda operation: operation.readDataset(100)
        self.receive(5, FIND_RQ)
        self.receiveData(5, bytes.fromhex("10001000 ff000000 41"))
        self.assertEqual(self.responses()[0].Status, 0xC000)

    def test_fragmented(self) -> None:
        """No PDV is larger than the peer takes (PS3.8 D.1)."""
        self.association.established = established(16)
        self.receive(1, ECHO)
        self.service.operations[0].respond(0)
        for written in self.upperLayer.written:
            while written:
                length = int.from_bytes(written[2:6], "big")
                self.assertLessEqual(length, 16)
                self.assertEqual(length % 2, 0)
                written = written[6 + length :]
        self.assertEqual(self.responses()[0].Status, 0)


class WrongMessageTests(AssociationTestCase):
    """What PS3.7 and PS3.8 Annex E do not allow is the peer's error."""

    def test_dataWithoutCommand(self) -> None:
        """A data set with no command before it."""
        self.assertRaises(PDUError, self.receiveData, 3, b"data")

    def test_commandInsideData(self) -> None:
        """A command set before the data set has ended."""
        self.receive(3, STORE)
        self.service.operations[0].deliverDataset(RecordingConsumer())
        self.assertRaises(PDUError, self.receive, 1, ECHO)

    def test_contextChangesInCommand(self) -> None:
        """The fragments of a command set are of one context."""
        first, second = pieces(1, True, commands.encode(ECHO), 60)
        self.association.fragmentReceived(first)
        self.assertRaises(
            PDUError, self.association.fragmentReceived, evolve(second, contextID=3)
        )

    def test_contextChangesInMessage(self) -> None:
        """A data set is of the context of its command."""
        self.receive(3, STORE)
        self.service.operations[0].deliverDataset(RecordingConsumer())
        self.assertRaises(PDUError, self.receiveData, 5, b"data")

    def test_endlessCommand(self) -> None:
        """A command set is bounded."""
        piece = Fragment(1, True, False, memoryview(bytes(4096)))
        for _ in range(4):
            self.association.fragmentReceived(piece)
        self.assertRaises(PDUError, self.association.fragmentReceived, piece)

    def test_emptyFragments(self) -> None:
        """Fragments without data take no memory, however many come."""
        empty = Fragment(1, True, False, memoryview(b""))
        for _ in range(1000):
            self.association.fragmentReceived(empty)
        self.assertLess(sys.getsizeof(self.association._assembly._data), 1000)
        self.receive(1, ECHO)
        self.assertEqual(len(self.service.operations), 1)

    def test_responseToNothing(self) -> None:
        """A response without a request."""
        self.assertRaises(PDUError, self.receive, 1, evolve(ECHO, CommandField=0x8030))

    def test_noMessageID(self) -> None:
        """A request that could not be answered."""
        self.assertRaises(PDUError, self.receive, 1, evolve(ECHO, MessageID=None))


class SerialTests(AssociationTestCase):
    """One operation at a time, whatever the peer does (PS3.7 D.3.3.3)."""

    def test_requestsInARow(self) -> None:
        """A second request waits for the first, and nothing is lost."""
        self.receive(1, ECHO)
        self.receive(3, STORE)
        self.assertEqual(len(self.service.operations), 1)
        self.assertFalse(self.upperLayer.receiving)
        self.service.operations[0].respond(0)
        _first, second = self.service.operations
        self.assertEqual(second.request.MessageID, 2)
        consumer = RecordingConsumer()
        delivered = second.deliverDataset(consumer)
        self.assertTrue(self.upperLayer.receiving)
        self.receiveData(3, b"data")
        self.successResultOf(delivered)
        second.respond(0)
        self.assertEqual(consumer.data, b"data")
        self.assertEqual(
            [response.MessageIDBeingRespondedTo for response in self.responses()],
            [1, 2],
        )


class CancelTests(AssociationTestCase):
    """C-CANCEL-RQ (PS3.7 9.3.2.3)."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(5, evolve(FIND_RQ, CommandDataSetType=0x0101))
        (self.operation,) = self.service.operations

    def test_cancelled(self) -> None:
        """It reaches the operation that it names."""
        waiting = self.operation.whenCancelled()
        self.assertNoResult(waiting)
        self.assertFalse(self.operation.cancelled)
        self.receive(5, CANCEL)
        self.successResultOf(waiting)
        self.assertTrue(self.operation.cancelled)
        self.successResultOf(self.operation.whenCancelled())

    def test_another(self) -> None:
        """One for another operation is ignored."""
        self.receive(5, evolve(CANCEL, MessageIDBeingRespondedTo=4))
        self.assertFalse(self.operation.cancelled)

    def test_late(self) -> None:
        """One that comes after the final response is ignored."""
        self.operation.respond(0)
        self.receive(5, CANCEL)
        self.assertFalse(self.operation.cancelled)

    def test_notWaitedForAnyMore(self) -> None:
        """Who waits may give it up."""
        waiting = self.operation.whenCancelled()
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        self.receive(5, CANCEL)


class WriteTests(AssociationTestCase):
    """Responses wait for a slow reader."""

    def test_waits(self) -> None:
        """C{respond} fires when the connection takes more."""
        self.receive(5, evolve(FIND_RQ, CommandDataSetType=0x0101))
        (operation,) = self.service.operations
        self.successResultOf(operation.respond(0xFF00, b""))
        assert self.upperLayer.producer is not None
        self.upperLayer.producer.pauseProducing()
        responded = operation.respond(0xFF00, b"")
        self.assertNoResult(responded)
        self.upperLayer.producer.resumeProducing()
        self.successResultOf(responded)


class EndTests(AssociationTestCase):
    """However an association ends, its operation learns it."""

    def test_release(self) -> None:
        """A release is confirmed."""
        self.association.releaseIndicated()
        self.assertEqual(self.upperLayer.ended, ["confirmRelease"])

    def test_abort(self) -> None:
        """Who has the association may abort it."""
        self.association.abort("enough")
        self.assertEqual(self.upperLayer.ended, ["abort: enough"])

    def test_inTheMiddleOfADataset(self) -> None:
        """The consumer of a data set is told that it ends too early."""
        consumer = RecordingConsumer()
        self.receive(3, STORE)
        (operation,) = self.service.operations
        delivered = operation.deliverDataset(consumer)
        self.association.fragmentReceived(pieces(3, False, b"abcd", 2)[0])
        cancelled = operation.whenCancelled()
        self.association.associationEnded(ConnectionClosed())
        self.failureResultOf(delivered, ConnectionClosed)
        self.assertIs(consumer.producer, None)
        self.successResultOf(cancelled)
        self.failureResultOf(operation.respond(0), ConnectionClosed)
        self.failureResultOf(
            operation.deliverDataset(RecordingConsumer()), ConnectionClosed
        )

    def test_serviceSeesIt(self) -> None:
        """A service class that ends with it is of no further consequence."""
        self.service.body = lambda operation: operation.readDataset(10)
        self.receive(5, FIND_RQ)
        self.association.associationEnded(AssociationAborted(0, 0))
        self.assertEqual(self.upperLayer.written, [])

    def test_waitingToWrite(self) -> None:
        """A response that waits for a slow reader waits no more."""
        self.receive(5, evolve(FIND_RQ, CommandDataSetType=0x0101))
        (operation,) = self.service.operations
        self.association.pauseProducing()
        responded = operation.respond(0xFF00, b"")
        self.association.associationEnded(ConnectionClosed())
        self.failureResultOf(responded, AssociationEnded)

    def test_waitingForTheData(self) -> None:
        """Nor does one that waits for the end of the data set."""
        self.receive(3, STORE)
        responded = self.service.operations[0].respond(0x0122)
        self.association.associationEnded(ConnectionClosed())
        self.failureResultOf(responded, ConnectionClosed)

    def test_theWaitingRequest(self) -> None:
        """A request that was never begun is forgotten."""
        self.receive(1, ECHO)
        self.receive(3, STORE)
        self.association.associationEnded(ConnectionClosed())
        self.assertEqual(len(self.service.operations), 1)

    def test_neverEstablished(self) -> None:
        """An association may end before it was open."""
        association = Association(self.service, self.clock)
        association.associationEnded(ConnectionClosed())
        association.abort("nothing to abort")


class BusyTests(AssociationTestCase):
    """Whose turn it is decides whether silence is a fault of the peer's."""

    def test_ours(self) -> None:
        """Between request and response it is ours."""
        self.assertFalse(self.upperLayer.busy)
        self.receive(1, ECHO)
        self.assertTrue(self.upperLayer.busy)
        self.service.operations[0].respond(0)
        self.assertFalse(self.upperLayer.busy)

    def test_dataset(self) -> None:
        """While a data set is to come, it is the peer's."""
        self.receive(3, STORE)
        (operation,) = self.service.operations
        operation.deliverDataset(RecordingConsumer())
        self.assertFalse(self.upperLayer.busy)
        self.receiveData(3, b"data")
        self.assertTrue(self.upperLayer.busy)
        operation.respond(0)
        self.assertFalse(self.upperLayer.busy)


class FinishTests(AssociationTestCase):
    """A server that stops lets operations end."""

    def setUp(self) -> None:
        super().setUp()
        self.associations = Associations(self.service, self.clock)
        self.association = self.associations.build()
        self.association.associationEstablished(self.upperLayer, established())

    def test_idle(self) -> None:
        """An association without one is aborted at once."""
        self.associations.finish("the server stops")
        self.assertEqual(self.upperLayer.ended, ["abort: the server stops"])

    def test_atWork(self) -> None:
        """One with an operation is aborted after its final response."""
        self.receive(1, ECHO)
        self.associations.finish("the server stops")
        self.assertEqual(self.upperLayer.ended, [])
        self.service.operations[0].respond(0)
        self.assertEqual(self.responses()[0].Status, 0)
        self.assertEqual(self.upperLayer.ended, ["abort: the server stops"])
