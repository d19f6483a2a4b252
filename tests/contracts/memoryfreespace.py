"""Free space that is what a test says."""

from __future__ import annotations

from zope.interface import implementer

from d360.interfaces import IFreeSpace


@implementer(IFreeSpace)
class MemoryFreeSpace:
    """
    See L{IFreeSpace}.

    @ivar taken: bytes that were about to be written.
    @ivar looks: how often it was asked to look.
    """

    def __init__(self) -> None:
        self.minimum = 1 << 30
        self.isLow = self.isCritical = False
        self.taken = self.looks = 0

    def take(self, size: int) -> None:
        self.taken += size

    def look(self) -> None:
        self.looks += 1
