"""
Hostile and broken peers against a running server: C{python -m tests.faults
hostile}. Whatever they do, others are served in time meanwhile, nothing that
should be kept is lost, nothing that should not is kept, no memory and no
descriptors stay behind, and the log has no traceback.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import field, frozen

from benchmarks import processes
from tests.faults.attacks import bombs, malformed, names, slow, vanishing, web
from tests.faults.attacks.victim import CONFIGURATION, INSTANCES, Victim, Wrong
from tests.faults.bystander import Bystander, Served
from tests.faults.footprint import Footprint, footprint, settled
from tests.interop.running import PATIENCE, WORKERS, RunningServer

Attack = Callable[[Victim], None]

#: Each by its name.
ATTACKS: dict[str, Attack] = {
    f"{attack.__module__.rpartition('.')[2]}.{attack.__name__}": attack
    for attack in (
        slow.slowRequest,
        slow.slowInstance,
        slow.slowInGoodFaith,
        slow.neverReads,
        slow.endless,
        slow.endlessInstance,
        malformed.hugeLengths,
        malformed.manyItems,
        malformed.nesting,
        malformed.severalAtOnce,
        bombs.deflatedHeaders,
        bombs.deflatedPixels,
        bombs.frames,
        vanishing.vanishing,
        vanishing.aborting,
        vanishing.releasing,
        names.titles,
        names.uids,
        names.commands,
        web.slowRequests,
        web.manyConnections,
        web.endlessBodies,
        web.neverReads,
        web.badNames,
        web.badBodies,
    )
}

#: MiB that a server may have grown by, which an allocator keeps for the next time.
GROWTH = 48

#: MiB that it may take meanwhile.
PEAK = 256

#: Milliseconds that a C-ECHO may take meanwhile, of a hundred ninety-nine.
IN_TIME = 50


@frozen
class Outcome:
    """
    What came of an attack, or of several at the same time.

    @ivar peak: MiB more than before, at the most.
    @ivar wrong: what should not be.
    """

    name: str
    seconds: float
    served: Served
    before: Footprint
    after: Footprint
    peak: float = 0.0
    wrong: list[str] = field(factory=list)

    def __str__(self) -> str:
        verdict = "; ".join(self.wrong) or "fine"
        return (
            f"{self.name}: {verdict} ({self.seconds:.1f} s; {self.served}; "
            f"{self.before} -> {self.after}, meanwhile {self.peak:.0f} MiB more)"
        )


def start(folder: Path, scale: int = 1, workers: int = WORKERS) -> Victim:
    """A server with short patience, and something in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "hostile.toml"
    path.write_text(CONFIGURATION)
    victim = Victim(
        RunningServer(folder / "server", f"--config={path}", workers=workers), scale
    )
    victim.server.start()
    victim.prepare()
    # Whatever starts late has started, and what it needs is there.
    bombs.warmUp(victim)
    victim.server.get("/api/status")
    return victim


def run(victim: Victim, attacks: Sequence[str], inTime: float = IN_TIME) -> Outcome:
    """
    Attack, in several ways at the same time.

    @param attacks: names of L{ATTACKS}.
    @param inTime: milliseconds, see L{IN_TIME}.
    """
    server = victim.server
    assert server.process is not None
    root = server.process.pid
    before, begin = footprint(root), server.log.stat().st_size
    processes.forgetPeaks([root])
    resident = processes.rss([root]).server
    wrong: list[str] = []
    started = time.monotonic()
    with Bystander(server) as bystander, ThreadPoolExecutor(len(attacks)) as pool:
        done = {name: pool.submit(ATTACKS[name], victim) for name in attacks}
        for name, future in done.items():
            error = future.exception()
            if isinstance(error, Wrong):
                wrong.append(f"{name}: {error}")
            elif error is not None:
                wrong.append(f"{name} failed: {error!r}")
    seconds = time.monotonic() - started
    served = bystander.served
    wrong += served.failures[:3]
    if served.late > inTime:
        wrong.append(f"C-ECHO p99 {served.late:.0f} ms more than it must")
    if server.process.poll() is not None:
        return Outcome(_named(attacks), seconds, served, before, before, 0, ["it died"])
    peak = processes.peaks([root]).server - resident
    if peak > PEAK:
        wrong.append(f"{peak:.0f} MiB more meanwhile")
    after = settled(
        root,
        lambda now: (
            now.descriptors <= before.descriptors
            and now.memory <= before.memory + GROWTH
        ),
        PATIENCE,
    )
    if after.descriptors > before.descriptors:
        wrong.append(f"{after.descriptors - before.descriptors} descriptors stay open")
    if after.memory > before.memory + GROWTH:
        wrong.append(f"{after.memory - before.memory:.0f} MiB more")
    wrong += _left(victim, begin)
    return Outcome(_named(attacks), seconds, served, before, after, peak, wrong)


def _named(attacks: Iterable[str]) -> str:
    return " + ".join(attacks)


def _left(victim: Victim, begin: int) -> Iterable[str]:
    """What there is behind an attack, in the log, in the archive and in the index."""
    server = victim.server
    with open(server.log, "rb") as log:
        log.seek(begin)
        text = log.read().decode(errors="replace")
    for line in text.splitlines():
        if "Traceback" in line or "#critical" in line:
            yield f"in the log: {line[:200]}"
            break
    deadline = time.monotonic() + PATIENCE
    while server.incoming() and time.monotonic() < deadline:
        time.sleep(0.05)
    if server.incoming():
        yield f"{len(server.incoming())} files are left of what was received"
    entered, files = server.entered(), len(list(server.archived()))
    if entered != files or entered < INSTANCES:
        yield f"{entered} instances in the index, {files} files"


def main(arguments: list[str]) -> int:
    """
    @return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults hostile")
    parser.add_argument("names", nargs="*", help="attacks; all if none is named")
    parser.add_argument("--scale", type=int, default=4, help="how much of each")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--list", action="store_true", help="show all attacks")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(ATTACKS))
        return 0
    failed = 0
    with tempfile.TemporaryDirectory(prefix="d360-hostile-") as folder:
        victim = start(Path(folder), options.scale, options.workers)
        try:
            for name in options.names or ATTACKS:
                outcome = run(victim, [name])
                print(outcome, flush=True)
                failed += bool(outcome.wrong)
        finally:
            status = victim.server.stop()
    print(f"{failed} attacks left something behind; exit status {status}")
    return 1 if failed or status else 0
