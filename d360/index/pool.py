"""
Connections to PostgreSQL that heal: one that is lost is thrown away and
replaced when it is next needed, and while the server is away callers are told
so within seconds.

txpostgres does the input and output of one connection. What it leaves to us:
its pool keeps dead connections; an idle connection that is lost raises into
the reactor; one that is found to be lost while a statement is sent is closed,
but stays in the reactor; a query that is cancelled opens a blocking connection,
so that none is cancelled here (C{statement_timeout} ends one that runs too
long, and the connection is dropped if even that is not heard of); one that the
server ends is said to be cancelled by the caller; libpq resolves host names in
the calling thread, so that they are resolved before it sees them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from txpostgres import txpostgres

from d360.asynchronous import asynchronous
from d360.errors import DatabaseError, DatabaseUnavailable
from d360.index.sql import Statement
from d360.logs import Logger

#: Seconds that a caller waits for a connection while there is none at all.
PATIENCE = 5.0

#: Seconds that the server may spend on one statement.
STATEMENT_TIMEOUT = 60.0

#: Seconds that the network may add to that.
_GRACE = 10.0

_FIRST_DELAY, _LAST_DELAY = 0.05, 1.0

#: Serialization failure and deadlock: nothing is wrong with the statement.
_TRANSIENT = frozenset({"40001", "40P01"})

#: How often such a statement is tried, and seconds before the second time;
#: doubled each time.
_ATTEMPTS, _REST = 5, 0.02

#: A server that has become read-only.
_READ_ONLY = "25006"


class StatementRefused(DatabaseError):
    """
    The server refused a statement. The message names the statement and the
    SQLSTATE only: the server's own text may quote patients' data.

    @ivar code: the SQLSTATE.
    """

    def __init__(self, name: str, code: str) -> None:
        super().__init__(f"the database refused {name!r}: SQLSTATE {code}")
        self.code = code


def isAway(error: Exception) -> bool:
    """Whether an error says that the connection is of no more use."""
    code: str | None = getattr(error, "pgcode", None)
    if not isinstance(error, psycopg2.Error) or code is None:
        return True
    # Connection exceptions; shutdowns and crashes of the server, but not a
    # statement that was cancelled.
    isOver = code[:2] == "08" or (code[:2] == "57" and code != "57014")
    return isOver or code == _READ_ONLY


class _Cursor(txpostgres.Cursor):  # type: ignore[misc]
    """One that tells what the server says of a statement that it has ended."""

    def _handleCancellation(self, failure: Failure) -> Failure:
        return failure


class _Connection(txpostgres.Connection):  # type: ignore[misc]
    """One that reports its end, also while it is idle."""

    cursorFactory = _Cursor

    def __init__(self, reactor: Any, ended: Callable[[_Connection], None]) -> None:
        super().__init__(reactor)
        self._ended = ended

    def runQuery(self, *arguments: Any) -> Deferred[list[tuple[Any, ...]]]:
        # Where sending finds the connection lost, libpq closes the socket at
        # once, and its number goes to whatever is opened next, perhaps an
        # association: of that the reactor would hear nothing if it still had
        # the number as this one's. It watches again when the statement is done;
        # but not what could not be sent: no SQLSTATE, so it is discarded.
        self.reactor.removeReader(self)
        result: Deferred[list[tuple[Any, ...]]] = super().runQuery(*arguments)
        return result

    def doRead(self) -> None:
        try:
            super().doRead()
        except (psycopg2.Error, ValueError):
            # The latter where libpq has closed the socket and psycopg2 has
            # not noticed yet: a descriptor of -1 cannot be watched.
            self._ended(self)

    def connectionLost(self, reason: Failure) -> None:
        if self.pollable() is not None:
            super().connectionLost(reason)
            self._ended(self)

    def close(self) -> None:
        if self.pollable() is not None:
            super().close()


def _lost(error: Exception, mayChange: bool) -> DatabaseUnavailable:
    """
    @param mayChange: the statement was one that changes something.
    """
    if getattr(error, "pgcode", None) == _READ_ONLY:
        return DatabaseUnavailable("the database is read-only")
    return DatabaseUnavailable(
        "the connection to the database was lost", uncertain=mayChange
    )


class ConnectionPool:
    """
    Up to a number of connections, opened as they are needed and kept.

    @param dsn: a C{postgresql://} URL, or libpq's C{key=value} form; or what
        returns it when the first connection is opened.
    @param size: connections at most.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        dsn: str | Callable[[], str],
        size: int = 4,
        patience: float = PATIENCE,
        statementTimeout: float = STATEMENT_TIMEOUT,
    ) -> None:
        self._reactor = reactor
        self._dsn = dsn if callable(dsn) else lambda: dsn
        self._size = size
        self._patience = patience
        self._statementTimeout = statementTimeout
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[_Connection] = set()
        self._waiting: deque[Deferred[_Connection]] = deque()
        self._retry: Any = None
        self._delay = _FIRST_DELAY
        self._closed = False

    def query(
        self,
        name: str,
        statement: Statement,
        repeatable: bool = True,
        isWanted: Callable[[], bool] = lambda: True,
    ) -> Deferred[list[tuple[Any, ...]]]:
        """
        Run one statement, which is a transaction of its own. One that fails for
        what others do at the same time is tried again.

        @param name: for the log.
        @param repeatable: it only reads, so that it is tried once more when
            the connection turns out to be lost.
        @param isWanted: asked when its turn has come; if not, it is not run
            and has no rows.
        @return: its rows.
        @raise DatabaseUnavailable: C{uncertain} only if it is not repeatable
            and was sent.
        @raise StatementRefused: the server's answer is an error.
        """
        # What cancels it ends the wait, never the statement.
        result: Deferred[list[tuple[Any, ...]]] = Deferred()
        done = self._query(name, statement, repeatable, isWanted)
        done.addBoth(result.callback)
        return result

    @asynchronous
    async def _query(
        self,
        name: str,
        statement: Statement,
        repeatable: bool,
        isWanted: Callable[[], bool],
    ) -> list[tuple[Any, ...]]:
        attempt = 1
        while True:
            try:
                return await self._run(name, statement, repeatable, isWanted)
            except StatementRefused as error:
                if error.code not in _TRANSIENT or attempt == _ATTEMPTS:
                    raise
            await deferLater(self._reactor, _REST * 2 ** (attempt - 1))
            attempt += 1

    async def _run(
        self,
        name: str,
        statement: Statement,
        repeatable: bool,
        isWanted: Callable[[], bool],
    ) -> list[tuple[Any, ...]]:
        attempts = 2 if repeatable else 1
        while True:
            connection = await self._acquire()
            if not isWanted():
                self._release(connection)
                return []
            attempts -= 1
            began = self._reactor.seconds()
            guard = self._reactor.callLater(
                self._statementTimeout + _GRACE, connection.close
            )
            try:
                rows: list[tuple[Any, ...]] = await connection.runQuery(
                    statement.text, statement.parameters
                )
            except (psycopg2.Error, OSError, ConnectionClosed) as error:
                if not isAway(error):
                    self._release(connection)
                    raise self._refusal(name, error) from None
                self._discard(connection)
                self.log.debug("{name}: connection lost", name=name)
                if not attempts:
                    raise _lost(error, not repeatable) from None
            except BaseException:
                self._discard(connection)
                raise
            else:
                self._release(connection)
                self.log.debug(
                    "{name}: {rows} rows in {milliseconds:.1f} ms",
                    name=name,
                    rows=len(rows),
                    milliseconds=(self._reactor.seconds() - began) * 1000,
                )
                return rows
            finally:
                if guard.active():
                    guard.cancel()

    @property
    def isAway(self) -> bool:
        """The last attempt to connect failed, and there is no connection."""
        return not self._open and self._retry is not None

    @property
    def opened(self) -> int:
        """How many connections there are."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many of them nobody uses."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many callers wait for one."""
        return len(self._waiting)

    def close(self) -> None:
        """Drop all connections; who waits is told. A plain call."""
        self._closed = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        for connection in [*self._open, *self._opening]:
            connection.close()
        self._failWaiting("the server is stopping")

    def _refusal(self, name: str, error: Exception) -> DatabaseError:
        code: str = getattr(error, "pgcode", "") or ""
        if code[:2] == "53":
            return DatabaseUnavailable(
                f"the database has no room or memory left: SQLSTATE {code}"
            )
        if code in ("57014", "55P03"):
            # The statement, or a lock, took longer than it may.
            return DatabaseUnavailable(f"the database is too slow: SQLSTATE {code}")
        return StatementRefused(name, code)

    # --- who waits ----------------------------------------------------------

    def _acquire(self) -> Deferred[_Connection]:
        waiter: Deferred[_Connection] = Deferred()
        if self._closed:
            waiter.errback(DatabaseUnavailable("the server is stopping"))
        elif self._idle:
            waiter.callback(self._idle.pop())
        else:
            self._waiting.append(waiter)
            timer = self._reactor.callLater(self._patience, self._expired, waiter)
            waiter.addBoth(self._waited, timer)
            self._grow()
        return waiter

    def _waited(self, result: Any, timer: Any) -> Any:
        if timer.active():
            timer.cancel()
        return result

    def _expired(self, waiter: Deferred[_Connection]) -> None:
        """
        Its time is over; unless connections are only busy, which statements'
        own time bounds.
        """
        if self._open:
            timer = self._reactor.callLater(self._patience, self._expired, waiter)
            waiter.addBoth(self._waited, timer)
        else:
            self._waiting.remove(waiter)
            waiter.errback(DatabaseUnavailable("the database does not answer"))

    def _failWaiting(self, why: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            waiter.errback(DatabaseUnavailable(why))

    # --- connections ----------------------------------------------------------

    def _release(self, connection: _Connection) -> None:
        if connection.closed or connection not in self._open:
            self._discard(connection)
        elif self._waiting:
            self._waiting.popleft().callback(connection)
        else:
            self._idle.append(connection)

    def _discard(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()
        self._grow()

    def _ended(self, connection: _Connection) -> None:
        """It was lost; one in use is discarded by its user, who hears of it."""
        if connection in self._idle:
            self._discard(connection)

    def _grow(self) -> None:
        """Open another connection, if one is missed and may be opened now."""
        begun = len(self._opening)
        if (
            len(self._waiting) > begun
            and len(self._open) + begun < self._size
            and not self._closed
            and not (self._retry is not None and self._retry.active())
        ):
            self._connect().addErrback(
                lambda failure: self.log.failure("opening a connection", failure)
            )

    @asynchronous
    async def _connect(self) -> None:
        connection = _Connection(self._reactor, self._ended)
        guard = self._reactor.callLater(self._patience, connection.close)
        self._opening.add(connection)
        try:
            dsn = await self._resolved()
            if not guard.active():
                raise TimeoutError
            await connection.connect(dsn)
            await connection.runQuery(
                "SELECT set_config('statement_timeout', %s, false),"
                " set_config('jit', 'off', false)",
                (f"{round(self._statementTimeout * 1000)}ms",),
            )
        except (psycopg2.Error, OSError, ConnectionClosed) as error:
            self._opening.discard(connection)
            connection.close()
            self._connectingFailed(error)
        else:
            self._opening.discard(connection)
            if self._closed:
                connection.close()
                return
            self._delay = _FIRST_DELAY
            self._open.add(connection)
            self._release(connection)
            self._grow()
        finally:
            if guard.active():
                guard.cancel()

    def _connectingFailed(self, error: Exception) -> None:
        self.log.debug(
            "no connection to the database: {kind}", kind=type(error).__name__
        )
        if self._closed or (self._retry is not None and self._retry.active()):
            return
        self._retry = self._reactor.callLater(self._delay, self._tryAgain)
        self._delay = min(self._delay * 2, _LAST_DELAY)

    def _tryAgain(self) -> None:
        self._retry = None
        self._grow()

    @asynchronous
    async def _resolved(self) -> str:
        """The DSN with the addresses of its hosts, looked up in a thread."""
        dsn = self._dsn()
        parts: dict[str, str] = parse_dsn(dsn)
        hosts = parts.get("host", "").split(",")
        if "hostaddr" in parts or len(hosts) > 1 or not isName(hosts[0]):
            return str(make_dsn(dsn, **SESSION))
        found = await deferToThreadPool(
            self._reactor,
            self._reactor.getThreadPool(),
            socket.getaddrinfo,
            hosts[0],
            None,
            0,
            socket.SOCK_STREAM,
        )
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        parts["host"] = ",".join(hosts * len(addresses))
        parts["hostaddr"] = ",".join(addresses)
        return str(make_dsn(**{**parts, **SESSION}))


#: How each connection is opened. A peer that vanished without a word is
#: noticed by TCP within half a minute.
SESSION = {
    "application_name": "d360",
    "client_encoding": "UTF8",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def isName(host: str) -> bool:
    """Whether a host is one to look up: no address and no socket's folder."""
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
