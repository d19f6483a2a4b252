"""
Hosts that have more associations than one may have (PS3.8 9.3.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from d360.errors import AssociationRejected
from d360.hosts import HostCounts, Seldom, tellOfMany
from d360.interfaces import IAdmission
from d360.logs import Logger
from d360.model import AssociationRequest, Permission

#: Result, source and reason (PS3.8 Table 9-21): transient; by the provider, its
#: presentation part; local limit exceeded.
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


@implementer(IAdmission)
class UncrowdedAdmission:
    """
    Admission, unless the host has enough associations already.

    @param requestedOf: how many each host has, those being admitted among them.
    @param limit: how many it may have.
    @param isOver: whoever comes here is beyond it, as others have counted.
    """

    def __init__(
        self,
        admission: IAdmission,
        requestedOf: HostCounts,
        limit: int,
        isOver: bool = False,
    ) -> None:
        self._admission = admission
        self._requestedOf = requestedOf
        self._limit = limit
        self._isOver = isOver

    def admit(
        self, request: AssociationRequest, live: int
    ) -> Deferred[frozenset[Permission] | None]:
        """See L{IAdmission.admit}."""
        # This one is counted.
        count = self._requestedOf.of(request.peer)
        if self._isOver or count > self._limit:
            why = f"its host has max_associations_per_host = {self._limit} open"
            return fail(AssociationRejected(*LOCAL_LIMIT_EXCEEDED, why))
        return self._admission.admit(request, live)


class Rejections:
    """
    Tells the log of associations that are rejected because there are too many, of
    one host or in all: not of each, for there may be any number.

    @param seconds: see L{Seldom}.
    """

    log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seldom = Seldom(seconds)

    def tellsOf(self, rejection: AssociationRejected, fields: dict[str, Any]) -> bool:
        """
        There is one more.

        @param fields: what the log says of the association.
        @return: whether it is for this class to tell of it.
        """
        reason = rejection.result, rejection.source, rejection.reason
        if reason != LOCAL_LIMIT_EXCEEDED:
            return False
        count = self._seldom.note(fields["peer"])
        if count:
            self.log.warn(
                "association {association} with {peer}, {callingAETitle} to "
                "{calledAETitle}: {why}{many}",
                why=str(rejection),
                many=tellOfMany(count),
                **fields,
            )
        return True
