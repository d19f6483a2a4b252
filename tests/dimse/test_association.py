"""Tests for L{d360.dimse.association}."""

from __future__ import annotations

import sys

from attrs import evolve
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, succeed
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
from d360.interfaces import IAssociation, IOperation, IUpperLayerUser
from d360.model import Command, Fragment
from tests.dimse.case import (
    ECHO,
    FIND_RQ,
    STORE,
    AssociationTestCase,
    RecordingConsumer,
)
from tests.dimse.upperlayer import (
    VERIFICATION,
    established,
    messages,
    pieces,
)


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

    def test_severalInOneWrite(self) -> None:
        """Pending responses may leave together; each is a message of its own."""
        data = [
            bytes.fromhex("10002000 02000000 3120"),
            bytes.fromhex("10002000 00000000"),
        ]

        @asynchronous
        async def body(operation):
            await operation.readDataset(1000)
            await operation.respondAll(0xFF00, data)
            await operation.respond(0x0000)
            self.failureResultOf(operation.respondAll(0xFF00, data), RuntimeError)

        self.service.body = body
        self.receive(5, FIND_RQ)
        self.receiveData(5, b"")
        self.assertEqual(len(self.upperLayer.written), 2)
        sent = messages(self.upperLayer.written)
        self.assertEqual([one[1] for one in sent], [True, False, True, False, True])
        self.assertEqual([one[2] for one in sent[1:4:2]], data)
        self.assertEqual(sent[0], sent[2])

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

    def test_whenEnded(self) -> None:
        """It fires when the association has ended, and at once after that."""
        first = self.association.whenEnded()
        self.assertNoResult(first)
        self.association.associationEnded(ConnectionClosed("gone"))
        self.successResultOf(first)
        self.successResultOf(self.association.whenEnded())

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


class UnreadTests(AssociationTestCase):
    """A peer that does not read its answers is given no more of them to read."""

    def setUp(self) -> None:
        super().setUp()
        self.service.body = lambda operation: operation.respond(0)

    def test_held(self) -> None:
        """No request is taken while the connection is full."""
        self.receive(1, ECHO)
        self.assertTrue(self.upperLayer.receiving)
        self.association.pauseProducing()
        self.receive(1, ECHO)
        self.assertFalse(self.upperLayer.receiving)
        self.association.resumeProducing()
        self.assertTrue(self.upperLayer.receiving)

    def test_cancel(self) -> None:
        """In the middle of an operation its C-CANCEL must get through."""
        self.service.body = lambda operation: operation.readDataset(100).addCallback(
            lambda _: Deferred()
        )
        self.receive(5, FIND_RQ)
        self.receiveData(5, b"")
        self.association.pauseProducing()
        self.assertTrue(self.upperLayer.receiving)


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
