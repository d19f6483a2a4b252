"""The two roles in which an association is opened (PS3.8 7.1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Union

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from zope.interface import Attribute, Interface, implementer

from d360.audit.null import NULL_AUDIT
from d360.hosts import HostCounts
from d360.interfaces import (
    IAdmission,
    IAssociations,
    IAudit,
    IMetrics,
    ISupportedSyntaxes,
    IUpperLayerUser,
)
from d360.metrics.null import NULL_METRICS
from d360.model import AssociationRequest
from d360.ul.crowding import Rejections


class IConnection(Interface):
    """What can be done to any connection, whatever its association's state."""

    host: str = Attribute("The address that it comes from.")
    isAssociated: bool = Attribute("There is an association that can be aborted.")

    def shut(why: str) -> None:
        """
        End it at once, by an A-ABORT where there is an association and else
        by closing the connection.
        """


@implementer(IAssociations)
class OpenAssociations:
    """
    Which connections are open, and what has become of them.

    @ivar live: associations established and not over.
    @ivar accepted: associations established since the start.
    @ivar admitting: requests that wait to be admitted.
    @ivar connectionsOf: how many connections each host has.
    @ivar requestedOf: how many associations, those being admitted among them.
    @param changed: is called when a connection or an association begins or
        ends, with its host.
    """

    def __init__(self, changed: Callable[[str], None] = lambda host: None) -> None:
        self._changed = changed
        self.live = 0
        self.accepted = 0
        self.admitting = 0
        self.connections: set[IConnection] = set()
        self.connectionsOf = HostCounts()
        self.requestedOf = HostCounts()
        self._whenEmpty: list[Deferred[None]] = []

    def connected(self, connection: IConnection) -> None:
        """A connection was opened."""
        self.connections.add(connection)
        self.connectionsOf.add(connection.host)
        self._changed(connection.host)

    def disconnected(self, connection: IConnection) -> None:
        """It is closed."""
        self.connections.remove(connection)
        self.connectionsOf.remove(connection.host)
        self._changed(connection.host)
        if not self.connections:
            waiting, self._whenEmpty = self._whenEmpty, []
            for deferred in waiting:
                deferred.callback(None)

    def requested(self, host: str) -> None:
        """An association is about to be admitted, or not."""
        self.admitting += 1
        self.requestedOf.add(host)

    def decided(self, host: str) -> None:
        """That is decided; if it is admitted, it will be established now."""
        self.admitting -= 1
        self.requestedOf.remove(host)

    def established(self, host: str) -> None:
        """An association was established."""
        self.live += 1
        self.accepted += 1
        self.requestedOf.add(host)
        self._changed(host)

    def ended(self, host: str) -> None:
        """One that was established is over."""
        self.live -= 1
        self.requestedOf.remove(host)
        self._changed(host)

    def whenEmpty(self) -> Deferred[None]:
        """Fires when no connection is open; at once if none is."""
        deferred: Deferred[None] = Deferred()
        if self.connections:
            self._whenEmpty.append(deferred)
        else:
            deferred.callback(None)
        return deferred


@frozen
class Acceptor:
    """
    The peer requests the association.

    @ivar buildUser: makes the service user of one association, once it is
        accepted.
    @ivar rejections: tells the log of those that are too many.
    """

    buildUser: Callable[[], IUpperLayerUser]
    admission: IAdmission
    supported: ISupportedSyntaxes
    associations: OpenAssociations = field(factory=OpenAssociations)
    metrics: IMetrics = NULL_METRICS
    audit: IAudit = NULL_AUDIT
    rejections: Rejections = field(factory=lambda: Rejections(time.monotonic))


@frozen
class Requestor:
    """
    We request the association.

    @ivar connect: opens a connection for a protocol; what it returns is
        cancelled when the association is given up before.
    """

    request: AssociationRequest
    user: IUpperLayerUser
    connect: Callable[[IProtocol], Deferred[Any]]
    audit: IAudit = NULL_AUDIT


Role = Union[Acceptor, Requestor]
