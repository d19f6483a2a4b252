"""Tests for L{d360.server}: what is opened and closed, and in which order."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from d360 import server as module
from d360.errors import DatabaseUnavailable, StartupError
from d360.server import DataDirectory, Listener, Parts, Ports, Server


class Reactor(Clock):
    """What L{Server} asks of a reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.whenRunning: list[Callable[[], None]] = []
        self.stops = 0

    def callWhenRunning(self, function: Callable[[], None]) -> None:
        self.whenRunning.append(function)

    def callFromThread(self, function: Callable[..., None], *arguments: Any) -> None:
        function(*arguments)

    def stop(self) -> None:
        self.stops += 1


class World:
    """
    All parts of a server, which write down what is asked of them.

    @ivar raises: what a step raises, by its name.
    @ivar fires: what the Deferred of a step is, by its name.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.raises: dict[str, Exception] = {}
        self.fires: dict[str, list[Deferred[Any]]] = {}
        self.path = Path("data")

    def step(self, name: str, result: Any = None) -> Callable[..., Any]:
        """A step that is done at once."""

        def do(*arguments: Any) -> Any:
            self.calls.append(name)
            if name in self.raises:
                raise self.raises[name]
            return result

        return do

    def later(self, name: str, result: Any = None) -> Callable[..., Deferred[Any]]:
        """A step that returns a Deferred."""

        def do(*arguments: Any) -> Deferred[Any]:
            self.calls.append(name)
            waiting = self.fires.get(name)
            return waiting.pop(0) if waiting else succeed(result)

        return do

    def part(self, prefix: str, *steps: str, **later: Any) -> Any:
        """An object with steps as its methods."""
        methods = {name: staticmethod(self.step(f"{prefix}.{name}")) for name in steps}
        methods |= {
            name: staticmethod(self.later(f"{prefix}.{name}", result))
            for name, result in later.items()
        }
        return type(prefix, (), methods)()


class ServerTests(SynchronousTestCase):
    """The life of a L{Server}."""

    def setUp(self) -> None:
        self.world = world = World()
        self.events: list[Any] = []
        self.signals: dict[int, Callable[[int, Any], None]] = {}
        self.patch(module.signal, "signal", self.signals.__setitem__)
        self.patch(module.gc, "collect", lambda: None)
        self.patch(module.gc, "freeze", lambda: None)
        self.patch(module, "raiseOpenFiles", lambda: None)
        self.reactor = Reactor()
        directory = world.part("directory", "open", "close")
        directory.path = Path("/srv/d360")
        ports = world.part("ports", "take", close=None)
        ports.serve = world.step("ports.serve", ["DICOM on 127.0.0.1:104"])
        self.parts = Parts(
            directory=directory,
            makeLogObserver=world.step("log", self.events.append),
            certificates=world.part(
                "certificates", "load", "watch", reload=None, stop=None
            ),
            ports=ports,
            database=world.part("database", "open", "watch", close=None),
            threads=world.part("threads", "start", "stop"),
            prepareArchive=world.step("archive"),
            recover=world.later("recover", 0),
            finish=world.step("finish"),
            closeUnassociated=world.step("closeUnassociated"),
            whenEmpty=world.later("whenEmpty"),
            abortAll=world.step("abortAll"),
            stopWork=world.later("stopWork"),
            shutdownTimeout=30.0,
            ready="D360 of a test,",
        )
        self.server = Server(self.reactor, self.parts)
        self.addCleanup(self.removeObserver)

    def removeObserver(self) -> None:
        if self.events.append in globalLogPublisher._observers:
            globalLogPublisher.removeObserver(self.events.append)

    def texts(self) -> list[str]:
        """What was logged."""
        return [e["log_format"].format(**e) for e in self.events if e.get("log_format")]

    def start(self) -> None:
        """Up to a running reactor."""
        self.server.privilegedStartService()
        self.server.startService()
        for function in self.reactor.whenRunning:
            function()

    def test_opening(self) -> None:
        """Ports first, while there may be a privilege; served when all is ready."""
        self.server.privilegedStartService()
        privileged = ["certificates.load", "ports.take"]
        self.assertEqual(self.world.calls, privileged)
        self.server.startService()
        before = [*privileged, "directory.open", "log", "archive", "database.open"]
        self.assertEqual(self.world.calls, [*before, "threads.start"])
        (running,) = self.reactor.whenRunning
        running()
        self.assertEqual(
            self.world.calls[7:],
            ["certificates.watch", "database.watch", "recover", "ports.serve"],
        )
        self.assertIn(
            "server: D360 of a test, is ready: DICOM on 127.0.0.1:104", self.texts()
        )

    def test_recovered(self) -> None:
        """Nothing is served before what an earlier run has left is resolved."""
        recovering: Deferred[int] = Deferred()
        self.world.fires["recover"] = [recovering]
        self.start()
        self.assertNotIn("ports.serve", self.world.calls)
        recovering.callback(3)
        self.assertIn("ports.serve", self.world.calls)
        self.assertTrue(any("3 files" in text for text in self.texts()))

    def test_databaseAway(self) -> None:
        """While the database is away, it tries again, second by second."""
        away = [fail(DatabaseUnavailable("no answer")) for _ in range(3)]
        self.world.fires["recover"] = list(away)
        self.start()
        for attempts in (1, 2, 3):
            self.assertEqual(self.world.calls.count("recover"), attempts)
            self.assertNotIn("ports.serve", self.world.calls)
            self.reactor.advance(1.0)
        self.assertEqual(self.world.calls.count("recover"), 4)
        self.assertIn("ports.serve", self.world.calls)
        self.assertIn("server: cannot begin yet: no answer", self.texts())
        self.assertEqual(self.reactor.stops, 0)

    def test_cannotRecover(self) -> None:
        """Any other failure ends the process, and is in the log."""
        self.world.fires["recover"] = [fail(ZeroDivisionError("of a test"))]
        self.start()
        self.assertEqual(self.reactor.stops, 1)
        self.assertNotIn("ports.serve", self.world.calls)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_hungUp(self) -> None:
        """SIGHUP has certificates read again, if there are any."""
        self.start()
        self.assertNotIn(signal.SIGHUP, self.signals)
        self.parts.certificates.watch = lambda: True
        self.start()
        self.signals[signal.SIGHUP](signal.SIGHUP, None)
        self.assertIn("certificates.reload", self.world.calls)
        self.assertTrue(any("SIGHUP" in text for text in self.texts()))

    def test_startupErrors(self) -> None:
        """What cannot be opened is a StartupError, and nothing after it is."""
        for name, calls in (
            ("certificates.load", 1),
            ("ports.take", 2),
            ("directory.open", 3),
            ("database.open", 6),
        ):
            self.world.calls.clear()
            self.world.raises = {name: StartupError("do something")}
            self.assertRaises(StartupError, self.start)
            self.assertEqual(len(self.world.calls), calls, name)
            self.assertEqual(self.world.calls[-1], name)
            self.assertEqual(self.reactor.whenRunning, [])
            self.removeObserver()

    def test_cannotWrite(self) -> None:
        """A folder below the data directory that cannot be written."""
        for name in ("log", "archive"):
            self.world.raises = {
                name: PermissionError(errno.EACCES, "Permission denied", "/srv/x")
            }
            error = self.assertRaises(StartupError, self.start)
            self.assertIn("/srv/d360: /srv/x: Permission denied", str(error))
            self.assertNotIn("database.open", self.world.calls)

    def test_endedWhileStarting(self) -> None:
        """A signal before the reactor runs ends it, in order and at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.world.calls.clear()
            self.server.privilegedStartService()

            def interrupted(number: int = number) -> None:
                self.signals[number](number, None)

            self.patch(self.parts.database, "open", interrupted)
            error = self.assertRaises(SystemExit, self.server.startService)
            self.assertEqual(0, error.code)
            self.assertEqual(signal.SIG_IGN, self.signals[number])
            self.assertEqual(
                "server: D360 was stopped before it was ready", self.texts()[-1]
            )
            self.assertNotIn("threads.start", self.world.calls)
            self.removeObserver()

    def test_closing(self) -> None:
        """No more connections, the operations, and only then the rest."""
        self.start()
        self.world.calls.clear()
        self.successResultOf(self.server.stopService())
        self.assertEqual(
            self.world.calls,
            [
                "ports.close",
                "closeUnassociated",
                "finish",
                "whenEmpty",
                "stopWork",
                "certificates.stop",
                "database.close",
                "threads.stop",
                "directory.close",
            ],
        )
        self.assertEqual(self.texts()[-1], "server: D360 has stopped")
        self.assertNotIn(self.events.append, globalLogPublisher._observers)

    def test_operationsEnd(self) -> None:
        """It waits for the operations under way."""
        self.start()
        ending: Deferred[None] = Deferred()
        # Each second it looks again.
        self.world.fires["whenEmpty"] = [Deferred(), Deferred(), ending]
        stopping = self.server.stopService()
        for _ in range(2):
            self.reactor.advance(1.0)
            self.assertNoResult(stopping)
        self.assertNotIn("database.close", self.world.calls)
        ending.callback(None)
        self.successResultOf(stopping)
        self.assertNotIn("abortAll", self.world.calls)

    def test_shutdownTimeout(self) -> None:
        """Those that have not ended in their time are aborted."""
        self.start()
        self.world.fires["whenEmpty"] = [Deferred() for _ in range(100)]
        stopping = self.server.stopService()
        for _ in range(29):
            self.reactor.advance(1.0)
        self.assertNoResult(stopping)
        self.assertNotIn("abortAll", self.world.calls)
        self.reactor.advance(1.0)
        calls = self.world.calls
        # What is written last gets its time to leave.
        self.assertEqual(["abortAll", "whenEmpty"], calls[-2:])
        self.assertNoResult(stopping)
        self.reactor.advance(1.0)
        self.successResultOf(stopping)
        self.assertIn("closeUnassociated", calls[calls.index("abortAll") :])
        self.assertLess(calls.index("abortAll"), calls.index("database.close"))
        self.assertTrue(any("within 30.0 s" in text for text in self.texts()))

    def test_stopBeforeReady(self) -> None:
        """Stopped while it still tries, it serves nothing any more."""
        self.world.fires["recover"] = [fail(DatabaseUnavailable("no answer"))]
        self.start()
        self.successResultOf(self.server.stopService())
        self.reactor.advance(10.0)
        self.assertNotIn("ports.serve", self.world.calls)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.stops, 0)

    def test_signals(self) -> None:
        """SIGTERM and SIGINT stop the reactor, in order, and once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.setUp()
            self.start()
            self.signals[number](number, None)
            self.assertEqual(self.reactor.stops, 1)
            self.assertIn(f"server: {number.name} received", self.texts())
            self.successResultOf(self.server.stopService())
            self.signals[number](number, None)
            self.assertEqual(self.reactor.stops, 1)


class Port:
    """A listening port, see L{Ports}."""

    def __init__(self, port: int, host: str) -> None:
        self.reading = True
        self.stopped = 0
        self.host, self.port = host, port or 40000

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True

    def getHost(self) -> Port:
        return self

    def stopListening(self) -> None:
        self.stopped += 1


class PortsTests(SynchronousTestCase):
    """Ports are taken early and served late."""

    def setUp(self) -> None:
        self.ports: list[Port] = []
        self.error: OSError | None = None

    def listen(
        self, reactor: Any, port: int, factory: Any, backlog: int, interface: str
    ) -> Port:
        if self.error is not None:
            raise CannotListenError(interface, port, self.error)
        self.ports.append(Port(port, interface))
        return self.ports[-1]

    def make(self) -> Ports:
        listeners = [
            Listener("DICOM", "--port", "127.0.0.1", 104, object(), self.listen),
            Listener("web", "--web-port", "127.0.0.1", 0, object(), self.listen),
        ]
        return Ports(self, listeners)

    def test_life(self) -> None:
        """Connections wait until they are served."""
        ports = self.make()
        ports.take()
        self.assertEqual([port.reading for port in self.ports], [False, False])
        self.assertEqual(
            ports.serve(), ["DICOM on 127.0.0.1:104", "web on 127.0.0.1:40000"]
        )
        self.assertEqual([port.reading for port in self.ports], [True, True])
        self.successResultOf(ports.close())
        self.successResultOf(ports.close())
        self.assertEqual([port.stopped for port in self.ports], [1, 1])

    def test_errors(self) -> None:
        """One line that says what to do."""
        for error, words in (
            (PermissionError(errno.EACCES, "denied"), "needs a privilege"),
            (OSError(errno.EADDRINUSE, "in use"), "the port is in use"),
            (OSError(errno.EADDRNOTAVAIL, "not there"), "an address of this machine"),
        ):
            self.error = error
            raised = self.assertRaises(StartupError, self.make().take)
            self.assertIn(words, str(raised))
            self.assertIn("DICOM on 127.0.0.1:104", str(raised))
            self.assertNotIn("\n", str(raised))


class DataDirectoryTests(SynchronousTestCase):
    """The folder that everything is kept in."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "below" / "data"

    def test_made(self) -> None:
        """It is made, with those above it, and nothing else is left in it."""
        directory = DataDirectory(self.path)
        directory.open()
        self.addCleanup(directory.close)
        self.assertEqual(os.listdir(self.path), ["d360.lock"])

    def test_lock(self) -> None:
        """One server at a time; the next may have it after the first."""
        first, second = DataDirectory(self.path), DataDirectory(self.path)
        first.open()
        error = self.assertRaises(StartupError, second.open)
        self.assertIn("another D360", str(error))
        first.close()
        first.close()
        third = DataDirectory(self.path)
        third.open()
        third.close()

    def test_refusedKeepsNothing(self) -> None:
        """A refused one has no file open."""
        first, second = DataDirectory(self.path), DataDirectory(self.path)
        first.open()
        self.addCleanup(first.close)
        self.assertRaises(StartupError, second.open)
        self.assertIsNone(second._lock)

    def test_notInherited(self) -> None:
        """A child that outlives the server does not keep the lock."""
        directory = DataDirectory(self.path)
        directory.open()
        self.addCleanup(directory.close)
        assert directory._lock is not None
        self.assertFalse(os.get_inheritable(directory._lock))

    def test_cannotWrite(self) -> None:
        """One line, with the reason and what to do."""
        self.path.parent.parent.mkdir()
        self.path.parent.write_text("a file")
        error = self.assertRaises(StartupError, DataDirectory(self.path).open)
        self.assertIn(f"cannot write the data directory {self.path}", str(error))
        self.assertIn("--data-directory", str(error))

    def test_full(self) -> None:
        """No right helps where there is no room."""

        def noRoom(**options: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(module.tempfile, "TemporaryFile", noRoom)
        error = self.assertRaises(StartupError, DataDirectory(self.path).open)
        self.assertIn("No space left on device; make room on its disk", str(error))


class RealPortTests(SynchronousTestCase):
    """What errno a system really gives."""

    def test_inUse(self) -> None:
        """C{EADDRINUSE} is the one that is looked for."""
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            first.listen()
            error = self.assertRaises(OSError, second.bind, first.getsockname())
        listener = Listener("DICOM", "--port", "127.0.0.1", 104, None)
        line = module._whyNot(listener, CannotListenError("127.0.0.1", 104, error))
        self.assertIn("the port is in use", line)
