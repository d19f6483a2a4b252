"""Associations that we request: to retrieve, and to verify (PS3.8 7.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from d360.audit.null import NULL_AUDIT
from d360.dimse.association import Association
from d360.errors import ConnectionClosed
from d360.interfaces import (
    IAssociation,
    IAssociationOpener,
    IAudit,
    IUpperLayer,
)
from d360.model import (
    AssociationRequest,
    EstablishedAssociation,
    ProposedContext,
    RemoteAE,
    RoleSelection,
)
from d360.ul.factory import requestAssociation
from d360.ul.settings import UpperLayerSettings

#: PS3.8 9.3.2.2: context IDs are the odd numbers of a byte.
MAX_CONTEXTS = 128

#: Seconds until a connection must be open, over all addresses of a host.
CONNECT_TIMEOUT = 10


class _NoServices:
    """Of those who open an association with us, we serve; here we ask."""

    def serviceFor(self, abstractSyntax: str) -> None:
        return None


class _RequestedAssociation(Association):
    """
    @ivar opened: fires with it when it is established, or with why it is not.
    """

    def __init__(self, reactor: Any, giveUp: Callable[[str], None]) -> None:
        super().__init__(_NoServices(), reactor)
        self._giveUp = giveUp
        self.opened: Deferred[IAssociation] = Deferred(
            lambda _: giveUp("it is not wanted any more")
        )

    def associationEstablished(
        self, upperLayer: IUpperLayer, established: EstablishedAssociation
    ) -> None:
        super().associationEstablished(upperLayer, established)
        # Between two requests of ours the peer has nothing to say.
        self.setBusy(True)
        self.opened.callback(self)

    def associationEnded(self, reason: Exception) -> None:
        super().associationEnded(reason)
        if not self.opened.called:
            self.opened.errback(reason)

    def abort(self, why: str) -> None:
        if self.opened.called:
            super().abort(why)
        else:
            self._giveUp(why)


@implementer(IAssociationOpener)
class AssociationOpener:
    """
    See L{IAssociationOpener}.

    @param aeTitle: ours, the calling one.
    @param secure: has TLS over a connection to a host, see L{RemoteAE.tls}.
    @param endpoint: what connects to a host and a port.
    @param audit: is told of remote AEs that are not who they should be.
    """

    def __init__(
        self,
        reactor: Any,
        aeTitle: str,
        settings: UpperLayerSettings,
        secure: Callable[[str, IStreamClientEndpoint], IStreamClientEndpoint],
        endpoint: Callable[[str, int], IStreamClientEndpoint] | None = None,
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        self._reactor = reactor
        self._aeTitle = aeTitle
        self._settings = settings
        self._secure = secure
        self._endpoint = endpoint or self._connectTo
        self._audit = audit
        self._live: WeakSet[Association] = WeakSet()

    def _connectTo(self, host: str, port: int) -> IStreamClientEndpoint:
        # For an address it would wait for other ones before it gives up.
        if isIPAddress(host):
            return TCP4ClientEndpoint(self._reactor, host, port, CONNECT_TIMEOUT)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self._reactor, host, port, CONNECT_TIMEOUT)
        return HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)

    def open(
        self,
        remote: RemoteAE,
        contexts: Sequence[tuple[str, tuple[str, ...]]],
        asSCP: Sequence[str] = (),
    ) -> Deferred[IAssociation]:
        if not 0 < len(contexts) <= MAX_CONTEXTS:
            raise ValueError(f"{len(contexts)} presentation contexts")
        request = AssociationRequest(
            callingAETitle=self._aeTitle,
            calledAETitle=remote.title,
            contexts=tuple(
                ProposedContext(2 * number + 1, abstractSyntax, transferSyntaxes)
                for number, (abstractSyntax, transferSyntaxes) in enumerate(contexts)
            ),
            roles=tuple(RoleSelection(uid, scu=False, scp=True) for uid in asSCP),
            peer=remote.host,
        )
        try:
            endpoint = self._endpoint(remote.host, remote.port)
            if remote.tls:
                endpoint = self._secure(remote.host, endpoint)
        except UnicodeError:
            # Such as one with an underscore, which no certificate can have.
            why = f"{remote.host!r} cannot be looked up: give its address"
            return fail(ConnectionClosed(why))
        association = _RequestedAssociation(
            self._reactor, lambda why: protocol.shut(why)
        )
        self._live.add(association)
        protocol = requestAssociation(
            endpoint,
            request,
            association,
            self._reactor,
            self._settings,
            self._audit,
        )
        return association.opened

    def abortAll(self, why: str) -> None:
        """End those that are still open."""
        for association in tuple(self._live):
            association.abort(why)
