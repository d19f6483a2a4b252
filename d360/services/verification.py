"""
The Verification service class: C-ECHO (PS3.4 Annex A; conformance 4.2.1.1).
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.dimse.status import PROCESSING_FAILURE, SOP_CLASS_NOT_SUPPORTED, SUCCESS
from d360.errors import AssociationEnded, DIMSEError
from d360.interfaces import (
    IAssociation,
    IAssociationOpener,
    IOperation,
    IServiceClass,
    IVerification,
)
from d360.logs import printable
from d360.model import Command, RemoteAE
from d360.services import transfersyntaxes
from d360.services.sopclasses import VERIFICATION

_C_ECHO = 0x0030

#: Seconds that a remote AE may take over its response.
PATIENCE = 30.0


@implementer(IServiceClass)
class VerificationService:
    """Answers C-ECHO: the association works."""

    sopClasses = frozenset({VERIFICATION})
    commandFields = frozenset({_C_ECHO})
    permission = None

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return transfersyntaxes.QUERY

    def grantsSCPRole(self, sopClass: str) -> bool:
        return False

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        await operation.respond(SUCCESS)


@implementer(IVerification)
class VerificationSCU:
    """
    Verifies remote AEs by a C-ECHO of ours (PS3.7 9.1.5).

    @param opener: takes no longer to open and release than a person waits.
    """

    def __init__(self, opener: IAssociationOpener, clock: IReactorTime) -> None:
        self._opener = opener
        self._clock = clock

    @asynchronous
    async def verify(self, remote: RemoteAE) -> float:
        syntaxes = (
            transfersyntaxes.IMPLICIT_VR_LITTLE_ENDIAN,
            transfersyntaxes.EXPLICIT_VR_LITTLE_ENDIAN,
        )
        association = await self._opener.open(remote, [(VERIFICATION, syntaxes)])
        try:
            return await self._echo(association)
        finally:
            await association.release()

    @asynchronous
    async def _echo(self, association: IAssociation) -> float:
        contexts = tuple(association.established.contexts.values())
        if not contexts:
            raise DIMSEError(SOP_CLASS_NOT_SUPPORTED, "it does not accept C-ECHO")
        why = f"no response to C-ECHO within {PATIENCE:.0f} s"
        guard = self._clock.callLater(PATIENCE, association.abort, why)
        began = self._clock.seconds()
        try:
            response = await association.request(
                contexts[0], Command(_C_ECHO, AffectedSOPClassUID=VERIFICATION)
            )
        except AssociationEnded:
            if not guard.active():
                raise AssociationEnded(why) from None
            raise
        finally:
            if guard.active():
                guard.cancel()
        _checkStatus(response)
        return self._clock.seconds() - began


def _checkStatus(response: Command) -> None:
    status, comment = response.Status, printable(response.ErrorComment)
    if status is None:
        raise DIMSEError(PROCESSING_FAILURE, "it answers C-ECHO without a status")
    if status != SUCCESS:
        said = f"it answers C-ECHO with status {status:04X}"
        raise DIMSEError(status, f"{said}: {comment}" if comment else said)
