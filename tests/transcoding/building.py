"""Data sets by hand, apart from the code that is tested (PS3.5 7.1)."""

from __future__ import annotations

from pathlib import Path
from struct import pack

from d360.transcoding.conversion import convert
from d360.transcoding.job import Job

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
BASELINE = "1.2.840.10008.1.2.4.50"
LOSSLESS = "1.2.840.10008.1.2.4.57"
SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
HTJ2K = "1.2.840.10008.1.2.4.201"

#: Of a sequence or an item that ends with a delimiter.
UNDEFINED = 0xFFFFFFFF

_LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")

ITEM = 0xFFFEE000
ITEM_END = pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = pack("<HHL", 0xFFFE, 0xE0DD, 0)


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    """An element without its VR."""
    length = len(value) if length is None else length
    return pack("<HHL", tag >> 16, tag & 0xFFFF, length) + value


def explicit(
    tag: int, vr: str, value: bytes, length: int | None = None, order: str = "<"
) -> bytes:
    """An element with its VR."""
    length = len(value) if length is None else length
    head = pack(f"{order}HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in _LONG:
        return head + pack(f"{order}HL", 0, length) + value
    return head + pack(f"{order}H", length) + value


def item(value: bytes, length: int | None = None, order: str = "<") -> bytes:
    """An item, or a fragment."""
    length = len(value) if length is None else length
    return pack(f"{order}HHL", 0xFFFE, 0xE000, length) + value


def number(value: int) -> bytes:
    return pack("<H", value)


def header(
    rows: int,
    columns: int,
    allocated: int = 8,
    frames: int | None = None,
    samples: int = 1,
    photometric: bytes = b"MONOCHROME2 ",
    signed: int = 0,
    stored: int | None = None,
) -> bytes:
    """The Image Pixel Module of a data set in Explicit VR Little Endian."""
    stored = allocated if stored is None else stored
    parts = [
        explicit(0x00280002, "US", number(samples)),
        explicit(0x00280004, "CS", photometric),
    ]
    if samples > 1:
        parts.append(explicit(0x00280006, "US", number(0)))
    if frames is not None:
        text = str(frames).encode()
        parts.append(explicit(0x00280008, "IS", text + b" " * (len(text) % 2)))
    parts += [
        explicit(0x00280010, "US", number(rows)),
        explicit(0x00280011, "US", number(columns)),
        explicit(0x00280100, "US", number(allocated)),
        explicit(0x00280101, "US", number(stored)),
        explicit(0x00280102, "US", number(stored - 1)),
        explicit(0x00280103, "US", number(signed)),
    ]
    return b"".join(parts)


def encapsulated(*fragments: bytes, table: bytes = b"") -> bytes:
    """Pixel Data of fragments."""
    even = (fragment + bytes(len(fragment) % 2) for fragment in fragments)
    items = item(table) + b"".join(map(item, even))
    return explicit(0x7FE00010, "OB", items + SEQUENCE_END, UNDEFINED)


def transcoded(
    folder: Path, data: bytes, source: str, target: str, memory: int = 1 << 30
) -> bytes:
    """
    What we make of a data set.

    @raise TranscodingError: as L{convert} does.
    """
    folder.mkdir(exist_ok=True)
    path, output = folder / "stored", folder / "output"
    path.write_bytes(b"head" + data)
    output.unlink(missing_ok=True)
    size = convert(Job(str(path), 4, source, target, str(output)), memory)
    new = output.read_bytes()
    assert len(new) == size
    return new
