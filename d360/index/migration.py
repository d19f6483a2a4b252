"""
The schema of the index, brought to the version that this code knows. Runs
before the reactor does, and blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing, suppress
from importlib.resources import files
from typing import Any

import psycopg2
from psycopg2.extensions import parse_dsn

from d360.errors import StartupError
from d360.index.pool import SESSION
from d360.logs import Logger

_log = Logger("d360.index.migration")

#: The oldest PostgreSQL that still gets corrections.
OLDEST_SERVER = 14

#: Two processes that start at the same time take turns (the other lock of
#: this space is the writers').
_LOCK = (360, 2)

_CONNECT_TIMEOUT = 10


def migrations() -> tuple[tuple[int, str], ...]:
    """Version and SQL of each migration, in order."""
    found = []
    for entry in files("d360.index.schema").iterdir():
        match = re.fullmatch(r"(\d{4})\.sql", entry.name)
        if match:
            found.append((int(match[1]), entry.read_text("utf-8")))
    return tuple(sorted(found))


def checkAndMigrate(dsn: str) -> int:
    """
    Make a database ready for L{d360.index.database.PostgreSQLIndex}: check
    that it can be, then apply the migrations that it lacks.

    @return: the schema's version.
    @raise StartupError: it cannot be used; the message says what to do.
    """
    with closing(connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            _checkServer(cursor)
            _takeTurn(cursor)
            try:
                return _migrate(cursor)
            except psycopg2.Error as error:
                raise StartupError(
                    "the database's schema cannot be brought up to date, and is left "
                    f"as it was: {_whyNot(error)}"
                ) from None


def partsOf(dsn: str) -> dict[str, str]:
    """
    What a URL says, by libpq's names.

    @raise StartupError: it is none.
    """
    try:
        parts: dict[str, str] = parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        # The parser's message quotes the URL, and with it a password.
        raise StartupError(
            "database.url is no PostgreSQL URL: write "
            "postgresql://user:password@host:5432/database"
        ) from None
    return parts


def connect(dsn: str) -> Any:
    """A blocking connection, or a L{StartupError} that names the server."""
    where = _serverOf(dsn)
    try:
        return psycopg2.connect(dsn, **{"connect_timeout": _CONNECT_TIMEOUT, **SESSION})
    except psycopg2.Error as error:
        raise StartupError(
            f"no connection to the database {where}: {_reason(error)}"
        ) from None


def _serverOf(dsn: str) -> str:
    parts = partsOf(dsn)
    host = parts.get("host") or parts.get("hostaddr") or "on the local socket"
    return (
        f"{parts.get('dbname') or parts.get('user') or ''!r} at "
        f"{host} port {parts.get('port') or 5432}"
    )


def _reason(error: psycopg2.Error) -> str:
    text = str(error)
    if "no password supplied" in text:
        return "it asks for a password; add one to database.url, or to ~/.pgpass"
    if "password authentication failed" in text:
        return "it refuses the user or the password of database.url"
    if "does not exist" in text and "database" in text:
        return "there is no such database; make it with createdb"
    line = firstLine(error).rsplit("failed: ", 1)[-1]
    return f"{line}; check database.url and that the server runs"


def _takeTurn(cursor: Any) -> None:
    """Wait until nobody else migrates; say so, for it may take long."""
    # Should we be killed, the server notices, and does not go on for nobody with
    # what the next one has to wait for. Not every platform can.
    with suppress(psycopg2.Error):
        cursor.execute("SET client_connection_check_interval = '2s'")
    cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", _LOCK)
    if not cursor.fetchone()[0]:
        _log.warn(
            "another process is bringing the database's schema up to date; waiting"
        )
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", _LOCK)


def _whyNot(error: psycopg2.Error) -> str:
    """Why the schema could not be changed, and what to do."""
    line = firstLine(error)
    if error.pgcode == "53100":
        return f"{line}; make room on the database's disk, and start again"
    if error.pgcode == "42501":
        return f"{line}; the database must belong to the role of database.url"
    return f"{line}; see the database's log, and start again"


def firstLine(error: Exception) -> str:
    """The first line of a server's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _checkServer(cursor: Any) -> None:
    cursor.execute(
        "SELECT current_setting('server_version_num')::int / 10000,"
        " pg_encoding_to_char(encoding), pg_is_in_recovery()"
        " FROM pg_database WHERE datname = current_database()"
    )
    major, encoding, standby = cursor.fetchone()
    if major < OLDEST_SERVER:
        raise StartupError(
            f"the database server is PostgreSQL {major}; D360 needs "
            f"{OLDEST_SERVER} or later"
        )
    if encoding != "UTF8":
        raise StartupError(
            f"the database's encoding is {encoding}; make one for D360 with "
            "createdb --encoding=UTF8 --template=template0"
        )
    if standby:
        raise StartupError(
            "the database server is a read-only standby; "
            "let database.url name the primary"
        )


def _migrate(cursor: Any) -> int:
    known = migrations()
    latest = known[-1][0]
    cursor.execute("SELECT to_regclass('schema_version') IS NOT NULL")
    current = 0
    if cursor.fetchone()[0]:
        cursor.execute("SELECT coalesce(max(version), 0) FROM schema_version")
        current = cursor.fetchone()[0]
    if current > latest:
        raise StartupError(
            f"the database's schema is version {current}, newer than this "
            f"release of D360 knows ({latest}): install the newer release"
        )
    if current < latest:
        _requireTrigrams(cursor)
        _applyAll(cursor, [one for one in known if one[0] > current])
    return latest


def _requireTrigrams(cursor: Any) -> None:
    try:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except psycopg2.Error:
        raise StartupError(
            "the database lacks the extension pg_trgm and cannot make it: "
            "install PostgreSQL's contrib package on its server, then as its "
            'superuser run "CREATE EXTENSION pg_trgm" in this database'
        ) from None


def _applyAll(cursor: Any, missing: Sequence[tuple[int, str]]) -> None:
    """
    All of them as one transaction: whatever happens in between, the schema is the
    older one and of use to the older release, or the newer one.
    """
    cursor.execute("BEGIN")
    try:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS schema_version ("
            " version integer PRIMARY KEY,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        for version, text in missing:
            # Without parameters: the text's own percent signs are not looked at.
            cursor.execute(text)
            cursor.execute(
                "INSERT INTO schema_version (version) VALUES (%s)", (version,)
            )
    except psycopg2.Error:
        # A connection that is lost has rolled back of itself.
        if not cursor.connection.closed:
            cursor.execute("ROLLBACK")
        raise
    cursor.execute("COMMIT")
