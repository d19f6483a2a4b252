"""What it takes to retrieve: C-GET and C-MOVE with DCMTK's clients."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.servers import DESTINATION, HOST, Server, dcmtk


def _environment() -> dict[str, str]:
    return dict(os.environ, TCP_NODELAY="1")


#: Where receivers keep what they get: in memory, so that what is measured is
#: the server, and not the disk beneath its client.
_RECEIVED = "/dev/shm"


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix="d360-benchmark-", dir=_RECEIVED if os.path.isdir(_RECEIVED) else None
    ) as folder:
        yield Path(folder)


@contextmanager
def receiver(port: int, folder: Path) -> Iterator[None]:
    """storescp, which keeps what it receives."""
    command = [dcmtk("storescp"), "-q", "-aet", DESTINATION, "+B", "-od", str(folder)]
    child = subprocess.Popen([*command, str(port)], env=_environment())
    try:
        while True:
            try:
                socket.create_connection((HOST, port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait()


def get(server: Server, study: str, folder: Path) -> float:
    """C-GET a study into a folder; seconds."""
    command = [dcmtk("getscu"), "-q", "-S", "+B", "-od", str(folder)]
    command += ["-aec", server.aeTitle, "-k", "QueryRetrieveLevel=STUDY"]
    command += ["-k", f"StudyInstanceUID={study}", HOST, str(server.port)]
    start = time.perf_counter()
    subprocess.run(command, env=_environment(), check=True)
    return time.perf_counter() - start


def move(server: Server, study: str) -> float:
    """C-MOVE a study to L{DESTINATION}; seconds."""
    command = [dcmtk("movescu"), "-q", "-S", "-aem", DESTINATION]
    command += ["-aec", server.aeTitle, "-k", "QueryRetrieveLevel=STUDY"]
    command += ["-k", f"StudyInstanceUID={study}", HOST, str(server.port)]
    start = time.perf_counter()
    subprocess.run(command, env=_environment(), check=True)
    return time.perf_counter() - start


def _figure(folder: Path, seconds: float) -> dict[str, Any]:
    count = len(list(folder.iterdir()))
    return {"instances": count, "seconds": seconds, "rate": count / seconds}


def measureRetrieve(
    server: Server, study: str, rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Retrieve a study again and again, both ways."""
    server.addDestination()
    results: dict[str, list[dict[str, Any]]] = {"C-GET": [], "C-MOVE": []}
    for _ in range(rounds):
        with _folder() as place:
            seconds = get(server, study, place)
            results["C-GET"].append(_figure(place, seconds))
        with (
            _folder() as place,
            receiver(server.destinationPort, place),
        ):
            seconds = move(server, study)
            results["C-MOVE"].append(_figure(place, seconds))
    return results


def measureLargeRetrieve(server: Server, study: str) -> dict[str, dict[str, Any]]:
    """How the server's memory grows while it sends one large instance."""
    server.addDestination()
    results = {}
    with _folder() as place, receiver(server.destinationPort, place):
        for name, retrieve in (
            ("C-GET", lambda: get(server, study, place)),
            ("C-MOVE", lambda: move(server, study)),
        ):
            before = server.memory()
            server.resetPeak()
            seconds = retrieve()
            growth = server.memory("VmHWM") - before
            results[name] = {"seconds": seconds, "growth MiB": growth}
    return results


@contextmanager
def retrieving(
    server: Server, study: str, count: int, transcoded: str
) -> Iterator[None]:
    """
    So many C-GET of a study, again and again, and one of another study in
    Implicit VR, for which it has to be transcoded.
    """
    command = [dcmtk("getscu"), "-q", "-S", "--ignore", "-aec", server.aeTitle]
    command += ["-k", "QueryRetrieveLevel=STUDY", HOST, str(server.port)]
    others = [[*command, "-k", f"StudyInstanceUID={study}"]] * count
    others.append([*command, "-xi", "-k", f"StudyInstanceUID={transcoded}"])
    loops = [
        # Each in a group of its own, so that its loop ends with it.
        subprocess.Popen(
            ["sh", "-c", 'while "$@"; do :; done', "sh", *one],
            env=_environment(),
            start_new_session=True,
        )
        for one in others
    ]
    try:
        yield
    finally:
        for loop in loops:
            os.killpg(loop.pid, signal.SIGTERM)
            loop.wait()
