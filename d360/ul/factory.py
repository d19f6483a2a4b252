"""Where associations come from: those that peers request, and our own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory, ServerFactory
from zope.interface import implementer

from d360.audit.null import NULL_AUDIT
from d360.hosts import ClosedConnections
from d360.interfaces import (
    IAdmission,
    IAssociations,
    IAudit,
    IMetrics,
    ISupportedSyntaxes,
    IUpperLayerUser,
)
from d360.logs import Logger
from d360.metrics.null import NULL_METRICS
from d360.model import AssociationRequest
from d360.ul import steps
from d360.ul.crowding import Rejections, UncrowdedAdmission
from d360.ul.protocol import UpperLayerProtocol
from d360.ul.roles import Acceptor, OpenAssociations, Requestor
from d360.ul.settings import UpperLayerSettings
from d360.ul.turns import Turns


class AssociationNumbers:
    """
    The numbers that associations go by in the log.

    @ivar next: the one that follows.
    """

    def __init__(self, first: int, step: int) -> None:
        self.next = first
        self._step = step

    def __iter__(self) -> AssociationNumbers:
        return self

    def __next__(self) -> int:
        number = self.next
        self.next += self._step
        return number


def numberAssociations(first: int, step: int) -> AssociationNumbers:
    """
    Have the associations of this process, in either role, numbered so that
    other processes can have numbers between theirs.
    """
    numbers = AssociationNumbers(first, step)
    steps.numbers = numbers
    return numbers


@implementer(IAssociations)
class UpperLayerFactory(ServerFactory):
    """Accepts associations, and knows those that are open."""

    log = Logger()
    noisy = False

    def __init__(
        self,
        buildUser: Callable[[], IUpperLayerUser],
        admission: IAdmission,
        supported: ISupportedSyntaxes,
        clock: IReactorTime,
        settings: UpperLayerSettings | None = None,
        metrics: IMetrics = NULL_METRICS,
        changed: Callable[[str], None] = lambda host: None,
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        """
        @param buildUser: makes the service user of one association, when that
            is accepted and not before.
        @param changed: see L{OpenAssociations}.
        @param audit: is told of who was turned away.
        """
        self._settings = settings = settings or UpperLayerSettings()
        self._associations = OpenAssociations(changed)
        self._role = Acceptor(
            buildUser,
            self._uncrowded(admission),
            supported,
            self._associations,
            metrics,
            audit,
            Rejections(clock.seconds),
        )
        self._closed = ClosedConnections(self.log, clock.seconds)
        self._clock = clock
        self._turns = Turns(clock)

    def buildProtocol(self, addr: IAddress | None) -> UpperLayerProtocol | None:
        """One association for each connection, unless there are too many."""
        host = str(getattr(addr, "host", addr))
        settings = self._settings
        if self._associations.connectionsOf.of(host) >= settings.perHost.connections:
            self._refuse(host, f"its host has {settings.perHost.connections} open")
            return None
        limit = settings.maxConnections
        if limit and len(self._associations.connections) >= limit:
            self._refuse(host, f"{limit} are open")
            return None
        return self._protocolWith(self._role)

    def _protocolWith(self, role: Acceptor) -> UpperLayerProtocol:
        protocol = UpperLayerProtocol(role, self._clock, self._settings, self._turns)
        protocol.factory = self
        return protocol

    def _refuse(self, host: str, why: str) -> None:
        self._role.metrics.connectionRefused()
        self._closed.note(host, why)

    def refusing(self) -> ServerFactory:
        """
        For connections of hosts that have enough associations, as who hands them
        over knows: what they ask for is rejected. They are among ours.
        """
        role = self._role
        crowded = evolve(role, admission=self._uncrowded(role.admission, True))
        return _Refusing(partial(self._protocolWith, crowded))

    def _uncrowded(
        self, admission: IAdmission, isOver: bool = False
    ) -> UncrowdedAdmission:
        limit = self._settings.perHost.associations
        requestedOf = self._associations.requestedOf
        return UncrowdedAdmission(admission, requestedOf, limit, isOver)

    def connectionsOf(self, host: str) -> int:
        """How many connections of a host are open now."""
        return self._associations.connectionsOf.of(host)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._associations.connections)

    @property
    def live(self) -> int:
        """How many associations are established now."""
        return self._associations.live

    @property
    def accepted(self) -> int:
        """How many were established since the start."""
        return self._associations.accepted

    def closeUnassociated(self, why: str) -> None:
        """Close the connections that have no association, or have none left."""
        for protocol in tuple(self._associations.connections):
            if not protocol.isAssociated:
                protocol.shut(why)

    def abortAll(self, why: str = "the server is shut down") -> None:
        """
        Abort each association, and close the connections that have none.
        Calling it again closes what waits for a peer to close.
        """
        for protocol in tuple(self._associations.connections):
            protocol.shut(why)

    def whenEmpty(self) -> Deferred[None]:
        """Fires when no connection is open; at once if none is."""
        return self._associations.whenEmpty()


class _Refusing(ServerFactory):
    """See L{UpperLayerFactory.refusing}."""

    noisy = False

    def __init__(self, build: Callable[[], UpperLayerProtocol]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> UpperLayerProtocol:
        return self._build()


class _Once(ClientFactory):
    """Gives the one protocol that is to be connected."""

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._protocol


def requestAssociation(
    endpoint: IStreamClientEndpoint,
    request: AssociationRequest,
    user: IUpperLayerUser,
    clock: IReactorTime,
    settings: UpperLayerSettings | None = None,
    audit: IAudit = NULL_AUDIT,
) -> UpperLayerProtocol:
    """
    Request an association (PS3.8 7.1).

    @param request: its maximum PDU length and implementation are set from
        C{settings}.
    @param user: is told that the association is established, or how it ended
        before: L{AssociationRejected}, L{AssociationAborted} or
        L{ConnectionClosed}.
    @param audit: is told if the acceptor is not who it should be.
    @return: the association under way, which can be aborted.
    """
    settings = settings or UpperLayerSettings()
    ours = evolve(
        request,
        maxPDULength=settings.maxPDULength,
        implementationClassUID=settings.implementationClassUID,
        implementationVersion=settings.implementationVersion,
    )

    def connect(protocol: IProtocol) -> Deferred[Any]:
        connecting: Deferred[Any] = endpoint.connect(_Once(protocol))
        return connecting

    protocol = UpperLayerProtocol(
        Requestor(ours, user, connect, audit), clock, settings
    )
    protocol.open()
    return protocol
