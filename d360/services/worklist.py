"""
The Modality Worklist service class: C-FIND in the Modality Worklist
Information Model (PS3.4 Annex K; conformance 5).
"""

from __future__ import annotations

from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.interfaces import IOperation, IServiceClass, IWorklist
from d360.model import Permission
from d360.services import transfersyntaxes
from d360.services.answering import C_FIND, MAX_IDENTIFIER_LENGTH, answer
from d360.services.sopclasses import MODALITY_WORKLIST_FIND
from d360.services.worklistanswers import AnswerEncoder
from d360.services.worklistquestions import readWorklistQuestion


@implementer(IServiceClass)
class WorklistService:
    """See the module."""

    sopClasses = frozenset({MODALITY_WORKLIST_FIND})
    commandFields = frozenset({C_FIND})
    permission = Permission.WORKLIST

    def __init__(self, worklist: IWorklist) -> None:
        self._worklist = worklist

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return transfersyntaxes.QUERY

    def grantsSCPRole(self, sopClass: str) -> bool:
        return False

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        identifier = await operation.readDataset(MAX_IDENTIFIER_LENGTH)
        question = readWorklistQuestion(identifier)
        steps = self._worklist.match(question.conditions)
        encoder = AnswerEncoder(question.asked, operation.context.transferSyntax)
        await answer(operation, steps, encoder.encode, question.isFullySupported)
