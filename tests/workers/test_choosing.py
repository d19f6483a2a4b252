"""Tests for L{d360.workers.choosing}."""

from __future__ import annotations

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from d360.workers.choosing import Load, choose, shares


@frozen
class Worker:
    """One with a load."""

    name: str
    load: Load


class ChooseTests(SynchronousTestCase):
    """Who serves the next connection."""

    def chosen(self, **loads: Load) -> str | None:
        worker = choose([Worker(name, load) for name, load in loads.items()])
        return None if worker is None else worker.name

    def test_none(self) -> None:
        """Nobody, where there is nobody."""
        self.assertIsNone(self.chosen())

    def test_fewest(self) -> None:
        """The one with the fewest connections."""
        a, b = Load(3, 3, 10, 1), Load(2, 2, 10, 2)
        self.assertEqual(self.chosen(a=a, b=b), "b")

    def test_turns(self) -> None:
        """Of equals the one that has waited longest."""
        a, b = Load(2, 1, 10, 8), Load(2, 2, 10, 7)
        self.assertEqual(self.chosen(a=a, b=b), "b")

    def test_full(self) -> None:
        """One that may have another association, even if it has more to do."""
        a, b = Load(2, 2, 2, 1), Load(9, 1, 2, 2)
        self.assertEqual(self.chosen(a=a, b=b), "b")

    def test_allFull(self) -> None:
        """Somebody has to say that there is no room."""
        a, b = Load(3, 2, 2, 1), Load(2, 2, 2, 2)
        self.assertEqual(self.chosen(a=a, b=b), "b")


class SharesTests(SynchronousTestCase):
    """How many associations each may have."""

    def test_sum(self) -> None:
        """All together as many as are configured, and evenly."""
        self.assertEqual(shares(2000, 2), [1000, 1000])
        self.assertEqual(shares(7, 3), [3, 2, 2])
        self.assertEqual(shares(1, 3), [1, 0, 0])
