"""
C{/api/openapi.json}: the calls, described for programs (OpenAPI 3.1). What
each of them does is told in L{d360.admin.calls}; here is what holds for
all.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from twisted.web.server import Request

from d360 import __version__
from d360.admin.calls import aes, server, studies, worklist
from d360.admin.describing import COUNT, TEXT, Data, parameter, record, refusal
from d360.admin.resource import JSONResource

_ABOUT = """\
Administration of a D360 server. An error is JSON, {"error": "..."}, with a
status of 4xx or 5xx. A body is JSON also where its content type is curl's
default, application/x-www-form-urlencoded, or is missing.
"""

#: What a call may answer whatever it does.
_ALWAYS = {
    "401": refusal("The token is missing or wrong.")
    | {"headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}},
    "403": refusal(
        "A page of another site is behind the request: its Origin or "
        "Sec-Fetch-Site says so; or there is no token and its Host is neither an "
        "IP address nor localhost; or the token is for monitoring only."
    ),
    "413": refusal("The body is too long."),
    "429": refusal("Too many wrong tokens came from this address.")
    | {"headers": {"Retry-After": {"schema": COUNT, "description": "Seconds."}}},
}

#: The same, where a token is needed.
_OF_TOKENS = ("401", "429")


#: What stands in a path, where it is not any text.
_PARAMETERS: Data = {
    "aet": {
        "type": "string",
        "pattern": r"^[ -\[\]-~]{1,16}$",
        "description": "an AE title, which has other characters than spaces",
    },
    "number": {
        "type": "integer",
        "minimum": 1,
        "description": "the id of a storage commitment",
    },
}

_MODULES = (aes, server, studies, worklist)

#: By name; a resource that is mounted has its description there.
DESCRIPTIONS: dict[str, Data] = {
    name: calls for module in _MODULES for name, calls in module.CALLS.items()
}

_SCHEMAS: Data = {"Error": record(error=TEXT)} | {
    name: schema for module in _MODULES for name, schema in module.SCHEMAS.items()
}


def document(names: Iterable[str]) -> Data:
    """
    The description.

    @param names: the calls below C{/api/} that there are.
    """
    paths: Data = {}
    for name in sorted({*names, "openapi.json"} & DESCRIPTIONS.keys()):
        for below, methods in DESCRIPTIONS[name].items():
            paths[f"/api/{name}{below}"] = _path(name, below, methods)
    paths["/metrics"] = _path("metrics", "", server.METRICS)
    return {
        "openapi": "3.1.0",
        "info": {"title": "D360", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "web.token, if one is configured; to read what "
                    "names no patient, web.monitoring_token too",
                }
            },
        },
    }


def _path(name: str, below: str, methods: Data) -> Data:
    path: Data = {}
    names = [part[1:-1] for part in below.split("/") if part.startswith("{")]
    if names:
        path["parameters"] = [
            parameter(one, "path", _PARAMETERS.get(one)) for one in names
        ]
    for method, described in methods.items():
        operation = deepcopy(described)
        operation["tags"] = [name]
        operation["responses"] |= _ALWAYS
        if name == "openapi.json":
            for status in _OF_TOKENS:
                del operation["responses"][status]
            operation["security"] = []
        path[method] = operation
    return path


class DocumentResource(JSONResource):
    """C{/api/openapi.json}."""

    def __init__(self, calls: Iterable[bytes]) -> None:
        super().__init__()
        self._document = document(name.decode("ascii") for name in calls)

    async def get(self, request: Request) -> Data:
        """The same as long as the server runs."""
        return self._document
