"""The data set that is written: its elements' headers, and lengths put in later."""

from __future__ import annotations

import os
from struct import pack
from typing import BinaryIO

from d360.errors import TranscodingError
from d360.transcoding.elements import (
    UNDEFINED,
    WIDTH,
    elementHead,
    padding,
    swapped,
)
from d360.transcoding.syntaxes import Encoding


class Output:
    """
    A data set in a file.

    @ivar encoding: of what is written.
    @ivar position: bytes written.
    """

    def __init__(self, file: BinaryIO, encoding: Encoding) -> None:
        self.encoding = encoding
        self.position = 0
        self._file = file
        self._patches: list[tuple[int, int]] = []

    def write(self, data: bytes) -> None:
        """Bytes of a value."""
        self._file.write(data)
        self.position += len(data)

    def head(self, tag: int, vr: str, length: int) -> int:
        """An element's header. Returns where its value begins."""
        self.write(elementHead(self.encoding, tag, vr, length))
        return self.position

    def element(self, tag: int, vr: str, value: bytes) -> None:
        """A whole element; numbers come in Little Endian."""
        if len(value) % 2:
            value += padding(vr)
        self.head(tag, vr, len(value))
        if self.encoding.order == ">" and vr in WIDTH:
            value = swapped(value, WIDTH[vr])
        self.write(value)

    def close(self, begin: int) -> None:
        """
        Put the length of what was written since then into its header.

        @param begin: what L{head} returned.
        """
        length = self.position - begin
        if length >= UNDEFINED:
            raise TranscodingError("a sequence would be larger than 4 GB")
        self.patch(begin - 4, length)

    def patch(self, position: int, number: int) -> None:
        """Have L{finish} write 32 bits in this place."""
        self._patches.append((position, number))

    def finish(self) -> None:
        """Write what is missing; nothing may be added any more."""
        self._file.flush()
        layout = f"{self.encoding.order}L"
        for position, number in self._patches:
            os.pwrite(self._file.fileno(), pack(layout, number), position)
