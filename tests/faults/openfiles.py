"""More connections than there can be open files."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.faults.receipts import Client, Outcome, Receipts, check, echo, endsInOrder
from tests.interop import wire
from tests.interop.running import PATIENCE, RunningServer

_TICKS = os.sysconf("SC_CLK_TCK")


def _seconds(server: RunningServer) -> float:
    """Processor time of the server and its children."""
    assert server.process is not None
    pids, found = [server.process.pid], 0.0
    while pids:
        pid = pids.pop()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / _TICKS
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        pids += map(int, children.split())
    return found


def _open(server: RunningServer, stack: ExitStack) -> wire.Peer | None:
    """An association; C{None} where the connection is closed at once."""
    peer = stack.enter_context(wire.Peer(server))
    try:
        peer.associate([(wire.ECHO, [wire.IMPLICIT])])
    except (OSError, EOFError, RuntimeError):
        return None
    return peer


def _echoes(peer: wire.Peer) -> bool:
    try:
        peer.send(wire.echo(1, 1))
        return peer.response().status == 0
    except (OSError, EOFError, RuntimeError):
        return False


def crowded(
    folder: Path, times: int, limit: int = 128, count: int = 300, workers: int = 1
) -> Outcome:
    """
    So many connections with so few files: those that are served go on, also to
    store; the others are told, and find room when there is some.
    """
    outcome = Outcome()
    wrapper = ["prlimit", f"--nofile={limit}:{limit}"]
    server = RunningServer(folder, workers=workers, wrapper=wrapper)
    try:
        server.start()
        receipts = Receipts()
        client = Client(server, receipts, 200_000)
        outcome.expect(client.store() == "0000", "nothing was stored")
        for _ in range(times):
            with ExitStack() as stack:
                opened = [_open(server, stack) for _ in range(count)]
                served = [peer for peer in opened if peer is not None]
                outcome.injected["connection beyond the limit"] += count - len(served)
                outcome.figures["associations served"] = len(served)
                outcome.expect(len(served) >= 16, f"only {len(served)} were served")
                outcome.expect(len(served) < count, "the limit was not reached")
                echoed = sum(map(_echoes, served))
                outcome.expect(echoed == len(served), f"{echoed} go on")
                outcome.expect(client.store() == "0000", "storing does not go on")
                _idles(server, outcome)
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    echo(server)
                    break
                except (OSError, EOFError, RuntimeError):
                    if time.monotonic() > deadline:
                        outcome.problems.append("no room when the others have gone")
                        break
                    time.sleep(0.05)
        check(server, receipts, outcome)
        client.close()
        endsInOrder(server, outcome)
    finally:
        server.stop(signal.SIGKILL)
    return outcome


def usedUp(folder: Path, times: int, limit: int = 128, workers: int = 1) -> Outcome:
    """
    The web port's connections take what descriptors there are: nothing dies or
    spins, an association that is open goes on, and all is well when they go.
    """
    outcome = Outcome()
    wrapper = ["prlimit", f"--nofile={limit}:{limit}"]
    server = RunningServer(folder, workers=workers, wrapper=wrapper)
    try:
        server.start()
        receipts = Receipts()
        client = Client(server, receipts, 200_000)
        outcome.expect(client.store() == "0000", "nothing was stored")
        host, _, port = server.web.removeprefix("http://").partition(":")
        for _ in range(times):
            with ExitStack() as stack:
                for _ in range(2 * limit):
                    connection = socket.create_connection((host, int(port)), 10)
                    stack.enter_context(connection)
                outcome.injected["descriptors used up"] += 1
                before, began = _seconds(server), time.monotonic()
                time.sleep(1.5)
                share = (_seconds(server) - before) / (time.monotonic() - began)
                outcome.slowest("processor, share", share)
                outcome.expect(share < 0.5, f"it takes {share:.0%} of a processor")
                outcome.expect(client.store() == "0000", "storing does not go on")
            outcome.expect(server.ctl("status").status == 0, "no HTTP afterwards")
            outcome.slowest("C-ECHO afterwards, s", echo(server))
        check(server, receipts, outcome)
        client.close()
        endsInOrder(server, outcome)
    finally:
        server.stop(signal.SIGKILL)
    return outcome


def _idles(server: RunningServer, outcome: Outcome) -> None:
    """Those that still knock do not keep it busy."""
    with ExitStack() as stack:
        for _ in range(50):
            peer = stack.enter_context(wire.Peer(server))
            peer.socket.setblocking(False)
        before, began = _seconds(server), time.monotonic()
        time.sleep(1.5)
        share = (_seconds(server) - before) / (time.monotonic() - began)
    outcome.slowest("processor, share", share)
    outcome.expect(share < 0.5, f"it takes {share:.0%} of a processor to refuse")
