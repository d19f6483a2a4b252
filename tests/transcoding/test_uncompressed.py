"""Uncompressed transfer syntaxes into one another (PS3.5 A.1 to A.3, A.5)."""

from __future__ import annotations

import zlib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from d360.errors import TranscodingError
from d360.transcoding import conversion
from tests.transcoding.building import (
    BASELINE,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    explicit,
    header,
    implicit,
    item,
    number,
    transcoded,
)
from tests.transcoding.real import (
    converted,
    part10,
    run,
    stored,
    storedFiles,
)

PIXEL_DATA = 0x7FE00010


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def becomes(self, data: bytes, source: str, expected: bytes, target: str) -> None:
        self.assertEqual(transcoded(self.folder, data, source, target), expected)

    def fails(self, data: bytes, source: str, why: str, target: str = EXPLICIT) -> None:
        with self.assertRaisesRegex(TranscodingError, why):
            transcoded(self.folder, data, source, target)


class VRTests(Case):
    """The VR of an element that comes without one (PS3.5 A.2, 6.2.2)."""

    def gets(self, vr: str, tag: int, value: bytes, before: bytes = b"") -> None:
        new = transcoded(self.folder, before + implicit(tag, value), IMPLICIT, EXPLICIT)
        self.assertEqual(new[-len(explicit(tag, vr, value)) :][4:6], vr.encode())
        self.assertTrue(new.endswith(explicit(tag, vr, value)))

    def test_dictionary(self) -> None:
        """It is that of PS3.6."""
        self.gets("PN", 0x00100010, b"Doe^John")
        self.gets("OW", 0x60023000, b"\1\2")
        self.gets("SH", 0x00080094, b"")

    def test_unknown(self) -> None:
        """A standard element that no dictionary has is UN."""
        self.gets("UN", 0x00080003, b"\1\2\3\4")

    def test_signedness(self) -> None:
        """US or SS is chosen by Pixel Representation, wherever that stands."""
        signed, unsigned = (implicit(0x00280103, number(n)) for n in (1, 0))
        self.gets("SS", 0x00280106, b"\xff\xff", signed)
        self.gets("US", 0x00280106, b"\xff\xff", unsigned)
        self.becomes(
            implicit(0x00189810, b"\xff\xff") + signed,
            IMPLICIT,
            explicit(0x00189810, "SS", b"\xff\xff")
            + explicit(0x00280103, "US", b"\1\0"),
            EXPLICIT,
        )

    def test_inheritedSignedness(self) -> None:
        """An item has the Pixel Representation of the data set around it."""
        inner = implicit(0x00409211, b"\xff\xff")
        new = transcoded(
            self.folder,
            implicit(0x00280103, b"\1\0") + implicit(0x00409096, item(inner)),
            IMPLICIT,
            EXPLICIT,
        )
        self.assertIn(b"SS", new)

    def test_pixelData(self) -> None:
        """Pixel Data is OB up to 8 bits, and OW above."""
        self.gets("OB", PIXEL_DATA, b"\1\2", implicit(0x00280100, number(8)))
        self.gets("OW", PIXEL_DATA, b"\1\2", implicit(0x00280100, number(16)))

    def test_waveformData(self) -> None:
        """So is Waveform Data, by Waveform Bits Allocated."""
        for bits, vr in ((8, b"OB"), (16, b"OW")):
            inner = implicit(0x54001004, number(bits)) + implicit(0x54001010, b"abcd")
            new = transcoded(
                self.folder, implicit(0x54000100, item(inner)), IMPLICIT, EXPLICIT
            )
            self.assertEqual(new[-12:-10], vr)

    def test_lutData(self) -> None:
        """LUT Data is OW, which can be of any length."""
        self.gets("OW", 0x00283006, bytes(0x20000))

    def test_private(self) -> None:
        """One of a well known creator gets its VR, any other UN."""
        siemens = implicit(0x00290010, b"SIEMENS CSA HEADER")
        self.gets("CS", 0x00291008, b"IMAGE NUM 4 ", siemens)
        self.gets("UN", 0x00291008, b"IMAGE NUM 4 ")
        self.gets("UN", 0x00291008, b"abcd", implicit(0x00290010, b"NOBODY"))
        self.gets("LO", 0x00290010, b"NOBODY")

    def test_privateOfAnotherLength(self) -> None:
        """A number that its value does not fit is UN."""
        gems = implicit(0x00190010, b"GEMS_ACQU_01")
        self.gets("SL", 0x00191002, b"abcd", gems)
        self.gets("UN", 0x00191002, b"ab", gems)

    def test_long(self) -> None:
        """A value that is too long for its VR's length is UN (PS3.5 6.2.2)."""
        self.gets("UN", 0x00080070, b"ab" * 0x8000)
        self.becomes(
            implicit(0x00281101, b"\1\2" * 0x8000),
            IMPLICIT,
            explicit(0x00281101, "UN", b"\1\2" * 0x8000, order=">"),
            BIG_ENDIAN,
        )


class ByteOrderTests(Case):
    """Big Endian turns numbers around and leaves bytes and text (PS3.5 7.3)."""

    def test_vrs(self) -> None:
        for vr, tag, little, big in (
            ("US", 0x00280010, b"\1\2\3\4", b"\2\1\4\3"),
            ("SS", 0x00189219, b"\1\2", b"\2\1"),
            ("AT", 0x00280009, b"\1\2\3\4", b"\2\1\4\3"),
            ("UL", 0x00081161, b"\1\2\3\4", b"\4\3\2\1"),
            ("SL", 0x00186020, b"\1\2\3\4", b"\4\3\2\1"),
            ("FL", 0x00089459, b"\1\2\3\4", b"\4\3\2\1"),
            ("FD", 0x00081163, b"\1\2\3\4\5\6\7\x08", b"\x08\7\6\5\4\3\2\1"),
            ("OW", 0x60003000, b"\1\2\3\4", b"\2\1\4\3"),
            ("OL", 0x00660040, b"\1\2\3\4", b"\4\3\2\1"),
            ("OF", 0x7FE00008, b"\1\2\3\4", b"\4\3\2\1"),
            ("OD", 0x7FE00009, b"\1\2\3\4\5\6\7\x08", b"\x08\7\6\5\4\3\2\1"),
            ("OV", 0x7FE00001, b"\1\2\3\4\5\6\7\x08", b"\x08\7\6\5\4\3\2\1"),
            ("UV", 0x00080042, b"\1\2\3\4\5\6\7\x08", b"\x08\7\6\5\4\3\2\1"),
            ("OB", 0x00020102, b"\1\2\3\4", b"\1\2\3\4"),
            ("UN", 0x00110001, b"\1\2\3\4", b"\1\2\3\4"),
            ("LO", 0x00080070, b"abcd", b"abcd"),
        ):
            here, there = (
                explicit(tag, vr, little),
                explicit(tag, vr, big, order=">"),
            )
            self.becomes(here, EXPLICIT, there, BIG_ENDIAN)
            self.becomes(there, BIG_ENDIAN, here, EXPLICIT)

    def test_pixelsOfBytes(self) -> None:
        """8 bits in OW are turned around in pairs (PS3.5 8.1.2)."""
        head = header(1, 4)
        new = transcoded(
            self.folder,
            head + explicit(PIXEL_DATA, "OW", b"\1\2\3\4"),
            EXPLICIT,
            BIG_ENDIAN,
        )
        self.assertTrue(new.endswith(b"OW\0\0\0\0\0\4\2\1\4\3"))

    def test_largeValue(self) -> None:
        """What is longer than a piece is turned around as a whole."""
        data = bytes(range(256)) * 12289
        new = transcoded(
            self.folder, explicit(0x60003000, "OW", data), EXPLICIT, BIG_ENDIAN
        )
        expected = bytearray(data)
        expected[::2], expected[1::2] = data[1::2], data[::2]
        self.assertEqual(new[12:], expected)


class SequenceTests(Case):
    """Lengths keep their form, and are right again (PS3.5 7.5)."""

    def test_defined(self) -> None:
        inner = ((0x00080060, "CS", b"CT"), (0x60003000, "OW", b"\1\2"))
        self.becomes(
            explicit(0x00081140, "SQ", item(b"".join(explicit(*e) for e in inner))),
            EXPLICIT,
            implicit(0x00081140, item(b"".join(implicit(t, v) for t, _, v in inner))),
            IMPLICIT,
        )

    def test_undefined(self) -> None:
        self.becomes(
            implicit(
                0x00081140,
                item(implicit(0x00080060, b"CT") + ITEM_END, UNDEFINED) + SEQUENCE_END,
                UNDEFINED,
            ),
            IMPLICIT,
            explicit(
                0x00081140,
                "SQ",
                item(explicit(0x00080060, "CS", b"CT") + ITEM_END, UNDEFINED)
                + SEQUENCE_END,
                UNDEFINED,
            ),
            EXPLICIT,
        )

    def test_empty(self) -> None:
        for length, end in ((0, b""), (UNDEFINED, SEQUENCE_END)):
            self.becomes(
                implicit(0x00081140, end, length),
                IMPLICIT,
                explicit(0x00081140, "SQ", end, length),
                EXPLICIT,
            )
        self.becomes(
            implicit(0x00081140, item(b"")),
            IMPLICIT,
            explicit(0x00081140, "SQ", item(b"")),
            EXPLICIT,
        )

    def test_unknown(self) -> None:
        """
        UN of undefined length is a sequence in Implicit VR Little Endian,
        whatever is around it (PS3.5 6.2.2 Note 4).
        """
        inner = implicit(0x00280010, b"\1\2")
        self.becomes(
            explicit(
                0x00091001,
                "UN",
                item(inner + ITEM_END, UNDEFINED) + SEQUENCE_END,
                UNDEFINED,
            ),
            EXPLICIT,
            explicit(
                0x00091001,
                "SQ",
                item(
                    explicit(0x00280010, "US", b"\2\1", order=">")
                    + b"\xff\xfe\xe0\x0d\0\0\0\0",
                    UNDEFINED,
                    order=">",
                )
                + b"\xff\xfe\xe0\xdd\0\0\0\0",
                UNDEFINED,
                order=">",
            ),
            BIG_ENDIAN,
        )

    def test_broken(self) -> None:
        """What does not fit into what is around it is refused."""
        inner = explicit(0x00080060, "CS", b"CT")
        sequence = explicit(0x00081140, "SQ", item(inner, 12))
        self.fails(sequence, EXPLICIT, "too long|longer")
        self.fails(
            explicit(0x00081140, "SQ", item(explicit(0x00080060, "CS", b"", 9))),
            EXPLICIT,
            "longer than its place",
            IMPLICIT,
        )
        self.fails(
            explicit(0x00081140, "SQ", inner), EXPLICIT, "more than items", IMPLICIT
        )
        self.fails(
            explicit(0x00081140, "SQ", item(inner, UNDEFINED)),
            EXPLICIT,
            "without its end",
            IMPLICIT,
        )
        self.fails(
            explicit(0x00081140, "SQ", item(b"")[:-2], UNDEFINED),
            EXPLICIT,
            "truncated",
            IMPLICIT,
        )

    def test_deep(self) -> None:
        """A data set that nests without end is refused."""
        data = implicit(0x00081140, item(b"", UNDEFINED), UNDEFINED) * 5000
        self.fails(data, IMPLICIT, "nested too deep")


class ValueTests(Case):
    """What happens to values as a whole."""

    def test_groupLengths(self) -> None:
        """Group lengths go, also in items: they are retired (PS3.5 7.2)."""
        self.becomes(
            implicit(0x00080000, b"\1\2\3\4")
            + implicit(0x00080001, b"\1\2\3\4")
            + implicit(0x00081140, item(implicit(0x00080000, b"\1\2\3\4"))),
            IMPLICIT,
            explicit(0x00081140, "SQ", item(b"")),
            EXPLICIT,
        )

    def test_oddLengths(self) -> None:
        """A value of odd length is padded (PS3.5 7.1.1)."""
        self.becomes(
            explicit(0x00080018, "UI", b"1.2")
            + explicit(0x00100010, "PN", b"abc")
            + explicit(0x00110001, "UN", b"\1"),
            EXPLICIT,
            implicit(0x00080018, b"1.2\0")
            + implicit(0x00100010, b"abc ")
            + implicit(0x00110001, b"\1\0"),
            IMPLICIT,
        )

    def test_text(self) -> None:
        """Text and its Specific Character Set stay as they are."""
        name = "Müller^Jörg ".encode("latin-1")
        self.becomes(
            explicit(0x00080005, "CS", b"ISO_IR 100") + explicit(0x100010, "PN", name),
            EXPLICIT,
            implicit(0x00080005, b"ISO_IR 100") + implicit(0x00100010, name),
            IMPLICIT,
        )

    def test_futureVR(self) -> None:
        """A VR that is not known is read as UN (PS3.5 6.2.2)."""
        data = b"\x11\0\x01\0ZZ\0\0\4\0\0\0abcd"
        self.becomes(data, EXPLICIT, implicit(0x00110001, b"abcd"), IMPLICIT)

    def test_truncated(self) -> None:
        whole = explicit(0x00100010, "PN", b"abcdef") + explicit(
            0x7FE00010, "OW", b"\1\2\3\4"
        )
        for length in range(1, len(whole)):
            if length != 14:
                with self.assertRaises(TranscodingError):
                    transcoded(self.folder, whole[:length], EXPLICIT, IMPLICIT)

    def test_encapsulatedWithoutReason(self) -> None:
        """Undefined length is for sequences and for Pixel Data only."""
        self.fails(
            explicit(0x00420011, "OB", item(b"ab") + SEQUENCE_END, UNDEFINED),
            EXPLICIT,
            "0042,0011. is encapsulated",
            IMPLICIT,
        )
        self.fails(
            header(1, 2)
            + explicit(0x7FE00010, "OB", item(b"") + SEQUENCE_END, UNDEFINED),
            EXPLICIT,
            "against its transfer syntax",
            IMPLICIT,
        )

    def test_noSuchWay(self) -> None:
        self.fails(b"", "1.2.840.10008.1.2.4.100", "cannot become")
        self.fails(b"", EXPLICIT, "cannot become", BASELINE)


class DeflatedTests(Case):
    """Deflated Explicit VR Little Endian (PS3.5 A.5)."""

    data = explicit(0x00100010, "PN", b"Doe^John") + explicit(
        0x60003000, "OW", bytes(5_000_000)
    )

    def deflated(self) -> bytes:
        deflater = zlib.compressobj(wbits=-15)
        return deflater.compress(self.data) + deflater.flush()

    def test_inflated(self) -> None:
        self.becomes(self.deflated(), DEFLATED, self.data, EXPLICIT)
        self.becomes(self.deflated() + b"\0", DEFLATED, self.data, EXPLICIT)

    def test_broken(self) -> None:
        self.fails(self.deflated()[:-3], DEFLATED, "deflated data is truncated")
        self.fails(b"\xff\xff", DEFLATED, "deflated data is broken")

    def test_bomb(self) -> None:
        """It is given up when it becomes too large."""
        self.patch(conversion, "_LARGEST_INFLATED", 1_000_000)
        self.fails(self.deflated(), DEFLATED, "too large")

    def test_outOfProportion(self) -> None:
        """So is one that is large, and was next to nothing before."""
        self.patch(conversion, "_LARGE_INFLATED", 1_000_000)
        self.fails(self.deflated(), DEFLATED, "too large")
        self.patch(conversion, "_MOST_TIMES", 10_000)
        self.becomes(self.deflated(), DEFLATED, self.data, EXPLICIT)


#: Files that nobody can read to their end.
UNREADABLE = {"DICOMDIR-nooffset", "MR_truncated.dcm", "rtplan_truncated.dcm"}

#: Where we and DCMTK choose another VR for Pixel Data, and both may (PS3.5
#: A.2), or where the file has OB for 16 bits, which it may not.
OTHER_PIXEL_VR = {
    "SC_rgb_16bit.dcm",
    "SC_rgb_16bit_2frame.dcm",
    "SC_rgb_32bit.dcm",
    "SC_rgb_32bit_2frame.dcm",
    "SC_rgb_jpeg_dcmd.dcm",
}

#: A private sequence, of which DCMTK knows that it is one only when it reads it
#: with an explicit VR, and makes its length undefined then.
OTHER_LENGTHS = {"OBXXXX1A_expb.dcm", "OBXXXX1A_expb_2frame.dcm"}


class RealFilesTests(Case):
    """What DCMTK's dcmconv makes of the same files."""

    def normal(self, path: Path, option: str) -> bytes | None:
        """A file's data set by dcmconv, with its form of lengths."""
        output = self.folder / "dcmconv"
        if not run("dcmconv", "-g", "-e", option, path, output):
            return None
        file = stored(output)
        return output.read_bytes()[file.offset :]

    def compare(self, target: str, option: str) -> None:
        self.folder.mkdir()
        equal, unreadable, differing = 0, set(), set()
        for file in storedFiles():
            name = file.path.name
            if file.transferSyntax not in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED):
                continue
            try:
                ours = converted(file, target, self.folder / "ours")
            except TranscodingError:
                unreadable.add(name)
                continue
            (self.folder / "file").write_bytes(part10(ours, target))
            theirs = self.normal(file.path, option)
            if self.normal(self.folder / "file", option) == theirs:
                equal += 1
            else:
                differing.add(name)
        self.assertEqual(unreadable, UNREADABLE)
        self.assertLessEqual(differing, OTHER_PIXEL_VR | OTHER_LENGTHS)
        self.assertGreater(equal, 100)

    def test_implicit(self) -> None:
        self.compare(IMPLICIT, "+ti")

    def test_explicit(self) -> None:
        self.compare(EXPLICIT, "+te")

    def test_bigEndian(self) -> None:
        self.compare(BIG_ENDIAN, "+tb")
