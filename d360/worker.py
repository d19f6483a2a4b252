"""
C{python -m d360.worker}: a process that serves associations, started by the
server, which tells it over a descriptor what to be. See L{d360.workers}.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, globalLogBeginner
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.audit.making import Auditing
from d360.composition import (
    ProcessUse,
    Requesting,
    Serving,
    Stores,
    makeAudit,
    makeCommitments,
    makeReadings,
    makeRequesting,
    makeServing,
    makeStores,
    portionOf,
    processReadings,
)
from d360.config import load
from d360.doors import CREDENTIALS, makeTLS, useCredentials
from d360.errors import ArchiveError, DatabaseError
from d360.logs import ContextLogger, LineObserver, RecentEvents, setThreshold
from d360.metrics.counters import Metrics
from d360.metrics.merging import (
    ASSOCIATIONS,
    COUNTERS,
    RATES,
    associationsOf,
    countersOf,
    ratesOf,
)
from d360.server import endConnections, settleMemory
from d360.services.committing import Commitments
from d360.services.recovery import Recovery
from d360.shared import SharedNumber
from d360.ul.factory import numberAssociations
from d360.workers.lines import LineSender
from d360.workers.process import CHANGES, WIRE
from d360.workers.serving import Work, WorkerWire
from d360.workers.wire import Begin

reactor: Any = _reactor

#: What a terminal or a supervisor sends to all processes: the server ends us.
_NOT_FOR_US = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1

#: Where the server takes lines of the log.
STANDARD_OUTPUT = 1


@implementer(ILogObserver)
class _Noting:
    """Tells the server of warnings and errors, and has their lines not wait."""

    def __init__(self, wire: WorkerWire, lines: LineSender) -> None:
        self._wire = wire
        self._lines = lines

    def __call__(self, event: dict[str, Any]) -> None:
        """See L{ILogObserver}."""
        # It knows which ones they are, and what may be said of them.
        recent = RecentEvents()
        recent(event)
        for found in recent.recent():
            self._wire.note(found)
            self._lines.flush()


def _beginLogging(level: str, wire: WorkerWire) -> None:
    setThreshold(level)
    lines = LineSender(STANDARD_OUTPUT, reactor)
    # In this order: a warning's line is there when the lines are to go.
    observers = [LineObserver(lines.write, level), _Noting(wire, lines)]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
    reactor.addSystemEventTrigger("after", "shutdown", lines.flush)


def build(begin: Begin, wire: WorkerWire) -> Work:
    """Put the worker together; nothing is opened yet."""
    configuration = portionOf(load(None, begin.settings), begin.number)
    _beginLogging(configuration.log.level, wire)
    numbers = numberAssociations(begin.firstAssociation, begin.workers + 1)
    stores = makeStores(
        reactor,
        configuration,
        lambda: begin.database,
        "",
        SharedNumber(CHANGES),
        begin.number,
    )
    metrics = Metrics(reactor)
    recovery = Recovery(stores.archive, stores.index, reactor)
    auditing = makeAudit(reactor, configuration, stores)
    tls = makeTLS(configuration.tls)
    dicom, audit = configuration.dicom, auditing.audit
    requesting = makeRequesting(reactor, dicom, stores, metrics, tls, audit)
    commitments = makeCommitments(reactor, dicom, stores, requesting, audit)
    serving = makeServing(
        reactor,
        configuration,
        stores,
        requesting,
        commitments,
        recovery,
        metrics,
        tls,
        audit,
        begin.maxAssociations,
        wire.changed,
    )

    @asynchronous
    async def open_() -> int:
        stores.prepare()
        stores.threads.start()
        await stores.freeSpace.start()
        auditing.start()
        # Before the first ones are started, the server has done so for all.
        recovered = await _recover(recovery, begin.number) if begin.isAgain else 0
        settleMemory()
        return recovered

    def close(why: str) -> Deferred[None]:
        patience = dicom.shutdownTimeout
        return _close(
            stores,
            requesting,
            commitments,
            serving,
            recovery,
            auditing,
            patience,
            why,
        )

    questions = _questions(begin.number, stores, serving, metrics, auditing)
    return Work(
        serving.factory,
        serving.doors,
        serving.refusing,
        {CREDENTIALS: partial(useCredentials, tls)},
        numbers,
        questions,
        open_,
        close,
    )


def _questions(
    number: int,
    stores: Stores,
    serving: Serving,
    metrics: Metrics,
    auditing: Auditing,
) -> dict[str, Callable[[], Any]]:
    """What the server can ask, and what answers."""
    readings = [
        *makeReadings(stores, serving.factory, auditing),
        *processReadings(number, ProcessUse()),
    ]
    return {
        "ping": lambda: None,
        COUNTERS: lambda: countersOf(metrics, readings),
        RATES: lambda: ratesOf(metrics.rates),
        ASSOCIATIONS: lambda: associationsOf(serving.associations),
    }


@asynchronous
async def _recover(recovery: Recovery, number: int) -> int:
    """What the worker that had the place before has left; as long as it takes."""
    log = ContextLogger("d360.worker", f"worker {number}")
    while True:
        try:
            return await recovery.recover(withUnmarked=False)
        except (ArchiveError, DatabaseError) as error:
            log.error("cannot begin yet: {why}", why=str(error))
            await deferLater(reactor, 1.0)


@asynchronous
async def _close(
    stores: Stores,
    requesting: Requesting,
    commitments: Commitments,
    serving: Serving,
    recovery: Recovery,
    auditing: Auditing,
    patience: float,
    why: str,
) -> None:
    await endConnections(reactor, serving, patience, why)
    stores.freeSpace.stop()
    stopped = commitments.stop()
    requesting.opener.abortAll(why)
    await stopped
    await stores.transcoder.stop()
    await serving.storage.whenTidy()
    await stores.index.registrar.finish()
    await recovery.stop()
    await auditing.stop()
    stores.index.close()
    stores.threads.stop()


def _ignoreSignals() -> None:
    for number in _NOT_FOR_US:
        signal.signal(number, signal.SIG_IGN)


def _dieWithServer() -> None:
    """
    Should the server be killed while we are busy: a closed descriptor is only
    seen by who has the time to look.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve until the server says otherwise, or is gone."""
    _ignoreSignals()
    _dieWithServer()

    def lost() -> None:
        os._exit(1)

    wire = WorkerWire(reactor, build, reactor.stop, lost)
    factory = Factory.forProtocol(lambda: wire)
    factory.noisy = False
    os.set_blocking(WIRE, False)
    reactor.adoptStreamConnection(WIRE, socket.AF_UNIX, factory)
    os.close(WIRE)
    # The reactor installs its own when it begins to run.
    reactor.callWhenRunning(_ignoreSignals)
    reactor.run()


if __name__ == "__main__":
    main()
