"""
The Query service class: C-FIND in the Patient Root and Study Root models
(PS3.4 C.4.1, C.6.1, C.6.2; conformance 7).
"""

from __future__ import annotations

from functools import lru_cache

from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.interfaces import IIndex, IOperation, IServiceClass
from d360.model import Permission
from d360.services import transfersyntaxes
from d360.services.answering import C_FIND, MAX_IDENTIFIER_LENGTH, answer
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


def encoderFor(
    question: Question, aeTitle: str, transferSyntax: str
) -> IdentifierEncoder:
    """
    Of the answers to a question: the keys that were asked, and beside them
    Query/Retrieve Level, Retrieve AE Title and Instance Availability (PS3.4
    C.4.1.1.3.2, C.6).
    """
    keys = tuple((key.tag, key.vr, key.attribute is not None) for key in question.asked)
    return _encoderFor(keys, question.query.level.name, aeTitle, transferSyntax)


@lru_cache(64)
def _encoderFor(
    keys: tuple[tuple[int, str, bool], ...], level: str, aeTitle: str, syntax: str
) -> IdentifierEncoder:
    """
    Whoever asks, asks for the same again and again.

    @param keys: each with its VR, and whether the index has a value for it.
    """
    fields = [
        Field(QUERY_RETRIEVE_LEVEL, "CS", text=level),
        Field(RETRIEVE_AE_TITLE, "AE", text=aeTitle),
        Field(INSTANCE_AVAILABILITY, "CS", text="ONLINE"),
    ]
    column = 0
    for tag, vr, isKnown in keys:
        if isKnown:
            fields.append(Field(tag, vr, column))
            column += 1
        else:
            fields.append(Field(tag, vr))
    return IdentifierEncoder(fields, syntax)


@implementer(IServiceClass)
class FindService:
    """
    See the module.

    @param aeTitle: ours, from which the matches can be retrieved.
    """

    sopClasses = frozenset({PATIENT_ROOT_FIND, STUDY_ROOT_FIND})
    commandFields = frozenset({C_FIND})
    permission = Permission.QUERY

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
        encoder = encoderFor(question, self._aeTitle, operation.context.transferSyntax)
        await answer(
            operation,
            matches,
            lambda match: encoder.encode(match.values),
            question.isFullySupported,
        )
