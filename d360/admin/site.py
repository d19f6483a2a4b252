"""The site of the second port, and what the server says of itself there."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any

from attrs import asdict, frozen
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web.iweb import IAccessLogFormatter
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import provider

from d360 import __version__
from d360.admin.auditing import AuditedSite, addressOf, auditOf
from d360.admin.channel import BoundedChannel
from d360.admin.openapi import DocumentResource
from d360.admin.origin import checkSource
from d360.admin.resource import HTTPError, JSONResource, Refusal, jsonBody, log
from d360.admin.static import putPage
from d360.admin.tries import Tries
from d360.admin.watching import rfc3339
from d360.audit.null import NULL_AUDIT
from d360.audit.values import User
from d360.errors import DatabaseUnavailable
from d360.hosts import ClosedConnections, HostCounts
from d360.interfaces import (
    IArchive,
    IAssociations,
    IAudit,
    ICertificates,
    IFreeSpace,
    IIndex,
    IReindex,
    IWorkers,
)

#: A body longer than this is refused; none of ours comes near it.
MAX_BODY = 1 << 18

#: What those may read who only watch the server; no patient is named in it.
_WATCHED = frozenset({b"associations", b"errors", b"rates", b"status"})
_READING = (b"GET", b"HEAD")


class StatusResource(JSONResource):
    """
    C{/api/status}.

    @param audit: tells how the audit trail does, once the workers were asked.
    """

    def __init__(
        self,
        aeTitle: str,
        associations: IAssociations,
        workers: IWorkers,
        index: IIndex,
        archive: IArchive,
        freeSpace: IFreeSpace,
        certificates: ICertificates,
        clock: IReactorTime,
        audit: Callable[[], dict[str, Any]],
    ) -> None:
        super().__init__()
        self._audit = audit
        self._certificates = certificates
        self._aeTitle = aeTitle
        self._associations = associations
        self._workers = workers
        self._index = index
        self._archive = archive
        self._freeSpace = freeSpace
        self._clock = clock
        self._startedAt = clock.seconds()

    async def get(self, request: Request) -> dict[str, Any]:
        """What there is to know at a glance."""
        asking = self._workers.refresh("counters")
        database = await self._index.state()
        counts = None
        if database.available:
            try:
                counts = asdict(await self._index.totals())
            except DatabaseUnavailable:
                # It went away between the two questions; say so, as the rest
                # of the answer is of use all the same.
                database = await self._index.state()
        await asking
        return {
            "version": __version__,
            "ae_title": self._aeTitle,
            "uptime_seconds": round(self._clock.seconds() - self._startedAt, 1),
            "associations": {
                "live": self._associations.live,
                "accepted": self._associations.accepted,
            },
            "workers": [
                asdict(state) | {"since": rfc3339(state.since)}
                for state in self._workers.states()
            ],
            "certificates": [
                {
                    "use": state.use,
                    "subject": state.subject,
                    "fingerprint": state.fingerprint,
                    "expires": rfc3339(state.expires),
                    "days_left": state.daysLeft,
                }
                for state in self._certificates.states()
            ],
            "counts": counts,
            "database": asdict(database),
            "disk": asdict(await self._archive.space())
            | {
                "min_free": self._freeSpace.minimum,
                "low": self._freeSpace.isLow,
            },
            "audit": self._audit(),
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
        body = jsonBody(request)
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


class API(Resource):
    """
    C{/api}: looks a call up, after the token was checked.

    @param token: what C{Authorization: Bearer} must say; empty for none.
    @param monitoringToken: what it may say as well, to read what is
        C{watched}; empty for none.
    @param public: further calls, which need no token.
    """

    def __init__(
        self,
        calls: dict[bytes, JSONResource],
        token: str,
        monitoringToken: str = "",
        watched: frozenset[bytes] = _WATCHED,
        public: dict[bytes, JSONResource] | None = None,
    ) -> None:
        super().__init__()
        self._token = token.encode()
        self._monitoringToken = monitoringToken.encode()
        self._watched = watched
        self._public = public or {}
        for name, resource in (calls | self._public).items():
            self.putChild(name, resource)

    def getChildWithDefault(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChildWithDefault}."""
        refusal = None
        if self._token and path not in self._public:
            refusal = self._refusal(path, request)
        return refusal or super().getChildWithDefault(path, request)

    def _refusal(self, path: bytes, request: Request) -> Refusal | None:
        """Why a call is not served, as far as the token goes."""
        assert isinstance(request.site, _Site)
        tries, host = request.site.tries, addressOf(request)
        given = _tokenOf(request)
        wait = tries.wait(host)
        if given and wait:
            request.setHeader(b"retry-after", str(wait).encode())
            return Refusal(
                429, f"too many wrong tokens came from {host}: wait {wait} s"
            )
        if hmac.compare_digest(given, self._token):
            return None
        if self._isMonitoring(given):
            if path in self._watched and request.method in _READING:
                return None
            return Refusal(403, "this token is for monitoring; use that of web.token")
        if given:
            # Without one, a browser only asks whether one is needed.
            tries.wrong(host, given)
            who = User("anonymous", host)
            auditOf(request).refused(who, "wrong token for a call over HTTP")
        request.setHeader(b"www-authenticate", b"Bearer")
        return Refusal(401, "give the token: Authorization: Bearer ...")

    def _isMonitoring(self, given: bytes) -> bool:
        ours = self._monitoringToken
        return bool(ours) and hmac.compare_digest(given, ours)

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}."""
        return Refusal(404, "no such call")

    def render(self, request: Request) -> int:
        """C{/api} itself is no call."""
        return Refusal(404, "no such call; see /api/status").render(request)


def _tokenOf(request: Request) -> bytes:
    """What it shows (RFC 6750 2.1); empty for nothing."""
    header = request.getHeader(b"authorization") or b""
    scheme, _, given = header.partition(b" ")
    return given.strip() if scheme.lower() == b"bearer" else b""


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> Resource:
        return Refusal(404, "no such call; see /api/status")


class BoundedRequest(Request):
    """
    A request that keeps no more than L{MAX_BODY} of its body, and is refused
    if a page of another site is behind it.
    """

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
            resource = Refusal(413, f"a body has at most {MAX_BODY} bytes")
        else:
            assert isinstance(self.site, _Site)
            try:
                checkSource(self, self.site.localOnly)
            except HTTPError as error:
                resource = Refusal(error.code, str(error))
        super().render(resource)


@provider(IAccessLogFormatter)
def _accessLine(timestamp: str, request: Request) -> str:
    """A request in the log; what stands behind a C{?} may name a patient."""
    said = b"%s %s %s" % (request.method, request.path, request.clientproto)
    peer = getattr(request.getClientAddress(), "host", "-")
    return f'{peer} "{repr(said)[2:-1]}" {request.code} {request.sentLength}'


@frozen
class SiteLimits:
    """
    @ivar requestTimeout: seconds that a request may take to arrive.
    @ivar maxConnections: that may be open at the same time.
    """

    requestTimeout: float = 60.0
    maxConnections: int = 200

    @property
    def perHost(self) -> int:
        """How many of them one host may have: a quarter is left for others."""
        return self.maxConnections - self.maxConnections // 4


class _Site(AuditedSite):
    """
    @ivar localOnly: there is no token, so that only programs of this machine
        are served.
    @ivar tries: the wrong tokens that hosts have shown.
    """

    protocol = BoundedChannel  # type: ignore[assignment]

    def __init__(
        self,
        root: Resource,
        localOnly: bool,
        audit: IAudit,
        limits: SiteLimits,
        seconds: Callable[[], float],
    ) -> None:
        super().__init__(
            root,
            requestFactory=BoundedRequest,
            timeout=limits.requestTimeout,
            parsePOSTFormSubmission=False,
            logFormatter=_accessLine,
        )
        self.displayTracebacks = False
        self.localOnly = localOnly
        self.needsToken = not localOnly
        self.audit = audit
        self.tries = Tries(seconds)
        self._limits = limits
        self._connections = 0
        self._connectionsOf = HostCounts()
        self._closed = ClosedConnections(log, seconds)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See L{Site.buildProtocol}, unless there are too many."""
        host, limits = str(getattr(addr, "host", addr)), self._limits
        if self._connections >= limits.maxConnections:
            self._closed.note(host, f"{limits.maxConnections} are open")
            return None
        if self._connectionsOf.of(host) >= limits.perHost:
            self._closed.note(host, f"its host has {limits.perHost} open")
            return None
        self._connections += 1
        self._connectionsOf.add(host)
        channel: Any = super().buildProtocol(addr)
        channel.host = host
        return channel

    def disconnected(self, host: str) -> None:
        """One of its connections has ended."""
        self._connections -= 1
        self._connectionsOf.remove(host)


def makeSite(
    calls: dict[bytes, JSONResource],
    token: str,
    monitoringToken: str = "",
    audit: IAudit = NULL_AUDIT,
    limits: SiteLimits | None = None,
    seconds: Callable[[], float] = time.monotonic,
) -> Site:
    """
    The site of the second port.

    @param calls: what stands below C{/api/}, by name.
    @param token: see L{API}, as the next one.
    @param audit: is told of what is done.
    @param limits: of connections and their requests.
    @param seconds: tells the time.
    """
    root = _Root()
    # Programs read what calls there are before they make one; it is the same
    # for everybody.
    public: dict[bytes, JSONResource] = {b"openapi.json": DocumentResource(calls)}
    root.putChild(b"api", API(calls, token, monitoringToken, public=public))
    putPage(root)
    return _Site(root, not token, audit, limits or SiteLimits(), seconds)
