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
from d360.model import Announcement, Location, StoredInstance

#: Seconds before the index is asked; doubled up to the last while it does not
#: answer. Not at once, for the database may still be busy with the commit whose
#: connection was lost.
FIRST_DELAY = 5.0
LAST_DELAY = 300.0


class _Outcome(enum.Enum):
    KEPT = "kept"
    UNKNOWN = "not in the index, removed"
    INCOMPLETE = "not complete, removed"
    DAMAGED = "damaged, left as it is"
    UNSEEN = "could not be looked at"


async def isWhole(archive: IArchive, stored: StoredInstance) -> bool:
    """
    Whether the file of an instance is what was received; then it is durable as
    well.

    @raise ArchiveError: it cannot be looked at.
    """
    try:
        reader = await archive.open(stored.location, stored.size, stored.digest)
    except ArchiveError as error:
        if isinstance(error.__cause__, OSError):
            # That says nothing about what it holds.
            raise
        return False
    reader.close()
    await archive.sync(stored.location)
    return True


class Recovery:
    """Asks the index about uncertain files, and settles or removes them."""

    _log = Logger("d360.recovery")

    def __init__(self, archive: IArchive, index: IIndex, clock: IReactorTime) -> None:
        self._archive = archive
        self._index = index
        self._clock = clock
        self._uncertain: dict[
            Location, tuple[IBlobWriter | None, Announcement | None]
        ] = {}
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
        marked = {
            location: await self._index.storedAt(location)
            for location in await self._archive.unsettled()
        }
        # In this order: what was on its way to its commit is there by now.
        unconfirmed = {
            stored.location: stored for stored in await self._index.unconfirmed()
        }
        allSeen = True
        for location, found in marked.items():
            isConfirmed = location not in unconfirmed
            if await self._recoverMarked(location, found, isConfirmed) is (
                _Outcome.UNSEEN
            ):
                allSeen = False
        if not withUnmarked:
            return len(marked)
        unmarked = [
            stored for stored in unconfirmed.values() if stored.location not in marked
        ]
        for stored in unmarked:
            if await self._lookAt(stored, False) is _Outcome.UNSEEN:
                allSeen = False
        if allSeen:
            await self._index.confirmAll()
        return len(marked) + len(unmarked)

    async def _recoverMarked(
        self, location: Location, stored: StoredInstance | None, isConfirmed: bool
    ) -> _Outcome:
        """
        @param stored: what the index has there.
        @param isConfirmed: it was there and durable before it was marked, as it
            is with what is about to be replaced.
        """
        outcome = _Outcome.UNKNOWN
        if stored is not None:
            outcome = await self._lookAt(stored, True, isConfirmed)
        if outcome in (_Outcome.UNKNOWN, _Outcome.INCOMPLETE):
            await self._archive.discard(location)
        elif outcome is not _Outcome.UNSEEN:
            await self._archive.settle(location)
        self._log.info(
            "Recovered {path}: {outcome}", path=location.path, outcome=outcome.value
        )
        return outcome

    async def _lookAt(
        self, stored: StoredInstance, isMarked: bool, isConfirmed: bool = False
    ) -> _Outcome:
        """
        The index was told of it, perhaps before its file was durable.

        @param isMarked: else it may be one that was confirmed and acknowledged,
            among others that were not.
        @param isConfirmed: it certainly was.
        """
        location = stored.location
        try:
            if await isWhole(self._archive, stored):
                return _Outcome.KEPT
        except ArchiveError as error:
            return self._unseen(location, str(error))
        if isConfirmed:
            self._log.error(
                "{instance} is damaged: have it sent again, or restore {path}",
                instance=stored.SOPInstanceUID,
                path=location.path,
            )
            return _Outcome.DAMAGED
        if not isMarked:
            folder = Location(location.path.rpartition("/")[0], 0)
            if not await self._archive.exists(folder):
                # It was made durable before the index was told of the file.
                return self._unseen(location, "its folder is gone")
        self._log.warn(
            "{instance} is not complete, as one that was never acknowledged: "
            "removed from the index, sent again it is stored",
            instance=stored.SOPInstanceUID,
        )
        # Before the file goes, so that no other has its name while it is entered.
        await self._index.forget(location)
        if not isMarked:
            await self._archive.setAside(location)
        return _Outcome.INCOMPLETE

    def _unseen(self, location: Location, why: str) -> _Outcome:
        self._log.error(
            "Cannot look at {path}, which is tried again with the next start: "
            "{why}; see that all of the archive is mounted and can be read",
            path=location.path,
            why=why,
        )
        return _Outcome.UNSEEN

    @asynchronous
    async def resolve(
        self,
        location: Location,
        writer: IBlobWriter,
        announcement: Announcement | None = None,
    ) -> None:
        """
        Settle a file whose commit has failed although the index was told of it,
        or discard it, after the index has forgotten it: now, or as soon as it
        can be; see L{add}.
        """
        try:
            await self._resolveOne(location, writer, announcement)
        except (DatabaseError, ArchiveError):
            self.add(location, writer, announcement)

    def add(
        self,
        location: Location,
        writer: IBlobWriter | None = None,
        announcement: Announcement | None = None,
    ) -> None:
        """
        Resolve a file later: settled if the index has it then and it is whole,
        else forgotten and discarded. What is not resolved before the server ends
        is left to the next L{recover}.

        @param writer: C{None} for a file that was durable long ago, and marked
            because another may have taken its place: it is discarded only if one
            has.
        """
        if writer is not None or location not in self._uncertain:
            self._uncertain[location] = writer, announcement
        self._schedule()

    async def _resolveOne(
        self,
        location: Location,
        writer: IBlobWriter | None,
        announcement: Announcement | None,
    ) -> _Outcome:
        stored = await self._index.storedAt(location)
        if writer is None:
            if stored is None:
                await self._archive.discard(location)
                return _Outcome.UNKNOWN
            await self._archive.settle(location)
            return _Outcome.KEPT
        outcome = _Outcome.UNKNOWN
        if stored is not None and await isWhole(self._archive, stored):
            await writer.settle()
            outcome = _Outcome.KEPT
        else:
            if stored is not None:
                await self._index.forget(location)
                outcome = _Outcome.INCOMPLETE
            await writer.discard()
        if announcement is not None:
            self._index.confirm(announcement)
        return outcome

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
        for location, (writer, announcement) in list(self._uncertain.items()):
            try:
                outcome = await self._resolveOne(location, writer, announcement)
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
                outcome=outcome.value,
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
