from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.errors import (
    AssociationAborted,
    AssociationRejected,
    AssociationReleased,
    ConnectionClosed,
)
from d360.interfaces import IAssociations
from d360.model import PresentationContext
from d360.ul.factory import requestAssociation
from d360.ul.fsm import TRANSITIONS, IPerformer, _cells
from d360.ul.settings import UpperLayerSettings
from tests.ul.association import (
    COMMAND,
    IMPLICIT,
    PROPOSAL,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    USER_ABORT,
    VERIFICATION,
    AcceptorSide,
    User,
    pieces,
    providerAbort,
)

DONE = Failure(ConnectionDone())


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects when it is told to."""

    def __init__(self):
        self.transport = StringTransport()
        self.cancelled = 0

    def connect(self, factory):
        self.factory = factory
        self.connecting = Deferred(self.cancel)
        return self.connecting

    def cancel(self, _deferred):
        self.cancelled += 1

    def succeed(self):
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(self.transport)
        self.connecting.callback(protocol)


class RequestorCase(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.transport = self.endpoint.transport
        self.user = User()
        self.protocol = requestAssociation(
            self.endpoint,
            PROPOSAL,
            self.user,
            self.clock,
            UpperLayerSettings(idleTimeout=0),
        )
        self.side = AcceptorSide()

    def exchange(self, size=1000):
        """What either has written goes to the other, until all is said."""
        while self.transport.value() or self.peerTransport.value():
            for transport, protocol in (
                (self.transport, self.peer),
                (self.peerTransport, self.protocol),
            ):
                data = transport.value()
                transport.clear()
                for piece in pieces(data, size):
                    protocol.dataReceived(piece)

    def connect(self):
        self.peer, self.peerTransport = self.side.connect()
        self.endpoint.succeed()

    def establish(self, size=1000):
        self.connect()
        self.exchange(size)
        self.peerUser = self.side.users[-1]

    def assertEnded(self, user, kind):
        self.assertEqual([type(ending) for ending in user.endings], [kind])

    def assertClosed(self):
        for protocol in (self.protocol, self.peer):
            protocol.connectionLost(DONE)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.side.clock.getDelayedCalls(), [])
        self.assertEqual(self.side.factory.live, 0)


class RequestorTests(RequestorCase):
    """PS3.8 7.1 to 7.5 in the role of requestor, against our own acceptor."""

    def test_established(self):
        """In reads of 1, 7 and all bytes."""
        for size in (1, 7, 1000):
            self.setUp()
            self.establish(size)
            self.assertEqual(self.user.told, ["established"])
            self.assertIs(self.user.upperLayer, self.protocol)
            ours, theirs = self.user.established, self.peerUser.established
            contexts = {1: PresentationContext(1, VERIFICATION, IMPLICIT)}
            self.assertEqual(ours.contexts, contexts)
            self.assertEqual(theirs.contexts, contexts)
            self.assertEqual((ours.requestor, theirs.requestor), (True, False))
            self.assertEqual(ours.peerMaxPDULength, 65534)
            self.assertEqual(theirs.peerImplementationVersion, "D360-3-6")
            self.assertEqual(ours.peer, "192.168.1.1")
        verifyObject(IAssociations, self.side.factory)
        verifyObject(IPerformer, self.protocol)

    def test_released(self):
        """By us"""
        self.establish()
        self.peerUser.reply = lambda what: (
            what == "release" and self.peer.confirmRelease()
        )
        self.protocol.release()
        self.exchange()
        self.assertEnded(self.user, AssociationReleased)
        self.assertEnded(self.peerUser, AssociationReleased)
        self.assertClosed()

    def test_releasedByAcceptor(self):
        self.establish()
        self.user.reply = lambda what: (
            what == "release" and self.protocol.confirmRelease()
        )
        self.peer.release()
        self.exchange()
        self.assertEnded(self.user, AssociationReleased)
        self.assertEnded(self.peerUser, AssociationReleased)
        self.assertClosed()

    def test_releaseCollision(self):
        """PS3.8 7.2.2.7: both at once, each answers at once."""
        self.establish()
        self.user.reply = lambda what: (
            what == "release" and self.protocol.confirmRelease()
        )
        self.peerUser.reply = lambda what: (
            what == "release" and self.peer.confirmRelease()
        )
        self.protocol.release()
        self.peer.release()
        self.assertEqual(self.transport.value(), RELEASE_RQ)
        self.assertEqual(self.peerTransport.value(), RELEASE_RQ)
        self.exchange()
        for user in (self.user, self.peerUser):
            self.assertEqual(user.told, ["established", "release", "ended"])
            self.assertEnded(user, AssociationReleased)
        self.assertClosed()

    def test_collisionAnsweredLate(self):
        """Sta9 to Sta12 in the standard's order."""
        self.establish()
        self.protocol.release()
        self.peer.release()
        self.exchange()
        self.assertEqual(self.protocol.machine.state, "Sta9")
        self.assertEqual(self.peer.machine.state, "Sta10")
        self.protocol.confirmRelease()
        self.exchange()
        self.assertEqual(self.protocol.machine.state, "Sta11")
        self.assertEqual(self.peer.machine.state, "Sta12")
        self.peer.confirmRelease()
        self.assertEqual(self.peerTransport.value(), RELEASE_RP)
        self.exchange()
        self.assertEnded(self.user, AssociationReleased)
        self.assertEnded(self.peerUser, AssociationReleased)
        self.assertClosed()

    def test_rejected(self):
        self.side.admission.answer = AssociationRejected(2, 3, 2, "full")
        self.connect()
        self.exchange()
        self.assertEnded(self.user, AssociationRejected)
        ending = self.user.endings[0]
        self.assertEqual((ending.result, ending.source, ending.reason), (2, 3, 2))
        self.assertTrue(self.transport.disconnecting)
        self.assertClosed()

    def test_aborted(self):
        """By either side."""
        for who in ("protocol", "peer"):
            self.setUp()
            self.establish()
            getattr(self, who).abort("why")
            self.exchange()
            self.assertEnded(self.user, AssociationAborted)
            self.assertEnded(self.peerUser, AssociationAborted)
            self.assertClosed()

    def test_noConnection(self):
        self.endpoint.connecting.errback(ConnectionRefusedError())
        self.assertEnded(self.user, ConnectionClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noConnectionAtOnce(self):
        endpoint = Endpoint()
        endpoint.connect = lambda factory: fail(ConnectionRefusedError())
        requestAssociation(endpoint, PROPOSAL, self.user, self.clock)
        self.assertEnded(self.user, ConnectionClosed)

    def test_abortedWhileConnecting(self):
        """AA-2 in Sta4"""
        self.protocol.abort("why")
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEnded(self.user, AssociationAborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noAnswer(self):
        """An acceptor that is silent is given up, then not waited for."""
        self.endpoint.succeed()
        self.transport.clear()
        self.clock.advance(30)
        self.assertEqual(self.transport.value(), USER_ABORT)
        self.assertEnded(self.user, AssociationAborted)
        self.clock.advance(30)
        self.assertTrue(self.transport.disconnected)

    def test_malformedAcceptance(self):
        """Evt19 in Sta5"""
        self.endpoint.succeed()
        self.transport.clear()
        self.protocol.dataReceived(
            b"\x02\0\0\0\0\x4a" + REQUEST[6:74] + b"\x21\0\0\x02\1\0"
        )
        self.assertEqual(self.transport.value(), providerAbort(6))
        self.assertEnded(self.user, AssociationAborted)

    def test_lostInEachState(self):
        """Evt17: AA-4 tells the user, once."""
        for state in (
            "Sta5",
            "Sta6",
            "Sta7",
            "Sta8",
            "Sta9",
            "Sta10",
            "Sta11",
            "Sta12",
        ):
            self.setUp()
            protocol, user = self.reach(state)
            self.assertEqual(protocol.machine.state, state)
            protocol.connectionLost(DONE)
            self.assertEqual(protocol.machine.state, "Sta1")
            self.assertEnded(user, ConnectionClosed)
            self.assertEqual(protocol._clock.getDelayedCalls(), [])

    def reach(self, state):
        """A protocol of ours in a state, and its user."""
        if state == "Sta5":
            self.endpoint.succeed()
            self.transport.clear()
            return self.protocol, self.user
        self.establish()
        ours = (self.protocol, self.user)
        theirs = (self.peer, self.peerUser)
        if state == "Sta6":
            return ours
        self.protocol.release()
        if state == "Sta7":
            return ours
        if state == "Sta8":
            self.exchange()
            return theirs
        self.peer.release()
        self.exchange()
        if state in ("Sta9", "Sta10"):
            return ours if state == "Sta9" else theirs
        self.protocol.confirmRelease()
        if state == "Sta11":
            return ours
        self.exchange()
        return theirs


class CellTests(RequestorCase):
    """PS3.8 Table 9-10 through the protocol: each PDU in each open state."""

    states = ("Sta5", "Sta6", "Sta7", "Sta8", "Sta9", "Sta10", "Sta11", "Sta12")
    pdus = {
        "Evt4": bytes.fromhex("03000000000400010101"),
        "Evt6": REQUEST,
        "Evt10": COMMAND,
        "Evt12": RELEASE_RQ,
        "Evt13": RELEASE_RP,
        "Evt16": USER_ABORT,
        "Evt19": bytes.fromhex("FF0000000004"),
    }
    nextStates = {
        "AA-1": "Sta13",
        "AA-3": "Sta1",
        "AA-8": "Sta13",
        "AE-4": "Sta1",
        "AR-2": "Sta8",
        "AR-3": "Sta1",
        "AR-6": "Sta7",
        "AR-10": "Sta12",
        "DT-2": "Sta6",
    }

    reach = RequestorTests.reach

    def test_received(self):
        cells = dict(_cells(TRANSITIONS))
        for state in self.states:
            for event, data in self.pdus.items():
                self.setUp()
                protocol, user = self.reach(state)
                protocol.transport.clear()
                protocol.dataReceived(data)
                action = cells[event, state]
                if action == "AR-8":
                    expected = "Sta9"
                else:
                    expected = self.nextStates[action]
                self.assertEqual(protocol.machine.state, expected, (event, state))
                self.assertEqual(len(user.endings), expected in ("Sta1", "Sta13"))
                if action == "AA-8":
                    reason = 1 if event == "Evt19" else 2
                    self.assertEqual(protocol.transport.value(), providerAbort(reason))

    def test_aborted(self):
        """Evt15: AA-1 in each of them; then what comes is ignored, AA-6."""
        for state in self.states:
            self.setUp()
            protocol, user = self.reach(state)
            protocol.transport.clear()
            protocol.abort("why")
            self.assertEqual(protocol.transport.value(), USER_ABORT)
            self.assertEqual(protocol.machine.state, "Sta13")
            self.assertEnded(user, AssociationAborted)
            for event in ("Evt4", "Evt10", "Evt12", "Evt13", "Evt6", "Evt19"):
                protocol.dataReceived(self.pdus[event])
                self.assertEqual(protocol.machine.state, "Sta13")
            protocol.connectionLost(DONE)
            self.assertEqual(protocol.machine.state, "Sta1")
            self.assertEqual(protocol._clock.getDelayedCalls(), [])

    def test_afterRejection(self):
        """AA-7: another request in Sta13 is answered by an A-ABORT, once."""
        side = AcceptorSide()
        side.admission.answer = AssociationRejected(1, 1, 7)
        protocol, transport = side.connect()
        protocol.dataReceived(REQUEST)
        transport.clear()
        protocol.dataReceived(REQUEST * 3)
        self.assertEqual(transport.value(), providerAbort(2))
        protocol.dataReceived(USER_ABORT)
        self.assertEqual(protocol.machine.state, "Sta1")
