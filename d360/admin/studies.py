"""Studies over HTTP: C{/api/studies} and what is below it, and C{/api/jobs}."""

from __future__ import annotations

from typing import Any

from twisted.web.http import ACCEPTED
from twisted.web.resource import Resource
from twisted.web.server import Request

from d360.addresses import readAETitle
from d360.admin.auditing import auditOf, userOf
from d360.admin.resource import HTTPError, JSONResource, jsonBody, parametersOf
from d360.audit.values import AuditedStudy
from d360.interfaces import IRemoteAEs, ISending, IStudies
from d360.model import SendJob

#: Studies in an answer: by default, and at most.
_LIMIT = 50
_MAX_LIMIT = 1000

#: Pages beyond are no use to anybody; each one costs those before it.
_MAX_SKIP = 100_000


def _number(text: str, name: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPError(400, f"{name}: give a whole number from {low} to {high}")
    number = int(text)
    if not low <= number <= high:
        raise HTTPError(400, f"{name}: give a whole number from {low} to {high}")
    return number


class StudiesResource(JSONResource):
    """C{/api/studies}: search."""

    tellsOfPatients = True

    def __init__(
        self, studies: IStudies, remoteAEs: IRemoteAEs, sending: ISending
    ) -> None:
        super().__init__()
        self._studies = studies
        self._remoteAEs = remoteAEs
        self._sending = sending

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}: a study, by its Study Instance UID."""
        study = path.decode("utf-8", "replace")
        resource = _StudyResource(self._studies, study)
        resource.putChild(
            b"send", _SendResource(self._studies, self._remoteAEs, self._sending, study)
        )
        resource.putChild(b"series", _SeriesFolder(self._studies, study))
        return resource

    async def get(self, request: Request) -> dict[str, Any]:
        """The studies that match, newest first, page by page."""
        keys = parametersOf(request)
        limit = _number(keys.pop("limit", str(_LIMIT)), "limit", 1, _MAX_LIMIT)
        skip = _number(keys.pop("after", "0"), "after", 0, _MAX_SKIP)
        try:
            found = await self._studies.search(keys, skip, limit + 1)
        except ValueError as error:
            raise HTTPError(400, str(error)) from None
        isMore = len(found) > limit and skip + limit <= _MAX_SKIP
        return {
            "studies": found[:limit],
            "next": str(skip + limit) if isMore else None,
        }


async def _known(studies: IStudies, study: str) -> dict[str, str]:
    try:
        found = await studies.search({"StudyInstanceUID": study}, 0, 1)
    except ValueError:
        found = ()
    if not found or found[0]["StudyInstanceUID"] != study:
        raise HTTPError(404, "there is no study with this Study Instance UID")
    return found[0]


class _StudyResource(JSONResource):
    """C{/api/studies/UID}: one of them."""

    tellsOfPatients = True

    def __init__(self, studies: IStudies, study: str) -> None:
        super().__init__()
        self._studies = studies
        self._study = study

    async def get(self, request: Request) -> dict[str, Any]:
        """With its series."""
        study = await _known(self._studies, self._study)
        return {"study": study, "series": await self._studies.series(self._study)}

    async def delete(self, request: Request) -> dict[str, int]:
        """Remove it with its files, for good."""
        known = await _known(self._studies, self._study)
        study = AuditedStudy(
            self._study,
            known["PatientID"],
            known["PatientName"],
            known["AccessionNumber"],
        )
        audit, user = auditOf(request), userOf(request)
        try:
            count = await self._studies.delete(self._study)
        except Exception as error:
            audit.studyDeleted(user, study, 0, type(error).__name__)
            raise
        audit.studyDeleted(user, study, count)
        return {"instances": count}


class _SeriesFolder(JSONResource):
    """C{/api/studies/UID/series}: only what is below it."""

    tellsOfPatients = True

    def __init__(self, studies: IStudies, study: str) -> None:
        super().__init__()
        self._studies = studies
        self._study = study

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}: a series, by its Series Instance UID."""
        return _SeriesResource(
            self._studies, self._study, path.decode("utf-8", "replace")
        )

    async def get(self, request: Request) -> dict[str, Any]:
        """Those of the study."""
        await _known(self._studies, self._study)
        return {"series": await self._studies.series(self._study)}


class _SeriesResource(JSONResource):
    """C{/api/studies/UID/series/UID}: one of them."""

    tellsOfPatients = True

    def __init__(self, studies: IStudies, study: str, series: str) -> None:
        super().__init__()
        self._studies = studies
        self._study = study
        self._series = series

    async def get(self, request: Request) -> dict[str, Any]:
        """With its instances."""
        await _known(self._studies, self._study)
        for series in await self._studies.series(self._study):
            if series["SeriesInstanceUID"] == self._series:
                break
        else:
            raise HTTPError(404, "the study has no such series")
        return {
            "series": series,
            "instances": await self._studies.instances(self._study, self._series),
        }


class _SendResource(JSONResource):
    """C{/api/studies/UID/send}: to a remote AE, in the background."""

    def __init__(
        self, studies: IStudies, remoteAEs: IRemoteAEs, sending: ISending, study: str
    ) -> None:
        super().__init__()
        self._studies = studies
        self._remoteAEs = remoteAEs
        self._sending = sending
        self._study = study

    async def post(self, request: Request) -> dict[str, str]:
        """Begin; how far it is tells C{/api/jobs/ID}."""
        body = jsonBody(request)
        try:
            title = readAETitle(body.pop("aet", None))
        except ValueError as error:
            raise HTTPError(400, f"aet is not right: give {error}") from None
        if body:
            raise HTTPError(400, f"unknown: {', '.join(sorted(body))[:200]}")
        await _known(self._studies, self._study)
        remote = await self._remoteAEs.get(title)
        if remote is None:
            raise HTTPError(404, f"{title!r} is no known remote AE; add it first")
        request.setResponseCode(ACCEPTED)
        job = self._sending.send(self._study, remote, userOf(request))
        return {"id": job.identifier}


def _asJSON(job: SendJob) -> dict[str, Any]:
    return {
        "id": job.identifier,
        "kind": "send",
        "aet": job.aeTitle,
        "StudyInstanceUID": job.study,
        "state": job.state,
        "total": job.total,
        "completed": job.completed,
        "failed": job.failed,
        "error": job.error,
        "started": job.startedAt.isoformat(timespec="seconds"),
    }


class JobsResource(JSONResource):
    """C{/api/jobs}: what is sent, or was."""

    def __init__(self, sending: ISending) -> None:
        super().__init__()
        self._sending = sending

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}: a job, by its number."""
        return _JobResource(self._sending, path.decode("utf-8", "replace"))

    async def get(self, request: Request) -> dict[str, Any]:
        """Newest first."""
        return {"jobs": [_asJSON(job) for job in self._sending.jobs()]}


class _JobResource(JSONResource):
    """C{/api/jobs/ID}: one of them."""

    def __init__(self, sending: ISending, identifier: str) -> None:
        super().__init__()
        self._sending = sending
        self._identifier = identifier

    async def get(self, request: Request) -> dict[str, Any]:
        """How far it is."""
        for job in self._sending.jobs():
            if job.identifier == self._identifier:
                return _asJSON(job)
        raise HTTPError(404, "there is no such job, or it ended long ago")

    async def delete(self, request: Request) -> dict[str, Any]:
        """End it after the instance that is under way."""
        if not self._sending.cancel(self._identifier):
            raise HTTPError(404, "there is no such job, or it ended long ago")
        return await self.get(request)
