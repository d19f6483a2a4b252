"""
Data elements in a file, as PS3.5 chapter 7 encodes them: their headers, read
and written, and their values, copied piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error, pack
from typing import BinaryIO, NamedTuple

import numpy

from d360.errors import TranscodingError
from d360.transcoding.syntaxes import Encoding

#: Of a value whose length is not stated (PS3.5 7.1.1).
UNDEFINED = 0xFFFFFFFF

ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD

#: VRs with a length of 32 bits (PS3.5 Table 7.1-1).
LONG = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)

_SHORT = frozenset(
    ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN")
    + ("SH", "SL", "SS", "ST", "TM", "UI", "UL", "US")
)

#: VRs whose values are numbers, and the bytes that are one of them (PS3.5 7.3).
WIDTH = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}

#: VRs that are padded with a NUL; any other is text (PS3.5 6.2).
_NUL_PADDED = frozenset((*WIDTH, "OB", "UI", "UN"))

#: How much of a value is in memory at a time.
PIECE = 1 << 20

_HEADERS = {order: Struct(f"{order}HH2sH") for order in "<>"}
_LENGTHS = {order: Struct(f"{order}L") for order in "<>"}


class Element(NamedTuple):
    """
    A data element's header.

    @ivar vr: empty where the encoding leaves it out.
    @ivar length: of the value in bytes, or L{UNDEFINED}.
    """

    tag: int
    vr: str
    length: int


def name(tag: int) -> str:
    """A tag for a person to read."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def readElement(file: BinaryIO, encoding: Encoding) -> Element | None:
    """
    The header that the file stands at; C{None} at its end.

    @raise TranscodingError: the file ends within it.
    """
    head = file.read(8)
    if not head:
        return None
    try:
        group, number, code, length = _HEADERS[encoding.order].unpack(head)
        tag = group << 16 | number
        if encoding.implicit or group == 0xFFFE:
            (length,) = _LENGTHS[encoding.order].unpack_from(head, 4)
            return Element(tag, "", length)
        vr = code.decode("latin-1")
        if vr in LONG or (vr not in _SHORT and code.isalpha() and code.isupper()):
            (length,) = _LENGTHS[encoding.order].unpack(file.read(4))
    except error:
        raise TranscodingError("the data set is truncated") from None
    # A VR that is not known is read as PS3.5 6.2.2 has those of the future.
    return Element(tag, vr if vr in LONG or vr in _SHORT else "UN", length)


def elementHead(encoding: Encoding, tag: int, vr: str, length: int) -> bytes:
    """A header; L{vr} is one that can hold the length."""
    order = encoding.order
    group, number = tag >> 16, tag & 0xFFFF
    if encoding.implicit or group == 0xFFFE:
        return pack(f"{order}HHL", group, number, length)
    code = vr.encode("ascii")
    if vr in LONG:
        return pack(f"{order}HH2sHL", group, number, code, 0, length)
    return pack(f"{order}HH2sH", group, number, code, length)


def padding(vr: str) -> bytes:
    """What makes a value's length even."""
    return b"\0" if vr in _NUL_PADDED else b" "


def swapped(data: bytes | bytearray, width: int) -> bytes:
    """Numbers of so many bytes in the other order; what is left over stays."""
    whole = len(data) - len(data) % width
    numbers = numpy.frombuffer(data, f"u{width}", whole // width)
    return numbers.byteswap().tobytes() + data[whole:]


def pieces(file: BinaryIO, length: int, width: int) -> Iterator[bytes]:
    """
    The next bytes of a file, in pieces; numbers of C{width} bytes in the other
    order.

    @raise TranscodingError: there are not so many.
    """
    while length:
        data = file.read(min(length, PIECE))
        if not data or (len(data) < length and len(data) < PIECE):
            raise TranscodingError("the data set is truncated")
        length -= len(data)
        yield swapped(data, width) if width > 1 else data
