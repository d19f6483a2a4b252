"""
The responses to a C-FIND (PS3.4 C.4.1.2, C.4.1.3), whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from d360.asynchronous import asynchronous
from d360.dimse import status
from d360.errors import DatabaseError, DatabaseUnavailable, DIMSEError
from d360.interfaces import IOperation

T = TypeVar("T")

C_FIND = 0x0020

#: Bytes of an identifier; a list of thousands of UIDs fits.
MAX_IDENTIFIER_LENGTH = 320 * 1024

#: Matches that leave in one write.
TOGETHER = 16


class Batches(Protocol[T]):
    """Matches, as L{d360.interfaces.IMatches} gives them."""

    def nextBatch(self) -> Deferred[tuple[T, ...]]:
        """Some more; an empty tuple after the last."""

    def close(self) -> None:
        """No more are wanted."""


@asynchronous
async def answer(
    operation: IOperation,
    matches: Batches[T],
    encode: Callable[[T], bytes],
    isFullySupported: bool,
) -> None:
    """
    Send all matches, some at a time, the next when the association can take
    more, and the final response.

    @param encode: makes the identifier of a match.
    @param isFullySupported: whether a match is pending with FF00, or with FF01.
    @raise DIMSEError: A700, the database is away.
    """
    pending = status.PENDING if isFullySupported else status.PENDING_WARNING
    try:
        final = await _sendMatches(operation, matches, encode, pending)
    except DatabaseError as error:
        operation.log.error("Cannot query: {why}", why=str(error))
        away = isinstance(error, DatabaseUnavailable)
        comment = "Database is not available" if away else "Query is refused"
        raise DIMSEError(status.OUT_OF_RESOURCES, comment) from error
    finally:
        matches.close()
    await operation.respond(final)


async def _sendMatches(
    operation: IOperation,
    matches: Batches[T],
    encode: Callable[[T], bytes],
    pending: int,
) -> int:
    """
    @return: the status of the final response.
    """
    cancelled = operation.whenCancelled()
    batches = _UntilCancelled(matches, cancelled)
    try:
        while True:
            batch = await batches.next()
            if operation.cancelled:
                return status.CANCEL
            if not batch:
                return status.SUCCESS
            for first in range(0, len(batch), TOGETHER):
                if cancelled.called:
                    break
                some = batch[first : first + TOGETHER]
                await operation.respondAll(pending, [encode(match) for match in some])
    finally:
        if not cancelled.called:
            cancelled.cancel()


class _UntilCancelled(Generic[T]):
    """
    The batches of some matches; an empty one as soon as the operation is
    cancelled, so that a slow statement does not hold the answer up.
    """

    def __init__(self, matches: Batches[T], cancelled: Deferred[None]) -> None:
        self._matches = matches
        self._cancelled = cancelled
        self._awaited: Deferred[tuple[T, ...]] | None = None
        cancelled.addCallbacks(self._stop, lambda _: None)

    def next(self) -> Deferred[tuple[T, ...]]:
        """The next batch; the one before has fired."""
        awaited = self._awaited = Deferred()
        if self._cancelled.called:
            self._stop(None)
        else:
            self._matches.nextBatch().addBoth(self._arrived)
        return awaited

    def _arrived(self, result: tuple[T, ...] | Failure) -> None:
        # After a cancel, nobody is there for a late failure.
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.callback(result)

    def _stop(self, _: None) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.callback(())
