"""Load, in short; at length by C{python -m tests.faults load}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.faults import load
from tests.faults.loadclient import Orders
from tests.interop.running import WORKERS

#: Milliseconds; a machine that runs tests has other things to do, too. How soon it
#: must be, the long form says.
IN_TIME = 1500


class LoadTests(SynchronousTestCase):
    """Many at the same time, and some that store and query."""

    def test_short(self) -> None:
        """Nothing is refused, all is there, and nobody waits for long."""
        orders = Orders(0, 200, storing=20, querying=10, size=16384, pace=0.1)
        folder = Path(self.mktemp()).absolute()
        found = load.run(folder, orders, 6.0, WORKERS, IN_TIME)
        self.assertEqual(found.wrong, [], str(found))
        # Each of them several times, on however slow a machine.
        self.assertGreater(found.stored, 40)
        self.assertGreater(found.queries, 20)
        self.assertGreater(found.matches, 0)
        self.assertGreater(found.real, 0)
