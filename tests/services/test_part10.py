"""Part 10 files (PS3.10 chapter 7), and text and records from headers."""

from __future__ import annotations

from io import BytesIO

import pydicom.data
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from twisted.trial.unittest import SynchronousTestCase

from d360.services.header import HeaderError
from d360.services.part10 import Head, encodeHead, readHead
from d360.services.records import MAX_INDEXED_LENGTH, readHeader
from d360.services.text import decodeText, encodingsOf
from d360.services.uids import isUID
from tests.services.datasets import CT, EXPLICIT, encode, instance

UID = st.from_regex(r"\A[1-9][0-9]{0,8}(\.[1-9][0-9]{0,5}){0,7}\Z")
AE_TITLE = st.from_regex(r"\A[A-Z0-9_]([A-Z0-9_ ]{0,14}[A-Z0-9_])?\Z")


class HeadTests(SynchronousTestCase):
    """File Meta Information (PS3.10 Table 7.1-1)."""

    @settings(max_examples=60, deadline=None)
    @given(UID, UID, AE_TITLE, AE_TITLE)
    def test_pydicomReadsIt(self, sopClass, sopInstance, calling, called) -> None:
        head = encodeHead(sopClass, sopInstance, EXPLICIT, calling, called)
        body = encode(instance())
        dataset = dcmread(BytesIO(head + body))
        meta = dataset.file_meta
        self.assertEqual(bytes(128) + b"DICM", head[:132])
        self.assertEqual(len(head) - 132 - 12, meta.FileMetaInformationGroupLength)
        self.assertEqual(b"\0\1", meta.FileMetaInformationVersion)
        self.assertEqual(sopClass, meta.MediaStorageSOPClassUID)
        self.assertEqual(sopInstance, meta.MediaStorageSOPInstanceUID)
        self.assertEqual(EXPLICIT, meta.TransferSyntaxUID)
        self.assertEqual("1.3.6.1.4.1.35672.0.3.6", meta.ImplementationClassUID)
        self.assertEqual("D360-3-6", meta.ImplementationVersionName)
        self.assertEqual(calling, meta.SourceApplicationEntityTitle)
        self.assertEqual(calling, meta.SendingApplicationEntityTitle)
        self.assertEqual(called, meta.ReceivingApplicationEntityTitle)
        self.assertEqual("Rossi^Anna", dataset.PatientName)
        file = BytesIO(head + body)
        self.assertEqual(
            Head(EXPLICIT, len(head), sopClass, sopInstance, calling, called),
            readHead(file),
        )
        self.assertEqual(body, file.read())

    def test_noPart10(self) -> None:
        head = encodeHead(CT, "1.2", EXPLICIT, "A", "B")
        for data in (b"", head[:100], head[:150], b"x" * 500, head[:132] + bytes(80)):
            self.assertRaises(HeaderError, readHead, BytesIO(data))

    def test_notASCII(self) -> None:
        self.assertRaises(ValueError, encodeHead, CT, "1.2", EXPLICIT, "Ä", "B")


class UIDTests(SynchronousTestCase):
    """PS3.5 9.1."""

    def test_valid(self) -> None:
        for uid in ("1", "1.2.3", "1.02.3", "1" * 64):
            self.assertTrue(isUID(uid), uid)
        for uid in ("", ".", "1.", ".1", "1..2", "1.a", "../../etc/passwd", "1" * 65):
            self.assertFalse(isUID(uid), uid)
        self.assertFalse(isUID("1.2\n"))
        self.assertFalse(isUID("١.٢"))


class RecordTests(SynchronousTestCase):
    """The index keeps names as Unicode, and identities that are valid."""

    VALUES = {0x0020000D: b"1.2.3\0", 0x0020000E: b"1.2.3.4 ", 0x00080018: b"1.2.03"}

    def test_identity(self) -> None:
        header = readHeader(self.VALUES)
        self.assertEqual("1.2.3", header.StudyInstanceUID)
        self.assertEqual("1.2.3.4", header.SeriesInstanceUID)
        self.assertEqual("1.2.03", header.SOPInstanceUID)
        self.assertEqual(({}, ""), (header.texts, header.SOPClassUID))

    def test_missing(self) -> None:
        for tag in self.VALUES:
            for bad in (b"", b"../../etc/passwd", b"1..2", b"\xff", b"1.2\\1.3"):
                with self.assertRaises(HeaderError) as raised:
                    readHeader({**self.VALUES, tag: bad})
                self.assertNotIn("passwd", str(raised.exception))

    def test_texts(self) -> None:
        values = {
            **self.VALUES,
            0x00080005: b"ISO_IR 100",
            0x00100010: "Müller^Jörg ".encode("latin-1"),
            0x00100020: b" P1 \0",
            0x00081030: b"x" * 5000,
            0x00080060: b"   ",
        }
        header = readHeader(values)
        self.assertEqual(
            {
                "PatientName": "Müller^Jörg",
                "PatientID": "P1",
                "StudyDescription": "x" * MAX_INDEXED_LENGTH,
            },
            header.texts,
        )


class TextTests(SynchronousTestCase):
    """Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1)."""

    def test_pydicomsExamples(self) -> None:
        """The names of PS3.5 Annexes H to K, as pydicom reads them."""
        for name in (
            "chrArab.dcm",
            "chrFren.dcm",
            "chrFrenMulti.dcm",
            "chrGerm.dcm",
            "chrGreek.dcm",
            "chrH31.dcm",
            "chrH32.dcm",
            "chrHbrw.dcm",
            "chrI2.dcm",
            "chrKoreanMulti.dcm",
            "chrRuss.dcm",
            "chrX1.dcm",
            "chrX2.dcm",
        ):
            dataset = dcmread(pydicom.data.get_charset_files(name)[0])
            element = dataset.get_item("PatientName")
            terms = dataset.SpecificCharacterSet
            declared = terms if isinstance(terms, str) else "\\".join(terms)
            found = decodeText(element.value, encodingsOf(declared), True)
            expected = str(dataset.PatientName).strip()
            self.assertEqual(expected, found.rstrip("="), name)

    def test_escapeInsideGroups(self) -> None:
        """PS3.5 H.3.2, bytes that look like delimiters inside a kanji."""
        value = b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
        encodings = encodingsOf("ISO 2022 IR 13\\ISO 2022 IR 87")
        self.assertEqual("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", decodeText(value, encodings, True))
        haru = b"=\x1b$B=U\x1b(B"
        self.assertEqual("=春", decodeText(haru, encodingsOf("\\ISO 2022 IR 87"), True))

    def test_fallbacks(self) -> None:
        """Never an exception, never a question mark."""
        latin, unicode = "Müller".encode("latin-1"), "Müller".encode()
        for characterSet in ("", "ISO_IR 192", "no such set", "hex", "\\", "ISO_IR 6"):
            text = decodeText(latin, encodingsOf(characterSet))
            self.assertEqual("Müller", text, characterSet)
        for characterSet in ("", "ISO_IR 192", "no such set", "UTF-8", "ISO IR 192"):
            text = decodeText(unicode, encodingsOf(characterSet))
            self.assertEqual("Müller", text, characterSet)
        self.assertEqual("Müller", decodeText(latin, encodingsOf("ISO-IR 100")))

    @settings(max_examples=200, deadline=None)
    @given(
        st.binary(max_size=40),
        st.sampled_from(
            ["", "ISO_IR 100", "GB18030", "\\ISO 2022 IR 87", "ISO 2022 IR 149\\x", "?"]
        ),
    )
    def test_anything(self, value: bytes, characterSet: str) -> None:
        text = decodeText(value, encodingsOf(characterSet), True)
        self.assertNotIn("\0", text)
        self.assertEqual(text.strip(), text)
        text.encode("utf-8")
