"""
Which service class serves a SOP class, for negotiation and for dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from d360.interfaces import ICallers, IServiceClass, ISupportedSyntaxes
from d360.model import Permission
from d360.services.permitted import PermittedService
from d360.services.sopclasses import mayBeStorage


@implementer(ISupportedSyntaxes)
class ServiceRegistry:
    """
    The service classes of the server, by the SOP classes that they serve, for
    those who may use them.

    @param callers: tells who may.
    @param fallback: serves the SOP classes that none of the others does and
        that C{accepts} lets through: the storage service, where the storage of
        unknown SOP classes is wanted.
    """

    def __init__(
        self,
        services: Iterable[IServiceClass],
        callers: ICallers,
        fallback: IServiceClass | None = None,
        accepts: Callable[[str], bool] = mayBeStorage,
    ) -> None:
        self._services: dict[str, IServiceClass] = {}
        self._callers = callers
        self._fallback = None if fallback is None else self._permitted(fallback)
        self._accepts = accepts
        for service in map(self._permitted, services):
            for sopClass in service.sopClasses:
                if sopClass in self._services:
                    raise ValueError(f"two services for SOP class {sopClass}")
                self._services[sopClass] = service

    def _permitted(self, service: IServiceClass) -> IServiceClass:
        permission = service.permission
        if permission is None:
            return service
        return PermittedService(service, permission, self._callers)

    def serviceFor(self, abstractSyntax: str) -> IServiceClass | None:
        """The service of an abstract syntax; C{None} where there is none."""
        service = self._services.get(abstractSyntax)
        if service is None and self._fallback is not None:
            return self._fallback if self._accepts(abstractSyntax) else None
        return service

    def transferSyntaxesFor(self, abstractSyntax: str) -> frozenset[str] | None:
        service = self.serviceFor(abstractSyntax)
        return None if service is None else service.transferSyntaxesFor(abstractSyntax)

    def grantsSCURole(
        self, abstractSyntax: str, permissions: frozenset[Permission]
    ) -> bool:
        service = self.serviceFor(abstractSyntax)
        return service is not None and (
            service.permission is None or service.permission in permissions
        )

    def grantsSCPRole(
        self, abstractSyntax: str, permissions: frozenset[Permission]
    ) -> bool:
        # To have the role is to be sent what a C-GET has found.
        service = self.serviceFor(abstractSyntax)
        return (
            service is not None
            and service.grantsSCPRole(abstractSyntax)
            and Permission.RETRIEVE in permissions
        )
