"""Tests for L{benchmarks.results}, L{benchmarks.table}, L{benchmarks.targets}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import table
from benchmarks.results import GROWTH, MILLISECONDS, RATE, Figure, Results, advantage
from benchmarks.targets import Target, cells, targets


def _results() -> Results:
    results = Results(references={"straight"})
    for server, rates in (
        ("D360", (100, 300, 200)),
        ("Orthanc", (50,)),
        ("storescp", (400,)),
        ("straight", (9999,)),
    ):
        for rate in rates:
            results.add(Figure("store", server, {RATE: rate}))
    results.add(Figure("find", "D360", {MILLISECONDS: 2.0}))
    results.add(Figure("find", "Orthanc", {MILLISECONDS: 30.0}, ("9 of 10 found",)))
    results.add(Figure("find", "Orthanc", {MILLISECONDS: 30.0}, ("9 of 10 found",)))
    results.add(Figure("find", "storescp", {}, ("failed: it is away",)))
    results.add(Figure("store", "D360", {GROWTH: 0.0}))
    return results


_SERVERS = ["D360", "Orthanc", "storescp", "straight"]


class ResultsTests(SynchronousTestCase):
    """L{Results}."""

    def test_median(self) -> None:
        results = _results()
        self.assertEqual(results.median("store", RATE, "D360"), 200)
        self.assertIsNone(results.median("store", MILLISECONDS, "D360"))
        self.assertIsNone(results.median("find", MILLISECONDS, "storescp"))

    def test_rows(self) -> None:
        """What belongs to a work stands together, whenever it was measured."""
        self.assertEqual(
            _results().rows(),
            [("store", RATE), ("store", GROWTH), ("find", MILLISECONDS)],
        )

    def test_notes(self) -> None:
        """Each once."""
        self.assertEqual(_results().notes("find", "Orthanc"), ["9 of 10 found"])

    def test_advantage(self) -> None:
        self.assertEqual(advantage(RATE, 200, 50), 4)
        self.assertEqual(advantage(MILLISECONDS, 2, 30), 15)
        for ours, theirs in ((0, 1), (1, 0), (-1, 1)):
            self.assertIsNone(advantage(RATE, ours, theirs))
            self.assertIsNone(advantage(MILLISECONDS, ours, theirs))


class TableTests(SynchronousTestCase):
    """L{table}."""

    def test_number(self) -> None:
        for value, text in (
            (1234.5, "1234"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
            (0.0, "0"),
            (-2.5, "-2.50"),
        ):
            self.assertEqual(table.number(value), text)

    def test_cells(self) -> None:
        """
        Each peer's figure has ours beside it; the best peer is none of the
        references; what has notes is marked.
        """
        self.assertEqual(
            table.cells(_results(), _SERVERS),
            [
                ["work", "measure", *_SERVERS, "D360 to best peer"],
                ["store", "instances/s", "200", "50.0 (4.00 x)", "400 (0.500 x)"]
                + ["9999 (0.020 x)", "0.500 x"],
                ["store", "MiB growth", "0", "", "", "", ""],
                ["find", "ms", "2.00", "30.0 (15.0 x) *", "", "", "15.0 x"],
            ],
        )

    def test_notes(self) -> None:
        """Also those of a server that has no figure at all."""
        self.assertEqual(
            table.notes(_results(), _SERVERS),
            [
                "find, Orthanc: 9 of 10 found",
                "find, storescp: failed: it is away",
            ],
        )

    def test_markdown(self) -> None:
        self.assertEqual(
            table.markdown([["a", "b"], ["1|2", ""]]),
            "| a | b |\n| --- | --- |\n| 1/2 |  |",
        )

    def test_restructured(self) -> None:
        self.assertEqual(
            table.restructured([["a", "b"], ["1 *", ""]]),
            ".. list-table::\n   :header-rows: 1\n\n"
            "   * - a\n     - b\n   * - 1 \\*\n     -",
        )


class TargetTests(SynchronousTestCase):
    """L{Target}."""

    def outcome(self, target: Target) -> tuple[float | None, bool]:
        figure = target.figure(_results())
        return figure, figure is not None and target.isReached(figure)

    def test_againstAPeer(self) -> None:
        """How many times better, whether more or less is better."""
        for work, measure, wanted, expected in (
            ("store", RATE, 4.0, (4.0, True)),
            ("store", RATE, 4.1, (4.0, False)),
            ("find", MILLISECONDS, 15.0, (15.0, True)),
            ("find", MILLISECONDS, 16.0, (15.0, False)),
        ):
            target = Target(work, measure, wanted, "Orthanc")
            self.assertEqual(self.outcome(target), expected)

    def test_againstAnotherWork(self) -> None:
        results = _results()
        results.add(Figure("find more", "D360", {MILLISECONDS: 3.0}))
        target = Target("find more", MILLISECONDS, 1.5, base="find")
        self.assertEqual(target.figure(results), 1.5)
        self.assertTrue(target.isReached(1.5))
        self.assertFalse(target.isReached(1.6))

    def test_limit(self) -> None:
        self.assertEqual(self.outcome(Target("find", MILLISECONDS, 2.0)), (2.0, True))
        self.assertEqual(self.outcome(Target("find", MILLISECONDS, 1.9)), (2.0, False))
        self.assertEqual(self.outcome(Target("store", GROWTH, 1.0)), (0.0, True))

    def test_notMeasured(self) -> None:
        for target in (
            Target("nothing", RATE, 1.0),
            Target("store", RATE, 1.0, "nobody"),
            Target("store", RATE, 1.0, base="nothing"),
        ):
            self.assertIsNone(target.figure(_results()))

    def test_describe(self) -> None:
        for target, words in (
            (Target("", RATE, 3, "Orthanc"), "at least 3 x the rate, Orthanc"),
            (Target("", MILLISECONDS, 15, "it"), "at least 15 x as fast, it"),
            (Target("", MILLISECONDS, 1.5, base="that"), "at most 1.5 x that"),
            (Target("", RATE, 1, base="that"), "at least 1 x that"),
            (Target("", MILLISECONDS, 20), "at most 20 ms"),
        ):
            self.assertEqual(target.describe(), words)

    def test_cells(self) -> None:
        """Only what was measured."""
        wanted = [
            Target("store", RATE, 3.0, "Orthanc"),
            Target("store", RATE, 1.0, "storescp"),
            Target("store", RATE, 1.0, "nobody"),
        ]
        self.assertEqual(
            cells(_results(), wanted)[1:],
            [
                ["store", "at least 3 x the rate, Orthanc", "4.00", "reached"],
                ["store", "at least 1 x the rate, storescp", "0.500", "NOT reached"],
            ],
        )

    def test_all(self) -> None:
        """None is there twice."""
        wanted = targets(20_000, 1_000_000, 2000, 100_000)
        self.assertEqual(len(wanted), len(set(wanted)))
