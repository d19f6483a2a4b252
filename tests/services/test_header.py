"""Reading the header of a data set while it streams by."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib
from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from twisted.trial.unittest import SynchronousTestCase

from d360.services import header
from d360.services.header import WANTED, HeaderError, HeaderScanner
from d360.services.part10 import readHead
from tests.services.datasets import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    encode,
    instance,
    part10Files,
)


def scan(data: bytes, transferSyntax: str, pieceLength: int = 0) -> HeaderScanner:
    """Through the scanner in pieces, without its end."""
    scanner = HeaderScanner(transferSyntax)
    step = pieceLength or max(len(data), 1)
    for start in range(0, len(data), step):
        scanner.write(memoryview(data)[start : start + step])
        if scanner._resting:
            break
    return scanner


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One in Explicit VR Little Endian."""
    length = len(value) if length is None else length
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"SQ", b"UN", b"OB", b"OW", b"UT"):
        return start + struct.pack("<HL", 0, length) + value
    return start + struct.pack("<H", length) + value


UIDS = element(0x00080018, b"UI", b"1.2.3.4.") + element(0x0020000D, b"UI", b"1.2\0")


class PydicomTests(SynchronousTestCase):
    """The same values as pydicom reads, from each of its test files."""

    def expected(self, data: bytes) -> dict[int, bytes]:
        dataset = dcmread(
            BytesIO(data), specific_tags=sorted(WANTED), stop_before_pixels=True
        )
        found = {}
        for tag in WANTED:
            if tag in dataset:
                value = dataset.get_item(tag).value
                if isinstance(value, bytes) or value is None:
                    found[tag] = value or b""
        return found

    def test_everyFile(self) -> None:
        """In pieces of 1, of 7, and whole."""
        self.patch(config.settings, "reading_validation_mode", config.IGNORE)
        count = 0
        for path in part10Files():
            if path.name.startswith("DICOMDIR") or path.suffix == ".tgz":
                continue
            data = path.read_bytes()
            file = BytesIO(data)
            try:
                head = readHead(file)
            except HeaderError:
                continue
            body = data[head.dataSetOffset :][: 300 * 1024]
            whole = scan(body, head.transferSyntax)
            expected = self.expected(data)
            found = {tag: whole.values.get(tag) for tag in expected}
            self.assertEqual(expected, found, path)
            body = body[:12000]
            whole = scan(body, head.transferSyntax)
            for length in (1, 7):
                pieces = scan(body, head.transferSyntax, length)
                self.assertEqual(whole.values, pieces.values, path)
                self.assertEqual(whole.error, pieces.error, path)
            count += 1
        self.assertGreater(count, 80)

    def test_wholeFilesAreAccepted(self) -> None:
        """A good file is never refused, whatever is beyond its header."""
        refused = []
        for path in part10Files():
            with path.open("rb") as file:
                try:
                    head = readHead(file)
                except HeaderError:
                    continue
                scanner = HeaderScanner(head.transferSyntax)
                while piece := file.read(65536):
                    scanner.write(piece)
            try:
                scanner.finish()
            except HeaderError as error:
                refused.append((path.name, str(error)))
        self.assertEqual(
            {"MR_truncated.dcm", "rtplan_truncated.dcm"},
            {name for name, error in refused},
            refused,
        )


ELEMENTS = st.fixed_dictionaries(
    {},
    optional={
        "PatientName": st.sampled_from(["Rossi^Anna", "", "A^B^C"]),
        "PatientID": st.text("ABC123", max_size=64),
        "StudyDate": st.sampled_from(["20240102", ""]),
        "SeriesNumber": st.sampled_from(["1", "12", ""]),
        "AccessionNumber": st.text("ABC123", max_size=16),
        "ImageComments": st.text("abc", max_size=300),
    },
)


class PieceTests(SynchronousTestCase):
    """However the data set is cut, it is the same."""

    @settings(max_examples=60, deadline=None)
    @given(
        ELEMENTS,
        st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]),
        st.integers(1, 300),
        st.booleans(),
    )
    def test_pieces(
        self, elements: dict, transferSyntax: str, length: int, undefined: bool
    ) -> None:
        dataset = instance(**elements)
        item = Dataset()
        item.PatientID = "not this one"
        item.ReferencedSOPInstanceUID = "1.2"
        inner = Dataset()
        inner.StudyInstanceUID = "9.9"
        item.PurposeOfReferenceCodeSequence = Sequence([inner])
        dataset.ReferencedStudySequence = Sequence([item, Dataset()])
        if undefined:
            dataset["ReferencedStudySequence"].is_undefined_length = True
            item.is_undefined_length_sequence_item = True
            item["PurposeOfReferenceCodeSequence"].is_undefined_length = True
        data = encode(
            dataset, EXPLICIT if transferSyntax == DEFLATED else transferSyntax
        )
        if transferSyntax == DEFLATED:
            deflater = zlib.compressobj(wbits=-15)
            data = deflater.compress(data) + deflater.flush()
        scanner = scan(data, transferSyntax, length)
        scanner.finish()
        self.assertEqual(b"1.2.3\0", scanner.values[0x0020000D])
        padded = elements.get("PatientID", "P1").encode()
        padded += b" " * (len(padded) % 2)
        self.assertEqual(padded, scanner.values[0x00100020])

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=400), st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED]))
    def test_anything(self, data: bytes, transferSyntax: str) -> None:
        """Any bytes at all raise nothing but L{HeaderError}."""
        one, all_ = scan(data, transferSyntax, 1), scan(data, transferSyntax)
        self.assertEqual(one.values, all_.values)
        for scanner in (one, all_):
            with contextlib.suppress(HeaderError):
                scanner.finish()


class ToleranceTests(SynchronousTestCase):
    """What senders do, and what is kept as it came (PS3.5 7.1, 6.2.2)."""

    def values(self, data: bytes) -> dict[int, bytes]:
        scanner = scan(data, EXPLICIT)
        scanner.finish()
        for length in (1, 7):
            pieces = scan(data, EXPLICIT, length)
            pieces.finish()
            self.assertEqual(scanner.values, pieces.values)
        return scanner.values

    def test_groupLengthsAndPrivate(self) -> None:
        data = element(0x00080000, b"UL", b"\1\0\0\0") + element(
            0x00090010, b"LO", b"ACME"
        )
        data += element(0x00091001, b"UN", b"x" * 7)
        self.assertEqual(b"1.2.3.4.", self.values(data + UIDS)[0x00080018])

    def test_UNOfUndefinedLength(self) -> None:
        """Its content is in Implicit VR Little Endian (PS3.5 6.2.2)."""
        inner = struct.pack("<HHL", 0x0010, 0x0020, 2) + b"no"
        data = element(0x00091002, b"UN", b"", 0xFFFFFFFF)
        data += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner
        data += struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        data += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        data += element(0x00100020, b"LO", b"P1") + element(0x0020000D, b"UI", b"1.2\0")
        self.assertEqual(b"P1", self.values(data)[0x00100020])

    def test_wrongVRs(self) -> None:
        """A VR that is not the attribute's, one that is none, implicit VR."""
        data = element(0x00080060, b"UN", b"CT") + element(0x00080070, b"ZZ", b"ab")
        data += struct.pack("<HHL", 0x0010, 0x0020, 2) + b"P1"
        data += element(0x0020000D, b"UI", b"1.2\0")
        values = self.values(data)
        self.assertEqual((b"CT", b"P1"), (values[0x00080060], values[0x00100020]))

    def test_outOfOrder(self) -> None:
        data = element(0x0020000D, b"UI", b"1.2\0") + element(0x00100020, b"LO", b"P1")
        self.assertEqual(b"P1", self.values(data)[0x00100020])

    def test_longValues(self) -> None:
        """Are skipped, and hold no memory."""
        data = element(0x00081030, b"UT", b"x" * 20000) + UIDS
        self.assertNotIn(0x00081030, self.values(data))

    def test_oddAfterTheHeader(self) -> None:
        """Ends the following quietly: bytes are sacred."""
        pixels = element(0x7FE00010, b"OW", bytes(64))
        for odd in (
            element(0x00280010, b"U\0", b"", 2),
            b"\xff" * 50,
            element(0x00280010, b"US", b"\1\0") + element(0x00100020, b"LO", b"", 99),
            element(0x00280010, b"US", b"\1\0") + element(0x00280002, b"US", b"", 9),
            element(0x00281101, b"SQ", b"", 0xFFFFFFFF) + b"nonsense" * 4,
            pixels + b"\0" * 33,
            pixels + element(0xFFFCFFFC, b"OB", b"", 5000),
            pixels + b"\x01\x80\x10\x00LO\xff\xff",
        ):
            self.values(UIDS + odd)

    def test_openSequence(self) -> None:
        """Pixel data whose delimiter is missing."""
        data = UIDS + element(0x7FE00010, b"OB", b"", 0xFFFFFFFF)
        data += struct.pack("<HHL", 0xFFFE, 0xE000, 0)
        self.values(data + struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"abcd")


class TruncationTests(SynchronousTestCase):
    """A data set whose end is missing is refused (PS3.4 B.2.3, C000)."""

    def assertTruncated(self, data: bytes, transferSyntax: str = EXPLICIT) -> None:
        for length in (1, 7, 0):
            scanner = scan(data, transferSyntax, length)
            self.assertRaises(HeaderError, scanner.finish)

    def test_inPixelData(self) -> None:
        for transferSyntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
            data = encode(instance(), transferSyntax)
            self.assertTruncated(data[:-1], transferSyntax)
            self.assertTruncated(data[:-300], transferSyntax)

    def test_inHeader(self) -> None:
        data = encode(instance())
        for length in (3, 9, 30):
            self.assertTruncated(data[:length])

    def test_inFragment(self) -> None:
        data = UIDS + element(0x7FE00010, b"OB", b"", 0xFFFFFFFF)
        data += struct.pack("<HHL", 0xFFFE, 0xE000, 0)
        self.assertTruncated(data + struct.pack("<HHL", 0xFFFE, 0xE000, 40) + b"abcd")

    def test_deflated(self) -> None:
        deflater = zlib.compressobj(wbits=-15)
        data = deflater.compress(UIDS) + deflater.flush()
        self.assertTruncated(data[:10], DEFLATED)
        self.assertTruncated(b"\xff" * 20, DEFLATED)


class BoundTests(SynchronousTestCase):
    """Nothing that the peer sizes is unbounded."""

    def test_depth(self) -> None:
        data = element(0x00081111, b"SQ", b"", 0xFFFFFFFF) + struct.pack(
            "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
        )
        scanner = scan(data * 1000 + UIDS, EXPLICIT)
        self.assertIn("nested too deeply", scanner.error)
        self.assertRaises(HeaderError, scanner.finish)

    def test_deflateBomb(self) -> None:
        """
        Of a header that inflates without end, only so much is inflated, and only
        a little of that at a time.
        """
        self.patch(header, "MAX_INFLATED", 1024 * 1024)
        deflater = zlib.compressobj(9, wbits=-15)
        data = element(0x00091001, b"UN", b"", 0x40000000)
        data = deflater.compress(data + bytes(16 * 1024 * 1024)) + deflater.flush()
        scanner = HeaderScanner(DEFLATED)
        scanner.write(data)
        steps = 0
        while scanner.isBehind:
            self.assertLessEqual(scanner._inflated, (steps + 1) * header.INFLATE_STEP)
            scanner.goOn()
            steps += 1
        self.assertIn("too long", scanner.error)
        self.assertEqual(steps, 1024 * 1024 // header.INFLATE_STEP)
        self.assertLess(scanner._inflated, 2 * 1024 * 1024)

    def test_deflatedPixelsAreLeft(self) -> None:
        """What is not looked at is not inflated."""
        deflater = zlib.compressobj(9, wbits=-15)
        pixels = element(0x7FE00010, b"OW", bytes(16 * 1024 * 1024))
        data = deflater.compress(UIDS + pixels) + deflater.flush()
        scanner = scan(data, DEFLATED)
        scanner.finish()
        self.assertLessEqual(scanner._inflated, header.INFLATE_STEP)

    def test_constantMemory(self) -> None:
        """A gigabyte goes by."""
        scanner = HeaderScanner(EXPLICIT)
        scanner.write(UIDS + element(0x00090001, b"OB", b"", 2**30))
        piece = memoryview(bytes(2**20))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(2**10):  # no copying, so this is quick
            scanner.write(piece)
        self.assertLess(tracemalloc.get_traced_memory()[1], 100000)
        scanner.write(element(0x00100020, b"LO", b"P1"))
        scanner.finish()
        self.assertEqual(b"P1", scanner.values[0x00100020])
