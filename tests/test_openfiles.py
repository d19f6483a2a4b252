"""Tests for L{d360.openfiles}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from d360 import openfiles
from d360.openfiles import allowedOpenFiles, mostConnections, raiseOpenFiles


class OpenFilesTests(SynchronousTestCase):
    """One open file for each association, as far as the system lets us."""

    def raised(self, soft: int, hard: int) -> tuple[int, int] | None:
        """The limits that are set."""
        found: list[tuple[int, int]] = []
        limits = openfiles.resource
        self.patch(limits, "getrlimit", lambda what: (soft, hard))
        self.patch(limits, "setrlimit", lambda what, pair: found.append(pair))
        raiseOpenFiles()
        return found[0] if found else None

    def test_limits(self) -> None:
        """Raised up to the hard limit or to what is wanted; never lowered."""
        infinite = openfiles.resource.RLIM_INFINITY
        self.assertEqual(self.raised(1024, 4096), (4096, 4096))
        self.assertEqual(self.raised(1024, infinite), (65536, infinite))
        self.assertEqual(self.raised(1024, 1 << 20), (65536, 1 << 20))
        self.assertIsNone(self.raised(1 << 20, 1 << 20))
        self.assertIsNone(self.raised(infinite, infinite))
        self.assertIsNone(self.raised(4096, 4096))

    def test_allowed(self) -> None:
        """What there will be is known before it is raised."""
        infinite = openfiles.resource.RLIM_INFINITY
        for soft, hard, expected in (
            (1024, 4096, 4096),
            (1024, infinite, 65536),
            (1 << 20, 1 << 20, 1 << 20),
            (infinite, infinite, 65536),
        ):
            self.raised(soft, hard)
            self.assertEqual(allowedOpenFiles(), expected)

    def test_connections(self) -> None:
        """Two files for each, and some for all else; never none."""
        self.assertEqual(mostConnections(1024), 480)
        self.assertEqual(mostConnections(128), 32)
        self.assertEqual(mostConnections(10), 16)
