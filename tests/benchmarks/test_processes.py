"""Tests for L{benchmarks.processes}."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import processes
from benchmarks.processes import Usage

# A child that works, in a child of its own, which it waits for; and then stays.
_WORKING = """
import subprocess, sys
work = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", work])
print("done", flush=True)
sys.stdin.read()
"""


class TreeTests(SynchronousTestCase):
    """L{processes.tree} and what is added up over it."""

    def setUp(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", _WORKING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(self.child.communicate)

    def ready(self) -> None:
        assert self.child.stdout is not None
        self.assertEqual(self.child.stdout.readline(), b"done\n")

    def test_tree(self) -> None:
        """A process and its descendants, each once."""
        self.ready()
        found = processes.tree([os.getpid(), self.child.pid])
        pids = [process.pid for process in found]
        self.assertIn(self.child.pid, pids)
        self.assertIn(os.getpid(), pids)
        self.assertEqual(len(pids), len(set(pids)))
        self.assertEqual(processes.tree([2**22 + 1]), [])

    def test_endedChildren(self) -> None:
        """The time of children that have ended counts."""
        self.ready()
        self.assertGreater(processes.cpu([self.child.pid]).server, 0.25)

    def test_memory(self) -> None:
        """What is shared counts once in PSS, so that it is never more."""
        self.ready()
        rss = processes.rss([self.child.pid]).server
        pss = processes.pss([self.child.pid]).server
        anonymous = processes.anonymous([self.child.pid]).server
        self.assertTrue(0 < anonymous <= pss <= rss, (anonymous, pss, rss))

    def test_peak(self) -> None:
        """It is looked at the end, if not before."""
        self.ready()
        with processes.Peak([self.child.pid], 60) as peak:
            pass
        self.assertGreater(peak.rss.server, 1)
        self.assertGreater(peak.pss.server, 1)

    def test_peaks(self) -> None:
        """What a process has had is known after it has given it back."""
        self.ready()
        had = processes.peaks([self.child.pid]).server
        self.assertGreaterEqual(had, processes.rss([self.child.pid]).server)
        processes.forgetPeaks([self.child.pid])
        self.assertLessEqual(processes.peaks([self.child.pid]).server, had)


class UsageTests(SynchronousTestCase):
    """L{Usage}."""

    def test_arithmetic(self) -> None:
        self.assertEqual(Usage(3, 5) - Usage(1, 2), Usage(2, 3))
        self.assertEqual(Usage(3, 5).highest(Usage(4, 2)), Usage(4, 5))
        self.assertEqual(Usage(3, 5).both, 8)
