"""
A resource of the HTTP side: JSON in and out, errors as C{{"error": "..."}}
with their status.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import BAD_REQUEST, NO_CONTENT, NOT_MODIFIED
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from d360.admin.auditing import auditOf, uriOf, userOf
from d360.errors import D360Error, DatabaseUnavailable
from d360.logs import ContextLogger

#: What a resource may serve, if it has the method; HEAD is GET without a body.
METHODS = ("DELETE", "GET", "POST", "PUT")

#: The content types that JSON may come as; the last two are curl's default,
#: and none. L{d360.admin.origin} sees to it that no other site's page can make
#: a browser send them.
_JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")

#: Of JSON: brackets, commas and colons, which tell how many values there are,
#: and digits of a whole number, as Python takes longer and longer over them. Others
#: wait while it is read, which with these takes some milliseconds at most.
_MAX_MARKS = 16_000
_MARKS = (b"{", b"[", b",", b":")
_MAX_DIGITS = 1000

#: No call has so many parameters.
_MAX_PARAMETERS = 100

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
    status of 204 or 304 is not sent. They may set the header C{Content-Type},
    for JSON of a special kind.

    @cvar tellsOfPatients: the audit trail is told of each C{GET}.
    """

    tellsOfPatients = False

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}: by default nothing is below it."""
        return Refusal(404, "no such call")

    def render(self, request: Request) -> int:
        """See L{Resource.render}."""
        method = request.method.decode("ascii", "replace")
        allowed = [name for name in METHODS if hasattr(self, name.lower())]
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
        if name == "GET" and self.tellsOfPatients:
            work.addCallback(self._audited, request)
        work.addCallback(
            lambda body: None if gone else self._answer(request, None, body)
        )
        work.addErrback(lambda failure: log.failure("answer failed", failure))
        return NOT_DONE_YET

    def _audited(self, body: Any, request: Request) -> Any:
        why = "" if request.code < BAD_REQUEST else f"HTTP status {request.code}"
        auditOf(request).searched(userOf(request), uriOf(request), why)
        return body

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
        if request.code not in (NO_CONTENT, NOT_MODIFIED):
            data = json.dumps(body).encode() + b"\n"
            if not request.responseHeaders.hasHeader(b"content-type"):
                request.setHeader(b"content-type", b"application/json")
            request.setHeader(b"content-length", str(len(data)).encode())
            if request.method != b"HEAD":
                request.write(data)
        request.finish()


class Refusal(JSONResource):
    """Refuses whatever is asked of it, or of what is below it."""

    isLeaf = True

    def __init__(self, code: int, error: str) -> None:
        super().__init__()
        self._error = HTTPError(code, error)

    async def get(self, request: Request) -> None:
        """Always refuses."""
        raise self._error

    post = put = delete = get


def contentType(request: Request) -> str:
    """The media type of a request's body, without its parameters."""
    header = request.getHeader(b"content-type") or b""
    return header.decode("ascii", "replace").split(";")[0].strip().lower()


def isJSON(kind: str) -> bool:
    """Whether a body of this content type is read as JSON."""
    return kind in _JSON_TYPES


def bodyOf(request: Request) -> bytes:
    """The request's body."""
    assert request.content is not None
    data: bytes = request.content.read()
    return data


def readJSON(data: bytes) -> Any:
    """
    Decode JSON.

    @raise HTTPError: it is none, or too much of it, or holds text that is no
        Unicode.
    """
    if sum(map(data.count, _MARKS)) > _MAX_MARKS:
        raise HTTPError(
            400, f"more than {_MAX_MARKS} brackets, commas and colons: send less"
        )
    try:
        value = json.loads(
            data,
            parse_constant=_refuseConstant,
            parse_int=_integerOf,
            object_pairs_hook=_objectOf,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise HTTPError(400, "not valid JSON: half of a surrogate pair") from None
    except (ValueError, RecursionError) as error:
        raise HTTPError(400, f"not valid JSON: {error}") from None
    return value


def _refuseConstant(name: str) -> None:
    # Python reads NaN and Infinity too (RFC 8259 6).
    raise ValueError(f"{name} is no number")


def _integerOf(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of more than {_MAX_DIGITS} digits")
    return int(digits)


def _objectOf(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python would take the last one: of two Patient IDs perhaps the wrong one.
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice[:100]} is there twice")
    return found


def jsonBody(request: Request) -> dict[str, Any]:
    """
    The request's body, a JSON object; one that is empty is an empty object.

    @raise HTTPError: it is none.
    """
    if not isJSON(contentType(request)):
        raise HTTPError(415, "send application/json")
    body = readJSON(bodyOf(request) or b"{}")
    if not isinstance(body, dict):
        raise HTTPError(400, "send a JSON object")
    return body


def parametersOf(request: Request) -> dict[str, str]:
    """
    What stands behind the C{?} of the URL, by name.

    @raise HTTPError: it is not UTF-8, or a name is there twice.
    """
    text = request.uri.partition(b"?")[2].decode("ascii", "replace")
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        raise HTTPError(
            400, f"give at most {_MAX_PARAMETERS} parameters, in UTF-8"
        ) from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in parameters:
            raise HTTPError(400, f"{name[:100]} is given twice")
        parameters[name] = value
    return parameters
