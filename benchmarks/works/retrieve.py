"""C-GET and C-MOVE, and what a server is like beside them."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import clients, instances, processes
from benchmarks.association import VERIFICATION, Association
from benchmarks.instances import Batch
from benchmarks.results import (
    GROWTH,
    MILLISECONDS,
    RATE,
    SERVER_CPU,
    WORST,
    Figure,
    Measure,
)
from benchmarks.run import Run, rotated
from benchmarks.servers import DESTINATION, Server, freePort, nagle
from benchmarks.works.counting import stored

#: What a retrieve is held against: the same files without any server's help.
STRAIGHT = "storescu to storescp"


def _retrieveBoth(server: Server, batch: Batch, times: int) -> list[Figure]:
    """
    Retrieve a study again and again, both ways. What arrives is counted once,
    and thrown away when the time is taken: to write files takes the receiver
    longer than all else, and how long varies more than the servers do.
    """
    server.addDestination()
    counts = {
        name: clients.retrieved(server, batch.study, name == "C-MOVE")
        for name in ("C-GET", "C-MOVE")
    }
    figures = []
    with clients.receiver(server.destinationPort, None):
        for _ in range(times):
            for name, count in counts.items():
                before = processes.cpu(server.roots())
                seconds = (
                    clients.move(server, batch.study)
                    if name == "C-MOVE"
                    else clients.get(server, batch.study, None)
                )
                used = processes.cpu(server.roots()) - before
                values = {RATE: count / seconds}
                if count:
                    values[SERVER_CPU] = used.both * 1000 / count
                notes: tuple[str, ...] = ()
                if count != batch.count:
                    notes = (f"{count} of {batch.count} arrived",)
                figures.append(Figure(name, server.name, values, notes))
    return figures


def _straight(run: Run, batch: Batch) -> None:
    """The same files from storescu to storescp, which throws them away."""
    port = freePort()
    with clients.receiver(port, None):
        for _ in range(run.sizes.retrieves):
            sent = clients.store(DESTINATION, port, [[batch.folder]])
            for name in ("C-GET", "C-MOVE"):
                values = {RATE: batch.count / sent.seconds}
                run.take(Figure(name, STRAIGHT, values, sent.notes()))


def retrieve(run: Run) -> None:
    """C-GET and C-MOVE of one study, beside storescu to storescp."""
    run.say(f"making a study of {run.sizes.retrieve} CT")
    batch = instances.oneStudy(run.made("retrieve"), run.sizes.retrieve)
    run.results.references.add(STRAIGHT)

    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind) as server:
            clients.fill(server, [[batch.folder]])
            times = max(1, int(run.sizes.retrieves * kind.share))
            return _retrieveBoth(server, batch, times)

    for number in range(run.sizes.rounds):
        _straight(run, batch)
        run.measure("C-GET", rotated(run.querying(), number), once, 1)
    run.forget("retrieve")


@contextmanager
def _retrieving(
    server: Server, study: str, count: int, transcoded: str
) -> Iterator[None]:
    """
    So many C-GET of a study, again and again, and one of another study in
    Implicit VR, for which it has to be transcoded.
    """
    others = [clients.getCommand(server, study, "--ignore")] * count
    others.append(clients.getCommand(server, transcoded, "--ignore", "-xi"))
    loops = [
        # Each in a group of its own, so that its loop ends with it.
        subprocess.Popen(
            ["sh", "-c", 'while "$@"; do :; done', "sh", *one],
            env=nagle(off=True),
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


def _echoes(server: Server, seconds: float) -> dict[Measure, float]:
    """C-ECHO again and again over one association."""
    times = []
    with Association(server, VERIFICATION) as association:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            times.append(association.echo())
            time.sleep(0.01)
    times.sort()
    return {
        MILLISECONDS: statistics.median(times),
        WORST: times[len(times) * 99 // 100],
    }


def load(run: Run) -> None:
    """C-ECHO while ten others retrieve and one has its study transcoded."""
    batch = instances.oneStudy(run.made("load"), min(run.sizes.retrieve, 200))
    packed = instances.compressed(run.made("compressed"), 50)
    title = "C-ECHO beside 10 C-GET and a transcoding"

    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind) as server:
            clients.fill(server, [[batch.folder]])
            clients.fill(server, [[packed.folder]], "-xs")
            with _retrieving(server, batch.study, 10, packed.study):
                time.sleep(2)
                return [Figure(title, server.name, _echoes(server, 10))]

    # dcmqrscp and qrscp cannot transcode to what is asked for.
    run.measure(title, run.called("D360", "Orthanc", "Orthanc PostgreSQL"), once, 1)
    run.forget("load")
    run.forget("compressed")


def large(run: Run) -> None:
    """How the memory grows while one large instance is stored and retrieved."""
    size = run.sizes.large
    if not size:
        return
    batch = instances.large(run.made("large"), size << 20)

    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind) as server, tempfile.TemporaryDirectory() as name:
            return _largeBothWays(server, batch, size, Path(name))

    run.measure(f"C-STORE of {size} MiB", run.kinds, once, 1)
    run.forget("large")


def _largeBothWays(
    server: Server, batch: Batch, size: int, place: Path
) -> list[Figure]:
    def growth(work: str) -> Figure:
        before = processes.rss(server.roots()).server
        processes.forgetPeaks(server.roots())
        start = time.perf_counter()
        with processes.Peak(server.roots(), 0.02, False) as peak:
            ways[work]()
        most = peak.rss.highest(processes.peaks(server.roots())).server
        notes: tuple[str, ...] = ()
        if work == "C-STORE" and not stored(server, [batch]):
            notes = ("not kept",)
        grown = max(0.0, most - before)
        more = {"seconds": time.perf_counter() - start}
        title = f"{work} of {size} MiB"
        return Figure(title, server.name, {GROWTH: grown}, notes, more)

    ways: dict[str, Callable[[], object]] = {
        "C-STORE": lambda: clients.fill(server, [[batch.folder]]),
        "C-GET": lambda: clients.get(server, batch.study, place),
        "C-MOVE": lambda: clients.move(server, batch.study),
    }
    if not server.queries:
        return [growth("C-STORE")]
    server.addDestination()
    # One that throws it away would hold all of it in memory.
    with clients.receiver(server.destinationPort, place):
        return [growth(work) for work in ways]
