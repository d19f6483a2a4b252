"""
What becomes of files that the index may or may not know: after a crash, and
after a commit whose outcome got lost with the connection to the database.
"""

from __future__ import annotations

import enum

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from d360.asynchronous import asynchronous
from d360.errors import ArchiveError, DatabaseError
from d360.interfaces import IArchive, IBlobWriter, IIndex
from d360.logs import Logger
from d360.model import Location, StoredInstance

#: Seconds before the index is asked; doubled up to the last while it does not
#: answer. Not at once, for the database may still be busy with the commit whose
#: connection was lost.
FIRST_DELAY = 5.0
LAST_DELAY = 300.0


class _Outcome(enum.Enum):
    KEPT = "kept"
    UNKNOWN = "never acknowledged, removed"
    INCOMPLETE = "not complete, removed"
    UNSEEN = "could not be looked at"


class Recovery:
    """Asks the index about uncertain files, and settles or removes them."""

    _log = Logger("d360.recovery")

    def __init__(self, archive: IArchive, index: IIndex, clock: IReactorTime) -> None:
        self._archive = archive
        self._index = index
        self._clock = clock
        self._uncertain: dict[Location, IBlobWriter | None] = {}
        self._delay = FIRST_DELAY
        self._call: IDelayedCall | None = None
        self._resolving: Deferred[None] | None = None
        self._stopped = False

    @asynchronous
    async def recover(self, withUnmarked: bool = True) -> int:
        """
        Resolve what earlier runs left behind: before the server listens.

        @param withUnmarked: also what has lost its mark, as only a loss of
            power can do: not where other processes are storing meanwhile.
        @return: how many instances were looked at.
        @raise DatabaseError: the index does not answer.
        @raise ArchiveError: the archive does not.
        """
        marked = await self._archive.unsettled()
        allSeen = True
        for location in marked:
            stored = await self._index.storedAt(location)
            if stored is None:
                await self._archive.remove(location)
                outcome = _Outcome.UNKNOWN
            else:
                outcome = await self._lookAt(stored)
            if outcome is _Outcome.UNSEEN:
                allSeen = False
            else:
                await self._archive.settle(location)
            self._log.info(
                "Recovered {path}: {outcome}",
                path=location.path,
                outcome=outcome.value,
            )
        if not withUnmarked:
            return len(marked)
        unconfirmed = [
            stored
            for stored in await self._index.unconfirmed()
            if stored.location not in marked
        ]
        for stored in unconfirmed:
            if await self._lookAt(stored) is _Outcome.UNSEEN:
                allSeen = False
        if allSeen:
            await self._index.confirmAll()
        return len(marked) + len(unconfirmed)

    async def _lookAt(self, stored: StoredInstance) -> _Outcome:
        """The index was told of it, perhaps before its file was durable."""
        location = stored.location
        try:
            reader = await self._archive.open(location, stored.size, stored.digest)
        except ArchiveError as error:
            if isinstance(error.__cause__, OSError):
                # That says nothing about what the file holds.
                self._log.error(
                    "Cannot look at {path}, which is tried again with the next "
                    "start: {why}",
                    path=location.path,
                    why=str(error),
                )
                return _Outcome.UNSEEN
            self._log.warn(
                "{instance} was not complete when the server ended, and never "
                "acknowledged: removed",
                instance=stored.SOPInstanceUID,
            )
            await self._index.forget(location)
            await self._archive.remove(location)
            return _Outcome.INCOMPLETE
        reader.close()
        return _Outcome.KEPT

    def add(self, location: Location, writer: IBlobWriter) -> None:
        """
        Resolve a committed file later: settled if the index has it then,
        discarded if not. What is not resolved before the server ends is left
        to the next L{recover}.
        """
        self._uncertain[location] = writer
        self._schedule()

    def takeBack(self, location: Location) -> None:
        """Have the index forget later what has no file any more; as L{add}."""
        self._uncertain[location] = None
        self._schedule()

    def _schedule(self) -> None:
        if self._call is None and self._resolving is None and not self._stopped:
            self._call = self._clock.callLater(self._delay, self._attempt)

    def _attempt(self) -> None:
        self._call = None
        self._resolving = self._resolve()
        self._resolving.addErrback(lambda f: self._log.failure("recovery failed", f))
        self._resolving.addCallback(self._attempted)

    def _attempted(self, _: object) -> None:
        self._resolving = None
        if self._uncertain:
            self._schedule()

    @asynchronous
    async def _resolve(self) -> None:
        # For the next attempt, should this one not come to its end.
        self._delay = min(self._delay * 2, LAST_DELAY)
        for location, writer in list(self._uncertain.items()):
            try:
                if writer is None:
                    await self._index.forget(location)
                    known = False
                else:
                    known = await self._index.storedAt(location) is not None
                    await (writer.settle() if known else writer.discard())
            except (DatabaseError, ArchiveError) as error:
                self._log.warn(
                    "Cannot recover {path} yet: {why}",
                    path=location.path,
                    why=str(error),
                )
                return
            del self._uncertain[location]
            self._log.info(
                "Recovered {path}: {outcome}",
                path=location.path,
                outcome="kept" if known else "not in the index, removed",
            )
        self._delay = FIRST_DELAY

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires when what is under way has ended."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._resolving is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._resolving.addBoth(lambda _: ended.callback(None))
        return ended
