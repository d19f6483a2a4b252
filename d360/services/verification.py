"""
The Verification service class: C-ECHO (PS3.4 Annex A; conformance 4.2.1.1).
"""

from __future__ import annotations

from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.dimse.status import SUCCESS
from d360.interfaces import IOperation, IServiceClass
from d360.services import transfersyntaxes
from d360.services.sopclasses import VERIFICATION


@implementer(IServiceClass)
class VerificationService:
    """Answers C-ECHO: the association works."""

    sopClasses = frozenset({VERIFICATION})
    commandFields = frozenset({0x0030})

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return transfersyntaxes.QUERY

    def grantsSCPRole(self, sopClass: str) -> bool:
        return False

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        await operation.respond(SUCCESS)
