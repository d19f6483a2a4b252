"""
C{python -m tests.faults resources}: what becomes of everything when disk,
database, descriptors or patience run out, many times.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.faults import deaddatabase, fulldisk, openfiles, slowdisk
from tests.faults.receipts import Outcome

Scenario = Callable[[Path], Outcome]


def scenarios(times: int) -> dict[str, Scenario]:
    """
    @param times: how often each fault is injected.
    """
    found: dict[str, Scenario] = {}
    for kind in ("tmpfs", "ext4"):
        found |= {
            f"{kind}, archive and database": partial(
                fulldisk.full, kind=kind, times=times, archiveOnly=False
            ),
            f"{kind}, archive only": partial(
                fulldisk.full, kind=kind, times=times, archiveOnly=True
            ),
            f"{kind}, to the last byte": partial(
                fulldisk.databaseFull, kind=kind, times=times
            ),
            f"{kind}, inodes": partial(fulldisk.filesUsedUp, kind=kind, times=times),
        }
    found |= {
        "disk full, two workers": partial(
            fulldisk.full, kind="tmpfs", times=times, archiveOnly=True, workers=2
        ),
        "min_free_space": partial(fulldisk.mark, times=times, workers=1),
        "min_free_space, two workers": partial(fulldisk.mark, times=times, workers=2),
        "read-only": partial(fulldisk.readOnly, times=min(times, 3)),
        "database killed": partial(deaddatabase.killed, times=times),
        "database killed, two workers": partial(
            deaddatabase.killed, times=times, workers=2
        ),
        "connections dropped": partial(deaddatabase.dropped, times=10 * times),
        "connections dropped, two workers": partial(
            deaddatabase.dropped, times=10 * times, workers=2
        ),
        "registrations refused": partial(deaddatabase.refused, times=times),
        "database read-only": partial(deaddatabase.readOnly, times=times),
        "open files": partial(openfiles.crowded, times=times),
        "open files, two workers": partial(openfiles.crowded, times=times, workers=2),
        "open files used up": partial(openfiles.usedUp, times=times),
        "open files used up, two workers": partial(
            openfiles.usedUp, times=times, workers=2
        ),
        "slow disk": partial(slowdisk.slow, seconds=2, duration=2.0 * times),
        "slow disk, two workers": partial(
            slowdisk.slow, seconds=2, duration=2.0 * times, workers=2
        ),
        "slow disk, large instances": partial(
            slowdisk.slow,
            seconds=2,
            duration=2.0 * times,
            clients=100,
            size=5_000_000,
        ),
        "fsync fails": partial(slowdisk.failing, times=times),
        "database stopped": partial(deaddatabase.stopped, times=times),
    }
    return found


def _show(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def main(arguments: list[str]) -> int:
    """
    @return: 1 if anything was wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults resources")
    parser.add_argument("--times", type=int, default=10, help="of each fault")
    parser.add_argument("--only", default="", help="those whose name has this")
    options = parser.parse_args(arguments)
    # So that nothing stays mounted, and no server is left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    injected: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    problems = 0
    for name, scenario in scenarios(options.times).items():
        if options.only not in name:
            continue
        folder = Path(tempfile.mkdtemp(prefix="d360-resources-"))
        began = time.monotonic()
        try:
            outcome = scenario(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        injected += outcome.injected
        answers += outcome.answers
        problems += len(outcome.problems)
        print(f"{name}: {_show(outcome.injected)}; told: {_show(outcome.answers)}")
        for what, figure in outcome.figures.items():
            print(f"  {what}: {figure:.3f}")
        for problem in outcome.problems:
            print(f"  WRONG: {problem}")
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
    print(f"injected: {_show(injected)}")
    print(f"told: {_show(answers)}")
    print(f"wrong: {problems}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
