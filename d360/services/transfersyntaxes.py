"""
The transfer syntaxes of D360 as data (PS3.5 Annex A, PS3.6 Annex A), and what
reading a data set in one of them needs to know.
"""

from __future__ import annotations

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

#: Conformance 7.2, and 5.2: queries.
QUERY = frozenset(
    {IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN}
)

#: Conformance 6.2: storage.
STORAGE_STATED = QUERY | {
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline (Process 1)
    "1.2.840.10008.1.2.4.51",  # JPEG Extended (Process 2 and 4)
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless (Process 14)
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless (Process 14, Selection Value 1)
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 (Lossless Only)
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2 (Lossless Only)
    "1.2.840.10008.1.2.4.93",  # JPEG 2000 Part 2
    "1.2.840.10008.1.2.4.100",  # MPEG2 Main Profile / Main Level
    "1.2.840.10008.1.2.4.101",  # MPEG2 Main Profile / High Level
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264 High Profile / Level 4.1
    "1.2.840.10008.1.2.4.103",  # MPEG-4 AVC/H.264 BD-compatible / Level 4.1
    "1.2.840.10008.1.2.4.104",  # MPEG-4 AVC/H.264 Level 4.2 For 2D Video
    "1.2.840.10008.1.2.4.105",  # MPEG-4 AVC/H.264 Level 4.2 For 3D Video
    "1.2.840.10008.1.2.4.106",  # MPEG-4 AVC/H.264 Stereo High / Level 4.2
}

#: What is stored besides. Bytes are kept as they come, so that the standard's
#: newer encodings cost nothing; JPIP is left out, for its data set only refers
#: to pixels that stay elsewhere.
STORAGE_BEYOND = frozenset(
    {
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.5",  # RLE Lossless
        "1.2.840.10008.1.2.4.107",  # HEVC/H.265 Main Profile / Level 5.1
        "1.2.840.10008.1.2.4.108",  # HEVC/H.265 Main 10 Profile / Level 5.1
        "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
        "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
        "1.2.840.10008.1.2.4.112",  # JPEG XL
        "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 (Lossless Only)
        "1.2.840.10008.1.2.4.202",  # HTJ2K with RPCL Options (Lossless Only)
        "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
    }
)

STORAGE = STORAGE_STATED | STORAGE_BEYOND


def isImplicit(transferSyntax: str) -> bool:
    """Whether VRs are left out of the encoded data set."""
    return transferSyntax == IMPLICIT_VR_LITTLE_ENDIAN


def isBigEndian(transferSyntax: str) -> bool:
    """Whether numbers are encoded with the highest byte first."""
    return transferSyntax == EXPLICIT_VR_BIG_ENDIAN


def isDeflated(transferSyntax: str) -> bool:
    """Whether the whole data set is compressed (PS3.5 A.5)."""
    return transferSyntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
