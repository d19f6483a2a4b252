"""
Who may open an association (PS3.8 9.3.4; conformance statement 4.2.4).
"""

from __future__ import annotations

from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import AssociationRejected, DatabaseError
from d360.interfaces import IAdmission, ICallers, IRemoteAEs
from d360.model import (
    ALL_PERMISSIONS,
    AssociationRequest,
    Permission,
    RemoteAE,
)
from d360.services.certificates import checkCertificate


@implementer(IAdmission, ICallers)
class Admission:
    """
    Admits those who call us by our AE title, while there is room.

    @param aeTitle: ours.
    @param acceptAnyCalledAE: whatever AE title they call us by.
    @param maxAssociations: how many may be open at the same time.
    @param remoteAEs: what those may do that are known.
    @param requireKnown: others may not call.
    @param default: what they may do, if they may call.
    @param share: how many of these there is room for here, where others admit
        the rest; C{None} for all.
    @param certain: admit nobody while it cannot be known who is bound to a
        certificate.
    """

    def __init__(
        self,
        aeTitle: str,
        acceptAnyCalledAE: bool,
        maxAssociations: int,
        remoteAEs: IRemoteAEs,
        requireKnown: bool = False,
        default: frozenset[Permission] = ALL_PERMISSIONS,
        share: int | None = None,
        certain: bool = False,
    ) -> None:
        self._aeTitle = aeTitle
        self._acceptAnyCalledAE = acceptAnyCalledAE
        self._maxAssociations = maxAssociations
        self._remoteAEs = remoteAEs
        self._requireKnown = requireKnown
        self._default = default
        self._room = maxAssociations if share is None else share
        self._certain = certain or requireKnown

    @asynchronous
    async def admit(
        self, request: AssociationRequest, live: int
    ) -> frozenset[Permission] | None:
        """See L{IAdmission.admit}."""
        if live >= self._room:
            raise AssociationRejected(
                2, 3, 2, f"max_associations = {self._maxAssociations} are open"
            )
        if request.calledAETitle != self._aeTitle and not self._acceptAnyCalledAE:
            raise AssociationRejected(
                1, 1, 7, f"called AE title is {request.calledAETitle!r}"
            )
        title = request.callingAETitle
        try:
            remote = await self._remoteAEs.get(title)
        except DatabaseError as error:
            if not self._certain:
                return None
            raise AssociationRejected(
                2, 3, 1, f"whether {title!r} may call is not known: {error}"
            ) from None
        if remote is None and self._requireKnown:
            raise AssociationRejected(
                1, 1, 3, f"calling AE title {title!r} is not known: d360ctl ae add"
            )
        checkCertificate(remote, request)
        return self._permissionsOf(remote)

    @asynchronous
    async def permissionsOf(self, aeTitle: str) -> frozenset[Permission]:
        """See L{ICallers.permissionsOf}."""
        remote = await self._remoteAEs.get(aeTitle)
        if remote is not None and remote.certificate:
            # When it was admitted nobody could tell that it had to show one.
            return frozenset()
        return self._permissionsOf(remote)

    def _permissionsOf(self, remote: RemoteAE | None) -> frozenset[Permission]:
        return self._default if remote is None else remote.permissions
