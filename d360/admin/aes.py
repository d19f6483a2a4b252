"""The remote AEs over HTTP: C{/api/aes} and what is below it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.web.http import CREATED, NO_CONTENT
from twisted.web.resource import Resource
from twisted.web.server import Request

from d360.addresses import (
    namesOf,
    readAETitle,
    readCertificate,
    readFlag,
    readHost,
    readPermissions,
    readPort,
)
from d360.admin.auditing import auditOf, uriOf, userOf
from d360.admin.resource import HTTPError, JSONResource, Refusal, jsonBody, log
from d360.errors import AssociationEnded, AssociationRejected, DIMSEError
from d360.interfaces import IRemoteAEs, IVerification
from d360.model import ALL_PERMISSIONS, RemoteAE

T = TypeVar("T")


class RemoteAEsResource(JSONResource):
    """
    C{/api/aes}: all of them.

    @param aeTitle: ours, which remote AEs must know.
    """

    def __init__(
        self, remoteAEs: IRemoteAEs, verification: IVerification, aeTitle: str
    ) -> None:
        super().__init__()
        self._remoteAEs = remoteAEs
        self._verification = verification
        self._aeTitle = aeTitle

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}; C{path} is percent-decoded."""
        try:
            title = _read("AE title", path.decode("utf-8", "replace"), readAETitle)
        except HTTPError as error:
            return Refusal(error.code, str(error))
        resource = _RemoteAEResource(self._remoteAEs, title)
        resource.putChild(
            b"echo",
            _EchoResource(self._remoteAEs, title, self._verification, self._aeTitle),
        )
        return resource

    async def get(self, request: Request) -> dict[str, Any]:
        """Sorted by title."""
        return {"aes": [_asJSON(remote) for remote in await self._remoteAEs.all()]}


class _RemoteAEResource(JSONResource):
    """C{/api/aes/TITLE}: one of them."""

    def __init__(self, remoteAEs: IRemoteAEs, title: str) -> None:
        super().__init__()
        self._remoteAEs = remoteAEs
        self._title = title

    async def get(self, request: Request) -> dict[str, Any]:
        """Where it is, and what it may do."""
        return _asJSON(await _known(self._remoteAEs, self._title))

    async def put(self, request: Request) -> dict[str, Any]:
        """Add it, or replace the one of this title."""
        body = jsonBody(request)
        host = _take(body, "host", readHost)
        port = _take(body, "port", readPort)
        permissions = _take(body, "permissions", readPermissions, ALL_PERMISSIONS)
        tls = _take(body, "tls", readFlag, False)
        certificate = _take(body, "certificate", readCertificate, "")
        if body:
            raise HTTPError(400, f"unknown: {', '.join(sorted(body))[:200]}")
        remote = RemoteAE(self._title, host, port, permissions, tls, certificate)
        if await self._remoteAEs.put(remote):
            request.setResponseCode(CREATED)
        log.info(
            "remote AE {remote} is entered; permissions: {permissions}",
            remote=_name(remote),
            permissions=", ".join(namesOf(permissions)) or "none",
        )
        self._audit(request, f"remote AE {_name(remote)} is entered")
        return _asJSON(remote)

    async def delete(self, request: Request) -> None:
        """Remove it."""
        if not await self._remoteAEs.remove(self._title):
            raise _unknown(self._title)
        log.info("remote AE {title} is removed", title=self._title)
        self._audit(request, f"remote AE {self._title} is removed")
        request.setResponseCode(NO_CONTENT)

    def _audit(self, request: Request, text: str) -> None:
        auditOf(request).configured(userOf(request), uriOf(request), text)


class _EchoResource(JSONResource):
    """C{/api/aes/TITLE/echo}: verify it by a C-ECHO of ours."""

    def __init__(
        self,
        remoteAEs: IRemoteAEs,
        title: str,
        verification: IVerification,
        aeTitle: str,
    ) -> None:
        super().__init__()
        self._remoteAEs = remoteAEs
        self._title = title
        self._verification = verification
        self._aeTitle = aeTitle

    async def post(self, request: Request) -> dict[str, Any]:
        """How long it took, or what to do about it; a body is not looked at."""
        remote = await _known(self._remoteAEs, self._title)
        try:
            seconds = await self._verification.verify(remote)
        except AssociationRejected as error:
            why = self._rejected(remote, error)
        except AssociationEnded as error:
            why = (
                f"no association with {_name(remote)}: {str(error).rstrip('.')}; see "
                "that it runs, that host and port are right, and that no firewall "
                "is between"
            )
        except DIMSEError as error:
            why = f"{_name(remote)}: {error.comment}"
        else:
            return {"ok": True, "milliseconds": round(seconds * 1000, 1)}
        return {"ok": False, "error": why}

    def _rejected(self, remote: RemoteAE, error: AssociationRejected) -> str:
        """PS3.8 Table 9-21, in words."""
        who = f"{_name(remote)} rejects the association"
        if error.result == 2:
            return f"{who} for now; try again later"
        if (error.source, error.reason) == (1, 3):
            return f"{who}: it does not know us; add the AE title {self._aeTitle} there"
        if (error.source, error.reason) == (1, 7):
            return f"{who}: it is not called {remote.title}; correct the AE title"
        return f"{who}, see its log: {error}"


def _asJSON(remote: RemoteAE) -> dict[str, Any]:
    return {
        "aet": remote.title,
        "host": remote.host,
        "port": remote.port,
        "permissions": namesOf(remote.permissions),
        "tls": remote.tls,
        "certificate": remote.certificate,
    }


def _name(remote: RemoteAE) -> str:
    """A remote AE and where it is, for people."""
    host = f"[{remote.host}]" if ":" in remote.host else remote.host
    return f"{remote.title} at {host}:{remote.port}"


async def _known(remoteAEs: IRemoteAEs, title: str) -> RemoteAE:
    remote = await remoteAEs.get(title)
    if remote is None:
        raise _unknown(title)
    return remote


def _unknown(title: str) -> HTTPError:
    return HTTPError(
        404,
        f"{title!r} is no known remote AE; those that are: d360ctl ae list, or "
        "GET /api/aes",
    )


def _take(
    body: dict[str, Any],
    name: str,
    read: Callable[[Any], T],
    default: T | None = None,
) -> T:
    """Take a value out of a body; without a default it must be there."""
    if name not in body:
        if default is not None:
            return default
        raise HTTPError(400, f"{name} is missing")
    return _read(name, body.pop(name), read)


def _read(name: str, value: Any, read: Callable[[Any], T]) -> T:
    try:
        return read(value)
    except ValueError as error:
        shown = reprlib.repr(value)
        raise HTTPError(400, f"{name} {shown} is not right: give {error}") from None
