"""The matches of a query, pulled page by page; what the database is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from d360.attributes import Level
from d360.errors import DatabaseUnavailable
from d360.index import results
from d360.index.sql import Statement
from d360.model import AnyOf, Condition, Location, Match, NameMatch, Query, Range
from tests.contracts.instances import attribute

ID = attribute("PatientID")
NAMED = NameMatch(attribute("PatientName"), ("*a*",))
UID = attribute("SOPInstanceUID")
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DATED = Range(attribute("StudyDate"), "20260101", "20260131")


class _Pool:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Statement]] = []
        self.answers: list[Deferred[list[tuple[Any, ...]]]] = []

    def query(
        self, name: str, statement: Statement, isWanted: Callable[[], bool]
    ) -> Deferred[list[tuple[Any, ...]]]:
        self.asked.append((name.removeprefix("match: "), statement))
        answer: Deferred[list[tuple[Any, ...]]] = Deferred()
        self.answers.append(answer)
        return answer

    def answer(self, *rows: tuple[Any, ...]) -> None:
        """Answer the oldest question."""
        self.answers.pop(0).callback(list(rows))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


class MatchesTests(SynchronousTestCase):
    """L{results.Matches}."""

    def setUp(self) -> None:
        for name, value in (
            ("FIRST_BATCH", 1),
            ("NEXT_BATCH", 2),
            ("FEW", 4),
            ("MANY", 8),
        ):
            self.patch(results, name, value)
        self.pool = _Pool()

    def match(
        self, *conditions: Condition, level: Level = Level.STUDY
    ) -> results.Matches:
        query = Query(level, conditions, (ID,))
        return results.Matches(self.pool, query)  # type: ignore[arg-type]

    def test_few(self) -> None:
        """IDs of all and values of the first come in one answer."""
        matches = self.match(AnyOf(ID, ("P1",)))
        batch = matches.nextBatch()
        self.pool.answer(("9", None), (None, "P1"))
        self.assertEqual(self.successResultOf(batch), (Match(("P1",)),))
        self.assertEqual(self.successResultOf(matches.nextBatch()), ())
        self.assertEqual(self.pool.names, ["find"])

    def test_none(self) -> None:
        matches = self.match(AnyOf(ID, ("P1",)))
        batch = matches.nextBatch()
        self.pool.answer(("", None))
        self.assertEqual(self.successResultOf(batch), ())
        self.assertEqual(self.pool.names, ["find"])

    def test_oneAhead(self) -> None:
        """The next page is fetched while one is sent, and none behind it."""
        matches = self.match(NAMED)
        batch = matches.nextBatch()
        self.pool.answer(("9 8 7 6", None), (None, "P9"))
        self.assertEqual(self.successResultOf(batch), (Match(("P9",)),))
        self.assertEqual(self.pool.names, ["find", "details"])
        self.assertEqual(self.pool.asked[-1][1].parameters, ("{8,7}",))
        self.pool.answer(("P8",), ("P7",))
        self.assertEqual(self.pool.names, ["find", "details"])
        batch = matches.nextBatch()
        self.assertEqual(self.successResultOf(batch), (Match(("P8",)), Match(("P7",))))
        self.assertEqual(self.pool.asked[-1][1].parameters, ("{6}",))
        batch = matches.nextBatch()
        self.assertNoResult(batch)
        # It was removed meanwhile.
        self.pool.answer()
        self.assertEqual(self.successResultOf(batch), ())

    def test_failureAhead(self) -> None:
        """Whoever asks for a page that failed is told; nobody else is."""
        matches = self.match(NAMED)
        matches.nextBatch()
        self.pool.answer(("9 8 7 6", None), (None, "P9"))
        self.pool.answers.pop().errback(DatabaseUnavailable("away"))
        self.failureResultOf(matches.nextBatch(), DatabaseUnavailable)
        matches.close()

    def test_closedWhileAhead(self) -> None:
        matches = self.match(NAMED)
        matches.nextBatch()
        self.pool.answer(("9 8 7 6", None), (None, "P9"))
        matches.close()
        matches.close()
        self.pool.answers.pop().errback(DatabaseUnavailable("away"))
        self.assertEqual(self.successResultOf(matches.nextBatch()), ())

    def test_manyAmongTheNewest(self) -> None:
        """The first page of the walk is that of the look at the newest."""
        matches = self.match(NAMED)
        batch = matches.nextBatch()
        self.pool.answer(("9 8 7 6 5", None), (None, "P9"))
        self.assertEqual(self.pool.names[-1], "probe")
        self.pool.answer((9, "P9"))
        self.assertEqual(self.successResultOf(batch), (Match(("P9",)),))
        self.assertEqual(self.pool.names, ["find", "probe", "walk"])
        self.assertIn(9, self.pool.asked[-1][1].parameters)

    def test_manyOfOld(self) -> None:
        """Where the newest do not fill a page, the IDs of more are kept."""
        matches = self.match(NAMED)
        batch = matches.nextBatch()
        self.pool.answer(("9 8 7 6 5", None), (None, "P9"))
        self.pool.answer()
        self.assertEqual(self.pool.names, ["find", "probe", "find"])
        self.pool.answer(("9 8 7 6 5 4", None), (None, "P9"))
        self.assertEqual(self.successResultOf(batch), (Match(("P9",)),))
        self.assertEqual(self.pool.names[-1], "details")

    def test_tooManyOfOld(self) -> None:
        """More than can be kept are walked to, however far that is."""
        matches = self.match(NAMED)
        matches.nextBatch()
        self.pool.answer(("9 8 7 6 5", None), (None, "P9"))
        self.pool.answer()
        self.pool.answer(("9 8 7 6 5 4 3 2 1", None), (None, "P9"))
        self.assertEqual(self.pool.names, ["find", "probe", "find", "walk"])

    def test_dates(self) -> None:
        """A range of dates is walked by date, at once, the newest first."""
        matches = self.match(DATED)
        batch = matches.nextBatch()
        self.pool.answer(("20260131", 7, "P7"))
        self.assertEqual(self.successResultOf(batch), (Match(("P7",)),))
        self.assertEqual(self.pool.names, ["walk", "walk"])
        parameters = self.pool.asked[-1][1].parameters
        self.assertEqual(parameters[-3:], ("20260131", 7, 2))
        batch = matches.nextBatch()
        self.pool.answer(("20260130", 8, "P8"))
        self.assertEqual(self.successResultOf(batch), (Match(("P8",)),))
        # Less than a page: it was the last.
        self.assertEqual(self.successResultOf(matches.nextBatch()), ())
        self.assertEqual(len(self.pool.names), 2)

    def test_datesOfMany(self) -> None:
        """With another key, it is walked by date where matches are many."""
        matches = self.match(DATED, NAMED)
        matches.nextBatch()
        self.pool.answer(("9 8 7 6 5", None), (None, "P9"))
        self.assertEqual(self.pool.names, ["find", "walk"])
        self.assertIn("ORDER BY s.study_date_key DESC", self.pool.asked[-1][1].text)

    def test_all(self) -> None:
        """Everything there is."""
        for level in (Level.PATIENT, Level.STUDY):
            matches = self.match(level=level)
            batch = matches.nextBatch()
            self.pool.answer((9, "P9"))
            self.assertEqual(self.successResultOf(batch), (Match(("P9",)),))
            self.pool.answers.clear()
        self.assertEqual(set(self.pool.names), {"walk"})


class StoredInstancesTests(SynchronousTestCase):
    """L{results.StoredInstances}."""

    def setUp(self) -> None:
        self.patch(results, "INSTANCES", 2)
        self.pool = _Pool()

    def locate(self, *conditions: Condition) -> results.StoredInstances:
        query = Query(Level.IMAGE, conditions)
        return results.StoredInstances(self.pool, query)  # type: ignore[arg-type]

    def row(self, series: int, number: int, uid: str) -> tuple[Any, ...]:
        return (series, number, uid, CT, EXPLICIT, f"{uid}.dcm", 300, 10, b"digest")

    def test_named(self) -> None:
        """
        Instances with these UIDs are found by one statement, not first their
        series: one that is replaced meanwhile may go to another.
        """
        found = self.locate(AnyOf(UID, ("a", "b", "c")))
        batch = found.nextBatch()
        self.assertEqual(self.pool.names, ["locate: named"])
        self.pool.answer(self.row(3, 1, "a"), self.row(4, 1, "b"))
        uids = [one.SOPInstanceUID for one in self.successResultOf(batch)]
        self.assertEqual(uids, ["a", "b"])
        batch = found.nextBatch()
        self.assertEqual(self.pool.asked[-1][1].parameters[-4:], (4, 1, "b", 2))
        self.pool.answer(self.row(4, 2, "c"))
        (last,) = self.successResultOf(batch)
        self.assertEqual(last.location, Location("c.dcm", 300))
        self.assertEqual(self.successResultOf(found.nextBatch()), ())
        self.assertEqual(len(self.pool.names), 2)

    def test_closed(self) -> None:
        """Nothing is asked for any more."""
        found = self.locate(AnyOf(UID, ("a",)))
        found.close()
        self.assertEqual(self.successResultOf(found.nextBatch()), ())
        self.assertEqual(self.pool.names, [])
