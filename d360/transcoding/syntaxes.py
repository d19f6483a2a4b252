"""
The transfer syntaxes that can be brought to others, as data (PS3.5 Annex A and
10): what is read, by which kind of codec, and what can be written.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"


class Codec(Enum):
    """How frames are compressed."""

    RLE = "RLE"
    #: Also the lossless processes of JPEG.
    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    #: Also High-Throughput JPEG 2000, which is a block coder of its own.
    JPEG_2000 = "JPEG 2000"


@frozen
class Encoding:
    """
    What a transfer syntax says of a data set's elements.

    @ivar order: of bytes, as C{struct} writes it.
    @ivar codec: of encapsulated Pixel Data; C{None} where it is native.
    @ivar method: Lossy Image Compression Method of frames that have lost
        something (PS3.3 C.7.6.1.1.5.1).
    """

    implicit: bool = False
    order: str = "<"
    deflated: bool = False
    codec: Codec | None = None
    method: str = ""


IMPLICIT = Encoding(implicit=True)

SOURCES = {
    EXPLICIT_VR_LITTLE_ENDIAN: Encoding(),
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT,
    EXPLICIT_VR_BIG_ENDIAN: Encoding(order=">"),
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Encoding(deflated=True),
    RLE_LOSSLESS: Encoding(codec=Codec.RLE),
    JPEG_BASELINE: Encoding(codec=Codec.JPEG, method="ISO_10918_1"),
    JPEG_EXTENDED: Encoding(codec=Codec.JPEG, method="ISO_10918_1"),
    JPEG_LOSSLESS: Encoding(codec=Codec.JPEG),
    JPEG_LOSSLESS_SV1: Encoding(codec=Codec.JPEG),
    JPEG_LS_LOSSLESS: Encoding(codec=Codec.JPEG_LS),
    JPEG_LS_NEAR_LOSSLESS: Encoding(codec=Codec.JPEG_LS, method="ISO_14495_1"),
    JPEG_2000_LOSSLESS: Encoding(codec=Codec.JPEG_2000),
    JPEG_2000: Encoding(codec=Codec.JPEG_2000, method="ISO_15444_1"),
    HTJ2K_LOSSLESS: Encoding(codec=Codec.JPEG_2000),
    HTJ2K_LOSSLESS_RPCL: Encoding(codec=Codec.JPEG_2000),
    HTJ2K: Encoding(codec=Codec.JPEG_2000, method="ISO_15444_15"),
}

#: The best one first: Explicit VR keeps what Implicit VR forgets of private
#: elements, Big Endian is retired, and SV1 is for images only.
TARGETS = {
    uid: SOURCES[uid]
    for uid in (
        EXPLICIT_VR_LITTLE_ENDIAN,
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        JPEG_LOSSLESS_SV1,
    )
}


def targetsOf(transferSyntax: str) -> tuple[str, ...]:
    """See L{d360.interfaces.ITranscoder.targetsOf}."""
    if transferSyntax not in SOURCES:
        return ()
    return tuple(target for target in TARGETS if target != transferSyntax)
