"""Which files need not be read once more to know that they are intact."""

from __future__ import annotations

import os
from collections import OrderedDict
from time import monotonic

#: Seconds for which a file that was read is likely to be found in memory.
WARM = 600.0

#: By what a file is known to be the same: inode, length and time of its last
#: change.
Signature = tuple[int, int, int]


def signatureOf(descriptor: int) -> Signature:
    """Of an open file."""
    state = os.fstat(descriptor)
    return state.st_ino, state.st_size, state.st_mtime_ns


class Intact:
    """
    The files whose digest is known to be right: since they were written, or
    were last read for it. As long as their signature stays the same they need
    not be read for it again.
    """

    #: So many are remembered.
    LIMIT = 65536

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[bytes, Signature, float]] = OrderedDict()

    def get(self, path: str, digest: bytes) -> Signature | None:
        """The signature with which a file has this digest, if one is known."""
        known = self._known.get(path)
        return known[1] if known is not None and known[0] == digest else None

    def isWarm(self, path: str) -> bool:
        """Whether it was read so lately that the system has it in memory."""
        known = self._known.get(path)
        return known is not None and monotonic() - known[2] < WARM

    def remember(self, path: str, digest: bytes, signature: Signature) -> None:
        """It was written with this digest."""
        self._remember(path, (digest, signature, -WARM))

    def wasRead(self, path: str, digest: bytes, signature: Signature) -> None:
        """It was read, and found to have this digest."""
        self._remember(path, (digest, signature, monotonic()))

    def _remember(self, path: str, known: tuple[bytes, Signature, float]) -> None:
        self._known[path] = known
        self._known.move_to_end(path)
        if len(self._known) > self.LIMIT:
            self._known.popitem(last=False)
