"""
What keeps the worklist short, where it is wanted: items whose study has
arrived, or that are old, are removed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from d360.asynchronous import asynchronous
from d360.audit.null import NULL_AUDIT
from d360.audit.values import Action, studyOfItem
from d360.errors import DatabaseError
from d360.interfaces import IAudit, IWorklist
from d360.logs import Logger
from d360.model import WorklistItem

#: Seconds from one look to the next.
INTERVAL = 300.0

#: Items that are removed at a time.
_TOGETHER = 100


class WorklistCare:
    """
    Looks at the worklist now and then.

    @param clock: its seconds are those since the epoch.
    @param removeArrived: remove items whose study the index knows.
    @param removeAfterDays: remove items of which each step started more days
        ago; 0 for never.
    """

    _log = Logger("d360.worklist")

    def __init__(
        self,
        worklist: IWorklist,
        clock: IReactorTime,
        removeArrived: bool,
        removeAfterDays: int,
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        self._worklist = worklist
        self._audit = audit
        self._clock = clock
        self._removeArrived = removeArrived
        self._removeAfterDays = removeAfterDays
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        self._ended: Deferred[Any] = succeed(None)

    def start(self) -> None:
        """Begin, with a look at once; nothing if nothing is to be removed."""
        if self._removeArrived or self._removeAfterDays:
            self._ended = self._loop.start(INTERVAL)

    def _look(self) -> Deferred[None]:
        return self._remove().addErrback(
            lambda failure: self._log.failure("removing worklist items", failure)
        )

    @asynchronous
    async def _remove(self) -> None:
        try:
            if self._removeArrived:
                await self._removeAll(
                    self._worklist.removeArrived, "whose study has arrived"
                )
            if self._removeAfterDays:
                today = date.fromtimestamp(self._clock.seconds())
                before = today - timedelta(days=self._removeAfterDays)
                await self._removeAll(
                    partial(self._worklist.removeOld, before), "that are old"
                )
        except DatabaseError as error:
            self._log.warn("Cannot remove worklist items yet: {why}", why=str(error))

    @asynchronous
    async def _removeAll(
        self, remove: Callable[[int], Deferred[tuple[WorklistItem, ...]]], which: str
    ) -> None:
        """
        @param remove: so many at most; says which.
        """
        count, removed = 0, _TOGETHER
        while removed == _TOGETHER and self._loop.running:
            items = await remove(_TOGETHER)
            for item in items:
                study = studyOfItem(item.attributes)
                self._audit.worklistUsed(None, Action.DELETE, study)
            removed = len(items)
            count += removed
        if count:
            self._log.info(
                "Removed {count} worklist items {which}", count=count, which=which
            )

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires when what is under way has ended."""
        if self._loop.running:
            self._loop.stop()
        return self._ended
