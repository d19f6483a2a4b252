"""
The memory in which bytes wait for the disk.

Blocks are aligned to pages, as writing past the page cache needs it, and are
used again, as memory that was just used is in the processor's cache, and fresh
memory has to be found and cleared by the system first. They lie in memory that
another process can map, so that what is in them need not be sent to it.
"""

from __future__ import annotations

import os
import tempfile
from mmap import MADV_REMOVE, mmap

#: Bytes of a block: what one job writes at most.
BLOCK = 1024 * 1024

#: So many free blocks are kept as they are; the memory of others is given back.
_KEPT = 32

#: With more in use, each file on its way is to have no more than it must.
_PLENTY = 128

#: Blocks that are mapped at a time.
_CHUNK = 16


def _newFile() -> int:
    """A file in memory, without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("d360-blocks", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Blocks:
    """
    Blocks to take and give back; for one thread.

    @ivar descriptor: for L{MappedBlocks} in another process.
    """

    def __init__(self) -> None:
        self.descriptor = _newFile()
        self._chunks: list[mmap] = []
        self._free: list[memoryview] = []
        # Those whose memory was given back.
        self._cold: list[memoryview] = []
        self._numbers: dict[int, int] = {}
        self._taken = 0

    @property
    def isShort(self) -> bool:
        """So many are in use that they should become fewer."""
        return self._taken > _PLENTY

    def __del__(self) -> None:
        os.close(self.descriptor)

    def take(self) -> memoryview:
        """L{BLOCK} bytes, whatever is in them."""
        self._taken += 1
        if self._free:
            return self._free.pop()
        if not self._cold:
            self._grow()
        return self._cold.pop()

    def give(self, block: memoryview) -> None:
        """Nobody uses it any more."""
        self._taken -= 1
        if len(self._free) < _KEPT:
            self._free.append(block)
            return
        number = self._numbers[id(block)]
        start = number % _CHUNK * BLOCK
        self._chunks[number // _CHUNK].madvise(MADV_REMOVE, start, BLOCK)
        self._cold.append(block)

    def numberOf(self, block: memoryview) -> int:
        """Names one that was taken to L{MappedBlocks}."""
        return self._numbers[id(block)]

    def _grow(self) -> None:
        begin = len(self._chunks) * _CHUNK
        os.ftruncate(self.descriptor, (begin + _CHUNK) * BLOCK)
        chunk = mmap(self.descriptor, _CHUNK * BLOCK, offset=begin * BLOCK)
        self._chunks.append(chunk)
        view = memoryview(chunk)
        for place in range(_CHUNK):
            # Each stays the one object that it is, and so has its identity.
            block = view[place * BLOCK : (place + 1) * BLOCK]
            self._numbers[id(block)] = begin + place
            self._cold.append(block)


class MappedBlocks:
    """
    The blocks of another process.

    @param descriptor: L{Blocks.descriptor}.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._chunks: dict[int, memoryview] = {}

    def part(self, number: int, begin: int, end: int) -> memoryview:
        """A part of the block of that number."""
        chunk, place = divmod(number, _CHUNK)
        if chunk not in self._chunks:
            length = _CHUNK * BLOCK
            mapped = mmap(self._descriptor, length, offset=chunk * length)
            self._chunks[chunk] = memoryview(mapped)
        start = place * BLOCK
        return self._chunks[chunk][start + begin : start + end]
