"""DCMTK's clients, which do the sending and the retrieving."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from attrs import frozen

from benchmarks.servers import DESTINATION, HOST, Server, dcmtk, nagle

#: Seconds after which a client that still runs is stuck.
_STUCK = 900.0


@frozen
class Sent:
    """
    What a number of senders did.

    @ivar seconds: from the start of the first to the end of the last.
    @ivar cpu: seconds of processor time of all.
    @ivar codes: their exit statuses.
    """

    seconds: float
    cpu: float
    codes: tuple[int, ...]

    def notes(self) -> tuple[str, ...]:
        """What went wrong."""
        failed = Counter(code for code in self.codes if code)
        return tuple(
            f"{count} of {len(self.codes)} storescu ended with {code}"
            for code, count in sorted(failed.items())
        )


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, float]:
    """The exit status of a client, and its seconds of processor time."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime


def store(
    aeTitle: str,
    port: int,
    senders: Sequence[Sequence[Path]],
    noDelay: bool = True,
    options: Sequence[str] = (),
) -> Sent:
    """
    Send files and the contents of folders, those of each sender over an
    association of its own.
    """
    command = [dcmtk("storescu"), "-q", "-nh", "-aec", aeTitle, *options]
    command += ["-to", str(int(_STUCK)), HOST, str(port), "+sd"]
    start = time.perf_counter()
    children = [
        subprocess.Popen([*command, *map(str, paths)], env=nagle(off=noDelay))
        for paths in senders
    ]
    ended = [_wait(child) for child in children]
    seconds = time.perf_counter() - start
    return Sent(seconds, sum(cpu for _, cpu in ended), tuple(code for code, _ in ended))


def fill(server: Server, senders: Sequence[Sequence[Path]], *options: str) -> None:
    """Store what is only to be there."""
    sent = store(server.aeTitle, server.port, senders, options=options)
    if any(sent.codes):
        raise RuntimeError(f"{server.name} was not filled: {sent.notes()}")


@contextmanager
def receiver(port: int, folder: Path | None) -> Iterator[None]:
    """storescp, which keeps what it receives in a folder, or throws it away."""
    command = [dcmtk("storescp"), "-q", "-aet", DESTINATION]
    command += ["--ignore"] if folder is None else ["+B", "-od", str(folder)]
    child = subprocess.Popen([*command, str(port)], env=nagle(off=True))
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


def getCommand(server: Server, study: str, *options: str) -> list[str]:
    """C-GET of a study."""
    command = [dcmtk("getscu"), "-q", "-S", "-aec", server.aeTitle, *options]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    return [*command, HOST, str(server.port)]


def get(server: Server, study: str, folder: Path | None) -> float:
    """C-GET a study into a folder, or into nothing; seconds."""
    place = ["--ignore"] if folder is None else ["+B", "-od", str(folder)]
    return _timed(getCommand(server, study, *place))


def move(server: Server, study: str) -> float:
    """C-MOVE a study to L{DESTINATION}; seconds."""
    command = [dcmtk("movescu"), "-q", "-S", "-aem", DESTINATION]
    command += ["-aec", server.aeTitle, "-k", "QueryRetrieveLevel=STUDY"]
    command += ["-k", f"StudyInstanceUID={study}", HOST, str(server.port)]
    return _timed(command)


def _timed(command: Sequence[str]) -> float:
    start = time.perf_counter()
    child = subprocess.Popen(command, env=nagle(off=True))
    # Not by a wait with a time limit: that looks every 50 ms only.
    watchdog = Timer(_STUCK, child.kill)
    watchdog.start()
    try:
        code, _ = _wait(child)
    finally:
        watchdog.cancel()
    if code:
        raise subprocess.CalledProcessError(code, command)
    return time.perf_counter() - start


def retrieved(server: Server, study: str, byMove: bool) -> int:
    """How many instances a retrieve really brings, once."""
    with tempfile.TemporaryDirectory(prefix="d360-retrieved-") as name:
        folder = Path(name)
        if byMove:
            with receiver(server.destinationPort, folder):
                move(server, study)
        else:
            get(server, study, folder)
        return len(list(folder.iterdir()))
