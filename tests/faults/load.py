"""
Load: C{python -m tests.faults load}. A thousand associations at the same time, of
which a hundred store and fifty query, and real clients besides; meanwhile nobody
waits long for a C-ECHO, nothing is refused, what was acknowledged is there, and
memory and descriptors do not grow with time.
"""

from __future__ import annotations

import argparse
import json
import resource
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import asdict, field, frozen

from tests.contracts.postgres import execute
from tests.faults.bystander import Bystander, Served, percentile
from tests.faults.footprint import Footprint, footprint
from tests.faults.loadclient import Orders
from tests.interop.files import makeCT
from tests.interop.running import RunningServer

#: Milliseconds that a C-ECHO may take, of a hundred ninety-nine.
IN_TIME = 50

#: Of the memory in the middle of a run, how much there may be more at its end.
GROWTH = 0.1

#: MiB that do not count.
LITTLE = 24

#: Workers of the servers, where nothing is said.
WORKERS = 0


@frozen
class Load:
    """
    What came of it.

    @ivar footprints: at the start, at each sample, and at the end.
    @ivar wrong: what should not be.
    """

    seconds: float
    stored: int
    queries: int
    matches: int
    real: int
    served: Served
    idle: list[float]
    footprints: list[Footprint]
    wrong: list[str] = field(factory=list)

    def __str__(self) -> str:
        first, last = self.footprints[0], self.footprints[-1]
        middle = self.footprints[len(self.footprints) // 2]
        rates = f"{self.stored / self.seconds:.0f} stores/s, "
        rates += f"{self.queries / self.seconds:.0f} queries/s with "
        rates += f"{self.matches / self.seconds:.0f} matches/s"
        return "\n".join(
            (
                f"{rates}, DCMTK's clients {self.real} times, {self.seconds:.0f} s",
                f"{self.served}",
                f"C-ECHO of the idle ones p50 {percentile(self.idle, 50):.1f} p99 "
                f"{percentile(self.idle, 99):.1f} max {max(self.idle):.1f} ms of "
                f"{len(self.idle)}",
                f"start {first}; middle {middle}; end {last}",
                "; ".join(self.wrong) or "nothing was refused, and all is there",
            )
        )


class _Clients:
    """The process with the associations."""

    def __init__(self, orders: Orders) -> None:
        command = [sys.executable, "-m", "tests.faults.loadclient"]
        self._process = subprocess.Popen(
            [*command, json.dumps(asdict(orders))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.said: dict[str, Any] = {}

    def read(self, seconds: float) -> None:
        """Take what it says for so long, or until it ends."""
        output = self._process.stdout
        assert output is not None
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([output], [], [], left)[0]:
                line = output.readline()
                if not line:
                    raise RuntimeError("the process with the associations has ended")
                self.said = json.loads(line)

    def end(self) -> None:
        """Have all of them released."""
        output, _ = self._process.communicate("\n", timeout=120)
        self.said = json.loads(output.splitlines()[-1])

    def kill(self) -> None:
        """If it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class _RealClients:
    """
    DCMTK's storescu, findscu and echoscu, one after the other, for as long as a
    C{with} lasts.
    """

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self._server = server
        self._files = [str(path) for path in makeCT(folder, 20)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0
        self.wrong: list[str] = []

    def _run(self) -> None:
        while not self._ended.wait(0.5):
            for name, arguments in (
                ("storescu", self._files),
                (
                    "findscu",
                    ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=1"],
                ),
                ("echoscu", []),
            ):
                answer = self._server.client(name, *arguments)
                if answer.status:
                    self.wrong.append(f"{name}: {answer.output[-200:]}")
            self.rounds += 1

    def __enter__(self) -> _RealClients:
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


def _allowDescriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def run(
    folder: Path,
    orders: Orders,
    seconds: float,
    workers: int = WORKERS,
    inTime: float = IN_TIME,
    tell: Callable[[str], None] = lambda line: None,
) -> Load:
    """
    A server of its own under load.

    @param orders: its port does not matter.
    @param seconds: how long, once all associations are open.
    @param inTime: milliseconds, see L{IN_TIME}.
    @param tell: is called with how far it is, now and then.
    """
    _allowDescriptors(orders.associations + 500)
    server = RunningServer(folder / "server", workers=workers)
    server.start()
    try:
        return _loaded(server, folder, orders, seconds, inTime, tell)
    finally:
        server.stop()


def _loaded(
    server: RunningServer,
    folder: Path,
    orders: Orders,
    seconds: float,
    inTime: float,
    tell: Callable[[str], None],
) -> Load:
    assert server.process is not None
    root, begin = server.process.pid, server.log.stat().st_size
    clients = _Clients(Orders(**{**asdict(orders), "port": server.port}))
    try:
        while clients.said.get("associations", 0) < orders.associations:
            clients.read(1.0)
        before = clients.said
        started = time.monotonic()
        footprints = []
        with (
            Bystander(server) as bystander,
            _RealClients(server, folder / "files") as real,
        ):
            for number in range(20):
                clients.read(seconds / 20)
                footprints.append(footprint(root))
                tell(_progress(number, clients.said, footprints[-1]))
        lasted = time.monotonic() - started
        said = clients.said
        clients.end()
    finally:
        clients.kill()
    wrong = [*clients.said["failures"][:5], *real.wrong[:3]]
    wrong += bystander.served.failures[:3]
    wrong += _missing(server, clients.said["kept"])
    wrong += _grown(footprints)
    if "Traceback" in _logged(server, begin):
        wrong.append("a traceback in the log")
    if bystander.served.late > inTime:
        wrong.append(f"C-ECHO p99 {bystander.served.late:.0f} ms more than it must")
    return Load(
        lasted,
        said["stored"] - before["stored"],
        said["queries"] - before["queries"],
        said["matches"] - before["matches"],
        real.rounds,
        bystander.served,
        clients.said["echoes"],
        footprints,
        wrong,
    )


def _progress(number: int, said: dict[str, Any], now: Footprint) -> str:
    return (
        f"{5 * (number + 1)} %: {said['stored']} stored, {said['queries']} queries, "
        f"{now}"
    )


def _logged(server: RunningServer, begin: int) -> str:
    with open(server.log, "rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace")


def _missing(server: RunningServer, kept: Sequence[str]) -> list[str]:
    """What was acknowledged, and is not in the index or has no file."""
    entered = {
        str(uid)
        for (uid,) in execute(server.database, "SELECT sop_instance_uid FROM instances")
    }
    files = {path.stem for path in server.archived()}
    gone = [uid for uid in kept if uid not in entered or uid not in files]
    return [f"{len(gone)} of {len(kept)} instances are not there"] if gone else []


def _grown(footprints: Sequence[Footprint]) -> list[str]:
    """Whether there is more at the end than in the middle."""
    middle, last = footprints[len(footprints) // 2], footprints[-1]
    wrong = []
    if last.memory > middle.memory * (1 + GROWTH) + LITTLE:
        wrong.append(f"memory: {middle.memory:.0f} MiB became {last.memory:.0f}")
    if last.descriptors > middle.descriptors + 10:
        wrong.append(f"{middle.descriptors} descriptors became {last.descriptors}")
    return wrong


def main(arguments: list[str]) -> int:
    """
    @return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults load")
    parser.add_argument("--associations", type=int, default=1000)
    parser.add_argument("--storing", type=int, default=100)
    parser.add_argument("--querying", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--soak", type=float, help="seconds; at a pace for long runs")
    parser.add_argument("--size", type=int, default=64 << 10, help="bytes of pixels")
    parser.add_argument("--pace", type=float, help="seconds for each operation")
    parser.add_argument("--workers", type=int, default=WORKERS)
    options = parser.parse_args(arguments)
    # A store a second each: the disk of a test is to hold those of a long run.
    pace = options.pace if options.pace is not None else (1.0 if options.soak else 0.0)
    size = min(options.size, 8 << 10) if options.soak else options.size
    orders = Orders(
        0, options.associations, options.storing, options.querying, size, pace
    )
    with tempfile.TemporaryDirectory(prefix="d360-load-") as folder:
        seconds = options.soak or options.seconds
        load = run(
            Path(folder),
            orders,
            seconds,
            options.workers,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
    print(load)
    return 1 if load.wrong else 0
