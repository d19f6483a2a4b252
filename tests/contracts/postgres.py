"""
A real PostgreSQL for the tests that need one: a single embedded server in a
process, started when it is first asked for and stopped at the end, with a
database of its own for each test.
"""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
from contextlib import closing

from d360.index.embedded import EmbeddedServer
from d360.index.migration import checkAndMigrate, connect

_TEMPLATE = "d360_template"
_server: EmbeddedServer | None = None
_numbers = itertools.count(1)


def sharedServer() -> EmbeddedServer:
    """The server of this process, running."""
    global _server
    if _server is None:
        folder = tempfile.mkdtemp(prefix="d360-test-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        server = EmbeddedServer(folder)
        server.start()
        atexit.register(server.stopNow)
        execute(server.urlOf("postgres"), f"CREATE DATABASE {_TEMPLATE}")
        checkAndMigrate(server.urlOf(_TEMPLATE))
        _server = server
    return _server


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement, blocking; its rows, if it has any."""
    with closing(connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


def freshDatabase(migrated: bool = True) -> str:
    """
    The URL of a new database.

    @param migrated: with the schema, else empty.
    """
    server = sharedServer()
    name = f"d360_{next(_numbers)}"
    template = _TEMPLATE if migrated else "template1"
    execute(
        server.urlOf("postgres"),
        f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY WAL_LOG",
    )
    return server.urlOf(name)


def dropDatabase(url: str) -> None:
    """Remove a database of L{freshDatabase} with the connections to it."""
    name = url.split("?")[0].rsplit("/", 1)[1]
    execute(
        sharedServer().urlOf("postgres"), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    )
