"""
The workers together: started, watched, started again when one dies, given
connections, asked what they have counted, and ended.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.hosts import ClosedConnections, HostCounts, HostLimits
from d360.interfaces import IAssociations, IMetrics, IWorkers
from d360.logs import Logger
from d360.metrics.values import WorkerState
from d360.workers.choosing import choose, shares
from d360.workers.place import FIRST_DELAY, Place
from d360.workers.process import Arrival, IOwner, WorkerGone, WorkerProcess
from d360.workers.wire import Begin, Noted

#: Seconds up to which L{FIRST_DELAY} is doubled, while a worker does not live for as
#: long as the second.
LAST_DELAY, STEADY = 30.0, 60.0

#: Seconds that a worker has to answer a question before people are told what
#: it said last.
PATIENCE = 1.0

#: Seconds that a connection waits when no worker has room for another
#: association, or its host has enough: the end of one may be on its way to be told.
FULL = 0.1

#: Seconds between the questions whether a worker is alive, and after which
#: silence is an error.
PING, SILENT = 20.0, 60.0

#: Seconds that a worker may take to end beyond what operations have.
LAST_PATIENCE = 12.0


@implementer(IOwner, IWorkers, IAssociations)
class Workers:
    """
    See the module, L{IWorkers} and L{IAssociations}.

    @param settings: see L{Begin.settings}.
    @param database: tells where the database is, once that is known.
    @param maxAssociations: of all together.
    @param maxConnections: likewise.
    @param connectionsEach: of one of them; what it has no descriptor for would
        be lost on its way to it.
    @param perHost: what one host may have of all together. Here connections are
        counted; any of them may come to an association.
    @param shutdownTimeout: seconds that operations may take to end.
    @param merge: adds up answers to a question, so that those of the workers
        that died take up one place.
    @ivar write: takes lines of their logs.
    @ivar note: takes what they warn of.
    """

    _log = Logger("d360.workers")

    def __init__(
        self,
        reactor: Any,
        count: int,
        settings: dict[str, Any],
        database: Callable[[], str],
        maxAssociations: int,
        maxConnections: int,
        shutdownTimeout: float,
        metrics: IMetrics,
        merge: Callable[[str, list[Any]], Any],
        write: Callable[[bytes], None],
        note: Callable[[Noted], None],
        build: Callable[..., WorkerProcess] = WorkerProcess,
        connectionsEach: int = sys.maxsize,
        perHost: HostLimits | None = None,
    ) -> None:
        self.count = count
        self._reactor = reactor
        self._settings = settings
        self._database = database
        self._shares = shares(maxAssociations, count)
        self._maxConnections = maxConnections
        self._connectionsEach = connectionsEach
        self._perHost = perHost or HostLimits()
        self._closed = ClosedConnections(self._log, reactor.seconds)
        self._shutdownTimeout = shutdownTimeout
        self._metrics = metrics
        self._merge = merge
        self._write = write
        self._note = note
        self._build = build
        self._places: list[Place] = []
        self._waiting: deque[Arrival] = deque()
        self._waitingOf = HostCounts()
        self._known: dict[str, Any] = {}
        self._full = False
        self._later: IDelayedCall | None = None
        self._turn = 0
        self._recovered = 0
        self._opened: Deferred[int] | None = None
        self._stopping = ""
        self._whenGone: list[Deferred[None]] = []
        self._pinging = LoopingCall(self._ping)
        self._pinging.clock = reactor

    # --- start

    def start(self) -> Deferred[int]:
        """
        Start them. Fires when all take connections, or those do that did not
        die at once, with how many files they have recovered.

        @raise OSError: no process can be started.
        """
        opened: Deferred[int] = Deferred()
        if self._stopping:
            # It will not be: nobody is to be started any more.
            return opened
        self._opened = opened
        for number, share in enumerate(self._shares, 1):
            place = Place(number, share, self._new(number), next=number)
            self._places.append(place)
        for place in self._places:
            self._spawn(place)
        self._pinging.start(PING, now=False)
        return opened

    def _new(self, number: int) -> WorkerProcess:
        return self._build(self._reactor, number, self, self._write)

    def _spawn(self, place: Place) -> None:
        place.call = None
        place.heard = self._reactor.seconds()
        place.isSilent = False
        begin = Begin(
            place.number,
            self.count,
            self._settings,
            self._database(),
            place.share,
            place.next,
            place.restarts > 0,
        )
        try:
            place.worker.spawn(begin)
        except OSError as error:
            self._log.error(
                "worker {number} cannot be started: {why}",
                number=place.number,
                why=error.strerror,
            )
            self._startLater(place)
            return
        for what, value in self._known.items():
            place.worker.tell(what, value)

    def tell(self, what: str, value: Any) -> None:
        """
        Have all of them know something, also those that are started later,
        before they are given connections.

        @param value: as JSON can have it.
        """
        self._known[what] = value
        for place in self._places:
            place.worker.tell(what, value)

    def _placeOf(self, worker: WorkerProcess) -> Place:
        return self._places[worker.number - 1]

    def _ready(self) -> list[Place]:
        return [place for place in self._places if place.worker.isReady]

    # --- what they tell

    def ready(self, worker: WorkerProcess, recovered: int) -> None:
        """See L{IOwner.ready}."""
        self._log.info(
            "worker {number} is ready: process {pid}",
            number=worker.number,
            pid=worker.pid,
        )
        if self._opened is not None:
            self._recovered += recovered
        elif recovered:
            self._log.warn(
                "{count} files that worker {number} had left were resolved",
                count=recovered,
                number=worker.number,
            )
        self._checkOpened()
        self._giveWaiting()

    def _checkOpened(self) -> None:
        """All have begun, or at least tried."""
        if self._opened is None or not self._ready():
            return
        if all(place.worker.isReady or place.restarts for place in self._places):
            opened, self._opened = self._opened, None
            opened.callback(self._recovered)

    def reported(self, worker: WorkerProcess) -> None:
        """See L{IOwner.reported}."""
        self._placeOf(worker).next = worker.report.nextAssociation

    def noted(self, worker: WorkerProcess, message: Noted) -> None:
        """See L{IOwner.noted}."""
        self._note(message)

    def ended(self, worker: WorkerProcess, how: str) -> None:
        """See L{IOwner.ended}."""
        place = self._placeOf(worker)
        place.retired += worker.report.accepted
        for what, value in place.said.items():
            place.kept[what] = [self._merge(what, [*place.kept.get(what, []), value])]
        place.said = {}
        left = worker.leftConnections()
        if self._stopping:
            for arrival in left:
                arrival.connection.close()
            return
        if self._reactor.seconds() - worker.since > STEADY:
            place.delay = FIRST_DELAY
        self._log.error(
            "worker {number}, process {pid}, ended: {how}; it is started again in "
            "{delay:g} s",
            number=place.number,
            pid=worker.pid,
            how=how,
            delay=place.delay,
        )
        self._startLater(place)
        for arrival in left:
            self._give(arrival)
        self._checkOpened()

    def silent(self, worker: WorkerProcess) -> None:
        """See L{IOwner.silent}."""
        self._checkGone()

    def _startLater(self, place: Place) -> None:
        # Some numbers may be in use that were not reported.
        place.next += 1000 * (self.count + 1)
        place.restarts += 1
        place.worker = self._new(place.number)
        place.call = self._reactor.callLater(place.delay, self._again, place)
        place.delay = min(place.delay * 2, LAST_DELAY)

    def _again(self, place: Place) -> None:
        place.worker.since = self._reactor.seconds()
        self._spawn(place)

    # --- connections

    def take(self, connection: socket.socket, peer: str, door: str) -> None:
        """See L{d360.workers.doorway.ITaker.take}."""
        arrival = Arrival(connection, peer, door)
        ofHost = self._connectionsOf(peer) + self._waitingOf.of(peer)
        if ofHost >= self._perHost.connections:
            self._refuse(arrival, f"its host has {self._perHost.connections} open")
            return
        open_ = sum(place.worker.connections for place in self._places)
        if open_ + len(self._waiting) >= self._maxConnections:
            self._refuse(arrival, f"{self._maxConnections} are open")
            return
        self._give(arrival)

    def _connectionsOf(self, host: str) -> int:
        return sum(place.worker.connectionsOf(host) for place in self._places)

    def _refuse(self, arrival: Arrival, why: str) -> None:
        self._metrics.connectionRefused()
        self._closed.note(arrival.peer, why)
        arrival.connection.close()

    def _give(self, arrival: Arrival) -> None:
        ready = self._ready()
        place = choose(
            place for place in ready if place.load.connections < self._connectionsEach
        )
        isTooMany = self._connectionsOf(arrival.peer) >= self._perHost.associations
        if place is None or place.load.isFull or isTooMany:
            if not ready or not self._full:
                self._waiting.append(arrival)
                self._waitingOf.add(arrival.peer)
                if ready and self._later is None:
                    self._later = self._reactor.callLater(FULL, self._giveAllTheSame)
                return
            if place is None:
                limit = len(ready) * self._connectionsEach
                self._refuse(arrival, f"{limit} are open")
                return
        self._turn += 1
        place.handedAt = self._turn
        place.worker.hand(arrival, isTooMany)

    def _giveAllTheSame(self) -> None:
        """Whoever gets one that there is no room for tells the peer so."""
        self._later = None
        self._full = True
        self._giveWaiting()
        self._full = False

    def _giveWaiting(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._waitingOf = HostCounts()
        for arrival in waiting:
            self._give(arrival)

    # --- what they have counted: IWorkers

    @property
    def live(self) -> int:
        """Associations that are established, in all of them."""
        return sum(place.worker.report.live for place in self._places)

    @property
    def accepted(self) -> int:
        """Those established since the start."""
        return sum(
            place.retired + place.worker.report.accepted for place in self._places
        )

    def states(self) -> tuple[WorkerState, ...]:
        """See L{IWorkers.states}."""
        return tuple(
            WorkerState(
                place.number,
                place.worker.pid,
                place.worker.isReady and place.answers,
                place.worker.connections,
                place.worker.report.live,
                datetime.fromtimestamp(place.worker.since, UTC),
                place.restarts,
            )
            for place in self._places
        )

    @asynchronous
    async def refresh(self, what: str) -> None:
        """See L{IWorkers.refresh}."""
        await DeferredList([self._ask(place, what) for place in self._ready()])

    @asynchronous
    async def _ask(self, place: Place, what: str) -> None:
        worker = place.worker
        try:
            value = await worker.ask(what, PATIENCE)
        except WorkerGone:
            return
        except TimeoutError:
            place.answers = False
            self._log.warn(
                "worker {number} has not answered within {seconds:g} s",
                number=place.number,
                seconds=PATIENCE,
            )
            return
        self._heard(place)
        if place.worker is worker:
            place.said[what] = value

    def said(self, what: str) -> list[Any]:
        """See L{IWorkers.said}."""
        return [
            value for place in self._places for value in self._answersOf(place, what)
        ]

    def _answersOf(self, place: Place, what: str) -> list[Any]:
        found = list(place.kept.get(what, []))
        if what in place.said:
            found.append(place.said[what])
        return found

    def _heard(self, place: Place) -> None:
        place.heard = self._reactor.seconds()
        place.answers = True
        if place.isSilent:
            place.isSilent = False
            self._log.warn("worker {number} answers again", number=place.number)

    # --- health

    def _ping(self) -> None:
        now = self._reactor.seconds()
        for place in self._ready():
            asked = place.worker.ask("ping", SILENT)
            asked.addCallbacks(
                lambda _, place=place: self._heard(place), self._unanswered
            )
            if now - place.heard > SILENT and not place.isSilent:
                place.isSilent = True
                self._log.error(
                    "worker {number}, process {pid}, has not answered for "
                    "{seconds:.0f} s",
                    number=place.number,
                    pid=place.worker.pid,
                    seconds=now - place.heard,
                )

    def _unanswered(self, failure: Failure) -> None:
        failure.trap(WorkerGone, TimeoutError)

    # --- the end

    def finish(self, why: str) -> None:
        """Have all of them end in order; the time that they have begins now."""
        if self._stopping:
            return
        self._stopping = why
        if self._later is not None:
            self._later.cancel()
        if self._pinging.running:
            self._pinging.stop()
        waiting, self._waiting = self._waiting, deque()
        for arrival in waiting:
            arrival.connection.close()
        for place in self._places:
            if place.call is not None:
                place.call.cancel()
                place.call = None
                place.worker.pid = 0
            else:
                place.worker.stop(why)
        patience = self._shutdownTimeout + LAST_PATIENCE
        later = self._reactor.callLater(patience, self._killAll)
        self.whenEmpty().addCallback(
            lambda _: later.cancel() if later.active() else None
        )

    def closeUnassociated(self, why: str) -> None:
        """Each of them does so itself."""

    def abortAll(self, why: str) -> None:
        """See L{closeUnassociated}."""

    def _killAll(self) -> None:
        for place in self._alive():
            place.worker.log.error("it has not ended in time, and is killed")
            place.worker.kill()

    def _alive(self) -> list[Place]:
        return [place for place in self._places if place.worker.pid]

    def whenEmpty(self) -> Deferred[None]:
        """Fires when no worker is left; at once if none is."""
        gone: Deferred[None] = Deferred()
        self._whenGone.append(gone)
        self._checkGone()
        return gone

    def _checkGone(self) -> None:
        if not self._alive():
            waiting, self._whenGone = self._whenGone, []
            for gone in waiting:
                gone.callback(None)
