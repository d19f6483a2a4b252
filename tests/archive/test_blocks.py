"""Blocks of memory that two processes share."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from d360.archive import blocks
from d360.archive.blocks import BLOCK, Blocks, MappedBlocks


class BlocksTests(SynchronousTestCase):
    """Taken, given back, and seen by another process' mapping."""

    def setUp(self) -> None:
        self.blocks = Blocks()

    def test_usedAgain(self) -> None:
        """The one that was given back last is the next."""
        first, second = self.blocks.take(), self.blocks.take()
        self.assertIsNot(first, second)
        self.assertEqual((BLOCK, BLOCK), (len(first), len(second)))
        self.blocks.give(first)
        self.assertIs(first, self.blocks.take())

    def test_apart(self) -> None:
        """No two are the same memory, over more than one mapping."""
        taken = [self.blocks.take() for _ in range(40)]
        for number, block in enumerate(taken):
            block[:1] = block[-1:] = bytes([number])
        self.assertEqual(
            [(number, number) for number in range(40)],
            [(block[0], block[-1]) for block in taken],
        )
        self.assertEqual(40, len({self.blocks.numberOf(block) for block in taken}))

    def test_mapped(self) -> None:
        """By number, in whichever order, also of mappings made later."""
        mapped = MappedBlocks(self.blocks.descriptor)
        for count in (1, 39):
            for _ in range(count):
                block = self.blocks.take()
            block[100:104] = b"data"
            number = self.blocks.numberOf(block)
            self.assertEqual(b"data", bytes(mapped.part(number, 100, 104)))

    def test_memoryIsGivenBack(self) -> None:
        """What is not needed any more is not kept for ever."""
        self.patch(blocks, "_KEPT", 1)
        taken = [self.blocks.take() for _ in range(3)]
        for block in taken:
            block[:] = b"x" * BLOCK
            self.blocks.give(block)
        self.assertEqual([120, 0, 0], [block[0] for block in taken])
        self.assertEqual(set(map(id, taken)), {id(self.blocks.take()) for _ in taken})
