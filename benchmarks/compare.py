"""
Measures D360 and its peers in one run, with the same files and the same DCMTK
clients, and prints a table and JSON::

    python -m benchmarks.compare --json result.json

Each figure counts what a query says was stored, not what was sent. Rates of
different servers are comparable within one run only: machines are noisy, and
the clients share the processors with the server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import dcmread

from benchmarks import instances
from benchmarks.echo import measureEcho
from benchmarks.retrieve import measureLargeRetrieve, measureRetrieve, retrieving
from benchmarks.servers import HOST, KNOWN, Server, dcmtk

MIB = 1 << 20


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _client(noDelay: bool) -> dict[str, str]:
    """The environment of a DCMTK client, with or without Nagle's algorithm."""
    environment = {k: v for k, v in os.environ.items() if k != "TCP_NODELAY"}
    return environment | ({"TCP_NODELAY": "1"} if noDelay else {})


def _store(server: Server, folders: list[Path], noDelay: bool, *options: str) -> float:
    """Send each folder over an association of its own; seconds for all."""
    command = [dcmtk("storescu"), "-q", "-nh", "-aec", server.aeTitle]
    command += [*options, HOST, str(server.port)]
    start = time.perf_counter()
    senders = [
        subprocess.Popen(
            [*command, "+sd", str(folder)],
            env=_client(noDelay),
        )
        for folder in folders
    ]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - start
    if any(codes):
        _say(f"  {server.name}: storescu ended with {codes}")
    return seconds


def _find(
    server: Server, keys: list[str], repeat: int = 1, quiet: bool = False
) -> tuple[float, str]:
    """Query, over one association; seconds, and what findscu printed."""
    command = [dcmtk("findscu"), "-S", "-aec", server.aeTitle, "--repeat", str(repeat)]
    command += ["-q"] if quiet else []
    for key in ["QueryRetrieveLevel=STUDY", *keys]:
        command += ["-k", key]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, HOST, str(server.port)],
        env=_client(True),
        capture_output=True,
        text=True,
        errors="replace",
    )
    return time.perf_counter() - start, done.stdout + done.stderr


def _stored(server: Server, patient: str) -> int:
    """How many instances of a patient the server says it has."""
    keys = [f"PatientID={patient}", "NumberOfStudyRelatedInstances"]
    _, output = _find(server, keys)
    found = re.findall(r"\(0020,1208\) IS \[(\d+) *\]", output)
    return sum(map(int, found))


def measureStore(server: Server, files: Path, senders: int, noDelay: bool) -> Any:
    """A server that was just started takes the folders of so many senders."""
    folders = sorted(files.glob("sender-*"))[:senders]
    seconds = _store(server, folders, noDelay)
    kept = sum(_stored(server, f"BENCH{n}") for n in range(1, senders + 1))
    sent = sum(len(list(folder.iterdir())) for folder in folders)
    if kept != sent:
        _say(f"  {server.name}: {sent} sent, {kept} kept")
    return {"instances": kept, "seconds": seconds, "rate": kept / seconds}


def measureFind(server: Server, rounds: int) -> Any:
    """One patient, and a day of 1250 studies, among 20 000."""
    wanted = ["PatientName", "StudyInstanceUID", "StudyTime", "StudyDescription"]
    wanted += ["AccessionNumber", "ModalitiesInStudy", "PatientBirthDate"]
    results = {}
    for name, key, repeat in (
        ("one patient", "PatientID=P000300", 50),
        ("one day", "StudyDate=20260105", 5),
    ):
        times = []
        for _ in range(rounds):
            # What the client takes to start and to associate falls out.
            once, _ = _find(server, [key, *wanted], 1, quiet=True)
            many, _ = _find(server, [key, *wanted], 1 + repeat, quiet=True)
            times.append((many - once) / repeat)
        _, output = _find(server, [key, *wanted])
        matches = len(re.findall(r"\(0020,000d\) UI \[", output))
        results[name] = {
            "matches": matches,
            "milliseconds": statistics.median(times) * 1000,
        }
    return results


def measureLarge(server: Server, path: Path) -> Any:
    """How the server's memory grows while it takes one large instance."""
    before = server.memory()
    server.resetPeak()
    seconds = _store(server, [path.parent], True)
    growth = server.memory("VmHWM") - before
    kept = _stored(server, "1CT1")
    return {"instances": kept, "seconds": seconds, "growth MiB": growth}


def _prepare(files: Path, arguments: argparse.Namespace) -> None:
    _say(f"making {arguments.instances} CT for each of 4 senders")
    for sender in range(1, 5):
        instances.ct(files / f"sender-{sender}", arguments.instances, sender)
    _say("making 50 JPEG Lossless CT")
    instances.compressed(files / "compressed", 50)
    _say(f"making {arguments.studies} studies")
    instances.studies(files / "studies", arguments.studies)
    instances.spread(files / "studies", 4)
    if arguments.large:
        _say(f"making an instance of {arguments.large} MiB")
        (files / "large").mkdir()
        instances.large(files / "large" / "large.dcm", arguments.large * MIB)


def _run(kind: type[Server], folder: Path, measure: Any) -> Any:
    server = kind(folder)
    server.start()
    try:
        return measure(server)
    finally:
        server.stop()


def _measureAll(
    kinds: list[type[Server]], files: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {kind.name: {} for kind in kinds}
    place = files / "servers"
    # The servers take turns within each kind of work, so that a machine that
    # becomes slower does not favour one of them.
    for senders, noDelay in ((1, True), (4, True), (1, False)):
        title = f"store x{senders}" + ("" if noDelay else ", client with Nagle")
        for attempt in range(arguments.rounds):
            for kind in kinds:
                folder = place / f"{kind.name}-{senders}-{noDelay}-{attempt}"
                store = partial(
                    measureStore, files=files, senders=senders, noDelay=noDelay
                )
                figure = _run(kind, folder, store)
                _say(f"{title}: {kind.name} {figure['rate']:.0f} instances/s")
                results[kind.name].setdefault(title, []).append(figure)
    _measureRetrieve(kinds, files, arguments, results)
    for kind in kinds:
        _say(f"C-FIND: {kind.name} is filled with {arguments.studies} studies")

        def find(server: Server) -> Any:
            _store(server, sorted(files.glob("studies-*")), True)
            return measureFind(server, arguments.rounds)

        figures = _run(kind, place / f"{kind.name}-find", find)
        for name, figure in figures.items():
            _say(
                f"C-FIND {name}: {kind.name} {figure['milliseconds']:.1f} ms, "
                f"{figure['matches']} matches"
            )
            results[kind.name][f"C-FIND {name}"] = [figure]
    return results


def _measureRetrieve(
    kinds: list[type[Server]],
    files: Path,
    arguments: argparse.Namespace,
    results: dict[str, dict[str, Any]],
) -> None:
    """C-GET and C-MOVE of one study, and then of one large instance."""
    study = f"{instances.ROOT}.1.1"
    large = files / "large" / "large.dcm"
    for attempt in range(arguments.rounds):
        for kind in kinds:
            folder = files / "servers" / f"{kind.name}-retrieve-{attempt}"

            def fillAndRetrieve(server: Server) -> Any:
                _store(server, [files / "sender-1"], True)
                return measureRetrieve(server, study, 5)

            for name, figures in _run(kind, folder, fillAndRetrieve).items():
                for figure in figures:
                    _say(f"{name}: {kind.name} {figure['rate']:.0f} instances/s")
                results[kind.name].setdefault(name, []).extend(figures)
    for kind in kinds:
        folder = files / "servers" / f"{kind.name}-load"

        def echoMeanwhile(server: Server) -> Any:
            _store(server, [files / "sender-1"], True)
            _store(server, [files / "compressed"], True, "-xs")
            other = f"{instances.ROOT}.4"
            with retrieving(server, study, 10, other):
                time.sleep(2)
                return measureEcho(server, 10)

        figure = _run(kind, folder, echoMeanwhile)
        title = "C-ECHO beside 10 C-GET and a transcoding"
        _say(f"{title}: {kind.name} {figure['milliseconds']:.1f} ms")
        results[kind.name][title] = [figure]
    if not arguments.large:
        return
    for kind in kinds:
        folder = files / "servers" / f"{kind.name}-large"

        def storeAndRetrieve(server: Server) -> Any:
            figures = {"C-STORE": measureLarge(server, large)}
            one = dcmread(large, stop_before_pixels=True).StudyInstanceUID
            return figures | measureLargeRetrieve(server, one)

        for name, figure in _run(kind, folder, storeAndRetrieve).items():
            title = f"{name} of {arguments.large} MiB"
            _say(f"{title}: {kind.name} grows by {figure['growth MiB']:.0f} MiB")
            results[kind.name][title] = [figure]


_UNITS = {
    "rate": ("instances/s", 1),
    "milliseconds": ("ms", -1),
    "growth MiB": ("MiB growth", -1),
}


def _table(results: dict[str, dict[str, Any]]) -> None:
    names = list(results)
    works = list(results[names[0]])
    print("| work | unit | " + " | ".join(names) + " | D360 to best peer |")
    print("| --- | --- |" + " --- |" * (len(names) + 1))
    for work in works:
        key = next(k for k in _UNITS if k in results[names[0]][work][0])
        unit, better = _UNITS[key]
        medians = {
            name: statistics.median(figure[key] for figure in results[name][work])
            for name in names
        }
        peers = [value for name, value in medians.items() if name != "D360"]
        ratio = ""
        if peers and "D360" in medians:
            best = max(peers) if better > 0 else min(peers)
            ratio = f"{medians['D360'] / best:.2f}" if best else ""
        cells = " | ".join(f"{medians[name]:.1f}" for name in names)
        print(f"| {work} | {unit} | {cells} | {ratio} |")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--servers", default=",".join(KNOWN))
    parser.add_argument("--instances", type=int, default=400, help="for each sender")
    parser.add_argument("--studies", type=int, default=20000)
    parser.add_argument("--large", type=int, default=1024, help="MiB; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()

    kinds = [KNOWN[name] for name in arguments.servers.split(",")]
    with tempfile.TemporaryDirectory(prefix="d360-benchmark-") as folder:
        files = Path(folder)
        kinds = [kind for kind in kinds if kind(files).available()]
        version = subprocess.run(
            [dcmtk("storescu"), "--version"], capture_output=True, text=True
        )
        about = {
            "machine": f"{os.cpu_count()} processors, {platform.platform()}",
            "clients": version.stdout.split("\n")[0].strip("$ "),
            "command": " ".join(sys.argv),
            "servers": {
                kind.name: f"{kind(files).version()}: {kind.settings}" for kind in kinds
            },
        }
        print(json.dumps(about, indent=2))
        _prepare(files, arguments)
        results = _measureAll(kinds, files, arguments)
    _table(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(about | {"results": results}, indent=2))


if __name__ == "__main__":
    main()
