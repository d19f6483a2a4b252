"""
The rebuild of the index from the files of the archive, which speak for
themselves: as a whole, or of what differs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.digests import newDigest
from d360.errors import (
    ArchiveError,
    DatabaseError,
    DatabaseUnavailable,
    FileDamaged,
)
from d360.interfaces import IArchive, IIndex, IReindex
from d360.logs import Logger
from d360.model import (
    Duplicates,
    InstanceRecord,
    Location,
    Outcome,
    Registration,
    ReindexProgress,
)
from d360.services.header import HeaderError, HeaderScanner
from d360.services.part10 import readHead
from d360.services.records import readHeader

#: Bytes that are read at once.
_STEP = 256 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class _Reading:
    """What one file says."""

    record: InstanceRecord
    dataSetOffset: int


def _receivedAt(file: BinaryIO) -> datetime:
    """When it was written last: D360 writes a file once, as it arrives."""
    try:
        modified = os.fstat(file.fileno()).st_mtime
    except io.UnsupportedOperation:
        return _EPOCH
    return datetime.fromtimestamp(modified, UTC)


def readInstance(file: BinaryIO) -> _Reading:
    """
    Read a Part 10 file as far as the index needs it. Blocks: for a thread.

    @raise HeaderError: it is none, or has no identity.
    """
    head = readHead(file)
    scanner = HeaderScanner(head.transferSyntax)
    digest = newDigest()
    size = 0
    while piece := file.read(_STEP):
        digest.update(piece)
        size += len(piece)
        scanner.write(piece)
        while scanner.isBehind:
            scanner.goOn()
    scanner.finish()
    header = readHeader(scanner.values)
    record = InstanceRecord(
        StudyInstanceUID=header.StudyInstanceUID,
        SeriesInstanceUID=header.SeriesInstanceUID,
        SOPInstanceUID=header.SOPInstanceUID,
        SOPClassUID=header.SOPClassUID or head.sopClass,
        TransferSyntaxUID=head.transferSyntax,
        digest=digest.digest(),
        size=size,
        callingAETitle=head.callingAETitle,
        calledAETitle=head.calledAETitle,
        sourceAddress="",
        receivedAt=_receivedAt(file),
        **header.texts,
    )
    return _Reading(record, head.dataSetOffset)


class _Stopped(Exception):
    """It is to end now."""


@implementer(IReindex)
class Reindex:
    """
    See L{IReindex}.

    @param concurrency: files under way at the same time.
    """

    _log = Logger("d360.reindex")

    def __init__(
        self,
        archive: IArchive,
        index: IIndex,
        clock: IReactorTime,
        concurrency: int = 4,
    ) -> None:
        self._archive = archive
        self._index = index
        self._clock = clock
        self._concurrency = concurrency
        self._progress: ReindexProgress | None = None
        self._startedAt = 0.0
        self._stopping = False
        self._running: Deferred[None] | None = None

    # --- IReindex

    def start(self, prune: bool, full: bool) -> bool:
        if self._running is not None:
            return False
        self._stopping = False
        self._startedAt = self._clock.seconds()
        self._progress = ReindexProgress(True, False, 0, 0, 0, 0, 0, 0, 0, 0.0)
        self._running = running = self._work(prune, full)
        running.addErrback(self._failed)
        running.addCallback(self._ended)
        return True

    def progress(self) -> ReindexProgress | None:
        progress = self._progress
        if progress is None or not progress.running:
            return progress
        return evolve(progress, seconds=self._clock.seconds() - self._startedAt)

    def stop(self) -> Deferred[None]:
        self._stopping = True
        if self._running is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._running.addCallback(lambda _: ended.callback(None))
        return ended

    # --- the work

    def _now(self) -> ReindexProgress:
        assert self._progress is not None
        return self._progress

    def _count(self, **steps: int) -> None:
        now = self._now()
        self._progress = evolve(
            now, **{name: getattr(now, name) + step for name, step in steps.items()}
        )

    def _ended(self, _: object) -> None:
        now = self._now()
        self._progress = evolve(
            now, running=False, seconds=self._clock.seconds() - self._startedAt
        )
        self._running = None
        self._log.info(
            "Reindex ended after {done} of {total} files: {added} added, {failed} "
            "failed, {missing} missing",
            done=now.done,
            total=now.total,
            added=now.added,
            failed=now.failed,
            missing=now.missing,
        )

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, _Stopped):
            reason = "stopped"
        else:
            reason = str(error) or type(error).__name__
            if not isinstance(error, (DatabaseError, ArchiveError)):
                self._log.failure("reindex failed", failure)
        self._progress = evolve(self._now(), error=reason)

    def _checkStopping(self) -> None:
        if self._stopping:
            raise _Stopped

    @asynchronous
    async def _work(self, prune: bool, full: bool) -> None:
        folders = await self._archive.paths()
        for folder in folders:
            self._checkStopping()
            self._count(total=len(await self._archive.pathsBelow(folder)))
        self._progress = evolve(self._now(), counted=True)
        for folder in folders:
            self._checkStopping()
            await self._folder(folder, prune, full)

    @asynchronous
    async def _folder(self, folder: str, prune: bool, full: bool) -> None:
        # The rows first: an instance that is stored in between is then a file
        # without a row, which does no harm, and not a row without a file.
        rows = {row.path: row for row in await self._index.locationsBelow(folder)}
        paths = await self._archive.pathsBelow(folder)
        unread = []
        for path in paths:
            if path in rows and not full:
                self._count(done=1, unchanged=1)
            else:
                unread.append(path)
        remaining = iter(unread)
        workers = [self._files(remaining, rows) for _ in range(self._concurrency)]
        await _all(workers)
        for path in rows.keys() - set(paths):
            self._checkStopping()
            await self._missing(rows[path], prune)

    @asynchronous
    async def _missing(self, row: Location, prune: bool) -> None:
        if await self._archive.exists(row):
            return
        self._count(missing=1)
        self._log.warn("File of the index is missing: {path}", path=row.path)
        if prune and await self._index.forget(row):
            self._count(pruned=1)

    @asynchronous
    async def _files(
        self, remaining: Iterator[str], rows: Mapping[str, Location]
    ) -> None:
        for path in remaining:
            self._checkStopping()
            try:
                await self._file(path, rows.get(path))
            except DatabaseUnavailable:
                self._stopping = True
                raise
            except FileDamaged as error:
                self._count(done=1, failed=1)
                self._log.warn(
                    "Cannot index {path}: {why}; d360ctl verify names all such files",
                    path=path,
                    why=str(error),
                )
            except (ArchiveError, HeaderError, DatabaseError) as error:
                self._count(done=1, failed=1)
                self._log.warn("Cannot index {path}: {why}", path=path, why=str(error))

    @asynchronous
    async def _file(self, path: str, known: Location | None) -> None:
        reading = await self._read(path, known)
        ours = Location(path, reading.dataSetOffset)
        registration = await self._index.register(
            reading.record, ours, Duplicates.NEWEST
        )
        if (
            registration.outcome is Outcome.DUPLICATE
            and registration.location != ours
            and not await self._archive.exists(registration.location)
        ):
            gone = registration.location
            registration = await self._index.relocate(reading.record, ours)
            await self._giveBack(registration, gone)
        added = registration.location == ours and (
            registration.outcome is not Outcome.DUPLICATE
            or registration.superseded is not None
        )
        if added and not await self._archive.exists(ours):
            # One that was on its way when it was read, and was refused.
            added = False
            await self._index.forget(ours)
            await self._giveBack(registration, ours)
        if added:
            self._count(done=1, added=1)
        else:
            self._count(done=1, unchanged=1)

    async def _read(self, path: str, known: Location | None) -> _Reading:
        """
        What a file says. One that is known is believed only if it still is what was
        stored; its digest stays as it is, of whatever kind.

        @raise ArchiveError: it is not, or cannot be read.
        """
        stored = None if known is None else await self._index.storedAt(known)
        if stored is not None:
            await self._archive.examine(
                stored.location, stored.size, stored.digest, self._pace
            )
        reading = await self._archive.readWith(Location(path, 0), readInstance)
        if stored is None:
            return reading
        return evolve(reading, record=evolve(reading.record, digest=stored.digest))

    @asynchronous
    async def _pace(self, count: int) -> None:
        self._checkStopping()

    @asynchronous
    async def _giveBack(self, registration: Registration, gone: Location) -> None:
        """
        Have the instance of a file looked at again whose place was taken by
        mistake: something was stored or refused while we looked.
        """
        superseded = registration.superseded
        if superseded is None or superseded == gone:
            return
        if await self._archive.exists(superseded):
            reading = await self._archive.readWith(superseded, readInstance)
            await self._index.register(reading.record, superseded, Duplicates.REPLACE)


@asynchronous
async def _all(workers: list[Deferred[None]]) -> None:
    """Await all of them, also when one fails, and raise the first failure."""
    results: list[tuple[bool, Any]] = await DeferredList(workers, consumeErrors=True)
    for _, result in results:
        if isinstance(result, Failure):
            result.raiseException()
