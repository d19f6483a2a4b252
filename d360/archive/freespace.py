"""
The low-water mark: storing ends before the disk is full. A database on a full
disk cannot commit, and cannot even begin again; and what has no room left
cannot be removed in order.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from d360.archive.disk import InThread
from d360.asynchronous import asynchronous
from d360.interfaces import IFreeSpace
from d360.logs import Logger

#: Seconds between two looks, unless what arrives may have used up so much.
INTERVAL = 1.0

#: File names that a file system with a fixed number of them must have left: an
#: instance needs up to four at once, and the database some for itself.
LEAST_FILES = 1024

#: How much more than the mark must be free, as a part of it, before storing goes
#: on: so that it does not begin and end all the time.
_MORE = 1 / 16


@frozen
class Room:
    """
    What is left of a file system.

    @ivar size: bytes.
    @ivar files: names; C{None} where their number is not fixed.
    """

    size: int
    files: int | None = None


def roomOf(folders: Sequence[str]) -> Room:
    """
    The least that any of some folders has. Blocks.

    @raise OSError: it cannot be known.
    """
    states = [os.statvfs(folder) for folder in folders]
    files = [state.f_favail for state in states if state.f_files]
    return Room(
        min(state.f_frsize * state.f_bavail for state in states),
        min(files, default=None),
    )


@implementer(IFreeSpace)
class FreeSpace:
    """
    See L{IFreeSpace}. Looks every second, in a thread.

    @param folders: on whose file systems there must be room.
    @param minimum: bytes; 0 for no mark.
    @param isTold: whether the log says when storing ends and goes on: one of
        several processes does it for all.
    @param processes: that store. Each knows of what it writes itself, and takes
        it that the others write as much.
    @param roomOf: looks, in the thread.
    """

    _log = Logger("d360.archive")

    def __init__(
        self,
        folders: Sequence[str],
        inThread: InThread,
        clock: IReactorTime,
        minimum: int,
        isTold: bool = True,
        processes: int = 1,
        roomOf: Callable[[Sequence[str]], Room] = roomOf,
    ) -> None:
        self.minimum = minimum
        self.isLow = self.isCritical = False
        self._folders = folders
        self._inThread = inThread
        self._isTold = isTold
        self._processes = processes
        self._roomOf = roomOf
        self._looking: Deferred[None] | None = None
        # What may be left, and with how much less it is looked at again.
        self._left = math.inf
        self._enough = -math.inf
        self._loop = LoopingCall(self._lookOnce)
        self._loop.clock = clock

    @asynchronous
    async def start(self) -> None:
        """Begin to look; fires when it has once."""
        if self.minimum:
            await self._lookOnce()
            self._loop.start(INTERVAL, now=False).addErrback(
                lambda f: self._log.failure("free space is not looked at", f)
            )

    def stop(self) -> None:
        """Look no more. A plain call."""
        if self._loop.running:
            self._loop.stop()

    def take(self, size: int) -> None:
        """See L{IFreeSpace.take}."""
        self._left -= size * self._processes
        if self._left < self._enough:
            self.look()

    def look(self) -> None:
        """See L{IFreeSpace.look}."""
        if self._loop.running and self._looking is None:
            self._lookOnce()

    def _lookOnce(self) -> Deferred[None]:
        self._looking = looking = self._look()
        looking.addBoth(self._looked)
        return looking

    def _looked(self, result: Any) -> Any:
        self._looking = None
        return result

    @asynchronous
    async def _look(self) -> None:
        try:
            room = await self._inThread(self._roomOf, self._folders)
        except OSError as error:
            # That says nothing about how much there is; who writes will see.
            self._log.debug("free space is not known: {why}", why=error.strerror)
            return
        wanted = self.minimum * (1 + _MORE) if self.isLow else self.minimum
        hasFiles = room.files is None or room.files >= LEAST_FILES
        wasLow, self.isLow = self.isLow, room.size < wanted or not hasFiles
        half = self.minimum / 2
        self.isCritical = self.isLow and room.size < half
        self._left = room.size
        self._enough = half if self.isLow else self.minimum
        if self.isCritical:
            self._enough = -math.inf
        if self.isLow != wasLow and self._isTold:
            self._tell(room, hasFiles)

    def _tell(self, room: Room, hasFiles: bool) -> None:
        free, minimum = room.size >> 20, self.minimum >> 20
        if not self.isLow:
            self._log.warn(
                "There is room again, {free} MiB: storing goes on", free=free
            )
        elif hasFiles:
            self._log.warn(
                "Only {free} MiB are free, and min_free_space is {minimum}: storing "
                "is refused until there is more; free the disk or enlarge it",
                free=free,
                minimum=minimum,
            )
        else:
            self._log.warn(
                "The file system takes only {files} more files: storing is refused "
                "until there is room for more; remove some, or use one with more "
                "inodes",
                files=room.files,
            )
