"""
The child process that transcodes: C{python -m d360.transcoding.worker MEMORY}.

It reads one job a line from its standard input, a JSON object with the names of
L{d360.transcoding.job.Job}, and writes one line for each: C{{"size": N}},
or C{{"error": "why"}}. It ends at the end of its input.

Its memory is limited by the kernel, so that data which decodes into more than it
seemed to ends as an error here, or as this process, and not as the machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

from d360.errors import TranscodingError
from d360.transcoding.conversion import convert
from d360.transcoding.job import Job

_PR_SET_PDEATHSIG = 1

#: The server is served first.
_NICENESS = 5


def answer(line: str, memory: int) -> dict[str, Any]:
    """Do a job. Nothing of a patient's is in what is said about one that fails."""
    job = Job(**json.loads(line))
    try:
        return {"size": convert(job, memory)}
    except TranscodingError as problem:
        why = str(problem)
    except MemoryError:
        why = "it needs more memory than is allowed"
    except OSError as problem:
        why = f"a file cannot be read or written: {problem.strerror}"
    except Exception as problem:
        why = f"an unexpected {type(problem).__name__}"
    with suppress(FileNotFoundError):
        os.unlink(job.output)
    return {"error": why}


def _limit(memory: int) -> None:
    """Take no more memory than this on top of what is needed to begin with."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # What a crash leaves behind would hold pixels.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _endWithParent() -> None:
    """The terminal's Ctrl-C is for the server; it ends us, or its end does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Work until there is no more."""
    memory = int(sys.argv[1])
    _endWithParent()
    os.nice(_NICENESS)
    _limit(memory)
    # Whatever a library prints is no answer of ours.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(answer(line, memory)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
