"""
Storage commitments that nobody was told of yet, over HTTP: C{/api/commitments} and
what is below it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.web.http import NO_CONTENT
from twisted.web.resource import Resource
from twisted.web.server import Request

from d360.admin.resource import HTTPError, JSONResource, log
from d360.admin.watching import rfc3339
from d360.interfaces import ICommitmentRequests
from d360.model import PendingCommitment

#: Those that are listed at most: the oldest.
MOST = 1000

#: What the number of one may look like.
_NUMBER = re.compile(rb"[0-9]{1,18}")


class CommitmentsResource(JSONResource):
    """
    C{/api/commitments}: all of them.

    @param look: has those that are due seen to at once.
    """

    def __init__(self, requests: ICommitmentRequests, look: Callable[[], None]) -> None:
        super().__init__()
        self._requests = requests
        self._look = look

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}."""
        # There is none of the number 0.
        identifier = int(path) if _NUMBER.fullmatch(path) else 0
        resource = _CommitmentResource(self._requests, identifier)
        retry = _RetryResource(self._requests, identifier, self._look)
        resource.putChild(b"retry", retry)
        return resource

    async def get(self, request: Request) -> dict[str, Any]:
        """The oldest first."""
        found = await self._requests.all(MOST)
        return {"commitments": [_asJSON(one) for one in found]}


class _CommitmentResource(JSONResource):
    """C{/api/commitments/ID}: one of them."""

    def __init__(self, requests: ICommitmentRequests, identifier: int) -> None:
        super().__init__()
        self._requests = requests
        self._identifier = identifier

    async def delete(self, request: Request) -> None:
        """Nobody is told of it any more; who has asked may ask again."""
        if not await self._requests.remove(self._identifier):
            raise _unknown()
        log.info("storage commitment {id} is dropped", id=self._identifier)
        request.setResponseCode(NO_CONTENT)


class _RetryResource(JSONResource):
    """C{/api/commitments/ID/retry}: have it told now."""

    def __init__(
        self,
        requests: ICommitmentRequests,
        identifier: int,
        look: Callable[[], None],
    ) -> None:
        super().__init__()
        self._requests = requests
        self._identifier = identifier
        self._look = look

    async def post(self, request: Request) -> None:
        """Unless that is under way; a body is not looked at."""
        if not await self._requests.retry(self._identifier):
            raise _unknown()
        self._look()
        request.setResponseCode(NO_CONTENT)


def _asJSON(one: PendingCommitment) -> dict[str, Any]:
    return {
        "id": one.identifier,
        "aet": one.aeTitle,
        "transaction": one.transactionUID,
        "instances": one.instances,
        "state": "under way" if one.isUnderWay else "waiting",
        "asked": rfc3339(one.receivedAt),
        "attempts": one.attempts,
        "failed": None if one.failedAt is None else rfc3339(one.failedAt),
        "error": one.failure,
        "next": rfc3339(one.dueAt),
    }


def _unknown() -> HTTPError:
    return HTTPError(
        404,
        "there is no such storage commitment, or it was told of meanwhile; those that "
        "wait: d360ctl commitments list, or GET /api/commitments",
    )
