"""The remote AEs in PostgreSQL, and in the memory of those who ask for them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import DatabaseError
from d360.index import sql
from d360.index.pool import ConnectionPool
from d360.interfaces import IRemoteAEs
from d360.logs import Logger
from d360.model import Permission, RemoteAE
from d360.shared import SharedNumber

#: Seconds after which they are read again, whether we have changed them or not:
#: somebody may be at work on the database, or have restored it.
MAX_AGE = 10.0


@implementer(IRemoteAEs)
class PostgreSQLRemoteAEs:
    """
    See L{IRemoteAEs}. Each call asks the database, so that a change, also
    one by another process, is seen by the next.

    @param pool: where no statement takes long: associations wait for it.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    @asynchronous
    async def get(self, aeTitle: str) -> RemoteAE | None:
        if not _canBeKept(aeTitle):
            return None
        rows = await self._pool.query("remote AE", sql.remoteAE(aeTitle))
        return _remoteAE(*rows[0]) if rows else None

    @asynchronous
    async def all(self) -> tuple[RemoteAE, ...]:
        rows = await self._pool.query("remote AEs", sql.REMOTE_AES)
        return tuple(_remoteAE(*row) for row in rows)

    @asynchronous
    async def put(self, remote: RemoteAE) -> bool:
        rows = await self._pool.query(
            "put remote AE",
            sql.putRemoteAE(
                remote.title,
                remote.host,
                remote.port,
                sorted(permission.value for permission in remote.permissions),
                remote.tls,
                remote.certificate,
            ),
            repeatable=False,
        )
        return bool(rows[0][0])

    @asynchronous
    async def remove(self, aeTitle: str) -> bool:
        if not _canBeKept(aeTitle):
            return False
        rows = await self._pool.query(
            "remove remote AE", sql.removeRemoteAE(aeTitle), repeatable=False
        )
        return bool(rows)


def _remoteAE(
    title: str, host: str, port: int, permissions: list[str], *others: Any
) -> RemoteAE:
    """Of a row."""
    return RemoteAE(title, host, port, frozenset(map(Permission, permissions)), *others)


def _canBeKept(aeTitle: str) -> bool:
    """PostgreSQL has no text with these in it, not even to compare with."""
    return aeTitle.isascii() and "\0" not in aeTitle


@implementer(IRemoteAEs)
class KeptRemoteAEs:
    """
    Remote AEs that are kept in memory, for each association asks for one: to ask
    the database takes as long as all else that there is to do for it.

    What one process of the server changes is seen by all before that is said to
    be done. While the database is away, they are what they were.

    @param remoteAEs: where they are read and written.
    @param changes: is another number after each change.
    """

    log = Logger()

    def __init__(
        self, remoteAEs: IRemoteAEs, changes: SharedNumber, clock: IReactorTime
    ) -> None:
        self._remoteAEs = remoteAEs
        self._changes = changes
        self._clock = clock
        self._kept: dict[str, RemoteAE] = {}
        self._asOf: int | None = None
        self._until = 0.0
        self._isReading = False

    def get(self, aeTitle: str) -> Deferred[RemoteAE | None]:
        # The number is read first: what is changed while we read is read again.
        changes = self._changes.read()
        isUnchanged = changes == self._asOf
        if isUnchanged and (self._isReading or self._clock.seconds() < self._until):
            return succeed(self._kept.get(aeTitle))
        if self._isReading:
            return self._remoteAEs.get(aeTitle)
        return self._read(changes, aeTitle)

    @asynchronous
    async def _read(self, changes: int, aeTitle: str) -> RemoteAE | None:
        self._isReading = True
        try:
            remotes = await self._remoteAEs.all()
        except DatabaseError as error:
            if changes != self._asOf:
                raise
            self.log.warn(
                "Cannot look for changes of the remote AEs: {why}; they are taken to "
                "be what they were",
                why=str(error),
            )
        else:
            self._kept = {remote.title: remote for remote in remotes}
            self._asOf = changes
        finally:
            self._isReading = False
        self._until = self._clock.seconds() + MAX_AGE
        return self._kept.get(aeTitle)

    def all(self) -> Deferred[tuple[RemoteAE, ...]]:
        return self._remoteAEs.all()

    @asynchronous
    async def put(self, remote: RemoteAE) -> bool:
        try:
            return await self._remoteAEs.put(remote)
        finally:
            # Also where it failed: nobody knows how far it came.
            self._changes.advance()

    @asynchronous
    async def remove(self, aeTitle: str) -> bool:
        try:
            return await self._remoteAEs.remove(aeTitle)
        finally:
            self._changes.advance()
