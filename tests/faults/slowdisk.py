"""A disk whose fsync takes seconds, and one on which it fails now and then."""

from __future__ import annotations

import signal
import statistics
import time
from pathlib import Path

from tests.faults.receipts import Clients, Outcome, check, echo, endsInOrder, found
from tests.interop.running import RunningServer

#: What every Python of the server runs first: fsync as D360's processes call it
#: sleeps, or fails for a share of the calls. The database's does not, for that is
#: no Python; nor does that of the server's start, while there is no switch.
_WRAPPER = """
import errno, os, random, time

_switch = os.environ["D360_TEST_SWITCH"]

def _wrap(name):
    call = getattr(os, name)

    def slow(descriptor):
        try:
            with open(_switch) as file:
                seconds, share = map(float, file.read().split())
        except (OSError, ValueError):
            return call(descriptor)
        time.sleep(seconds)
        if random.random() < share:
            with open(_switch + ".failed", "a") as file:
                file.write("x")
            raise OSError(errno.EIO, "Input/output error")
        return call(descriptor)

    setattr(os, name, slow)

_wrap("fsync")
_wrap("fdatasync")
"""

#: Seconds within which others are answered, whatever the disk does.
_QUICKLY = 0.05


class _SlowServer:
    """A server on such a disk, in C{with}."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        path = folder / "python"
        path.mkdir(parents=True)
        (path / "sitecustomize.py").write_text(_WRAPPER)
        self._switch = folder / "switch"
        self.server = RunningServer(
            folder / "server",
            workers=workers,
            environment={
                "PYTHONPATH": str(path),
                "D360_TEST_SWITCH": str(self._switch),
            },
        )

    def __enter__(self) -> _SlowServer:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(signal.SIGKILL)

    def turn(self, seconds: float, share: float = 0.0) -> None:
        """
        @param seconds: that each fsync takes from now on.
        @param share: of those that fail.
        """
        new = self._switch.with_suffix(".new")
        new.write_text(f"{seconds} {share}")
        new.rename(self._switch)

    @property
    def failed(self) -> int:
        """How many have failed."""
        path = Path(f"{self._switch}.failed")
        return path.stat().st_size if path.exists() else 0

    def memory(self) -> int:
        """Bytes of all processes of D360, blocks of memory counted once."""
        assert self.server.process is not None
        pids, total = [self.server.process.pid], 0
        while pids:
            pid = pids.pop()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            pids += map(int, children.split())
            if b"d360" in command and b"postgres" not in command.split(b"\0")[0]:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                (line,) = [x for x in rollup.splitlines() if x.startswith("Pss:")]
                total += int(line.split()[1]) * 1024
        return total


def slow(
    folder: Path,
    seconds: float,
    clients: int = 8,
    size: int = 200_000,
    duration: float = 10.0,
    workers: int = 1,
    quickly: float = _QUICKLY,
) -> Outcome:
    """
    Many store, each fsync takes so long; meanwhile others are answered at once,
    and memory stays bounded.

    @param quickly: seconds, see L{_QUICKLY}.
    """
    outcome = Outcome()
    with _SlowServer(folder, workers) as disk:
        server = disk.server
        with Clients(server, clients, size) as storing:
            outcome.expect(storing.untilStored(clients), "nothing was stored")
            (study, *_) = storing.receipts.kept
            before = disk.memory()
            disk.turn(seconds)
            outcome.injected[f"fsync of {seconds:g} s"] += 1
            time.sleep(min(seconds, 1))
            echoes, finds, most = [], [], 0
            end = time.monotonic() + duration
            while time.monotonic() < end:
                echoes.append(echo(server))
                began = time.monotonic()
                outcome.expect(found(server, study), "not found meanwhile")
                finds.append(time.monotonic() - began)
                most = max(most, disk.memory())
                time.sleep(0.1)
            disk.turn(0)
            outcome.expect(storing.untilStored(clients), "storing does not go on")
        outcome.figures.update(
            {
                "C-ECHO median, ms": statistics.median(echoes) * 1000,
                "C-ECHO slowest, ms": max(echoes) * 1000,
                "C-FIND median, ms": statistics.median(finds) * 1000,
                "C-FIND slowest, ms": max(finds) * 1000,
                "memory more at most, MiB": (most - before) / (1 << 20),
            }
        )
        for what, each in (("C-ECHO", echoes), ("C-FIND", finds)):
            median = statistics.median(each)
            outcome.expect(median < quickly, f"{what} waits for the disk: {median} s")
        check(server, storing.receipts, outcome)
        endsInOrder(server, outcome)
    return outcome


def failing(folder: Path, times: int) -> Outcome:
    """A part of the calls fails with EIO: A700, and nothing else is harmed."""
    outcome = Outcome()
    with _SlowServer(folder) as disk:
        server = disk.server
        with Clients(server, 4, 20_000) as storing:
            outcome.expect(storing.untilStored(8), "nothing was stored")
            disk.turn(0, 0.3)
            outcome.expect(storing.untilStored(8 * times), "nothing is stored any more")
            outcome.expect(storing.untilTold("A700"), "EIO was not told")
            disk.turn(0, 0)
            outcome.expect(storing.untilStored(8), "storing does not go on")
        outcome.injected["EIO of fsync"] += disk.failed
        check(server, storing.receipts, outcome)
        endsInOrder(server, outcome)
    return outcome
