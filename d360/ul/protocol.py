"""
One association over one connection: where bytes, the service user's requests
and time become events of the state machine (PS3.8 chapters 7 and 9).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.audit.values import Peer
from d360.errors import AssociationAborted, ConnectionClosed, PDUError
from d360.interfaces import IUpperLayer
from d360.model import EstablishedAssociation, Fragment
from d360.ul import framing, negotiation, pdus
from d360.ul.fsm import OVER
from d360.ul.roles import Acceptor, IConnection, Role
from d360.ul.security import (
    describe,
    explain,
    fingerprintOf,
    isAboutCertificates,
)
from d360.ul.settings import UpperLayerSettings
from d360.ul.silence import WatchedProducer
from d360.ul.steps import NO_REASON, SERVICE_USER, AssociationSteps
from d360.ul.tcp import prepare, quickAcknowledger
from d360.ul.turns import LOOK, SHORT, TURN, Turns


@implementer(IUpperLayer, IConnection, IHandshakeListener)
class UpperLayerProtocol(AssociationSteps):
    """
    The upper layer of one association, in either role.

    Events reach the state machine from the connection, from the service user
    and from timers; the methods named after the steps of Tables 9-6 to 9-9
    are its answers. PDUs are pulled off what was received one at a time, so
    that none is handed out while the user has it paused. Should the
    connection go meanwhile, data still held back is dropped, for it could no
    longer be answered; PDUs of release and abort that stand before it are
    heeded, so that an association that ended in order is known to have.

    One read may hold thousands of small PDUs. They are pulled for L{TURN} at a
    time, see L{Turns}, with the connection not read meanwhile, so that a peer
    that sends faster than it can be served makes nobody else wait.

    In the log the association goes by C{number}.
    """

    def __init__(
        self,
        role: Role,
        clock: IReactorTime,
        settings: UpperLayerSettings,
        turns: Turns | None = None,
    ) -> None:
        super().__init__(role, clock, settings)
        self._framing = framing.Framing(settings.maxPDULength)
        self._producer: WatchedProducer | None = None
        self._hasProducer = False
        self._acknowledge: Callable[[], None] | None = None
        self._busy = False
        # The user has paused us; and what the transport was told of it.
        self._paused = False
        self._transportPaused = False
        self._pulling = False
        # Goes on with what was received, or ends, when it has its turn.
        self._turns = turns or Turns(clock)
        self._awaitsTurn = False
        # The connection is gone, and why.
        self._lost: Failure | None = None

    # --- the transport -------------------------------------------------------

    def connectionMade(self) -> None:
        """Evt5 for an acceptor, Evt2 for a requestor."""
        if self._closed:
            # Given up while the connection was being opened.
            self.transport.abortConnection()
            return
        address = self.transport.getPeer()
        self._peer = getattr(address, "host", None) or str(address)
        prepare(self.transport)
        self._acknowledge = quickAcknowledger(self.transport)
        if isinstance(self._role, Acceptor):
            self._role.associations.connected(self)
            self._event("Evt5")
        else:
            self._event("Evt2")

    def handshakeCompleted(self) -> None:
        """
        TLS is set up. Until then nothing comes, for which there is ARTIM where
        we are the acceptor, and else the time that an answer may take.
        """
        self._debug("{security}", security=describe(self.transport))

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self._acknowledge is not None:
            self._acknowledge()
        self._watch.traffic()
        isShort = (
            len(data) <= SHORT
            and self._user is not None
            and not self._framing.isWithin
            and not self._watch.isComing
        )
        self._framing.feed(data)
        if not isShort and self._turns.isOver(self._clock.seconds()):
            self._awaitTurn()
            self._tellTransport()
        else:
            self._pull()
        if self._framing.isWithin:
            self._watch.data(0, isComing=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone. A thousand may go at the same time, so that what is
        to be done then waits for its turn, if others had theirs.
        """
        self._lost = reason
        if self._awaitsTurn:
            return
        begin = self._clock.seconds()
        if self._turns.isOver(begin):
            self._awaitTurn()
            return
        self._end(reason)
        self._turns.spend(begin, self._clock.seconds())

    def _end(self, reason: Failure) -> None:
        """Evt17, unless we closed it ourselves."""
        self._pullUpToData()
        if not self._closed:
            self._closed = True
            self._event("Evt17", ConnectionClosed(self._whyLost(reason)))
        self.stopARTIM(None)
        self._watch.stop()
        if self._lastResort is not None:
            self._lastResort.cancel()
            self._lastResort = None
        if isinstance(self._role, Acceptor):
            self._role.associations.disconnected(self)

    def _whyLost(self, reason: Failure) -> str:
        insecure = explain(reason.value)
        if insecure is None:
            return reason.getErrorMessage()
        if isAboutCertificates(reason.value):
            # Who calls us has not said yet who he is.
            role = self._role
            title = "" if isinstance(role, Acceptor) else role.request.calledAETitle
            role.audit.refused(Peer(title, self._peer), insecure)
        if self._request is None:
            # The end of a connection without an association is not logged, but
            # here somebody tried, and will ask why it does not work.
            self.log.warn(
                "connection {association} with {peer} failed: {why}",
                association=self.number,
                peer=self._peer,
                why=insecure,
            )
        return insecure

    # --- PDUs ----------------------------------------------------------------

    def _pull(self) -> None:
        """Take what was received, PDU by PDU, for as long as it is wanted."""
        if self._pulling or self._awaitsTurn or self.machine.isActing:
            # Whoever is at work further down the stack goes on with it.
            return
        self._pulling = True
        count, begin = 0, self._clock.seconds()
        try:
            while not self._paused and not self._closed:
                if not self._pullOne():
                    break
                count += 1
                if not count % LOOK and self._clock.seconds() - begin > TURN:
                    self._awaitTurn()
                    break
        finally:
            self._pulling = False
        if count:
            self._turns.spend(begin, self._clock.seconds())
        self._tellTransport()

    def _awaitTurn(self) -> None:
        if not self._awaitsTurn:
            self._awaitsTurn = True
            self._turns.wait(self)

    def takeTurn(self) -> None:
        """See L{d360.ul.turns.ITakesTurns.takeTurn}."""
        self._awaitsTurn = False
        if self._lost is None:
            self._pull()
            return
        begin = self._clock.seconds()
        self._end(self._lost)
        self._turns.spend(begin, self._clock.seconds())

    def _pullOne(self) -> bool:
        try:
            piece = self._framing.next()
            if piece is None:
                return False
            if type(piece) is Fragment:
                if self._handingOn:
                    self._handOn(piece)
            elif type(piece) is framing.WholePDU:
                self._takeWhole(piece)
            else:
                self._handingOn = False
                if self._settings.logData:
                    self._debug("received P-DATA-TF")
                self.machine.receive("Evt10")
        except PDUError as error:
            self.machine.receive("Evt19", error)
        except Exception:
            self._fail("an indication")
        return True

    def _pullUpToData(self) -> None:
        """What can be taken although the user is paused, at the very end."""
        while not self._closed:
            try:
                piece = self._framing.next()
                if type(piece) is not framing.WholePDU:
                    return
                self._takeWhole(piece)
            except PDUError as error:
                self.machine.receive("Evt19", error)

    def _handOn(self, fragment: Fragment) -> None:
        if fragment.contextID not in self._contexts:
            raise PDUError(
                PDUError.INVALID_PARAMETER,
                f"presentation context {fragment.contextID} was not accepted",
            )
        assert self._user is not None
        self._watch.data(len(fragment.data), not fragment.isLast)
        self._user.fragmentReceived(fragment)

    def _takeWhole(self, pdu: framing.WholePDU) -> None:
        self._debug("received PDU {pduType:02X}H", pduType=pdu.pduType)
        if pdu.pduType == framing.A_ASSOCIATE_RQ:
            request = pdus.decodeRequest(pdu.body, self._peer)
            certificate = fingerprintOf(self.transport)
            if certificate:
                request = evolve(request, certificate=certificate)
            if self._request is None:
                self._request = request
            self.machine.receive("Evt6", negotiation.refusal(request) or request)
        elif pdu.pduType == framing.A_ASSOCIATE_AC:
            self.machine.receive("Evt3", self._establish(pdu.body))
        elif pdu.pduType == framing.A_ASSOCIATE_RJ:
            self.machine.receive("Evt4", pdus.decodeRejection(pdu.body))
        elif pdu.pduType == framing.A_RELEASE_RQ:
            self.machine.receive("Evt12")
        elif pdu.pduType == framing.A_RELEASE_RP:
            self.machine.receive("Evt13")
        else:
            self.machine.receive("Evt16", pdus.decodeAbort(pdu.body))

    def _establish(self, body: bytes) -> EstablishedAssociation | None:
        acceptance = pdus.decodeAcceptance(body)
        if self._request is None:
            # Nobody asked; the table knows what to do.
            return None
        return negotiation.establish(self._request, acceptance, requestor=True)

    # --- IUpperLayer ---------------------------------------------------------

    def sendPData(self, buffers: Sequence[bytes | memoryview]) -> None:
        """P-DATA request."""
        self.machine.request("Evt9", buffers)

    def pauseReceiving(self) -> None:
        """Hold back what comes and what has come."""
        if self.machine.state not in OVER:
            self._paused = True
            self._tellTransport()

    def resumeReceiving(self) -> None:
        """
        Go on. What was held back is handed out before this returns, other
        than from within an indication, which ends first.
        """
        if self._paused:
            self._paused = False
            self._watch.excused()
            self._pull()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have C{producer} paused and resumed as the connection fills."""
        if self.machine.state in OVER:
            return
        if streaming:
            producer = WatchedProducer(producer, self._watch.traffic)
            self._producer = producer
        self._hasProducer = True
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has no more."""
        if self._hasProducer:
            self._hasProducer = False
            self._producer = None
            self.transport.unregisterProducer()

    def release(self) -> None:
        """A-RELEASE request."""
        self._event("Evt11", fromUser=True)

    def confirmRelease(self) -> None:
        """A-RELEASE response."""
        self._event("Evt14", fromUser=True)

    def abort(self, why: str) -> None:
        """A-ABORT request."""
        ending = AssociationAborted(SERVICE_USER, NO_REASON, why)
        self._event("Evt15", ending, fromUser=True)

    # --- beyond IUpperLayer --------------------------------------------------

    def open(self) -> None:
        """A-ASSOCIATE request, for a requestor."""
        self._event("Evt1")

    def setBusy(self, busy: bool) -> None:
        """
        Tell whether the association's silence is ours: an operation is under
        way that waits for nothing from the peer. Then it is not idle, however
        long it takes, as long as the peer reads what it is sent.
        """
        self._busy = busy
        self._watch.excused()

    @property
    def host(self) -> str:
        """The address of the peer."""
        return self._peer

    @property
    def isAssociated(self) -> bool:
        """There is an association, or one under way, that can be aborted."""
        return self.machine.state not in ("Sta1", "Sta2", "Sta13")

    def shut(self, why: str) -> None:
        """
        End it in whatever state it is, by an A-ABORT where there is an
        association that can be aborted and else by closing the connection.
        """
        if self.isAssociated:
            self.abort(why)
        elif self.transport is not None:
            self.transport.abortConnection()

    # --- silence and pauses ---------------------------------------------------

    def _isExcused(self) -> bool:
        if self._producer is not None and self._producer.isPaused:
            return False
        return self._busy or self._paused

    def _asUpperLayer(self) -> IUpperLayer:
        return self

    def _letGo(self) -> None:
        self.unregisterProducer()
        # Read on: what comes is ignored, but its end must be noticed.
        self._paused = False
        self._tellTransport()

    def _tellTransport(self) -> None:
        """Have the connection read or not, as it is wanted by now."""
        paused = self._paused or self._awaitsTurn
        if self._pulling or self._closed or self._lost is not None:
            return
        if paused == self._transportPaused:
            return
        self._transportPaused = paused
        if paused:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()
