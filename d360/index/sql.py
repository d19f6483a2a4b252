"""
A L{Query} as SQL. Pure functions: what comes from outside is a parameter,
never a part of the text.

The matches themselves are asked for page by page, see L{d360.index.pages}.
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
class Entity:
    """
    How entities of a level are found.

    @ivar alias: the table's name within a statement.
    @ivar source: the table, with those of the levels above it.
    @ivar direction: of their order: the newest patients and studies come first;
        within a study the order of arrival.
    """

    alias: str
    source: str
    direction: str


ENTITIES = {
    Level.PATIENT: Entity("p", "patients p", "DESC"),
    Level.STUDY: Entity("s", "studies s", "DESC"),
    Level.SERIES: Entity("e", "series e JOIN studies s ON s.id = e.study", "ASC"),
    Level.IMAGE: Entity(
        "i",
        "instances i JOIN series e ON e.id = i.series JOIN studies s ON s.id = e.study",
        "ASC",
    ),
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
    patterns = [clean(pattern) for pattern in condition.patterns]
    if any(pattern and not pattern.strip("*") for pattern in patterns):
        return Statement("TRUE")
    if condition.group is not None:
        groups = [_nameInGroup(column, one, condition.group) for one in patterns]
        return _joined(" OR ", groups, "FALSE")
    return _nameAnywhere(column, patterns)


def _nameAnywhere(column: str, patterns: Sequence[str]) -> Statement:
    """
    Patterns for any component group. What begins with text is looked for at
    the start of the first group, by the ordered index; and in the other groups
    of names that have some, by a trigram index of these alone (schema 4).
    """
    alternatives, inOthers = [], []
    for pattern in patterns:
        if not pattern or pattern.startswith(("*", "?")):
            alternatives.append(_nameInAnyGroup(column, pattern))
        else:
            alternatives.append(_nameInGroup(column, pattern, 0))
            inOthers.append(_nameInAnyGroup(column, pattern))
    if inOthers:
        hasOthers = Statement(f"{column} LIKE %s", ("=%=%=",))
        others = _joined(" OR ", inOthers, "FALSE")
        alternatives.append(_joined(" AND ", [hasOthers, others], "FALSE"))
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


def columnOf(attribute: Attribute, column: str, patients: bool) -> str:
    """
    A column of the table that answers for an attribute: a study's copy of its
    patient's, unless the query is about patients.
    """
    if attribute.level is Level.PATIENT and not patients:
        return f"s.{column}"
    return f"{ENTITIES[attribute.level].alias}.{column}"


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
    return _onColumn(
        condition,
        columnOf(attribute, attribute.column, patients),
        columnOf(attribute, attribute.matchColumn, patients),
    )


def where(query: Query, *more: Statement) -> Statement:
    """The condition that a query's matches fulfil, with its C{WHERE}."""
    patients = query.level is Level.PATIENT
    parts = [conditionSQL(condition, patients) for condition in query.conditions]
    parts.extend(more)
    if not parts:
        return Statement("")
    return Statement(
        " WHERE " + " AND ".join(part.text for part in parts),
        tuple(value for part in parts for value in part.parameters),
    )


# --- stored instances -----------------------------------------------------------


def _seriesOf(query: Query, after: int) -> Statement:
    """The series with a higher ID than C{after} that hold what is asked for."""
    patients = query.level is Level.PATIENT
    source = ENTITIES[Level.SERIES].source
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
    as
    L{d360.index.pages.found}.
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


#: The columns of a L{d360.model.StoredInstance}.
_STORED = (
    "i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.path,"
    " i.data_set_offset, i.size, i.digest"
)

#: A position among the instances of some series: series, number, SOP UID.
Position = tuple[int, int, str]

#: Before all instances. Instances without a number come last in their series.
START: Position = (0, 0, "")
_NUMBER = f"coalesce(i.instance_number_key, {2**62})"


def instancesOf(
    query: Query, series: Sequence[int], after: Position, limit: int
) -> Statement:
    """
    The instances of some series that a query asks for, in order: first the
    two columns of a L{Position}, then those of a L{d360.model.StoredInstance},
    whose first is its third.
    """
    condition = imageConditions(query)
    return Statement(
        f"SELECT i.series, {_NUMBER}, {_STORED}"
        " FROM instances i WHERE i.series = ANY(%s::bigint[])"
        + (f" AND {condition.text}" if condition.text else "")
        + f" AND (i.series, {_NUMBER}, i.sop_instance_uid) > (%s, %s, %s)"
        " ORDER BY i.series, i.instance_number_key, i.sop_instance_uid LIMIT %s",
        (list(series), *condition.parameters, *after, limit),
    )


def namesInstances(query: Query) -> bool:
    """Whether L{namedInstances} is for this query."""
    return any(
        isinstance(condition, AnyOf) and condition.attribute.keyword == "SOPInstanceUID"
        for condition in query.conditions
    )


def namedInstances(query: Query, after: Position, limit: int) -> Statement:
    """
    As L{instancesOf}, of whatever series, for a query that has the UIDs of the
    instances. It is one look: of two, for the series and for what is in them,
    neither finds an instance that goes from one series to another in between.
    """
    condition = where(query)
    return Statement(
        f"WITH hits AS MATERIALIZED (SELECT i.series, {_NUMBER} AS number, {_STORED}"
        f" FROM {ENTITIES[Level.IMAGE].source}{condition.text})"
        " SELECT * FROM hits"
        " WHERE (series, number, sop_instance_uid) > (%s, %s, %s)"
        " ORDER BY series, number, sop_instance_uid LIMIT %s",
        (*condition.parameters, *after, limit),
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


def storedAt(path: str) -> Statement:
    """What is entered with a path: the columns of a stored instance."""
    return Statement(f"SELECT {_STORED} FROM instances i WHERE i.path = %s", (path,))


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


def extent(after: int) -> Statement:
    """The highest ID of an instance above C{after}, and how many there are."""
    return Statement(
        "SELECT coalesce(max(id), 0), count(*) FROM instances WHERE id > %s", (after,)
    )


def instancesAfter(after: int, limit: int) -> Statement:
    """
    The instances with an ID above C{after}, by ID: this, and the columns of a
    L{d360.model.StoredInstance}.
    """
    return Statement(
        f"SELECT i.id, {_STORED} FROM instances i WHERE i.id > %s"
        " ORDER BY i.id LIMIT %s",
        (after, limit),
    )


def register(batch: str, writer: str, lowest: int | None) -> Statement:
    """
    Enter a batch of L{d360.index.rows.batch}.

    @param writer: whose it is.
    @param lowest: the lowest ID of its instances that are not confirmed.
    """
    return Statement(
        "SELECT * FROM register_instances(%s, %s, %s)", (batch, writer, lowest)
    )


def confirmed(writer: str) -> Statement:
    """None of a process' instances waits to be confirmed."""
    return Statement(
        "DELETE FROM unconfirmed WHERE writer = %s RETURNING writer", (writer,)
    )


#: All of them, of all processes.
ALL_CONFIRMED = Statement("DELETE FROM unconfirmed RETURNING writer")


def unconfirmed(after: int, limit: int) -> Statement:
    """
    Instances that may not be confirmed, with an ID above C{after}, by ID: this,
    and the columns of a L{d360.model.StoredInstance}.
    """
    return Statement(
        f"SELECT i.id, {_STORED} FROM instances i"
        " WHERE i.id >= (SELECT min(lowest) FROM unconfirmed) AND i.id > %s"
        " ORDER BY i.id LIMIT %s",
        (after, limit),
    )


def forget(path: str) -> Statement:
    """Remove what is entered with a path, as one boolean."""
    return Statement("SELECT forget_instance(%s)", (path,))


# --- remote AEs -------------------------------------------------------------------

_REMOTE_AE = "title, host, port, permissions, tls, certificate"

REMOTE_AES = Statement(f"SELECT {_REMOTE_AE} FROM remote_aes ORDER BY title")


def remoteAE(title: str) -> Statement:
    """One, if there is such: its columns in the order of L{d360.model.RemoteAE}."""
    return Statement(f"SELECT {_REMOTE_AE} FROM remote_aes WHERE title = %s", (title,))


def putRemoteAE(
    title: str,
    host: str,
    port: int,
    permissions: list[str],
    tls: bool,
    certificate: str,
) -> Statement:
    """Add or replace one; whether it is new, as one boolean."""
    # A row that took the place of another has locked that one: its xmax.
    return Statement(
        f"INSERT INTO remote_aes ({_REMOTE_AE}) VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (title) DO UPDATE SET host = excluded.host,"
        " port = excluded.port, permissions = excluded.permissions,"
        " tls = excluded.tls, certificate = excluded.certificate"
        " RETURNING xmax = 0",
        (title, host, port, permissions, tls, certificate),
    )


def removeRemoteAE(title: str) -> Statement:
    """Remove one; a row if there was such."""
    return Statement(
        "DELETE FROM remote_aes WHERE title = %s RETURNING title", (title,)
    )


# --- storage commitments ----------------------------------------------------------

#: Seconds for which it stays true what was found of instances.
_CHECK_HOLDS = 86400

#: Requests of one AE title that are kept.
MAX_COMMITMENTS = 1000

_COMMITMENT = (
    "identifier, ae_title, transaction_uid, attempts,"
    " extract(epoch FROM now() - received_at)::float8"
)
_REFERENCES = (
    "sop_class_uids, sop_instance_uids, CASE WHEN checked_at > now()"
    f" - interval '{_CHECK_HOLDS} seconds' THEN reasons END"
)

#: Whoever saw to one that is due again has had his time.
_UNDER_WAY = "(failure IS NULL AND due_at > now())"


def addCommitment(
    aeTitle: str,
    transactionUID: str,
    sopClasses: list[str],
    sopInstances: list[str],
    patience: float,
) -> Statement:
    """
    Keep one, or put it in the place of its like; its identifier, nothing where
    there are too many.
    """
    return Statement(
        "INSERT INTO commitment_requests (ae_title, transaction_uid, sop_class_uids,"
        " sop_instance_uids, due_at) SELECT %s, %s, %s::text[], %s::text[],"
        " now() + %s * interval '1 second'"
        " WHERE (SELECT count(*) FROM commitment_requests WHERE ae_title = %s) < %s"
        # As another one, for who is at work on the old one.
        " ON CONFLICT (ae_title, transaction_uid) DO UPDATE SET identifier = DEFAULT,"
        " sop_class_uids = excluded.sop_class_uids,"
        " sop_instance_uids = excluded.sop_instance_uids, reasons = NULL,"
        " checked_at = NULL, attempts = 0, received_at = excluded.received_at,"
        " due_at = excluded.due_at, failed_at = NULL, failure = NULL"
        " RETURNING identifier",
        (
            aeTitle,
            transactionUID,
            sopClasses,
            sopInstances,
            patience,
            aeTitle,
            MAX_COMMITMENTS,
        ),
    )


def dueCommitment(patience: float, without: list[str]) -> Statement:
    """
    One that is due, which is put off by C{patience} seconds.

    @param without: AE titles whose are left out.
    """
    return Statement(
        "UPDATE commitment_requests SET attempts = attempts + 1,"
        " due_at = now() + %s * interval '1 second', failure = NULL"
        " WHERE identifier = (SELECT identifier FROM commitment_requests"
        " WHERE due_at <= now() AND ae_title <> ALL(%s::text[])"
        " ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)"
        f" RETURNING {_COMMITMENT}, {_REFERENCES}",
        (patience, without),
    )


def renewCommitment(identifier: int, attempts: int, patience: float) -> Statement:
    """Have it due later, if nobody else has it; a row if so."""
    return Statement(
        "UPDATE commitment_requests SET due_at = now() + %s * interval '1 second'"
        " WHERE identifier = %s AND attempts = %s RETURNING identifier",
        (patience, identifier, attempts),
    )


def postponeCommitment(identifier: int, patience: float, why: str) -> Statement:
    """Have it due later; nobody sees to it until then."""
    return Statement(
        "UPDATE commitment_requests SET due_at = now() + %s * interval '1 second',"
        " failure = %s, failed_at = CASE %s WHEN '' THEN failed_at ELSE now() END"
        " WHERE identifier = %s RETURNING identifier",
        (patience, why, why, identifier),
    )


def putOffCommitments(aeTitle: str, patience: float) -> Statement:
    """Have those of an AE title that nobody sees to due not before."""
    return Statement(
        "UPDATE commitment_requests SET"
        " due_at = greatest(due_at, now() + %s * interval '1 second')"
        f" WHERE ae_title = %s AND NOT {_UNDER_WAY} RETURNING identifier",
        (patience, aeTitle),
    )


def retryCommitment(identifier: int) -> Statement:
    """Have it due now, unless somebody sees to it; a row if it is there."""
    return Statement(
        "UPDATE commitment_requests SET"
        f" due_at = CASE WHEN {_UNDER_WAY} THEN due_at ELSE now() END"
        " WHERE identifier = %s RETURNING identifier",
        (identifier,),
    )


def commitmentChecked(identifier: int, reasons: list[int]) -> Statement:
    """Keep what was found."""
    return Statement(
        "UPDATE commitment_requests SET reasons = %s::integer[], checked_at = now()"
        " WHERE identifier = %s RETURNING identifier",
        (reasons, identifier),
    )


def removeCommitment(identifier: int) -> Statement:
    """It is of no more use."""
    return Statement(
        "DELETE FROM commitment_requests WHERE identifier = %s RETURNING identifier",
        (identifier,),
    )


def commitments(count: int) -> Statement:
    """The oldest ones, as people are shown them."""
    return Statement(
        "SELECT identifier, ae_title, transaction_uid, instances, attempts,"
        f" received_at, due_at, {_UNDER_WAY}, failed_at, coalesce(failure, '')"
        " FROM commitment_requests ORDER BY identifier LIMIT %s",
        (count,),
    )
