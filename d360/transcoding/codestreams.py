"""
What a compressed frame says of itself: read before a decoder is let at it, so
that it decodes no more than the data set has led to expect, and to know what
its numbers mean.
"""

from __future__ import annotations

from struct import error, unpack_from

from attrs import frozen

from d360.errors import TranscodingError
from d360.transcoding.syntaxes import Codec

# Markers of ISO/IEC 10918-1 Table B.1, and of 14495-1.
_SOI = 0xD8
_EOI = b"\xff\xd9"
_SOS = 0xDA
_APP0 = 0xE0
_APP14 = 0xEE
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xF7))
_LOSSLESS = 0xC3
_LS = 0xF7

# Markers of ISO/IEC 15444-1 Table A.1.
_SOC = b"\xff\x4f"
_SIZ = b"\xff\x51"
_COD = 0x52
_SOT = 0x90
_JP2 = b"\0\0\0\x0cjP  "


@frozen
class Codestream:
    """
    A compressed frame.

    @ivar precision: bits of a sample.
    @ivar signed: whether its samples are signed numbers.
    @ivar lossless: whether the codestream can hold the samples exactly;
        C{None} where it does not say.
    @ivar transformed: whether the samples are YCbCr by the codestream's own
        word; C{None} where it does not say.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    lossless: bool | None = None
    transformed: bool | None = None


def inspect(codec: Codec, data: bytes) -> Codestream | None:
    """
    Read the codestream's headers.

    @return: C{None} for RLE, which has none.
    @raise TranscodingError: it has no sane ones, or does not reach its end.
    """
    if codec is Codec.RLE:
        return None
    try:
        if codec is Codec.JPEG_2000:
            return _jpeg2000(unboxed(data))
        return _jpeg(data)
    except (error, IndexError):
        raise TranscodingError(f"a frame's {codec.value} header is truncated") from None


def _jpeg(data: bytes) -> Codestream:
    """JPEG and JPEG-LS."""
    # Decoders fill up with grey what is not there.
    if not data.rstrip(b"\0").rstrip(b"\xff").endswith(_EOI) and not data.rstrip(
        b"\0"
    ).endswith(_EOI):
        raise TranscodingError("a frame of JPEG data is truncated")
    if data[:2] != b"\xff\xd8":
        raise TranscodingError("a frame is no JPEG data")
    place = 2
    kind, header = 0, b""
    transformed: bool | None = None
    near = 0
    while True:
        while data[place] == 0xFF and data[place + 1] == 0xFF:
            place += 1
        if data[place] != 0xFF:
            raise TranscodingError("a frame's JPEG markers are out of order")
        marker = data[place + 1]
        (length,) = unpack_from(">H", data, place + 2)
        segment = data[place + 4 : place + 2 + length]
        if marker in _FRAMES:
            kind, header = marker, segment
        elif marker == _APP0 and segment.startswith(b"JFIF"):
            transformed = True
        elif marker == _APP14 and segment.startswith(b"Adobe") and len(segment) > 11:
            transformed = segment[11] != 0
        elif marker == _SOS:
            # Ns, a selector and tables for each component, NEAR (14495-1 C.2.3).
            near = segment[1 + 2 * segment[0]]
            break
        place += 2 + length
    precision, rows, columns, samples = unpack_from(">BHHB", header)
    if bytes(header[6::3]) in (b"RGB", b"rgb"):
        transformed = False
    if kind == _LS:
        lossless = near == 0
    else:
        lossless = kind == _LOSSLESS
    return Codestream(
        rows, columns, samples, precision, lossless=lossless, transformed=transformed
    )


def unboxed(data: bytes) -> bytes:
    """
    The codestream of a file of JPEG 2000, which PS3.5 8.2.4 does not allow, and
    which is met with all the same: its colours are the data set's to tell.
    """
    if not data.startswith(_JP2):
        return data
    return data[max(data.find(_SOC + _SIZ), 0) :]


def _jpeg2000(data: bytes) -> Codestream:
    if not data.startswith(_SOC + _SIZ):
        raise TranscodingError("a frame is no JPEG 2000 data")
    right, bottom, left, top = unpack_from(">LLLL", data, 8)
    (samples,) = unpack_from(">H", data, 40)
    sizes = {unpack_from("BBB", data, 42 + 3 * n) for n in range(samples)}
    if len(sizes) != 1:
        raise TranscodingError("a frame's components differ in size or precision")
    ((size, *_),) = sizes
    return Codestream(
        bottom - top,
        right - left,
        samples,
        (size & 0x7F) + 1,
        signed=bool(size & 0x80),
        lossless=_isReversible(data, 2),
    )


def _isReversible(data: bytes, place: int) -> bool | None:
    """
    C{False} where the wavelet transform loses something (15444-1 Table A.20).
    Where it does not, layers may have been left out.
    """
    while data[place] == 0xFF and data[place + 1] != _SOT:
        if data[place + 1] == _COD:
            return None if data[place + 13] == 1 else False
        place += 2 + int(unpack_from(">H", data, place + 2)[0])
    return None
