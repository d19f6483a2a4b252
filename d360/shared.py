"""
A number that the processes of one server share: in memory, so that each sees at
once what another makes of it.
"""

from __future__ import annotations

import os

_LENGTH = 8


class SharedNumber:
    """
    Counts what has been changed, for those who keep a copy of it.

    One process raises it. While it does, another may read neither the old nor
    the new number: it is another one than before all the same.

    @ivar descriptor: of the memory, for a process that is to share it.
    @param descriptor: of the memory that is shared with us; C{None} for memory
        that we share with others.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("d360-changes")
            os.pwrite(descriptor, bytes(_LENGTH), 0)
        self.descriptor = descriptor

    def read(self) -> int:
        """As it is now; takes less than a microsecond or two."""
        return int.from_bytes(os.pread(self.descriptor, _LENGTH, 0), "little")

    def advance(self) -> None:
        """Make it another one."""
        data = (self.read() + 1).to_bytes(_LENGTH, "little")
        os.pwrite(self.descriptor, data, 0)
