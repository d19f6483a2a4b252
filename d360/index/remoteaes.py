"""The remote AEs in PostgreSQL."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.index import sql
from d360.index.pool import ConnectionPool
from d360.interfaces import IRemoteAEs
from d360.model import Permission, RemoteAE


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
