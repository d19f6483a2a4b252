"""What a server holds of the machine: memory and file descriptors (proc(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from attrs import frozen

from benchmarks import processes


@frozen
class Footprint:
    """
    Of all processes of a server together.

    @ivar memory: MiB PSS of its own processes.
    @ivar database: the same, of its PostgreSQL.
    @ivar descriptors: open files of its own processes.
    """

    memory: float
    database: float
    descriptors: int

    def __str__(self) -> str:
        return (
            f"{self.memory:.0f} MiB (database {self.database:.0f}), "
            f"{self.descriptors} descriptors"
        )


#: What a server keeps of them to use it again: as many as were ever needed at the
#: same time, without memory behind them.
_BLOCKS = "/memfd:d360-blocks"


def _descriptors(pid: int) -> int:
    count = 0
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            count += not os.readlink(f"{folder}/{name}").startswith(_BLOCKS)
    except OSError:
        # One was closed, or the process has ended, meanwhile.
        return count
    return count


def footprint(root: int) -> Footprint:
    """
    Now.

    @param root: the server's first process.
    """
    used = processes.pss([root])
    own = [each for each in processes.tree([root]) if each.name != "postgres"]
    return Footprint(
        used.server, used.database, sum(_descriptors(each.pid) for each in own)
    )


def settled(
    root: int, isEnough: Callable[[Footprint], bool], patience: float
) -> Footprint:
    """
    Wait until it is what it should be, or for so many seconds, for what goes
    on behind answers takes its time.

    @return: the last one, whatever it is.
    """
    deadline = time.monotonic() + patience
    while True:
        found = footprint(root)
        if isEnough(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)
