"""Tests for L{d360.audit.gathering}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.audit.codes import NODE_AUTHENTICATION
from d360.audit.events import MAX_INSTANCES
from d360.audit.gathering import (
    LONGEST,
    QUIET,
    REPEATING,
    Alert,
    Alerts,
    Received,
    Receptions,
)
from d360.audit.values import Action, AuditedInstance, AuditedStudy, Peer
from d360.errors import AssociationReleased
from d360.model import EstablishedAssociation
from tests.contracts.opener import OpenedAssociation

CT = "1.2.840.10008.5.1.4.1.1.2"


def association() -> OpenedAssociation:
    return OpenedAssociation(
        EstablishedAssociation(False, "CT01", "D360PACS", "192.0.2.7", 16384, {})
    )


def instance(number: int, study: str = "1.1") -> AuditedInstance:
    return AuditedInstance(
        AuditedStudy(study, "4711", "Rossi^Anna"), CT, f"1.9.{number}"
    )


class ReceptionsTests(SynchronousTestCase):
    """Instances of one study over one association are one message."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.written: list[Received] = []
        self.receptions = Receptions(self.clock, self.written.append)
        self.association = association()

    def add(self, number: int, study: str = "1.1", why: str = "") -> None:
        found = instance(number, study)
        self.receptions.add(self.association, found, Action.CREATE, why)

    def pass_(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.receptions.sweep()

    def numbers(self) -> list[list[str]]:
        """The last components of what was written, message by message."""
        return [[uid[4:] for uid in group.instances[CT]] for group in self.written]

    def test_atTheEnd(self) -> None:
        """They are told when the association has ended."""
        for number in range(3):
            self.add(number)
            self.clock.advance(1)
        self.receptions.sweep()
        self.assertEqual(self.written, [])
        self.association.end(AssociationReleased("released"))
        (group,) = self.written
        self.assertEqual(group.study, AuditedStudy("1.1", "4711", "Rossi^Anna"))
        self.assertEqual((group.first, group.last, group.count), (1000, 1002, 3))
        self.receptions.finish()
        self.assertEqual(self.numbers(), [["0", "1", "2"]])

    def test_afterTheEnd(self) -> None:
        """So is one that was kept after that."""
        self.association.end(AssociationReleased("released"))
        self.add(1)
        self.assertEqual(self.numbers(), [["1"]])

    def test_afterAPause(self) -> None:
        """Or when no more have come for a while."""
        self.add(1)
        self.pass_(QUIET - 1)
        self.add(2)
        self.pass_(QUIET - 1)
        self.assertEqual(self.written, [])
        self.pass_(1)
        self.assertEqual(self.numbers(), [["1", "2"]])
        self.add(3)
        self.association.end(AssociationReleased("released"))
        self.assertEqual(self.numbers(), [["1", "2"], ["3"]])

    def test_afterAllTime(self) -> None:
        """Or when the first one has waited long enough."""
        for number in range(int(LONGEST) + 1):
            self.add(number)
            self.pass_(1)
        self.assertEqual(len(self.written), 1)

    def test_clockPutBack(self) -> None:
        """Then none waits until it is that late again."""
        self.add(1)
        self.clock.rightNow -= 3600
        self.receptions.sweep()
        self.assertEqual(self.numbers(), [["1"]])

    def test_studies(self) -> None:
        """Each study, and each outcome, is a message of its own."""
        self.add(1)
        self.add(2, "1.2")
        self.add(3, why="A700 No space left")
        self.add(4)
        self.receptions.finish()
        self.assertEqual(sorted(self.numbers()), [["1", "4"], ["2"], ["3"]])
        self.assertEqual({one.why for one in self.written}, {"", "A700 No space left"})

    def test_manyStudies(self) -> None:
        """However many there are on one association, few are kept."""
        for number in range(1000):
            self.add(number, f"1.{number}")
            self.assertGreaterEqual(len(self.written), number - 10)
        self.receptions.finish()
        self.assertEqual(len(self.written), 1000)

    def test_manyInstances(self) -> None:
        """A message has no more than it can tell."""
        for number in range(MAX_INSTANCES + 1):
            self.add(number)
        self.assertEqual([one.count for one in self.written], [MAX_INSTANCES])
        self.receptions.finish()
        self.assertEqual(self.written[1].count, 1)

    def test_associations(self) -> None:
        """Those of two associations are not mixed."""
        self.add(1)
        first, self.association = self.association, association()
        self.add(2)
        first.end(AssociationReleased("released"))
        self.assertEqual(self.numbers(), [["1"]])
        self.assertIs(self.written[0].association, first)


class AlertsTests(SynchronousTestCase):
    """Nobody flushes the audit trail by being refused."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[tuple[Alert, str]] = []
        self.alerts = Alerts(self.clock, lambda *one: self.written.append(one))

    def add(self, host: str = "192.0.2.7", title: str = "CT01") -> None:
        self.alerts.add(NODE_AUTHENTICATION, Peer(title, host), f"{title} not known")

    def texts(self) -> list[str]:
        return [text for _, text in self.written]

    def test_first(self) -> None:
        """The first one is told of at once."""
        self.add()
        self.assertEqual(self.texts(), ["CT01 not known"])
        self.assertEqual(self.written[0][0].who, Peer("CT01", "192.0.2.7"))

    def test_repeated(self) -> None:
        """Those that follow are counted."""
        for number in range(1000):
            self.add(title=f"X{number}")
        self.alerts.sweep()
        self.assertEqual(len(self.written), 1)
        self.clock.advance(REPEATING)
        self.alerts.sweep()
        self.assertEqual(
            self.texts()[1:],
            ["999 more of this host, of which the first was: X0 not known"],
        )
        self.add()
        self.assertEqual(self.texts()[2:], ["CT01 not known"])

    def test_once(self) -> None:
        """What was not repeated is told of once."""
        self.add()
        self.clock.advance(REPEATING)
        self.alerts.sweep()
        self.assertEqual(len(self.written), 1)

    def test_manyHosts(self) -> None:
        """However many hosts there are."""
        for number in range(10000):
            self.add(f"2001:db8::{number:x}")
        self.assertLess(len(self.written), 110)
        self.clock.advance(REPEATING)
        self.alerts.sweep()
        self.assertIn("9899 more of several hosts", self.texts()[-1])

    def test_end(self) -> None:
        """At the end all is told."""
        self.add()
        self.add()
        self.alerts.sweep(all=True)
        self.assertIn("1 more of this host", self.texts()[-1])
