"""The processes of a server, found by what the system tells of them (proc(5))."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from tests.contracts.postgres import execute
from tests.interop.running import RunningServer


@frozen
class Process:
    """
    One that is there.

    @ivar began: in clock ticks after the start of the system: with the ID, it
        tells it from all others.
    """

    pid: int
    parent: int
    began: int
    command: str

    @property
    def isAlive(self) -> bool:
        """Whether it is there, and not merely its remains."""
        return self in running()


def _read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # The name is in parentheses, and may have some of its own.
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        return None
    return Process(
        pid,
        int(fields[1]),
        int(fields[19]),
        command.replace(b"\0", b" ").decode(errors="replace"),
    )


def running() -> list[Process]:
    """All of this system."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [found for found in map(_read, pids) if found is not None]


def below(pid: int) -> list[Process]:
    """A process and all that it has started, and those that they have."""
    everyone = running()
    found = [one for one in everyone if one.pid == pid]
    for process in found:
        found += [one for one in everyone if one.parent == process.pid]
    return found


def allOf(server: RunningServer) -> list[Process]:
    """A server that runs, with all its children."""
    assert server.process is not None
    return below(server.process.pid)


def leftOf(processes: list[Process], seconds: float) -> list[Process]:
    """Those that are still there when they had some time to end."""
    deadline = time.monotonic() + seconds
    while True:
        everyone = set(running())
        left = [one for one in processes if one in everyone]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _postmaster(server: RunningServer) -> int:
    path = server.folder / "data" / "postgresql" / "data" / "postmaster.pid"
    return int(path.read_text().split()[0])


def _backends(server: RunningServer) -> list[int]:
    """Those that have to do with storing come first."""
    rows = execute(
        server.database,
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'd360'"
        " ORDER BY query LIKE '%register_instances%' DESC, pid",
    )
    return [int(str(pid)) for (pid,) in rows]


def _named(server: RunningServer, words: str) -> list[int]:
    return [one.pid for one in allOf(server) if words in one.command]


def victimOf(server: RunningServer, kind: str, rng: random.Random) -> int:
    """
    The ID of a process to kill.

    @param kind: C{"server"}, C{"postmaster"}, C{"backend"}, C{"disk"} for the one
        that writes files, or C{"worker"}.
    @raise RuntimeError: there is none.
    """
    assert server.process is not None
    if kind == "server":
        return server.process.pid
    if kind == "postmaster":
        found = [_postmaster(server)]
    elif kind == "backend":
        found = _backends(server)[:2]
    elif kind == "disk":
        found = _named(server, "d360.archive.diskchild")
    else:
        found = _named(server, "d360.worker")
    if not found:
        raise RuntimeError(f"there is no process of the kind {kind!r}")
    return rng.choice(found)


def kill(*pids: int) -> None:
    """SIGKILL to all of them."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def killAll(server: RunningServer) -> None:
    """
    All processes of a server, as nearly at once as can be: none has the time to
    bring anything to its end.
    """
    everyone = allOf(server)
    for process in everyone:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGSTOP)
    # Those that were started meanwhile.
    kill(*(one.pid for one in {*everyone, *allOf(server)}))
    server.stop(signal.SIGKILL)
