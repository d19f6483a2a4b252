"""
Who may open an association (PS3.8 9.3.4; conformance statement 4.2.4).
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from d360.errors import AssociationRejected
from d360.interfaces import IAdmission
from d360.model import AssociationRequest


@implementer(IAdmission)
class Admission:
    """
    Admits those who call us by our AE title, while there is room.

    @param aeTitle: ours.
    @param acceptAnyCalledAE: whatever AE title they call us by.
    @param maxAssociations: how many may be open at the same time.
    """

    def __init__(
        self, aeTitle: str, acceptAnyCalledAE: bool, maxAssociations: int
    ) -> None:
        self._aeTitle = aeTitle
        self._acceptAnyCalledAE = acceptAnyCalledAE
        self._maxAssociations = maxAssociations

    def admit(self, request: AssociationRequest, live: int) -> Deferred[None]:
        """See L{IAdmission.admit}."""
        if live >= self._maxAssociations:
            return fail(
                AssociationRejected(
                    2, 3, 2, f"max_associations = {self._maxAssociations} are open"
                )
            )
        if request.calledAETitle != self._aeTitle and not self._acceptAnyCalledAE:
            return fail(
                AssociationRejected(
                    1, 1, 7, f"called AE title is {request.calledAETitle!r}"
                )
            )
        return succeed(None)
