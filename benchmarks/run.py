"""One run of the benchmark: its sizes, its servers, whose turn it is."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen, mutable

from benchmarks.processes import Peak, Usage, pss, rss
from benchmarks.results import Figure, Results
from benchmarks.servers import Server


@frozen
class Sizes:
    """
    How much is measured.

    @ivar rounds: how often each work is done; the median counts.
    @ivar settle: seconds between the start of a server and its first work.
    @ivar senders: how many send at once, one number after the other.
    @ivar instances: CT of 0.5 MB from each of up to 4 senders; more senders
        share what 4 would send.
    @ivar small: instances of 1 KB, as those of 0.5 MB.
    @ivar stock: CT where nothing is done about Nagle's algorithm.
    @ivar shared: instances from each of 16 senders, all of one study.
    @ivar retrieve: CT of the study that is retrieved.
    @ivar retrieves: how often it is retrieved, each round.
    @ivar large: MiB of the large instance; 0 leaves it out.
    @ivar studies: studies among which queries are measured on all servers.
    @ivar many: studies among which they are measured on D360 alone.
    @ivar queries: queries of each kind, each round.
    @ivar worklist: items of the worklist.
    @ivar idle: associations that are open and do nothing.
    @ivar associations: associations that are opened and released.
    @ivar connects: connections that are opened and broken off.
    """

    rounds: int = 3
    settle: float = 3.0
    senders: tuple[int, ...] = (1, 2, 4, 16)
    instances: int = 400
    small: int = 1000
    stock: int = 100
    shared: int = 100
    retrieve: int = 500
    retrieves: int = 5
    large: int = 1024
    studies: int = 20_000
    many: int = 1_000_000
    queries: int = 50
    worklist: int = 100_000
    idle: int = 2000
    associations: int = 2000
    connects: int = 100_000


#: For a run of a few minutes: whether all works, and roughly how well.
QUICK = Sizes(
    rounds=1,
    settle=0.5,
    instances=100,
    small=200,
    stock=20,
    shared=20,
    retrieve=100,
    retrieves=2,
    large=128,
    studies=2000,
    many=20_000,
    queries=10,
    worklist=2000,
    idle=200,
    associations=200,
    connects=3000,
)


def rotated(kinds: Sequence[type[Server]], number: int) -> list[type[Server]]:
    """In the same order, but with another that begins: the one of this number."""
    shift = number % len(kinds) if kinds else 0
    return [*kinds[shift:], *kinds[:shift]]


@mutable
class Memory:
    """
    What a server was seen to take.

    @ivar rest: MiB RSS and PSS after its start.
    @ivar peakRSS: the most over all works; C{peakPSS} likewise.
    """

    restRSS: Usage = Usage()
    restPSS: Usage = Usage()
    peakRSS: Usage = Usage()
    peakPSS: Usage = Usage()


@mutable
class Run:
    """
    What every work is given.

    @ivar kinds: the servers that take part.
    @ivar files: a folder for all that is made; it is removed in the end.
    """

    kinds: Sequence[type[Server]]
    files: Path
    sizes: Sizes
    results: Results = field(factory=Results)
    memory: dict[str, Memory] = field(factory=dict)
    _began: float = field(factory=time.monotonic)
    _numbers: int = 0

    def say(self, text: str) -> None:
        """Progress, on the standard error."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"{minutes:3}:{seconds:02} {text}", file=sys.stderr, flush=True)

    def called(self, *names: str) -> list[type[Server]]:
        """Those of the servers that have these names."""
        return [kind for kind in self.kinds if kind.name in names]

    def querying(self) -> list[type[Server]]:
        """Those that answer queries."""
        return [kind for kind in self.kinds if kind.queries]

    def take(self, figure: Figure, progress: str = "") -> None:
        """Keep a figure, and tell it."""
        self.results.add(figure)
        values = ", ".join(
            f"{value:.4g} {measure.name}" for measure, value in figure.values.items()
        )
        notes = "".join(f" ({note})" for note in figure.notes)
        self.say(f"{figure.work}, {progress}{figure.server}: {values}{notes}")

    def measure(
        self,
        work: str,
        kinds: Sequence[type[Server]],
        measure: Callable[[type[Server]], list[Figure]],
        rounds: int | None = None,
    ) -> None:
        """
        Let the servers take turns, so that a machine that becomes slower does
        not favour one of them; each round begins with another.

        @param measure: is given one of them, and gives figures.
        """
        rounds = self.sizes.rounds if rounds is None else rounds
        for number in range(rounds):
            for kind in rotated(kinds, number):
                # One server that fails in one work is a result, and no reason
                # to lose all others.
                try:
                    figures = measure(kind)
                except Exception as error:
                    figures = [self.failed(work, kind, error)]
                for figure in figures:
                    self.take(figure, f"round {number + 1}/{rounds}, ")

    def failed(self, work: str, kind: type[Server], error: Exception) -> Figure:
        """That a server could not do a work, and why."""
        first, _, rest = str(error).partition("\n")
        if rest:
            self.say(rest)
        reason = f"failed: {type(error).__name__}: {first}"
        return Figure(work, kind.name, {}, (reason,))

    @contextmanager
    def serving(
        self,
        kind: type[Server],
        asInstalled: bool = False,
        folder: Path | None = None,
    ) -> Iterator[Server]:
        """
        A server that runs for as long as the block.

        @param folder: of a run before, to go on with; it stays.
        """
        self._numbers += 1
        place = folder or self.files / "servers" / f"{self._numbers}"
        server = kind(place, asInstalled)
        try:
            server.start(self.sizes.settle)
            seen = self.memory.setdefault(kind.name, Memory())
            if seen.restPSS == Usage():
                seen.restRSS, seen.restPSS = rss(server.roots()), pss(server.roots())
            peak = Peak(server.roots())
            try:
                with peak:
                    yield server
            finally:
                seen.peakRSS = seen.peakRSS.highest(peak.rss)
                seen.peakPSS = seen.peakPSS.highest(peak.pss)
        finally:
            server.stop()
            if folder is None:
                shutil.rmtree(place, ignore_errors=True)
            # What was deleted is not the next one's work.
            os.sync()

    def made(self, name: str) -> Path:
        """A place for instances to be made in; it is not there yet."""
        return self.files / name

    def forget(self, name: str) -> None:
        """Remove what is there."""
        shutil.rmtree(self.files / name, ignore_errors=True)
