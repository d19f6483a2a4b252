"""C{/metrics}: what a monitoring system reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import Request

from d360.admin.resource import JSONResource, log
from d360.admin.site import API
from d360.errors import D360Error
from d360.interfaces import IArchive, IExposition, IIndex, IWorkers

T = TypeVar("T")

#: Seconds that the database and the disk have to answer. Monitoring systems
#: wait some ten seconds, and it is just when these hang that they should hear.
PATIENCE = 2.0


class MetricsResource(JSONResource):
    """
    The metrics in their own format; errors are JSON as elsewhere.

    @param inThread: calls what may block in a thread.
    """

    def __init__(
        self,
        exposition: IExposition,
        workers: IWorkers,
        index: IIndex,
        archive: IArchive,
        clock: IReactorTime,
        inThread: Callable[[Callable[[], bytes]], Deferred[bytes]],
    ) -> None:
        super().__init__()
        self._exposition = exposition
        self._workers = workers
        self._index = index
        self._archive = archive
        self._clock = clock
        self._inThread = inThread

    async def get(self, request: Request) -> bytes:
        """All of them, now."""
        # All are asked before one is waited for.
        asking = self._inTime(self._index.state())
        measuring = self._inTime(self._archive.space())
        counting = self._workers.refresh("counters")
        reading = self._inTime(self._inThread(self._exposition.processText))
        state, space, process = await asking, await measuring, await reading
        await counting
        answers = state is not None and state.available
        return self._exposition.text(answers, space) + (process or b"")

    def _inTime(self, asked: Deferred[T]) -> Deferred[T | None]:
        """C{None} where it fails, or takes too long."""
        found: Deferred[Any] = asked.addTimeout(PATIENCE, self._clock)
        return found.addErrback(self._unknown)

    def _unknown(self, failure: Failure) -> None:
        if not failure.check(D360Error, OSError, TimeoutError):
            log.failure("metrics failed", failure)

    def _answer(self, request: Request, code: int | None, body: Any) -> None:
        if not isinstance(body, bytes):
            super()._answer(request, code, body)
            return
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"content-type", self._exposition.contentType.encode())
        request.setHeader(b"content-length", str(len(body)).encode())
        if request.method != b"HEAD":
            request.write(body)
        request.finish()


class MetricsCall(API):
    """
    C{/metrics}, behind the same tokens as C{/api}.

    @param token: see L{API}, as the next one.
    """

    def __init__(
        self, resource: MetricsResource, token: str, monitoringToken: str = ""
    ) -> None:
        super().__init__({}, token, monitoringToken, watched=frozenset({b""}))
        self.putChild(b"", resource)

    def render(self, request: Request) -> int:
        """See L{Resource.render}: it is a call by itself."""
        return self.getChildWithDefault(b"", request).render(request)
