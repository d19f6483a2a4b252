"""What compressed frames say of themselves."""

from __future__ import annotations

from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from d360.errors import TranscodingError
from d360.transcoding.codestreams import Codestream, inspect
from d360.transcoding.syntaxes import Codec


def segment(marker: int, data: bytes) -> bytes:
    return pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(sof: int, *others: bytes, ids: bytes = b"\1\2\3", near: int = 0) -> bytes:
    """Without a frame worth the name."""
    frame = pack(">BHHB", 12, 30, 40, len(ids)) + b"".join(
        bytes((n, 0x11, 0)) for n in ids
    )
    scan = bytes((len(ids),)) + b"".join(bytes((n, 0)) for n in ids)
    return (
        b"\xff\xd8"
        + b"".join(others)
        + segment(sof, frame)
        + segment(0xDA, scan + bytes((near, 0, 0)))
        + b"data\xff\xd9"
    )


def jpeg2000(
    precision: int, transform: int, sizes: bytes | None = None, x: int = 40
) -> bytes:
    sizes = sizes or bytes((precision, precision, precision))
    siz = pack(">HLLLLLLLLH", 0, x, 31, 0, 1, 40, 31, 0, 0, len(sizes))
    siz += b"".join(bytes((size, 1, 1)) for size in sizes)
    cod = bytes((0, 0, 0, 1, 1, 5, 4, 4, 0, transform))
    return b"\xff\x4f" + segment(0x51, siz) + segment(0x52, cod) + b"\xff\x90\0\0"


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((transform,)))


class JPEGTests(SynchronousTestCase):
    """ISO/IEC 10918-1 Annex B, 14495-1 Annex C."""

    def read(self, data: bytes) -> Codestream:
        found = inspect(Codec.JPEG, data)
        assert found is not None
        return found

    def test_frame(self) -> None:
        found = self.read(jpeg(0xC1))
        self.assertEqual(
            (found.rows, found.columns, found.samples, found.precision),
            (30, 40, 3, 12),
        )

    def test_processes(self) -> None:
        """SOF3 is lossless, and SOF55 with a NEAR of 0."""
        self.assertFalse(self.read(jpeg(0xC0)).lossless)
        self.assertFalse(self.read(jpeg(0xC1)).lossless)
        self.assertTrue(self.read(jpeg(0xC3)).lossless)
        self.assertTrue(self.read(jpeg(0xF7)).lossless)
        self.assertFalse(self.read(jpeg(0xF7, near=2)).lossless)

    def test_colours(self) -> None:
        """JFIF and Adobe tell of YCbCr, and so do components called R, G, B."""
        self.assertIsNone(self.read(jpeg(0xC0)).transformed)
        self.assertTrue(self.read(jpeg(0xC0, JFIF)).transformed)
        self.assertTrue(self.read(jpeg(0xC0, adobe(1))).transformed)
        self.assertIs(self.read(jpeg(0xC0, adobe(0))).transformed, False)
        self.assertIs(self.read(jpeg(0xC0, JFIF, ids=b"RGB")).transformed, False)

    def test_end(self) -> None:
        """Padding may follow the end, and the end must be there."""
        for padding in (b"", b"\0", b"\xff", b"\0\0\0"):
            self.assertTrue(self.read(jpeg(0xC3) + padding).lossless)
        with self.assertRaisesRegex(TranscodingError, "truncated"):
            self.read(jpeg(0xC3)[:-2])

    def test_filled(self) -> None:
        """FF may stand before a marker (10918-1 B.1.1.2)."""
        self.assertTrue(self.read(jpeg(0xC3, b"\xff\xff" + JFIF)).lossless)

    def test_broken(self) -> None:
        """Bytes of any kind are no reason to fail in another way."""
        whole = jpeg(0xC3, JFIF)
        for place in range(len(whole)):
            for broken in (whole[:place], whole[:place] + b"\xff\xd9"):
                try:
                    inspect(Codec.JPEG, broken)
                except TranscodingError:
                    continue


class JPEG2000Tests(SynchronousTestCase):
    """ISO/IEC 15444-1 Annex A."""

    def read(self, data: bytes) -> Codestream:
        found = inspect(Codec.JPEG_2000, data)
        assert found is not None
        return found

    def test_size(self) -> None:
        """The image is what is within the reference grid's offset."""
        self.assertEqual(
            self.read(jpeg2000(11, 1)), Codestream(30, 40, 3, 12, lossless=None)
        )
        self.assertTrue(self.read(jpeg2000(0x8F, 1)).signed)

    def test_transform(self) -> None:
        """The irreversible wavelet has lost something."""
        self.assertIs(self.read(jpeg2000(11, 0)).lossless, False)
        self.assertIsNone(self.read(jpeg2000(11, 1)).lossless)

    def test_file(self) -> None:
        """A JP2 file around it is passed over."""
        box = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08jp2c"
        self.assertEqual(self.read(box + jpeg2000(7, 1)).precision, 8)

    def test_broken(self) -> None:
        with self.assertRaisesRegex(TranscodingError, "differ in size or precision"):
            self.read(jpeg2000(0, 1, bytes((7, 7, 11))))
        whole = jpeg2000(11, 1)
        for place in range(46):
            with self.assertRaises(TranscodingError):
                self.read(whole[:place])


class RLETests(SynchronousTestCase):
    def test_none(self) -> None:
        """RLE says nothing of the kind."""
        self.assertIsNone(inspect(Codec.RLE, b""))
