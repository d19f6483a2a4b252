"""
C{twistd d360}: the options of the command line, and the server put together
from its parts. The only module that names concrete classes, and the only one
that knows the reactor.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import evolve, frozen
from twisted.internet import reactor as _reactor
from twisted.logger import ILogObserver, LogPublisher
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from d360 import __version__
from d360.admin.aes import RemoteAEsResource
from d360.admin.metrics import MetricsCall, MetricsResource
from d360.admin.site import ReindexResource, StatusResource, makeSite
from d360.admin.studies import JobsResource, StudiesResource
from d360.admin.watching import (
    AssociationsResource,
    ErrorsResource,
    RatesResource,
    SettingsResource,
)
from d360.admin.worklist import WorklistResource
from d360.archive.files import FileArchive
from d360.archive.threads import DiskThreads
from d360.asynchronous import asynchronous
from d360.config import DICOM, Configuration, load
from d360.dimse.association import Associations
from d360.dimse.opener import AssociationOpener
from d360.errors import ConfigurationError, StartupError
from d360.index.database import PostgreSQLIndex
from d360.index.embedded import EmbeddedServer
from d360.index.migration import checkAndMigrate
from d360.index.remoteaes import PostgreSQLRemoteAEs
from d360.index.worklist import PostgreSQLWorklist
from d360.interfaces import IAssociationOpener, IAssociations
from d360.logs import RecentEvents, fileObserver, setThreshold
from d360.metrics.counters import Metrics
from d360.metrics.exposition import Exposition, Reading
from d360.metrics.opener import CountingOpener
from d360.server import DataDirectory, Listener, Parts, Ports, Server
from d360.services.admission import Admission
from d360.services.find import FindService
from d360.services.recovery import Recovery
from d360.services.registry import ServiceRegistry
from d360.services.reindex import Reindex
from d360.services.retrieve import GetService, MoveService
from d360.services.sending import Sender
from d360.services.storage import StorageService
from d360.services.studies import Sending, Studies
from d360.services.verification import VerificationSCU, VerificationService
from d360.services.worklist import WorklistService
from d360.services.worklistcare import WorklistCare
from d360.services.worklistitems import WorklistForms
from d360.settings import settingsInEffect
from d360.transcoding.transcoder import Transcoder
from d360.ul.factory import UpperLayerFactory
from d360.ul.settings import UpperLayerSettings

reactor: Any = _reactor

#: Threads that wait for the disk. Each association waits for one at a time.
DISK_THREADS = 16

#: Connections that have no association, yet or any more, beyond those that
#: have one: to be told that there are too many takes a connection.
CONNECTIONS_WITHOUT = 256


class Options(TwistedOptions):
    """
    The options of C{twistd d360}.

    @ivar configuration: what they and the file come to.
    """

    synopsis = "[options]"
    longdesc = (
        "A DICOM archive server (PACS). Options given here win over those of "
        "the configuration file, which has more of them: see etc/d360.toml."
    )
    optParameters = [
        ["config", "c", None, "Configuration file (TOML)."],
        ["port", "p", None, "DICOM port [default: 104]."],
        ["address", None, None, "IP address to listen on [default: 127.0.0.1]."],
        ["aet", "a", None, "AE title of this server [default: D360PACS]."],
        ["web-port", "w", None, "Port for administration by HTTP [default: 8360]."],
        ["data-directory", "d", None, "Where everything is kept [default: d360-data]."],
        [
            "database",
            None,
            None,
            "URL of a PostgreSQL server [default: an embedded one].",
        ],
    ]
    #: Which key of the file each of them stands for.
    _keyOf = {
        "port": "dicom.port",
        "address": "dicom.address",
        "aet": "dicom.ae_title",
        "web-port": "web.port",
        "data-directory": "data_directory",
        "database": "database.url",
    }

    configuration: Configuration

    def parseOptions(self, options: Any = None) -> None:
        """See L{TwistedOptions.parseOptions}; a mistake ends in one line."""
        try:
            super().parseOptions(options)
        except (UsageError, ConfigurationError) as error:
            raise SystemExit(f"twistd d360: {error}; see twistd d360 --help") from None

    def parseArgs(self, *arguments: str) -> None:
        """There are none."""
        if arguments:
            raise UsageError(f"unexpected argument {arguments[0]!r}")

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"D360 {__version__}\n")
        sys.exit(0)

    def postOptions(self) -> None:
        """Read the file and put the options over it."""
        overrides: dict[str, Any] = {}
        for option, key in self._keyOf.items():
            value = self[option]
            if value is None:
                continue
            if option.endswith("port"):
                if not value.isascii() or not value.isdigit():
                    raise UsageError(f"--{option} {value!r} is not a number")
                value = int(value)
            overrides[key] = value
        path = self["config"]
        self.configuration = load(None if path is None else Path(path), overrides)


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
class _Stores:
    """What is kept, and what works on it."""

    threads: DiskThreads
    archive: FileArchive
    database: Database
    index: PostgreSQLIndex
    remoteAEs: PostgreSQLRemoteAEs
    worklist: PostgreSQLWorklist
    transcoder: Transcoder

    def prepare(self) -> None:
        """
        Make the folders. Blocks.

        @raise ArchiveError: they cannot be used.
        @raise OSError: likewise.
        """
        self.archive.prepare()
        self.transcoder.start()


def _makeStores(configuration: Configuration) -> _Stores:
    folder, transcoding = configuration.dataDirectory, configuration.transcoding
    threads = DiskThreads(reactor, DISK_THREADS)
    archive = FileArchive(str(folder / "archive"), threads.run, reactor.callLater)
    database = Database(configuration)
    index = PostgreSQLIndex(
        reactor, lambda: database.url, database.kind, configuration.database.connections
    )
    database.index = index
    transcoder = Transcoder(
        reactor,
        str(folder / "transcoding"),
        archive.pathOf,
        archive.openOther,
        transcoding.workers,
        transcoding.timeout,
        transcoding.maxMemory << 20,
    )
    remoteAEs = PostgreSQLRemoteAEs(index.writing)
    worklist = PostgreSQLWorklist(index.reading, index.writing)
    return _Stores(threads, archive, database, index, remoteAEs, worklist, transcoder)


def _makeServices(
    dicom: DICOM,
    stores: _Stores,
    opener: IAssociationOpener,
    storage: StorageService,
    sender: Sender,
) -> ServiceRegistry:
    index = stores.index
    return ServiceRegistry(
        [
            VerificationService(),
            storage,
            FindService(index, dicom.aeTitle),
            WorklistService(stores.worklist),
            GetService(index, sender, reactor),
            MoveService(
                index, sender, reactor, stores.remoteAEs, opener, dicom.parallelMoves
            ),
        ],
        storage if dicom.acceptUnknownStorage else None,
    )


def _makeReadings(stores: _Stores, associations: IAssociations) -> list[Reading]:
    """What the metrics read where it is kept."""
    threads, registrar = stores.threads, stores.index.registrar
    waiting = partial(
        Reading, "d360_queue_length", "What waits for its turn, by what it waits for."
    )
    connections = partial(
        Reading, "d360_database_connections", "Connections to the database."
    )
    readings = [
        Reading(
            "d360_associations_live",
            "Associations of peers that are open.",
            lambda: associations.live,
        ),
        Reading(
            "d360_associations_accepted",
            "Associations of peers that we accepted.",
            lambda: associations.accepted,
            isCounter=True,
        ),
        waiting(lambda: threads.waiting, {"queue": "disk"}),
        waiting(lambda: registrar.waiting, {"queue": "registration"}),
        waiting(lambda: stores.transcoder.waiting, {"queue": "transcoding"}),
    ]
    pools = {"reading": stores.index.reading, "writing": stores.index.writing}
    for name, pool in pools.items():
        for state in ("opened", "idle"):
            labels = {"pool": name, "state": state}
            readings.append(connections(partial(getattr, pool, state), labels))
        labels = {"queue": f"{name} connection"}
        readings.append(waiting(partial(getattr, pool, "waiting"), labels))
    return readings


def makeService(options: Options) -> Server:
    """Put the server together; nothing is opened yet."""
    sys.excepthook = _reportStartupError
    configuration = options.configuration
    dicom, web, log = configuration.dicom, configuration.web, configuration.log

    stores = _makeStores(configuration)
    archive, index, remoteAEs = stores.archive, stores.index, stores.remoteAEs
    settings = UpperLayerSettings(
        maxPDULength=dicom.maxPDULength,
        artim=dicom.artimTimeout,
        idleTimeout=dicom.idleTimeout,
        maxConnections=dicom.maxAssociations + CONNECTIONS_WITHOUT,
    )
    metrics, events = Metrics(reactor), RecentEvents()
    opener = AssociationOpener(
        reactor,
        dicom.aeTitle,
        evolve(
            settings,
            idleTimeout=dicom.responseTimeout,
            answerTimeout=dicom.responseTimeout,
        ),
    )
    counted = CountingOpener(opener, metrics)
    recovery = Recovery(archive, index, reactor)
    storage = StorageService(archive, index, recovery, reactor, dicom.duplicates)
    sender = Sender(archive, index, stores.transcoder)
    services = _makeServices(dicom, stores, counted, storage, sender)
    associations = Associations(services, reactor, metrics)
    admission = Admission(
        dicom.aeTitle,
        dicom.acceptAnyCalledAE,
        dicom.maxAssociations,
        remoteAEs if dicom.requireKnownCallers else None,
    )
    factory = UpperLayerFactory(
        associations.build, admission, services, reactor, settings, metrics
    )
    reindex = Reindex(archive, index, reactor)
    verification = VerificationSCU(counted, reactor)
    studies = Studies(archive, index)
    sending = Sending(index, sender, counted, reactor, metrics, dicom.parallelMoves)
    site = makeSite(
        {
            b"status": StatusResource(dicom.aeTitle, factory, index, archive, reactor),
            b"reindex": ReindexResource(reindex),
            b"aes": RemoteAEsResource(remoteAEs, verification, dicom.aeTitle),
            b"studies": StudiesResource(studies, remoteAEs, sending),
            b"jobs": JobsResource(sending),
            b"worklist": WorklistResource(stores.worklist, WorklistForms()),
            b"rates": RatesResource(metrics.rates),
            b"associations": AssociationsResource(factory, associations),
            b"errors": ErrorsResource(events),
            b"settings": SettingsResource(settingsInEffect(configuration)),
        },
        web.token,
    )
    exposition = Exposition(metrics, _makeReadings(stores, factory))
    measured = MetricsResource(exposition, index, archive, reactor, stores.threads.run)
    site.resource.putChild(b"metrics", MetricsCall(measured, web.token))

    care = WorklistCare(
        stores.worklist,
        reactor,
        configuration.worklist.removeArrived,
        configuration.worklist.removeAfterDays,
    )

    @asynchronous
    async def recover() -> int:
        found = await recovery.recover()
        care.start()
        return found

    @asynchronous
    async def stopWork() -> None:
        await care.stop()
        opener.abortAll("the server is stopping")
        await sending.stop()
        await stores.transcoder.stop()
        await reindex.stop()
        await storage.whenTidy()
        await recovery.stop()

    def makeLogObserver() -> ILogObserver:
        path, size = configuration.logFile, log.maxSize << 20
        return LogPublisher(fileObserver(path, log.level, size, log.keep), events)

    setThreshold(log.level)
    parts = Parts(
        directory=DataDirectory(configuration.dataDirectory),
        makeLogObserver=makeLogObserver,
        ports=Ports(
            reactor,
            [
                Listener("DICOM", "--port", dicom.address, dicom.port, factory),
                Listener("web", "--web-port", web.address, web.port, site),
            ],
        ),
        database=stores.database,
        threads=stores.threads,
        prepareArchive=stores.prepare,
        recover=recover,
        finish=associations.finish,
        closeUnassociated=factory.closeUnassociated,
        whenEmpty=factory.whenEmpty,
        abortAll=factory.abortAll,
        stopWork=stopWork,
        shutdownTimeout=dicom.shutdownTimeout,
        ready=f"D360 {__version__}, {dicom.aeTitle},",
    )
    return Server(reactor, parts)
