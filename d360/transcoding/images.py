"""
What a data set says of its Pixel Data (PS3.3 C.7.6.3), read before anything is
written. It is a peer's word, and checked before anything is done by it.
"""

from __future__ import annotations

from typing import BinaryIO

from attrs import frozen

from d360.errors import TranscodingError
from d360.transcoding.elements import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    readElement,
)
from d360.transcoding.syntaxes import IMPLICIT, Encoding
from d360.transcoding.vrs import BITS_ALLOCATED, PIXEL_DATA, PIXEL_REPRESENTATION

SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC_INTERPRETATION = 0x00280004
PLANAR_CONFIGURATION = 0x00280006
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_STORED = 0x00280101
HIGH_BIT = 0x00280102
LOSSY_COMPRESSION = 0x00282110
LOSSY_RATIO = 0x00282112
LOSSY_METHOD = 0x00282114
PIXEL_DATA_URL = 0x00287FE0

_NUMBERS = frozenset(
    {
        SAMPLES_PER_PIXEL,
        PLANAR_CONFIGURATION,
        ROWS,
        COLUMNS,
        BITS_ALLOCATED,
        BITS_STORED,
        HIGH_BIT,
        PIXEL_REPRESENTATION,
    }
)
_TEXTS = frozenset(
    {
        PHOTOMETRIC_INTERPRETATION,
        NUMBER_OF_FRAMES,
        LOSSY_COMPRESSION,
        LOSSY_RATIO,
        LOSSY_METHOD,
    }
)

#: No text of them is longer.
_LONGEST_TEXT = 1024

#: No sane data set nests deeper.
DEEPEST = 64


@frozen
class Pixels:
    """
    The Pixel Data of a data set, the root's or an item's.

    @ivar numbers: elements with a number, by tag.
    @ivar texts: elements with a text, by tag.
    @ivar element: the header of Pixel Data; C{None} where there is none.
    @ivar offset: of its value in the file.
    """

    numbers: dict[int, int]
    texts: dict[int, str]
    element: Element | None
    offset: int

    @property
    def encapsulated(self) -> bool:
        """Whether it is a sequence of fragments (PS3.5 A.4)."""
        return self.element is not None and self.element.length == UNDEFINED

    def image(self) -> Image:
        """
        How its frames are laid out.

        @raise TranscodingError: the data set does not say, or says what cannot
            be.
        """
        try:
            frames = int(self.texts.get(NUMBER_OF_FRAMES) or 1)
            image = Image(
                rows=self.numbers[ROWS],
                columns=self.numbers[COLUMNS],
                frames=frames,
                samples=self.numbers.get(SAMPLES_PER_PIXEL, 1),
                allocated=self.numbers[BITS_ALLOCATED],
                stored=self.numbers.get(BITS_STORED, self.numbers[BITS_ALLOCATED]),
                highBit=self.numbers.get(HIGH_BIT, -1),
                signed=self.numbers.get(PIXEL_REPRESENTATION, 0) == 1,
                photometric=self.texts.get(PHOTOMETRIC_INTERPRETATION, ""),
                planar=self.numbers.get(PLANAR_CONFIGURATION, 0) == 1,
            )
        except (KeyError, ValueError):
            raise TranscodingError(
                "Rows, Columns, Bits Allocated or Number of Frames is missing or "
                "no number"
            ) from None
        image.check()
        return image


@frozen
class Image:
    """
    The frames of Pixel Data.

    @ivar samples: Samples per Pixel.
    @ivar signed: Pixel Representation is 1.
    @ivar planar: Planar Configuration is 1.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    highBit: int
    signed: bool
    photometric: str
    planar: bool

    def check(self) -> None:
        """
        @raise TranscodingError: no codec of D360's has such pixels, or all of
            them are more than a native Pixel Data can hold (PS3.5 7.1.1).
        """
        if self.allocated not in (8, 16, 32) or self.samples not in (1, 3):
            raise TranscodingError(
                f"{self.samples} samples of {self.allocated} bits are not supported"
            )
        if not (self.rows and self.columns and self.frames > 0):
            raise TranscodingError("Rows, Columns or Number of Frames is 0")
        if not 0 < self.stored <= self.allocated:
            raise TranscodingError("Bits Stored is not within Bits Allocated")
        if self.size >= UNDEFINED - 1:
            raise TranscodingError("it would be larger than 4 GB")

    @property
    def width(self) -> int:
        """Bytes of a sample."""
        return self.allocated // 8

    @property
    def frameSize(self) -> int:
        """Bytes of a native frame."""
        return self.rows * self.columns * self.samples * self.width

    @property
    def size(self) -> int:
        """Bytes of all native frames."""
        return self.frameSize * self.frames


def scan(file: BinaryIO, encoding: Encoding, end: int) -> Pixels:
    """
    Look through the data set at which the file stands, up to its Pixel Data;
    the file is back in its place then.

    @param end: where in the file it ends at the latest.
    @raise TranscodingError: it cannot be read.
    """
    start = file.tell()
    numbers: dict[int, int] = {}
    texts: dict[int, str] = {}
    found, offset = None, 0
    while file.tell() < end:
        element = readElement(file, encoding)
        if element is None or element.tag == ITEM_END:
            break
        if element.tag == PIXEL_DATA:
            found, offset = element, file.tell()
            break
        if element.tag in _NUMBERS and element.length == 2:
            # In a value of UN the bytes are those of Little Endian.
            big = encoding.order == ">" and element.vr != "UN"
            data = file.read(2)
            numbers[element.tag] = int.from_bytes(data, "big" if big else "little")
        elif element.tag in _TEXTS and element.length <= _LONGEST_TEXT:
            data = file.read(element.length)
            texts[element.tag] = data.decode("latin-1").strip(" \0")
        else:
            _skip(file, encoding, element, end, DEEPEST)
    file.seek(start)
    return Pixels(numbers, texts, found, offset)


def _skip(
    file: BinaryIO, encoding: Encoding, element: Element, end: int, depth: int
) -> None:
    """Pass over a value, or over all items of one of undefined length."""
    if element.length != UNDEFINED:
        if file.tell() + element.length > end:
            raise TranscodingError("the data set is truncated")
        file.seek(element.length, 1)
        return
    if depth == 0:
        raise TranscodingError("its sequences are nested too deep")
    if element.vr == "UN":
        encoding = IMPLICIT
    closing = ITEM_END if element.tag == ITEM else SEQUENCE_END
    while True:
        inner = readElement(file, encoding)
        if inner is None:
            raise TranscodingError("the data set is truncated")
        if inner.tag == closing:
            return
        _skip(file, encoding, inner, end, depth - 1)
