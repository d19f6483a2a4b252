"""Items that are removed by themselves."""

from __future__ import annotations

from datetime import datetime

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.audit.values import Action
from d360.services.worklistcare import INTERVAL, WorklistCare
from tests.contracts.memoryaudit import MemoryAudit
from tests.contracts.memoryworklist import MemoryWorklist
from tests.contracts.worklist import procedure, step


class WorklistCareTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(datetime(2026, 3, 3, 12).timestamp())
        self.worklist = MemoryWorklist()
        for study, day in (("1", "20260228"), ("2", "20260301"), ("3", "20260303")):
            item = procedure(study, step(f"{day} 080000"))
            self.successResultOf(self.worklist.schedule(item))

    def care(self, removeArrived: bool = False, days: int = 0) -> WorklistCare:
        care = WorklistCare(self.worklist, self.clock, removeArrived, days)
        care.start()
        return care

    def left(self) -> list[str]:
        items = self.successResultOf(self.worklist.list((), "", 10))
        return [item.attributes["0020000D"]["Value"][0] for item in items]

    def test_nothing(self) -> None:
        """Nothing is removed, or even looked at, by default."""
        self.worklist.arrived.add("1")
        care = self.care()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.successResultOf(care.stop())
        self.assertEqual(["1", "2", "3"], self.left())

    def test_arrived(self) -> None:
        """At once, then time and again."""
        self.worklist.arrived.add("1")
        care = self.care(removeArrived=True)
        self.assertEqual(["2", "3"], self.left())
        self.worklist.arrived.add("3")
        self.clock.advance(INTERVAL - 1)
        self.assertEqual(["2", "3"], self.left())
        self.clock.advance(1)
        self.assertEqual(["2"], self.left())
        self.successResultOf(care.stop())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_audited(self) -> None:
        """The audit trail is told whose each one was."""
        self.worklist.arrived.update(("1", "3"))
        audit = MemoryAudit()
        care = WorklistCare(self.worklist, self.clock, True, 0, audit)
        care.start()
        self.successResultOf(care.stop())
        told = [(who, what, one.StudyInstanceUID) for _, who, what, one in audit.calls]
        self.assertEqual(told, [(None, Action.DELETE, uid) for uid in ("1", "3")])
        self.assertEqual(audit.calls[0][3].PatientID, "P1")

    def test_many(self) -> None:
        """Some at a time, until there are no more."""
        for number in range(250):
            item = procedure(f"9.{number}", step("20260228 080000"))
            self.successResultOf(self.worklist.schedule(item))
        self.care(days=2)
        self.assertEqual(["2", "3"], self.left())

    def test_old(self) -> None:
        """Two days after it should have been done."""
        self.care(days=2)
        self.assertEqual(["2", "3"], self.left())
        self.clock.pump([INTERVAL] * 144)
        self.assertEqual(["3"], self.left())

    def test_away(self) -> None:
        """It is tried again."""
        self.worklist.away = True
        self.worklist.arrived.add("1")
        self.care(removeArrived=True)
        self.worklist.away = False
        self.clock.advance(INTERVAL)
        self.assertEqual(["2", "3"], self.left())

    def test_stopWhileLooking(self) -> None:
        """It waits for the statement under way, and begins none."""
        self.worklist.waiter = Deferred()
        care = self.care(removeArrived=True, days=1)
        stopped = care.stop()
        self.assertNoResult(stopped)
        waiter, self.worklist.waiter = self.worklist.waiter, None
        waiter.callback(None)
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(["1", "2", "3"], self.left())
