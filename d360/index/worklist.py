"""
The modality worklist in PostgreSQL. An item is kept whole, as JSON; beside it
stand the match keys of its attributes and, in rows of their own, those of its
steps.
"""

from __future__ import annotations

import json
from builtins import list as List
from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.attributes import Attribute, matchKey
from d360.errors import WorklistConflict
from d360.index.pool import ConnectionPool
from d360.index.rows import clean
from d360.index.sql import Statement, conditionSQL
from d360.interfaces import IScheduledSteps, IWorklist
from d360.model import Condition, ScheduledStep, WorklistItem
from d360.worklistattributes import (
    WORKLIST,
    isOfStep,
    startOf,
    stepsOf,
    valuesOf,
)

#: No more than can be decoded, and encoded with all attributes, while other
#: associations wait.
BATCH = 50

#: As in L{d360.index.results}: as many steps are found first, in whatever order.
FEW = 5000

#: Outcomes of the schema's functions, where they are no version.
_STUDY_IS_TAKEN, _CHANGED = 0, -1

_STATION = WORKLIST.byKeyword["ScheduledStationAETitle"]
_OF_ITEM = tuple(a for a in WORKLIST.stored() if not isOfStep(a))
_OF_STEP = tuple(a for a in WORKLIST.stored() if isOfStep(a) and a is not _STATION)

# The aliases are those by which conditionSQL names the tables of patients and
# studies, and of series: the levels of the worklist's attributes.
_SOURCE = "worklist_steps e JOIN worklist_items s ON s.identifier = e.item"

#: A step's start, item and number, by which steps are ordered.
_Position = tuple[str, str, int]


# --- an item as rows --------------------------------------------------------


def _storable(value: Any) -> Any:
    """A JSON value as the database takes it: without NUL and lone surrogates."""
    if isinstance(value, str):
        if not value.isascii():
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {key: _storable(one) for key, one in value.items()}
    return value


def _columns(attribute: Attribute, text: str) -> dict[str, Any]:
    """A value and its match key, by their columns."""
    value = clean(text)
    key = matchKey(attribute.vr, value)
    return {attribute.column: value, attribute.matchColumn: key}


def _stepRows(
    attributes: dict[str, Any], number: int, step: dict[str, Any]
) -> List[dict[str, Any]]:
    row: dict[str, Any] = {"number": number, "start": startOf(step)}
    for attribute in _OF_STEP:
        row |= _columns(attribute, "\\".join(valuesOf(attribute, attributes, step)))
    stations = dict.fromkeys(valuesOf(_STATION, attributes, step))
    return [row | _columns(_STATION, station) for station in stations]


def rowsOf(attributes: dict[str, Any]) -> tuple[str, str]:
    """
    An item, with what the schema's functions add, and its steps, as JSON.

    @param attributes: L{_storable}.
    """
    steps = stepsOf(attributes)
    item: dict[str, Any] = {
        "attributes": attributes,
        "first_start": min(map(startOf, steps), default=""),
    }
    for attribute in _OF_ITEM:
        item |= _columns(attribute, "\\".join(valuesOf(attribute, attributes, {})))
    rows = [
        row
        for number, step in enumerate(steps)
        for row in _stepRows(attributes, number, step)
    ]
    return tuple(  # type: ignore[return-value]
        json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for value in (item, rows)
    )


def _isOurs(identifier: str) -> bool:
    """Whether it may be one of ours: others the database may not even take."""
    return identifier.isascii() and clean(identifier) == identifier


# --- statements -------------------------------------------------------------


def _where(conditions: Sequence[Condition], *more: Statement) -> Statement:
    parts = [*(conditionSQL(condition, False) for condition in conditions), *more]
    return Statement(
        " WHERE " + " AND ".join(part.text for part in parts) if parts else "",
        tuple(value for part in parts for value in part.parameters),
    )


def firstSteps(conditions: Sequence[Condition], few: int, limit: int) -> Statement:
    """
    Positions of matching steps, in no order, as many as C{few} + 1, each with
    two empty columns. Then, in order, with no start, the first C{limit} of
    these: the item, the number of the step, the item's version and attributes.

    See L{d360.index.pages.found} for why it is written so.
    """
    where = _where(conditions)
    return Statement(
        "WITH hits AS MATERIALIZED (SELECT e.start, e.item, e.number"
        f" FROM {_SOURCE}{where.text}),"
        " few AS MATERIALIZED (SELECT * FROM hits LIMIT %s)"
        " (SELECT start, item, number, NULL::int, NULL::jsonb FROM few) UNION ALL"
        " (SELECT NULL, i.identifier, f.number, i.version, i.attributes"
        " FROM (SELECT DISTINCT start, item, number FROM few"
        " ORDER BY start, item, number LIMIT %s) f"
        " JOIN worklist_items i ON i.identifier = f.item"
        " ORDER BY f.start, f.item, f.number)",
        (*where.parameters, few + 1, limit),
    )


def nextSteps(
    conditions: Sequence[Condition], after: _Position | None, limit: int
) -> Statement:
    """Positions of matching steps in order, beginning behind C{after}."""
    more = []
    if after is not None:
        more.append(Statement("(e.start, e.item, e.number) > (%s, %s, %s)", after))
    where = _where(conditions, *more)
    return Statement(
        f"SELECT DISTINCT e.start, e.item, e.number FROM {_SOURCE}{where.text}"
        " ORDER BY e.start, e.item, e.number LIMIT %s",
        (*where.parameters, limit),
    )


def stepsAt(
    conditions: Sequence[Condition], positions: Sequence[_Position]
) -> Statement:
    """
    The items, each with the number of a step, of those among the positions
    that match still.
    """
    place = Statement(
        "(e.item, e.number) IN (SELECT * FROM unnest(%s::text[], %s::int[]))",
        ([item for _, item, _ in positions], [number for _, _, number in positions]),
    )
    where = _where(conditions, place)
    return Statement(
        "SELECT i.identifier, i.version, i.attributes, hits.number FROM"
        f" (SELECT DISTINCT e.start, e.item, e.number FROM {_SOURCE}{where.text}) hits"
        " JOIN worklist_items i ON i.identifier = hits.item"
        " ORDER BY hits.start, hits.item, hits.number",
        where.parameters,
    )


def itemsBehind(conditions: Sequence[Condition], after: str, count: int) -> Statement:
    """
    A row for C{after}, where there is such an item, with no identifier; then
    the items behind it that have a matching step.
    """
    hits = ""
    where = _where(conditions)
    if conditions:
        hits = (
            f", hits AS MATERIALIZED (SELECT DISTINCT s.identifier FROM {_SOURCE}"
            f"{where.text})"
        )
    behind = Statement("TRUE")
    if after:
        behind = Statement(
            "(i.first_start, i.identifier) > (SELECT first_start, identifier FROM last)"
        )
    among = " AND i.identifier IN (SELECT identifier FROM hits)" if conditions else ""
    return Statement(
        "WITH last AS MATERIALIZED (SELECT first_start, identifier"
        f" FROM worklist_items WHERE identifier = %s){hits}"
        " (SELECT NULL, NULL::int, NULL::jsonb FROM last) UNION ALL"
        " (SELECT i.identifier, i.version, i.attributes FROM worklist_items i"
        f" WHERE {behind.text}{among} ORDER BY i.first_start, i.identifier LIMIT %s)",
        (after, *where.parameters, count),
    )


# --- the worklist -----------------------------------------------------------


def _step(number: int, *item: Any) -> ScheduledStep:
    return ScheduledStep(WorklistItem(*item), number)


@implementer(IScheduledSteps)
class ScheduledSteps:
    """
    The steps that match, pulled batch by batch: as
    L{d360.index.results.Matches}, nothing is held in the database in between.

    @ivar _found: positions still to give, once they are known to be few.
    """

    def __init__(self, pool: ConnectionPool, conditions: Sequence[Condition]) -> None:
        self._pool = pool
        self._conditions = tuple(conditions)
        self._wanted = True
        self._isFirst = True
        self._found: List[_Position] | None = None
        self._last: _Position | None = None

    def _query(
        self, name: str, statement: Statement
    ) -> Deferred[List[tuple[Any, ...]]]:
        return self._pool.query(name, statement, isWanted=lambda: self._wanted)

    @asynchronous
    async def nextBatch(self) -> tuple[ScheduledStep, ...]:
        steps: tuple[ScheduledStep, ...] = ()
        if self._isFirst and self._conditions:
            steps = await self._first()
        self._isFirst = False
        # All of a page may have been removed since it was found.
        while self._wanted and not steps:
            positions = await self._take(BATCH)
            if not positions:
                self._wanted = False
                break
            rows = await self._query(
                "worklist: details", stepsAt(self._conditions, positions)
            )
            steps = tuple(_step(number, *item) for *item, number in rows)
        return steps if self._wanted else ()

    @asynchronous
    async def _first(self) -> tuple[ScheduledStep, ...]:
        """The first page, where matches are few; then the others are known."""
        rows = await self._query(
            "worklist: find", firstSteps(self._conditions, FEW, BATCH)
        )
        found = [row[:3] for row in rows if row[0] is not None]
        if len(found) > FEW:
            return ()
        self._found = sorted(set(found))[BATCH:]
        return tuple(
            _step(number, identifier, version, attributes)
            for start, identifier, number, version, attributes in rows
            if start is None
        )

    @asynchronous
    async def _take(self, count: int) -> Sequence[_Position]:
        if self._found is not None:
            taken, self._found = self._found[:count], self._found[count:]
            return taken
        rows = await self._query(
            "worklist: walk", nextSteps(self._conditions, self._last, count)
        )
        if len(rows) < count:
            self._found = []
        if rows:
            self._last = rows[-1]
        return rows

    def close(self) -> None:
        self._wanted = False


@implementer(IWorklist)
class PostgreSQLWorklist:
    """
    See L{IWorklist}.

    @param reading: where queries may take long.
    @param writing: where none does.
    """

    def __init__(self, reading: ConnectionPool, writing: ConnectionPool) -> None:
        self._reading = reading
        self._writing = writing

    def match(self, conditions: Sequence[Condition]) -> IScheduledSteps:
        return ScheduledSteps(self._reading, conditions)

    @asynchronous
    async def list(
        self, conditions: Sequence[Condition], after: str, count: int
    ) -> tuple[WorklistItem, ...]:
        rows = []
        if _isOurs(after):
            rows = await self._reading.query(
                "worklist: list", itemsBehind(conditions, after, count)
            )
        isThere = bool(rows) and rows[0][0] is None
        if after and not isThere:
            raise WorklistConflict("the item to go on behind is gone")
        return tuple(WorklistItem(*row) for row in rows[isThere:])

    @asynchronous
    async def get(self, identifier: str) -> WorklistItem | None:
        if not _isOurs(identifier):
            return None
        rows = await self._reading.query(
            "worklist: get",
            Statement(
                "SELECT identifier, version, attributes FROM worklist_items"
                " WHERE identifier = %s",
                (identifier,),
            ),
        )
        return WorklistItem(*rows[0]) if rows else None

    @asynchronous
    async def schedule(self, attributes: dict[str, Any]) -> WorklistItem:
        identifier, kept = uuid4().hex, _storable(attributes)
        version = await self._write(
            "worklist: schedule",
            "schedule_worklist_item(%s, %s, %s)",
            identifier,
            *rowsOf(kept),
        )
        assert version is not None
        return WorklistItem(identifier, version, kept)

    @asynchronous
    async def replace(
        self, identifier: str, attributes: dict[str, Any], version: int | None = None
    ) -> WorklistItem | None:
        if not _isOurs(identifier):
            return None
        kept = _storable(attributes)
        new = await self._write(
            "worklist: replace",
            "replace_worklist_item(%s, %s, %s, %s)",
            identifier,
            version,
            *rowsOf(kept),
        )
        return None if new is None else WorklistItem(identifier, new, kept)

    @asynchronous
    async def remove(self, identifier: str, version: int | None = None) -> bool:
        if not _isOurs(identifier):
            return False
        removed = await self._write(
            "worklist: remove",
            "remove_worklist_item(%s, %s)",
            identifier,
            version,
        )
        return removed is not None

    @asynchronous
    async def removeOld(self, before: date, count: int) -> tuple[WorklistItem, ...]:
        return await self._remove(
            "worklist: remove old",
            "remove_old_worklist_items(%s, %s)",
            before.strftime("%Y%m%d"),
            count,
        )

    @asynchronous
    async def removeArrived(self, count: int) -> tuple[WorklistItem, ...]:
        return await self._remove(
            "worklist: remove arrived", "remove_arrived_worklist_items(%s)", count
        )

    @asynchronous
    async def _remove(
        self, name: str, function: str, *arguments: Any
    ) -> tuple[WorklistItem, ...]:
        statement = Statement(
            f"SELECT identifier, version, attributes FROM {function}", arguments
        )
        rows = await self._writing.query(name, statement, repeatable=False)
        return tuple(WorklistItem(*row) for row in rows)

    @asynchronous
    async def _call(self, name: str, function: str, *arguments: Any) -> Any:
        rows = await self._writing.query(
            name, Statement(f"SELECT {function}", arguments), repeatable=False
        )
        return rows[0][0]

    @asynchronous
    async def _write(self, name: str, function: str, *arguments: Any) -> int | None:
        """
        @return: the item's version; C{None} where there is no such item.
        """
        version: int | None = await self._call(name, function, *arguments)
        if version == _STUDY_IS_TAKEN:
            raise WorklistConflict("another item has this Study Instance UID")
        if version == _CHANGED:
            raise WorklistConflict("the item was changed meanwhile")
        return version
