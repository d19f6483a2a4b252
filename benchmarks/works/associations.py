"""Many associations: idle, one after the other, and broken off."""

from __future__ import annotations

import resource
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

from benchmarks import processes
from benchmarks.association import VERIFICATION, Association, Refused, request
from benchmarks.results import (
    ASSOCIATION_CPU,
    ASSOCIATIONS,
    EACH,
    GROWTH,
    MILLISECONDS,
    OPENED,
    Figure,
    Measure,
)
from benchmarks.run import Run
from benchmarks.servers import HOST, Server

#: Seconds without an answer to a request after which no more are opened.
_PATIENCE = 10.0

#: Descriptors besides those of the associations.
_SPARE = 100


def _allowDescriptors(count: int) -> None:
    """
    @raise OSError: the system does not allow as many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise OSError(f"ulimit -n: {hard}, and {wanted} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _crowd(server: Server, count: int) -> Iterator[tuple[list[Association], str]]:
    """As many associations as the server takes, and why there are no more."""
    opened: list[Association] = []
    why = ""
    try:
        for _ in range(count):
            try:
                opened.append(Association(server, VERIFICATION, _PATIENCE))
            except Refused as error:
                why = str(error)
                break
        yield opened, why
    finally:
        for association in opened:
            with suppress(OSError):
                association.abort()


def _idle(server: Server, count: int) -> list[Figure]:
    title, echoing = f"{count} idle associations", f"beside {count} idle associations"
    before = processes.anonymous(server.roots())
    notes: tuple[str, ...] = ()
    values: dict[Measure, float] = {}
    with _crowd(server, count) as (opened, why):
        if why:
            notes = (f"after {len(opened)}: {why}",)
        time.sleep(1)
        grown = processes.anonymous(server.roots()) - before
        if opened:
            values = {EACH: grown.server * 1024 / len(opened)}
        values[OPENED] = len(opened)
        figures = [Figure(title, server.name, values, notes)]
        return [*figures, _echo(server, None if why else opened[-1], echoing)]


def _echo(server: Server, one: Association | None, echoing: str) -> Figure:
    """
    C-ECHO meanwhile.

    @param one: the last of all that were opened, with which the server has its
        full number; C{None} for another, to see whether it is still served.
    """
    title = f"C-ECHO {echoing}"
    try:
        if one is None:
            with Association(server, VERIFICATION, _PATIENCE) as another:
                times = [another.echo() for _ in range(100)]
        else:
            times = [one.echo() for _ in range(100)]
    except (OSError, Refused) as error:
        return Figure(title, server.name, {}, (f"no answer: {error}",))
    return Figure(title, server.name, {MILLISECONDS: statistics.median(times)})


def idle(run: Run) -> None:
    """Many associations at once that do nothing."""
    count = run.sizes.idle
    _allowDescriptors(count)

    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind) as server:
            return _idle(server, count)

    run.measure(f"{count} idle associations", run.kinds, once, 1)


def _openAndRelease(server: Server, count: int) -> int:
    """How many of so many associations came about."""
    done = 0
    for _ in range(count):
        with suppress(OSError, Refused), Association(server, VERIFICATION):
            done += 1
    return done


def associations(run: Run) -> None:
    """Associations that are opened and released, one after the other and by 4."""
    count = run.sizes.associations

    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind) as server:
            return [
                _openMany(server, max(1, int(count * kind.share) // clients), clients)
                for clients in (1, 4)
            ]

    run.measure("associations", run.kinds, once)


def _openMany(server: Server, each: int, clients: int) -> Figure:
    meant = each * clients
    before = processes.cpu(server.roots())
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = sum(pool.map(partial(_openAndRelease, server), [each] * clients))
    seconds = time.perf_counter() - start
    used = processes.cpu(server.roots()) - before
    values = {ASSOCIATIONS: done / seconds}
    if done:
        values[ASSOCIATION_CPU] = used.both * 1000 / done
    notes = (f"{meant - done} of {meant} refused",) if done < meant else ()
    title = f"associations opened and released, {clients} at a time"
    return Figure(title, server.name, values, notes)


def _breakOff(server: Server, count: int) -> int:
    """
    Connections that end badly: in turn before a request, within it, after it,
    and by A-ABORT. How many the server did not take.
    """
    refused = 0
    said = request(server.aeTitle, VERIFICATION)
    reset = struct.pack("ii", 1, 0)
    for number in range(count):
        try:
            if number % 4 == 3:
                Association(server, VERIFICATION).abort()
                continue
            # Reset, so that the port is free again at once.
            with socket.create_connection((HOST, server.port), 60) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                one.sendall(said[: (0, 20, len(said))[number % 4]])
        except (OSError, Refused):
            refused += 1
    return refused


def connects(run: Run) -> None:
    """Whether memory grows with connections that end badly."""
    count = run.sizes.connects
    title = f"{count} connects and aborts"

    def once(kind: type[Server]) -> list[Figure]:
        # Peers only to compare with: a tenth.
        number = count if kind.name == "D360" else int(count * kind.share) // 10
        with run.serving(kind) as server:
            # What is filled once, and then used again, is no growth.
            refused = _breakOff(server, max(100, number // 10))
            time.sleep(2)
            before = processes.anonymous(server.roots()).server
            start = time.perf_counter()
            refused += _breakOff(server, number)
            seconds = time.perf_counter() - start
            time.sleep(2)
            grown = processes.anonymous(server.roots()).server - before
        notes = [f"{refused} refused"] if refused else []
        notes += [] if number == count else [f"{number} only"]
        more = {"seconds": seconds, "connects": number}
        return [Figure(title, kind.name, {GROWTH: grown}, tuple(notes), more)]

    run.measure(title, run.kinds, once, 1)
