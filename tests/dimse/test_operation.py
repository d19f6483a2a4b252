"""Tests for L{d360.dimse.operation}."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.logger import formatEvent, globalLogPublisher

from d360.asynchronous import asynchronous
from d360.dimse import operation as operation_
from d360.errors import DIMSEError, PDUError
from d360.model import Fragment
from tests.dimse.case import (
    CANCEL,
    ECHO,
    FIND_RQ,
    STORE,
    AssociationTestCase,
    RecordingConsumer,
)
from tests.dimse.upperlayer import (
    established,
    pieces,
)


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

    def buffered(self, data: bytes) -> None:
        """As soon as we receive on, a data set is there that came meanwhile."""

        def resume() -> None:
            self.upperLayer.receiving = True
            self.receiveData(3, data)

        self.patch(self.upperLayer, "resumeReceiving", resume)

    def test_askedForLater(self) -> None:
        """A service that did something else first gets what is there already."""
        consumer = RecordingConsumer()
        self.receive(3, STORE)
        self.assertFalse(self.upperLayer.receiving)
        self.buffered(b"abcd")
        self.successResultOf(self.service.operations[0].deliverDataset(consumer))
        self.assertEqual(consumer.data, b"abcd")

    def test_thrownAwayLater(self) -> None:
        """So is one that refuses only then."""
        self.receive(3, STORE)
        self.buffered(b"abcd")
        self.successResultOf(self.service.operations[0].respond(0x0124))
        self.assertEqual(self.responses()[0].Status, 0x0124)

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

    def test_identifierAsItCame(self) -> None:
        """Its bytes are kept, whether or not they can be decoded."""
        self.service.body = lambda operation: operation.readDataset(100)
        for data in ("10002000 02000000 3120", "10001000 ff000000 41"):
            data = bytes.fromhex(data)
            self.receive(5, FIND_RQ)
            operation = self.service.operations[-1]
            self.assertEqual(operation.identifier, b"")
            self.receiveData(5, data, 3)
            self.assertEqual(operation.identifier, data)
            self.flushLoggedErrors(RuntimeError)

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

    def test_endlessIdentifier(self) -> None:
        """Of one without an end, no more is read than it takes to be sure."""
        self.service.body = lambda operation: operation.readDataset(100)
        self.receive(5, FIND_RQ)
        piece = Fragment(5, False, False, memoryview(bytes(1 << 20)))
        for _ in range(operation_.MAX_EXCESS >> 20):
            self.association.fragmentReceived(piece)
        self.assertEqual(self.responses(), [])
        self.assertRaises(PDUError, self.association.fragmentReceived, piece)

    def test_manyItems(self) -> None:
        """
        An identifier that is full of items, or of what is within one, is refused
        before they all are read.
        """
        reads = []
        whole = operation_._Patience.read
        self.patch(
            operation_._Patience,
            "read",
            lambda self, size=-1: reads.append(1) or whole(self, size),
        )
        self.service.body = lambda operation: operation.readDataset(1 << 20)
        opened = bytes.fromhex("08004011 FFFFFFFF FEFF00E0 FFFFFFFF")
        item = bytes.fromhex("FEFF00E0 00000000")
        closed = bytes.fromhex("FEFF0DE0 00000000 FEFFDDE0 00000000")
        element = bytes.fromhex("08006000 02000000 4354")
        for many in (closed[:8] + item * 30000 + opened[8:], element * 30000):
            self.receive(5, FIND_RQ)
            self.receiveData(5, opened + many + closed)
            self.assertLessEqual(len(reads), operation_.MAX_READS + 1)
            reads.clear()
            self.assertEqual(self.responses()[-1].Status, 0xC000)

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
