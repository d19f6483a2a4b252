"""
Measures D360 and its peers in one run, with the same files and the same
clients, and prints tables and, where wanted, JSON::

    python -m benchmarks.compare --json result.json

What is counted is what a server has afterwards, not what was sent to it. Rates
of different servers are comparable within one run only: machines are noisy,
and the clients share the processors with the server. What an instance costs in
processor time depends less on that.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, fields

from benchmarks import table, targets
from benchmarks.peers import KNOWN
from benchmarks.population import FEWEST
from benchmarks.results import DATABASE_PSS, PSS, REST_RSS, Figure
from benchmarks.run import QUICK, Run, Sizes
from benchmarks.servers import D360, Server, dcmtk, firstLine
from benchmarks.works import associations, find, retrieve, store, worklist

WORKS: dict[str, Callable[[Run], None]] = {
    "store-ct": store.storeCT,
    "store-small": store.storeSmall,
    "store-stock": store.storeStock,
    "store-shared": store.storeShared,
    "retrieve": retrieve.retrieve,
    "load": retrieve.load,
    "large": retrieve.large,
    "find": find.find,
    "million": find.million,
    "worklist": worklist.worklist,
    "idle": associations.idle,
    "associations": associations.associations,
    "connects": associations.connects,
}


def _names(text: str, known: dict[str, Any]) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


#: What each size is, as L{Sizes} has it.
_MEANINGS = {
    name: " ".join(text.split()).rstrip(".")
    for name, text in re.findall(
        r"@ivar (\w+): (.*?)(?=@ivar|\Z)", Sizes.__doc__ or "", re.DOTALL
    )
}


def _parser() -> argparse.ArgumentParser:
    purposes = "\n".join(
        f"  {name:14}{(work.__doc__ or '').strip()}" for name, work in WORKS.items()
    )
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog=f"works:\n{purposes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--servers",
        type=lambda text: _names(text, KNOWN),
        default=list(KNOWN),
        metavar="NAME[,NAME]",
        help=f"default, as far as installed: {','.join(KNOWN)}",
    )
    parser.add_argument(
        "--work",
        type=lambda text: _names(text, WORKS),
        default=list(WORKS),
        metavar="NAME[,NAME]",
        help="default: all, see below",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--config", type=Path, help="a configuration file for D360")
    for size in fields(Sizes):
        full, quick = size.default, getattr(QUICK, size.name)
        several = isinstance(full, tuple)
        parser.add_argument(
            f"--{size.name}",
            type=_numbers if several else type(full),
            metavar="N[,N]" if several else "N",
            help=f"{_MEANINGS[size.name]} (default {full}, with --quick {quick})",
        )
    return parser


def _sizes(arguments: argparse.Namespace) -> Sizes:
    given = {
        size.name: getattr(arguments, size.name)
        for size in fields(Sizes)
        if getattr(arguments, size.name) is not None
    }
    return evolve(QUICK if arguments.quick else Sizes(), **given)


def _present(names: list[str], files: Path) -> list[type[Server]]:
    """Those that can be run; of the others it is said why not."""
    kinds = []
    for name in names:
        kind = KNOWN[name]
        missing = kind(files).missing()
        if missing:
            print(f"{kind.name} is left out, it is not installed: {missing}")
        else:
            kinds.append(kind)
    return kinds


def _about(run: Run) -> dict[str, Any]:
    """What a reader must know of how it was measured."""
    return {
        "machine": f"{os.cpu_count()} processors, {platform.platform()}",
        "clients": firstLine([dcmtk("storescu"), "--version"]),
        "command": " ".join(["python -m benchmarks.compare", *sys.argv[1:]]),
        "sizes": asdict(run.sizes),
        "servers": {
            kind.name: f"{kind(run.files).version()}: {kind.settings}"
            for kind in run.kinds
        },
        "all as installed": "in works of this name no server and no client has "
        "TCP_NODELAY, and dcmqrscp has PDUs of 16 KiB",
    }


def _addMemory(run: Run) -> None:
    """What was seen of each server's memory, as figures."""
    for name, seen in run.memory.items():
        for work, rss, pss in (
            ("memory at rest", seen.restRSS, seen.restPSS),
            ("memory at most, over all works", seen.peakRSS, seen.peakPSS),
        ):
            values = {REST_RSS: rss.server, PSS: pss.server}
            if pss.database:
                values[DATABASE_PSS] = pss.database
            run.results.add(Figure(work, name, values))


def _print(run: Run) -> None:
    """All tables."""
    results, sizes = run.results, run.sizes
    columns = [kind.name for kind in run.kinds]
    columns += sorted(results.references)
    wanted = targets.targets(
        max(sizes.studies, FEWEST), sizes.many, sizes.idle, sizes.connects
    )
    for lines in (table.cells(results, columns), targets.cells(results, wanted)):
        print(f"\n{table.markdown(lines)}\n\n{table.restructured(lines)}")
    print()
    for line in table.notes(results, columns):
        print(f"* {line}")


def _write(path: Path | None, about: dict[str, Any], run: Run) -> None:
    """All figures until now, as JSON."""
    if path is not None:
        figures = [figure.asJSON() for figure in run.results.figures]
        path.write_text(json.dumps(about | {"figures": figures}, indent=2))


def main() -> None:
    """Run what the command line asks for."""
    arguments = _parser().parse_args()
    D360.configuration = arguments.config
    with tempfile.TemporaryDirectory(prefix="d360-benchmark-") as folder:
        files = Path(folder)
        kinds = _present(arguments.servers, files)
        run = Run(kinds, files, _sizes(arguments))
        about = _about(run)
        print(json.dumps(about, indent=2), flush=True)
        # Its servers must not outlive it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for name in arguments.work:
                WORKS[name](run)
                _write(arguments.json, about, run)
        except KeyboardInterrupt:
            run.say("interrupted: what follows is what was measured until now")
        _addMemory(run)
    _print(run)
    _write(arguments.json, about, run)


if __name__ == "__main__":
    main()
