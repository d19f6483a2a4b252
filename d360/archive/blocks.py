"""
The memory in which bytes wait for the disk.

Blocks are aligned to pages, as writing past the page cache needs it, and are
used again, as memory that was just used is in the processor's cache, and fresh
memory has to be found and cleared by the system first.
"""

from __future__ import annotations

from mmap import mmap

#: Bytes of a block: what one job writes at most.
BLOCK = 1024 * 1024

#: So many free blocks are kept.
_KEPT = 16


class Blocks:
    """Blocks to take and give back; for one thread."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """L{BLOCK} bytes, whatever is in them."""
        if self._free:
            return self._free.pop()
        return memoryview(mmap(-1, BLOCK))

    def give(self, block: memoryview) -> None:
        """Nobody uses it any more."""
        if len(self._free) < _KEPT:
            self._free.append(block)
