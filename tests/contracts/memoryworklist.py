"""
A worklist in memory, for the unit tests of what uses one. Its matching is
that of the index in memory.
"""

from __future__ import annotations

import json
from builtins import list as List
from collections.abc import Sequence
from datetime import date
from itertools import islice
from typing import Any
from uuid import uuid4

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import DatabaseUnavailable, WorklistConflict
from d360.interfaces import IScheduledSteps, IWorklist
from d360.model import Condition, ScheduledStep, WorklistItem
from d360.worklistattributes import WORKLIST, startOf, stepsOf, valuesOf
from tests.contracts.memoryindex import valueMatches

_UID = WORKLIST.byKeyword["StudyInstanceUID"]


def _studyOf(attributes: dict[str, Any]) -> str:
    return valuesOf(_UID, attributes, {})[0]


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """Nobody changes what is kept by changing what was given or got."""
    copy: dict[str, Any] = json.loads(json.dumps(attributes))
    return copy


@implementer(IScheduledSteps)
class _Steps:
    def __init__(
        self, worklist: MemoryWorklist, conditions: Sequence[Condition]
    ) -> None:
        self._worklist = worklist
        self._conditions = conditions
        self._steps: List[ScheduledStep] | None = None

    def nextBatch(self) -> Deferred[tuple[ScheduledStep, ...]]:
        if self._worklist.away:
            return fail(DatabaseUnavailable("away"))
        if self._steps is None:
            self._steps = self._worklist.steps(self._conditions)
        size = self._worklist.batchSize
        batch, self._steps = self._steps[:size], self._steps[size:]
        return succeed(tuple(batch))

    def close(self) -> None:
        self._steps = []


@implementer(IWorklist)
class MemoryWorklist:
    """
    See L{IWorklist}.

    @ivar away: as if the database were.
    @ivar waiter: what each call waits for first, if anything.
    @ivar batchSize: answers in a batch.
    @ivar arrived: the Study Instance UIDs that the index knows.
    """

    def __init__(self, batchSize: int = 2) -> None:
        self.away = False
        self.waiter: Deferred[None] | None = None
        self.batchSize = batchSize
        self.arrived: set[str] = set()
        self._items: dict[str, WorklistItem] = {}

    async def _reach(self) -> None:
        if self.waiter is not None:
            await self.waiter
        if self.away:
            raise DatabaseUnavailable("the database is away")

    def match(self, conditions: Sequence[Condition]) -> IScheduledSteps:
        return _Steps(self, tuple(conditions))

    def steps(self, conditions: Sequence[Condition]) -> List[ScheduledStep]:
        """Those for which all conditions hold, in order."""
        found = [
            (startOf(step), identifier, number)
            for identifier, item in self._items.items()
            for number, step in enumerate(stepsOf(item.attributes))
            if all(self._holds(condition, item, step) for condition in conditions)
        ]
        return [
            ScheduledStep(self._given(self._items[identifier]), number)
            for _, identifier, number in sorted(found)
        ]

    def _holds(
        self, condition: Condition, item: WorklistItem, step: dict[str, Any]
    ) -> bool:
        values = valuesOf(condition.attribute, item.attributes, step)
        return any(valueMatches(condition, value) for value in values)

    def _given(self, item: WorklistItem) -> WorklistItem:
        return evolve(item, attributes=_copied(item.attributes))

    def _place(self, identifier: str) -> tuple[str, str]:
        steps = stepsOf(self._items[identifier].attributes)
        return min(startOf(step) for step in steps), identifier

    @asynchronous
    async def list(
        self, conditions: Sequence[Condition], after: str, count: int
    ) -> tuple[WorklistItem, ...]:
        await self._reach()
        if after and after not in self._items:
            raise WorklistConflict("the item to go on behind is gone")
        found = {step.item.identifier for step in self.steps(conditions)}
        places = sorted(map(self._place, found))
        if after:
            places = [place for place in places if place > self._place(after)]
        return tuple(
            self._given(self._items[identifier]) for _, identifier in places[:count]
        )

    @asynchronous
    async def get(self, identifier: str) -> WorklistItem | None:
        await self._reach()
        item = self._items.get(identifier)
        return None if item is None else self._given(item)

    @asynchronous
    async def schedule(self, attributes: dict[str, Any]) -> WorklistItem:
        await self._reach()
        return self._keep(WorklistItem(uuid4().hex, 1, attributes))

    def _keep(self, item: WorklistItem) -> WorklistItem:
        study = _studyOf(item.attributes)
        for other in self._items.values():
            if (
                other.identifier != item.identifier
                and _studyOf(other.attributes) == study
            ):
                raise WorklistConflict("another item has this Study Instance UID")
        self._items[item.identifier] = self._given(item)
        return self._given(item)

    def _check(self, item: WorklistItem, version: int | None) -> None:
        if version is not None and version != item.version:
            raise WorklistConflict("the item was changed meanwhile")

    @asynchronous
    async def replace(
        self, identifier: str, attributes: dict[str, Any], version: int | None = None
    ) -> WorklistItem | None:
        await self._reach()
        item = self._items.get(identifier)
        if item is None:
            return None
        self._check(item, version)
        return self._keep(WorklistItem(identifier, item.version + 1, attributes))

    @asynchronous
    async def remove(self, identifier: str, version: int | None = None) -> bool:
        await self._reach()
        item = self._items.get(identifier)
        if item is None:
            return False
        self._check(item, version)
        del self._items[identifier]
        return True

    @asynchronous
    async def removeOld(self, before: date, count: int) -> tuple[WorklistItem, ...]:
        await self._reach()
        day = before.strftime("%Y%m%d")
        return self._removeAll(
            count,
            (
                item
                for item in self._items.values()
                if all("" < startOf(step) < day for step in stepsOf(item.attributes))
            ),
        )

    @asynchronous
    async def removeArrived(self, count: int) -> tuple[WorklistItem, ...]:
        await self._reach()
        return self._removeAll(
            count,
            (
                item
                for item in self._items.values()
                if _studyOf(item.attributes) in self.arrived
            ),
        )

    def _removeAll(self, count: int, items: Any) -> tuple[WorklistItem, ...]:
        gone = tuple(islice(items, count))
        for item in gone:
            del self._items[item.identifier]
        return gone
