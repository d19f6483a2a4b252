"""
Who may open an association (PS3.8 9.3.4; conformance statement 4.2.4).
"""

from __future__ import annotations

from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import AssociationRejected, DatabaseError
from d360.interfaces import IAdmission, IRemoteAEs
from d360.model import AssociationRequest


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
    """

    def __init__(
        self,
        aeTitle: str,
        acceptAnyCalledAE: bool,
        maxAssociations: int,
        callers: IRemoteAEs | None = None,
        share: int | None = None,
    ) -> None:
        self._aeTitle = aeTitle
        self._acceptAnyCalledAE = acceptAnyCalledAE
        self._maxAssociations = maxAssociations
        self._callers = callers
        self._room = maxAssociations if share is None else share

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
        if self._callers is not None:
            await self._checkCaller(self._callers, request.callingAETitle)

    async def _checkCaller(self, callers: IRemoteAEs, title: str) -> None:
        try:
            known = await callers.get(title)
        except DatabaseError as error:
            raise AssociationRejected(
                2, 3, 1, f"whether {title!r} may call is not known: {error}"
            ) from None
        if known is None:
            raise AssociationRejected(
                1, 1, 3, f"calling AE title {title!r} is not known: d360ctl ae add"
            )
