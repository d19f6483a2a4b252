"""
Runs trial on all the tests, or on what is named, and closes with one line
that any reader of a log understands: C{N passed, N failed, N skipped}.

A test that is skipped is one that has not passed, so that the exit status is
0 only when there is none.
"""

from __future__ import annotations

import re
import subprocess
import sys

#: trial's last line: C{PASSED (successes=3)}, C{FAILED (errors=1, skips=2)}.
_SUMMARY = re.compile(r"^(?:PASSED|FAILED)(?: \((.*)\))?$")


def counts(line: str) -> dict[str, int] | None:
    """What trial's last line says; C{None} for any other line."""
    match = _SUMMARY.match(line.strip())
    if match is None:
        return None
    pairs = (pair.split("=") for pair in (match[1] or "").split(", ") if pair)
    return {name: int(number) for name, number in pairs}


def run(arguments: list[str]) -> dict[str, int]:
    """Run trial and show what it prints; no end counts as an error."""
    command = [sys.executable, "-m", "twisted.trial", *arguments]
    found = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trial:
        assert trial.stdout is not None
        for line in trial.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            found = counts(line) or found
    if found is None or (trial.returncode and not _failed(found)):
        return {"errors": 1}
    return found


def _failed(found: dict[str, int]) -> int:
    names = ("failures", "errors", "unexpectedSuccesses")
    return sum(found.get(name, 0) for name in names)


def main(arguments: list[str]) -> int:
    """
    Run and report.

    @param arguments: trial's; before them, perhaps, C{--failed N} for checks
        that failed already and count as tests.
    """
    failed = 0
    if arguments[:1] == ["--failed"]:
        failed, arguments = int(arguments[1]), arguments[2:]
    found = run(arguments or ["tests"])
    failed += _failed(found)
    passed = found.get("successes", 0) + found.get("expectedFailures", 0)
    skipped = found.get("skips", 0)
    sys.stdout.write(f"{passed} passed, {failed} failed, {skipped} skipped\n")
    return 1 if failed or skipped or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
