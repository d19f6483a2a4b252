"""
Whether we have instances for good (PS3.4 J.3.3): they are looked up, and each
one's file is read and compared with its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from d360.asynchronous import asynchronous
from d360.attributes import Level
from d360.dimse import status
from d360.errors import ArchiveError
from d360.interfaces import IArchive, IIndex
from d360.logs import Logger
from d360.model import (
    AnyOf,
    CommitmentFinding,
    Query,
    Referenced,
    StoredInstance,
)
from d360.services.selection import UNIQUE_KEYS

#: Instances that the index is asked for at once.
_TOGETHER = 500

#: See L{IArchive.examine}.
Pace = Callable[[int], Deferred[None]]


class CommitmentChecks:
    """See the module."""

    _log = Logger("d360.commitment")

    def __init__(self, archive: IArchive, index: IIndex) -> None:
        self._archive = archive
        self._index = index

    @asynchronous
    async def check(
        self,
        references: Sequence[Referenced],
        pace: Pace,
        known: Sequence[int] | None = None,
    ) -> CommitmentFinding:
        """
        @param pace: is called before each instance and while files are read; what
            it fails with ends the check.
        @param known: the reasons that were found lately. Files that were intact
            then are not read again, but have to be there: they may have been
            deleted since, or lost with a disk.
        @raise DatabaseError: the index is away.
        """
        # One that is named twice need not be read twice.
        found: dict[Referenced, tuple[int, str]] = {}
        for first in range(0, len(references), _TOGETHER):
            some = references[first : first + _TOGETHER]
            stored = await self._find([one.SOPInstanceUID for one in some])
            for number, one in enumerate(some, first):
                await pace(0)
                if one not in found:
                    wasRead = known is not None and known[number] == status.SUCCESS
                    found[one] = await self._check(one, stored, pace, wasRead)
        each = [found[one] for one in references]
        return CommitmentFinding(
            tuple(reason for reason, _ in each), tuple(folder for _, folder in each)
        )

    @asynchronous
    async def _find(self, instances: Sequence[str]) -> dict[str, StoredInstance]:
        key = AnyOf(UNIQUE_KEYS[Level.IMAGE], tuple(dict.fromkeys(instances)))
        batches = self._index.locate(Query(Level.IMAGE, (key,)))
        found: dict[str, StoredInstance] = {}
        try:
            while batch := await batches.nextBatch():
                found |= {one.SOPInstanceUID: one for one in batch}
        finally:
            batches.close()
        return found

    @asynchronous
    async def _check(
        self,
        reference: Referenced,
        found: dict[str, StoredInstance],
        pace: Pace,
        wasRead: bool,
    ) -> tuple[int, str]:
        """0, or why it is not kept (PS3.3 C.14.1.1); and its folder."""
        stored = found.get(reference.SOPInstanceUID)
        if stored is None:
            return status.NO_SUCH_SOP_INSTANCE, ""
        folder = stored.location.path.rpartition("/")[0]
        if stored.SOPClassUID != reference.SOPClassUID:
            return status.CLASS_INSTANCE_CONFLICT, folder
        if wasRead and await self._isThere(stored):
            return status.SUCCESS, folder
        if await self._isKept(stored, pace):
            return status.SUCCESS, folder
        # It may have been replaced since it was found.
        again = (await self._find([reference.SOPInstanceUID])).get(
            reference.SOPInstanceUID
        )
        if again is None:
            return status.NO_SUCH_SOP_INSTANCE, ""
        if again != stored and await self._isKept(again, pace):
            return status.SUCCESS, folder
        self._log.error(
            "The file of {instance} is gone or damaged: {path}; restore it from a "
            "backup, or have the instance sent again",
            instance=reference.SOPInstanceUID,
            path=again.location.path,
        )
        return status.PROCESSING_FAILURE, folder

    @asynchronous
    async def _isKept(self, stored: StoredInstance, pace: Pace) -> bool:
        try:
            await self._archive.examine(
                stored.location, stored.size, stored.digest, pace
            )
            # One that is on its way may be whole and not durable yet.
            await self._archive.sync(stored.location)
        except ArchiveError:
            return False
        return True

    @asynchronous
    async def _isThere(self, stored: StoredInstance) -> bool:
        """As durable as it was when it was read, if nobody is at work on it."""
        try:
            if not await self._archive.isSettled(stored.location):
                return False
            await self._archive.sync(stored.location)
        except ArchiveError:
            return False
        return True
