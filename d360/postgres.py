"""
C{python -m d360.postgres}: runs one of PostgreSQL's own programs on D360's
database, wherever that is: C{pg_dump}, C{pg_restore}, C{psql}. An embedded
database is found if D360 runs, and else is started for as long as the program
takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from d360.config import Configuration, load
from d360.errors import StartupError
from d360.index.embedded import DATABASE, USER, EmbeddedServer, packagedBinaries
from d360.index.leftover import socketsOf
from d360.index.migration import partsOf

EXAMPLES = """\
examples:
  python -m d360.postgres --data-directory /var/lib/d360 \\
      pg_dump --format=custom --file=d360.dump
  python -m d360.postgres --data-directory /var/lib/d360 \\
      pg_restore --exit-on-error --single-transaction --dbname=d360 d360.dump
  python -m d360.postgres --config /etc/d360/d360.toml psql

Run it under the account that runs D360, such as: sudo -u d360 ...
"""

#: How libpq's programs are told where a database is.
_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m d360.postgres",
        description="Run a program of PostgreSQL on D360's database.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, help="D360's configuration file")
    parser.add_argument("--data-directory", help="as for twistd d360")
    parser.add_argument("--database", help="as for twistd d360")
    parser.add_argument(
        "--binaries",
        metavar="FOLDER",
        help="the programs of another version of PostgreSQL, such as "
        "/usr/lib/postgresql/15/bin",
    )
    parser.add_argument("program", help="such as pg_dump, pg_restore, psql")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the program")
    return parser


def _configuration(arguments: argparse.Namespace) -> Configuration:
    given = {
        "data_directory": arguments.data_directory,
        "database.url": arguments.database,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    return load(arguments.config, overrides)


@contextmanager
def _found(configuration: Configuration, binaries: Path) -> Iterator[Mapping[str, str]]:
    """
    The database, as libpq's programs know it.

    @raise StartupError: it is not there.
    """
    url = configuration.database.url
    if url:
        parts = partsOf(url)
        yield {_VARIABLES[k]: str(v) for k, v in parts.items() if k in _VARIABLES}
        return
    folder = Path(configuration.dataDirectory)
    data = folder / "postgresql" / "data"
    sockets = socketsOf(data)
    server = None
    if sockets is None:
        _checkOwner(folder)
        server = EmbeddedServer(folder, configuration.database.account, binaries)
        server.start()
        sockets = socketsOf(data)
    try:
        yield {"PGHOST": str(sockets), "PGUSER": USER, "PGDATABASE": DATABASE}
    finally:
        if server is not None:
            server.stopNow()


def _checkOwner(folder: Path) -> None:
    """
    What another account than D360's writes there, D360 could not use.

    @raise StartupError: it would be another.
    """
    if not folder.is_dir():
        raise StartupError(
            f"there is no data directory {folder}; give D360's by --data-directory"
        )
    if folder.stat().st_uid != os.geteuid():
        raise StartupError(
            f"{folder} belongs to another account: run this under that of D360, "
            "such as: sudo -u d360 ..."
        )


def run(arguments: argparse.Namespace) -> int:
    """
    @return: the program's exit status.
    @raise StartupError: it cannot be run.
    """
    configuration = _configuration(arguments)
    binaries = Path(arguments.binaries) if arguments.binaries else packagedBinaries()
    program = binaries / arguments.program
    if "/" in arguments.program or not program.exists():
        known = ", ".join(sorted(path.name for path in binaries.glob("p*")))
        raise StartupError(
            f"{arguments.program} is none of the programs in {binaries}: {known}"
        )
    with _found(configuration, binaries) as place:
        ours = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment = {**ours, **place, "PGCLIENTENCODING": "UTF8"}
        done = subprocess.run(
            [str(program), *arguments.arguments], env=environment, check=False
        )
    return done.returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return run(arguments)
    except StartupError as error:
        sys.stderr.write(f"d360.postgres: {error}\n")
    except KeyboardInterrupt:
        pass
    return 1


if __name__ == "__main__":
    sys.exit(main())
