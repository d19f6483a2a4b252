"""
The Query service class: C-FIND in the Patient Root and Study Root models
(PS3.4 C.4.1, C.6.1, C.6.2; conformance 7).
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.dimse import status
from d360.errors import DatabaseError, DatabaseUnavailable, DIMSEError
from d360.interfaces import IIndex, IMatches, IOperation, IServiceClass
from d360.model import Match
from d360.services import transfersyntaxes
from d360.services.identifiers import Field, IdentifierEncoder
from d360.services.matching import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    Question,
    Root,
    readQuestion,
)
from d360.services.sopclasses import PATIENT_ROOT_FIND, STUDY_ROOT_FIND

_C_FIND = 0x0020

#: Bytes of an identifier; a list of thousands of UIDs fits.
MAX_IDENTIFIER_LENGTH = 320 * 1024


def encoderFor(
    question: Question, aeTitle: str, transferSyntax: str
) -> IdentifierEncoder:
    """
    Of the answers to a question: the keys that were asked, and beside them
    Query/Retrieve Level, Retrieve AE Title and Instance Availability (PS3.4
    C.4.1.1.3.2, C.6).
    """
    fields = [
        Field(QUERY_RETRIEVE_LEVEL, "CS", text=question.query.level.name),
        Field(RETRIEVE_AE_TITLE, "AE", text=aeTitle),
        Field(INSTANCE_AVAILABILITY, "CS", text="ONLINE"),
    ]
    column = 0
    for key in question.asked:
        if key.attribute is None:
            fields.append(Field(key.tag, key.vr))
        else:
            fields.append(Field(key.tag, key.vr, column))
            column += 1
    return IdentifierEncoder(fields, transferSyntax)


@implementer(IServiceClass)
class FindService:
    """
    See the module.

    @param aeTitle: ours, from which the matches can be retrieved.
    """

    sopClasses = frozenset({PATIENT_ROOT_FIND, STUDY_ROOT_FIND})
    commandFields = frozenset({_C_FIND})

    def __init__(self, index: IIndex, aeTitle: str) -> None:
        self._index = index
        self._aeTitle = aeTitle

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return transfersyntaxes.QUERY

    def grantsSCPRole(self, sopClass: str) -> bool:
        return False

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        identifier = await operation.readDataset(MAX_IDENTIFIER_LENGTH)
        question = readQuestion(identifier, Root(operation.context.abstractSyntax))
        matches = self._index.match(question.query)
        try:
            final = await self._answer(operation, question, matches)
        except DatabaseError as error:
            operation.log.error("Cannot query: {why}", why=str(error))
            away = isinstance(error, DatabaseUnavailable)
            comment = "Database is not available" if away else "Query is refused"
            raise DIMSEError(status.OUT_OF_RESOURCES, comment) from error
        finally:
            matches.close()
        await operation.respond(final)

    @asynchronous
    async def _answer(
        self, operation: IOperation, question: Question, matches: IMatches
    ) -> int:
        """
        Send all matches.

        @return: the status of the final response.
        """
        transferSyntax = operation.context.transferSyntax
        encoder = encoderFor(question, self._aeTitle, transferSyntax)
        pending = status.PENDING
        if not question.isFullySupported:
            pending = status.PENDING_WARNING
        cancelled = operation.whenCancelled()
        batches = _UntilCancelled(matches, cancelled)
        try:
            while True:
                batch = await batches.next()
                if operation.cancelled:
                    return status.CANCEL
                if not batch:
                    return status.SUCCESS
                for match in batch:
                    if cancelled.called:
                        break
                    await operation.respond(pending, encoder.encode(match.values))
        finally:
            if not cancelled.called:
                cancelled.cancel()


class _UntilCancelled:
    """
    The batches of some matches; an empty one as soon as the operation is
    cancelled, so that a slow statement does not hold the answer up.
    """

    def __init__(self, matches: IMatches, cancelled: Deferred[None]) -> None:
        self._matches = matches
        self._cancelled = cancelled
        self._awaited: Deferred[tuple[Match, ...]] | None = None
        cancelled.addCallbacks(self._stop, lambda _: None)

    def next(self) -> Deferred[tuple[Match, ...]]:
        """The next batch; the one before has fired."""
        awaited = self._awaited = Deferred()
        if self._cancelled.called:
            self._stop(None)
        else:
            self._matches.nextBatch().addBoth(self._arrived)
        return awaited

    def _arrived(self, result: tuple[Match, ...] | Failure) -> None:
        # After a cancel, nobody is there for a late failure.
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.callback(result)

    def _stop(self, _: None) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.callback(())
