"""The remote AEs: see L{d360.admin.aes}."""

from __future__ import annotations

from d360.admin.describing import (
    FLAG,
    JSON,
    NOTHING,
    NUMBER,
    TEXT,
    Data,
    answer,
    body,
    call,
    listOf,
    record,
    ref,
)
from d360.model import Permission

_MEMBERS: Data = {
    "host": TEXT | {"description": "a host name or an IP address"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "permissions": listOf({"enum": [permission.value for permission in Permission]})
    | {"description": "what it may ask of D360; all of it if left out"},
    "tls": FLAG | {"description": "it is called over TLS; not if left out"},
    "certificate": TEXT
    | {
        "description": "SHA-256 fingerprint, in hexadecimal digits with or without "
        "colons, of the certificate that it has to show when it calls; none if "
        "left out or empty"
    },
}
_OPTIONAL = ("permissions", "tls", "certificate")


SCHEMAS: Data = {
    "RemoteAE": record(aet=TEXT, **_MEMBERS),
}


_BAD_TITLE = {400: "The AE title is not right."}
_UNKNOWN_AE = {404: "The remote AE is not known."}

CALLS: dict[str, Data] = {
    "aes": {
        "": {
            "get": call(
                "listRemoteAEs",
                "The remote AEs, by title",
                ok={200: answer("All.", record(aes=listOf(ref("RemoteAE"))))},
            )
        },
        "/{aet}": {
            "get": call(
                "getRemoteAE",
                "One remote AE",
                ok={200: answer("It.", ref("RemoteAE"))},
                refused=_BAD_TITLE | _UNKNOWN_AE,
            ),
            "put": call(
                "putRemoteAE",
                "Add a remote AE, or replace it",
                takes=body({JSON: record(_OPTIONAL, **_MEMBERS)}),
                ok={
                    200: answer("It is replaced.", ref("RemoteAE")),
                    201: answer("It is new.", ref("RemoteAE")),
                },
                refused={
                    400: "The AE title or the body is not right.",
                    # A title with a slash has to be percent-encoded.
                    404: "There is no such call.",
                    415: "The body is no JSON.",
                },
            ),
            "delete": call(
                "removeRemoteAE",
                "Remove a remote AE",
                ok={204: NOTHING},
                refused=_BAD_TITLE | _UNKNOWN_AE,
            ),
        },
        "/{aet}/echo": {
            "post": call(
                "echoRemoteAE",
                "C-ECHO a remote AE",
                ok={
                    200: answer(
                        "Whether it answered; if not, why.",
                        {
                            "anyOf": [
                                record(ok={"const": True}, milliseconds=NUMBER),
                                record(ok={"const": False}, error=TEXT),
                            ]
                        },
                    )
                },
                refused=_BAD_TITLE | _UNKNOWN_AE,
            )
        },
    }
}
