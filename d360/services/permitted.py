"""
Service classes for those who are permitted to use them: the operations of all
others are refused (PS3.7 Annex C, Refused: Not authorized). Most never come as
far, for their presentation contexts are refused already; but one that may
retrieve has contexts of storage classes, in which it could store, too.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.dimse import status
from d360.errors import DatabaseError, DIMSEError
from d360.interfaces import ICallers, IOperation, IServiceClass
from d360.model import Permission

#: What says that an operation cannot be done as long as the database is away, by
#: Command Field (PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, C.4.3.1.4); 0110 for any other.
_UNAVAILABLE = {
    0x0001: status.OUT_OF_RESOURCES,
    0x0010: status.UNABLE_TO_CALCULATE_MATCHES,
    0x0020: status.OUT_OF_RESOURCES,
    0x0021: status.UNABLE_TO_CALCULATE_MATCHES,
}


@implementer(IServiceClass)
class PermittedService:
    """
    A service class that asks first whether its user may.

    @param permission: what the user must be permitted.
    @param callers: tells, where it was not known when the association began.
    """

    def __init__(
        self, service: IServiceClass, permission: Permission, callers: ICallers
    ) -> None:
        self.sopClasses = service.sopClasses
        self.commandFields = service.commandFields
        self.permission = permission
        self._service = service
        self._callers = callers

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return self._service.transferSyntaxesFor(sopClass)

    def grantsSCPRole(self, sopClass: str) -> bool:
        return self._service.grantsSCPRole(sopClass)

    def perform(self, operation: IOperation) -> Deferred[None]:
        permissions = operation.association.established.permissions
        if permissions is None:
            return self._askAndPerform(operation)
        self._check(operation, permissions)
        return self._service.perform(operation)

    @asynchronous
    async def _askAndPerform(self, operation: IOperation) -> None:
        title = operation.association.established.callingAETitle
        try:
            permissions = await self._callers.permissionsOf(title)
        except DatabaseError as error:
            operation.log.error("Cannot tell what it may do: {why}", why=str(error))
            raise DIMSEError(
                _UNAVAILABLE.get(
                    operation.request.CommandField, status.PROCESSING_FAILURE
                ),
                "Database is not available",
            ) from error
        self._check(operation, permissions)
        await self._service.perform(operation)

    def _check(self, operation: IOperation, permissions: frozenset[Permission]) -> None:
        if self.permission not in permissions:
            word = self.permission.value
            operation.log.warn(
                "{title} may not do this; to let it, add it again by d360ctl ae add, "
                "with {permission} among its --permissions",
                title=operation.association.established.callingAETitle,
                permission=word,
            )
            raise DIMSEError(status.NOT_AUTHORIZED, f"Not permitted: {word}")
