"""Tests for L{d360.workers.workers}: processes are pretended."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.hosts import HostLimits
from d360.interfaces import IAssociations, IWorkers
from d360.metrics.counters import Metrics
from d360.workers.process import IOwner, WorkerProcess
from d360.workers.wire import (
    Answer,
    Ask,
    Begin,
    Message,
    Noted,
    Ready,
    Report,
    Stop,
    Take,
    Tell,
)
from d360.workers.workers import (
    FULL,
    LAST_DELAY,
    LAST_PATIENCE,
    PATIENCE,
    PING,
    SILENT,
    Workers,
)


class Way:
    """What a worker was told; in the place of its wire."""

    def __init__(self) -> None:
        self.transport = self
        self.told: list[Message] = []
        self.descriptors: list[int] = []

    def send(self, message: Message) -> None:
        self.told.append(message)

    def sendFileDescriptor(self, descriptor: int) -> None:
        self.descriptors.append(descriptor)

    def abortConnection(self) -> None:
        """See L{ITCPTransport}."""


class Pretended(WorkerProcess):
    """A worker without a process; its C{transport} is itself."""

    pids = 100

    def spawn(self, begin: Begin) -> None:
        Pretended.pids += 1
        self.pid = Pretended.pids
        self.way = Way()
        self._wire = self.way  # type: ignore[assignment]
        self.transport = self
        self.killed = self.hasChild = False
        self._send(begin)

    def signalProcess(self, number: int) -> None:
        self.killed = True

    def die(self, signal: int | None = 9) -> None:
        """It ends."""
        ended = ProcessTerminated(None, signal, None) if signal else ProcessDone(0)
        self.processExited(Failure(ended))
        if not self.hasChild:
            self.processEnded(Failure(ended))

    def loseConnection(self) -> None:
        """Nobody has its pipes any more."""
        self.processEnded(Failure(ProcessDone(0)))


class Unpromising(Pretended):
    """There is no process to be had."""

    def spawn(self, begin: Begin) -> None:
        raise OSError(11, "Resource temporarily unavailable")


class WorkersTestCase(SynchronousTestCase):
    """Three workers, of which nothing is heard yet."""

    maxAssociations = 30
    maxConnections = 40
    connectionsEach = 1000
    perHost = HostLimits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000000000)
        self.metrics = Metrics(self.clock)
        self.lines: list[bytes] = []
        self.notes: list[Noted] = []
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.workers = self.make(Pretended)

    def make(self, kind: type[WorkerProcess]) -> Workers:
        return Workers(
            self.clock,
            3,
            {"dicom.port": 0},
            lambda: "postgresql:///",
            self.maxAssociations,
            self.maxConnections,
            7.0,
            self.metrics,
            lambda what, answers: sum(answers),
            self.lines.append,
            self.notes.append,
            kind,
            self.connectionsEach,
            self.perHost,
        )

    def errors(self) -> list[str]:
        """What was logged that somebody should look at."""
        return [
            formatEvent(event)
            for event in self.events
            if event["log_level"] >= LogLevel.warn
        ]

    def each(self) -> list[Any]:
        """The present workers."""
        return [place.worker for place in self.workers._places]

    def start(self) -> list[Any]:
        """All take connections."""
        opened = self.workers.start()
        for worker in self.each():
            worker.received(Ready(0))
        self.successResultOf(opened)
        return self.each()

    def connection(self) -> socket.socket:
        """One that was accepted."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        return ours

    def take(self, count: int = 1, host: str = "192.0.2.7") -> list[socket.socket]:
        """So many come in."""
        taken = [self.connection() for _ in range(count)]
        for connection in taken:
            self.workers.take(connection, host, "front")
        return taken

    def handed(self) -> list[int]:
        """How many connections each has been given."""
        return [
            sum(isinstance(message, Take) for message in worker.way.told)
            if worker.pid
            else 0
            for worker in self.each()
        ]


class StartTests(WorkersTestCase):
    """How they are started, and again."""

    def test_interfaces(self) -> None:
        """It is what it says."""
        verifyObject(IOwner, self.workers)
        verifyObject(IWorkers, self.workers)
        verifyObject(IAssociations, self.workers)

    def test_begin(self) -> None:
        """Each is told what it is."""
        opened = self.workers.start()
        begins = [worker.way.told[0] for worker in self.each()]
        settings, database = {"dicom.port": 0}, "postgresql:///"
        self.assertEqual(
            begins,
            [Begin(n, 3, settings, database, 10, n, False) for n in (1, 2, 3)],
        )
        self.assertNoResult(opened)

    def test_recovered(self) -> None:
        """Complete when all are ready."""
        opened = self.workers.start()
        a, b, c = self.each()
        a.received(Ready(2))
        b.received(Ready(0))
        self.assertNoResult(opened)
        c.received(Ready(3))
        self.assertEqual(self.successResultOf(opened), 5)

    def test_oneDiesAtOnce(self) -> None:
        """Served is by those that live."""
        opened = self.workers.start()
        a, b, c = self.each()
        a.die()
        b.received(Ready(0))
        self.assertNoResult(opened)
        c.received(Ready(0))
        self.assertEqual(self.successResultOf(opened), 0)

    def test_again(self) -> None:
        """One that died comes back, and the others go on."""
        _, b, _ = self.start()
        b.received(Report(0, 0, 0, 4, 14))
        pid = b.pid
        b.die()
        (error,) = self.errors()
        self.assertIn(f"worker 2, process {pid}, ended: SIGKILL", error)
        self.assertEqual(self.workers.accepted, 4)
        self.assertEqual([w.isReady for w in self.each()], [True, False, True])
        self.clock.advance(0.1)
        new = self.each()[1]
        begin = new.way.told[0]
        self.assertTrue(begin.isAgain)
        self.assertEqual(begin.number, 2)
        # The numbers of associations are not given twice, and stay in step.
        self.assertGreater(begin.firstAssociation, 14)
        self.assertEqual(begin.firstAssociation % 4, 14 % 4)
        new.received(Ready(1))
        self.assertIn("1 files that worker 2 had left", self.errors()[-1])
        states = self.workers.states()
        self.assertEqual([state.restarts for state in states], [0, 1, 0])

    def test_delays(self) -> None:
        """Each time later, up to a bound; sooner again when it has lived."""
        self.start()
        delays = []
        for _ in range(12):
            self.each()[0].die()
            call: Any = self.workers._places[0].call
            delays.append(round(call.getTime() - self.clock.seconds(), 3))
            self.clock.advance(delays[-1])
        self.assertEqual(delays[:4], [0.1, 0.2, 0.4, 0.8])
        self.assertEqual(delays[-2:], [LAST_DELAY] * 2)
        self.each()[0].received(Ready(0))
        self.clock.advance(61)
        self.each()[0].die()
        self.clock.advance(0.1)
        self.assertNotEqual(self.each()[0].pid, 0)

    def test_cannotStart(self) -> None:
        """No process can be had: it is tried again."""
        self.workers = self.make(Unpromising)
        self.assertNoResult(self.workers.start())
        self.assertIn("cannot be started: Resource temp", self.errors()[0])
        before = len(self.errors())
        self.clock.advance(0.1)
        self.assertEqual(len(self.errors()), before + 3)


class TellTests(WorkersTestCase):
    """What all of them have to know."""

    def told(self) -> list[list[Message]]:
        return [
            [message for message in worker.way.told if isinstance(message, Tell)]
            for worker in self.each()
        ]

    def test_all(self) -> None:
        """They are told at once."""
        self.start()
        self.workers.tell("credentials", {"key": "PEM"})
        self.assertEqual(self.told(), [[Tell("credentials", {"key": "PEM"})]] * 3)

    def test_later(self) -> None:
        """One that is started later is told the last of it, before all else."""
        self.workers.tell("credentials", "old")
        self.start()
        self.workers.tell("credentials", "new")
        self.each()[0].die()
        self.workers.take(self.connection(), "192.0.2.7", "front")
        self.clock.advance(0.1)
        self.assertEqual(self.told()[0], [Tell("credentials", "new")])
        kinds = [type(message) for message in self.each()[0].way.told]
        self.assertEqual(kinds[:2], [Begin, Tell])


class ConnectionTests(WorkersTestCase):
    """Who gets a connection."""

    maxAssociations = 6

    def test_balanced(self) -> None:
        """One after the other."""
        self.start()
        self.take(7)
        self.assertEqual(sorted(self.handed()), [2, 2, 3])

    def test_fewest(self) -> None:
        """The one that has the fewest, as it says."""
        a, b, c = self.start()
        self.take(3)
        a.received(Report(1, 0, 0, 1, 1))
        b.received(Report(1, 1, 1, 1, 1))
        c.received(Report(1, 1, 1, 1, 1))
        self.take()
        self.assertEqual(self.handed(), [2, 1, 1])

    def test_ours(self) -> None:
        """Our own descriptor stays open until the worker has taken it."""
        a, *_ = self.start()
        (connection,) = self.take()
        self.assertEqual(a.way.descriptors, [connection.fileno()])
        self.assertNotEqual(connection.fileno(), -1)
        a.received(Report(1, 1, 0, 0, 1))
        self.assertEqual(connection.fileno(), -1)

    def test_died(self) -> None:
        """What one had not taken when it died is another's."""
        a, *_ = self.start()
        (connection,) = self.take()
        a.die()
        self.assertNotEqual(connection.fileno(), -1)
        self.assertEqual(self.handed()[1:], [1, 0])
        self.assertEqual(self.each()[1].way.descriptors, [connection.fileno()])

    def test_door(self) -> None:
        """It is served as what it came in by says, also by another worker."""
        a, *_ = self.start()
        self.workers.take(self.connection(), "192.0.2.7", "back")
        self.assertEqual(a.way.told[-1], Take(socket.AF_UNIX, "back"))
        a.die()
        self.assertEqual(self.each()[1].way.told[-1], Take(socket.AF_UNIX, "back"))

    def test_wait(self) -> None:
        """While there is no worker they wait."""
        for worker in self.start():
            worker.die()
        self.take(2)
        self.clock.advance(0.1)
        self.each()[1].received(Ready(0))
        self.assertEqual(self.handed(), [0, 2, 0])

    def test_full(self) -> None:
        """Nobody has room: who takes it all the same says so to the peer."""
        for worker in self.start():
            worker.received(Report(0, 2, 2, 2, 1))
        self.take()
        self.assertEqual(self.handed(), [0, 0, 0])
        self.clock.advance(FULL)
        self.assertEqual(sum(self.handed()), 1)

    def test_room(self) -> None:
        """Unless the end of an association was yet to be told."""
        for worker in self.start():
            worker.received(Report(0, 2, 2, 2, 1))
        self.take()
        self.each()[2].received(Report(0, 1, 1, 2, 1))
        self.clock.advance(FULL)
        self.assertEqual(self.handed(), [0, 0, 1])

    def test_tooMany(self) -> None:
        """Beyond the limit they are closed."""
        self.start()
        taken = self.take(self.maxConnections + 2)
        self.assertEqual(sum(self.handed()), self.maxConnections)
        self.assertEqual([c.fileno() for c in taken[-2:]], [-1, -1])
        self.assertEqual(self.metrics.refusedConnections, 2)
        (error,) = self.errors()
        self.assertEqual(error, "connection from 192.0.2.7 closed: 40 are open")


class HostTests(WorkersTestCase):
    """
    One host may have two associations and four connections, of all workers
    together.
    """

    perHost = HostLimits(2, 4)

    def told(self) -> list[bool]:
        """Of each connection that was handed over: whether it is one too many."""
        return [
            message.isTooMany
            for worker in self.each()
            if worker.pid
            for message in worker.way.told
            if isinstance(message, Take)
        ]

    def test_rejected(self) -> None:
        """Those beyond are handed over to be rejected, after a moment."""
        self.start()
        self.take(3)
        self.assertEqual(self.told(), [False, False])
        self.clock.advance(FULL)
        self.assertEqual(sorted(self.told()), [False, False, True])

    def test_others(self) -> None:
        """Other hosts do not even wait."""
        self.start()
        self.take(4)
        self.take(2, "192.0.2.8")
        self.assertEqual(self.told(), [False] * 4)

    def test_ended(self) -> None:
        """One whose end is told meanwhile makes room."""
        a, b, _ = self.start()
        self.take(3)
        a.received(Report(1, 1, 1, 1, 1, {"192.0.2.7": 1}))
        b.received(Report(1, 0, 0, 1, 1, {"192.0.2.7": 0}))
        self.clock.advance(FULL)
        self.assertEqual(self.told(), [False] * 3)
        self.take()
        self.clock.advance(FULL)
        self.assertEqual(sorted(self.told()), [False] * 3 + [True])

    def test_closed(self) -> None:
        """Beyond the limit of connections they are closed; the log has one line."""
        self.start()
        taken = self.take(7)
        self.assertEqual([c.fileno() for c in taken[4:]], [-1] * 3)
        self.assertNotIn(-1, [c.fileno() for c in taken[:4]])
        self.assertEqual(self.metrics.refusedConnections, 3)
        (error,) = self.errors()
        self.assertEqual(error, "connection from 192.0.2.7 closed: its host has 4 open")
        self.clock.advance(60)
        self.take()
        self.assertIn("open (3 since the last such line)", self.errors()[-1])

    def test_died(self) -> None:
        """Those of a worker that died are none any more."""
        a, *_ = self.start()
        self.take(2)
        a.received(Report(1, 1, 1, 1, 1, {"192.0.2.7": 1}))
        a.die()
        self.take()
        self.assertEqual(self.handed(), [0, 1, 1])
        self.assertEqual(self.told(), [False, False])

    def test_notTaken(self) -> None:
        """
        One that never came to be counts no more: its peer had gone before it was
        taken.
        """
        a, *_ = self.start()
        self.take()
        a.received(Report(1, 0, 0, 0, 1))
        self.take(2)
        self.assertEqual(self.told(), [False] * 3)


class DescriptorTests(WorkersTestCase):
    """A worker gets no connection that it has no descriptor for."""

    connectionsEach = 2

    def test_noRoom(self) -> None:
        """Those beyond wait a moment; then they are closed, and counted."""
        _, b, _ = self.start()
        taken = self.take(7)
        self.assertEqual(self.handed(), [2, 2, 2])
        self.assertNotEqual(taken[-1].fileno(), -1)
        self.clock.advance(FULL)
        self.assertEqual(taken[-1].fileno(), -1)
        self.assertEqual(self.metrics.refusedConnections, 1)
        self.assertIn("closed: 6 are open", self.errors()[-1])
        b.received(Report(2, 1, 0, 0, 0))
        self.take()
        self.assertEqual(self.handed(), [2, 3, 2])

    def test_oneDied(self) -> None:
        """The others do not get more than they can take."""
        _, b, _ = self.start()
        self.take(6)
        b.die()
        self.clock.advance(0.05)
        self.assertEqual(self.handed(), [2, 0, 2])


class AskingTests(WorkersTestCase):
    """What they have counted."""

    def answer(self, worker: Any, value: Any) -> None:
        """It answers what it was asked last."""
        asked = [m for m in worker.way.told if isinstance(m, Ask)][-1]
        worker.received(Answer(asked.serial, value))

    def test_all(self) -> None:
        """All are asked at once."""
        workers = self.start()
        refreshed = self.workers.refresh("counters")
        for number, worker in enumerate(workers, 1):
            self.assertNoResult(refreshed)
            self.answer(worker, number)
        self.successResultOf(refreshed)
        self.assertEqual(self.workers.said("counters"), [1, 2, 3])
        self.assertEqual(self.workers.said("rates"), [])

    def test_silent(self) -> None:
        """One that does not answer is left at what it said last."""
        a, b, c = self.start()
        self.workers.refresh("counters")
        for worker in (a, b, c):
            self.answer(worker, 5)
        refreshed = self.workers.refresh("counters")
        self.answer(a, 6)
        self.answer(b, 7)
        self.clock.advance(PATIENCE)
        self.successResultOf(refreshed)
        self.assertEqual(self.workers.said("counters"), [6, 7, 5])
        self.assertIn("worker 3 has not answered within 1 s", self.errors()[0])
        answers = [state.answers for state in self.workers.states()]
        self.assertEqual(answers, [True, True, False])

    def test_dies(self) -> None:
        """What one has counted is not lost with it."""
        a, b, c = self.start()
        self.workers.refresh("counters")
        for worker in (a, b, c):
            self.answer(worker, 5)
        refreshed = self.workers.refresh("counters")
        self.answer(b, 5)
        self.answer(c, 5)
        a.die()
        self.successResultOf(refreshed)
        self.assertEqual(sum(self.workers.said("counters")), 15)
        self.clock.advance(0.1)
        (new, *_) = self.each()
        new.received(Ready(0))
        self.workers.refresh("counters")
        self.answer(new, 1)
        self.assertEqual(sum(self.workers.said("counters")), 16)
        new.die()
        self.assertEqual(sum(self.workers.said("counters")), 16)

    def test_numbers(self) -> None:
        """Associations of all."""
        a, b, _ = self.start()
        a.received(Report(0, 4, 3, 9, 1))
        b.received(Report(0, 1, 1, 2, 1))
        self.assertEqual((self.workers.live, self.workers.accepted), (4, 11))

    def test_hangs(self) -> None:
        """Long silence is an error, once; its end is told, too."""
        workers = self.start()
        for _ in range(round(2 * SILENT / PING)):
            self.clock.advance(PING)
            for worker in workers[:2]:
                self.answer(worker, None)
        (error,) = self.errors()
        self.assertIn(f"worker 3, process {workers[2].pid}, has not answered", error)
        self.answer(workers[2], None)
        self.assertIn("worker 3 answers again", self.errors()[-1])

    def test_noted(self) -> None:
        """Warnings are passed on."""
        a, *_ = self.start()
        a.received(Noted(1.5, "warn", "x"))
        self.assertEqual(self.notes, [Noted(1.5, "warn", "x")])

    def test_child(self) -> None:
        """A child of one that died may have its pipes: nothing waits for it."""
        a, *_ = self.start()
        a.hasChild = True
        a.outReceived(b"one\ntw")
        a.die()
        self.assertIn("ended: SIGKILL", self.errors()[0])
        self.clock.advance(0.5)
        self.assertIsNot(self.each()[0], a)
        a.outReceived(b"o")
        self.clock.advance(0.5)
        self.assertEqual(self.lines, [b"one\n", b"two\n"])

    def test_lines(self) -> None:
        """Lines of the log are whole, also the last one."""
        a, *_ = self.start()
        a.outReceived(b"one\ntw")
        a.errReceived(b"Trace\n")
        a.die()
        self.assertEqual(self.lines, [b"one\n", b"Trace\n", b"tw\n"])


class StopTests(WorkersTestCase):
    """Their end."""

    def test_order(self) -> None:
        """All are told at once; done when none is left."""
        workers = self.start()
        self.workers.finish("the server stops")
        gone = self.workers.whenEmpty()
        for worker in workers:
            self.assertEqual(worker.way.told[-1], Stop("the server stops"))
            self.assertNoResult(gone)
            worker.die(None)
        self.successResultOf(gone)
        self.assertEqual(self.errors(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_killed(self) -> None:
        """One that does not end in time is killed."""
        workers = self.start()
        self.workers.finish("the server stops")
        workers[0].die(None)
        workers[1].die(None)
        self.clock.advance(LAST_PATIENCE)
        self.assertFalse(workers[2].killed)
        self.clock.advance(LAST_PATIENCE)
        self.assertEqual([worker.killed for worker in workers], [False, False, True])
        workers[2].die()
        self.successResultOf(self.workers.whenEmpty())

    def test_whileAway(self) -> None:
        """One that would be started again is not."""
        workers = self.start()
        workers[0].die()
        self.workers.finish("the server stops")
        for worker in workers[1:]:
            worker.die(None)
        self.successResultOf(self.workers.whenEmpty())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_notStarted(self) -> None:
        """Before the start there is nothing to end."""
        self.workers.finish("the server stops")
        self.successResultOf(self.workers.whenEmpty())
        self.assertNoResult(self.workers.start())
        self.assertEqual(self.each(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiting(self) -> None:
        """Connections that wait are closed."""
        for worker in self.start():
            worker.die()
        (connection,) = self.take()
        self.workers.finish("the server stops")
        self.assertEqual(connection.fileno(), -1)
