"""
C{twistd d360}: the server put together from its parts. Its own process is here,
and what all processes are made of in L{d360.composition}.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

from attrs import frozen
from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, LogPublisher
from twisted.web.server import Site

from d360 import __version__
from d360.admin.aes import RemoteAEsResource
from d360.admin.commitments import CommitmentsResource
from d360.admin.metrics import MetricsCall, MetricsResource
from d360.admin.site import ReindexResource, SiteLimits, StatusResource, makeSite
from d360.admin.studies import JobsResource, StudiesResource
from d360.admin.verify import VerifyResource
from d360.admin.watching import (
    AssociationsResource,
    ErrorsResource,
    RatesResource,
    SettingsResource,
)
from d360.admin.worklist import WorklistResource
from d360.asynchronous import asynchronous
from d360.audit.making import Auditing
from d360.composition import (
    Requesting,
    Stores,
    auditState,
    connectionsOf,
    diskReadings,
    hostLimitsOf,
    makeAudit,
    makeCommitments,
    makeReadings,
    makeRequesting,
    makeServing,
    makeStores,
    portionOf,
    processReadings,
    recoverWorkers,
    warnOfOpenFiles,
    workersOf,
)
from d360.config import Configuration
from d360.doors import (
    PLAIN,
    SECURE,
    Security,
    certificateReadings,
    listenersOf,
    makeSecurity,
    warnOfDoors,
)
from d360.errors import StartupError
from d360.index.database import PostgreSQLIndex
from d360.index.embedded import EmbeddedServer
from d360.index.migration import checkAndMigrate
from d360.interfaces import (
    IAssociations,
    ILiveAssociations,
    IRates,
    IRecentEvents,
    IWorkers,
)
from d360.listening import listenTCP
from d360.logs import FileObserver, RecentEvents, fileObserver, setThreshold
from d360.metrics.counters import Metrics, Work
from d360.metrics.exposition import Exposition, Reading
from d360.metrics.merging import (
    COUNTERS,
    AllAssociations,
    AllEvents,
    AllRates,
    NoAssociations,
    NoWorkers,
    merge,
    total,
    withWorkers,
)
from d360.metrics.values import LogEvent
from d360.options import Options
from d360.server import (
    DataDirectory,
    IConnections,
    Parts,
    Ports,
    Server,
)
from d360.services.committing import Commitments
from d360.services.recovery import Recovery
from d360.services.reindex import Reindex
from d360.services.studies import Sending, Studies
from d360.services.verification import VerificationSCU
from d360.services.worklistcare import WorklistCare
from d360.services.worklistitems import WorklistForms
from d360.settings import settingsInEffect, settingsWithSecrets
from d360.shared import SharedNumber
from d360.ul.factory import numberAssociations
from d360.verifying import Verifying, makeVerifying
from d360.workers.doorway import Doorway, listen
from d360.workers.lines import WithoutLines, shownElsewhere
from d360.workers.process import CHANGES, WorkerProcess
from d360.workers.workers import Workers

reactor: Any = _reactor

#: Seconds that the workers have to end after the time that operations have.
WORKERS_GRACE = 15.0


def _reportStartupError(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show a person the one line that was written for them, no traceback."""
    if issubclass(kind, StartupError) and sys.__stderr__ is not None:
        # By now sys.stderr goes to the log.
        sys.__stderr__.write(f"twistd d360: {error}\n")
    else:
        sys.__excepthook__(kind, error, trace)


class Database:
    """
    The index's database, embedded or not; see L{d360.server.IDatabase}.

    @ivar url: where it is, once it is open.
    @ivar kind: C{"embedded"} or C{"external"}.
    @ivar index: what is connected to it.
    """

    index: PostgreSQLIndex

    def __init__(self, configuration: Configuration) -> None:
        self.url = configuration.database.url
        self.kind = "external" if self.url else "embedded"
        self._embedded: EmbeddedServer | None = None
        if not self.url:
            self._embedded = EmbeddedServer(
                configuration.dataDirectory, configuration.database.account
            )

    def open(self) -> None:
        """See L{IDatabase.open}."""
        if self._embedded is not None:
            self._embedded.start()
            self.url = self._embedded.url
        try:
            checkAndMigrate(self.url)
        except BaseException:
            if self._embedded is not None:
                self._embedded.stopNow()
            raise

    def watch(self) -> None:
        """See L{IDatabase.watch}."""
        if self._embedded is not None:
            self._embedded.watch(reactor)

    @asynchronous
    async def close(self) -> None:
        """See L{IDatabase.close}."""
        self.index.close()
        if self._embedded is not None:
            await self._embedded.stop(reactor)


@frozen
class _Own:
    """
    What the server's own process has, whoever serves the associations.

    @ivar portion: its part of the configuration, see L{portionOf}.
    @ivar changes: counts those of the remote AEs, for all processes.
    """

    configuration: Configuration
    portion: Configuration
    database: Database
    stores: Stores
    changes: SharedNumber
    metrics: Metrics
    security: Security
    requesting: Requesting
    recovery: Recovery
    reindex: Reindex
    verifying: Verifying
    sending: Sending
    care: WorklistCare
    commitments: Commitments
    events: RecentEvents
    auditing: Auditing


def _makeOwn(configuration: Configuration) -> _Own:
    portion = portionOf(configuration, 0)
    database = Database(configuration)
    changes = SharedNumber()
    stores = makeStores(reactor, portion, lambda: database.url, database.kind, changes)
    database.index = stores.index
    metrics = Metrics(reactor)
    auditing = makeAudit(reactor, configuration, stores)
    security = makeSecurity(configuration, stores.threads.run, reactor)
    requesting = makeRequesting(
        reactor, portion.dicom, stores, metrics, security.tls, auditing.audit
    )
    worklist = configuration.worklist
    return _Own(
        configuration,
        portion,
        database,
        stores,
        changes,
        metrics,
        security,
        requesting,
        Recovery(stores.archive, stores.index, reactor),
        Reindex(stores.archive, stores.index, reactor),
        makeVerifying(reactor, configuration, stores, auditing.audit),
        Sending(
            stores.index,
            requesting.sender,
            requesting.counted,
            reactor,
            metrics,
            portion.dicom.parallelMoves,
            auditing.audit,
        ),
        WorklistCare(
            stores.worklist,
            reactor,
            worklist.removeArrived,
            worklist.removeAfterDays,
            auditing.audit,
        ),
        makeCommitments(reactor, portion.dicom, stores, requesting, auditing.audit),
        RecentEvents(),
        auditing,
    )


@frozen
class _Watched:
    """
    What there is to see, of all processes together.

    @ivar work: tells what was counted.
    """

    associations: IAssociations
    each: ILiveAssociations
    rates: IRates
    events: IRecentEvents
    workers: IWorkers
    work: Callable[[], Work]
    readings: Sequence[Reading]


def _makeSite(own: _Own, watched: _Watched) -> Site:
    stores, configuration = own.stores, own.configuration
    index, archive, remoteAEs = stores.index, stores.archive, stores.remoteAEs
    title = configuration.dicom.aeTitle
    tokens = configuration.web.token, configuration.web.monitoringToken
    workers = watched.workers
    verification = VerificationSCU(own.requesting.counted, reactor)
    studies = Studies(archive, index)
    certificates = own.security.certificates
    status = StatusResource(
        title,
        watched.associations,
        workers,
        index,
        archive,
        stores.freeSpace,
        certificates,
        reactor,
        partial(auditState, configuration, watched.readings),
    )
    site = makeSite(
        {
            b"status": status,
            b"reindex": ReindexResource(own.reindex),
            b"verify": VerifyResource(own.verifying.asked, own.verifying.regular),
            b"aes": RemoteAEsResource(remoteAEs, verification, title),
            b"studies": StudiesResource(studies, remoteAEs, own.sending),
            b"jobs": JobsResource(own.sending),
            b"worklist": WorklistResource(stores.worklist, WorklistForms()),
            b"rates": RatesResource(watched.rates, workers),
            b"associations": AssociationsResource(
                watched.associations, watched.each, workers
            ),
            b"commitments": CommitmentsResource(
                stores.commitmentRequests, own.commitments.look
            ),
            b"errors": ErrorsResource(watched.events),
            b"settings": SettingsResource(settingsInEffect(configuration)),
        },
        *tokens,
        own.auditing.audit,
        SiteLimits(configuration.web.requestTimeout, configuration.web.maxConnections),
    )
    readings = [
        *watched.readings,
        *diskReadings(stores.freeSpace),
        *certificateReadings(certificates),
        *own.verifying.readings(),
    ]
    exposition = Exposition(watched.work, readings)
    measured = MetricsResource(
        exposition, workers, index, archive, reactor, stores.threads.run
    )
    site.resource.putChild(b"metrics", MetricsCall(measured, *tokens))
    return site


def _makeParts(
    own: _Own,
    doors: Mapping[str, Any],
    watched: _Watched,
    connections: IConnections,
    listen: Callable[..., IListeningPort] = listenTCP,
    **others: Any,
) -> Parts:
    """
    @param doors: see L{listenersOf}, as for C{listen}.
    @param others: further arguments of L{Parts}.
    """
    configuration, stores = own.configuration, own.stores
    site = _makeSite(own, watched)
    listeners = listenersOf(configuration, doors, site, own.security, reactor, listen)
    setThreshold(configuration.log.level)

    def prepare() -> None:
        stores.prepare()
        own.auditing.prepare()

    return Parts(
        directory=DataDirectory(configuration.dataDirectory),
        certificates=own.security.certificates,
        ports=Ports(reactor, listeners),
        database=own.database,
        threads=stores.threads,
        prepareArchive=prepare,
        finish=connections.finish,
        closeUnassociated=connections.closeUnassociated,
        whenEmpty=connections.whenEmpty,
        abortAll=connections.abortAll,
        ready=f"D360 {__version__}, {configuration.dicom.aeTitle},",
        **others,
    )


def _fileObserver(configuration: Configuration) -> FileObserver:
    path, log = configuration.logFile, configuration.log
    return fileObserver(path, log.level, log.maxSize << 20, log.keep)


@asynchronous
async def _recover(own: _Own) -> int:
    own.auditing.start()
    found = await recoverWorkers(reactor, own.configuration, own.stores)
    found += await own.recovery.recover()
    await own.stores.freeSpace.start()
    warnOfOpenFiles(own.configuration)
    return found


def _begin(own: _Own) -> None:
    """All is there, and about to be served."""
    warnOfDoors(own.configuration)
    own.care.start()
    own.verifying.care.start()
    own.commitments.start()
    own.auditing.applicationStarts()


@asynchronous
async def _stopWork(own: _Own) -> None:
    await own.care.stop()
    own.stores.freeSpace.stop()
    stopped = own.commitments.stop()
    own.requesting.opener.abortAll("the server is stopping")
    await stopped
    await own.sending.stop()
    await own.stores.transcoder.stop()
    await own.reindex.stop()
    await own.verifying.stop()


def _makeAlone(configuration: Configuration) -> Server:
    """All is done in the one process."""
    own, dicom = _makeOwn(configuration), configuration.dicom
    stores = own.stores
    audit = own.auditing.audit
    serving = makeServing(
        reactor,
        configuration,
        stores,
        own.requesting,
        own.commitments,
        own.recovery,
        own.metrics,
        own.security.tls,
        audit,
    )
    watched = _Watched(
        serving.factory,
        serving.associations,
        own.metrics.rates,
        own.events,
        NoWorkers(),
        lambda: own.metrics,
        makeReadings(stores, serving.factory, own.auditing),
    )

    @asynchronous
    async def recover() -> int:
        found = await _recover(own)
        _begin(own)
        return found

    @asynchronous
    async def stopWork() -> None:
        await _stopWork(own)
        await serving.storage.whenTidy()
        await own.stores.index.registrar.finish()
        await own.recovery.stop()
        await own.auditing.stop()

    parts = _makeParts(
        own,
        serving.doors,
        watched,
        serving,
        makeLogObserver=lambda: LogPublisher(_fileObserver(configuration), own.events),
        recover=recover,
        stopWork=stopWork,
        shutdownTimeout=dicom.shutdownTimeout,
    )
    return Server(reactor, parts)


class _LogOfAll:
    """The log file, which lines of the workers go into, too."""

    def __init__(self, configuration: Configuration, events: RecentEvents) -> None:
        self._configuration = configuration
        self._events = events
        self._append: Callable[[bytes], Any] = lambda lines: None

    def open(self) -> ILogObserver:
        """See L{Parts.makeLogObserver}."""
        file = _fileObserver(self._configuration)
        self._append = file.append
        return WithoutLines(LogPublisher(file, self._events))

    def append(self, lines: bytes) -> None:
        """Lines of a worker."""
        self._append(lines)
        shownElsewhere(lines)


def _makeWorkers(own: _Own, log: _LogOfAll, events: AllEvents) -> Workers:
    configuration, dicom = own.configuration, own.configuration.dicom
    return Workers(
        reactor,
        workersOf(configuration),
        settingsWithSecrets(configuration),
        lambda: own.database.url,
        dicom.maxAssociations,
        connectionsOf(dicom, workersOf(configuration)),
        dicom.shutdownTimeout,
        own.metrics,
        merge,
        log.append,
        lambda noted: events.add(
            LogEvent(datetime.fromtimestamp(noted.time, UTC), noted.level, noted.text)
        ),
        partial(WorkerProcess, inherited={CHANGES: own.changes.descriptor}),
        connectionsEach=connectionsOf(dicom),
        perHost=hostLimitsOf(dicom, workersOf(configuration)),
    )


def _restarts(workers: Workers, number: int) -> Reading:
    return Reading(
        "d360_worker_restarts",
        "How often a process that serves associations was started again.",
        lambda: sum(s.restarts for s in workers.states() if s.number == number),
        {"worker": str(number)},
        isCounter=True,
    )


def _watchAll(own: _Own, workers: Workers, events: AllEvents) -> _Watched:
    readings = list(makeReadings(own.stores, NoAssociations(), own.auditing))
    for number in range(1, workers.count + 1):
        readings += processReadings(number, None)
        readings.append(_restarts(workers, number))
    return _Watched(
        workers,
        AllAssociations(workers),
        AllRates(own.metrics.rates, workers),
        events,
        workers,
        lambda: total(own.metrics, workers.said(COUNTERS)),
        withWorkers(readings, workers),
    )


def _makeWithWorkers(configuration: Configuration) -> Server:
    """Associations are served by workers; this process does all the rest."""
    own, dicom = _makeOwn(configuration), configuration.dicom
    log, events = _LogOfAll(configuration, own.events), AllEvents(own.events)
    workers = _makeWorkers(own, log, events)
    own.security.tellOthers(workers.tell)

    @asynchronous
    async def recover() -> int:
        # Between ours there is room for those of the workers.
        numberAssociations(workers.count + 1, workers.count + 1)
        found = await _recover(own)
        found += await workers.start()
        _begin(own)
        return found

    @asynchronous
    async def stopWork() -> None:
        await workers.whenEmpty()
        await _stopWork(own)
        await own.recovery.stop()
        await own.auditing.stop()

    parts = _makeParts(
        own,
        {door: Doorway(workers, door) for door in (PLAIN, SECURE)},
        _watchAll(own, workers, events),
        workers,
        listen,
        makeLogObserver=log.open,
        recover=recover,
        stopWork=stopWork,
        # They keep to it themselves, and are killed if they do not.
        shutdownTimeout=dicom.shutdownTimeout + WORKERS_GRACE,
    )
    return Server(reactor, parts)


def makeService(options: Options) -> Server:
    """Put the server together; nothing is opened yet."""
    sys.excepthook = _reportStartupError
    configuration = options.configuration
    if workersOf(configuration) == 1:
        return _makeAlone(configuration)
    return _makeWithWorkers(configuration)
