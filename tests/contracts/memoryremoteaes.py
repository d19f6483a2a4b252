"""The remote AEs in memory, for the unit tests of what uses them."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import DatabaseUnavailable
from d360.interfaces import IRemoteAEs
from d360.model import RemoteAE


@implementer(IRemoteAEs)
class MemoryRemoteAEs:
    """
    See L{IRemoteAEs}.

    @ivar away: as if the database were.
    @ivar waiter: what each call waits for first, if anything.
    """

    def __init__(self, *remotes: RemoteAE) -> None:
        self.away = False
        self.waiter: Deferred[None] | None = None
        self._remotes = {remote.title: remote for remote in remotes}

    async def _reach(self) -> None:
        if self.waiter is not None:
            await self.waiter
        if self.away:
            raise DatabaseUnavailable("the database is away")

    @asynchronous
    async def get(self, aeTitle: str) -> RemoteAE | None:
        await self._reach()
        return self._remotes.get(aeTitle)

    @asynchronous
    async def all(self) -> tuple[RemoteAE, ...]:
        await self._reach()
        return tuple(self._remotes[title] for title in sorted(self._remotes))

    @asynchronous
    async def put(self, remote: RemoteAE) -> bool:
        await self._reach()
        isNew = remote.title not in self._remotes
        self._remotes[remote.title] = remote
        return isNew

    @asynchronous
    async def remove(self, aeTitle: str) -> bool:
        await self._reach()
        return self._remotes.pop(aeTitle, None) is not None
