"""A little of C{python -m tests.faults resources}: each kind of fault once."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.faults import deaddatabase, fulldisk, openfiles, slowdisk
from tests.faults.receipts import Outcome


class ResourcesTestCase(SynchronousTestCase):
    """Nothing acknowledged is lost, nothing is left over, all goes on by itself."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()

    def check(self, outcome: Outcome, *answers: str) -> None:
        """
        @param answers: what some of the clients must have been told.
        """
        self.assertEqual(outcome.problems, [])
        self.assertTrue(any(outcome.injected.values()), outcome)
        for answer in ("0000", *answers):
            self.assertGreater(outcome.answers[answer], 0, outcome)


class FullDiskTests(ResourcesTestCase):
    """PS3.4 B.2.3: Refused: Out of Resources."""

    def test_full(self) -> None:
        """The archive's disk is full, which takes no direct writes."""
        outcome = fulldisk.full(self.folder, "tmpfs", 1, archiveOnly=True)
        self.check(outcome, "A700")

    def test_databaseEnds(self) -> None:
        """The database has no room for its log, ends, and begins again."""
        self.check(fulldisk.databaseFull(self.folder, "ext4", 1), "A700")

    def test_inodes(self) -> None:
        """There is room, but not for the names of files."""
        self.check(fulldisk.filesUsedUp(self.folder, "ext4", 1), "A700")

    def test_mark(self) -> None:
        """C{min_free_space}, of two workers."""
        self.check(fulldisk.mark(self.folder, 1, workers=2), "A700")


class DatabaseTests(ResourcesTestCase):
    """A700 or another attempt, and no restart."""

    def test_refused(self) -> None:
        """By each of the SQLSTATEs."""
        outcome = deaddatabase.refused(self.folder, 1)
        self.check(outcome, "A700")
        for name in deaddatabase.REFUSALS.values():
            self.assertGreater(outcome.injected[name], 0, name)

    def test_dropped(self) -> None:
        """All connections, again and again."""
        self.check(deaddatabase.dropped(self.folder, 5))


class OpenFilesTests(ResourcesTestCase):
    """More connections than files."""

    def test_workers(self) -> None:
        """What there is a descriptor for is served."""
        outcome = openfiles.crowded(self.folder, 1, limit=96, count=80, workers=2)
        self.check(outcome)


class SlowDiskTests(ResourcesTestCase):
    """The disk keeps nobody waiting who does not wait for it."""

    def test_slow(self) -> None:
        """
        C-ECHO and C-FIND are answered sooner than any fsync. How soon, the long
        form says: that is also a matter of the machine.
        """
        self.check(slowdisk.slow(self.folder, 1.0, duration=2.0, quickly=0.5))

    def test_failing(self) -> None:
        """fsync fails now and then: A700."""
        self.check(slowdisk.failing(self.folder, 1), "A700")
