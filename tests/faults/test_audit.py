"""A little of L{tests.faults.audit}."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.faults.audit import run


class AuditTests(TestCase):
    """What was answered is in the audit trail, but for the last moment."""

    def test_killed(self) -> None:
        """Two processes write it, and all of them are killed at once."""
        outcome = run(1, 6.0, 2, lambda line: None, onItsWay=None)
        self.assertEqual(outcome.wrong, [])
        self.assertLess(outcome.lost, outcome.answered)
