"""
An association as the DIMSE service provider sees it (PS3.7 chapter 7): it
makes operations out of messages, gives them to their service class one at a
time, and sends their responses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from heapq import nlargest
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.dimse import commands, status
from d360.dimse.assembly import CommandAssembly
from d360.dimse.operation import Operation
from d360.dimse.request import Request
from d360.errors import AssociationEnded, DIMSEError, PDUError
from d360.interfaces import (
    IAssociation,
    IDatasetReader,
    ILiveAssociations,
    IMetrics,
    IServiceClass,
    IUpperLayer,
    IUpperLayerUser,
)
from d360.logs import ContextLogger, printable
from d360.metrics.null import NULL_METRICS
from d360.metrics.values import LiveAssociation
from d360.model import (
    Command,
    EstablishedAssociation,
    Fragment,
    PresentationContext,
)

T = TypeVar("T")

#: PS3.7 6.3.1: an Error Comment is of VR LO.
MAX_ERROR_COMMENT = 64

#: PS3.7 E.1: a Message ID is of VR US.
MAX_MESSAGE_ID = 0xFFFF


@implementer(ILiveAssociations)
class Associations:
    """
    Makes the associations of a server, knows those that are open, and ends
    them in order when the server stops.
    """

    def __init__(
        self,
        services: IServices,
        clock: IReactorTime,
        metrics: IMetrics = NULL_METRICS,
    ) -> None:
        self._services = services
        self._clock = clock
        self._metrics = metrics
        self._live: WeakSet[Association] = WeakSet()

    def build(self) -> Association:
        """A new one, for a connection."""
        association = Association(self._services, self._clock, self._metrics)
        self._live.add(association)
        return association

    def newest(self, count: int) -> tuple[LiveAssociation, ...]:
        """See L{ILiveAssociations.newest}."""
        # One that has ended stays in the set until it is collected.
        live = [association for association in self._live if association.isOpen]
        found = nlargest(count, live, key=lambda one: one.established.number)
        return tuple(association.asLive() for association in reversed(found))

    def finish(self, why: str) -> None:
        """Have each of them end after the operation that is under way."""
        for association in tuple(self._live):
            association.finish(why)


class IServices(Protocol):
    """Where an association finds its service classes."""

    def serviceFor(self, abstractSyntax: str) -> IServiceClass | None:
        """The one that serves an abstract syntax."""


@implementer(IUpperLayerUser, IAssociation, IPushProducer)
class Association:
    """
    See L{IUpperLayerUser} and L{IAssociation}.

    Receiving is held while there is a reason to, each with a name, so that
    the end of one does not undo another:

     - C{"unwanted"}: a data set comes that no service class asked for yet;
     - C{"consumer"}: the one that takes it is behind;
     - C{"busy"}: another request came while one is being served. We grant no
       asynchronous operations, but a peer that sends them all the same is
       served in turn;
     - C{"unread"}: the peer does not read its answers, and is given no more to
       wait for.
    """

    established: EstablishedAssociation
    log: ContextLogger

    def __init__(
        self,
        services: IServices,
        clock: IReactorTime,
        metrics: IMetrics = NULL_METRICS,
    ) -> None:
        self.metrics = metrics
        self._services = services
        self._clock = clock
        self._since = 0.0
        self._operations: Counter[str] = Counter()
        self._upperLayer: IUpperLayer | None = None
        self._assembly = CommandAssembly()
        self._receiving: Operation | None = None
        self._current: Operation | None = None
        self._startedAt = 0.0
        self._next: Operation | None = None
        self._request: Request | None = None
        self._unreadReply: tuple[int, Command] | None = None
        self._lastMessageID = 0
        self._held: list[Sequence[bytes | memoryview]] = []
        self._releasing: list[Deferred[None]] = []
        self._endWaiters: list[Deferred[None]] = []
        self._ended: AssociationEnded | None = None
        self._finishing = ""
        self._holds: set[str] = set()
        self._writeWaiters: list[Deferred[None]] = []
        self.writable = True

    # --- IUpperLayerUser

    def associationEstablished(
        self, upperLayer: IUpperLayer, established: EstablishedAssociation
    ) -> None:
        """See L{IUpperLayerUser.associationEstablished}."""
        self._upperLayer = upperLayer
        self._since = self._clock.seconds()
        self.established = established
        peer = (
            established.calledAETitle
            if established.requestor
            else established.callingAETitle
        )
        self.log = ContextLogger(
            "d360.association",
            f"association {established.number} with {peer}@{established.peer}",
        )
        upperLayer.registerProducer(self, True)

    def fragmentReceived(self, fragment: Fragment) -> None:
        """See L{IUpperLayerUser.fragmentReceived}."""
        self.metrics.bytesReceived(len(fragment.data))
        receiving = self._receiving
        if self._unreadReply is not None and not fragment.isCommand:
            self._replyReceived(fragment)
            return
        if fragment.isCommand:
            if receiving is not None or self._unreadReply is not None:
                raise PDUError(
                    PDUError.UNEXPECTED_PARAMETER, "command set inside a data set"
                )
            command = self._assembly.write(fragment)
            if command is not None:
                self._commandReceived(fragment.contextID, command)
            return
        if receiving is None:
            raise PDUError(PDUError.UNEXPECTED_PARAMETER, "data set without command")
        if fragment.contextID != receiving.context.contextID:
            raise PDUError(
                PDUError.INVALID_PARAMETER, "presentation context changed in a message"
            )
        if fragment.isLast:
            self._receiving = None
            self.setBusy(receiving is self._current)
        receiving.fragmentReceived(fragment)

    def releaseIndicated(self) -> None:
        """See L{IUpperLayerUser.releaseIndicated}."""
        if self._current is not None:
            self.log.warn("released while {name} is going on", name=self._current.name)
        assert self._upperLayer is not None
        self._upperLayer.confirmRelease()

    def associationEnded(self, reason: Exception) -> None:
        """See L{IUpperLayerUser.associationEnded}."""
        ended = (
            reason
            if isinstance(reason, AssociationEnded)
            else AssociationEnded(str(reason))
        )
        for operation in (self._current, self._next):
            if operation is not None and not operation.ended:
                self._count(operation)
                operation.lose(ended)
        self._current = self._next = self._receiving = None
        self._ended = ended
        if self._request is not None:
            self._request.lose(ended)
        self._fireWriteWaiters()
        releasing, self._releasing = self._releasing, []
        endWaiters, self._endWaiters = self._endWaiters, []
        for waiter in releasing + endWaiters:
            waiter.callback(None)

    # --- IAssociation

    def request(
        self,
        context: PresentationContext,
        command: Command,
        dataset: IDatasetReader | None = None,
    ) -> Deferred[Command]:
        """See L{IAssociation.request}."""
        if self._ended is not None:
            return fail(self._ended)
        if self._request is not None:
            raise RuntimeError("a request of ours is under way")
        if self._next is not None:
            # Nothing is read until the one that waits is served.
            self.abort("the peer sent a request that was not its turn")
            return fail(AssociationEnded("the peer sent a request out of turn"))
        self._lastMessageID = self._lastMessageID % MAX_MESSAGE_ID + 1
        self._request = Request(self, context, command, self._lastMessageID, dataset)
        # Its answer is the peer's turn.
        self.setBusy(False)
        return self._request.perform().addBoth(self._requestEnded)

    def _requestEnded(self, result: T) -> T:
        self._request = None
        # What comes next is up to us, unless the peer only had to be told of
        # something.
        self.setBusy(self._current is not None or self.established.requestor)
        return result

    def release(self) -> Deferred[None]:
        """See L{IAssociation.release}."""
        if self._ended is not None or self._upperLayer is None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._releasing.append(waiter)
        self.setBusy(False)
        self._upperLayer.release()
        return waiter

    def abort(self, why: str) -> None:
        """See L{IAssociation.abort}."""
        if self._upperLayer is not None:
            self._upperLayer.abort(why)

    def whenEnded(self) -> Deferred[None]:
        """See L{IAssociation.whenEnded}."""
        if self._ended is not None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._endWaiters.append(waiter)
        return waiter

    # --- operations, one after the other

    def _commandReceived(self, contextID: int, command: Command) -> None:
        if command.CommandField == commands.C_CANCEL_RQ:
            self._cancelReceived(command)
            return
        if command.CommandField & commands.RESPONSE:
            self._responseReceived(contextID, command)
            return
        if command.MessageID is None:
            raise PDUError(PDUError.INVALID_PARAMETER, "request without Message ID")
        context = self.established.contexts[contextID]
        operation = Operation(self, context, command)
        if operation.awaitsDataset:
            self._receiving = operation
        if self._current is None:
            self._start(operation)
        elif self._request is not None:
            raise PDUError(
                PDUError.UNEXPECTED_PARAMETER, "request in place of a response"
            )
        else:
            # Nothing further is read until this one is served, so that there
            # is never more than one waiting.
            self._next = operation
            self.hold("busy")

    def _cancelReceived(self, command: Command) -> None:
        current = self._current
        if (
            current is not None
            and current.request.MessageID == command.MessageIDBeingRespondedTo
        ):
            current.cancel()
        else:
            self.log.debug("C-CANCEL for no operation of now")

    def _responseReceived(self, contextID: int, command: Command) -> None:
        """PS3.7 9.3: it names our request, and but one of them has no data set."""
        request = self._request
        if (
            request is None
            or request.isAnswered
            or command.MessageIDBeingRespondedTo != request.messageID
        ):
            raise PDUError(PDUError.UNEXPECTED_PARAMETER, "response to no request")
        if command.CommandDataSetType == commands.NO_DATA_SET:
            request.responseReceived(command)
        elif command.CommandField == commands.N_EVENT_REPORT_RQ | commands.RESPONSE:
            # PS3.7 10.1.1.1.8: an Event Reply, of which there is none that we need.
            self._unreadReply = contextID, command
        else:
            raise PDUError(PDUError.UNEXPECTED_PARAMETER, "response with a data set")

    def _replyReceived(self, fragment: Fragment) -> None:
        """A piece of the data set of a response: thrown away."""
        assert self._unreadReply is not None
        contextID, command = self._unreadReply
        if fragment.contextID != contextID:
            raise PDUError(
                PDUError.INVALID_PARAMETER, "presentation context changed in a message"
            )
        if fragment.isLast:
            self._unreadReply = None
            if self._request is not None:
                self._request.responseReceived(command)

    def _start(self, operation: Operation) -> None:
        self._current = operation
        self._startedAt = self._clock.seconds()
        self.setBusy(not operation.awaitsDataset)
        service = self._services.serviceFor(operation.context.abstractSyntax)
        if service is None or (
            operation.request.CommandField not in service.commandFields
        ):
            done: Deferred[None] = operation.respond(
                status.UNRECOGNIZED_OPERATION, ErrorComment="Unrecognized operation"
            )
        else:
            done = maybeDeferred(service.perform, operation)
            done.addCallback(self._performed, operation)
        done.addErrback(self._failed, operation)
        done.addErrback(self._lost, operation)
        if operation.awaitsDataset and not operation.takesFragments:
            self.hold("unwanted")

    def _performed(self, _: None, operation: Operation) -> Deferred[None] | None:
        if operation.ended:
            return None
        raise RuntimeError("a service class ended without a final response")

    def _failed(self, failure: Failure, operation: Operation) -> Deferred[None] | None:
        """What a service class raised is the answer (PS3.7 9.1)."""
        if failure.check(AssociationEnded) or operation.ended:
            return failure  # type: ignore[return-value]
        if failure.check(DIMSEError):
            error: DIMSEError = failure.value  # type: ignore[assignment]
        else:
            operation.log.failure("service class failed", failure)
            error = DIMSEError(
                status.CANNOT_UNDERSTAND
                if operation.request.CommandField in commands.OF_COMPOSITE_INSTANCES
                else status.PROCESSING_FAILURE,
                "Unable to process, see the server's log",
            )
        elements: dict[str, Any] = {}
        if error.comment:
            elements["ErrorComment"] = error.comment[:MAX_ERROR_COMMENT]
        if error.offendingElements:
            elements["OffendingElement"] = error.offendingElements
        return operation.respond(error.status, **elements)

    def _lost(self, failure: Failure, operation: Operation) -> None:
        if failure.check(AssociationEnded):
            operation.log.debug("ended with its association")
        else:
            operation.log.failure("after the final response", failure)

    def operationEnded(self, operation: Operation) -> None:
        """Its final response is on its way."""
        seconds = self._count(operation)
        operation.log.info(
            "{subject} answered {status} {comment} after {milliseconds:.1f} ms",
            subject=printable(operation.request.AffectedSOPInstanceUID)
            or operation.context.abstractSyntax,
            status=f"{operation.finalStatus:04X}",
            comment=operation.finalComment,
            milliseconds=seconds * 1000,
        )
        self._current = None
        self.setBusy(False)
        if not self.writable:
            self.hold("unread")
        following, self._next = self._next, None
        if following is not None:
            self._start(following)
            self.letGo("busy")
        elif self._finishing:
            self.abort(self._finishing)

    def _count(self, operation: Operation) -> float:
        """It has ended, answered or not: count it. Returns how long it took."""
        seconds = 0.0
        if operation is self._current:
            seconds = self._clock.seconds() - self._startedAt
        self._operations[operation.name] += 1
        self.metrics.operationEnded(
            operation.name, operation.finalStatus, seconds, operation.received
        )
        return seconds

    @property
    def isOpen(self) -> bool:
        """It was established, and has not ended."""
        return self._upperLayer is not None and self._ended is None

    @property
    def isIdle(self) -> bool:
        """It is open, and neither side has asked for anything."""
        return self.isOpen and self._current is None and self._request is None

    def asLive(self) -> LiveAssociation:
        """What there is to say of it now that it is open."""
        return LiveAssociation(
            self.established.number,
            self.established.callingAETitle,
            self.established.calledAETitle,
            self.established.peer,
            datetime.fromtimestamp(self._since, UTC),
            "" if self._current is None else self._current.name,
            dict(self._operations),
        )

    def finish(self, why: str) -> None:
        """Abort as soon as no operation is under way."""
        self._finishing = why
        if self._current is None:
            self.abort(why)

    def setBusy(self, busy: bool) -> None:
        """
        Whether an operation is under way that waits for nothing from the peer,
        see L{IUpperLayer.setBusy}.
        """
        # While a data set is still to come, it is the peer's turn.
        if self._upperLayer is not None:
            self._upperLayer.setBusy(busy)

    # --- reading, held and let go

    def hold(self, reason: str) -> None:
        """Receive no more for now, see the class."""
        if not self._holds and self._upperLayer is not None:
            self._upperLayer.pauseReceiving()
        self._holds.add(reason)

    def letGo(self, reason: str) -> None:
        """This reason to hold is gone."""
        if reason in self._holds:
            self._holds.remove(reason)
            if not self._holds and self._upperLayer is not None:
                self._upperLayer.resumeReceiving()

    # --- writing: the connection pauses and resumes us

    def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Write whole PDUs, in one go."""
        assert self._upperLayer is not None
        self.metrics.bytesSent(sum(map(len, buffers)))
        self._upperLayer.sendPData(buffers)

    def sendResponse(self, buffers: Sequence[bytes | memoryview]) -> None:
        """
        Write a whole message; should a request of ours be half sent, after
        that, for two messages do not mix (PS3.8 Annex E).
        """
        if self._request is not None and self._request.isSending:
            self._held.append(buffers)
        else:
            self.send(buffers)

    def requestSent(self) -> None:
        """The message of our request is complete."""
        held, self._held = self._held, []
        for buffers in held:
            self.send(buffers)
        if held and self.writable:
            self._fireWriteWaiters()

    @property
    def takesMore(self) -> bool:
        """Whether a response would be sent at once."""
        return self.writable and not self._held

    def whenWritable(self) -> Deferred[None]:
        """Fires when the connection takes more, or is gone."""
        waiter: Deferred[None] = Deferred()
        self._writeWaiters.append(waiter)
        return waiter

    def pauseProducing(self) -> None:
        """The connection is full."""
        self.writable = False

    def resumeProducing(self) -> None:
        """The connection takes more."""
        self.writable = True
        self._fireWriteWaiters()
        self.letGo("unread")

    def stopProducing(self) -> None:
        """The connection is gone; L{associationEnded} follows."""

    def _fireWriteWaiters(self) -> None:
        waiting, self._writeWaiters = self._writeWaiters, []
        for waiter in waiting:
            waiter.callback(None)
