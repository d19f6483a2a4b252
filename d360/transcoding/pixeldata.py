"""
Pixel Data in another encoding, frame by frame, and what that changes in the
data set around it (PS3.5 A.4 and 8.2, PS3.3 C.7.6.1.1.5 and C.7.6.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from attrs import evolve

from d360.errors import TranscodingError
from d360.transcoding.codecs import FrameDecoder, encodeSV1, interleaved
from d360.transcoding.elements import ITEM, SEQUENCE_END, UNDEFINED, Element, swapped
from d360.transcoding.frames import Fragment, framesOf, readFrame
from d360.transcoding.images import (
    HIGH_BIT,
    LOSSY_COMPRESSION,
    LOSSY_METHOD,
    LOSSY_RATIO,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    Image,
    Pixels,
)
from d360.transcoding.output import Output
from d360.transcoding.syntaxes import Codec, Encoding
from d360.transcoding.vrs import PIXEL_DATA

#: Elements that another encoding changes: VR and value in Little Endian, or
#: C{None} for one that is left out.
Edits = dict[int, tuple[str, bytes] | None]

#: The Extended Offset Table and what belongs to it: of encapsulated frames.
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002, 0x7FE00003)

#: Memory for a sample, at the most: a decoder's 32 bits and two copies of it.
_BYTES_A_SAMPLE = 12


def _number(value: int) -> tuple[str, bytes]:
    return ("US", value.to_bytes(2, "little"))


class NativeFrames:
    """
    The frames of native Pixel Data, color by pixel and Little Endian.

    @ivar edits: what becomes of other elements.
    @ivar image: the frames that come out.
    @ivar end: where in the file Pixel Data ends.
    """

    def __init__(
        self, file: BinaryIO, encoding: Encoding, pixels: Pixels, element: Element
    ) -> None:
        image = pixels.image()
        if element.length != image.size + image.size % 2:
            raise TranscodingError("Pixel Data is longer or shorter than its frames")
        if image.samples == 3 and image.photometric not in ("RGB", "YBR_FULL"):
            raise TranscodingError("its pixels are subsampled, or of unknown colours")
        self.edits: Edits = {}
        if image.samples == 3:
            self.edits[PLANAR_CONFIGURATION] = _number(0)
        self.image = evolve(image, planar=False)
        self.end = pixels.offset + element.length
        self._file = file
        self._planar = image.planar and image.samples == 3
        self._begin = pixels.offset
        self._swaps = encoding.order == ">" and element.vr == "OW"

    def __iter__(self) -> Iterator[bytes]:
        size = self.image.frameSize
        for begin in range(0, self.image.size, size):
            # 16 bits are swapped as a whole, also where a frame ends within.
            first = begin & ~1
            self._file.seek(self._begin + first)
            data = self._file.read((begin + size + 1 & ~1) - first)
            if self._swaps:
                data = swapped(data, 2)
            frame = data[begin - first : begin - first + size]
            if len(frame) != size:
                raise TranscodingError("Pixel Data is truncated")
            yield interleaved(frame, self.image) if self._planar else frame


class DecodedFrames:
    """
    As L{NativeFrames}, of encapsulated Pixel Data.

    @param limit: bytes of memory.
    """

    def __init__(
        self,
        file: BinaryIO,
        encoding: Encoding,
        codec: Codec,
        pixels: Pixels,
        end: int,
        limit: int,
    ) -> None:
        image = pixels.image()
        _checkMemory(image, limit)
        file.seek(pixels.offset)
        self._fragments = framesOf(file, codec, image.frames, end)
        self.end = file.tell()
        self._file = file
        self._limit = limit
        self._decoder = FrameDecoder(codec, image, self._read(self._fragments[0]))
        self.image = evolve(image, planar=False, photometric=self._decoder.photometric)
        self.edits = self._edits(encoding, codec, pixels, image)

    def _edits(
        self, encoding: Encoding, codec: Codec, pixels: Pixels, image: Image
    ) -> Edits:
        edits: Edits = dict.fromkeys(_OFFSET_TABLES)
        if image.samples == 3:
            edits[PLANAR_CONFIGURATION] = _number(0)
        if self.image.photometric != image.photometric:
            value = self.image.photometric.encode("ascii")
            edits[PHOTOMETRIC_INTERPRETATION] = ("CS", value)
        # A codestream has no bits below those of a sample; RLE keeps bytes.
        if codec is not Codec.RLE and self._decoder.precision == image.stored:
            edits[HIGH_BIT] = _number(image.stored - 1)
        lossy = pixels.texts.get(LOSSY_COMPRESSION) == "01"
        if self._decoder.lossless is False or (
            self._decoder.lossless is None and lossy
        ):
            self._tellLoss(edits, encoding, pixels)
        return edits

    def _tellLoss(self, edits: Edits, encoding: Encoding, pixels: Pixels) -> None:
        """What was lost stays lost (PS3.3 C.7.6.1.1.5)."""
        if pixels.texts.get(LOSSY_COMPRESSION) != "01":
            edits[LOSSY_COMPRESSION] = ("CS", b"01")
        if not pixels.texts.get(LOSSY_RATIO):
            size = sum(part.length for parts in self._fragments for part in parts)
            ratio = f"{self.image.size / max(size, 1):.2f}"
            edits[LOSSY_RATIO] = ("DS", ratio.encode("ascii"))
        if not pixels.texts.get(LOSSY_METHOD) and encoding.method:
            edits[LOSSY_METHOD] = ("CS", encoding.method.encode("ascii"))

    def _read(self, fragments: list[Fragment]) -> bytes:
        if sum(fragment.length for fragment in fragments) > self._limit // 4:
            raise TranscodingError("a frame needs more memory than is allowed")
        return readFrame(self._file, fragments)

    def __iter__(self) -> Iterator[bytes]:
        for fragments in self._fragments:
            yield self._decoder.decode(self._read(fragments))


def _checkMemory(image: Image, limit: int) -> None:
    """Refuse what Rows and Columns only claim, before it is believed."""
    if image.rows * image.columns * image.samples * _BYTES_A_SAMPLE > limit:
        raise TranscodingError("a frame needs more memory than is allowed")


def framesIn(
    file: BinaryIO, encoding: Encoding, pixels: Pixels, end: int, limit: int
) -> NativeFrames | DecodedFrames:
    """
    The frames of Pixel Data, ready to be read.

    @param end: where in the file the data set ends at the latest.
    @param limit: bytes of memory that may be used.
    @raise TranscodingError: they are none that can be decoded.
    """
    if pixels.element is None:
        raise TranscodingError("it has no Pixel Data")
    if not pixels.encapsulated:
        _checkMemory(pixels.image(), limit)
        return NativeFrames(file, encoding, pixels, pixels.element)
    if encoding.codec is None:
        raise TranscodingError(
            "its Pixel Data is encapsulated, against its transfer syntax"
        )
    return DecodedFrames(file, encoding, encoding.codec, pixels, end, limit)


def writeNative(output: Output, frames: NativeFrames | DecodedFrames) -> None:
    """Pixel Data of one stated length (PS3.5 A.1 to A.3)."""
    image = frames.image
    vr = "OB" if image.allocated <= 8 else "OW"
    output.head(PIXEL_DATA, vr, image.size + image.size % 2)
    swaps = output.encoding.order == ">" and vr == "OW"
    for frame in frames:
        output.write(swapped(frame, 2) if swaps else frame)
    if image.size % 2:
        output.write(b"\0")


def writeSV1(output: Output, frames: NativeFrames | DecodedFrames) -> None:
    """Encapsulated Pixel Data, one fragment a frame (PS3.5 A.4)."""
    count = frames.image.frames
    output.head(PIXEL_DATA, "OB", UNDEFINED)
    table = output.head(ITEM, "", 4 * count)
    output.write(bytes(4 * count))
    first = output.position
    for number, frame in enumerate(frames):
        if output.position - first >= UNDEFINED:
            raise TranscodingError("it would be larger than 4 GB")
        output.patch(table + 4 * number, output.position - first)
        data = encodeSV1(frame, frames.image)
        output.head(ITEM, "", len(data) + len(data) % 2)
        output.write(data + bytes(len(data) % 2))
    output.head(SEQUENCE_END, "", 0)
