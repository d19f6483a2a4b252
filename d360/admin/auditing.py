"""Who makes a call, and the audit trail that is told of it."""

from __future__ import annotations

from twisted.web.server import Request, Site

from d360.audit.null import NULL_AUDIT
from d360.audit.values import User
from d360.interfaces import IAudit


class AuditedSite(Site):
    """
    A site whose resources tell of what is done through them.

    @ivar audit: whom they tell.
    @ivar needsToken: whoever is served has the token.
    """

    audit: IAudit = NULL_AUDIT
    needsToken = False


def auditOf(request: Request) -> IAudit:
    """The audit trail of the site."""
    assert isinstance(request.site, AuditedSite)
    return request.site.audit


def userOf(request: Request) -> User:
    """Who makes a call that is served."""
    assert isinstance(request.site, AuditedSite)
    name = "token" if request.site.needsToken else "anonymous"
    return User(name, addressOf(request))


def addressOf(request: Request) -> str:
    """The IP address that a call came from; perhaps that of a proxy."""
    return str(getattr(request.getClientAddress(), "host", ""))


def uriOf(request: Request) -> str:
    """Path and query of a call, as they came."""
    return request.uri.decode("ascii", "replace")
