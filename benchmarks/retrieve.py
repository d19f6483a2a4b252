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


@contextmanager
def receiver(port: int, folder: Path | None) -> Iterator[None]:
    """storescp, which keeps what it receives in a folder, or throws it away."""
    command = [dcmtk("storescp"), "-q", "-aet", DESTINATION]
    command += ["--ignore"] if folder is None else ["+B", "-od", str(folder)]
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


def get(server: Server, study: str, folder: Path | None) -> float:
    """C-GET a study into a folder, or into nothing; seconds."""
    command = [dcmtk("getscu"), "-q", "-S", "-aec", server.aeTitle]
    command += ["--ignore"] if folder is None else ["+B", "-od", str(folder)]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    start = time.perf_counter()
    subprocess.run([*command, HOST, str(server.port)], env=_environment(), check=True)
    return time.perf_counter() - start


def move(server: Server, study: str) -> float:
    """C-MOVE a study to L{DESTINATION}; seconds."""
    command = [dcmtk("movescu"), "-q", "-S", "-aem", DESTINATION]
    command += ["-aec", server.aeTitle, "-k", "QueryRetrieveLevel=STUDY"]
    command += ["-k", f"StudyInstanceUID={study}", HOST, str(server.port)]
    start = time.perf_counter()
    subprocess.run(command, env=_environment(), check=True)
    return time.perf_counter() - start


def measureRetrieve(
    server: Server, study: str, rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """
    Retrieve a study again and again, both ways. What arrives is counted once,
    and thrown away when the time is taken: to write files takes the receiver
    longer than all else, and how long varies more than the servers do.
    """
    server.addDestination()
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        get(server, study, place)
        counts["C-GET"] = len(list(place.iterdir()))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with receiver(server.destinationPort, place):
            move(server, study)
        counts["C-MOVE"] = len(list(place.iterdir()))
    results: dict[str, list[dict[str, Any]]] = {"C-GET": [], "C-MOVE": []}
    with receiver(server.destinationPort, None):
        for _ in range(rounds):
            for name, seconds in (
                ("C-GET", get(server, study, None)),
                ("C-MOVE", move(server, study)),
            ):
                rate = counts[name] / seconds
                figure = {"instances": counts[name], "seconds": seconds, "rate": rate}
                results[name].append(figure)
    return results


def measureLargeRetrieve(server: Server, study: str) -> dict[str, dict[str, Any]]:
    """How the server's memory grows while it sends one large instance."""
    server.addDestination()
    results = {}
    with (
        # One that throws it away would hold all of it in memory.
        tempfile.TemporaryDirectory() as folder,
        receiver(server.destinationPort, Path(folder)),
    ):
        for name, retrieve in (
            ("C-GET", lambda: get(server, study, Path(folder))),
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
