"""
The verification that the files of the archive are what was stored: each file
that the index knows is read from the disk and compared, in the background, at a
bounded rate, for as long as it takes. It changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.attributes import Level
from d360.audit.null import NULL_AUDIT
from d360.errors import (
    ArchiveError,
    DatabaseError,
    DatabaseUnavailable,
    FileDamaged,
    FileMissing,
)
from d360.interfaces import IArchive, IAudit, IIndex, IVerify
from d360.logs import Logger
from d360.model import (
    AnyOf,
    FileState,
    Finding,
    NumberedInstance,
    Query,
    StoredInstance,
    VerifyProgress,
)
from d360.services.header import HeaderError
from d360.services.part10 import readHead
from d360.services.selection import UNIQUE_KEYS

T = TypeVar("T")

#: Instances that the index is asked for at a time.
PAGE = 200

#: Findings that are told one by one; the log has all.
MAX_FINDINGS = 100

#: Seconds after which a database that is away is asked again; doubled up to the
#: last.
_FIRST_DELAY, _LAST_DELAY = 1.0, 30.0


class _Stopped(Exception):
    """It is to end now."""


class _NothingThere(Exception):
    """There is no such study."""


class _Pauses:
    """
    Waits for a time, which may be ended before.

    @ivar ended: no more is waited.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._calls: dict[Deferred[None], IDelayedCall] = {}
        self.ended = False

    def wait(self, seconds: float) -> Deferred[None]:
        """Fires after so many seconds, or when it ends."""
        if self.ended:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._calls[waiter] = self._clock.callLater(seconds, self._over, waiter)
        return waiter

    def _over(self, waiter: Deferred[None]) -> None:
        del self._calls[waiter]
        waiter.callback(None)

    def end(self) -> None:
        """A plain call."""
        self.ended = True
        calls, self._calls = self._calls, {}
        for waiter, call in calls.items():
            call.cancel()
            waiter.callback(None)


def _headDiffers(head: bytes, stored: StoredInstance) -> str:
    """
    What the File Meta Information says other than the index, C{""} for nothing.
    The digest does not cover it.
    """
    try:
        found = readHead(BytesIO(head))
    except HeaderError as error:
        return str(error)
    for what, ours, known in (
        ("SOP Class UID", found.sopClass, stored.SOPClassUID),
        ("SOP Instance UID", found.sopInstance, stored.SOPInstanceUID),
        ("Transfer Syntax UID", found.transferSyntax, stored.TransferSyntaxUID),
        ("length", found.dataSetOffset, stored.location.dataSetOffset),
    ):
        # Files that others have written may lack the first two.
        if ours and ours != known:
            return f"the {what} of its File Meta Information is another"
    return ""


@implementer(IVerify)
class Verify:
    """
    See L{IVerify}.

    @param concurrency: files under way at the same time.
    """

    _log = Logger("d360.verify")

    def __init__(
        self,
        archive: IArchive,
        index: IIndex,
        clock: IReactorTime,
        concurrency: int = 4,
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        self._audit = audit
        self._archive = archive
        self._index = index
        self._clock = clock
        self._concurrency = concurrency
        self._progress: VerifyProgress | None = None
        self._pauses = _Pauses(clock)
        self._startedAt = 0.0
        # When the next piece may be read.
        self._due = 0.0
        self._running: Deferred[None] | None = None

    # --- IVerify

    def start(self, rate: float, study: str = "", after: int = 0) -> bool:
        if self._running is not None:
            return False
        self._pauses = _Pauses(self._clock)
        self._startedAt = self._due = self._clock.seconds()
        self._progress = VerifyProgress(
            True, datetime.fromtimestamp(self._startedAt, UTC), rate, study, after
        )
        self._running = running = self._ofStudy(study) if study else self._all(after)
        running.addErrback(self._failed)
        running.addCallback(self._ended)
        return True

    def progress(self) -> VerifyProgress | None:
        progress = self._progress
        if progress is None or not progress.running:
            return progress
        return evolve(progress, seconds=self._clock.seconds() - self._startedAt)

    def stop(self) -> Deferred[None]:
        self._pauses.end()
        if self._running is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._running.addCallback(lambda _: ended.callback(None))
        return ended

    # --- its life

    def _now(self) -> VerifyProgress:
        assert self._progress is not None
        return self._progress

    def _count(self, **steps: int) -> None:
        now = self._now()
        self._progress = evolve(
            now, **{name: getattr(now, name) + step for name, step in steps.items()}
        )

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, _Stopped):
            reason = "stopped"
        elif isinstance(error, _NothingThere):
            reason = "there is no study of this Study Instance UID"
        else:
            reason = str(error) or type(error).__name__
            if not isinstance(error, (DatabaseError, ArchiveError)):
                self._log.failure("verification failed", failure)
        self._progress = evolve(self._now(), error=reason)

    def _ended(self, _: object) -> None:
        self._progress = now = evolve(
            self._now(),
            running=False,
            seconds=self._clock.seconds() - self._startedAt,
        )
        self._running = None
        self._log.info(
            "Verification ended after {done} of {total} instances: {intact} intact, "
            "{damaged} damaged, {missing} missing, {unreadable} unreadable",
            done=now.done,
            total=now.total,
            intact=now.intact,
            damaged=now.damaged,
            missing=now.missing,
            unreadable=now.unreadable,
        )

    def _checkStopping(self) -> None:
        if self._pauses.ended:
            raise _Stopped

    # --- what is looked at

    @asynchronous
    async def _all(self, after: int) -> None:
        # What comes in meanwhile is left to the next one, or it might never end.
        extent = await self._asked(partial(self._index.extent, after))
        self._progress = evolve(self._now(), total=extent.instances)
        while self._now().position < extent.last:
            position = self._now().position
            found = await self._asked(
                partial(self._index.instancesAfter, position, PAGE)
            )
            page = [one for one in found if one.number <= extent.last]
            if not page:
                break
            await self._page(page, self._moveTo)

    def _moveTo(self, position: int) -> None:
        self._progress = evolve(self._now(), position=position)

    @asynchronous
    async def _ofStudy(self, study: str) -> None:
        query = Query(Level.STUDY, (AnyOf(UNIQUE_KEYS[Level.STUDY], (study,)),))
        found = await self._asked(partial(self._located, query))
        if not found:
            raise _NothingThere
        self._progress = evolve(self._now(), total=len(found))
        page = [NumberedInstance(number, one) for number, one in enumerate(found, 1)]
        await self._page(page, lambda number: None)

    @asynchronous
    async def _located(self, query: Query) -> list[StoredInstance]:
        instances = self._index.locate(query)
        found: list[StoredInstance] = []
        try:
            while batch := await instances.nextBatch():
                found += batch
        finally:
            instances.close()
        return found

    @asynchronous
    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """
        What the index answers; as this goes on for days, a database that is away
        is waited for.
        """
        delay = _FIRST_DELAY
        while True:
            self._checkStopping()
            try:
                return await ask()
            except DatabaseUnavailable as error:
                if delay == _FIRST_DELAY:
                    self._log.warn(
                        "Verification waits for the database: {why}", why=str(error)
                    )
            await self._pauses.wait(delay)
            delay = min(delay * 2, _LAST_DELAY)

    @asynchronous
    async def _page(
        self, page: Sequence[NumberedInstance], moveTo: Callable[[int], None]
    ) -> None:
        """
        Look at some, several at the same time.

        @param moveTo: is told the number up to which all have been looked at.
        """
        waiting = deque(page)
        underWay: set[int] = set()

        async def takeTurns() -> None:
            while waiting:
                self._checkStopping()
                one = waiting.popleft()
                underWay.add(one.number)
                await self._instance(one.stored)
                underWay.remove(one.number)
                left = [*underWay, *(next_.number for next_ in islice(waiting, 1))]
                moveTo(min(left) - 1 if left else page[-1].number)

        turns = [Deferred.fromCoroutine(takeTurns()) for _ in range(self._concurrency)]
        outcomes: list[tuple[bool, Any]]
        outcomes = await DeferredList(turns, consumeErrors=True)
        for succeeded, outcome in outcomes:
            if not succeeded:
                outcome.raiseException()

    # --- one instance

    async def _instance(self, stored: StoredInstance) -> None:
        """
        Twice, if need be, with a look between the two whether the file may be
        other than intact: one that is on its way, or was replaced or deleted.
        Only what neither explains is wrong.
        """
        for isLast in (False, True):
            finding = await self._examined(stored)
            if finding is None:
                self._count(done=1, intact=1)
                return
            if await self._hasChanged(stored):
                self._count(done=1, changed=1)
                return
            if isLast:
                self._report(finding)

    async def _examined(self, stored: StoredInstance) -> Finding | None:
        try:
            head = await self._archive.examine(
                stored.location, stored.size, stored.digest, self._pace
            )
        except FileMissing as error:
            state, why = FileState.MISSING, str(error)
        except FileDamaged as error:
            state, why = FileState.DAMAGED, str(error)
        except ArchiveError as error:
            state, why = FileState.UNREADABLE, str(error)
        else:
            state, why = FileState.DAMAGED, _headDiffers(head, stored)
            if not why:
                return None
        return Finding(state, stored.SOPInstanceUID, stored.location.path, why)

    async def _hasChanged(self, stored: StoredInstance) -> bool:
        # Who removes a file has the index forget it before; and a file that is
        # on its way has its mark until it is whole.
        if not await self._archive.isSettled(stored.location):
            return True
        return (
            await self._asked(lambda: self._index.storedAt(stored.location)) != stored
        )

    def _report(self, finding: Finding) -> None:
        self._count(done=1, **{finding.state.value: 1})
        now = self._now()
        if len(now.findings) < MAX_FINDINGS:
            self._progress = evolve(now, findings=(*now.findings, finding))
            # Of a whole disk that is gone the audit trail need not be full.
            self._audit.damaged(finding)
        self._log.error(
            "The file {path} of {instance} is {state}: {why}; restore it from the "
            "backup, or have the instance sent again",
            path=finding.path,
            instance=finding.SOPInstanceUID,
            state=finding.state.value,
            why=finding.why,
        )

    @asynchronous
    async def _pace(self, count: int) -> None:
        """So many bytes were read: wait until more may be."""
        self._count(size=count)
        self._checkStopping()
        rate = self._now().rate
        if not rate:
            return
        now = self._clock.seconds()
        # Nothing is made up for; nor waited for should the clock be set back.
        earliest, latest = now, now + self._concurrency * count / rate
        self._due = min(max(self._due, earliest) + count / rate, latest)
        if self._due > now:
            await self._pauses.wait(self._due - now)
            self._checkStopping()
