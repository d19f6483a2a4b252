"""
The HTTP side: JSON in and out, errors as C{{"error": "..."}} with their
status.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from d360 import __version__
from d360.errors import D360Error, DatabaseUnavailable
from d360.interfaces import IArchive, IAssociations, IIndex, IReindex
from d360.logs import ContextLogger

#: What a resource may serve, if it has the method; HEAD is GET without a body.
_METHODS = ("DELETE", "GET", "POST", "PUT")

#: A body longer than this is refused; none of ours comes near it.
MAX_BODY = 1 << 20

_log = ContextLogger("d360.web", "web")


class HTTPError(D360Error):
    """The answer to a request that cannot be served."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class JSONResource(Resource):
    """
    A resource whose methods are coroutines: C{get(request)} and so on return
    what goes out as JSON, or raise L{HTTPError}.
    """

    isLeaf = True

    def render(self, request: Request) -> int:
        """See L{Resource.render}."""
        method = request.method.decode("ascii", "replace")
        allowed = [name for name in _METHODS if hasattr(self, name.lower())]
        name = "GET" if method == "HEAD" else method
        if name not in allowed:
            if "GET" in allowed:
                allowed.insert(allowed.index("GET") + 1, "HEAD")
            request.setHeader(b"allow", ", ".join(allowed).encode())
            self._answer(request, 405, {"error": f"{method} is not possible here"})
            return NOT_DONE_YET
        served: Callable[[Request], Coroutine[Any, Any, Any]]
        served = getattr(self, name.lower())
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        work = Deferred.fromCoroutine(served(request))
        work.addErrback(self._refused, request)
        work.addCallback(
            lambda body: None if gone else self._answer(request, None, body)
        )
        work.addErrback(lambda failure: _log.failure("answer failed", failure))
        return NOT_DONE_YET

    def _refused(self, failure: Failure, request: Request) -> dict[str, str]:
        error = failure.value
        if isinstance(error, HTTPError):
            request.setResponseCode(error.code)
            return {"error": str(error)}
        if isinstance(error, DatabaseUnavailable):
            request.setResponseCode(503)
            return {"error": "the database is not available; try again later"}
        _log.failure("request failed", failure)
        request.setResponseCode(500)
        return {"error": "internal error, see the server's log"}

    def _answer(self, request: Request, code: int | None, body: Any) -> None:
        if code is not None:
            request.setResponseCode(code)
        data = json.dumps(body).encode() + b"\n"
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"content-length", str(len(data)).encode())
        request.setHeader(b"cache-control", b"no-store")
        if request.method != b"HEAD":
            request.write(data)
        request.finish()


def _jsonBody(request: Request) -> dict[str, Any]:
    """
    The request's body.

    @raise HTTPError: it is not a JSON object. Another content type is refused
        too, so that no page of another site can make a browser send it.
    """
    kind = (request.getHeader(b"content-type") or b"").split(b";")[0].strip()
    if kind != b"application/json":
        raise HTTPError(415, "send application/json")
    assert request.content is not None
    try:
        body = json.loads(request.content.read() or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPError(400, f"not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise HTTPError(400, "send a JSON object")
    return body


class StatusResource(JSONResource):
    """C{/api/status}."""

    def __init__(
        self,
        aeTitle: str,
        associations: IAssociations,
        index: IIndex,
        archive: IArchive,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._aeTitle = aeTitle
        self._associations = associations
        self._index = index
        self._archive = archive
        self._clock = clock
        self._startedAt = clock.seconds()

    async def get(self, request: Request) -> dict[str, Any]:
        """Version, uptime, associations, counts, database and disk."""
        database = await self._index.state()
        counts = None
        if database.available:
            try:
                counts = asdict(await self._index.totals())
            except DatabaseUnavailable:
                # It went away between the two questions; say so, as the rest
                # of the answer is of use all the same.
                database = await self._index.state()
        return {
            "version": __version__,
            "ae_title": self._aeTitle,
            "uptime_seconds": round(self._clock.seconds() - self._startedAt, 1),
            "associations": {
                "live": self._associations.live,
                "accepted": self._associations.accepted,
            },
            "counts": counts,
            "database": asdict(database),
            "disk": asdict(await self._archive.space()),
        }


class ReindexResource(JSONResource):
    """C{/api/reindex}: rebuild the index from the files."""

    def __init__(self, reindex: IReindex) -> None:
        super().__init__()
        self._reindex = reindex

    async def get(self, request: Request) -> dict[str, Any]:
        """How far it has come."""
        progress = self._reindex.progress()
        return {"progress": None if progress is None else asdict(progress)}

    async def post(self, request: Request) -> dict[str, Any]:
        """Begin."""
        body = _jsonBody(request)
        flags = {name: body.pop(name, False) for name in ("prune", "full")}
        if body:
            raise HTTPError(400, f"unknown: {', '.join(sorted(body))}")
        for name, value in flags.items():
            if not isinstance(value, bool):
                raise HTTPError(400, f"{name} must be true or false")
        if not self._reindex.start(**flags):
            raise HTTPError(409, "a rebuild is running already")
        request.setResponseCode(202)
        return await self.get(request)

    async def delete(self, request: Request) -> dict[str, Any]:
        """End it; running it again goes on where it was."""
        await self._reindex.stop()
        return await self.get(request)


class _Nothing(JSONResource):
    def __init__(self, code: int, error: str) -> None:
        super().__init__()
        self._error = HTTPError(code, error)

    async def get(self, request: Request) -> None:
        """Always refuses."""
        raise self._error

    post = put = delete = get


class API(Resource):
    """
    C{/api}: looks a call up, after the token was checked.

    @param token: what C{Authorization: Bearer} must say; empty for none.
    """

    def __init__(self, calls: dict[bytes, JSONResource], token: str) -> None:
        super().__init__()
        self._token = token.encode()
        for name, resource in calls.items():
            self.putChild(name, resource)

    def getChildWithDefault(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChildWithDefault}."""
        if self._token:
            scheme, _, given = (request.getHeader(b"authorization") or b"").partition(
                b" "
            )
            if scheme.lower() != b"bearer" or not hmac.compare_digest(
                given.strip(), self._token
            ):
                request.setHeader(b"www-authenticate", b"Bearer")
                return _Nothing(401, "give the token: Authorization: Bearer ...")
        return super().getChildWithDefault(path, request)

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}."""
        return _Nothing(404, "no such call")

    def render(self, request: Request) -> int:
        """C{/api} itself is no call."""
        return _Nothing(404, "no such call; see /api/status").render(request)


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Nothing(404, "no such call; see /api/status")


class BoundedRequest(Request):
    """A request that keeps no more than L{MAX_BODY} of its body."""

    def gotLength(self, length: int | None) -> None:
        """See L{Request.gotLength}."""
        self._size = 0
        super().gotLength(min(length or 0, MAX_BODY))

    def handleContentChunk(self, data: bytes) -> None:
        """See L{Request.handleContentChunk}."""
        self._size += len(data)
        if self._size <= MAX_BODY:
            super().handleContentChunk(data)

    def render(self, resource: Resource) -> None:
        """See L{Request.render}."""
        if self._size > MAX_BODY:
            resource = _Nothing(413, f"a body has at most {MAX_BODY} bytes")
        super().render(resource)


def makeSite(calls: dict[bytes, JSONResource], token: str) -> Site:
    """
    The site of the second port.

    @param calls: what stands below C{/api/}, by name.
    """
    root = _Root()
    root.putChild(b"api", API(calls, token))
    site = Site(root, requestFactory=BoundedRequest)
    site.displayTracebacks = False
    return site
