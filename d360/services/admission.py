"""
Who may open an association (PS3.8 9.3.4; conformance statement 4.2.4).
"""

from __future__ import annotations

from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import AssociationRejected, DatabaseError
from d360.interfaces import IAdmission, IRemoteAEs
from d360.model import AssociationRequest
from d360.services.certificates import checkCertificate


@implementer(IAdmission)
class Admission:
    """
    Admits those who call us by our AE title, while there is room.

    @param aeTitle: ours.
    @param acceptAnyCalledAE: whatever AE title they call us by.
    @param maxAssociations: how many may be open at the same time.
    @param callers: who may call; C{None} for whoever does.
    @param share: how many of these there is room for here, where others admit
        the rest; C{None} for all.
    @param bound: where remote AEs are that have to show a certificate; C{None}
        for nobody.
    @param certain: admit nobody while these cannot be asked for. Else whoever
        calls then is told by each operation that the database is away.
    """

    def __init__(
        self,
        aeTitle: str,
        acceptAnyCalledAE: bool,
        maxAssociations: int,
        callers: IRemoteAEs | None = None,
        share: int | None = None,
        bound: IRemoteAEs | None = None,
        certain: bool = False,
    ) -> None:
        self._aeTitle = aeTitle
        self._acceptAnyCalledAE = acceptAnyCalledAE
        self._maxAssociations = maxAssociations
        self._callers = callers
        self._room = maxAssociations if share is None else share
        self._remotes = callers if callers is not None else bound
        self._certain = certain or callers is not None

    @asynchronous
    async def admit(self, request: AssociationRequest, live: int) -> None:
        """See L{IAdmission.admit}."""
        if live >= self._room:
            raise AssociationRejected(
                2, 3, 2, f"max_associations = {self._maxAssociations} are open"
            )
        if request.calledAETitle != self._aeTitle and not self._acceptAnyCalledAE:
            raise AssociationRejected(
                1, 1, 7, f"called AE title is {request.calledAETitle!r}"
            )
        if self._remotes is not None:
            await self._checkCaller(self._remotes, request)

    async def _checkCaller(
        self, remotes: IRemoteAEs, request: AssociationRequest
    ) -> None:
        title = request.callingAETitle
        try:
            known = await remotes.get(title)
        except DatabaseError as error:
            if not self._certain:
                return
            raise AssociationRejected(
                2, 3, 1, f"whether {title!r} may call is not known: {error}"
            ) from None
        if known is None and self._callers is not None:
            raise AssociationRejected(
                1, 1, 3, f"calling AE title {title!r} is not known: d360ctl ae add"
            )
        checkCertificate(known, request)
