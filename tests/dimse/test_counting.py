"""What an association counts, and what it says of itself while it is open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from d360.dimse import commands
from d360.dimse.association import Association, Associations
from d360.errors import ConnectionClosed
from d360.interfaces import ILiveAssociations
from d360.metrics.counters import Metrics
from d360.metrics.values import LiveAssociation
from tests.contracts.archive import checkSignatures
from tests.dimse.case import ECHO, STORE, AssociationTestCase, RecordingConsumer
from tests.dimse.upperlayer import RecordingUpperLayer, established


class CountingTestCase(AssociationTestCase):
    """An association with metrics."""

    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(1767268800)
        self.metrics = Metrics(self.clock)
        self.associations = Associations(self.service, self.clock, self.metrics)
        self.association = self.open(7)

    def open(self, number: int) -> Association:
        association = self.associations.build()
        association.associationEstablished(
            self.upperLayer, evolve(established(), number=number)
        )
        return association

    def respond(self, status: int, afterwards: float = 0.0) -> None:
        """The operation under way is answered after some time."""
        self.clock.advance(afterwards)
        self.service.operations[-1].respond(status)


class MetricsTests(CountingTestCase):
    """What L{d360.interfaces.IMetrics} is told."""

    def test_operation(self) -> None:
        """Its service, its status, how long it took."""
        self.receive(1, ECHO)
        self.assertEqual(self.metrics.operations, {})
        self.respond(0, 0.02)
        tally = self.metrics.operations["C-ECHO"]
        self.assertEqual(tally.statuses, {0: 1})
        self.assertAlmostEqual(tally.seconds, 0.02, 4)

    def test_dataSet(self) -> None:
        """Its data set's length, in whatever pieces it came."""
        for size in (1, 7, 1000):
            self.setUp()
            self.service.body = self.take
            self.receive(3, STORE, size)
            self.receiveData(3, bytes(500), size)
            self.assertEqual(self.metrics.storedBytes, 500)

    def take(self, operation: Any) -> Deferred[None]:
        """Store it."""
        delivered = operation.deliverDataset(RecordingConsumer())
        return delivered.addCallback(lambda _: operation.respond(0))

    def test_bytes(self) -> None:
        """All that messages take, commands too; PDUs' headers when sent."""
        self.receive(1, ECHO)
        self.assertEqual(self.metrics.received, len(commands.encode(ECHO)))
        self.respond(0)
        self.assertEqual(self.metrics.sent, len(self.upperLayer.written[0]))

    def test_refused(self) -> None:
        """What no service class takes is counted too."""
        self.receive(1, evolve(ECHO, CommandField=commands.C_MOVE_RQ))
        self.assertEqual(self.metrics.operations["C-MOVE"].statuses, {0x0211: 1})

    def test_lost(self) -> None:
        """One under way, and one that waits, when the association ends."""
        self.receive(1, ECHO)
        self.receive(3, STORE)
        self.clock.advance(5)
        self.association.associationEnded(ConnectionClosed("gone"))
        echo, store = (self.metrics.operations[n] for n in ("C-ECHO", "C-STORE"))
        self.assertEqual((echo.statuses, store.statuses), ({None: 1}, {None: 1}))
        self.assertEqual((echo.seconds, store.seconds), (5.0, 0.0))

    def test_answeredAndLost(self) -> None:
        """What was answered before is not counted again."""
        self.receive(1, ECHO)
        self.respond(0)
        self.association.associationEnded(ConnectionClosed("gone"))
        self.assertEqual(self.metrics.operations["C-ECHO"].statuses, {0: 1})


class LiveTests(CountingTestCase):
    """L{ILiveAssociations}."""

    def test_interface(self) -> None:
        checkSignatures(self, ILiveAssociations, self.associations)

    def test_values(self) -> None:
        """Who, since when, and what."""
        expected = LiveAssociation(
            7,
            "CT01",
            "D360PACS",
            "127.0.0.1",
            datetime(2026, 1, 1, 12, 0, tzinfo=UTC),
            "",
            {},
        )
        self.assertEqual(self.associations.newest(10), (expected,))
        self.receive(1, ECHO)
        self.assertEqual(
            self.associations.newest(10), (evolve(expected, operation="C-ECHO"),)
        )
        self.respond(0, 3)
        self.assertEqual(
            self.associations.newest(10),
            (evolve(expected, operations={"C-ECHO": 1}),),
        )

    def test_bounded(self) -> None:
        """The latest, in the order of their numbers."""
        others = [self.open(number) for number in (9, 8, 11)]
        found = self.associations.newest(3)
        self.assertEqual([one.number for one in found], [8, 9, 11])
        self.assertEqual(len(others), 3)

    def test_notOpen(self) -> None:
        """Those that have ended, or have not begun, are not among them."""
        waiting = self.associations.build()
        self.association.associationEnded(ConnectionClosed("gone"))
        self.assertEqual(self.associations.newest(10), ())
        waiting.associationEstablished(RecordingUpperLayer(), established())
        self.assertEqual(len(self.associations.newest(10)), 1)
