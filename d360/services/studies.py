"""
Studies as people look at them: searched, opened, deleted, and sent to a remote
AE in the background.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    succeed,
)
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.attributes import REGISTRY, Attribute, Level
from d360.audit.null import NULL_AUDIT
from d360.audit.values import Peer, Requestor
from d360.errors import D360Error, DIMSEError
from d360.interfaces import (
    IArchive,
    IAssociationOpener,
    IAudit,
    IIndex,
    IMetrics,
    ISending,
    IStudies,
)
from d360.logs import ContextLogger
from d360.metrics.null import NULL_METRICS
from d360.model import (
    AnyOf,
    Command,
    Condition,
    Location,
    Nothing,
    Query,
    RemoteAE,
    SendJob,
    StoredInstance,
)
from d360.services.delivery import Delivery
from d360.services.matching import conditionsFor
from d360.services.selection import UNIQUE_KEYS
from d360.services.sending import Selected, Sender
from d360.services.suboperations import Progress

_C_STORE = 0x0001

_log = ContextLogger("d360.studies", "studies")

#: What is told of each entity, by keyword.
_RETURNED = {
    Level.STUDY: (
        "StudyInstanceUID",
        "PatientID",
        "IssuerOfPatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    ),
    Level.SERIES: (
        "SeriesInstanceUID",
        "SeriesNumber",
        "Modality",
        "SeriesDescription",
        "SeriesDate",
        "SeriesTime",
        "BodyPartExamined",
        "NumberOfSeriesRelatedInstances",
    ),
    Level.IMAGE: ("SOPInstanceUID", "InstanceNumber"),
}

#: What studies may be searched by.
SEARCH_KEYS = frozenset(
    {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
        "ModalitiesInStudy",
    }
)

#: Instances that are removed at the same time.
_AT_ONCE = 8

#: Jobs that are remembered after their end.
_REMEMBERED = 100


def _attributes(level: Level) -> tuple[Attribute, ...]:
    return tuple(REGISTRY.byKeyword[keyword] for keyword in _RETURNED[level])


def _key(level: Level, uid: str) -> AnyOf:
    return AnyOf(UNIQUE_KEYS[level], (uid,))


@implementer(IStudies)
class Studies:
    """See L{IStudies}."""

    def __init__(self, archive: IArchive, index: IIndex) -> None:
        self._archive = archive
        self._index = index

    @asynchronous
    async def search(
        self, keys: dict[str, str], skip: int, count: int
    ) -> tuple[dict[str, str], ...]:
        conditions: list[Condition] = []
        for keyword, text in keys.items():
            if keyword not in SEARCH_KEYS:
                known = ", ".join(sorted(SEARCH_KEYS))
                raise ValueError(f"{keyword} is no key of studies; known are {known}")
            try:
                found = conditionsFor(REGISTRY.byKeyword[keyword], text)
            except DIMSEError as error:
                raise ValueError(f"{keyword}: {error.comment}") from None
            # To a C-FIND nothing matches it; a person or a script has misspelt.
            if any(isinstance(one, Nothing) for one in found):
                raise ValueError(
                    f"{keyword} cannot be read; dates are written 20260131, ranges "
                    "20260101-20260131, times 083000"
                )
            conditions += found
        return await self._rows(Level.STUDY, tuple(conditions), skip, count)

    @asynchronous
    async def series(self, study: str) -> tuple[dict[str, str], ...]:
        return await self._rows(Level.SERIES, (_key(Level.STUDY, study),), 0, None)

    @asynchronous
    async def instances(self, study: str, series: str) -> tuple[dict[str, Any], ...]:
        where = (_key(Level.STUDY, study), _key(Level.SERIES, series))
        numbers = {
            row["SOPInstanceUID"]: row["InstanceNumber"]
            for row in await self._rows(Level.IMAGE, where, 0, None)
        }
        return tuple(
            {
                "SOPInstanceUID": one.SOPInstanceUID,
                "InstanceNumber": numbers.get(one.SOPInstanceUID, ""),
                "SOPClassUID": one.SOPClassUID,
                "TransferSyntaxUID": one.TransferSyntaxUID,
                "size": one.size,
            }
            for one in await self._stored(Query(Level.SERIES, where))
        )

    @asynchronous
    async def _rows(
        self,
        level: Level,
        conditions: tuple[Condition, ...],
        skip: int,
        count: int | None,
    ) -> tuple[dict[str, str], ...]:
        matches = self._index.match(Query(level, conditions, _attributes(level)))
        rows: list[dict[str, str]] = []
        try:
            while count is None or len(rows) < count:
                batch = await matches.nextBatch()
                if not batch:
                    break
                wanted = (
                    batch[skip:]
                    if count is None
                    else batch[skip : skip + count - len(rows)]
                )
                skip = max(skip - len(batch), 0)
                rows += (
                    dict(zip(_RETURNED[level], match.values, strict=True))
                    for match in wanted
                )
        finally:
            matches.close()
        return tuple(rows)

    @asynchronous
    async def _stored(self, query: Query) -> list[StoredInstance]:
        found = self._index.locate(query)
        instances: list[StoredInstance] = []
        try:
            while batch := await found.nextBatch():
                instances += batch
        finally:
            found.close()
        return instances

    @asynchronous
    async def delete(self, study: str) -> int:
        instances = await self._stored(Query(Level.STUDY, (_key(Level.STUDY, study),)))
        deletion = _Deletion(self._archive, self._index, instances)
        try:
            await deletion.run()
        finally:
            _log.warn(
                "Study {study} was deleted, with {count} of {total} instances",
                study=study,
                count=deletion.count,
                total=len(instances),
            )
        return deletion.count


class _Deletion:
    """
    Removes instances, several at the same time.

    @ivar count: how many of them are gone.
    """

    def __init__(
        self, archive: IArchive, index: IIndex, instances: Iterable[StoredInstance]
    ) -> None:
        self.count = 0
        self._archive = archive
        self._index = index
        self._waiting = iter(instances)

    @asynchronous
    async def run(self) -> None:
        """Remove what can be removed; if that is not all, raise why."""
        turns = [self._takeTurns() for _ in range(_AT_ONCE)]
        outcomes: list[tuple[bool, Any]]
        outcomes = await DeferredList(turns, consumeErrors=True)
        for succeeded, outcome in outcomes:
            if not succeeded:
                outcome.raiseException()

    @asynchronous
    async def _takeTurns(self) -> None:
        for instance in self._waiting:
            await self._remove(instance.location)

    @asynchronous
    async def _remove(self, location: Location) -> None:
        """
        Marked first: should the server end in between, recovery removes the
        file if the index has forgotten it.
        """
        await self._archive.unsettle(location)
        if await self._index.forget(location):
            self.count += 1
            await self._archive.remove(location)
        await self._archive.settle(location)


class _Job(Progress):
    """
    One study on its way to a remote AE.

    @ivar requestor: who has asked for it.
    @ivar sending: fires when it has ended.
    @ivar why: the instance that failed last could not be sent.
    """

    sending: Deferred[None]

    def __init__(
        self,
        identifier: str,
        study: str,
        remote: RemoteAE,
        requestor: Requestor,
        metrics: IMetrics,
    ) -> None:
        log = ContextLogger("d360.studies", f"job {identifier} to {remote.title}")
        super().__init__(log, 0, metrics)
        self.identifier = identifier
        self.study = study
        self.remote = remote
        self.requestor = requestor
        self.startedAt = datetime.now(UTC)
        self.state = "running"
        self.error = ""
        self.why = ""
        self._waiters: list[Deferred[None]] = []

    @property
    def isWanted(self) -> bool:
        return self.state == "running"

    def whenUnwanted(self) -> Deferred[None]:
        if not self.isWanted:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    @asynchronous
    async def failed(self, instances: Iterable[StoredInstance], why: str) -> None:
        await super().failed(instances, why)
        self.why = why

    def cancel(self) -> None:
        """After the instance that is under way."""
        if self.isWanted:
            self.state = "cancelled"
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def describe(self) -> SendJob:
        """For those who ask."""
        return SendJob(
            identifier=self.identifier,
            aeTitle=self.remote.title,
            study=self.study,
            state=self.state,
            total=self.total,
            completed=self.completed + self.warnings,
            failed=len(self.failedUIDs),
            error=self.error,
            startedAt=self.startedAt,
        )


@implementer(ISending)
class Sending:
    """
    See L{ISending}.

    @param parallel: see L{Delivery.parallel}.
    """

    def __init__(
        self,
        index: IIndex,
        sender: Sender,
        opener: IAssociationOpener,
        clock: IReactorTime,
        metrics: IMetrics = NULL_METRICS,
        parallel: int = 1,
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        self._audit = audit
        self._index = index
        self._metrics = metrics
        self._sender = sender
        self._opener = opener
        self._clock = clock
        self._parallel = parallel
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._count = 0

    def send(self, study: str, remote: RemoteAE, requestor: Requestor) -> SendJob:
        self._count += 1
        job = _Job(str(self._count), study, remote, requestor, self._metrics)
        self._jobs[job.identifier] = job
        ended = [key for key, one in self._jobs.items() if not one.isWanted]
        for identifier in ended[:-_REMEMBERED]:
            del self._jobs[identifier]
        job.sending = self._run(job)
        return job.describe()

    @asynchronous
    async def _run(self, job: _Job) -> None:
        try:
            await self._deliver(job)
        except CancelledError:
            job.cancel()
        except D360Error as error:
            job.error = str(error)
        except Exception:
            job.error = "internal error, see the server's log"
            _log.failure("job {job} failed", job=job.identifier)
        if job.isWanted:
            failed = bool(job.error or job.failedUIDs)
            if failed and not job.error:
                job.error = f"{len(job.failedUIDs)} not sent: {job.why}"
            job.state = "failed" if failed else "done"

    @asynchronous
    async def _deliver(self, job: _Job) -> None:
        selected = Selected()
        query = Query(Level.STUDY, (_key(Level.STUDY, job.study),))
        found = self._index.locate(query)
        try:
            while batch := await found.nextBatch():
                selected.add(batch)
        finally:
            found.close()
        job.total = len(selected.instances)
        delivery = Delivery(
            job.remote,
            self._opener,
            self._sender,
            job,
            Command(_C_STORE, Priority=0),
            self._parallel,
            self._clock,
        )
        remote = Peer(job.remote.title, job.remote.host)
        job.transfer = self._audit.sending(job.requestor, remote, selected.instances)
        try:
            for share in selected.shares(self._sender.transcoder):
                if job.isWanted:
                    await delivery.deliver(share)
        finally:
            job.transfer.end()

    def jobs(self) -> tuple[SendJob, ...]:
        return tuple(job.describe() for job in reversed(self._jobs.values()))

    def cancel(self, identifier: str) -> bool:
        job = self._jobs.get(identifier)
        if job is None:
            return False
        job.cancel()
        return True

    @asynchronous
    async def stop(self) -> None:
        """End all of them; fires when they have ended."""
        jobs = tuple(self._jobs.values())
        for job in jobs:
            job.cancel()
        for job in jobs:
            await job.sending
