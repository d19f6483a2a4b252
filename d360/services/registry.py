"""
Which service class serves a SOP class, for negotiation and for dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from d360.interfaces import IServiceClass, ISupportedSyntaxes
from d360.services.sopclasses import mayBeStorage


@implementer(ISupportedSyntaxes)
class ServiceRegistry:
    """
    The service classes of the server, by the SOP classes that they serve.

    @param fallback: serves the SOP classes that none of the others does and
        that C{accepts} lets through: the storage service, where the storage of
        unknown SOP classes is wanted.
    """

    def __init__(
        self,
        services: Iterable[IServiceClass],
        fallback: IServiceClass | None = None,
        accepts: Callable[[str], bool] = mayBeStorage,
    ) -> None:
        self._services: dict[str, IServiceClass] = {}
        self._fallback = fallback
        self._accepts = accepts
        for service in services:
            for sopClass in service.sopClasses:
                if sopClass in self._services:
                    raise ValueError(f"two services for SOP class {sopClass}")
                self._services[sopClass] = service

    def serviceFor(self, abstractSyntax: str) -> IServiceClass | None:
        """The service of an abstract syntax; C{None} where there is none."""
        service = self._services.get(abstractSyntax)
        if service is None and self._fallback is not None:
            return self._fallback if self._accepts(abstractSyntax) else None
        return service

    def transferSyntaxesFor(self, abstractSyntax: str) -> frozenset[str] | None:
        service = self.serviceFor(abstractSyntax)
        return None if service is None else service.transferSyntaxesFor(abstractSyntax)

    def grantsSCPRole(self, abstractSyntax: str) -> bool:
        service = self.serviceFor(abstractSyntax)
        return service is not None and service.grantsSCPRole(abstractSyntax)
