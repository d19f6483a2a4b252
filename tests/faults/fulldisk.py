"""A disk that fills up, that has no room for more files, or becomes read-only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from d360.archive.freespace import INTERVAL
from d360.errors import StartupError
from tests.contracts.postgres import execute
from tests.faults.receipts import (
    Clients,
    Outcome,
    Receipts,
    check,
    echo,
    endsInOrder,
    fetched,
)
from tests.faults.smalldisk import SmallDisk
from tests.interop.running import PATIENCE, RunningServer

#: Bytes of an instance: some go past the page cache, where there is such a way.
_SIZE = 200_000


#: MiB of a file system for the archive; for the embedded PostgreSQL, too; and for
#: what is stored until it is full once more.
_ARCHIVE, _ALL, _EACH = 64, 320, 32


@contextmanager
def _serving(folder: Path, mark: int, workers: int = 1) -> Iterator[RunningServer]:
    """
    @param mark: C{min_free_space}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "d360.toml"
    path.write_text(f"min_free_space = {mark}\n")
    server = RunningServer(folder, f"--config={path}", workers=workers)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _stillServes(server: RunningServer, outcome: Outcome, when: str) -> None:
    try:
        echo(server)
    except (OSError, EOFError, RuntimeError) as error:
        outcome.problems.append(f"no C-ECHO {when}: {error!r}")


def full(
    folder: Path, kind: str, times: int, archiveOnly: bool, workers: int = 1
) -> Outcome:
    """
    Store until nothing more fits, make room, store on; so often.

    @param archiveOnly: the database is on another disk.
    """
    outcome = Outcome()
    place = folder / "data" / "archive" if archiveOnly else folder / "data"
    size = (_ARCHIVE if archiveOnly else _ALL) + _EACH * times
    with SmallDisk(place, kind, size) as disk, _serving(folder, 0, workers) as server:
        with Clients(server, 4, _SIZE) as clients:
            for _ in range(times):
                outcome.expect(clients.untilStored(8), "nothing was stored")
                disk.fill(8 << 20)
                refused = clients.receipts.answers["A700"] + 20
                outcome.expect(
                    clients.until(lambda r, n=refused: r.answers["A700"] >= n),
                    "a full disk was not told",
                )
                outcome.injected[f"{kind} full"] += 1
                _stillServes(server, outcome, "on a full disk")
                disk.makeRoom()
                began = time.monotonic()
                outcome.expect(clients.untilStored(8), "storing does not go on")
                outcome.slowest("to go on, s", time.monotonic() - began)
        check(server, clients.receipts, outcome)
        endsInOrder(server, outcome)
    return outcome


def _endDatabase(server: RunningServer) -> bool:
    """
    Have the database write its log until there is no room for it, whereupon it
    ends with a PANIC and tries to begin again; whether it did.
    """
    for _ in range(64):
        try:
            execute(
                server.database,
                "SELECT pg_logical_emit_message(true, 'd360', repeat('x', 4000000))",
            )
        except StartupError:
            return True
        except psycopg2.Error as error:
            if error.pgcode is None:
                # No answer: the connection was lost.
                return True
    return False


def databaseFull(folder: Path, kind: str, times: int) -> Outcome:
    """
    The same to the last byte, in the way of the database: it cannot write its
    log any more, and ends.
    """
    outcome = Outcome()
    size = _ALL + _EACH * times
    with SmallDisk(folder / "data", kind, size) as disk, _serving(folder, 0) as server:
        with Clients(server, 4, _SIZE) as clients:
            for _ in range(times):
                outcome.expect(clients.untilStored(8), "nothing was stored")
                disk.fill(0)
                outcome.expect(clients.untilTold("A700"), "a full disk was not told")
                outcome.injected[f"{kind} full to the last byte"] += 1
                outcome.expect(_endDatabase(server), "the database did not end")
                outcome.injected[f"{kind} full, and the database ended"] += 1
                time.sleep(3)
                _stillServes(server, outcome, "on a full disk")
                disk.makeRoom()
                began = time.monotonic()
                outcome.expect(clients.untilStored(8), "storing does not go on")
                outcome.slowest("to go on, s", time.monotonic() - began)
        check(server, clients.receipts, outcome)
        endsInOrder(server, outcome)
    return outcome


def mark(folder: Path, times: int, workers: int) -> Outcome:
    """With C{min_free_space} storing ends before, and the rest goes on."""
    outcome = Outcome()
    receipts = Receipts()
    least, above = 64, 32
    with (
        SmallDisk(folder / "data", "tmpfs", _ALL + 4 * above * times) as disk,
        _serving(folder, least, workers) as server,
    ):
        for _ in range(times):
            # What others write is seen once a second.
            disk.fill((least + above) << 20)
            time.sleep(2 * INTERVAL)
            with Clients(server, 4, _SIZE, receipts=receipts) as clients:
                outcome.expect(clients.untilStored(8), "nothing was stored")
                outcome.expect(clients.untilTold("A700"), "the mark was not kept")
                outcome.injected["below min_free_space"] += 1
                outcome.expect(_isLow(server, True), "the status does not say so")
                # Half of it is kept, but for what was on its way while they looked.
                time.sleep(1.5)
                left = disk.free
                lowest = outcome.figures.get("MiB left of 64", least)
                outcome.figures["MiB left of 64"] = min(lowest, left / (1 << 20))
                outcome.expect(left > least << 18, f"only {left >> 20} MiB were left")
                _refusesInWords(server, outcome)
                disk.makeRoom()
                outcome.expect(clients.untilStored(8), "storing does not go on")
                outcome.expect(_isLow(server, False), "the status still says so")
        comments = receipts.comments
        outcome.expect(
            set(comments) == {"Less disk space is free than min_free_space"},
            f"other reasons were told: {comments}",
        )
        check(server, receipts, outcome)
        endsInOrder(server, outcome)
        for words in ("Only ", "There is room again"):
            count = sum(words in line for line in server.logged().splitlines())
            outcome.expect(count == times, f"{words!r} was logged {count} times")
    return outcome


def _isLow(server: RunningServer, isLow: bool) -> bool:
    """
    Wait until the server's own process, which is none of those that store, says
    whether there is too little; whether it did.
    """
    deadline = time.monotonic() + PATIENCE
    while server.get("/api/status")["disk"]["low"] != isLow:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _refusesInWords(server: RunningServer, outcome: Outcome) -> None:
    """Who looks is told why; who asks is answered."""
    outcome.expect("TOO LITTLE" in server.ctl("status").output, "d360ctl is silent")
    _stillServes(server, outcome, "below the mark")
    statuses = server.find("STUDY", "StudyInstanceUID").statuses
    outcome.expect(statuses[-1:] == ["0000"], f"a query was answered {statuses[-1:]}")


def filesUsedUp(folder: Path, kind: str, times: int) -> Outcome:
    """No room for the name of another file, of which there is room enough."""
    outcome = Outcome()
    place = folder / "data" / "archive"
    with (
        SmallDisk(place, kind, 128, files=800) as disk,
        _serving(folder, 0) as server,
    ):
        with Clients(server, 4, 2000) as clients:
            for _ in range(times):
                outcome.expect(clients.untilStored(8), "nothing was stored")
                disk.useUpFiles()
                outcome.expect(clients.untilTold("A700"), "no inodes was not told")
                outcome.injected[f"{kind} without inodes"] += 1
                _stillServes(server, outcome, "without inodes")
                disk.makeRoomForFiles()
                outcome.expect(clients.untilStored(8), "storing does not go on")
        check(server, clients.receipts, outcome)
        endsInOrder(server, outcome)
    return outcome


def readOnly(folder: Path, times: int) -> Outcome:
    """
    The archive becomes read-only, as a disk with errors does. What is there can be
    retrieved; with the disk repaired the server is started again.
    """
    outcome = Outcome()
    place = folder / "data" / "archive"
    with SmallDisk(place, "ext4", 128) as disk:
        for _ in range(times):
            with _serving(folder, 0) as server:
                with Clients(server, 4, _SIZE) as clients:
                    outcome.expect(clients.untilStored(8), "nothing was stored")
                    disk.abort()
                    outcome.expect(clients.untilTold("A700"), "errors were not told")
                outcome.injected["read-only after an error"] += 1
                _stillServes(server, outcome, "on a read-only disk")
                for study, kept in clients.receipts.kept.items():
                    there = fetched(server, study)
                    outcome.expect(kept.items() <= there.items(), "not retrieved")
                endsInOrder(server, outcome)
                disk.mountAgain()
                server.start()
                check(server, clients.receipts, outcome)
    return outcome
