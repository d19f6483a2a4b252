"""
A little of L{tests.faults.fuzz}: some thousand inputs for each target, the same
ones each time, by chance; and that the harness finds what is there to be found.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from d360.logs import hushLibraries
from tests.faults import fuzz
from tests.faults.fuzzing.association import Conversation
from tests.faults.fuzzing.child import targets
from tests.faults.fuzzing.mutation import Mutation
from tests.faults.fuzzing.target import Examination, Target, check

#: Inputs of each target, its seeds among them.
INPUTS = {
    "framing": 2000,
    "pdus": 2000,
    "commands": 2000,
    "header": 1000,
    "part10": 1000,
    "text": 2000,
    "identifiers": 600,
    "worklist": 600,
    "sql": 1000,
    "postgresql": 100,
    "http": 150,
    "items": 1000,
    "configuration": 300,
    "association": 150,
    "workers": 150,
    "disk": 300,
    "transcoding": 200,
}


class ShortTests(SynchronousTestCase):
    """
    Nothing that a stranger sends does more than it may (PS3.8 9.3, PS3.7 9,
    PS3.4 B.2.3, C.4.1.1.4).
    """

    def test_all(self) -> None:
        """Each target but the one that may kill its process."""
        self.assertEqual(set(INPUTS), {target.name for target in targets()})
        with warnings.catch_warnings():
            hushLibraries()
            for target in targets():
                if target.name != "transcoding":
                    self.examine(target)

    def examine(self, target: Target) -> None:
        examination = Examination(target)
        mutation = Mutation(target.seeds(), target.longest, 1)
        for data in mutation.inputs(INPUTS[target.name]):
            examination.examine(data)
        examination.close()
        self.assertEqual({}, examination.findings, target.name)
        self.assertEqual(INPUTS[target.name], examination.runs)

    def test_process(self) -> None:
        """One in a process of its own, as all are in the long form."""
        (target,) = (one for one in targets() if one.name == "transcoding")
        with tempfile.TemporaryDirectory(prefix="d360-fuzz-") as name:
            folder = Path(name)
            campaign = fuzz.Campaign(folder, folder / "corpus", 1, guided=False)
            outcome = campaign.run(target, INPUTS[target.name])
        self.assertEqual({}, outcome.problems)
        self.assertEqual(INPUTS[target.name], outcome.runs)
        self.assertGreater(outcome.memoryAtStart, 0)
        self.assertGreater(outcome.memoryAtEnd, 0)
        self.assertGreater(outcome.slowest, 0)


def _raises(data: bytes) -> None:
    if b"7" in data:
        raise KeyError(data)


def _logs(data: bytes) -> None:
    if data == b"log":
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            Logger("tests").failure("of ours")


def _leaves(data: bytes) -> None:
    if data == b"leave":
        fail(ArithmeticError("nobody looks at it"))


def _takesLong(data: bytes) -> None:
    if data == b"slow":
        end = time.thread_time() + 1.1
        while time.thread_time() < end:
            pass


class ExaminationTests(SynchronousTestCase):
    """A harness that finds nothing must be one that could."""

    def examined(self, run: object, *inputs: bytes) -> Examination:
        target = Target("test", run, lambda: [b"seed"], 1, collects=True)
        examination = Examination(target)
        for data in inputs:
            examination.examine(data)
        examination.close()
        return examination

    def test_exceptions(self) -> None:
        """One of each kind, with its input."""
        examination = self.examined(_raises, b"1", b"7", b"77", b"2")
        (finding,) = examination.findings.values()
        self.assertEqual(b"7", finding.data)
        self.assertIn("KeyError in test_fuzz.py", finding.where)
        self.assertEqual(4, examination.runs)

    def test_failures(self) -> None:
        """In the log, and in Deferreds that nobody looks at."""
        for run, data, error in (
            (_logs, b"log", ZeroDivisionError),
            (_leaves, b"leave", ArithmeticError),
        ):
            examination = self.examined(run, b"", data, b"")
            self.assertIn(error.__name__, " ".join(examination.findings))
            self.assertEqual(1, len(self.flushLoggedErrors(error)))

    def test_slow(self) -> None:
        """More than a second of processor time."""
        examination = self.examined(_takesLong, b"fast", b"slow")
        self.assertEqual(["slow"], list(examination.findings))
        self.assertEqual(b"slow", examination.slowestInput)

    def test_leftOver(self) -> None:
        """A timer that an association leaves behind."""
        conversation = Conversation()
        conversation.clock.callLater(10000, lambda: None)
        error = self.assertRaises(AssertionError, conversation.finish)
        self.assertIn("a timer is left", str(error))

    def test_goesOn(self) -> None:
        """An association that no timer ends."""
        conversation = Conversation()
        conversation.clock = Clock()
        error = self.assertRaises(AssertionError, conversation.finish)
        self.assertIn("neither ends nor goes on", str(error))

    def test_notAnswered(self) -> None:
        """What is sent must be PDUs."""
        conversation = Conversation()
        conversation.transport.write(b"HTTP/1.1 200 OK\r\n")
        self.assertRaises(AssertionError, conversation.checkAnswers)

    def test_check(self) -> None:
        """It is no assertion that Python may leave out."""
        check(True, "")
        self.assertRaises(AssertionError, check, False, "")


class MutationTests(SynchronousTestCase):
    """Inputs by chance."""

    def test_repeatable(self) -> None:
        """The same seed, the same inputs; the seeds first; none too long."""
        seeds = [b"one", b"a longer one" * 10]
        first = list(Mutation(seeds, 100, 7).inputs(500))
        self.assertEqual(first, list(Mutation(seeds, 100, 7).inputs(500)))
        self.assertNotEqual(first, list(Mutation(seeds, 100, 8).inputs(500)))
        self.assertEqual([seed[:100] for seed in seeds], first[:2])
        self.assertEqual(500, len(first))
        self.assertLessEqual(max(map(len, first)), 100)
        self.assertGreater(len(set(first)), 400)
