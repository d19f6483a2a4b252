"""
The decoders and the one encoder of pixels, all of imagecodecs: libjpeg-turbo,
CharLS, OpenJPEG and one of its own for RLE.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import unpack_from
from typing import Any, TypeVar

import imagecodecs
import numpy

from d360.errors import TranscodingError
from d360.transcoding.codestreams import Codestream, inspect, unboxed
from d360.transcoding.images import Image
from d360.transcoding.syntaxes import Codec

T = TypeVar("T")

_Array = numpy.ndarray[Any, numpy.dtype[Any]]

#: PS3.3 C.7.6.3.1.2, as far as Pixel Data of one or three samples has them.
_MONOCHROME = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", ""})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422"})

#: What is between the samples of JPEG 2000 and RGB is undone by its decoder.
_TRANSFORMED_2000 = frozenset({"YBR_ICT", "YBR_RCT"})


class FrameDecoder:
    """
    Decodes the frames of one Pixel Data.

    @ivar photometric: the Photometric Interpretation of what comes out.
    @ivar lossless: as L{Codestream} has it, of the first frame.
    @param first: the first frame, whose headers speak for all.
    """

    def __init__(self, codec: Codec, image: Image, first: bytes) -> None:
        self._codec = codec
        self._image = image
        stream = inspect(codec, first)
        self.lossless = stream.lossless if stream is not None else True
        self.precision = stream.precision if stream is not None else image.stored
        self.photometric = self._photometric(stream)

    def _photometric(self, stream: Codestream | None) -> str:
        """
        The colours of lossy JPEG come as RGB, for a subsampled YBR_FULL_422
        would have to be made anew; what is lossless keeps its numbers.
        """
        self._undoes = False
        said = self._image.photometric
        if self._image.samples == 1 and said in _MONOCHROME:
            return said
        if self._image.samples == 3 and stream is not None:
            if self._codec is Codec.JPEG and not stream.lossless and said in _COLOUR:
                self._undoes = said != "RGB"
                if stream.transformed is not None:
                    self._undoes = stream.transformed
                return "RGB"
            if self._codec is Codec.JPEG_2000 and said in _TRANSFORMED_2000:
                return "RGB"
        if self._image.samples == 3 and said in ("RGB", "YBR_FULL"):
            return said
        raise TranscodingError("its Photometric Interpretation is none of such pixels")

    def decode(self, data: bytes) -> bytes:
        """
        A native frame, color by pixel, Little Endian.

        @raise TranscodingError: it is not what the data set says, or broken.
        """
        image = self._image
        stream = inspect(self._codec, data)
        if stream is None:
            return self._decodeRLE(data)
        says = (stream.rows, stream.columns, stream.samples)
        if says != (image.rows, image.columns, image.samples):
            raise TranscodingError(
                "a frame has other Rows, Columns or Samples per Pixel than its "
                "data set says"
            )
        if stream.precision > image.allocated:
            raise TranscodingError("a frame has more bits than Bits Allocated")
        pixels = _attempt(self._codec, lambda: self._pixels(data))
        return self._native(pixels, stream)

    def _pixels(self, data: bytes) -> _Array:
        if self._codec is Codec.JPEG_2000:
            return imagecodecs.jpeg2k_decode(unboxed(data), numthreads=1)
        if self._codec is Codec.JPEG_LS:
            return imagecodecs.jpegls_decode(data)
        return _decodeJPEG(data, self._image.samples, self._undoes)

    def _decodeRLE(self, data: bytes) -> bytes:
        """A segment for each byte of a sample, the highest first (PS3.5 G.2)."""
        image = self._image
        count = image.samples * image.width
        if len(data) < 64:
            raise TranscodingError("a frame's RLE header is truncated")
        said, *offsets = unpack_from("<16L", data)
        places = [*offsets[:count], len(data)]
        # imagecodecs' decoder of whole frames would follow them anywhere.
        if said != count or places[0] != 64 or places != sorted(places):
            raise TranscodingError("a frame's RLE header is broken")
        size = image.rows * image.columns
        pixels = numpy.empty((size, image.samples, image.width), "u1")
        for number in range(count):
            segment = data[places[number] : places[number + 1]]
            plane = _attempt(self._codec, partial(imagecodecs.packbits_decode, segment))
            if len(plane) < size:
                raise TranscodingError("a frame has fewer pixels than it should")
            sample, byte = divmod(number, image.width)
            pixels[:, sample, image.width - 1 - byte] = numpy.frombuffer(
                plane, "u1", size
            )
        return pixels.tobytes()

    def _native(self, pixels: _Array, stream: Codestream) -> bytes:
        """In the bytes that Bits Allocated and Pixel Representation ask for."""
        image = self._image
        shape: tuple[int, ...] = (image.rows, image.columns)
        if image.samples > 1:
            shape = (*shape, image.samples)
            # JPEG-LS that is color by plane comes so.
            if pixels.shape != shape and pixels.shape[:1] == (image.samples,):
                pixels = pixels.transpose(1, 2, 0)
        if pixels.shape != shape or pixels.dtype.kind not in "iu":
            raise TranscodingError("a frame was decoded to another shape")
        # Bits of a sample that are not its own: those of a signed number are
        # its sign, also where the codestream took it for an unsigned one.
        signed = pixels.astype(f"<i{image.width}", copy=False)
        unused = image.allocated - stream.precision
        if unused and image.signed and not stream.signed:
            signed = (signed << unused) >> unused
        elif unused and stream.signed and not image.signed:
            signed = signed & ((1 << stream.precision) - 1)
        return signed.tobytes()


def encodeSV1(frame: bytes, image: Image) -> bytes:
    """
    A native frame, color by pixel and Little Endian, in JPEG Lossless with
    first-order prediction (PS3.5 A.4.1). Every bit allocated is kept.

    @raise TranscodingError: JPEG has no such pixels.
    """
    if image.allocated > 16:
        raise TranscodingError("JPEG has no pixels of more than 16 bits")
    pixels = numpy.frombuffer(frame, f"<u{image.width}")
    shape: tuple[int, ...] = (image.rows, image.columns)
    space = None
    if image.samples > 1:
        shape = (*shape, image.samples)
        # Named YCbCr, they would get Huffman tables that libjpeg-turbo 3.1
        # makes wrong ones of where the tables differ.
        space = "RGB" if image.photometric == "RGB" else "UNKNOWN"
    pixels = pixels.reshape(shape)
    data = _attempt(
        Codec.JPEG,
        lambda: bytes(
            imagecodecs.jpeg8_encode(
                pixels,
                lossless=True,
                predictor=1,
                bitspersample=image.allocated,
                colorspace=space,
                outcolorspace=space,
            )
        ),
    )
    back = _attempt(Codec.JPEG, lambda: _decodeJPEG(data, image.samples, False))
    if not numpy.array_equal(back, pixels):
        raise TranscodingError("a frame would not be kept exactly in JPEG")
    return data


def _decodeJPEG(data: bytes, samples: int, undoes: bool) -> _Array:
    """
    @param undoes: make RGB of YCbCr; otherwise samples come as they are coded.
    """
    if samples == 1:
        return imagecodecs.jpeg8_decode(data)
    return imagecodecs.jpeg8_decode(
        data, colorspace="YCbCr" if undoes else "RGB", outcolorspace="RGB"
    )


def interleaved(frame: bytes | bytearray, image: Image) -> bytes:
    """A frame that is color by plane, color by pixel (PS3.3 C.7.6.3.1.3)."""
    planes = numpy.frombuffer(frame, f"<u{image.width}")
    return planes.reshape(image.samples, -1).T.tobytes()


def _attempt(codec: Codec, function: Callable[[], T]) -> T:
    """
    The decoders' errors are of many classes, most of them RuntimeErrors.

    @raise TranscodingError: in their stead. Of what they say nothing is told,
        for what is in it is theirs.
    """
    try:
        return function()
    except (RuntimeError, ValueError, TypeError, OverflowError) as problem:
        raise TranscodingError(
            f"a frame of {codec.value} data cannot be coded ({type(problem).__name__})"
        ) from problem
