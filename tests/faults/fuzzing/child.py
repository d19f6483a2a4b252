"""
One target in a process of its own: C{python -m tests.faults.fuzzing.child}.

Where atheris is installed (the extra C{fuzz}), it makes inputs by what they
reach in D360, and else L{Mutation} does, by chance. What is wrong with an input
is kept, and the next one comes: a run finds all that it can.

As it goes on, what it has seen is in a file, as JSON; so that it is known also
of a process that dies.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from attrs import define, field

from d360.logs import hushLibraries
from tests.faults.fuzzing.mutation import DICTIONARY, Mutation
from tests.faults.fuzzing.target import Examination, Target

MODULES = (
    "peers",
    "datasets",
    "database",
    "web",
    "association",
    "messages",
    "transcoding",
)

#: After as many of its inputs, what a process has by then is what it needs.
_WARM = 0.1

#: Seconds between two looks at what was seen.
_OFTEN = 1.0


def targets() -> tuple[Target, ...]:
    """All there are."""
    return tuple(
        target
        for module in MODULES
        for target in importlib.import_module(f"{__package__}.{module}").TARGETS
    )


def memory() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@define
class Record:
    """
    What there is to tell of a run, in a file.

    @param count: inputs that there will be.
    @param path: of the file.
    """

    examination: Examination
    count: int
    path: Path
    _begin: float = field(factory=time.monotonic)
    _written: float = 0.0
    _memoryAtStart: int = 0

    def noted(self) -> None:
        """An input was run."""
        runs = self.examination.runs
        if runs >= self.count * _WARM and not self._memoryAtStart:
            self._memoryAtStart = memory()
        now = time.monotonic()
        if now - self._written >= _OFTEN or runs == self.count:
            self._written = now
            self.write()

    def write(self) -> None:
        """What is known by now."""
        examination = self.examination
        told: dict[str, Any] = {
            "runs": examination.runs,
            "seconds": time.monotonic() - self._begin,
            "memoryAtStart": self._memoryAtStart,
            "memoryAtEnd": memory(),
            "slowest": examination.slowest,
            "slowestInput": examination.slowestInput.hex(),
            "findings": [
                {"where": one.where, "text": one.text, "data": one.data.hex()}
                for one in examination.findings.values()
            ],
        }
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(told))
        os.replace(new, self.path)


def _dictionaryOf(path: Path) -> None:
    """As libFuzzer reads it."""
    lines = [
        '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in DICTIONARY
    ]
    path.write_text("\n".join(lines) + "\n")


def _plant(target: Target, folder: Path) -> None:
    """The seeds, where libFuzzer looks for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number:04}").write_bytes(seed[: target.longest])


def _guided(target: Target, record: Record, corpus: Path, seed: int) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    folder = corpus / target.name
    _plant(target, folder)
    dictionary = corpus / f"{target.name}.dictionary"
    _dictionaryOf(dictionary)
    examination = record.examination

    def one(data: bytes) -> None:
        if examination.runs < record.count:
            examination.examine(data)
            if examination.runs == record.count:
                examination.close()
            record.noted()

    atheris.Setup(
        [
            sys.argv[0],
            str(folder),
            f"-atheris_runs={record.count}",
            f"-max_len={target.longest}",
            f"-dict={dictionary}",
            f"-seed={seed}",
            "-rss_limit_mb=0",
            f"-artifact_prefix={corpus}/",
            "-print_final_stats=1",
        ],
        one,
    )
    atheris.Fuzz()


def main(arguments: list[str]) -> None:
    """
    Name of the target, inputs, seed, folder of the corpus, file of the record,
    and C{guided} or C{random}.
    """
    name, count, seed, corpus, record, how = arguments
    warnings.simplefilter("always")
    hushLibraries()
    if how == "guided":
        import atheris

        with atheris.instrument_imports(include=["d360", "pydicom.charset"]):
            known = targets()
    else:
        known = targets()
    (target,) = (target for target in known if target.name == name)
    told = Record(Examination(target), int(count), Path(record))
    if how == "guided":
        _guided(target, told, Path(corpus), int(seed))
    for data in Mutation(target.seeds(), target.longest, int(seed)).inputs(int(count)):
        told.examination.examine(data)
        told.noted()
    told.examination.close()
    told.write()


if __name__ == "__main__":
    main(sys.argv[1:])
