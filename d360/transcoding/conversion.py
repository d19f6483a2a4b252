"""
One data set brought from one transfer syntax to another, element by element
(PS3.5 Annex A). Values keep their bytes, but for the order of those of numbers
and for the pixels, if they are compressed.

Left out are group lengths, which are retired and would be wrong (PS3.5 7.2).
Values of odd length, which should not be, are padded.
"""

from __future__ import annotations

import os
import zlib
from tempfile import TemporaryFile
from typing import BinaryIO

from d360.errors import TranscodingError
from d360.transcoding.elements import (
    ITEM,
    ITEM_END,
    PIECE,
    SEQUENCE_END,
    UNDEFINED,
    WIDTH,
    Element,
    name,
    padding,
    pieces,
    readElement,
)
from d360.transcoding.images import DEEPEST, scan
from d360.transcoding.job import Job
from d360.transcoding.output import Output
from d360.transcoding.pixeldata import (
    DecodedFrames,
    Edits,
    NativeFrames,
    framesIn,
    writeNative,
    writeSV1,
)
from d360.transcoding.syntaxes import IMPLICIT, SOURCES, TARGETS, Encoding
from d360.transcoding.vrs import (
    BITS_ALLOCATED,
    PIXEL_DATA,
    PIXEL_REPRESENTATION,
    WAVEFORM_BITS_ALLOCATED,
    Scope,
    fitting,
    isCreator,
)

_ICON = 0x00880200
_LENGTH_TO_END = 0x00080001

_CHOOSING = frozenset({PIXEL_REPRESENTATION, BITS_ALLOCATED, WAVEFORM_BITS_ALLOCATED})

#: A deflated data set is refused when it becomes larger: it is no image that
#: any other transfer syntax could hold. So is one of more than the second that
#: becomes so many times larger: it says nothing, and would fill the disk.
_LARGEST_INFLATED = 1 << 32
_LARGE_INFLATED = 512 << 20
_MOST_TIMES = 100

#: Disk that is left free.
_SPARE = 64 << 20


def convert(job: Job, memory: int) -> int:
    """
    Do it.

    @param memory: bytes that a frame may take.
    @return: the length of the new data set.
    @raise TranscodingError: it cannot be done.
    """
    encoding, target = SOURCES.get(job.transferSyntax), TARGETS.get(job.target)
    if encoding is None or target is None:
        raise TranscodingError(f"{job.transferSyntax} cannot become {job.target}")
    with open(job.path, "rb", PIECE) as file, open(job.output, "xb", PIECE) as new:
        file.seek(job.offset)
        if not encoding.deflated:
            return _convert(file, encoding, new, target, memory)
        with TemporaryFile(dir=os.path.dirname(job.output)) as inflated:
            _inflate(file, inflated, _room(new))
            inflated.seek(0)
            return _convert(inflated, encoding, new, target, memory)


def _convert(
    file: BinaryIO, encoding: Encoding, new: BinaryIO, target: Encoding, memory: int
) -> int:
    end = os.fstat(file.fileno()).st_size
    output = Output(new, target)
    pixels = scan(file, encoding, end)
    frames = None
    start = file.tell()
    if pixels.encapsulated or target.codec is not None:
        frames = framesIn(file, encoding, pixels, end, memory)
        file.seek(start)
    claimed = end - start + (frames.image.size if frames is not None else 0)
    if claimed > _room(new):
        raise TranscodingError("there is no room for it on the disk")
    scope = Scope()
    scope.numbers.update(pixels.numbers)
    Rewriting(file, output, memory).dataSet(encoding, end, scope, frames)
    output.finish()
    return output.position


def _room(file: BinaryIO) -> int:
    state = os.fstatvfs(file.fileno())
    return state.f_frsize * state.f_bavail - _SPARE


def _inflate(source: BinaryIO, target: BinaryIO, room: int) -> None:
    """Undo the compression of a whole data set (PS3.5 A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    deflated = os.fstat(source.fileno()).st_size
    most = min(room, _LARGEST_INFLATED, max(_LARGE_INFLATED, deflated * _MOST_TIMES))
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail or source.read(PIECE)
            # Without data, what the inflater still holds comes out.
            inflated = inflater.decompress(data, PIECE)
            if not data and not inflated:
                raise TranscodingError("its deflated data is truncated")
            target.write(inflated)
            if target.tell() > most:
                raise TranscodingError("its deflated data is too large")
    except zlib.error:
        raise TranscodingError("its deflated data is broken") from None


class Rewriting:
    """
    Writes what it reads, in another encoding.

    @param file: stands at the data set.
    @param memory: bytes that a frame may take.
    """

    def __init__(self, file: BinaryIO, output: Output, memory: int) -> None:
        self._file = file
        self._output = output
        self._memory = memory
        self._target = output.encoding

    def dataSet(
        self,
        encoding: Encoding,
        end: int,
        scope: Scope,
        frames: NativeFrames | DecodedFrames | None = None,
        depth: int = 0,
    ) -> bool:
        """
        The elements up to C{end}, or to the delimiter of an item.

        @param frames: stand in for its Pixel Data.
        @param depth: of the item in sequences; 0 for the root.
        @return: whether it was the delimiter.
        """
        delimited = False
        edits = _Edits(self._output, frames.edits if frames is not None else {})
        while self._file.tell() < end:
            element = readElement(self._file, encoding)
            if element is None or element.tag >> 16 == 0xFFFE:
                if element is not None and element.tag == ITEM_END and depth:
                    delimited = True
                    break
                raise TranscodingError("the data set is truncated, or out of order")
            edits.upTo(element.tag)
            defined = element.length != UNDEFINED
            if defined and self._file.tell() + element.length > end:
                raise TranscodingError(f"{name(element.tag)} is longer than its place")
            if element.tag in edits.tags or _isLeftOut(element.tag):
                self._file.seek(element.length if defined else 0, 1)
            elif element.tag == PIXEL_DATA and frames is not None:
                self._pixels(frames, depth)
            else:
                self._element(encoding, element, end, scope, depth)
        edits.upTo(1 << 32)
        return delimited

    def _pixels(self, frames: NativeFrames | DecodedFrames, depth: int) -> None:
        # An icon in a data set of encapsulated pixels may be native.
        if self._target.codec is None or depth:
            writeNative(self._output, frames)
        else:
            writeSV1(self._output, frames)
        self._file.seek(frames.end)

    def _element(
        self, encoding: Encoding, element: Element, end: int, scope: Scope, depth: int
    ) -> None:
        vr = element.vr or scope.vrOf(element)
        if element.length == UNDEFINED:
            if encoding.implicit or vr in ("SQ", "UN"):
                # Within a UN of undefined length all is Implicit VR Little
                # Endian (PS3.5 6.2.2 Note 4); such a value is a sequence.
                inner = IMPLICIT if element.vr == "UN" else encoding
                self._sequence(inner, element, end, scope, depth)
                return
            raise TranscodingError(f"{name(element.tag)} is encapsulated")
        if vr == "SQ":
            self._sequence(encoding, element, end, scope, depth)
        else:
            self._value(encoding, element, vr, scope)

    def _value(
        self, encoding: Encoding, element: Element, vr: str, scope: Scope
    ) -> None:
        tag, length = element.tag, element.length
        if tag == PIXEL_DATA and encoding.order == "<":
            bits = scope.numbers.get(BITS_ALLOCATED, 16)
            vr = "OW" if bits > 8 or vr not in ("OB", "OW") else vr
        if not self._target.implicit:
            vr = fitting(vr, length)
        self._output.head(tag, vr, length + length % 2)
        width = WIDTH.get(vr, 1) if encoding.order != self._target.order else 1
        if tag in _CHOOSING and length == 2:
            data = self._file.read(2)
            big = encoding.order == ">" and vr != "UN"
            scope.numbers[tag] = int.from_bytes(data, "big" if big else "little")
            self._file.seek(-2, 1)
        elif encoding.implicit and isCreator(tag) and length <= 64:
            scope.addCreator(tag, self._file.read(length))
            self._file.seek(-length, 1)
        for piece in pieces(self._file, length, width):
            self._output.write(piece)
        if length % 2:
            self._output.write(padding(vr))

    def _sequence(
        self, encoding: Encoding, element: Element, end: int, scope: Scope, depth: int
    ) -> None:
        if depth == DEEPEST:
            raise TranscodingError("its sequences are nested too deep")
        defined = element.length != UNDEFINED
        begin = self._output.head(element.tag, "SQ", UNDEFINED)
        if defined:
            end = self._file.tell() + element.length
        while not defined or self._file.tell() < end:
            item = readElement(self._file, encoding)
            if item is not None and item.tag == SEQUENCE_END and not defined:
                self._output.head(SEQUENCE_END, "", 0)
                return
            if item is None or item.tag != ITEM:
                raise TranscodingError(f"{name(element.tag)} holds more than items")
            self._item(encoding, element.tag, item, end, scope, depth + 1)
        self._output.close(begin)

    def _item(
        self,
        encoding: Encoding,
        sequence: int,
        item: Element,
        end: int,
        scope: Scope,
        depth: int,
    ) -> None:
        begin = self._output.head(ITEM, "", UNDEFINED)
        defined = item.length != UNDEFINED
        if defined:
            end, outer = self._file.tell() + item.length, end
            if end > outer:
                raise TranscodingError(f"{name(sequence)} has an item too long")
        frames = self._iconFrames(encoding, end) if sequence == _ICON else None
        if self.dataSet(encoding, end, Scope(scope), frames, depth) is defined:
            raise TranscodingError(f"{name(sequence)} has an item without its end")
        if defined:
            self._output.close(begin)
        else:
            self._output.head(ITEM_END, "", 0)

    def _iconFrames(
        self, encoding: Encoding, end: int
    ) -> NativeFrames | DecodedFrames | None:
        """Those of an icon that is encapsulated itself (PS3.3 C.7.6.1.1.6)."""
        pixels = scan(self._file, encoding, end)
        if not pixels.encapsulated:
            return None
        start = self._file.tell()
        frames = framesIn(self._file, encoding, pixels, end, self._memory)
        self._file.seek(start)
        return frames


def _isLeftOut(tag: int) -> bool:
    """Lengths of groups, and of the whole: retired, and not true any more."""
    return tag & 0xFFFF == 0 or tag == _LENGTH_TO_END


class _Edits:
    """
    Puts changed elements in their places.

    @ivar tags: those that are not to be copied.
    """

    def __init__(self, output: Output, edits: Edits) -> None:
        self._output = output
        self._waiting = sorted(edits.items())
        self.tags = frozenset(edits)

    def upTo(self, tag: int) -> None:
        """Write those that come no later than this one."""
        while self._waiting and self._waiting[0][0] <= tag:
            changed, value = self._waiting.pop(0)
            if value is not None:
                self._output.element(changed, *value)
