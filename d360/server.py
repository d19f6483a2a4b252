"""
The server's life: what is opened before it serves, in which order, and how it
ends. What cannot be opened is a L{StartupError} with the one line that says
what to do.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, globalLogPublisher

from d360 import __version__
from d360.asynchronous import asynchronous
from d360.errors import ArchiveError, DatabaseError, StartupError
from d360.listening import listenTCP
from d360.logs import ContextLogger
from d360.openfiles import raiseOpenFiles

_log = ContextLogger("d360.server", "server")

#: Objects made, beyond those that are gone, before cycles are looked for.
GARBAGE_THRESHOLD = 10000

#: Connections that may wait to be accepted.
BACKLOG = 512

#: Seconds in which an A-ABORT can leave before its connection is closed.
LAST_WORDS = 1.0

#: The signals that end the server in order.
_ENDING = (signal.SIGTERM, signal.SIGINT)


def _endNow(number: int, frame: object) -> None:
    """
    Before the reactor runs nothing is under way that would have to end: the
    start is given up, wherever it is.
    """
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def _remedy(error: OSError) -> str:
    """What to do about something that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on its disk"
    return "give the account that runs D360 the right to"


class DataDirectory:
    """
    The folder that everything is kept in. One server uses it at a time: two
    would take the embedded database away from each other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def open(self) -> None:
        """
        Make it if it is not there, see that it can be written, and lock it.

        @raise StartupError: it cannot be used.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
            self._lock = os.open(self.path / "d360.lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StartupError(
                f"cannot write the data directory {self.path}: {error.strerror}; "
                f"{_remedy(error)}, or choose another by --data-directory"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise StartupError(
                f"another D360 uses the data directory {self.path}; stop it, or "
                "choose another by --data-directory"
            ) from None

    def close(self) -> None:
        """Let others use it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@frozen
class Listener:
    """
    A port to listen on.

    @ivar what: for people, such as C{"DICOM"}.
    @ivar option: the option that chooses another port.
    @ivar listen: makes the port, of what L{listenTCP} takes.
    """

    what: str
    option: str
    address: str
    port: int
    factory: Any
    listen: Callable[..., IListeningPort] = listenTCP


class Ports:
    """
    The ports that are listened on: taken early, while the server may have the
    privilege, and served when all else is ready. Until then connections wait.
    """

    def __init__(self, reactor: Any, listeners: list[Listener]) -> None:
        self._reactor = reactor
        self._listeners = listeners
        self._ports: list[IListeningPort] = []

    def take(self) -> None:
        """
        Bind them.

        @raise StartupError: one cannot be.
        """
        for listener in self._listeners:
            try:
                port = listener.listen(
                    self._reactor,
                    listener.port,
                    listener.factory,
                    BACKLOG,
                    listener.address,
                )
            except CannotListenError as error:
                raise StartupError(_whyNot(listener, error)) from None
            port.stopReading()  # type: ignore[attr-defined]
            self._ports.append(port)

    def serve(self) -> list[str]:
        """Begin to accept connections; say where."""
        for port in self._ports:
            port.startReading()  # type: ignore[attr-defined]
        where = []
        for listener, port in zip(self._listeners, self._ports, strict=True):
            host: Any = port.getHost()
            where.append(f"{listener.what} on {host.host}:{host.port}")
        return where

    @asynchronous
    async def close(self) -> None:
        """Accept no more."""
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)


def _whyNot(listener: Listener, error: CannotListenError) -> str:
    where = f"{listener.what} on {listener.address}:{listener.port}"
    cause = getattr(error.socketError, "errno", None)
    if isinstance(error.socketError, PermissionError):
        return (
            f"cannot listen for {where}: a port below 1024 needs a privilege; "
            f"choose another by {listener.option}, or see docs/administration.rst"
        )
    if cause == errno.EADDRINUSE:
        return (
            f"cannot listen for {where}: the port is in use; stop what uses it, "
            f"or choose another by {listener.option}"
        )
    return (
        f"cannot listen for {where}: {error.socketError}; choose an address of "
        "this machine"
    )


class IDatabase(Protocol):
    """The database, as the server opens and closes it."""

    def open(self) -> None:
        """
        Start it or find it, and bring its schema up to date. Blocks; called
        before the reactor runs.

        @raise StartupError: it cannot be used.
        """

    def watch(self) -> None:
        """The reactor runs: connect, and keep it going from now on."""

    def close(self) -> Deferred[None]:
        """Disconnect from it, and stop it if it is ours."""


class ICertificateFiles(Protocol):
    """The files of the certificates, as the server opens and closes them."""

    def load(self) -> None:
        """
        Read them. Blocks; called while the server may have the privilege.

        @raise StartupError: they cannot be used.
        """

    def watch(self) -> bool:
        """The reactor runs: see to new ones from now on, if there are any."""

    def reload(self) -> Deferred[None]:
        """See to them now."""

    def stop(self) -> Deferred[None]:
        """End it."""


class IThreads(Protocol):
    """Threads that the server starts and ends."""

    def start(self) -> None:
        """Begin with what was asked for."""

    def stop(self) -> None:
        """End, after all that was asked for."""


@frozen
class Parts:
    """
    What a server is made of.

    @ivar prepareArchive: makes the archive's folders; blocks.
    @ivar recover: resolves what an earlier run has left; fires with how many
        files that were.
    @ivar finish: has the associations end after their operations.
    @ivar closeUnassociated: closes the connections that have no association.
    @ivar whenEmpty: fires when no connection is open.
    @ivar abortAll: aborts the associations that are left.
    @ivar stopWork: ends what goes on in the background.
    @ivar ready: for the log: what is served, with which AE title.
    """

    directory: DataDirectory
    makeLogObserver: Callable[[], ILogObserver]
    certificates: ICertificateFiles
    ports: Ports
    database: IDatabase
    threads: IThreads
    prepareArchive: Callable[[], None]
    recover: Callable[[], Deferred[int]]
    finish: Callable[[str], None]
    closeUnassociated: Callable[[str], None]
    whenEmpty: Callable[[], Deferred[None]]
    abortAll: Callable[[str], None]
    stopWork: Callable[[], Deferred[None]]
    shutdownTimeout: float
    ready: str


class Server(Service):
    """
    A D360 server under twistd.

    Ports are taken in C{privilegedStartService}; all that may fail for want
    of something is done in C{startService}, before the reactor runs, so that
    it can end the process with an error. Then, with the reactor, what an
    earlier run has left is resolved, and only then is anything served.
    """

    def __init__(self, reactor: Any, parts: Parts) -> None:
        self.setName("d360")
        self._reactor = reactor
        self._parts = parts
        self._observer: ILogObserver | None = None
        self._opening: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """See L{Service.privilegedStartService}."""
        for number in _ENDING:
            signal.signal(number, _endNow)
        raiseOpenFiles()
        self._parts.certificates.load()
        self._parts.ports.take()

    def startService(self) -> None:
        """See L{Service.startService}."""
        super().startService()
        try:
            self._start()
        except SystemExit:
            _log.info("D360 was stopped before it was ready")
            raise

    def _start(self) -> None:
        parts = self._parts
        parts.directory.open()
        try:
            self._observer = parts.makeLogObserver()
            parts.prepareArchive()
        except OSError as error:
            raise StartupError(
                f"cannot write below the data directory {parts.directory.path}: "
                f"{error.filename}: {error.strerror}; {_remedy(error)}"
            ) from None
        globalLogPublisher.addObserver(self._observer)
        _log.info("D360 {version} starts", version=__version__)
        parts.database.open()
        parts.threads.start()
        self._reactor.callWhenRunning(self._open)

    def _open(self) -> None:
        # twistd would end with the signal's status after a stop in order,
        # which a supervisor takes for a crash.
        for number in _ENDING:
            signal.signal(number, self._stopped)
        if self._parts.certificates.watch():
            # Where there are none, a terminal that is closed ends the server.
            signal.signal(signal.SIGHUP, self._hungUp)
        self._parts.database.watch()
        self._opening = self._recoverAndServe()
        self._opening.addErrback(self._cannotOpen)

    @asynchronous
    async def _recoverAndServe(self) -> None:
        while True:
            try:
                resolved = await self._parts.recover()
                break
            except (ArchiveError, DatabaseError) as error:
                _log.error("cannot begin yet: {why}", why=str(error))
                await deferLater(self._reactor, 1.0)
        if resolved:
            _log.warn(
                "{count} files that an earlier run had left were resolved",
                count=resolved,
            )
        settleMemory()
        where = ", ".join(self._parts.ports.serve())
        _log.info("{ready} is ready: {where}", ready=self._parts.ready, where=where)

    def _stopped(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._stopOnce, signal.Signals(number).name)

    def _stopOnce(self, name: str) -> None:
        if self.running:
            _log.info("{name} received", name=name)
            self._reactor.stop()

    def _hungUp(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        if self.running:
            _log.info("SIGHUP received: certificates are read again")
            self._parts.certificates.reload().addErrback(
                lambda failure: _log.failure("cannot read certificates", failure)
            )

    def _cannotOpen(self, failure: Any) -> None:
        if self.running:
            _log.failure("cannot begin", failure)
            self._reactor.stop()

    @asynchronous
    async def stopService(self) -> None:
        """
        See L{Service.stopService}: no more connections, then the operations
        under way, then everything else.
        """
        super().stopService()
        parts = self._parts
        _log.info("D360 stops")
        if self._opening is not None:
            self._opening.cancel()
        await parts.ports.close()
        await endConnections(
            self._reactor, parts, parts.shutdownTimeout, "the server stops"
        )
        await parts.stopWork()
        await parts.certificates.stop()
        await parts.database.close()
        parts.threads.stop()
        parts.directory.close()
        _log.info("D360 has stopped")
        if self._observer is not None:
            globalLogPublisher.removeObserver(self._observer)


class IConnections(Protocol):
    """What is to be ended when a process stops; see L{Parts}."""

    @property
    def finish(self) -> Callable[[str], None]:
        """Has the associations end after their operations."""

    @property
    def closeUnassociated(self) -> Callable[[str], None]:
        """Closes the connections that have no association."""

    @property
    def whenEmpty(self) -> Callable[[], Deferred[None]]:
        """Fires when no connection is open."""

    @property
    def abortAll(self) -> Callable[[str], None]:
        """Aborts the associations that are left."""


@asynchronous
async def endConnections(
    clock: Any, connections: IConnections, patience: float, why: str
) -> None:
    """
    Those without an operation at once, the others when they have ended.

    @param patience: seconds that operations may take; then they are aborted.
    """
    deadline = clock.seconds() + patience
    connections.closeUnassociated(why)
    connections.finish(why)
    while clock.seconds() < deadline:
        try:
            await connections.whenEmpty().addTimeout(1.0, clock)
            return
        except TimeoutError:
            # A peer had its time to close a connection that is aborted.
            connections.closeUnassociated(why)
    _log.warn(
        "operations have not ended within {seconds} s; they are aborted",
        seconds=patience,
    )
    connections.abortAll(why)
    with suppress(TimeoutError):
        await connections.whenEmpty().addTimeout(LAST_WORDS, clock)
    connections.closeUnassociated(why)


def settleMemory() -> None:
    """Once a process is complete: spare what it is made of further looks."""
    # What has been made up to now stays; looking through it again and again is
    # what a collection mostly does.
    gc.collect()
    gc.freeze()
    # A stored instance makes some hundred objects that live as long as it is
    # under way; to look for cycles after each takes a tenth of the time that
    # the process computes.
    gc.set_threshold(GARBAGE_THRESHOLD, 5, 50)
