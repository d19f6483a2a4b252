"""What the upper layer counts of associations that did not come to be."""

from __future__ import annotations

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import AssociationRejected
from d360.metrics.counters import Metrics
from d360.ul.factory import UpperLayerFactory
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
