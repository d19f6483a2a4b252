"""
The matches of a L{Query}, page by page, as SQL: each page with all its values
in one statement. Pure functions; what comes from outside is a parameter, never
a part of the text.

There are two ways to them. L{found} looks for all that match, up to a number,
in whatever order the best index for the conditions gives them, and sorts them:
its answer are the IDs of all and the values of the first, and L{details} has
the values of the others. So the index of a selective key is used, and a query
with few matches is answered at once. L{walk} goes through an index in order,
filtering, from where the page before it ended: for what is too many to keep,
and at once for what matches all of such an index, or a range of it. Where
matches are many and yet far from the newest, as all patients of one name among
those of years ago, the walk to the first one would be long: L{probe} tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from d360.attributes import Level
from d360.index.sql import ENTITIES, Statement, columnOf, where
from d360.model import Query, Range

_MODALITIES = """array_to_string(ARRAY(
    SELECT DISTINCT c.modality FROM series c
    WHERE c.study = s.id AND c.modality <> '' ORDER BY c.modality
), E'\\\\')"""

_SERIES_COUNTS = """
LEFT JOIN LATERAL (
    SELECT count(*)::text AS series_count,
        coalesce(sum(c.instance_count), 0)::text AS instance_count
    FROM series c WHERE c.study = s.id
) of_study ON true"""

_PATIENT_COUNTS = """
LEFT JOIN LATERAL (
    SELECT count(DISTINCT c.study)::text AS study_count,
        count(*)::text AS series_count,
        coalesce(sum(c.instance_count), 0)::text AS instance_count
    FROM studies t JOIN series c ON c.study = t.id WHERE t.patient = {patient}
) of_patient ON true"""

# What is worked out when it is asked for: the expression, and what it needs.
_DERIVED = {
    "NumberOfPatientRelatedStudies": ("of_patient.study_count", _PATIENT_COUNTS),
    "NumberOfPatientRelatedSeries": ("of_patient.series_count", _PATIENT_COUNTS),
    "NumberOfPatientRelatedInstances": ("of_patient.instance_count", _PATIENT_COUNTS),
    "ModalitiesInStudy": (_MODALITIES, ""),
    "NumberOfStudyRelatedSeries": ("of_study.series_count", _SERIES_COUNTS),
    "NumberOfStudyRelatedInstances": ("of_study.instance_count", _SERIES_COUNTS),
    "NumberOfSeriesRelatedInstances": ("e.instance_count::text", ""),
}

#: Where a walk goes on: the values of its order's columns in the last row.
Position = tuple[Any, ...]


def _values(query: Query) -> tuple[list[str], str]:
    """The columns of C{query.returned}, and where they come from."""
    entity = ENTITIES[query.level]
    patients = query.level is Level.PATIENT
    columns: list[str] = []
    joins: list[str] = []
    for attribute in query.returned:
        if attribute.column:
            columns.append(columnOf(attribute, attribute.column, patients))
            continue
        expression, join = _DERIVED[attribute.keyword]
        columns.append(expression)
        join = join.replace("{patient}", "p.id" if patients else "s.patient")
        if join and join not in joins:
            joins.append(join)
    return columns or ["NULL"], entity.source + "".join(joins)


def details(query: Query, ids: Sequence[str]) -> Statement:
    """
    A row of text for each of these entities that is still there, in order:
    C{query.returned}.
    """
    entity = ENTITIES[query.level]
    columns, source = _values(query)
    return Statement(
        f"SELECT {', '.join(columns)} FROM {source}"
        f" WHERE {entity.alias}.id = ANY(%s::bigint[])"
        f" ORDER BY {entity.alias}.id {entity.direction}",
        (f"{{{','.join(ids)}}}",),
    )


def found(query: Query, few: int, limit: int) -> Statement:
    """
    A row with the IDs of all entities that match, in order, with a space
    between; of some C{few} + 1 where there are more. Its further columns are
    empty. Then, with C{None} in front, the L{details} of the first C{limit}.

    Nothing here asks for an order or for few rows, in the planner's eyes: a
    materialized WITH query is planned for all its rows, with the best index
    for the conditions, and yet is read no further than the limit.
    """
    entity = ENTITIES[query.level]
    condition = where(query)
    columns, source = _values(query)
    return Statement(
        f"WITH hits AS MATERIALIZED (SELECT {entity.alias}.id"
        f" FROM {entity.source}{condition.text}),"
        " few AS MATERIALIZED (SELECT id FROM hits LIMIT %s)"
        f" (SELECT coalesce(string_agg(id::text, ' ' ORDER BY id {entity.direction}),"
        f" ''), {', '.join('NULL' for _ in columns)} FROM few)"
        f" UNION ALL (SELECT NULL, {', '.join(columns)} FROM {source}"
        f" WHERE {entity.alias}.id = ANY(ARRAY("
        f"SELECT id FROM few ORDER BY id {entity.direction} LIMIT %s))"
        f" ORDER BY {entity.alias}.id {entity.direction})",
        (*condition.parameters, few + 1, limit),
    )


def hasDates(query: Query) -> bool:
    """Whether its matches are a range of the index of study dates, or in one."""
    return query.level is Level.STUDY and any(map(_isOfDates, query.conditions))


def _isOfDates(condition: object) -> bool:
    return isinstance(condition, Range) and condition.attribute.keyword == "StudyDate"


def _order(query: Query) -> tuple[str, ...]:
    """The columns by which L{walk} goes; the last one tells entities apart."""
    identity = f"{ENTITIES[query.level].alias}.id"
    return ("s.study_date_key", identity) if hasDates(query) else (identity,)


def isWalk(query: Query) -> bool:
    """Whether all that L{walk} would come by matches, so that it is the way."""
    if query.level is not Level.STUDY:
        return not query.conditions
    return all(map(_isOfDates, query.conditions))


def walk(query: Query, after: Position, limit: int) -> Statement:
    """
    The entities that match, in order, beginning behind C{after}: a row for
    each with its position, then its L{details}.

    @param after: empty to begin.
    """
    if not after:
        return _walk(query, limit)
    order = _order(query)
    comparison = "<" if ENTITIES[query.level].direction == "DESC" else ">"
    places = ", ".join("%s" for _ in order)
    behind = Statement(f"({', '.join(order)}) {comparison} ({places})", after)
    return _walk(query, limit, behind)


def canProbe(query: Query) -> bool:
    """Whether L{probe} is for this query."""
    return query.level <= Level.STUDY and not hasDates(query)


def probe(query: Query, newest: int, limit: int) -> Statement:
    """
    The first page of L{walk} as far as it is found among so many of the newest
    patients or studies. If that fills it, matches are not far between.
    """
    alias, table = ENTITIES[query.level].alias, ENTITIES[query.level].source
    among = Statement(
        f"{alias}.id > (SELECT max({alias}.id) FROM {table}) - %s", (newest,)
    )
    return _walk(query, limit, among)


def _walk(query: Query, limit: int, *more: Statement) -> Statement:
    entity = ENTITIES[query.level]
    order = _order(query)
    condition = where(query, *more)
    columns, source = _values(query)
    by = ", ".join(f"{column} {entity.direction}" for column in order)
    return Statement(
        f"SELECT {', '.join((*order, *columns))} FROM {source}"
        f" WHERE {entity.alias}.id = ANY(ARRAY(SELECT {entity.alias}.id"
        f" FROM {entity.source}{condition.text} ORDER BY {by} LIMIT %s))"
        f" ORDER BY {by}",
        (*condition.parameters, limit),
    )


def positionLength(query: Query) -> int:
    """How many columns of a row of L{walk} are its position."""
    return len(_order(query))
