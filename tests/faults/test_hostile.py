"""
Hostile and broken peers, in short; at length by C{python -m tests.faults hostile}.
"""

from __future__ import annotations

import atexit
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests.faults import hostile
from tests.faults.attacks.victim import Victim
from tests.interop.running import sharedFolder

#: Milliseconds; a machine that runs tests has other things to do, too. How soon it
#: must be, the long form says.
IN_TIME = 1500

#: What is done at the same time: first what waits for limits of time.
SLOW = (
    "slow.slowRequest",
    "slow.slowInstance",
    "slow.slowInGoodFaith",
    "slow.neverReads",
    "slow.endless",
    "slow.endlessInstance",
    "vanishing.releasing",
    "web.slowRequests",
    "web.neverReads",
    "web.endlessBodies",
)
MALFORMED = (
    "malformed.hugeLengths",
    "malformed.manyItems",
    "malformed.nesting",
    "malformed.severalAtOnce",
)
BOMBS = ("bombs.deflatedHeaders", "bombs.deflatedPixels", "bombs.frames")
NAMES = ("names.titles", "names.uids", "web.badNames", "web.badBodies")
VANISHING = ("vanishing.vanishing", "vanishing.aborting")
CONNECTIONS = ("web.manyConnections",)

#: With programs that take long to begin: the long form has it.
LONG = ("names.commands",)


@cache
def _victim() -> Victim:
    """One for all of them."""
    victim = hostile.start(sharedFolder("hostile"))
    atexit.register(victim.server.stop)
    return victim


class HostileTests(SynchronousTestCase):
    """Whatever peers do, others are served, and nothing is left of it."""

    def assertWithstood(self, *attacks: str) -> None:
        """Several at the same time."""
        outcome = hostile.run(_victim(), attacks, IN_TIME)
        self.assertEqual(outcome.wrong, [], str(outcome))

    def test_slow(self) -> None:
        """What never comes to its end, slowly or at full speed; what nobody reads."""
        self.assertWithstood(*SLOW)

    def test_malformed(self) -> None:
        """Lengths, counts and depths beyond all measure."""
        self.assertWithstood(*MALFORMED)

    def test_bombs(self) -> None:
        """A little that becomes much."""
        self.assertWithstood(*BOMBS)

    def test_names(self) -> None:
        """Paths and SQL where names belong, and what is no JSON."""
        self.assertWithstood(*NAMES)

    def test_vanishing(self) -> None:
        """Peers that come and go, and A-ABORTs without number."""
        self.assertWithstood(*VANISHING)

    def test_connections(self) -> None:
        """More to the web port than there may be."""
        self.assertWithstood(*CONNECTIONS)

    def test_all(self) -> None:
        """Each attack there is belongs to a test here, or to the long form."""
        groups = (SLOW, MALFORMED, BOMBS, NAMES, VANISHING, CONNECTIONS, LONG)
        grouped = [name for group in groups for name in group]
        self.assertEqual(sorted(grouped), sorted(hostile.ATTACKS))
