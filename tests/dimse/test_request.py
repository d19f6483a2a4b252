"""Requests of ours on an association (PS3.7 9.3), and associations of ours."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from d360.dimse import commands
from d360.dimse.opener import AssociationOpener
from d360.dimse.request import CHUNK, encodeStore
from d360.errors import (
    ArchiveError,
    AssociationAborted,
    AssociationEnded,
    ConnectionClosed,
    PDUError,
)
from d360.interfaces import IAssociation, IAssociationOpener
from d360.model import Command, RemoteAE
from d360.ul.settings import UpperLayerSettings
from tests.contracts.archive import checkSignatures
from tests.contracts.memoryarchive import MemoryReader
from tests.dimse.case import ECHO, FIND_RQ, AssociationTestCase
from tests.dimse.test_commands import titles, uids, words
from tests.dimse.upperlayer import CT, EXPLICIT, VERIFICATION, messages

STORE = Command(
    CommandField=commands.C_STORE_RQ,
    AffectedSOPClassUID=CT,
    AffectedSOPInstanceUID="1.2.3",
    Priority=0,
)


def response(messageID: int, status: int = 0, **elements: Any) -> Command:
    return Command(
        commands.C_STORE_RQ | commands.RESPONSE,
        MessageIDBeingRespondedTo=messageID,
        Status=status,
        **elements,
    )


stores = st.builds(
    Command,
    CommandField=st.just(commands.C_STORE_RQ),
    AffectedSOPClassUID=st.just("") | uids,
    Priority=st.none() | words,
    AffectedSOPInstanceUID=uids,
    MoveOriginatorApplicationEntityTitle=st.just("") | titles,
    MoveOriginatorMessageID=st.none() | words,
)


class StoreCommandTests(SynchronousTestCase):
    """The command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""

    @given(stores, words)
    def test_asAnyOther(self, command: Command, messageID: int) -> None:
        """The quicker way to write it writes the same."""
        self.assertEqual(
            commands.encode(
                evolve(
                    command, MessageID=messageID, CommandDataSetType=commands.DATA_SET
                )
            ),
            encodeStore(command, messageID),
        )


class RequestCase(AssociationTestCase):
    def context(self) -> Any:
        return self.association.established.contexts[3]

    def request(self, data: bytes = b"data" * 10, reader: Any = None) -> Any:
        self.upperLayer.written.clear()
        self.reader = reader or MemoryReader(data)
        return self.association.request(self.context(), STORE, self.reader)


class RequestTests(RequestCase):
    """A C-STORE of ours."""

    def test_interface(self) -> None:
        checkSignatures(self, IAssociation, self.association)

    def test_answered(self) -> None:
        """Command and data set go out; the response comes back."""
        for messageID, data in ((1, b"ab"), (2, b""), (3, bytes(CHUNK * 3 + 2))):
            asked = self.request(data)
            command, dataset = messages(self.upperLayer.written)
            self.assertEqual(
                evolve(STORE, MessageID=messageID, CommandDataSetType=1),
                commands.decode(command[2]),
            )
            self.assertTrue(dataset == (3, False, data))
            self.assertNoResult(asked)
            self.receive(3, response(messageID, 0xB000))
            self.assertEqual(0xB000, self.successResultOf(asked).Status)
            self.assertFalse(self.reader.closed)

    def test_withoutDataset(self) -> None:
        asked = self.association.request(
            self.association.established.contexts[1],
            Command(commands.C_ECHO_RQ, AffectedSOPClassUID=VERIFICATION),
        )
        ((_, _, data),) = messages(self.upperLayer.written)
        self.assertEqual(commands.NO_DATA_SET, commands.decode(data).CommandDataSetType)
        self.receive(1, response(1))
        self.successResultOf(asked)

    def test_messageIDs(self) -> None:
        """They are of 16 bits, and 0 is none of them."""
        self.association._lastMessageID = 0xFFFF
        self.request()
        self.receive(3, response(1))

    def test_oneAtATime(self) -> None:
        self.request()
        self.assertRaises(RuntimeError, self.request)

    def test_readLater(self) -> None:
        """Nothing is sent before the data set is there, and then all of it."""
        reader = MemoryReader(b"data" * 10)
        whole, arriving = reader.read, Deferred[Any]()
        reader.read = lambda count: arriving.addCallback(lambda _: whole(count))
        asked = self.request(reader=reader)
        self.assertEqual([], self.upperLayer.written)
        arriving.callback(None)
        self.assertEqual(b"data" * 10, messages(self.upperLayer.written)[1][2])
        self.receive(3, response(1))
        self.assertEqual(0, self.successResultOf(asked).Status)

    def test_notReadable(self) -> None:
        """A data set that was closed is a mistake of ours, and harms no other."""

        def read(count: int) -> Any:
            raise RuntimeError("the data set was closed")

        reader = MemoryReader(b"data")
        reader.read = read
        self.failureResultOf(self.request(reader=reader), RuntimeError)
        self.assertEqual([], self.upperLayer.written)
        asked = self.request()
        self.receive(3, response(2))
        self.successResultOf(asked)

    def test_cancelledWaiting(self) -> None:
        """Who waits for the answer no longer leaves the association as it is."""
        asked = self.request()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual([], self.upperLayer.ended)

    def test_lostWhileReading(self) -> None:
        """It cannot be sent any more, and who waits hears why."""
        reader = MemoryReader(b"data")
        whole, arriving = reader.read, Deferred[Any]()
        reader.read = lambda count: arriving.addCallback(lambda _: whole(count))
        asked = self.request(reader=reader)
        self.association.associationEnded(ConnectionClosed("gone"))
        arriving.callback(None)
        self.failureResultOf(asked, ConnectionClosed)

    def test_earlyResponse(self) -> None:
        """The message is sent to its end all the same."""
        self.association.pauseProducing()
        asked = self.request(bytes(CHUNK * 2))
        self.receive(3, response(1, 0xA700))
        self.assertNoResult(asked)
        self.association.resumeProducing()
        self.assertEqual(0xA700, self.successResultOf(asked).Status)
        self.assertEqual(CHUNK * 2, len(messages(self.upperLayer.written)[1][2]))

    def test_backPressure(self) -> None:
        """No more than a chunk is written, and one read, beyond what fits."""
        self.association.pauseProducing()
        self.request(bytes(CHUNK * 10))
        self.assertLess(sum(map(len, self.upperLayer.written)), CHUNK + 4096)
        self.assertLessEqual(self.reader._left.tell(), 2 * CHUNK)

    def test_unexpectedResponse(self) -> None:
        """To nothing, to another request, or with a data set."""
        self.assertRaises(PDUError, self.receive, 3, response(1))
        self.request()
        self.assertRaises(PDUError, self.receive, 3, response(2))
        self.assertRaises(PDUError, self.receive, 3, response(1, CommandDataSetType=1))

    def test_requestInPlaceOfResponse(self) -> None:
        """
        Nothing is read while a request waits, so that the response would
        never come.
        """
        self.service.body = lambda operation: Deferred()
        self.receive(5, FIND_RQ)
        self.request()
        self.assertRaises(PDUError, self.receive, 1, ECHO)

    def test_requestBefore(self) -> None:
        """One that came before, out of turn, ends the association."""
        self.receive(1, ECHO)
        self.receive(1, evolve(ECHO, MessageID=9))
        self.failureResultOf(self.request(), AssociationEnded)
        self.assertEqual(1, len(self.upperLayer.ended))

    def test_associationEnds(self) -> None:
        """While sending, waiting, or before."""
        self.association.pauseProducing()
        sending = self.request(bytes(CHUNK * 4))
        self.association.associationEnded(AssociationAborted(0, 0))
        self.failureResultOf(sending, AssociationAborted)
        self.failureResultOf(self.request(), AssociationAborted)

    def test_associationEndsWaiting(self) -> None:
        asked = self.request()
        self.association.associationEnded(ConnectionClosed("gone"))
        self.failureResultOf(asked, ConnectionClosed)

    def test_readFails(self) -> None:
        """Half a message cannot be left; before it, no harm is done."""
        reader = MemoryReader(bytes(CHUNK * 3))
        pieces = [fail(ArchiveError("cannot be read"))]
        reader.read = lambda count: pieces.pop(0)
        self.failureResultOf(self.request(reader=reader), ArchiveError)
        self.assertEqual([], self.upperLayer.written)
        self.assertEqual([], self.upperLayer.ended)

        reader = MemoryReader(bytes(CHUNK * 3))
        whole = reader.read

        def read(count: int) -> Any:
            reader.read = lambda count: fail(ArchiveError("cannot be read"))
            return whole(count)

        reader.read = read
        self.failureResultOf(self.request(reader=reader), ArchiveError)
        self.assertEqual(1, len(self.upperLayer.ended))

    def test_readFailsOtherwise(self) -> None:
        """A mistake of ours leaves no half message either."""
        reader = MemoryReader(bytes(CHUNK * 3))
        whole = reader.read

        def read(count: int) -> Any:
            reader.read = lambda count: fail(RuntimeError("closed"))
            return whole(count)

        reader.read = read
        self.failureResultOf(self.request(reader=reader), RuntimeError)
        self.assertEqual(1, len(self.upperLayer.ended))

    def test_cancelled(self) -> None:
        """Nor does who waits no longer."""
        self.association.pauseProducing()
        asked = self.request(bytes(CHUNK * 3))
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(1, len(self.upperLayer.ended))

    def test_twoResponses(self) -> None:
        """The peer breaks a rule, even if we have not seen to the first yet."""
        self.association.pauseProducing()
        self.request(bytes(CHUNK * 2))
        self.receive(3, response(1))
        self.assertRaises(PDUError, self.receive, 3, response(1))

    def test_takenAtOnce(self) -> None:
        """
        What the connection takes without ever being full is traffic as well: a
        large data set from a slow disk is no silence of the peer's.
        """
        told: list[bool] = []
        self.upperLayer.setBusy = told.append
        self.request(bytes(CHUNK * 5))
        self.assertEqual([False] * (1 + len(self.upperLayer.written)), told)

    def test_responseMeanwhile(self) -> None:
        """
        A response to the peer does not come between the fragments of our
        message (PS3.8 Annex E), and who sends it is told when it is sent.
        """
        self.service.body = lambda operation: operation.readDataset(100).addCallback(
            lambda _: Deferred()
        )
        self.receive(5, FIND_RQ)
        self.receiveData(5, b"")
        self.association.pauseProducing()
        self.request(bytes(CHUNK * 2))
        responded = self.service.operations[0].respond(0xFF00)
        self.assertNoResult(responded)
        self.association.resumeProducing()
        self.successResultOf(responded)
        _, data, pending = messages(self.upperLayer.written)
        self.assertEqual((3, False), data[:2])
        self.assertEqual(CHUNK * 2, len(data[2]))
        self.assertEqual((5, True), pending[:2])
        self.assertEqual(0xFF00, commands.decode(pending[2]).Status)

    def test_silence(self) -> None:
        """
        An answer is the peer's turn; what comes after it is ours, if an operation
        of the peer's is under way.
        """
        self.service.body = lambda operation: operation.readDataset(100).addCallback(
            lambda _: Deferred()
        )
        self.receive(5, FIND_RQ)
        self.receiveData(5, b"")
        self.request()
        self.assertFalse(self.upperLayer.busy)
        self.receive(3, response(1))
        self.assertTrue(self.upperLayer.busy)

    def test_silenceAfterTelling(self) -> None:
        """Where the peer only had to be told of something, it is the peer's."""
        self.assertTrue(self.association.isIdle)
        self.request()
        self.assertFalse(self.association.isIdle)
        self.receive(3, response(1))
        self.assertFalse(self.upperLayer.busy)
        self.assertTrue(self.association.isIdle)

    def test_eventReply(self) -> None:
        """What comes with a response to N-EVENT-REPORT is thrown away."""
        waiting = self.association.request(
            self.context(), Command(commands.N_EVENT_REPORT_RQ, EventTypeID=1)
        )
        answer = evolve(
            response(1),
            CommandField=commands.N_EVENT_REPORT_RQ | commands.RESPONSE,
            CommandDataSetType=commands.DATA_SET,
        )
        self.receive(3, answer)
        self.assertNoResult(waiting)
        self.receiveData(3, b"12345678", 4)
        self.assertEqual(self.successResultOf(waiting).Status, 0)
        self.assertTrue(self.association.isIdle)

    def test_cancelMeanwhile(self) -> None:
        """A C-CANCEL for the operation that we serve is no response."""
        self.service.body = lambda operation: operation.readDataset(100).addCallback(
            lambda _: Deferred()
        )
        self.receive(5, FIND_RQ)
        self.receiveData(5, b"")
        self.request()
        self.receive(5, Command(commands.C_CANCEL_RQ, MessageIDBeingRespondedTo=3))
        self.assertTrue(self.service.operations[0].cancelled)

    def test_release(self) -> None:
        """Fires when it has ended."""
        released = self.association.release()
        self.assertEqual(["release"], self.upperLayer.ended)
        self.assertNoResult(released)
        self.association.associationEnded(AssociationEnded("released"))
        self.successResultOf(released)
        self.successResultOf(self.association.release())


class SmallPDUTests(RequestCase):
    """A peer with a small maximum length."""

    peerMaxPDULength = 1000

    def test_fragments(self) -> None:
        """None is above it, each has an even length, one is the last."""
        sent: list[list[bytes]] = []
        self.upperLayer.sendPData = lambda buffers: sent.append(list(buffers))
        self.request(bytes(CHUNK * 2 + 10))
        pdus = b"".join(b"".join(buffers) for buffers in sent)
        last = []
        while pdus:
            length = int.from_bytes(pdus[2:6], "big")
            self.assertLessEqual(length, 1000)
            self.assertEqual(0, length % 2)
            last.append(pdus[11] & 2)
            pdus = pdus[6 + length :]
        self.assertEqual([2, 2], [flag for flag in last if flag])
        self.assertEqual(2, last[-1])


class SmallestPDUTests(RequestCase):
    """The peer decides on the number of fragments, and so on our work."""

    peerMaxPDULength = 8

    def test_bounded(self) -> None:
        """It is done in small steps, and ends when the connection is full."""
        sent: list[int] = []

        def send(buffers: Any) -> None:
            sent.append(len(buffers))
            if len(sent) > 10:
                self.association.pauseProducing()

        self.upperLayer.sendPData = send
        self.request(bytes(CHUNK))
        self.assertEqual(11, len(sent))
        self.assertLess(max(sent), 2000)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects when, and as, it is told to."""

    def __init__(self) -> None:
        self.connecting: list[Deferred[Any]] = []
        self.cancelled = 0
        self.where: list[tuple[str, int]] = []

    def to(self, host: str, port: int) -> Endpoint:
        self.where.append((host, port))
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        def cancel(_: Any) -> None:
            self.cancelled += 1

        self.connecting.append(Deferred(cancel))
        return self.connecting[-1]


class OpenerTests(SynchronousTestCase):
    """Associations that we open, up to their connection."""

    def setUp(self) -> None:
        self.endpoint = Endpoint()
        self.opener = AssociationOpener(
            Clock(),
            "D360PACS",
            UpperLayerSettings(idleTimeout=60),
            self.secure,
            self.endpoint.to,
        )
        self.secured: list[tuple[str, IStreamClientEndpoint]] = []
        self.remote = RemoteAE("WS1", "192.0.2.1", 11113)

    def secure(
        self, host: str, endpoint: IStreamClientEndpoint
    ) -> IStreamClientEndpoint:
        self.secured.append((host, endpoint))
        return endpoint

    def test_secure(self) -> None:
        """Over TLS where the remote AE is to be reached so (PS3.15 B)."""
        self.open()
        self.assertEqual([], self.secured)
        self.remote = evolve(self.remote, tls=True)
        self.open()
        self.assertEqual([("192.0.2.1", self.endpoint)], self.secured)

    def open(self, number: int = 1) -> Deferred[IAssociation]:
        return self.opener.open(self.remote, [(CT, (EXPLICIT,))] * number)

    def test_interface(self) -> None:
        checkSignatures(self, IAssociationOpener, self.opener)

    def test_contexts(self) -> None:
        """PS3.8 9.3.2.2 has room for 128."""
        for number in (0, 129):
            self.assertRaises(ValueError, self.open, number)
        self.assertNoResult(self.open(128))

    def test_unreachable(self) -> None:
        """The reason is told."""
        opening = self.open()
        self.assertEqual([("192.0.2.1", 11113)], self.endpoint.where)
        self.endpoint.connecting[0].errback(ConnectionRefusedError())
        failure = self.failureResultOf(opening, AssociationEnded)
        self.assertIn("refused", str(failure.value))

    def test_cancelled(self) -> None:
        """It is given up."""
        opening = self.open()
        opening.cancel()
        self.failureResultOf(opening)
        self.assertEqual(1, self.endpoint.cancelled)

    def test_abortAll(self) -> None:
        """Those under way too."""
        opening = self.open()
        self.opener.abortAll("the server stops")
        self.failureResultOf(opening, AssociationEnded)
        self.assertEqual(1, self.endpoint.cancelled)
