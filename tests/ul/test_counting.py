"""What the upper layer counts of associations that did not come to be."""

from __future__ import annotations

from itertools import islice

from twisted.internet.defer import fail
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import AssociationRejected
from d360.metrics.counters import Metrics
from d360.ul import steps
from d360.ul.factory import UpperLayerFactory, numberAssociations
from d360.ul.settings import UpperLayerSettings
from tests.ul.association import REQUEST, AcceptorSide, Supported


class CountingTests(SynchronousTestCase):
    """PS3.8 9.3.4, Table 9-21."""

    def setUp(self) -> None:
        self.side = AcceptorSide()
        self.metrics = Metrics(self.side.clock)
        self.side.factory = UpperLayerFactory(
            self.side.buildUser,
            self.side.admission,
            Supported(),
            self.side.clock,
            UpperLayerSettings(maxConnections=1),
            self.metrics,
        )

    def test_admission(self) -> None:
        """By who may call."""
        self.side.admission.answer = fail(AssociationRejected(1, 1, 7, "no"))
        protocol, _ = self.side.connect()
        protocol.dataReceived(REQUEST)
        self.assertEqual(self.metrics.rejected, {(1, 1, 7): 1})

    def test_provider(self) -> None:
        """By the provider itself: another protocol version."""
        protocol, _ = self.side.connect()
        protocol.dataReceived(REQUEST[:6] + b"\x00\x02" + REQUEST[8:])
        self.assertEqual(self.metrics.rejected, {(1, 2, 2): 1})

    def test_accepted(self) -> None:
        """Of one that is accepted nothing is said here."""
        self.side.establish()
        self.assertEqual(self.metrics.rejected, {})
        self.assertEqual(self.side.factory.live, 1)

    def test_tooMany(self) -> None:
        """A connection more than there may be."""
        self.side.connect()
        self.assertIsNone(self.side.factory.buildProtocol(None))
        self.assertEqual(self.metrics.refusedConnections, 1)


class ChangesTests(SynchronousTestCase):
    """Who wants to know hears of each connection and association."""

    def test_changed(self) -> None:
        """When it begins and when it ends."""
        side = AcceptorSide()
        seen: list[tuple[int, int, int]] = []

        def changed(host: str) -> None:
            self.assertEqual(host, "192.168.1.1")
            seen.append((factory.connections, factory.live, factory.accepted))

        factory = side.factory = UpperLayerFactory(
            side.buildUser, side.admission, Supported(), side.clock, changed=changed
        )
        protocol, *_ = side.establish()
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(seen, [(1, 0, 0), (1, 1, 1), (1, 0, 1), (0, 0, 1)])


class NumbersTests(SynchronousTestCase):
    """Associations have numbers that no other process gives."""

    def test_step(self) -> None:
        """Between those of one process there is room for others."""
        self.patch(steps, "numbers", steps.numbers)
        numbers = numberAssociations(5, 3)
        side = AcceptorSide()
        found = [side.connect()[0].number for _ in range(3)]
        self.assertEqual(found, [5, 8, 11])
        self.assertEqual(numbers.next, 14)
        self.assertEqual(list(islice(numbers, 2)), [14, 17])
