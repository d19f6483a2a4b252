"""Which worker serves a connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from attrs import frozen


@frozen
class Load:
    """
    What a worker has to do.

    @ivar connections: open ones, and those on their way to it.
    @ivar live: associations.
    @ivar share: associations that it may have.
    @ivar handedAt: when it was last chosen; a number that grows.
    """

    connections: int
    live: int
    share: int
    handedAt: int

    @property
    def isFull(self) -> bool:
        """It may not have another association."""
        return self.live >= self.share


class ILoaded(Protocol):
    """What has a L{Load}."""

    @property
    def load(self) -> Load:
        """Now."""


L = TypeVar("L", bound=ILoaded)


def choose(workers: Iterable[L]) -> L | None:
    """
    The one with the fewest connections of those that may have more
    associations, and if none may, of all: it says so to the peer. Among equals
    the one that has waited longest.

    @return: C{None} where there is none at all.
    """

    def preference(worker: L) -> tuple[bool, int, int]:
        load = worker.load
        return load.isFull, load.connections, load.handedAt

    return min(workers, key=preference, default=None)


def shares(total: int, count: int) -> Sequence[int]:
    """
    Divide a number of associations evenly. As each worker keeps to its share,
    all together never have more, whatever they know of each other.
    """
    each, more = divmod(total, count)
    return [each + (number < more) for number in range(count)]
