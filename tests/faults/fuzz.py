"""
Hostile and broken peers, by the million: inputs that nobody would think of, for
all that takes bytes of strangers.

C{python -m tests.faults fuzz --inputs 1000000} spreads them over the targets of
L{tests.faults.fuzzing}, each in a process of its own; C{--target NAME} is for
one. With atheris (C{pip install -e '.[fuzz]'}) inputs are made by what they
reach in the code; without, by chance. C{--corpus} names a folder where inputs
that reached something new are kept from one run to the next.

A finding is an exception outside of what a peer's mistake may raise, a failure
in the log, an answer that cannot be read back, a timer, a file or an association
that is left over, an input that takes more than a second, or memory that grows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.faults.fuzzing.child import targets
from tests.faults.fuzzing.target import Target

#: Bytes that a process may have more at its end than when it was warm. The
#: corpus is in there, which libFuzzer keeps in memory.
_GROWTH = 64 << 20

#: A process that shows nothing for so many seconds hangs.
_SILENCE = 120.0

#: Processes that may die of their input: C decoders, which are in processes of
#: their own in a server, for just that.
_MAY_DIE = frozenset({"transcoding"})

#: As often as that one is started again.
_DEATHS = 20

_COVERAGE = re.compile(rb"cov: (\d+) ft: (\d+)")


@define
class Outcome:
    """What came of a target."""

    target: Target
    runs: int = 0
    seconds: float = 0.0
    coverage: str = ""
    memoryAtStart: int = 0
    memoryAtEnd: int = 0
    slowest: float = 0.0
    deaths: int = 0
    problems: dict[str, str] = field(factory=dict)
    inputs: dict[str, str] = field(factory=dict)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.0f}"


class Campaign:
    """
    A whole run.

    @param folder: for what is written while it goes on.
    @param corpus: see the module.
    """

    def __init__(self, folder: Path, corpus: Path, seed: int, guided: bool) -> None:
        self._folder = folder
        self._corpus = corpus
        self._seed = seed
        self._how = "guided" if guided else "random"

    def run(self, target: Target, count: int) -> Outcome:
        """All inputs of one target."""
        outcome = Outcome(target)
        while outcome.runs < count and outcome.deaths < _DEATHS:
            before = outcome.runs
            code = self._once(outcome, count - outcome.runs)
            if code == 0 and outcome.runs >= count:
                break
            outcome.deaths += 1
            if target.name not in _MAY_DIE or outcome.runs == before:
                outcome.problems[f"died with {code}"] = self._lastWords(target)
                break
        growth = outcome.memoryAtEnd - outcome.memoryAtStart
        if growth > _GROWTH:
            outcome.problems["growth"] = f"{_mebibytes(growth)} MiB"
        return outcome

    def _lastWords(self, target: Target) -> str:
        said = (self._folder / f"{target.name}.log").read_bytes()[-3000:]
        return said.decode(errors="replace")

    def _once(self, outcome: Outcome, count: int) -> int:
        """
        One process.

        @return: its exit status.
        """
        name = outcome.target.name
        record = self._folder / f"{name}.json"
        record.unlink(missing_ok=True)
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-m", "tests.faults.fuzzing.child", name, str(count)]
        command += [str(self._seed + outcome.deaths), str(self._corpus), str(record)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, self._how],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = self._watch(process, outcome, record, count)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        self._take(outcome, record)
        found = _COVERAGE.findall(log.read_bytes())
        if found:
            edges, features = found[-1]
            outcome.coverage = f"{edges.decode()} edges, {features.decode()} features"
        return code

    def _watch(self, process: Any, outcome: Outcome, record: Path, count: int) -> int:
        """Until it ends, or hangs."""
        seen, since = -1, time.monotonic()
        while True:
            try:
                return int(process.wait(5))
            except subprocess.TimeoutExpired:
                pass
            told = json.loads(record.read_text()) if record.exists() else {}
            if told.get("runs", 0) != seen:
                seen, since = told.get("runs", 0), time.monotonic()
                print(
                    f"  {outcome.target.name}: {outcome.runs + max(seen, 0)} of "
                    f"{outcome.runs + count}, {len(told.get('findings', []))} findings",
                    flush=True,
                )
            elif time.monotonic() - since > _SILENCE:
                outcome.problems["hang"] = f"silent for {_SILENCE:g} s"
                os.killpg(process.pid, signal.SIGKILL)
                return int(process.wait())

    def _take(self, outcome: Outcome, record: Path) -> None:
        if not record.exists():
            return
        told = json.loads(record.read_text())
        outcome.runs += told["runs"]
        outcome.seconds += told["seconds"]
        outcome.memoryAtStart = outcome.memoryAtStart or told["memoryAtStart"]
        outcome.memoryAtEnd = told["memoryAtEnd"]
        outcome.slowest = max(outcome.slowest, told["slowest"])
        for finding in told["findings"]:
            outcome.problems.setdefault(finding["where"], finding["text"])
            outcome.inputs.setdefault(finding["where"], finding["data"])


def _report(outcome: Outcome) -> None:
    speed = outcome.runs / max(outcome.seconds, 0.001)
    print(
        f"{outcome.target.name}: {outcome.runs} inputs, {speed:.0f}/s, "
        f"{outcome.coverage or 'coverage not measured'}, "
        f"{_mebibytes(outcome.memoryAtStart)} MiB, {_mebibytes(outcome.memoryAtEnd)} "
        f"MiB at the end, slowest {outcome.slowest * 1000:.1f} ms, "
        f"{len(outcome.problems)} findings",
        flush=True,
    )
    if outcome.deaths and outcome.target.name in _MAY_DIE:
        print(f"  its process died {outcome.deaths} times, as a child of ours may")
    for where, text in outcome.problems.items():
        print(f"  * {where}")
        print("      " + "\n      ".join(text.splitlines()[-16:]))
        if where in outcome.inputs:
            print(f"      input: {outcome.inputs[where][:4000]}", flush=True)


def _read(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults fuzz")
    names = [target.name for target in targets()]
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in total")
    parser.add_argument("--target", action="append", choices=names)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a folder, kept")
    parser.add_argument(
        "--random", action="store_true", help="by chance, also where atheris is"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """
    @return: the exit status.
    """
    options = _read(arguments)
    guided = not options.random and importlib.util.find_spec("atheris") is not None
    chosen = [
        target
        for target in targets()
        if options.target is None or target.name in options.target
    ]
    shares = sum(target.share for target in chosen)
    with tempfile.TemporaryDirectory(prefix="d360-fuzz-") as name:
        folder = Path(name)
        corpus = (options.corpus or folder / "corpus").absolute()
        corpus.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(folder, corpus, options.seed, guided)
        outcomes = []
        for target in chosen:
            # Rounded up, so that there are as many as were asked for.
            count = -(-options.inputs * target.share // shares)
            outcomes.append(campaign.run(target, count))
            _report(outcomes[-1])
    findings = sum(len(outcome.problems) for outcome in outcomes)
    total = sum(outcome.runs for outcome in outcomes)
    print(
        f"{total} inputs, {len(outcomes)} targets, {findings} findings, "
        f"seed {options.seed}, {'atheris' if guided else 'by chance'}"
    )
    return 1 if findings or total < options.inputs else 0
