"""
Requests that a browser was made to send by a page that is none of ours. A
browser says where a request comes from, and another program says nothing of
the kind and may do whatever the token allows.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from twisted.web.server import Request

from d360.admin.resource import HTTPError

#: They change nothing (RFC 9110 9.2.1), and no other site's page can read
#: what they answer.
_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def checkSource(request: Request, localOnly: bool) -> None:
    """
    @param localOnly: that a request comes from this machine is all that
        admits it; there is no token.
    @raise HTTPError: it is none for us, or of another site's page.
    """
    host = (request.getHeader(b"host") or b"").decode("ascii", "replace")
    if localOnly and host and not _isNumericOrLocal(host):
        # A page of attacker.example whose name has come to mean 127.0.0.1
        # is of our own origin as far as the browser can see.
        raise HTTPError(
            403,
            "without a token this server answers only to an IP address or "
            f"localhost, not to {host[:100]!r}; set web.token to use a name",
        )
    if request.method in _SAFE:
        return
    site = request.getHeader(b"sec-fetch-site")
    if site is not None and site not in (b"same-origin", b"none"):
        raise HTTPError(403, "a page of another site may change nothing here")
    origin = request.getHeader(b"origin")
    if origin is not None and not _isSame(origin.decode("ascii", "replace"), host):
        raise HTTPError(
            403,
            f"a page of {origin.decode('ascii', 'replace')[:100]!r} may change "
            f"nothing at {host[:100]!r}",
        )


def _isNumericOrLocal(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _isSame(origin: str, host: str) -> bool:
    """
    Whether an origin (RFC 6454 6.2) is the host that a request went to. The
    scheme is not compared: in front of us a proxy may speak TLS.
    """
    scheme, separator, place = origin.lower().partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    if not separator or default is None:
        return False
    return place.removesuffix(default) == host.lower().removesuffix(default)
