"""
Somebody who uses the server in good faith while others do what they like: a
C-ECHO over a standing association fifty times a second, and over a new one
twice a second. It is a process of its own, so that what the others do here does
not hold it up.

As the machine may be busy with other things, it also asks a process that does
nothing but answer: what that takes is none of the server's doing.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

from attrs import asdict, field, frozen

from tests.interop import wire
from tests.interop.running import PATIENCE, RunningServer
from tests.interop.wire import ECHO, IMPLICIT, Peer

#: Seconds between two C-ECHO, and how many of them a new association is for.
PAUSE = 0.02
EACH = 25

_SUCCESS = 0


@frozen
class Served:
    """
    How the bystander was served.

    @ivar echoes: milliseconds of each C-ECHO over the standing association.
    @ivar openings: of each C-ECHO over one that was opened for it, with that.
    @ivar others: milliseconds of an answer of the process that does nothing else.
    @ivar failures: what went wrong.
    """

    echoes: list[float] = field(factory=list, repr=False)
    openings: list[float] = field(factory=list, repr=False)
    others: list[float] = field(factory=list, repr=False)
    failures: list[str] = field(factory=list)

    def __str__(self) -> str:
        return (
            f"C-ECHO p50 {percentile(self.echoes, 50):.1f} p99 "
            f"{percentile(self.echoes, 99):.1f} "
            f"max {max(self.echoes, default=0):.1f} ms of {len(self.echoes)}, "
            f"opened for it max {max(self.openings, default=0):.1f} ms of "
            f"{len(self.openings)}; a process that does nothing else p99 "
            f"{percentile(self.others, 99):.1f} max {max(self.others):.1f} ms"
        )

    @property
    def late(self) -> float:
        """Milliseconds that 99 of 100 C-ECHO took no longer than, by the server."""
        return max(0.0, percentile(self.echoes, 99) - percentile(self.others, 99))


def percentile(values: list[float], percent: float) -> float:
    """
    What so many of a hundred values are not above.

    @raise ValueError: there are none.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Bystander:
    """
    Is served for as long as a C{with} lasts.

    @ivar served: how, afterwards.
    """

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.served = Served()

    def __enter__(self) -> Bystander:
        command = [sys.executable, "-m", "tests.faults.bystander"]
        self._process = subprocess.Popen(
            [*command, str(self._server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        # It has begun when it has been answered once.
        self._process.stdout.readline()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        output, _ = self._process.communicate("\n", timeout=PATIENCE)
        self.served = Served(**json.loads(output))


class _Nothing:
    """A process that answers a byte with a byte, as one among others."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        if os.fork() == 0:
            self._ours.close()
            while byte := theirs.recv(1):
                theirs.sendall(byte)
            os._exit(0)
        theirs.close()

    def ask(self) -> float:
        """Milliseconds to an answer."""
        start = time.perf_counter()
        self._ours.sendall(b"?")
        self._ours.recv(1)
        return (time.perf_counter() - start) * 1000


class _Calling:
    """The calls, in the process of its own."""

    def __init__(self, port: int) -> None:
        self._server: Any = _Place(port)
        self.served = Served()
        self._standing: Peer | None = None

    def _open(self) -> Peer:
        peer = Peer(self._server)
        peer.associate([(ECHO, [IMPLICIT])])
        return peer

    def once(self) -> None:
        """Over the standing association."""
        try:
            if self._standing is None:
                self._standing = self._open()
            start = time.perf_counter()
            self._standing.send(wire.echo(1, 1))
            status = self._standing.response().status
            self.served.echoes.append((time.perf_counter() - start) * 1000)
            if status != _SUCCESS:
                self.served.failures.append(f"status {status:04X}")
        except (OSError, EOFError, RuntimeError) as error:
            self._standing = None
            self.served.failures.append(f"C-ECHO: {error!r}")

    def anew(self) -> None:
        """Over a new one."""
        try:
            start = time.perf_counter()
            with self._open() as peer:
                peer.send(wire.echo(1, 1))
                peer.response()
                peer.release()
            self.served.openings.append((time.perf_counter() - start) * 1000)
        except (OSError, EOFError, RuntimeError) as error:
            self.served.failures.append(f"new association: {error!r}")


@frozen
class _Place:
    """As much of a L{RunningServer} as a L{Peer} needs."""

    port: int


def call(port: int) -> None:
    """Until there is a line on standard input; or its end."""
    nothing = _Nothing()
    if os.geteuid() == 0:
        # Whoever looks at what others suffer should not wait behind them.
        os.nice(-5)
    calling = _Calling(port)
    calling.served.others.append(nothing.ask())
    calling.once()
    print(flush=True)
    count = 0
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        count += 1
        calling.served.others.append(nothing.ask())
        calling.once()
        if count % EACH == 0:
            calling.anew()
    json.dump(asdict(calling.served), sys.stdout)


if __name__ == "__main__":
    call(int(sys.argv[1]))
