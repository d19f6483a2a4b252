"""What D360 wants to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from benchmarks import results as r
from benchmarks.results import Measure, Results, advantage
from benchmarks.table import OURS, number

#: What a work is called that is only the measure of another, in turn with it.
BESIDE = ", in turn"


@frozen
class Target:
    """
    One aim.

    @ivar work: the row it is read from.
    @ivar wanted: how many times better than C{against}; or the most that it
        may be of C{base}, for what should be little, and the least, for what
        should be much; or an absolute limit.
    @ivar against: a peer, by its name in the table.
    @ivar base: another work of ours that it is compared with.
    """

    work: str
    measure: Measure
    wanted: float
    against: str = ""
    base: str = ""

    def figure(self, results: Results) -> float | None:
        """What came out; C{None} where it was not measured."""
        ours = results.median(self.work, self.measure, OURS)
        if ours is None or not (self.against or self.base):
            return ours
        other = results.median(
            self.base or self.work, self.measure, self.against or OURS
        )
        if other is None:
            return None
        if self.base:
            return ours / other if other else None
        return advantage(self.measure, ours, other)

    @property
    def least(self) -> bool:
        """Whether C{wanted} is the least, else the most."""
        return bool(self.against) or self.measure.more

    def isReached(self, figure: float) -> bool:
        """Whether a figure is good enough."""
        return figure >= self.wanted if self.least else figure <= self.wanted

    def describe(self) -> str:
        """What is wanted, in words."""
        wanted = f"{self.wanted:.3g}"
        limit = "at least" if self.least else "at most"
        if self.against:
            kind = "the rate" if self.measure.more else "as fast"
            return f"{limit} {wanted} x {kind}, {self.against}"
        if self.base:
            return f"{limit} {wanted} x {self.base}"
        return f"{limit} {wanted} {self.measure.name}"


def _retrieves() -> Iterator[Target]:
    for work in ("C-GET", "C-MOVE"):
        yield Target(work, r.RATE, 2.0, "Orthanc")
        yield Target(work, r.RATE, 1.0, "storescu to storescp")


def _stores() -> Iterator[Target]:
    for senders, wanted in ((1, 1.0), (4, 0.7), (16, 0.7)):
        work = f"store x{senders} CT"
        yield Target(work, r.RATE, wanted, "storescp")
        yield Target(work, r.RATE, 3.0, "Orthanc")
    yield Target("store x16 CT", r.RATE, 1.0, base="store x4 CT")
    for peer in ("Orthanc", "dcmqrscp"):
        yield Target("store x1 CT, all as installed", r.RATE, 20.0, peer)
    yield Target("store x2 1 KB", r.RATE, 3.0, "Orthanc")


_ONE_MATCH = ("patient ID", "accession number")
_PLANTED = (
    "name prefix",
    "name infix",
    "name infix of common syllables",
    "month",
    "year",
    "1000 matches",
)


def _finds(studies: int, many: int) -> Iterator[Target]:
    few = f", {studies} studies"
    for name in _ONE_MATCH:
        yield Target(f"C-FIND {name}{few}", r.MILLISECONDS, 15.0, "Orthanc")
    work = f"C-FIND 1000 matches{few}"
    yield Target(work, r.MILLISECONDS, 6.0, "Orthanc")
    yield Target(work, r.FIRST, 20.0)
    more, beside = f", {many} studies", f", {studies} studies{BESIDE}"
    for name in (*_ONE_MATCH, *_PLANTED):
        base = f"C-FIND {name}{beside}"
        yield Target(f"C-FIND {name}{more}", r.MILLISECONDS, 1.5, base=base)
    for name in _PLANTED[1:3]:
        yield Target(f"C-FIND {name}{more}", r.MILLISECONDS, 50.0)
    base = f"store x1 CT{beside}"
    yield Target(f"store x1 CT{more}", r.RATE, 1 / 1.5, base=base)


def targets(studies: int, many: int, idle: int, connects: int) -> list[Target]:
    """
    All of them.

    @param studies: the smaller number of studies that queries are measured on.
    @param many: the larger one.
    """
    return [
        *_stores(),
        *_retrieves(),
        *_finds(studies, many),
        Target(f"{idle} idle associations", r.EACH, 40.0),
        Target(f"C-ECHO beside {idle} idle associations", r.MILLISECONDS, 20.0),
        # Less than the smallest object that each of them could leave behind.
        Target(f"{connects} connects and aborts", r.GROWTH, 4.0),
    ]


def cells(results: Results, wanted: list[Target]) -> list[list[str]]:
    """Those that were measured, as a table, its head first."""
    table = [["work", "wanted", "figure", ""]]
    for target in wanted:
        figure = target.figure(results)
        if figure is None:
            continue
        outcome = "reached" if target.isReached(figure) else "NOT reached"
        table.append([target.work, target.describe(), number(figure), outcome])
    return table
