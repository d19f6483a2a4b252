from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.errors import (
    AssociationAborted,
    AssociationRejected,
    AssociationReleased,
    ConnectionClosed,
    PDUError,
)
from d360.interfaces import IUpperLayer
from d360.ul import pdus
from d360.ul.framing import dataHeader
from tests.ul.association import (
    COMMAND,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    USER_ABORT,
    AcceptorSide,
    pieces,
    providerAbort,
)

DONE = Failure(ConnectionDone())


class Boom(Exception):
    pass


#: A request whose presentation context has the ID 2.
EVEN_CONTEXT = REQUEST.replace(b"\x20\0\0\x2e\1", b"\x20\0\0\x2e\2")


class AcceptorCase(SynchronousTestCase):
    def setUp(self):
        self.events = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.side = AcceptorSide(idleTimeout=60.0)

    def lines(self, level):
        """Formats of the upper layer's log at one level."""
        return [
            event["log_format"]
            for event in self.events
            if event["log_level"] is level
            and event["log_namespace"].startswith("d360.ul")
        ]

    def assertEnded(self, user, kind):
        self.assertEqual([type(ending) for ending in user.endings], [kind])
        self.assertEqual(self.side.factory.live, 0)

    def assertClean(self, protocol):
        """After the connection's end nothing is left."""
        protocol.connectionLost(DONE)
        self.assertEqual(self.side.clock.getDelayedCalls(), [])
        self.assertFired(self.side.factory.whenEmpty())

    def assertFired(self, deferred):
        self.assertIsNone(self.successResultOf(deferred))


class EstablishmentTests(AcceptorCase):
    """PS3.8 7.1, Table 9-6"""

    def test_accepted(self):
        """In reads of 1, 7 and all bytes, an A-ASSOCIATE-AC goes out."""
        for size in (1, 7, len(REQUEST)):
            protocol, transport = self.side.connect()
            for piece in pieces(REQUEST, size):
                protocol.dataReceived(piece)
            acceptance = pdus.decodeAcceptance(transport.value()[6:])
            self.assertEqual(transport.value()[0], 2)
            self.assertEqual([each.result for each in acceptance.results], [0])
            self.assertEqual(acceptance.maxPDULength, 65534)
            self.assertEqual(
                acceptance.implementationClassUID, "1.3.6.1.4.1.35672.0.3.6"
            )
            self.assertEqual(acceptance.implementationVersion, "D360-3-6")
            user = self.side.users[-1]
            self.assertEqual(user.told, ["established"])
            self.assertIs(user.upperLayer, protocol)
            verifyObject(IUpperLayer, protocol)
            self.assertEqual(user.established.peer, "192.168.1.1")
            self.assertEqual(user.established.peerMaxPDULength, 16384)
        self.assertEqual((self.side.factory.live, self.side.factory.accepted), (3, 3))
        self.assertEqual(len(self.lines(LogLevel.info)), 3)

    def test_bareConnection(self):
        """A connection without a request leaves nothing, at debug only."""
        protocol, _transport = self.side.connect()
        self.assertClean(protocol)
        self.assertEqual(self.side.users, [])
        self.assertEqual(self.lines(LogLevel.info) + self.lines(LogLevel.warn), [])

    def test_noRequest(self):
        """ARTIM ends a connection that brings no request (AA-2)."""
        protocol, transport = self.side.connect()
        self.side.clock.advance(29.9)
        self.assertFalse(transport.disconnecting)
        self.side.clock.advance(0.1)
        self.assertTrue(transport.disconnected)
        self.assertClean(protocol)

    def test_rejected(self):
        """What admission raises is what the A-ASSOCIATE-RJ says (AE-8)."""
        self.side.admission.answer = AssociationRejected(1, 1, 7, "not us")
        protocol, transport = self.side.connect()
        protocol.dataReceived(REQUEST)
        self.assertEqual(transport.value().hex(), "03000000000400010107")
        self.side.clock.advance(30)
        self.assertTrue(transport.disconnected)
        self.assertClean(protocol)
        self.assertEqual(self.side.users, [])
        self.assertEqual(len(self.lines(LogLevel.info)), 1)

    def test_admissionFails(self):
        """Any other failure is ours, and transient for the peer."""
        self.side.admission.answer = Boom()
        protocol, transport = self.side.connect()
        protocol.dataReceived(REQUEST)
        self.assertEqual(transport.value().hex(), "03000000000400020301")
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
        self.assertClean(protocol)

    def test_providerRejects(self):
        """Protocol version, application context, AE titles (AE-6)."""
        for request, values in (
            (REQUEST[:6] + b"\0\2" + REQUEST[8:], "010202"),
            (REQUEST.replace(b"3.1.1.1", b"3.1.1.2"), "010102"),
            (REQUEST.replace(b"ECHOSCU ", b"ECHO\\SC "), "010103"),
            (REQUEST.replace(b"ECHOSCU ", b"        "), "010103"),
            (REQUEST.replace(b"D360PACS", b"D360\nPAC"), "010107"),
        ):
            protocol, transport = self.side.connect()
            protocol.dataReceived(request)
            self.assertEqual(transport.value().hex(), "03000000000400" + values)
            self.assertEqual(self.side.admission.asked, [])
            self.assertClean(protocol)

    def test_whileAdmitting(self):
        """In Sta3 the peer may abort, close or send what it must not."""
        for data, answer in (
            (USER_ABORT, b""),
            (None, b""),
            (COMMAND, providerAbort(2)),
            (REQUEST, providerAbort(2)),
            (b"\x09" * 6, providerAbort(1)),
        ):
            cancelled = []
            self.side.admission.answer = Deferred(cancelled.append)
            protocol, transport = self.side.connect()
            protocol.dataReceived(REQUEST)
            self.assertEqual(protocol.machine.state, "Sta3")
            if data is None:
                protocol.connectionLost(DONE)
            else:
                protocol.dataReceived(data)
            self.assertEqual(transport.value(), answer)
            self.assertEqual(len(cancelled), 1)
            self.assertEqual(self.side.users, [])
            if data is not None:
                self.assertClean(protocol)

    def test_admittingCounts(self):
        """Requests that wait for admission count as open."""
        self.side.admission.answer = Deferred()
        for _ in range(3):
            protocol, _transport = self.side.connect()
            protocol.dataReceived(REQUEST)
        self.assertEqual([live for _, live in self.side.admission.asked], [0, 1, 2])

    def test_tooManyConnections(self):
        side = AcceptorSide(maxConnections=1)
        side.connect()
        self.assertIsNone(side.factory.buildProtocol(None))


class DataTests(AcceptorCase):
    """PS3.8 7.6, Table 9-7"""

    def test_received(self):
        """In reads of 1, 7 and all bytes."""
        for size in (1, 7, 100):
            protocol, _transport, user = self.side.establish()
            for piece in pieces(COMMAND * 2, size):
                protocol.dataReceived(piece)
            self.assertEqual(
                b"".join(bytes(each.data) for each in user.fragments),
                b"\xde\xad\xbe\xef" * 2,
            )
            self.assertEqual(sum(each.isLast for each in user.fragments), 2)

    def test_sent(self):
        """In one write, views among the buffers or not."""
        protocol, transport, _user = self.side.establish()
        writes = []
        transport.write = writes.append
        buffers = [dataHeader(1, True, True, 2), memoryview(b"AB")]
        protocol.sendPData(buffers)
        self.assertEqual(writes, [b"".join(buffers)])
        del transport.write
        protocol.sendPData(buffers)
        self.assertEqual(transport.value(), b"".join(buffers))

    def test_pause(self):
        """Nothing that is buffered is handed out, and reading stops."""
        protocol, transport, user = self.side.establish()
        user.reply = lambda what: protocol.pauseReceiving()
        protocol.dataReceived(COMMAND * 3)
        self.assertEqual(len(user.fragments), 1)
        self.assertEqual(transport.producerState, "paused")
        protocol.resumeReceiving()
        self.assertEqual(len(user.fragments), 2)
        self.assertEqual(transport.producerState, "paused")
        user.reply = lambda what: None
        protocol.resumeReceiving()
        self.assertEqual(len(user.fragments), 3)
        self.assertEqual(transport.producerState, "producing")

    def test_resumeWithin(self):
        """Resuming from within an indication does not recurse."""
        protocol, transport, user = self.side.establish()
        depth = []

        def reply(what):
            depth.append(what)
            protocol.pauseReceiving()
            protocol.resumeReceiving()
            self.assertEqual(len(depth), 1)
            depth.pop()

        user.reply = reply
        protocol.dataReceived(COMMAND * 5000)
        self.assertEqual(len(user.fragments), 5000)
        self.assertEqual(transport.producerState, "producing")

    def test_lostWhilePaused(self):
        """Data held back goes with the connection."""
        protocol, _transport, user = self.side.establish()
        protocol.pauseReceiving()
        protocol.dataReceived(COMMAND)
        protocol.connectionLost(DONE)
        self.assertEqual(user.told, ["established", "ended"])
        self.assertEnded(user, ConnectionClosed)

    def test_releasedWhilePaused(self):
        """But a release that had come is one."""
        protocol, _transport, user = self.side.establish()
        protocol.release()
        protocol.pauseReceiving()
        protocol.dataReceived(RELEASE_RP)
        protocol.connectionLost(DONE)
        self.assertEnded(user, AssociationReleased)

    def test_abortWhilePaused(self):
        """Aborting reads on, so that the peer's closing is seen."""
        protocol, transport, user = self.side.establish()
        protocol.pauseReceiving()
        protocol.dataReceived(COMMAND + USER_ABORT)
        protocol.abort("why")
        self.assertEnded(user, AssociationAborted)
        self.assertEqual(user.fragments, [])
        self.assertTrue(transport.disconnecting)
        self.assertClean(protocol)

    def test_producer(self):
        """The user's producer is that of the transport, and ends with us."""
        protocol, transport, _user = self.side.establish()
        asked = []

        class Producer:
            def pauseProducing(self):
                asked.append("pause")

            def resumeProducing(self):
                asked.append("resume")

            def stopProducing(self):
                asked.append("stop")

        protocol.registerProducer(Producer(), True)
        transport.producer.pauseProducing()
        transport.producer.resumeProducing()
        self.assertEqual(asked, ["pause", "resume"])
        protocol.abort("why")
        self.assertIsNone(transport.producer)
        protocol.unregisterProducer()
        protocol.registerProducer(Producer(), True)
        self.assertIsNone(transport.producer)


class BrokenRuleTests(AcceptorCase):
    """PS3.8 9.2.3, Table 9-26: A-ABORT, and one line in the log."""

    def broken(self, data, answer):
        self.events.clear()
        protocol, transport, user = self.side.establish()
        self.events.clear()
        protocol.dataReceived(data)
        self.assertEqual(transport.value(), answer)
        self.assertEnded(user, AssociationAborted)
        self.assertEqual(len(self.lines(LogLevel.warn)), 1)
        self.assertEqual(self.lines(LogLevel.info), [])
        protocol.dataReceived(COMMAND * 2)
        self.assertEqual(transport.value(), answer)
        self.assertClean(protocol)

    def test_established(self):
        self.broken(b"\x09\0\0\0\0\4", providerAbort(1))
        self.broken(b"\x04\0\xff\xff\xff\xff", providerAbort(6))
        self.broken(RELEASE_RP, providerAbort(2))
        self.broken(REQUEST, providerAbort(2))
        self.broken(COMMAND.replace(b"\x01\x03", b"\x03\x03"), providerAbort(6))

    def test_first(self):
        """AA-1: before there is an association, the source is the user."""
        for data in (COMMAND, RELEASE_RQ, b"GET / HTTP/1.1\r\n\r\n", EVEN_CONTEXT):
            protocol, transport = self.side.connect()
            protocol.dataReceived(data)
            self.assertEqual(transport.value(), USER_ABORT)
            self.assertEqual(len(self.lines(LogLevel.warn)), 1)
            self.side.clock.advance(30)
            self.assertTrue(transport.disconnected)
            self.assertClean(protocol)
            self.events.clear()

    def test_userFindsNoMessage(self):
        """A PDUError of the user is answered as one of ours."""

        def reply(what):
            if what == "fragment":
                raise PDUError(PDUError.UNEXPECTED_PARAMETER, "no message")

        self.side.reply = reply
        self.broken(COMMAND * 2, providerAbort(5))

    def test_userFails(self):
        """Whatever else it raises is logged, and costs the association."""
        for when, data in (
            ("fragment", COMMAND),
            ("release", RELEASE_RQ),
        ):
            protocol, transport, user = self.side.establish()

            def reply(what, when=when):
                if what == when:
                    raise Boom()

            user.reply = reply
            protocol.dataReceived(data)
            self.assertEqual(transport.value(), providerAbort(0))
            self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
            self.assertEnded(user, AssociationAborted)
            self.assertClean(protocol)

    def test_endedFails(self):
        protocol, _transport, user = self.side.establish()

        def reply(what):
            raise Boom()

        user.reply = reply
        protocol.dataReceived(USER_ABORT)
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
        self.assertClean(protocol)


class EndTests(AcceptorCase):
    """PS3.8 7.2 to 7.5, Tables 9-8 and 9-9"""

    def test_released(self):
        protocol, transport, user = self.side.establish()
        user.reply = lambda what: what == "release" and protocol.confirmRelease()
        protocol.dataReceived(COMMAND + RELEASE_RQ)
        self.assertEqual(transport.value(), RELEASE_RP)
        self.assertEqual(user.told, ["established", "fragment", "release", "ended"])
        self.assertEnded(user, AssociationReleased)
        self.side.clock.advance(30)
        self.assertTrue(transport.disconnected)
        self.assertClean(protocol)
        self.assertEqual(len(user.endings), 1)

    def test_respondBeforeConfirming(self):
        """AR-7: in Sta8 the acceptor may still send."""
        protocol, transport, _user = self.side.establish()
        protocol.dataReceived(RELEASE_RQ)
        protocol.sendPData([COMMAND])
        protocol.confirmRelease()
        self.assertEqual(transport.value(), COMMAND + RELEASE_RP)

    def test_weRelease(self):
        protocol, transport, user = self.side.establish()
        protocol.release()
        protocol.dataReceived(COMMAND + RELEASE_RP)
        self.assertEqual(transport.value(), RELEASE_RQ)
        self.assertEqual(user.told, ["established", "fragment", "ended"])
        self.assertEnded(user, AssociationReleased)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.disconnected)
        self.assertClean(protocol)

    def test_aborted(self):
        protocol, transport, user = self.side.establish()
        protocol.dataReceived(providerAbort(6) + COMMAND)
        self.assertEnded(user, AssociationAborted)
        self.assertEqual((user.endings[0].source, user.endings[0].reason), (2, 6))
        self.assertEqual(transport.value(), b"")
        self.side.clock.advance(30)
        self.assertTrue(transport.disconnected)
        self.assertClean(protocol)

    def test_afterTheEnd(self):
        """Each primitive does nothing then."""
        protocol, transport, user = self.side.establish()
        protocol.abort("why")
        self.assertEqual(transport.value(), USER_ABORT)
        for call in (
            lambda: protocol.sendPData([b"x"]),
            protocol.pauseReceiving,
            protocol.resumeReceiving,
            protocol.release,
            protocol.confirmRelease,
            lambda: protocol.abort("again"),
        ):
            call()
        self.assertEqual(transport.value(), USER_ABORT)
        self.assertEqual(transport.producerState, "producing")
        self.assertEnded(user, AssociationAborted)
        self.assertClean(protocol)

    def test_abortAll(self):
        """Shutting down aborts; a second time does not wait for the peer."""
        _protocol, transport, user = self.side.establish()
        bare, bareTransport = self.side.connect()
        empty = self.side.factory.whenEmpty()
        self.side.factory.abortAll()
        self.assertEqual(transport.value(), USER_ABORT)
        self.assertTrue(bareTransport.disconnected)
        self.assertEnded(user, AssociationAborted)
        bare.connectionLost(DONE)
        self.assertNoResult(empty)
        self.side.factory.abortAll()
        self.assertTrue(transport.disconnected)
        _protocol.connectionLost(DONE)
        self.successResultOf(empty)


class SilenceTests(AcceptorCase):
    """A peer that is silent is aborted, unless the silence is ours."""

    def test_idle(self):
        protocol, transport, user = self.side.establish()
        self.side.clock.advance(50)
        protocol.dataReceived(COMMAND)
        self.side.clock.advance(59)
        self.assertEqual(transport.value(), b"")
        self.side.clock.advance(1)
        self.assertEqual(transport.value(), USER_ABORT)
        self.assertEnded(user, AssociationAborted)
        self.assertClean(protocol)

    def drip(self, protocol, transport, pieces, pause):
        """Send pieces, a pause before each, until it is aborted; seconds."""
        begin = self.side.clock.seconds()
        for piece in pieces:
            self.side.clock.advance(pause)
            if transport.value():
                break
            protocol.dataReceived(piece)
        return self.side.clock.seconds() - begin

    def test_slowMessage(self):
        """
        A message of which a byte comes now and then, in whatever PDUs, has its
        sender aborted: min_rate.
        """
        byte, nothing = dataHeader(1, False, False, 1) + b"\0", b""
        for first, piece in (
            (byte, byte),
            (byte, dataHeader(1, False, False, 0)),
            (dataHeader(1, False, True, 1000), b"\0"),
            (b"\4\0", nothing),
        ):
            protocol, transport, _user = self.side.establish()
            protocol.dataReceived(first)
            seconds = self.drip(protocol, transport, [piece] * 500, 1)
            self.assertLessEqual(seconds, 122)
            self.assertEqual(transport.value(), USER_ABORT)
            self.assertClean(protocol)

    def test_slowRequest(self):
        """PS3.8 9.1.5: ARTIM counts from the connection, whatever comes."""
        protocol, transport = self.side.connect()
        for byte in REQUEST[:100]:
            self.side.clock.advance(1)
            if transport.disconnected:
                break
            protocol.dataReceived(bytes([byte]))
        self.assertEqual(self.side.clock.seconds(), 30)
        self.assertClean(protocol)

    def test_slowInGoodFaith(self):
        """One that comes slowly, but comes, has all the time it needs."""
        protocol, transport, user = self.side.establish()
        piece = dataHeader(1, False, False, 600) + bytes(600)
        self.drip(protocol, transport, [piece] * 100, 5)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(len(user.fragments), 100)

    def test_slowByUs(self):
        """The time in which the peer was not read does not count."""
        protocol, transport, _user = self.side.establish()
        piece = dataHeader(1, False, False, 1) + b"\0"
        for _ in range(20):
            protocol.dataReceived(piece)
            protocol.pauseReceiving()
            self.side.clock.advance(50)
            protocol.resumeReceiving()
        self.assertEqual(transport.value(), b"")

    def test_wholeMessages(self):
        """A peer that sends one short message after the other is not slow."""
        protocol, transport, _user = self.side.establish()
        self.drip(protocol, transport, [COMMAND] * 20, 50)
        self.assertEqual(transport.value(), b"")

    def test_excused(self):
        """Busy or paused, it is not idle; the time counts from the end of that."""
        protocol, transport, _user = self.side.establish()
        for begin, end in (
            (lambda: protocol.setBusy(True), lambda: protocol.setBusy(False)),
            (protocol.pauseReceiving, protocol.resumeReceiving),
        ):
            begin()
            self.side.clock.pump([30] * 10)
            end()
            self.side.clock.advance(59)
            self.assertEqual(transport.value(), b"")
        self.side.clock.advance(1)
        self.assertEqual(transport.value(), USER_ABORT)

    def test_doesNotRead(self):
        """A peer that does not read what it asked for is not excused."""
        protocol, transport, _user = self.side.establish()
        protocol.setBusy(True)
        producer = self.producer()
        protocol.registerProducer(producer, True)
        for _ in range(5):
            transport.producer.pauseProducing()
            self.side.clock.advance(50)
            transport.producer.resumeProducing()
        self.assertEqual(transport.value(), b"")
        transport.producer.pauseProducing()
        self.side.clock.pump([30, 30])
        self.assertEqual(transport.value(), USER_ABORT)

    def producer(self):
        class Producer:
            def pauseProducing(self):
                pass

            resumeProducing = stopProducing = pauseProducing

        return Producer()

    def test_noAnswerToRelease(self):
        protocol, transport, user = self.side.establish()
        protocol.release()
        self.side.clock.advance(30)
        self.assertEqual(transport.value(), RELEASE_RQ + USER_ABORT)
        self.assertEnded(user, AssociationAborted)
        self.assertClean(protocol)
