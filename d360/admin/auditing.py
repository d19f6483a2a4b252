"""Who makes a call, and the audit trail that is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.web.server import Request, Site

from d360.audit.null import NULL_AUDIT
from d360.audit.values import AuditedStudy, User
from d360.interfaces import IAudit

#: Component groups of a name (PS3.18 F.2.2).
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


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


def studyOfItem(attributes: Mapping[str, Any]) -> AuditedStudy:
    """
    Of a worklist item.

    @param attributes: in the DICOM JSON Model (PS3.18 F.2).
    """
    return AuditedStudy(
        _text(attributes, "0020000D"),
        _text(attributes, "00100020"),
        _text(attributes, "00100010"),
        _text(attributes, "00080050"),
    )


def _text(attributes: Mapping[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    value = values[0] or ""
    if isinstance(value, Mapping):
        groups = (value.get(g) or "" for g in _GROUPS)
        return "=".join(groups).rstrip("=")
    return str(value)
