"""The service classes, with the audit trail told of what they do."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.audit.values import Peer
from d360.dimse.status import NOT_AUTHORIZED
from d360.errors import DIMSEError
from d360.interfaces import IAudit, IOperation, IServiceClass

_C_FIND = 0x0020


class IServices(Protocol):
    """Where service classes are found."""

    def serviceFor(self, abstractSyntax: str) -> IServiceClass | None:
        """The one that serves an abstract syntax."""


def _peerOf(operation: IOperation) -> Peer:
    established = operation.association.established
    return Peer(established.callingAETitle, established.peer)


@implementer(IServiceClass)
class AuditedService:
    """
    A service class of which the audit trail learns what was queried, and what
    somebody may not do. What was stored and retrieved the services know better
    themselves.
    """

    def __init__(self, service: IServiceClass, audit: IAudit) -> None:
        self.sopClasses = service.sopClasses
        self.commandFields = service.commandFields
        self.permission = service.permission
        self.transferSyntaxesFor = service.transferSyntaxesFor
        self.grantsSCPRole = service.grantsSCPRole
        self._service = service
        self._audit = audit

    def perform(self, operation: IOperation) -> Deferred[None]:
        # Instances come by here some hundred times a second, so that there is
        # no coroutine.
        performing = maybeDeferred(self._service.perform, operation)
        if operation.request.CommandField == _C_FIND:
            performing.addCallback(self._queried, operation)
        return performing.addErrback(self._failed, operation)

    def _queried(self, _: None, operation: IOperation) -> None:
        context = operation.context
        self._audit.queried(operation.association, context, operation.identifier)

    def _failed(self, failure: Failure, operation: IOperation) -> Failure:
        error = failure.value
        if isinstance(error, DIMSEError) and error.status == NOT_AUTHORIZED:
            self._audit.notPermitted(_peerOf(operation), error.comment)
        if operation.request.CommandField == _C_FIND:
            self._audit.queried(
                operation.association,
                operation.context,
                operation.identifier,
                whyOf(error),
            )
        return failure


class AuditedServices:
    """
    Where an association finds its service classes, each one audited.

    @param services: where they are found.
    """

    def __init__(self, services: IServices, audit: IAudit) -> None:
        self._services = services
        self._audit = audit
        self._audited: dict[IServiceClass, IServiceClass] = {}

    def serviceFor(self, abstractSyntax: str) -> IServiceClass | None:
        """The one that serves an abstract syntax."""
        service = self._services.serviceFor(abstractSyntax)
        if service is None:
            return None
        audited = self._audited.get(service)
        if audited is None:
            audited = self._audited[service] = AuditedService(service, self._audit)
        return audited


def whyOf(error: BaseException | None) -> str:
    """Why something failed, without what may name a patient."""
    if isinstance(error, DIMSEError):
        return f"{error.status:04X} {error.comment}".strip()
    return type(error).__name__
