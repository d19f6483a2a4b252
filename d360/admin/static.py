"""
The page for people: the files of C{d360/admin/page}, as they are, at the root
of the second port. They hold nothing secret, so that the token is not asked
for; the page asks for it when a call of the API does.
"""

from __future__ import annotations

from hashlib import sha256
from importlib import resources

from twisted.web.http import CACHED
from twisted.web.resource import Resource
from twisted.web.server import Request

from d360.admin.resource import Refusal

#: What is served, by the end of its name.
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_HEADERS = {
    # Nothing from elsewhere, nothing inline, in nobody's frame.
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for again each time, and answered 304 until D360 is upgraded.
    "Cache-Control": "no-cache",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class PageFile(Resource):
    """
    One file of the page.

    @param kind: its content type.
    """

    def __init__(self, data: bytes, kind: str) -> None:
        super().__init__()
        self._data = data
        self._kind = kind
        self._tag = b'"%s"' % sha256(data).hexdigest()[:32].encode()

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}: a file has none."""
        return Refusal(404, "no such call; see /api/status")

    def render(self, request: Request) -> bytes | int:
        """See L{Resource.render}; Twisted leaves the body of HEAD out."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            method = request.method.decode("ascii", "replace")
            return Refusal(405, f"{method} is not possible here").render(request)
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        if request.setETag(self._tag) is CACHED:
            return b""
        request.setHeader(b"content-type", self._kind.encode())
        request.setHeader(b"content-length", str(len(self._data)).encode())
        return b"" if request.method == b"HEAD" else self._data


def putPage(root: Resource) -> None:
    """Have a resource serve the page: C{/} and the files that it refers to."""
    for file in resources.files("d360.admin.page").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            name = "" if file.name == "index.html" else file.name
            root.putChild(name.encode(), PageFile(file.read_bytes(), kind))
