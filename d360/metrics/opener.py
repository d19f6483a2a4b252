"""The associations that we request, counted where they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.errors import AssociationRejected
from d360.interfaces import IAssociation, IAssociationOpener, IMetrics
from d360.model import RemoteAE

T = TypeVar("T")


@implementer(IAssociationOpener)
class CountingOpener:
    """See L{IAssociationOpener}; counts what becomes of each."""

    def __init__(self, opener: IAssociationOpener, metrics: IMetrics) -> None:
        self._opener = opener
        self._metrics = metrics

    def open(
        self,
        remote: RemoteAE,
        contexts: Sequence[tuple[str, tuple[str, ...]]],
        asSCP: Sequence[str] = (),
    ) -> Deferred[IAssociation]:
        return self._opener.open(remote, contexts, asSCP).addBoth(self._count)

    def _count(self, result: T) -> T:
        outcome = "accepted"
        if isinstance(result, Failure):
            isRejected = isinstance(result.value, AssociationRejected)
            outcome = "rejected" if isRejected else "failed"
        self._metrics.associationRequested(outcome)
        return result
