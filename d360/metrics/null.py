"""For where nobody counts."""

from __future__ import annotations

from zope.interface import implementer

from d360.interfaces import IMetrics


@implementer(IMetrics)
class NullMetrics:
    """Counts nothing."""

    def associationRejected(self, result: int, source: int, reason: int) -> None:
        """See L{IMetrics.associationRejected}."""

    def connectionRefused(self) -> None:
        """See L{IMetrics.connectionRefused}."""

    def associationRequested(self, outcome: str) -> None:
        """See L{IMetrics.associationRequested}."""

    def operationEnded(
        self, service: str, status: int | None, seconds: float, size: int
    ) -> None:
        """See L{IMetrics.operationEnded}."""

    def subOperationsEnded(self, completed: int, failed: int, size: int) -> None:
        """See L{IMetrics.subOperationsEnded}."""

    def bytesReceived(self, count: int) -> None:
        """See L{IMetrics.bytesReceived}."""

    def bytesSent(self, count: int) -> None:
        """See L{IMetrics.bytesSent}."""


NULL_METRICS = NullMetrics()
