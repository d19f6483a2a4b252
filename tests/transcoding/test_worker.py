"""The child process that transcodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from struct import pack
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.transcoding.building import (
    EXPLICIT,
    IMPLICIT,
    RLE,
    encapsulated,
    explicit,
    header,
    implicit,
)

MEMORY = 256 << 20


class WorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.output = self.folder / "output"

    def job(self, data: bytes, source: str, target: str = EXPLICIT) -> dict[str, Any]:
        path = self.folder / f"{len(list(self.folder.iterdir()))}"
        path.write_bytes(data)
        return {
            "path": str(path),
            "offset": 0,
            "transferSyntax": source,
            "target": target,
            "output": str(self.output),
        }

    def answers(self, *jobs: dict[str, Any], memory: int = MEMORY) -> list[Any]:
        """What it says, until it ends at the end of its input."""
        done = subprocess.run(
            [sys.executable, "-m", "d360.transcoding.worker", str(memory)],
            input="".join(json.dumps(job) + "\n" for job in jobs),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_jobs(self) -> None:
        """One line for each job; one that fails leaves no file behind."""
        good = self.job(explicit(0x00080060, "CS", b"CT"), EXPLICIT, IMPLICIT)
        bad = self.job(b"abc", EXPLICIT, IMPLICIT)
        gone = {**good, "path": str(self.folder / "gone")}
        answers = self.answers(bad, gone, good)
        self.assertEqual(
            answers,
            [
                {"error": "the data set is truncated"},
                {
                    "error": "a file cannot be read or written: "
                    "No such file or directory"
                },
                {"size": 10},
            ],
        )
        self.assertEqual(self.output.read_bytes(), implicit(0x00080060, b"CT"))

    def test_bomb(self) -> None:
        """
        What takes more memory than there may be ends in an error, and the next
        job is done: here, runs of 128 bytes, each of two.
        """
        bomb = pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 3_000_000
        answers = self.answers(
            self.job(header(4, 4) + encapsulated(bomb), RLE),
            self.job(header(60000, 60000) + encapsulated(bomb[:64]), RLE),
            self.job(explicit(0x00080060, "CS", b"CT"), EXPLICIT, IMPLICIT),
        )
        for answer in answers[:2]:
            self.assertIn("more memory than is allowed", answer["error"])
        self.assertEqual(answers[2], {"size": 10})

    def test_limit(self) -> None:
        """The kernel holds it to its memory."""
        code = (
            "import sys; from d360.transcoding import worker; worker._limit(64 << 20)\n"
            "try: bytearray(80 << 20)\n"
            "except MemoryError: print('held')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            check=True,
        )
        self.assertEqual(done.stdout, "held\n")
