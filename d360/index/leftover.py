"""
What an earlier run of D360 left behind: a PostgreSQL on the same data
directory, found and ended before a new one starts, and the folder of its
socket. Blocks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path

from d360.errors import StartupError

#: Seconds for each signal to work: a fast shutdown, an immediate one, the end.
_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


def processesOn(data: Path) -> set[int]:
    """
    The processes of a PostgreSQL on a data directory: all of them work in it.
    """
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/cwd") == str(data) and (
                Path(f"/proc/{entry}/comm").read_text().strip() == "postgres"
            ):
                found.add(int(entry))
    return found


def postmasterOf(data: Path) -> int | None:
    """The process ID that the data directory's lock file names."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def socketsOf(data: Path) -> Path | None:
    """
    The folder of the socket of a PostgreSQL that runs on a data directory; C{None}
    where none does.
    """
    data = data.resolve()
    postmaster = postmasterOf(data)
    if postmaster is None or postmaster not in processesOn(data):
        return None
    # PostgreSQL 18, 65.1 (Database File Layout): the fifth line is the folder.
    lines = (data / "postmaster.pid").read_text().splitlines()
    return Path(lines[4]) if len(lines) > 4 and lines[4] else None


def endLeftover(data: Path) -> bool:
    """
    End what still runs on a data directory, then remove its stale lock file:
    the process ID in it may since belong to another program, which PostgreSQL
    would take for its own.

    @return: whether anything was running.
    @raise StartupError: it does not end.
    """
    data = data.resolve()
    running = processesOn(data)
    if running:
        postmaster = postmasterOf(data)
        for number, patience in _STEPS:
            # Its children end with the postmaster, or by themselves once it
            # is gone; only the last step does not trust them to.
            targets = running if number == signal.SIGKILL else running & {postmaster}
            for pid in targets:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if _allGone(data, patience):
                break
        else:
            raise StartupError(
                f"a PostgreSQL that is still running on {data} does not end: "
                f"stop process {min(running)} and start D360 again"
            )
    (data / "postmaster.pid").unlink(missing_ok=True)
    return bool(running)


def _allGone(data: Path, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while processesOn(data):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


#: The name that PostgreSQL gives its socket.
SOCKET = ".s.PGSQL.5432"

#: How the names of the temporary folders of sockets begin.
SOCKETS_PREFIX = "d360-"


def removeSockets(note: Path) -> None:
    """
    Remove a temporary folder of sockets, and the note that says where it is.
    Nothing else is touched, whatever the note says.
    """
    try:
        folder = Path(note.read_text("utf-8"))
    except (OSError, ValueError):
        return
    note.unlink(missing_ok=True)
    if folder.parent != Path(tempfile.gettempdir()):
        return
    if folder.name.startswith(SOCKETS_PREFIX):
        with contextlib.suppress(OSError, ValueError):
            for name in (SOCKET, f"{SOCKET}.lock"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
