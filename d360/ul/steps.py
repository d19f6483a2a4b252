"""
The steps of the actions of PS3.8 Tables 9-6 to 9-9, done on a transport and a
service user, and the log of what became of the association.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.audit.values import Peer
from d360.errors import (
    AssociationAborted,
    AssociationRejected,
    AssociationReleased,
    ConnectionClosed,
    PDUError,
)
from d360.interfaces import IUpperLayer, IUpperLayerUser
from d360.logs import Logger
from d360.model import (
    AssociationAcceptance,
    AssociationRequest,
    EstablishedAssociation,
    Permission,
    PresentationContext,
)
from d360.ul import negotiation, pdus
from d360.ul.fsm import IPerformer, StateMachine
from d360.ul.roles import Acceptor, Requestor, Role
from d360.ul.settings import UpperLayerSettings
from d360.ul.silence import SilenceWatch
from d360.ul.tcp import writeAll

# Source of an A-ABORT, and its reason where there is none (PS3.8 Table 9-26).
SERVICE_USER = 0
SERVICE_PROVIDER = 2
NO_REASON = 0

#: What Evt18 comes with.
_EXPIRED = object()

#: Gives each association its number; see L{d360.ul.factory.numberAssociations}.
numbers: Iterator[int] = count(1)


def _printable(title: str) -> str:
    """An AE title as the log may show it: one that is refused can be anything."""
    return title if negotiation.isAETitle(title) else ascii(title)


@implementer(IPerformer)
class AssociationSteps(Protocol):
    """
    The answers of an association to events. A subclass finds the events.

    @ivar number: names the association in the log, unique in this process.
    """

    log = Logger()
    transport: Any = None

    def __init__(
        self, role: Role, clock: IReactorTime, settings: UpperLayerSettings
    ) -> None:
        self.number = next(numbers)
        self.machine = StateMachine(self)
        self._role = role
        self._clock = clock
        self._settings = settings
        self._watch = SilenceWatch(
            clock, self._isExcused, self._silent, settings.minRate
        )
        self._peer = ""
        self._request: AssociationRequest | None = None
        self._contexts: Mapping[int, PresentationContext] = {}
        self._user: IUpperLayerUser | None = None
        self._connecting: Deferred[Any] | None = None
        self._admitting: Deferred[Any] | None = None
        self._artim: IDelayedCall | None = None
        self._lastResort: IDelayedCall | None = None
        # The P-DATA-TF whose fragments come in is one to hand on.
        self._handingOn = False
        # We have let go of the connection, or it of us.
        self._closed = False
        self._isCounted = False
        self._abortSent = False
        self._ending: Exception | None = None
        self._peerBrokeRule = False
        # It was rejected because there are too many.
        self._isOneOfMany = False
        self._isReported = False
        if isinstance(role, Requestor):
            self._user = role.user
            self._request = role.request
            self._peer = role.request.peer

    # --- for the subclass ----------------------------------------------------

    def _pull(self) -> None:
        """Take what was received, for as long as it is wanted."""
        raise NotImplementedError

    def _isExcused(self) -> bool:
        """Whether the peer's silence is none of its fault."""
        raise NotImplementedError

    def _letGo(self) -> None:
        """The user wants no more: undo what it had set up."""
        raise NotImplementedError

    def _asUpperLayer(self) -> IUpperLayer:
        """What the service user is given."""
        raise NotImplementedError

    # --- events other than received PDUs -------------------------------------

    def _event(self, event: str, argument: Any = None, fromUser: bool = False) -> None:
        """Take an event, and then the PDUs that were held up by its action."""
        if fromUser:
            self.machine.request(event, argument)
        else:
            self.machine.receive(event, argument)
        self._pull()

    def _expired(self) -> None:
        self._artim = None
        self._event("Evt18", _EXPIRED)

    def _silent(self, why: str) -> None:
        ending = AssociationAborted(SERVICE_USER, NO_REASON, why)
        self._event("Evt15", ending, fromUser=True)

    def _closeNow(self) -> None:
        self._lastResort = None
        self.transport.abortConnection()

    def _connected(self, result: Any) -> None:
        self._connecting = None

    def _notConnected(self, failure: Failure) -> None:
        self._connecting = None
        if not self._closed:
            self._closed = True
            self._event("Evt17", ConnectionClosed(failure.getErrorMessage()))

    def _admitted(self, acceptance: AssociationAcceptance) -> None:
        if self._admitting is not None:
            self._admitting = None
            self._event("Evt7", acceptance, fromUser=True)

    def _notAdmitted(self, failure: Failure) -> None:
        if self._admitting is None:
            # The association is over, and this its cancellation.
            return
        self._admitting = None
        rejection = failure.value
        if not isinstance(rejection, AssociationRejected):
            self._logFailure("admission", failure)
            # PS3.8 Table 9-21: transient, by the provider, congestion.
            rejection = AssociationRejected(2, 3, 1, "admission failed")
        self._event("Evt8", rejection, fromUser=True)

    def _tell(self, indication: Callable[..., None], *arguments: Any) -> None:
        """Call the service user from within an action."""
        try:
            indication(*arguments)
        except PDUError as error:
            self.machine.request("Evt19", error)
        except Exception:
            self._fail(indication.__name__)

    def _fail(self, where: str) -> None:
        """What went wrong is ours; it costs this association, no more."""
        self._logFailure(where)
        ending = AssociationAborted(SERVICE_PROVIDER, NO_REASON, f"{where} failed")
        self.machine.request("Evt19", ending)

    # --- questions -----------------------------------------------------------

    def isRequestAcceptable(self, argument: Any) -> bool:
        """Evt6 comes with the refusal instead of the request, if there is one."""
        return not isinstance(argument, AssociationRejected)

    def isRequestor(self, argument: Any) -> bool:
        """By our role."""
        return isinstance(self._role, Requestor)

    # --- the transport and the timer -----------------------------------------

    def connectTransport(self, argument: Any) -> None:
        """By the function that the role has for it."""
        assert isinstance(self._role, Requestor)
        self._connecting = self._role.connect(self)
        self._connecting.addCallbacks(self._connected, self._notConnected)

    def closeTransport(self, argument: Any) -> None:
        """
        In order, so that what we sent arrives; but a peer that does not read
        cannot hold the connection longer than ARTIM.
        """
        self._closed = True
        if self._ending is None and isinstance(argument, AssociationAborted):
            # AA-2 has nothing to send nor to indicate, but the user hears.
            self._ending = argument
        if self.transport is None:
            if self._connecting is not None:
                self._connecting.cancel()
        elif argument is _EXPIRED:
            self.transport.abortConnection()
        else:
            self._lastResort = self._clock.callLater(
                self._settings.artim, self._closeNow
            )
            self.transport.loseConnection()

    def startARTIM(self, argument: Any) -> None:
        """Start or restart it."""
        self.stopARTIM(argument)
        self._artim = self._clock.callLater(self._settings.artim, self._expired)

    def stopARTIM(self, argument: Any) -> None:
        """Stop it if it runs."""
        timer, self._artim = self._artim, None
        if timer is not None:
            timer.cancel()

    # --- sending -------------------------------------------------------------

    def sendAssociateRQ(self, argument: Any) -> None:
        """And wait for the answer, for which the standard has no timer."""
        request = self._request
        assert request is not None
        if not request.peer:
            request = self._request = evolve(request, peer=self._peer)
        self._send(pdus.encodeRequest(request))
        self._watch.start(self._settings.answerTimeout)

    def sendAssociateAC(self, argument: Any) -> None:
        """The service user comes into being with the association."""
        assert isinstance(self._role, Acceptor)
        assert self._request is not None
        acceptance: AssociationAcceptance = argument
        self._send(pdus.encodeAcceptance(acceptance, self._request))
        self._role.associations.established(self._peer)
        self._isCounted = True
        refused = negotiation.refusedCount(acceptance)
        if refused:
            self.log.info(
                "association {association} with {peer}: {callingAETitle} may not "
                "use {refused} of the contexts that it proposes: see d360ctl ae list "
                "and dicom.default_permissions",
                refused=refused,
                **self._fields(),
            )
            self._role.audit.notPermitted(
                self._caller(),
                f"may not use {refused} of the presentation contexts that it proposes",
            )
        try:
            self._user = self._role.buildUser()
        except Exception:
            self._fail("buildUser")
            return
        self._begin(negotiation.establish(self._request, acceptance, requestor=False))

    def sendAssociateRJ(self, argument: Any) -> None:
        """With what the admission, or the provider itself, says."""
        assert isinstance(self._role, Acceptor)
        rejection: AssociationRejected = argument
        self._role.metrics.associationRejected(
            rejection.result, rejection.source, rejection.reason
        )
        if negotiation.isOfNames(rejection):
            self._role.audit.refused(self._caller(), str(rejection))
        self._ending = rejection
        self._isOneOfMany = self._role.rejections.tellsOf(rejection, self._fields())
        self._send(pdus.encodeRejection(rejection))

    def sendPDataTF(self, argument: Any) -> None:
        """All of it in one write."""
        writeAll(self.transport, argument)

    def sendReleaseRQ(self, argument: Any) -> None:
        """And wait for the answer, for which the standard has no timer."""
        self._send(pdus.encodeReleaseRQ())
        self._watch.start(self._settings.answerTimeout)

    def sendReleaseRP(self, argument: Any) -> None:
        """Should no collision follow, that was its end."""
        self._ending = AssociationReleased("released by the peer")
        self._send(pdus.encodeReleaseRP())

    def sendUserAbort(self, argument: Any) -> None:
        """
        For the service user, for which PS3.8 lets the provider stand in while
        no association is established (AA-1 in Sta2).
        """
        if isinstance(argument, AssociationAborted):
            self._ending = argument
        else:
            error = self._blamed(argument)
            self._ending = AssociationAborted(SERVICE_USER, NO_REASON, str(error))
        self._sendAbort(SERVICE_USER, NO_REASON)

    def sendProviderAbort(self, argument: Any) -> None:
        """With the reason that the error has."""
        if isinstance(argument, AssociationAborted):
            reason = argument.reason
        else:
            reason = self._blamed(argument).reason
        self._sendAbort(SERVICE_PROVIDER, reason)

    def _blamed(self, argument: Any) -> PDUError:
        """A PDU that is in order comes with whatever it was decoded to."""
        self._peerBrokeRule = True
        if isinstance(argument, PDUError):
            return argument
        return PDUError(PDUError.UNEXPECTED_PDU, "a PDU that was not expected")

    def _sendAbort(self, source: int, reason: int) -> None:
        # AA-7 would answer each PDU of a peer that does not stop, nor read.
        if not self._abortSent:
            self._abortSent = True
            self._send(pdus.encodeAbort(source, reason))

    def _send(self, pdu: bytes) -> None:
        self._debug("sent PDU {pduType:02X}H", pduType=pdu[0])
        self.transport.write(pdu)

    # --- indications and confirmations ---------------------------------------

    def issueAssociateIndication(self, argument: Any) -> None:
        """To admission, which answers in the service user's place."""
        assert isinstance(self._role, Acceptor)
        role = self._role
        request: AssociationRequest = argument
        associations = role.associations
        # Those being admitted count: many may come at the same time.
        open_ = associations.live + associations.admitting
        associations.requested(self._peer)

        def accept(permissions: frozenset[Permission] | None) -> AssociationAcceptance:
            return negotiation.accept(
                request,
                role.supported,
                self._settings.maxPDULength,
                self._settings.implementationClassUID,
                self._settings.implementationVersion,
                permissions,
            )

        def decided(result: Any) -> Any:
            associations.decided(self._peer)
            return result

        self._admitting = maybeDeferred(role.admission.admit, request, open_)
        self._admitting.addCallback(accept)
        self._admitting.addBoth(decided)
        self._admitting.addCallbacks(self._admitted, self._notAdmitted)

    def issueAssociateAccepted(self, argument: Any) -> None:
        """The acceptor has accepted."""
        self._begin(argument)

    def issueAssociateRejected(self, argument: Any) -> None:
        """The acceptor has rejected."""
        self._ending = argument

    def issuePData(self, argument: Any) -> None:
        """Its fragments follow, as they arrive."""
        self._handingOn = True

    def issueReleaseIndication(self, argument: Any) -> None:
        """The peer wants to release."""
        assert self._user is not None
        self._tell(self._user.releaseIndicated)

    def issueReleaseConfirmation(self, argument: Any) -> None:
        """The user hears of it when all is over."""
        self._ending = AssociationReleased("released")

    def issueAbort(self, argument: Any) -> None:
        """By the peer's user or its provider, as the PDU says."""
        self._ending = argument

    def issueProviderAbort(self, argument: Any) -> None:
        """The connection was lost, or an A-ABORT is on its way."""
        if isinstance(argument, (ConnectionClosed, AssociationAborted)):
            self._ending = argument
        else:
            error = self._blamed(argument)
            self._ending = AssociationAborted(
                SERVICE_PROVIDER, error.reason, str(error)
            )

    def ignorePDU(self, argument: Any) -> None:
        """It was read, and that is all."""

    def _caller(self) -> Peer:
        """Who has requested the association, as far as it is known."""
        title = self._request.callingAETitle if self._request else ""
        return Peer(title, self._peer)

    # --- the beginning and the end -------------------------------------------

    def _begin(self, established: EstablishedAssociation) -> None:
        assert self._user is not None
        self._contexts = established.contexts
        self._watch.start(self._settings.idleTimeout)
        self.log.info(
            "association {association} with {peer}: {callingAETitle} to "
            "{calledAETitle}, {contexts} of {proposed} contexts accepted",
            contexts=len(established.contexts),
            proposed=len(self._request.contexts) if self._request else 0,
            implementation=established.peerImplementationVersion,
            **self._fields(),
        )
        self._tell(
            self._user.associationEstablished,
            self._asUpperLayer(),
            evolve(established, number=self.number),
        )

    def over(self, argument: Any) -> None:
        """Tell the service user, once, and give up what was waited for."""
        if self._isReported:
            return
        self._isReported = True
        self._handingOn = False
        self._watch.stop()
        if self._isCounted and isinstance(self._role, Acceptor):
            self._role.associations.ended(self._peer)
        admitting, self._admitting = self._admitting, None
        if admitting is not None:
            admitting.cancel()
        self._letGo()
        ending = self._ending or ConnectionClosed("closed")
        self._logEnd(ending)
        if self._user is not None:
            try:
                self._user.associationEnded(ending)
            except Exception:
                self._logFailure("associationEnded")

    # --- the log -------------------------------------------------------------

    def _fields(self) -> dict[str, Any]:
        request = self._request
        return {
            "association": self.number,
            "peer": self._peer,
            "callingAETitle": _printable(request.callingAETitle) if request else "",
            "calledAETitle": _printable(request.calledAETitle) if request else "",
        }

    def _debug(self, what: str, **values: Any) -> None:
        if LogLevel.debug < Logger.threshold:
            # What it would say takes longer to put together than all else.
            return
        self.log.debug(
            "association {association} with {peer}: " + what,
            **values,
            **self._fields(),
        )

    def _logEnd(self, ending: Exception) -> None:
        """
        One line an association. Connections that never asked for one, as load
        balancers open them to see whether we live, are of no interest; nor is
        each of those that are too many, see L{Rejections}.
        """
        if self._peerBrokeRule:
            level = LogLevel.warn
        elif self._request is None or self._isOneOfMany:
            level = LogLevel.debug
        else:
            level = LogLevel.info
        self.log.emit(
            level,
            "association {association} with {peer} ended ({callingAETitle} to "
            "{calledAETitle}): {ending}",
            ending=str(ending),
            **self._fields(),
        )

    def _logFailure(self, where: str, failure: Failure | None = None) -> None:
        self.log.failure(
            "association {association} with {peer}: {where} failed",
            failure,
            where=where,
            **self._fields(),
        )
