"""C{/api/verify}: are the files what was stored?"""

from __future__ import annotations

from typing import Any

from attrs import asdict
from twisted.web.server import Request

from d360.admin.resource import HTTPError, JSONResource, jsonBody
from d360.admin.watching import rfc3339
from d360.interfaces import IVerify
from d360.model import VerifyProgress

#: MiB a second that are read at most where nothing is said: a third of what a
#: hard disk can do, so that the rest remains for those who wait.
DEFAULT_RATE = 50

#: More than any machine can do.
MAX_RATE = 1_000_000

#: Characters of a UID (PS3.5 9.1).
MAX_UID = 64

_MIB = 1 << 20


def _asJSON(progress: VerifyProgress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    answer = asdict(progress)
    answer["started"] = rfc3339(answer.pop("startedAt"))
    answer["rate"] = progress.rate / _MIB
    answer["findings"] = [
        asdict(one) | {"state": one.state.value} for one in progress.findings
    ]
    return answer


class VerifyResource(JSONResource):
    """
    C{/api/verify}.

    @param verify: the one that is begun and ended here.
    @param regular: the one that the server does by itself.
    """

    def __init__(self, verify: IVerify, regular: IVerify) -> None:
        super().__init__()
        self._verify = verify
        self._regular = regular

    async def get(self, request: Request) -> dict[str, Any]:
        """How far it has come."""
        return {
            "progress": _asJSON(self._verify.progress()),
            "regular": _asJSON(self._regular.progress()),
        }

    async def post(self, request: Request) -> dict[str, Any]:
        """Begin."""
        body = jsonBody(request)
        rate = body.pop("rate", DEFAULT_RATE)
        study = body.pop("study", "")
        after = body.pop("after", 0)
        if body:
            raise HTTPError(400, f"unknown: {', '.join(sorted(body))[:200]}")
        if not isinstance(rate, (int, float)) or isinstance(rate, bool):
            raise HTTPError(400, "rate must be a number of MiB a second")
        if not 0 <= rate <= MAX_RATE:
            raise HTTPError(400, f"rate must be from 0 (no limit) to {MAX_RATE}")
        if not isinstance(study, str) or len(study) > MAX_UID:
            raise HTTPError(400, "study must be a Study Instance UID")
        if not isinstance(after, int) or isinstance(after, bool):
            raise HTTPError(400, "after must be the position of an earlier one")
        if not 0 <= after < 1 << 63:
            raise HTTPError(400, "after must be the position of an earlier one")
        if study and after:
            raise HTTPError(400, "give either study or after")
        if not self._verify.start(rate * _MIB, study, after):
            raise HTTPError(409, "a verification is running already")
        request.setResponseCode(202)
        return await self.get(request)

    async def delete(self, request: Request) -> dict[str, Any]:
        """End it; C{position} says where it was."""
        await self._verify.stop()
        return await self.get(request)
