"""
A resource of the HTTP side: JSON in and out, errors as C{{"error": "..."}}
with their status.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import NO_CONTENT
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from d360.errors import D360Error, DatabaseUnavailable
from d360.logs import ContextLogger

#: What a resource may serve, if it has the method; HEAD is GET without a body.
_METHODS = ("DELETE", "GET", "POST", "PUT")

log = ContextLogger("d360.web", "web")


class HTTPError(D360Error):
    """The answer to a request that cannot be served."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class JSONResource(Resource):
    """
    A resource whose methods are coroutines: C{get(request)} and so on return
    what goes out as JSON, or raise L{HTTPError}. What they return with a
    status of 204 is not sent.
    """

    isLeaf = True

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}: of one that is no leaf."""
        return Refusal(404, "no such call")

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
        work.addErrback(lambda failure: log.failure("answer failed", failure))
        return NOT_DONE_YET

    def _refused(self, failure: Failure, request: Request) -> dict[str, str]:
        error = failure.value
        if isinstance(error, HTTPError):
            request.setResponseCode(error.code)
            return {"error": str(error)}
        if isinstance(error, DatabaseUnavailable):
            request.setResponseCode(503)
            return {"error": "the database is not available; try again later"}
        log.failure("request failed", failure)
        request.setResponseCode(500)
        return {"error": "internal error, see the server's log"}

    def _answer(self, request: Request, code: int | None, body: Any) -> None:
        if code is not None:
            request.setResponseCode(code)
        request.setHeader(b"cache-control", b"no-store")
        if request.code != NO_CONTENT:
            data = json.dumps(body).encode() + b"\n"
            request.setHeader(b"content-type", b"application/json")
            request.setHeader(b"content-length", str(len(data)).encode())
            if request.method != b"HEAD":
                request.write(data)
        request.finish()


class Refusal(JSONResource):
    """Refuses whatever is asked of it."""

    def __init__(self, code: int, error: str) -> None:
        super().__init__()
        self._error = HTTPError(code, error)

    async def get(self, request: Request) -> None:
        """Always refuses."""
        raise self._error

    post = put = delete = get


def jsonBody(request: Request) -> dict[str, Any]:
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
