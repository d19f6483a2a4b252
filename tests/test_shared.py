"""Tests for L{d360.shared}."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from d360.shared import SharedNumber


class SharedNumberTests(SynchronousTestCase):
    """What one process changes, another sees."""

    def setUp(self) -> None:
        self.number = SharedNumber()
        self.addCleanup(os.close, self.number.descriptor)

    def test_advance(self) -> None:
        """Each time another one, also by who has it by a descriptor of its own."""
        descriptor = os.dup(self.number.descriptor)
        self.addCleanup(os.close, descriptor)
        other = SharedNumber(descriptor)
        seen = [other.read()]
        for one in (self.number, self.number, other):
            one.advance()
            self.assertEqual(self.number.read(), other.read())
            seen.append(other.read())
        self.assertEqual(len(set(seen)), 4)

    def test_otherProcess(self) -> None:
        """In one that was made of this."""
        before = self.number.read()
        child = os.fork()
        if not child:
            self.number.advance()
            os._exit(0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertNotEqual(self.number.read(), before)

    def test_alone(self) -> None:
        """Two servers of one machine do not see each other's."""
        other = SharedNumber()
        self.addCleanup(os.close, other.descriptor)
        other.advance()
        self.assertNotEqual(self.number.read(), other.read())
