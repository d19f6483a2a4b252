"""
What every process of a server is made of: its stores, and the DICOM side. Here
and in the modules that begin a process, L{d360.tap} and L{d360.worker}, concrete
classes are named, and nowhere else.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory

from d360.archive.diskprocess import ProcessDisk
from d360.archive.files import FileArchive
from d360.archive.freespace import FreeSpace
from d360.archive.threads import DiskThreads
from d360.asynchronous import asynchronous
from d360.audit.making import Auditing, makeAuditing
from d360.audit.services import AuditedServices
from d360.config import DICOM, Configuration
from d360.dimse.association import Associations
from d360.dimse.opener import AssociationOpener
from d360.doors import PLAIN, SECURE
from d360.hosts import HostLimits
from d360.index.commitments import PostgreSQLCommitmentRequests
from d360.index.database import PostgreSQLIndex
from d360.index.remoteaes import KeptRemoteAEs, PostgreSQLRemoteAEs
from d360.index.worklist import PostgreSQLWorklist
from d360.interfaces import IAssociations, IAudit, ICallers, IFreeSpace
from d360.logs import ContextLogger, hushLibraries
from d360.metrics.counters import Metrics
from d360.metrics.exposition import Reading
from d360.metrics.opener import CountingOpener
from d360.openfiles import allowedOpenFiles, mostConnections
from d360.services.admission import Admission
from d360.services.commitment import CommitmentService
from d360.services.committing import Commitments
from d360.services.find import FindService
from d360.services.recovery import Recovery
from d360.services.registry import ServiceRegistry
from d360.services.retrieve import GetService, MoveService
from d360.services.sending import Sender
from d360.services.storage import StorageService
from d360.services.verification import VerificationService
from d360.services.worklist import WorklistService
from d360.shared import SharedNumber
from d360.tls.contexts import Both
from d360.transcoding.transcoder import Transcoder
from d360.ul.factory import UpperLayerFactory
from d360.ul.settings import UpperLayerSettings

_log = ContextLogger("d360.server", "server")

#: Threads that wait for the disk. Each association waits for one at a time.
DISK_THREADS = 16

#: Connections that have no association, yet or any more, beyond those that
#: have one: to be told that there are too many takes a connection.
CONNECTIONS_WITHOUT = 256

#: The same for one host.
CONNECTIONS_WITHOUT_PER_HOST = 64

#: Processors that are made use of where nothing is said: the database needs
#: some of them, too.
MOST_WORKERS = 4

#: The name of the queue of messages of the audit trail.
AUDIT = "audit"

#: Connections to the database for the queries of one process, at least.
LEAST_CONNECTIONS = 2


def workersOf(configuration: Configuration) -> int:
    """
    How many processes serve associations: what is configured, or one less than
    there are processors for us, for the database has work to do as well, up to
    L{MOST_WORKERS}.
    """
    if configuration.workers:
        return configuration.workers
    return max(1, min(len(os.sched_getaffinity(0)) - 1, MOST_WORKERS))


def portionOf(configuration: Configuration, number: int) -> Configuration:
    """
    The configuration of one of several processes, with its part of what is
    configured for all together.

    @param number: 0 is the server's own process, which asks the database
        little: only what is told over HTTP.
    """
    workers = workersOf(configuration)
    if workers == 1:
        return configuration
    connections = LEAST_CONNECTIONS
    if number:
        each = (configuration.database.connections - LEAST_CONNECTIONS) // workers
        connections = max(LEAST_CONNECTIONS, each)
    transcoders = -(-configuration.transcoding.workers // workers)
    return evolve(
        configuration,
        database=evolve(configuration.database, connections=connections),
        transcoding=evolve(configuration.transcoding, workers=transcoders),
    )


def incomingOf(number: int) -> str:
    """
    The folder below the archive's for what a process has on its way. Each has
    its own, so that it can be cleared while the others are at work.
    """
    return f".incoming/{number}" if number else ".incoming"


def numbersLeft(configuration: Configuration) -> list[int]:
    """
    The numbers of all workers that ever had something on its way. Blocks.
    """
    folder = Path(configuration.dataDirectory, "archive", incomingOf(0))
    entries = [entry for entry in folder.glob("[1-9]*") if entry.is_dir()]
    return sorted(int(entry.name) for entry in entries if entry.name.isdigit())


def _transcodingOf(configuration: Configuration, number: int) -> Path:
    """Likewise for data sets that were transcoded."""
    folder = configuration.dataDirectory / "transcoding"
    return folder / str(number) if number else folder


@frozen
class Stores:
    """What is kept, and what works on it."""

    threads: DiskThreads
    archive: FileArchive
    freeSpace: FreeSpace
    index: PostgreSQLIndex
    remoteAEs: KeptRemoteAEs
    worklist: PostgreSQLWorklist
    commitmentRequests: PostgreSQLCommitmentRequests
    transcoder: Transcoder

    def prepare(self) -> None:
        """
        Make the folders. Blocks.

        @raise ArchiveError: they cannot be used.
        @raise OSError: likewise.
        """
        self.archive.prepare()
        self.transcoder.start()


def makeArchive(
    reactor: Any, configuration: Configuration, threads: DiskThreads, number: int
) -> FileArchive:
    """The archive, as one of the processes sees it."""
    folder = str(configuration.dataDirectory / "archive")
    return FileArchive(
        folder,
        threads.run,
        reactor.callLater,
        # The server's own process stores nothing where there are workers.
        partial(
            ProcessDisk, reactor, atOnce=number > 0 or workersOf(configuration) == 1
        ),
        incomingOf(number),
    )


def _makeFreeSpace(
    reactor: Any, configuration: Configuration, threads: DiskThreads, number: int
) -> FreeSpace:
    """Of the archive, and of the embedded database where there is one."""
    below = configuration.dataDirectory
    folders = [below / "archive"]
    if not configuration.database.url:
        folders.append(below / "postgresql")
    return FreeSpace(
        [str(folder) for folder in folders],
        threads.run,
        reactor,
        configuration.minFreeSpace << 20,
        isTold=number == 0,
        processes=workersOf(configuration),
    )


def makeStores(
    reactor: Any,
    configuration: Configuration,
    database: Callable[[], str],
    kind: str,
    changes: SharedNumber,
    number: int = 0,
) -> Stores:
    """
    @param database: tells where it is when it is first needed.
    @param kind: see L{PostgreSQLIndex}.
    @param changes: counts those of the remote AEs, for all processes.
    @param number: of the process; 0 is the server's own.
    """
    hushLibraries()
    transcoding = configuration.transcoding
    threads = DiskThreads(reactor, DISK_THREADS)
    archive = makeArchive(reactor, configuration, threads, number)
    index = PostgreSQLIndex(
        reactor,
        database,
        kind,
        configuration.database.connections,
        writer=str(number),
    )
    transcoder = Transcoder(
        reactor,
        str(_transcodingOf(configuration, number)),
        archive.pathOf,
        archive.openOther,
        transcoding.workers,
        transcoding.timeout,
        transcoding.maxMemory << 20,
    )
    remoteAEs = KeptRemoteAEs(PostgreSQLRemoteAEs(index.writing), changes, reactor)
    worklist = PostgreSQLWorklist(index.reading, index.writing)
    freeSpace = _makeFreeSpace(reactor, configuration, threads, number)
    requests = PostgreSQLCommitmentRequests(index.writing)
    return Stores(
        threads,
        archive,
        freeSpace,
        index,
        remoteAEs,
        worklist,
        requests,
        transcoder,
    )


def connectionsOf(dicom: DICOM, processes: int = 1) -> int:
    """
    How many connections of peers there may be: with and without associations, as
    far as there can be files open for them.

    @param processes: that serve them.
    """
    files = mostConnections(allowedOpenFiles())
    return min(dicom.maxAssociations + CONNECTIONS_WITHOUT, processes * files)


def hostLimitsOf(dicom: DICOM, processes: int = 1) -> HostLimits:
    """
    What one host may have of what there may be. Where nothing is configured, a
    quarter is left for the others.

    @param processes: see L{connectionsOf}.
    """
    most, connections = dicom.maxAssociations, connectionsOf(dicom, processes)
    limit = dicom.maxAssociationsPerHost or most - most // 4
    if dicom.maxAssociationsPerHost:
        connections = min(connections, limit + CONNECTIONS_WITHOUT_PER_HOST)
    else:
        connections -= connections // 4
    return HostLimits(limit if limit < most else sys.maxsize, connections)


def warnOfOpenFiles(configuration: Configuration) -> None:
    """Where fewer connections can be served than associations are configured."""
    dicom = configuration.dicom
    most = connectionsOf(dicom, workersOf(configuration))
    if most < dicom.maxAssociations:
        _log.warn(
            "dicom.max_associations is {wanted}, but a process may have no more than "
            "{files} files open, so that {most} connections are served; raise the "
            "limit (LimitNOFILE of systemd, ulimit -n)",
            wanted=dicom.maxAssociations,
            files=allowedOpenFiles(),
            most=most,
        )


def settingsOf(dicom: DICOM) -> UpperLayerSettings:
    """Of associations that peers request."""
    return UpperLayerSettings(
        maxPDULength=dicom.maxPDULength,
        artim=dicom.artimTimeout,
        idleTimeout=dicom.idleTimeout,
        minRate=dicom.minRate,
        maxConnections=connectionsOf(dicom),
        perHost=hostLimitsOf(dicom),
    )


def makeAudit(reactor: Any, configuration: Configuration, stores: Stores) -> Auditing:
    """The audit trail, as one of the processes writes it."""
    return makeAuditing(
        reactor,
        configuration.audit,
        configuration.dicom.aeTitle,
        configuration.auditFile,
        stores.index,
        stores.threads.run,
    )


@frozen
class Requesting:
    """
    Associations that we request, and what is sent over them.

    @ivar opener: opens them.
    @ivar counted: likewise, and counts them.
    """

    opener: AssociationOpener
    counted: CountingOpener
    sender: Sender


def makeRequesting(
    reactor: Any,
    dicom: DICOM,
    stores: Stores,
    metrics: Metrics,
    tls: Both,
    audit: IAudit,
) -> Requesting:
    """What a process requests associations with."""
    opener = AssociationOpener(
        reactor,
        dicom.aeTitle,
        evolve(
            settingsOf(dicom),
            idleTimeout=dicom.responseTimeout,
            answerTimeout=dicom.responseTimeout,
        ),
        tls.connecting.secure,
        audit=audit,
    )
    sender = Sender(stores.archive, stores.index, stores.transcoder, reactor)
    return Requesting(opener, CountingOpener(opener, metrics), sender)


def makeCommitments(
    reactor: Any,
    dicom: DICOM,
    stores: Stores,
    requesting: Requesting,
    audit: IAudit,
) -> Commitments:
    """What sees to the storage commitments that were asked for."""
    return Commitments(
        stores.commitmentRequests,
        stores.archive,
        stores.index,
        stores.remoteAEs,
        requesting.counted,
        reactor,
        dicom.aeTitle,
        stores.threads.run,
        audit,
    )


@frozen
class Serving:
    """
    What serves the associations of peers.

    @ivar doors: what serves the connections of each door, see L{d360.doors}.
    @ivar refusing: the same for hosts that have enough, see
        L{UpperLayerFactory.refusing}.
    @ivar finish: see L{d360.server.IConnections}, as the next three.
    """

    storage: StorageService
    associations: Associations
    factory: UpperLayerFactory
    doors: Mapping[str, Any]
    refusing: Mapping[str, Any]
    finish: Callable[[str], None]
    closeUnassociated: Callable[[str], None]
    whenEmpty: Callable[[], Deferred[None]]
    abortAll: Callable[[str], None]


def makeServing(
    reactor: Any,
    configuration: Configuration,
    stores: Stores,
    requesting: Requesting,
    commitments: Commitments,
    recovery: Recovery,
    metrics: Metrics,
    tls: Both,
    audit: IAudit,
    share: int | None = None,
    changed: Callable[[str], None] = lambda host: None,
) -> Serving:
    """
    @param share: of C{max_associations}, where other processes have the rest;
        who hands connections over counts these.
    @param changed: see L{UpperLayerFactory}.
    """
    dicom = configuration.dicom
    storage = StorageService(
        stores.archive,
        stores.index,
        recovery,
        reactor,
        stores.freeSpace,
        dicom.duplicates,
        audit,
        dicom.maxInstanceSize << 20 or sys.maxsize,
    )
    admission = Admission(
        dicom.aeTitle,
        dicom.acceptAnyCalledAE,
        dicom.maxAssociations,
        stores.remoteAEs,
        dicom.requireKnownCallers,
        dicom.defaultPermissions,
        share,
        certain=configuration.tls.port > 0,
    )
    services = _makeServices(
        reactor, dicom, stores, requesting, storage, commitments, admission, audit
    )
    associations = Associations(AuditedServices(services, audit), reactor, metrics)
    settings = settingsOf(dicom)
    if share is not None:
        limits = HostLimits(settings.perHost.associations)
        settings = evolve(settings, maxConnections=0, perHost=limits)
    factory = UpperLayerFactory(
        associations.build,
        admission,
        services,
        reactor,
        settings,
        metrics,
        changed,
        audit,
    )
    return Serving(
        storage,
        associations,
        factory,
        _doorsTo(factory, tls, reactor),
        _doorsTo(factory.refusing(), tls, reactor),
        finish=associations.finish,
        closeUnassociated=factory.closeUnassociated,
        whenEmpty=factory.whenEmpty,
        abortAll=factory.abortAll,
    )


def _doorsTo(factory: ServerFactory, tls: Both, reactor: Any) -> Mapping[str, Any]:
    return {PLAIN: factory, SECURE: tls.accepting.over(factory, reactor)}


def _makeServices(
    reactor: Any,
    dicom: DICOM,
    stores: Stores,
    requesting: Requesting,
    storage: StorageService,
    commitments: Commitments,
    callers: ICallers,
    audit: IAudit,
) -> ServiceRegistry:
    index, sender = stores.index, requesting.sender
    move = MoveService(
        index,
        sender,
        reactor,
        stores.remoteAEs,
        requesting.counted,
        dicom.parallelMoves,
        audit,
    )
    return ServiceRegistry(
        [
            VerificationService(),
            storage,
            FindService(index, dicom.aeTitle),
            WorklistService(stores.worklist),
            GetService(index, sender, reactor, audit),
            move,
            CommitmentService(
                stores.commitmentRequests, commitments, stores.threads.run
            ),
        ],
        callers,
        storage if dicom.acceptUnknownStorage else None,
    )


def _removeTranscoded(configuration: Configuration) -> None:
    """What workers were about to send has no use any more. Blocks."""
    for folder in _transcodingOf(configuration, 0).glob("[1-9]*"):
        shutil.rmtree(folder, ignore_errors=True)


@asynchronous
async def recoverWorkers(
    reactor: Any, configuration: Configuration, stores: Stores
) -> int:
    """
    Resolve what the workers of an earlier run have left under a mark, however
    many there were: while there is none at work. What has lost its mark is not
    any worker's, and is looked at when all marks are resolved.

    @return: how many instances there were.
    """
    await stores.threads.run(_removeTranscoded, configuration)
    found = 0
    for number in await stores.threads.run(numbersLeft, configuration):
        archive = makeArchive(reactor, configuration, stores.threads, number)
        await archive.awaitOthers()
        recovery = Recovery(archive, stores.index, reactor)
        found += await recovery.recover(withUnmarked=False)
    return found


def makeReadings(
    stores: Stores, associations: IAssociations, auditing: Auditing
) -> Sequence[Reading]:
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
        waiting(lambda: auditing.waiting, {"queue": AUDIT}),
        Reading(
            "d360_audit_messages",
            "Messages of the audit trail that were written.",
            lambda: auditing.written,
            isCounter=True,
        ),
        Reading(
            "d360_audit_messages_dropped",
            "Messages of the audit trail for which there was no room.",
            lambda: auditing.dropped,
            isCounter=True,
        ),
        Reading(
            "d360_audit_failing",
            "Processes that cannot write the audit trail to its file, or send it.",
            lambda: auditing.isFailing,
        ),
    ]
    pools = {"reading": stores.index.reading, "writing": stores.index.writing}
    for name, pool in pools.items():
        for state in ("opened", "idle"):
            labels = {"pool": name, "state": state}
            readings.append(connections(partial(getattr, pool, state), labels))
        labels = {"queue": f"{name} connection"}
        readings.append(waiting(partial(getattr, pool, "waiting"), labels))
    return readings


def diskReadings(freeSpace: IFreeSpace) -> Sequence[Reading]:
    """What the metrics read of the low-water mark."""
    return [
        Reading(
            "d360_disk_min_free_bytes",
            "With less free than this, nothing is stored; 0 for no such mark.",
            lambda: freeSpace.minimum,
        ),
        Reading(
            "d360_disk_low",
            "1 while nothing is stored for want of free space, else 0.",
            lambda: int(freeSpace.isLow),
        ),
    ]


def auditState(
    configuration: Configuration, readings: Sequence[Reading]
) -> dict[str, Any]:
    """
    How the audit trail does.

    @param readings: L{makeReadings}, of all processes together.
    """

    def read(name: str, *labels: str) -> int:
        return sum(
            int(reading.read())
            for reading in readings
            if (reading.name, *reading.labels.values()) == (name, *labels)
        )

    return {
        "file": bool(configuration.audit.file),
        "syslog": bool(configuration.audit.syslog),
        "failing": read("d360_audit_failing") > 0,
        "written": read("d360_audit_messages"),
        "waiting": read("d360_queue_length", AUDIT),
        "dropped": read("d360_audit_messages_dropped"),
    }


def processReadings(number: int, process: ProcessUse | None) -> Sequence[Reading]:
    """
    What a worker uses of the machine.

    @param process: tells; C{None} where only the worker itself knows.
    """
    labels = {"worker": str(number)}
    return [
        Reading(
            "d360_worker_cpu_seconds",
            "Processor time of a process that serves associations.",
            process.seconds if process else lambda: 0.0,
            labels,
            isCounter=True,
        ),
        Reading(
            "d360_worker_resident_memory_bytes",
            "Memory of a process that serves associations.",
            process.memory if process else lambda: 0,
            labels,
        ),
    ]


class ProcessUse:
    """What this process uses of the machine."""

    _page = os.sysconf("SC_PAGE_SIZE")

    def seconds(self) -> float:
        """Of a processor."""
        return time.process_time()

    def memory(self) -> int:
        """In bytes, as far as it is in memory."""
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * self._page
