"""A little that becomes much: deflated data sets, frames that claim to be huge."""

from __future__ import annotations

import struct
import zlib
from functools import cache

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests.faults.attacks.victim import (
    DEFLATED,
    EXPLICIT,
    STUDY_GET,
    Victim,
    Wrong,
    asking,
    fresh,
    keys,
    store,
)
from tests.interop import wire
from tests.interop.wire import CT
from tests.services.datasets import encode

JPEG = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
RLE = "1.2.840.10008.1.2.5"

#: Bytes that are inflated by one that can be sent again and again.
_PIECE = 1 << 20


def _deflate(data: bytes, isLast: bool = True) -> bytes:
    """As PS3.5 A.5 has it; the parts of several stand side by side."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    flush = zlib.Z_FINISH if isLast else zlib.Z_FULL_FLUSH
    return deflater.compress(data) + deflater.flush(flush)


def _private(length: int) -> bytes:
    """An element before all that tells where an instance belongs."""
    return b"\x09\0\x10\x10OB\0\0" + struct.pack("<I", length)


@cache
def _short(count: int) -> bytes:
    """Elements without a value, in their order only at first."""
    return b"\x09\0\x10\x10LO\0\0" * count


def deflatedHeaders(victim: Victim) -> None:
    """
    A header that inflates for ever, of one long element or of short ones: it is
    refused, however much of it is still to come.
    """
    long = _deflate(_private(0xFFFFFFF0), False)
    zeros = _deflate(bytes(_PIECE), False)
    short = _deflate(_short(_PIECE // 8), False)
    for what, first, piece in (("one", long, zeros), ("many", b"", short)):
        for pieces in (100, 4000):
            uid = fresh().SOPInstanceUID
            with victim.open(proposals=[(CT, [DEFLATED])]) as peer:
                status = store(peer, first + piece * pieces, uid, 1)
                if status != 0xC000:
                    raise Wrong(f"{what} element of {pieces} MB: {status:04X}")
                peer.release()


def deflatedPixels(victim: Victim) -> None:
    """
    An instance whose header is in order, and which then inflates for ever: it is
    kept as it came, and retrieved so; as anything else it is not.
    """
    dataset = fresh(PixelData=None)
    head = encode(dataset) + b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", 0xFFFFFFF0)
    data = _deflate(head, False) + _deflate(bytes(_PIECE), False) * 5000
    _keepAndGet(victim, dataset, data + _deflate(b""), DEFLATED)


def frames(victim: Victim) -> None:
    """
    Compressed frames of a few bytes that claim 65535 rows and columns, or two
    thousand millions of frames, in the data set, in the frame, or in both.
    """
    for syntax, one in ((JPEG, _jpeg()), (JPEG_2000, _jpeg2000()), (RLE, _rle())):
        for rows, count in ((65535, 1), (16, 2000000000), (8000, 4)):
            frame = one if rows == 16 else _claiming(syntax, one, rows)
            dataset = fresh(PixelData=None)
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (
                1,
                "MONOCHROME2",
            )
            dataset.Rows = dataset.Columns = rows
            dataset.BitsAllocated = dataset.BitsStored = 8
            dataset.HighBit, dataset.PixelRepresentation = 7, 0
            dataset.NumberOfFrames = count
            pixels = encapsulate([frame] * min(count, 10), has_bot=False)
            value = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + pixels
            value += b"\xfe\xff\xdd\xe0" + bytes(4)
            _keepAndGet(victim, dataset, encode(dataset) + value, syntax)


def _jpeg() -> bytes:
    """Enough of one that its head can be read."""
    sof = struct.pack(">BHHBBBB", 8, 16, 16, 1, 1, 0x11, 0)
    sos = struct.pack(">BBBBBB", 1, 1, 0, 0, 63, 0)
    table = bytes([0]) + bytes([1] * 64)
    huffman = bytes([0]) + bytes([0, 1] + [0] * 14) + bytes([0])
    return (
        b"\xff\xd8"
        + _segment(0xDB, table)
        + _segment(0xC0, sof)
        + _segment(0xC4, huffman)
        + _segment(0xC4, b"\x10" + huffman[1:])
        + _segment(0xDA, sos)
        + bytes(64)
        + b"\xff\xd9"
    )


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _jpeg2000() -> bytes:
    siz = struct.pack(">HIIIIIIIIHBBB", 0, 16, 16, 0, 0, 16, 16, 0, 0, 1, 7, 1, 1)
    cod = bytes([0, 0, 0, 1, 0, 1, 3, 3, 0, 1])
    qcd = bytes([0x40, 0x40, 0x48, 0x48, 0x50])
    sot = struct.pack(">HIBB", 0, 30, 0, 1)
    head = b"\xff\x4f" + _segment(0x51, siz) + _segment(0x52, cod) + _segment(0x5C, qcd)
    return head + _segment(0x90, sot) + b"\xff\x93" + bytes(16) + b"\xff\xd9"


def _rle() -> bytes:
    """128 zeros in two bytes, as often as there is room (PS3.5 G.3.1)."""
    return struct.pack("<16L", 1, 64, *([0] * 14)) + b"\x81\x00" * 2


def _claiming(syntax: str, frame: bytes, rows: int) -> bytes:
    """The same with other numbers of rows and columns in it."""
    if syntax == JPEG:
        return frame.replace(
            struct.pack(">BHH", 8, 16, 16), struct.pack(">BHH", 8, rows, rows)
        )
    if syntax == JPEG_2000:
        return frame.replace(struct.pack(">II", 16, 16), struct.pack(">II", rows, rows))
    return frame


def _keepAndGet(victim: Victim, dataset: Dataset, data: bytes, syntax: str) -> None:
    """
    Store an instance, and retrieve it uncompressed beside a good one of its
    study: that one arrives, and it alone has failed.
    """
    good = fresh(StudyInstanceUID=dataset.StudyInstanceUID)
    with victim.open(proposals=[(CT, [syntax]), (CT, [EXPLICIT])]) as peer:
        for contextID, one, body in ((1, dataset, data), (3, good, encode(good))):
            status = store(peer, body, one.SOPInstanceUID, contextID)
            if status:
                raise Wrong(f"an instance in {syntax} is not stored: {status:04X}")
        peer.release()
    arrived, failed = _get(victim, dataset.StudyInstanceUID)
    if arrived != [good.SOPInstanceUID] or failed != 1:
        raise Wrong(f"{syntax}: {len(arrived)} arrived and {failed} failed, of 2")


def _get(victim: Victim, study: str) -> tuple[list[str], int]:
    """C-GET of a study, in Explicit VR Little Endian: what came, what failed."""
    identifier = encode(keys("STUDY", StudyInstanceUID=study))
    arrived = []
    with victim.open() as peer:
        peer.socket.settimeout(60)
        peer.send(asking(9, STUDY_GET, identifier, 0x10))
        while True:
            message = peer.response()
            if message.number(0x100) == 0x8010:
                if message.status != 0xFF00:
                    return arrived, message.number(0x1022)
                continue
            uid = message.text(0x1000)
            arrived.append(uid)
            answer: dict[int, int | str] = {2: CT, 0x100: 0x8001, 0x1000: uid}
            number = message.number(0x110)
            peer.send(
                wire.message(
                    1,
                    wire.commandSet({**answer, 0x120: number, 0x800: 0x101, 0x900: 0}),
                )
            )


def warmUp(victim: Victim) -> None:
    """
    Have something transcoded, so that what does it has been started, by each of a
    few workers.
    """
    dataset = fresh()
    data = _deflate(encode(dataset))
    with victim.open(proposals=[(CT, [DEFLATED])]) as peer:
        if store(peer, data, dataset.SOPInstanceUID, 1):
            raise Wrong("a deflated instance is not stored")
        peer.release()
    for _ in range(5):
        arrived, _ = _get(victim, dataset.StudyInstanceUID)
        if arrived != [dataset.SOPInstanceUID]:
            raise Wrong("a deflated instance is not sent as another")
