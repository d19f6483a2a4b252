"""C-STORE: how fast, from how many senders, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks import clients, instances, processes
from benchmarks.instances import PARTS, Batch
from benchmarks.results import CLIENT_CPU, RATE, SERVER_CPU, Figure
from benchmarks.run import Run
from benchmarks.servers import Server
from benchmarks.works.counting import ask, stored

#: Senders that each have their own four studies; with more, each has one.
_FULL = 4


def division(batches: Sequence[Batch], senders: int) -> list[list[Batch]]:
    """What each of so many senders has to send."""
    each = _FULL if senders <= _FULL else PARTS // senders
    return [list(batches[n * each : (n + 1) * each]) for n in range(senders)]


def storeOnce(
    server: Server, title: str, senders: Sequence[Sequence[Batch]], noDelay: bool
) -> Figure:
    """A server takes what so many senders have, each over an association."""
    every = [batch for batches in senders for batch in batches]
    taken = [
        [path for batch in batches for path in batch.files(server.share)]
        for batches in senders
    ]
    before = processes.cpu(server.roots())
    sent = clients.store(server.aeTitle, server.port, taken, noDelay)
    used = processes.cpu(server.roots()) - before
    kept, meant = stored(server, every), sum(map(len, taken))
    notes = sent.notes()
    if kept != meant:
        notes += (f"{kept} of {meant} kept",)
    values = {RATE: kept / sent.seconds}
    if kept:
        values[SERVER_CPU] = used.both * 1000 / kept
        values[CLIENT_CPU] = sent.cpu * 1000 / kept
    more = {
        "sent": meant,
        "kept": kept,
        "seconds": sent.seconds,
        "exit statuses": sent.codes,
        "server CPU seconds": used.server,
        "database CPU seconds": used.database,
        "clients' CPU seconds": sent.cpu,
    }
    return Figure(title, server.name, values, notes, more)


def _store(
    run: Run,
    title: str,
    senders: Sequence[Sequence[Batch]],
    noDelay: bool = True,
    asInstalled: bool = False,
) -> None:
    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind, asInstalled) as server:
            return [storeOnce(server, title, senders, noDelay)]

    run.measure(title, run.kinds, once)


def _storeBoth(
    run: Run, batches: Sequence[Batch], what: str, numbers: Sequence[int]
) -> None:
    """From each number of senders, without and with Nagle's algorithm."""
    for senders in numbers:
        for noDelay in (True, False):
            title = f"store x{senders} {what}"
            title += "" if noDelay else ", client with Nagle"
            _store(run, title, division(batches, senders), noDelay)


def storeCT(run: Run) -> None:
    """CT of 0.5 MB."""
    run.say(f"making {run.sizes.instances * _FULL} CT")
    batches = instances.ct(run.made("ct"), math.ceil(run.sizes.instances / _FULL))
    # x2 says nothing here that x1 and x4 do not.
    numbers = [number for number in run.sizes.senders if number != 2]
    _storeBoth(run, batches, "CT", numbers)
    run.forget("ct")


def storeSmall(run: Run) -> None:
    """Instances of 1 KB."""
    run.say(f"making {run.sizes.small * _FULL} instances of 1 KB")
    batches = instances.small(run.made("small"), math.ceil(run.sizes.small / _FULL))
    _storeBoth(run, batches, "1 KB", run.sizes.senders)
    run.forget("small")


def storeStock(run: Run) -> None:
    """Clients and servers as their packages have them."""
    batches = instances.ct(run.made("stock"), math.ceil(run.sizes.stock / _FULL))
    title = "store x1 CT, all as installed"
    _store(run, title, division(batches, 1), noDelay=False, asInstalled=True)
    run.forget("stock")


def _studiesOf(server: Server, batch: Batch) -> tuple[str, ...]:
    """What is wrong with a study that came in from many senders."""
    if not server.queries:
        return ()
    count = len(ask(server, "STUDY", StudyInstanceUID=batch.study, PatientID=""))
    series = len(
        ask(server, "SERIES", StudyInstanceUID=batch.study, SeriesInstanceUID="")
    )
    wrong = []
    if count != 1:
        wrong.append(f"{count} studies where one was sent")
    if series != _FULL:
        wrong.append(f"{series} series where {_FULL} were sent")
    return tuple(wrong)


def storeShared(run: Run) -> None:
    """One study that is new, from many senders at once."""
    batches = instances.shared(run.made("shared"), run.sizes.shared)
    title = f"store x{PARTS} of one new study, 1 KB"

    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind) as server:
            figure = storeOnce(server, title, [[batch] for batch in batches], True)
            wrong = _studiesOf(server, batches[0])
            notes = (*figure.notes, *wrong)
            return [Figure(title, server.name, figure.values, notes, figure.more)]

    run.measure(title, run.kinds, once)
    run.forget("shared")
