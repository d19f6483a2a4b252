"""
What a server costs the machine: processor time and memory of its processes
and of all that they started (proc(5)). A database's are counted apart.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from attrs import frozen

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE") / (1 << 20)

#: The name of a process of PostgreSQL, whoever started it.
_DATABASE = "postgres"


@frozen
class Usage:
    """
    Two figures of the same kind.

    @ivar server: of the server's own processes.
    @ivar database: of its PostgreSQL, if it has one.
    """

    server: float = 0.0
    database: float = 0.0

    @property
    def both(self) -> float:
        """Their sum."""
        return self.server + self.database

    def __sub__(self, other: Usage) -> Usage:
        # Without the remains of adding up fractions.
        return Usage(
            round(self.server - other.server, 6),
            round(self.database - other.database, 6),
        )

    def highest(self, other: Usage) -> Usage:
        """The higher of each."""
        return Usage(max(self.server, other.server), max(self.database, other.database))


@frozen
class _Process:
    """
    One process, as its C{stat} has it.

    @ivar seconds: of processor time, with that of children that have ended
        and were waited for.
    """

    pid: int
    parent: int
    name: str
    seconds: float


def _read(pid: str) -> _Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name is in parentheses, and may have some of its own.
    before, _, after = text.rpartition(")")
    fields = after.split()
    return _Process(
        int(pid),
        int(fields[1]),
        before.partition("(")[2],
        sum(map(int, fields[11:15])) * _TICK,
    )


def tree(roots: Iterable[int]) -> list[_Process]:
    """These processes and their descendants, as far as they are there."""
    everyone = [_read(name) for name in os.listdir("/proc") if name.isdecimal()]
    children: dict[int, list[_Process]] = {}
    wanted = set(roots)
    found = []
    for process in everyone:
        if process is not None:
            children.setdefault(process.parent, []).append(process)
            if process.pid in wanted:
                found.append(process)
    for process in found:
        found.extend(c for c in children.get(process.pid, ()) if c.pid not in wanted)
    return found


def _sum(pairs: Iterable[tuple[_Process, float]]) -> Usage:
    parts = {True: 0.0, False: 0.0}
    for process, value in pairs:
        parts[process.name == _DATABASE] += value
    return Usage(parts[False], parts[True])


def cpu(roots: Iterable[int]) -> Usage:
    """Seconds of processor time so far; children that have ended count."""
    return _sum((process, process.seconds) for process in tree(roots))


def _rss(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0.0


def _pss(pid: int, kind: str = "Pss") -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    for line in text.splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def rss(roots: Iterable[int]) -> Usage:
    """Resident MiB; what processes share counts in each of them."""
    return _sum((process, _rss(process.pid)) for process in tree(roots))


def pss(roots: Iterable[int]) -> Usage:
    """Resident MiB; what processes share is divided among them."""
    return _sum((process, _pss(process.pid)) for process in tree(roots))


def anonymous(roots: Iterable[int]) -> Usage:
    """
    As L{pss}, without the pages of files: how many others have mapped those
    changes whenever any program starts or ends.
    """
    return _sum((process, _pss(process.pid, "Pss_Anon")) for process in tree(roots))


def forgetPeaks(roots: Iterable[int]) -> None:
    """Let L{peaks} begin anew, with what there is now (proc(5), clear_refs)."""
    for process in tree(roots):
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _peak(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def peaks(roots: Iterable[int]) -> Usage:
    """
    The most MiB RSS that each of the processes has had, as the kernel knows it
    and L{Peak} may miss; nothing of those that have ended.
    """
    return _sum((process, _peak(process.pid)) for process in tree(roots))


class Peak:
    """
    Looks at the memory of a server now and then while a block runs.

    @param interval: seconds from one look to the next.
    @param divided: look at C{pss} too, which takes the kernel much longer.
    @ivar rss: the highest resident MiB that were seen.
    @ivar pss: the same, shared memory divided.
    """

    def __init__(
        self, roots: Iterable[int], interval: float = 1.0, divided: bool = True
    ) -> None:
        self._roots = tuple(roots)
        self._interval = interval
        self._divided = divided
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.rss = Usage()
        self.pss = Usage()

    def look(self) -> None:
        """Look once."""
        self.rss = self.rss.highest(rss(self._roots))
        if self._divided:
            self.pss = self.pss.highest(pss(self._roots))

    def _run(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            start = time.perf_counter()
            self.look()
            if self._divided:
                # To look must not become a work of its own where there are
                # thousands of processes.
                pause = max(self._interval, 20 * (time.perf_counter() - start))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.look()
