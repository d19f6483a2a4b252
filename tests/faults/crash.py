"""
Processes of a server are killed while eight clients store, at moments that
chance chooses; then every instance that was acknowledged is looked for.

C{python -m tests.faults crash --kills 50} is the long form. What is killed:

 - C{server}: the server's own process, and what dies with it; it is started
   again, as a supervisor does.
 - C{recovery}: likewise, and once more while it starts.
 - C{everything}: all of its processes at once, as if the machine had failed, but
   for what the system has in memory of the disk.
 - C{postmaster}, C{backend}: the embedded PostgreSQL, or one of its processes.
 - C{disk}: the process that writes files.
 - C{worker}: a process that serves associations.

After the others the server goes on by itself, or is killed as well.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import define, field, frozen

from tests.faults.inspection import Findings, Inspection, awaitSettled
from tests.faults.ledger import Ledger
from tests.faults.material import Stock, templates
from tests.faults.processes import allOf, kill, killAll, leftOf, victimOf
from tests.faults.senders import Sender, Shared
from tests.interop.running import PATIENCE, RunningServer

#: What can be killed where one process does all, and where there are workers.
ALONE = ("server", "everything", "postmaster", "backend", "disk", "recovery")
TOGETHER = (*ALONE, "worker")

#: Those that the server does not outlive.
_DEADLY = ("server", "everything", "recovery")

#: Kills that one data directory lives through: all of it is looked at each time.
_KILLS_EACH = 5

#: Seconds that all clients may take to be answered 0000 again.
_RECOVERY = 120.0

Say = Callable[[str], None]


@frozen
class Limits:
    """
    How much is done.

    @ivar clients: that store at the same time.
    @ivar load: seconds until the kill, at least and at most.
    """

    clients: int = 8
    load: tuple[float, float] = (0.3, 2.5)


@define
class Tally:
    """
    What came of it.

    @ivar killed: by kind.
    @ivar seconds: that each recovery took, by kind.
    """

    killed: dict[str, int] = field(factory=dict)
    seconds: dict[str, list[float]] = field(factory=dict)
    acknowledged: int = 0
    refused: int = 0
    checked: int = 0
    problems: list[str] = field(factory=list)

    def figures(self) -> list[str]:
        """For people."""
        lines = [
            f"{kind:>10}: {count} killed, recovered in {_spread(self.seconds[kind])}"
            for kind, count in sorted(self.killed.items())
        ]
        every = [seconds for each in self.seconds.values() for seconds in each]
        return [
            *lines,
            f"{'all':>10}: {sum(self.killed.values())} killed, recovered in "
            f"{_spread(every)}",
            f"{self.acknowledged} instances acknowledged, {self.refused} refused "
            f"with A700, {self.checked} looks at acknowledged ones",
            f"{len(self.problems)} problems",
        ]


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "no time"
    return (
        f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / "
        f"{max(seconds):.2f} s (min / median / max)"
    )


class Session:
    """
    One data directory, that several kills are done to.

    @param workers: processes that serve associations.
    """

    def __init__(
        self,
        folder: Path,
        workers: int,
        rng: random.Random,
        limits: Limits,
        tally: Tally,
        say: Say = lambda line: None,
    ) -> None:
        self.server = RunningServer(folder, workers=workers)
        self.ledger = Ledger()
        self._rng = rng
        self._limits = limits
        self._tally = tally
        self._say = say
        kinds = templates()
        shared = Shared(Stock(rng, kinds, 2), 6)
        self._senders = [
            Sender(
                self.server,
                self.ledger,
                kinds,
                Stock(random.Random(rng.random()), kinds, 3),
                shared,
                random.Random(rng.random()),
            )
            for _ in range(limits.clients)
        ]

    def run(self, kinds: Sequence[str]) -> None:
        """Kill one after the other; end in order, and look once more."""
        self.server.start()
        try:
            for kind in kinds:
                self._survive(kind)
            self._endInOrder()
        finally:
            self.server.stop(signal.SIGKILL)
        self._tally.acknowledged += self.ledger.acknowledged
        self._tally.refused += self.ledger.refused.get(0xA700, 0)

    def _survive(self, kind: str) -> None:
        before = self.ledger.acknowledged
        began = len(self.server.logged())
        self._begin()
        time.sleep(self._rng.uniform(*self._limits.load))
        if kind in _DEADLY:
            seconds = self._killServer(kind)
            hasStarted = True
        else:
            seconds = self._killPart(kind)
            hasStarted = self._rng.random() < 0.5
            if hasStarted:
                self.server.stop(signal.SIGKILL)
        self._end()
        if hasStarted and kind not in _DEADLY:
            self.server.start()
        self._tally.killed[kind] = self._tally.killed.get(kind, 0) + 1
        self._tally.seconds.setdefault(kind, []).append(seconds)
        findings = self._look(kind, hasStarted)
        self._readLog(kind, began)
        self._say(
            f"{kind} killed ({self.workersInWords()}): "
            f"{self.ledger.acknowledged - before} acknowledged meanwhile, back after "
            f"{seconds:.2f} s, {findings.checked} looked at, "
            f"{len(findings.problems)} problems"
        )

    def workersInWords(self) -> str:
        """How the server serves."""
        count = self.server.workers
        return "one process" if count == 1 else f"{count} workers"

    # --- load

    def _begin(self) -> None:
        self._senders = [sender.again(self.server) for sender in self._senders]
        for sender in self._senders:
            sender.start()

    def _end(self) -> None:
        """
        A client that is not answered because the server was killed notices that
        by the end of its connection.
        """
        for sender in self._senders:
            sender.halt.set()
        for sender in self._senders:
            sender.join(PATIENCE)
            self._problems(sender.problems)
            if sender.is_alive():
                self._problems(["a client hangs"])

    # --- kills

    def _killServer(self, kind: str) -> float:
        """Seconds from the last start to its end."""
        if kind == "everything":
            killAll(self.server)
        self.server.stop(signal.SIGKILL)
        # Only now: they were to be in the midst of it.
        for sender in self._senders:
            sender.halt.set()
        if kind == "recovery":
            self._killStarting()
        began = time.monotonic()
        self.server.start()
        return time.monotonic() - began

    def _killStarting(self) -> None:
        """Start it and kill it before it is ready, or not long after."""
        self.server.launch()
        time.sleep(self._rng.uniform(0.05, 1.2))
        self.server.stop(signal.SIGKILL)

    def _killPart(self, kind: str) -> float:
        """Seconds until all clients were answered 0000 again."""
        victim = victimOf(self.server, kind, self._rng)
        began = time.monotonic()
        kill(victim)
        deadline = began + _RECOVERY
        waiting = list(self._senders)
        while waiting and time.monotonic() < deadline:
            time.sleep(0.02)
            waiting = [one for one in waiting if one.acknowledgedAfter(began) is None]
        if waiting:
            self._problems([f"{len(waiting)} clients were not answered 0000 again"])
            return _RECOVERY
        firsts = (sender.acknowledgedAfter(began) for sender in self._senders)
        return max(first for first in firsts if first is not None) - began

    # --- looks

    def _look(self, kind: str, hasStarted: bool) -> Findings:
        if not hasStarted:
            awaitSettled(self.server)
        findings = Inspection(self.server, self.ledger, hasStarted).run()
        self._tally.checked += findings.checked
        self._problems(f"after {kind}: {problem}" for problem in findings.problems)
        return findings

    def _endInOrder(self) -> None:
        """SIGTERM, and nothing of it is left; then all is there once more."""
        everyone = allOf(self.server)
        status = self.server.stop()
        if status != 0:
            self._problems([f"the exit status after SIGTERM was {status}"])
        for process in leftOf(everyone, PATIENCE):
            self._problems([f"left running: {process.command}"])
        self.server.start()
        self._look("the end", True)

    def _readLog(self, kind: str, begin: int) -> None:
        text = self.server.logged()[begin:]
        for word in ("Traceback", "Unhandled"):
            if word in text:
                where = text.index(word)
                self._problems([f"after {kind}, logged: {text[where : where + 2000]}"])

    def _problems(self, problems: Iterable[str]) -> None:
        for problem in problems:
            self._tally.problems.append(problem)
            self._say(f"PROBLEM: {problem}")


def plan(kills: int, rng: random.Random) -> list[tuple[int, list[str]]]:
    """
    All kinds equally often, over data directories.

    @return: for each of these the number of workers, and what is killed.
    """
    count = -(-kills // _KILLS_EACH)
    sessions: list[tuple[int, list[str]]] = []
    left: dict[int, list[str]] = {1: [], 2: []}
    for number in range(count):
        workers = number % 2 + 1
        kinds = []
        for _ in range(min(_KILLS_EACH, kills - number * _KILLS_EACH)):
            if not left[workers]:
                left[workers] = list(ALONE if workers == 1 else TOGETHER)
                rng.shuffle(left[workers])
            kinds.append(left[workers].pop())
        sessions.append((workers, kinds))
    return sessions


def _show(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main(arguments: list[str]) -> int:
    """
    The long form.

    @return: the exit status: 1 if anything was wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults crash")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**9)
    )
    parser.add_argument("--clients", type=int, default=Limits().clients)
    parser.add_argument(
        "--keep", action="store_true", help="keep the folders of what was wrong"
    )
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    tally = Tally()
    began = time.monotonic()
    print(f"seed {options.seed}, {options.kills} kills, {options.clients} clients")
    try:
        for workers, kinds in plan(options.kills, rng):
            folder = Path(tempfile.mkdtemp(prefix="d360-crash-"))
            before = len(tally.problems)
            limits = Limits(options.clients)
            Session(folder, workers, rng, limits, tally, _show).run(kinds)
            if options.keep and len(tally.problems) > before:
                print(f"kept: {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        # Also of a run that was interrupted.
        print("\n".join(tally.figures()))
        print(f"{time.monotonic() - began:.0f} s")
    return 1 if tally.problems else 0
