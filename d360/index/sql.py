"""
A L{Query} as SQL. Pure functions: what comes from outside is a parameter,
never a part of the text.

A query is answered in steps. L{firstIDs} looks for the entities that match,
a bounded number of them. Where that finds all, they are few, and L{details}
fetches them page by page. Where there are more, L{nextIDs} walks the primary
key, filtering, and L{details} follows. So selective queries use the index of
their key, and others never sort or hold what they find.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from d360.attributes import Attribute, Level
from d360.index.rows import clean
from d360.model import AnyOf, Condition, NameMatch, Nothing, Query, Range, Wildcard


@frozen
class Statement:
    """SQL text with C{%s} for each of its parameters."""

    text: str
    parameters: tuple[Any, ...] = ()


@frozen
class _Entity:
    """
    How entities of a level are found.

    @ivar alias: the table's name within a statement.
    @ivar source: the table, with those of the levels above it.
    @ivar order: the newest patients and studies come first; within a study
        the order of arrival.
    """

    alias: str
    source: str
    order: str


_ENTITIES = {
    Level.PATIENT: _Entity("p", "patients p", "DESC"),
    Level.STUDY: _Entity("s", "studies s", "DESC"),
    Level.SERIES: _Entity("e", "series e JOIN studies s ON s.id = e.study", "ASC"),
    Level.IMAGE: _Entity(
        "i",
        "instances i JOIN series e ON e.id = i.series JOIN studies s ON s.id = e.study",
        "ASC",
    ),
}

_SERIES_COUNTS = """
LEFT JOIN LATERAL (
    SELECT count(*)::text AS series_count,
        coalesce(sum(c.instance_count), 0)::text AS instance_count,
        string_agg(DISTINCT nullif(c.modality, ''), E'\\\\' ORDER BY
            nullif(c.modality, '')) AS modalities
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
    "ModalitiesInStudy": ("coalesce(of_study.modalities, '')", _SERIES_COUNTS),
    "NumberOfStudyRelatedSeries": ("of_study.series_count", _SERIES_COUNTS),
    "NumberOfStudyRelatedInstances": ("of_study.instance_count", _SERIES_COUNTS),
    "NumberOfSeriesRelatedInstances": ("e.instance_count::text", ""),
}


# --- conditions ---------------------------------------------------------------


def likePattern(pattern: str) -> str:
    """A wild card pattern (PS3.4 C.2.2.2.4) as one of LIKE."""
    literal = re.sub(r"([\\%_])", r"\\\1", pattern)
    return literal.replace("*", "%").replace("?", "_")


def regularExpression(pattern: str) -> str:
    """A wild card pattern as a regular expression that stays in its group."""
    literal = re.sub(r"([\\.^$+()\[\]{}|])", r"\\\1", pattern)
    return re.sub(r"\*+", "[^=]*", literal).replace("?", "[^=]")


def _nameInAnyGroup(column: str, pattern: str) -> Statement:
    """
    A pattern for any component group of a key like C{=group=group=}.

    LIKE is what the trigram index serves. A wild card of its own may cross
    into the next group, so that a regular expression looks again, unless the
    wild cards are at the edges, where going on to the group's end is always
    possible.
    """
    core = pattern.strip("*")
    before = "%" if pattern.startswith("*") else "%="
    after = "%" if pattern.endswith("*") else "=%"
    like = Statement(f"{column} LIKE %s", (before + likePattern(core) + after,))
    if "*" not in core and "?" not in core:
        return like
    inside = regularExpression(pattern)
    return Statement(
        f"({like.text} AND {column} ~ %s)", (*like.parameters, f"={inside}=")
    )


def _nameInGroup(column: str, pattern: str, group: int) -> Statement:
    """A pattern for one component group, counted from 0."""
    if not pattern:
        # A group that is not there is an empty one.
        return Statement(f"{column} !~ %s", (f"^=(?:[^=]*=){{{group}}}[^=]",))
    core = pattern.rstrip("*")
    if group == 0 and "*" not in core and "?" not in core:
        after = "=%" if core == pattern else "%"
        return Statement(f"{column} LIKE %s", ("=" + likePattern(core) + after,))
    before = "=" if group == 0 else "%="
    return Statement(
        f"({column} LIKE %s AND {column} ~ %s)",
        (
            before + likePattern(pattern) + "=%",
            f"^=(?:[^=]*=){{{group}}}{regularExpression(pattern)}=",
        ),
    )


def _nameMatch(condition: NameMatch, column: str) -> Statement:
    alternatives = []
    for pattern in condition.patterns:
        pattern = clean(pattern)
        if pattern and not pattern.strip("*"):
            return Statement("TRUE")
        if condition.group is None:
            alternatives.append(_nameInAnyGroup(column, pattern))
        else:
            alternatives.append(_nameInGroup(column, pattern, condition.group))
    return _joined(" OR ", alternatives, "FALSE")


def _joined(word: str, parts: Sequence[Statement], empty: str) -> Statement:
    if not parts:
        return Statement(empty)
    if len(parts) == 1:
        return parts[0]
    return Statement(
        "(" + word.join(part.text for part in parts) + ")",
        tuple(value for part in parts for value in part.parameters),
    )


def _anyOf(condition: AnyOf, column: str) -> Statement:
    keys = [clean(key) if isinstance(key, str) else key for key in condition.keys]
    if not keys:
        return Statement("FALSE")
    if len(keys) == 1:
        return Statement(f"{column} = %s", (keys[0],))
    kind = "bigint[]" if condition.attribute.vr == "IS" else "text[]"
    return Statement(f"{column} = ANY(%s::{kind})", (keys,))


def _range(condition: Range, column: str) -> Statement:
    if condition.low is None and condition.high is None:
        return Statement(f"{column} IS NOT NULL")
    parts = []
    if condition.low is not None:
        parts.append(Statement(f"{column} >= %s", (clean(condition.low),)))
    if condition.high is not None:
        parts.append(Statement(f"{column} <= %s", (clean(condition.high),)))
    return _joined(" AND ", parts, "TRUE")


def _onColumn(condition: Condition, column: str, keyColumn: str) -> Statement:
    match condition:
        case AnyOf():
            return _anyOf(condition, keyColumn)
        case Wildcard(patterns=patterns):
            likes = [
                Statement(f"{column} LIKE %s", (likePattern(clean(pattern)),))
                for pattern in patterns
            ]
            return _joined(" OR ", likes, "FALSE")
        case NameMatch():
            return _nameMatch(condition, keyColumn)
        case Range():
            return _range(condition, keyColumn)
        case Nothing():
            return Statement("FALSE")


def _aliasOf(attribute: Attribute, patients: bool) -> str:
    """
    The table that answers for an attribute: a study's copy of its patient's,
    unless the query is about patients.
    """
    if attribute.level is Level.PATIENT and not patients:
        return "s"
    return _ENTITIES[attribute.level].alias


def conditionSQL(condition: Condition, patients: bool) -> Statement:
    """
    One condition as a boolean expression.

    @param patients: it is one on the table of patients.
    """
    attribute = condition.attribute
    if attribute.keyword == "ModalitiesInStudy":
        inner = _onColumn(condition, "m.modality", "m.modality")
        return Statement(
            f"EXISTS (SELECT FROM series m WHERE m.study = s.id AND {inner.text})",
            inner.parameters,
        )
    if not attribute.column:
        raise ValueError(f"{attribute.keyword} is no matching key")
    alias = _aliasOf(attribute, patients)
    return _onColumn(
        condition, f"{alias}.{attribute.column}", f"{alias}.{attribute.matchColumn}"
    )


def _where(query: Query, *more: Statement) -> Statement:
    patients = query.level is Level.PATIENT
    parts = [conditionSQL(condition, patients) for condition in query.conditions]
    parts.extend(more)
    if not parts:
        return Statement("")
    return Statement(
        " WHERE " + " AND ".join(part.text for part in parts),
        tuple(value for part in parts for value in part.parameters),
    )


# --- matches --------------------------------------------------------------------


def newestFirst(level: Level) -> bool:
    """Whether the IDs of this level's entities are given in falling order."""
    return _ENTITIES[level].order == "DESC"


def firstIDs(query: Query, limit: int) -> Statement:
    """
    IDs of matching entities, in no order, as many as C{limit}.

    Nothing here asks for an order or for few rows, in the planner's eyes: a
    materialized WITH query is planned for all its rows, with the best index
    for the conditions, and yet is read no further than the limit.
    """
    entity = _ENTITIES[query.level]
    where = _where(query)
    return Statement(
        f"WITH hits AS MATERIALIZED (SELECT {entity.alias}.id"
        f" FROM {entity.source}{where.text}) SELECT id FROM hits LIMIT %s",
        (*where.parameters, limit),
    )


def nextIDs(query: Query, after: int | None, limit: int) -> Statement:
    """IDs of matching entities in order, beginning behind C{after}."""
    entity = _ENTITIES[query.level]
    comparison = "<" if newestFirst(query.level) else ">"
    where = (
        _where(query)
        if after is None
        else _where(query, Statement(f"{entity.alias}.id {comparison} %s", (after,)))
    )
    return Statement(
        f"SELECT {entity.alias}.id FROM {entity.source}{where.text}"
        f" ORDER BY {entity.alias}.id {entity.order} LIMIT %s",
        (*where.parameters, limit),
    )


def details(query: Query, ids: Sequence[int]) -> Statement:
    """
    A row of text for each of these entities that is still there, in order:
    C{query.returned}.
    """
    entity = _ENTITIES[query.level]
    patients = query.level is Level.PATIENT
    columns, joins = [], []
    for attribute in query.returned:
        if attribute.column:
            columns.append(f"{_aliasOf(attribute, patients)}.{attribute.column}")
            continue
        expression, join = _DERIVED[attribute.keyword]
        columns.append(expression)
        join = join.replace("{patient}", "p.id" if patients else "s.patient")
        if join and join not in joins:
            joins.append(join)
    return Statement(
        f"SELECT {', '.join(columns) or 'NULL'} FROM {entity.source}{''.join(joins)}"
        f" WHERE {entity.alias}.id = ANY(%s::bigint[])"
        f" ORDER BY {entity.alias}.id {entity.order}",
        (list(ids),),
    )


# --- stored instances -----------------------------------------------------------


def _seriesOf(query: Query, after: int) -> Statement:
    """The series with a higher ID than C{after} that hold what is asked for."""
    patients = query.level is Level.PATIENT
    source = _ENTITIES[Level.SERIES].source
    if patients:
        source += " JOIN patients p ON p.id = s.patient"
    where = [
        conditionSQL(condition, patients)
        for condition in query.conditions
        if condition.attribute.level is not Level.IMAGE
    ]
    instances = imageConditions(query)
    if instances.text:
        inner = f"SELECT i.series FROM instances i WHERE {instances.text}"
        where.append(Statement(f"e.id IN ({inner})", instances.parameters))
    if after:
        where.append(Statement("e.id > %s", (after,)))
    condition = _joined(" AND ", where, "TRUE")
    return Statement(
        f"SELECT e.id, e.instance_count FROM {source} WHERE {condition.text}",
        condition.parameters,
    )


def firstSeries(query: Query, limit: int) -> Statement:
    """
    ID and number of instances of the series that hold an instance asked for;
    as L{firstIDs}.
    """
    inner = _seriesOf(query, 0)
    return Statement(
        f"WITH hits AS MATERIALIZED ({inner.text})"
        " SELECT id, instance_count FROM hits LIMIT %s",
        (*inner.parameters, limit),
    )


def nextSeries(query: Query, after: int, limit: int) -> Statement:
    """As L{firstSeries}, in order, beginning behind C{after}, 0 for all."""
    inner = _seriesOf(query, after)
    return Statement(f"{inner.text} ORDER BY e.id LIMIT %s", (*inner.parameters, limit))


def imageConditions(query: Query) -> Statement:
    """The conditions on instances themselves; empty where there is none."""
    return _joined(
        " AND ",
        [
            conditionSQL(condition, False)
            for condition in query.conditions
            if condition.attribute.level is Level.IMAGE
        ],
        "",
    )


#: A position among the instances of some series: series, number, SOP UID.
Position = tuple[int, int, str]

#: Before all instances. Instances without a number come last in their series.
START: Position = (0, 0, "")
_UNNUMBERED = 2**62


def instancesOf(
    query: Query, series: Sequence[int], after: Position, limit: int
) -> Statement:
    """
    The instances of some series that a query asks for, in order: first the
    three columns of a L{Position}, then those of a
    L{d360.model.StoredInstance}.
    """
    number = f"coalesce(i.instance_number_key, {_UNNUMBERED})"
    condition = imageConditions(query)
    return Statement(
        f"SELECT i.series, {number}, i.sop_instance_uid, i.sop_class_uid,"
        " i.transfer_syntax_uid, i.path, i.data_set_offset, i.size, i.digest"
        " FROM instances i WHERE i.series = ANY(%s::bigint[])"
        + (f" AND {condition.text}" if condition.text else "")
        + f" AND (i.series, {number}, i.sop_instance_uid) > (%s, %s, %s)"
        " ORDER BY i.series, i.instance_number_key, i.sop_instance_uid LIMIT %s",
        (list(series), *condition.parameters, *after, limit),
    )


# --- locations and totals ---------------------------------------------------------

TOTALS = Statement(
    "SELECT (SELECT count(*) FROM patients), (SELECT count(*) FROM studies),"
    " count(*), coalesce(sum(instance_count), 0)::bigint,"
    " coalesce(sum(size), 0)::bigint FROM series"
)

STATE = Statement(
    "SELECT current_setting('server_version'),"
    " (SELECT max(version) FROM schema_version)"
)


def isAt(path: str) -> Statement:
    """
    Whether an instance is entered with a path, as one boolean; behind all that
    was sent before.
    """
    return Statement("SELECT is_entered(%s)", (path,))


def pathsBelow(folder: str, after: int, limit: int) -> Statement:
    """
    ID, path and offset of the instances entered below a folder, by ID.

    The first folder is what the index knows; a deeper one is compared. C{0}
    is the character behind C{/}.
    """
    return Statement(
        "SELECT id, path, data_set_offset FROM instances"
        " WHERE split_part(path, '/', 1) = %s AND path >= %s AND path < %s"
        " AND id > %s ORDER BY id LIMIT %s",
        (folder.split("/")[0], folder + "/", folder + "0", after, limit),
    )


def register(batch: str) -> Statement:
    """Enter a batch of L{d360.index.rows.batch}."""
    return Statement("SELECT * FROM register_instances(%s)", (batch,))


def forget(path: str) -> Statement:
    """Remove what is entered with a path, as one boolean."""
    return Statement("SELECT forget_instance(%s)", (path,))


# --- remote AEs -------------------------------------------------------------------

REMOTE_AES = Statement("SELECT title, host, port FROM remote_aes ORDER BY title")


def remoteAE(title: str) -> Statement:
    """Title, host and port of one, if there is such."""
    return Statement(
        "SELECT title, host, port FROM remote_aes WHERE title = %s", (title,)
    )


def putRemoteAE(title: str, host: str, port: int) -> Statement:
    """Add or replace one; whether it is new, as one boolean."""
    # A row that took the place of another has locked that one: its xmax.
    return Statement(
        "INSERT INTO remote_aes (title, host, port) VALUES (%s, %s, %s)"
        " ON CONFLICT (title) DO UPDATE SET host = excluded.host,"
        " port = excluded.port RETURNING xmax = 0",
        (title, host, port),
    )


def removeRemoteAE(title: str) -> Statement:
    """Remove one; a row if there was such."""
    return Statement(
        "DELETE FROM remote_aes WHERE title = %s RETURNING title", (title,)
    )
