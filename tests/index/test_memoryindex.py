"""The index that the services' unit tests use keeps the contract too."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from d360.errors import DatabaseUnavailable
from tests.contracts.index import IndexContract
from tests.contracts.instances import record
from tests.contracts.memoryindex import MemoryIndex, wildcardMatches


class MemoryIndexTests(IndexContract, TestCase):
    def setUp(self) -> None:
        self.index: Any = MemoryIndex()

    async def test_away(self) -> None:
        self.index.away = True
        with self.assertRaises(DatabaseUnavailable):
            await self.enter(record())
        self.assertFalse((await self.index.state()).available)


class WildcardTests(SynchronousTestCase):
    """PS3.4 C.2.2.2.4."""

    def test_patterns(self) -> None:
        for pattern, text, expected in (
            ("", "", True), ("", "a", False), ("*", "", True), ("*", "abc", True),
            ("?", "", False), ("?", "a", True), ("a*c", "abbc", True),
            ("a*c", "abb", False), ("*b*", "abc", True), ("a?c", "abc", True),
            ("**a", "ba", True), ("%", "a", False), ("[a]", "a", False),
        ):  # fmt: skip
            self.assertEqual(wildcardMatches(pattern, text), expected, (pattern, text))
