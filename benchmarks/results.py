"""What was measured: figures by work, measure and server."""

from __future__ import annotations

import statistics
from typing import Any

from attrs import field, frozen, mutable


@frozen
class Measure:
    """
    What a figure counts.

    @ivar name: in tables.
    @ivar more: more of it is better.
    """

    name: str
    more: bool = False


RATE = Measure("instances/s", more=True)
QUERIES = Measure("queries/s", more=True)
ASSOCIATIONS = Measure("associations/s", more=True)
MILLISECONDS = Measure("ms")
FIRST = Measure("ms to the first match")
WORST = Measure("ms, 99th percentile")
SERVER_CPU = Measure("ms CPU of the server an instance")
QUERY_CPU = Measure("ms CPU of the server a query")
ASSOCIATION_CPU = Measure("ms CPU of the server an association")
CLIENT_CPU = Measure("ms CPU of the clients an instance")
GROWTH = Measure("MiB growth")
EACH = Measure("KiB each")
OPENED = Measure("opened", more=True)
REST_RSS = Measure("MiB RSS")
PSS = Measure("MiB PSS")
DATABASE_PSS = Measure("MiB PSS of PostgreSQL")


@frozen
class Figure:
    """
    One measurement.

    @ivar work: the row's title.
    @ivar server: whose.
    @ivar values: by measure.
    @ivar notes: what a reader must know: what was refused, what is missing.
    @ivar more: what is not in a table, for whoever reads the JSON.
    """

    work: str
    server: str
    values: dict[Measure, float]
    notes: tuple[str, ...] = ()
    more: dict[str, Any] = field(factory=dict)

    def asJSON(self) -> dict[str, Any]:
        """All of it."""
        values = {measure.name: value for measure, value in self.values.items()}
        return {
            "work": self.work,
            "server": self.server,
            "values": values,
            "notes": list(self.notes),
            **self.more,
        }


@mutable
class Results:
    """
    All figures of a run.

    @ivar references: columns that are no servers to compare with: they take
        no part in what the best peer is.
    """

    figures: list[Figure] = field(factory=list)
    references: set[str] = field(factory=set)

    def add(self, figure: Figure) -> None:
        """One more."""
        self.figures.append(figure)

    def rows(self) -> list[tuple[str, Measure]]:
        """Work and measure of each row, works in the order of measuring."""
        measures: dict[str, dict[Measure, None]] = {}
        for figure in self.figures:
            measures.setdefault(figure.work, {}).update(dict.fromkeys(figure.values))
        return [(work, measure) for work, of in measures.items() for measure in of]

    def median(self, work: str, measure: Measure, server: str) -> float | None:
        """Of all rounds; C{None} where it was not measured."""
        values = [
            figure.values[measure]
            for figure in self.figures
            if (figure.work, figure.server) == (work, server)
            and measure in figure.values
        ]
        return statistics.median(values) if values else None

    def notes(self, work: str, server: str) -> list[str]:
        """The notes of all rounds, each once."""
        return list(
            dict.fromkeys(
                note
                for figure in self.figures
                if (figure.work, figure.server) == (work, server)
                for note in figure.notes
            )
        )


def advantage(measure: Measure, ours: float, theirs: float) -> float | None:
    """How many times better ours is; C{None} where that says nothing."""
    better, worse = (ours, theirs) if measure.more else (theirs, ours)
    return better / worse if worse > 0 and better > 0 else None
