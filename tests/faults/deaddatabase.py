"""
A database that is killed, stopped, refuses, or drops its connections, while
clients store and query.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from pydicom.dataset import Dataset

from tests.contracts.postgres import execute
from tests.faults.receipts import Clients, Outcome, check, checkLeft, echo, endsInOrder
from tests.interop import wire
from tests.interop.running import RunningServer
from tests.interop.test_external import ExternalPostgreSQL
from tests.services.datasets import encode

_SIZE = 20_000

WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"

#: Raises SQLSTATEs, each for a share of the insertions; counts them where no
#: rollback does away with it.
_FAULTS = """
CREATE TABLE faults (code text, share float);
CREATE SEQUENCE faults_raised;
CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE raised text;
BEGIN
    SELECT code INTO raised FROM faults WHERE random() < share LIMIT 1;
    IF FOUND THEN
        PERFORM nextval('faults_raised');
        RAISE EXCEPTION 'injected' USING ERRCODE = raised;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fault BEFORE INSERT ON instances
    FOR EACH ROW EXECUTE FUNCTION fault();
"""

#: What a database may refuse a registration with, and what the sender may hear:
#: what another attempt can succeed with is tried again before anything is said.
REFUSALS = {
    "40001": "serialization failure",
    "40P01": "deadlock",
    "57014": "statement timeout",
    "53100": "disk full",
    "53200": "out of memory",
    "25006": "read-only transaction",
    "XX000": "internal error",
}


class Queries:
    """
    Somebody who queries all the time, in C{with}.

    @ivar answers: by status, or C{"lost"}.
    """

    def __init__(self, server: RunningServer) -> None:
        self.answers: Counter[str] = Counter()
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Queries:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                status = query(self._server, wire.STUDY_FIND)
            except (OSError, EOFError, RuntimeError):
                status = "lost"
            self.answers[f"C-FIND {status}"] += 1
            self._stop.wait(0.05)


def query(server: RunningServer, sopClass: str, field: int = 0x20) -> str:
    """The final status of a C-FIND for everything, or of a C-MOVE for a study."""
    identifier = Dataset()
    if sopClass != WORKLIST_FIND:
        identifier.QueryRetrieveLevel = "STUDY"
        identifier.StudyInstanceUID = "1.2.3" if field == 0x21 else ""
    command: dict[int, int | str] = {2: sopClass, 0x100: field, 0x110: 1}
    command |= {0x700: 0, 0x800: 1}
    if field == 0x21:
        command[0x600] = "NOWHERE"
    with wire.Peer(server) as peer:
        peer.associate([(sopClass, [wire.EXPLICIT])])
        peer.send(wire.message(1, wire.commandSet(command), encode(identifier)))
        while (status := peer.response().status) in (0xFF00, 0xFF01):
            pass
    return f"{status:04X}"


@contextmanager
def _serving(folder: Path, *options: str, workers: int = 1) -> Iterator[RunningServer]:
    server = RunningServer(folder, *options, workers=workers)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _end(server: RunningServer, clients: Clients, outcome: Outcome) -> None:
    check(server, clients.receipts, outcome)
    lost = outcome.answers["lost"]
    outcome.expect(not lost, f"{lost} associations were lost")
    strange = set(clients.receipts.answers) - {"0000", "A700", "lost"}
    outcome.expect(not strange, f"answered {strange}")
    endsInOrder(server, outcome)


def killed(folder: Path, times: int, workers: int = 1) -> Outcome:
    """The embedded PostgreSQL is killed."""
    outcome = Outcome()
    with _serving(folder, workers=workers) as server:
        pid = folder / "data" / "postgresql" / "data" / "postmaster.pid"
        with Clients(server, 4, _SIZE) as clients, Queries(server) as queries:
            for _ in range(times):
                outcome.expect(clients.untilStored(8), "nothing was stored")
                os.kill(int(pid.read_text().split()[0]), signal.SIGKILL)
                outcome.injected["embedded PostgreSQL killed"] += 1
                began = time.monotonic()
                echo(server)
                outcome.expect(clients.untilStored(8), "storing does not go on")
                outcome.slowest("to go on, s", time.monotonic() - began)
        outcome.answers.update(queries.answers)
        _end(server, clients, outcome)
    return outcome


def dropped(folder: Path, times: int, workers: int = 1) -> Outcome:
    """All connections are dropped, again and again."""
    outcome = Outcome()
    with _serving(folder, workers=workers) as server:
        with Clients(server, 4, _SIZE) as clients, Queries(server) as queries:
            for _ in range(times):
                outcome.expect(clients.untilStored(8), "nothing was stored")
                with _other(server.database) as connection:
                    outcome.injected["connection dropped"] += _drop(connection)
        outcome.answers.update(queries.answers)
        _end(server, clients, outcome)
    return outcome


def refused(folder: Path, times: int) -> Outcome:
    """Registrations are refused, a part of the time and then all of it."""
    outcome = Outcome()
    with _serving(folder) as server:
        execute(server.database, _FAULTS)
        with Clients(server, 4, _SIZE) as clients:
            for code, name in REFUSALS.items():
                before = _raised(server)
                execute(server.database, f"INSERT INTO faults VALUES ('{code}', 0.3)")
                told = clients.receipts.answers["A700"]
                outcome.expect(clients.untilStored(4 * times), f"{name}: nothing")
                if code.startswith("40"):
                    told = clients.receipts.answers["A700"] - told
                    outcome.expect(not told, f"{name} was told, and not tried again")
                execute(server.database, "UPDATE faults SET share = 1")
                outcome.expect(clients.untilTold("A700"), f"{name} for ever")
                execute(server.database, "DELETE FROM faults")
                outcome.expect(clients.untilStored(8), f"does not go on after {name}")
                outcome.injected[name] += _raised(server) - before
        _end(server, clients, outcome)
    return outcome


def _raised(server: RunningServer) -> int:
    ((value,),) = execute(
        server.database,
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM faults_raised",
    )
    return int(str(value))


def readOnly(folder: Path, times: int) -> Outcome:
    """The database becomes read-only, as where another has taken its place."""
    outcome = Outcome()
    with _serving(folder) as server:
        with Clients(server, 4, _SIZE) as clients, Queries(server) as queries:
            for _ in range(times):
                outcome.expect(clients.untilStored(8), "nothing was stored")
                _setReadOnly(server.database, "on")
                outcome.injected["read-only database"] += 1
                outcome.expect(clients.untilTold("A700"), "read-only was not told")
                _setReadOnly(server.database, "off")
                outcome.expect(clients.untilStored(8), "does not go on")
        outcome.answers.update(queries.answers)
        _end(server, clients, outcome)
    return outcome


def _setReadOnly(url: str, value: str) -> None:
    with _other(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute(
            f"ALTER DATABASE d360 SET default_transaction_read_only = {value}"
        )
        if value == "on":
            _drop(connection)


def stopped(folder: Path, times: int) -> Outcome:
    """
    A PostgreSQL of somebody's own goes away and comes back; has no connection
    left; and what is asked meanwhile is answered with a reason.
    """
    outcome = Outcome()
    postgres = ExternalPostgreSQL(folder / "postgres")
    postgres.start()
    try:
        execute(postgres.url("postgres"), "CREATE DATABASE d360")
        with _serving(folder, f"--database={postgres.url()}") as server:
            server.ctl("ae", "add", "NOWHERE", "127.0.0.1", "9")
            with Clients(server, 4, _SIZE) as clients:
                for _ in range(times):
                    outcome.expect(clients.untilStored(8), "nothing was stored")
                    postgres.stop()
                    outcome.injected["external PostgreSQL stopped"] += 1
                    outcome.expect(clients.untilTold("A700"), "it was not told")
                    _asked(server, outcome)
                    postgres.start()
                    outcome.expect(clients.untilStored(8), "does not go on")
                    _occupied(postgres.url(), clients, outcome)
            _endExternal(server, clients, postgres.url(), outcome)
    finally:
        postgres.stop()
    return outcome


def _endExternal(
    server: RunningServer, clients: Clients, url: str, outcome: Outcome
) -> None:
    outcome.answers.update(clients.receipts.answers)
    checkLeft(server, outcome, url)
    endsInOrder(server, outcome)


def _asked(server: RunningServer, outcome: Outcome) -> None:
    """What each service and each call says while there is no database."""
    services = {
        "C-FIND": (wire.STUDY_FIND, 0x20),
        "worklist": (WORKLIST_FIND, 0x20),
        "C-MOVE": (STUDY_MOVE, 0x21),
    }
    # All at once, as each of them waits for a while.
    with ThreadPoolExecutor() as pool:
        asked = {
            name: pool.submit(query, server, sopClass, field)
            for name, (sopClass, field) in services.items()
        }
        called = {
            path: pool.submit(_call, server, path)
            for path in ("aes", "worklist", "studies")
        }
    for name, answer in asked.items():
        status = answer.result()
        outcome.answers[f"{name} {status}"] += 1
        expected = "A701" if name == "C-MOVE" else "A700"
        outcome.expect(status == expected, f"{name} was answered {status}")
    for path, answered in called.items():
        code, said = answered.result()
        outcome.answers[f"HTTP {code}"] += 1
        outcome.expect(code == 503 and said, f"{path} was answered {code} {said!r}")
    outcome.expect(echo(server) < 5, "no C-ECHO without a database")


def _call(server: RunningServer, path: str) -> tuple[int, str]:
    try:
        urllib.request.urlopen(f"{server.web}/api/{path}", timeout=60).close()
    except urllib.error.HTTPError as error:
        return error.code, str(json.load(error)["error"])
    return 200, ""


def _occupied(url: str, clients: Clients, outcome: Outcome) -> None:
    """Somebody else takes all connections, and ours are dropped."""
    with ExitStack() as stack:
        last = stack.enter_context(_other(url))
        quiet = 0
        while quiet < 5:
            try:
                stack.enter_context(_other(url))
            except psycopg2.OperationalError:
                # There is no room left, unless one of ours has some, which is not
                # known as such from its first moment on.
                quiet = 0 if _drop(last) else quiet + 1
                time.sleep(0.05)
        outcome.injected["too many connections"] += 1
        outcome.expect(clients.untilTold("A700"), "no connection was not told")
    outcome.expect(clients.untilStored(8), "does not go on")


@contextmanager
def _other(url: str) -> Iterator[Any]:
    """A connection that is none of D360's."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        yield connection


def _drop(connection: Any) -> int:
    """End the backends of D360; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'd360'"
        )
        return int(cursor.rowcount)
