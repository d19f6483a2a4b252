"""
The frames of encapsulated Pixel Data (PS3.5 A.4): where in the file the
fragments of each are.
"""

from __future__ import annotations

from struct import iter_unpack
from typing import BinaryIO

from attrs import frozen

from d360.errors import TranscodingError
from d360.transcoding.elements import (
    ITEM,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    readElement,
)
from d360.transcoding.syntaxes import Codec, Encoding

_EXPLICIT = Encoding()

#: What a frame's first fragment begins with.
_BEGINNINGS = {
    Codec.JPEG: b"\xff\xd8\xff",
    Codec.JPEG_LS: b"\xff\xd8\xff",
    Codec.JPEG_2000: b"\xff\x4f\xff",
}


@frozen
class Fragment:
    """
    Some bytes of a frame.

    @ivar offset: in the file.
    @ivar place: from the end of the Basic Offset Table to the fragment's item.
    @ivar begins: whether it looks like the first of its frame.
    """

    offset: int
    length: int
    place: int
    begins: bool


def framesOf(
    file: BinaryIO, codec: Codec, count: int, end: int
) -> list[list[Fragment]]:
    """
    The fragments of each frame; the file stands behind Pixel Data's header, and
    behind its last fragment then.

    @param count: Number of Frames.
    @raise TranscodingError: there are more or fewer.
    """
    table = _item(file, end)
    if table is None or table.length > min(4 * count, end):
        raise TranscodingError("the Basic Offset Table is missing or too long")
    offsets = [offset for (offset,) in iter_unpack("<L", _read(file, table.length))]
    fragments = _fragments(file, codec, end)
    begun = sum(fragment.begins for fragment in fragments)
    if len(fragments) < count or begun > count:
        raise TranscodingError(
            f"it should have {count} frames, and has {len(fragments)} fragments, "
            f"of which {begun} begin a frame"
        )
    if count == 1:
        return [fragments]
    if len(fragments) == count:
        return [[fragment] for fragment in fragments]
    if len(offsets) == count:
        starts = set(offsets)
    else:
        starts = {fragment.place for fragment in fragments if fragment.begins}
    return _grouped(fragments, starts, count)


def _grouped(
    fragments: list[Fragment], starts: set[int], count: int
) -> list[list[Fragment]]:
    frames: list[list[Fragment]] = []
    for fragment in fragments:
        if fragment.place in starts:
            frames.append([])
        elif not frames:
            break
        frames[-1].append(fragment)
    if len(frames) != count:
        raise TranscodingError(
            f"the fragments of its {count} frames cannot be told apart"
        )
    return frames


def _item(file: BinaryIO, end: int) -> Element | None:
    """An item's header; C{None} for the end of the sequence."""
    item = readElement(file, _EXPLICIT)
    if item is not None and item.tag == SEQUENCE_END:
        return None
    if item is None or item.length == UNDEFINED or file.tell() + item.length > end:
        raise TranscodingError("Pixel Data is truncated")
    if item.tag != ITEM:
        raise TranscodingError("Pixel Data holds something other than items")
    return item


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise TranscodingError("Pixel Data is truncated")
    return data


def _fragments(file: BinaryIO, codec: Codec, end: int) -> list[Fragment]:
    beginning = _BEGINNINGS.get(codec)
    first = file.tell()
    found: list[Fragment] = []
    while True:
        place = file.tell() - first
        item = _item(file, end)
        if item is None:
            return found
        offset = file.tell()
        begins = False
        if beginning is not None and item.length >= len(beginning):
            begins = file.read(len(beginning)) == beginning
        found.append(Fragment(offset, item.length, place, begins))
        file.seek(offset + item.length)


def readFrame(file: BinaryIO, fragments: list[Fragment]) -> bytes:
    """The bytes of a frame."""
    data = []
    for fragment in fragments:
        file.seek(fragment.offset)
        data.append(_read(file, fragment.length))
    return data[0] if len(data) == 1 else b"".join(data)
