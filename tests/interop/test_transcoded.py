"""
Receivers that do not take what is stored (conformance 6.2): it arrives
decompressed or encoded otherwise, and what is kept stays as it is.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy
from pydicom import dcmread
from pydicom.encaps import encapsulate

from tests.interop.files import makeCT
from tests.interop.receivers import (
    Receiver,
    StoreSCP,
    keys,
    readRetrieved,
    received,
)
from tests.interop.running import dcmtk
from tests.interop.test_get import GetCase
from tests.interop.test_realfiles import RealFile, dataSetOf, storageFiles
from tests.interop.wire import CT, EXPLICIT, IMPLICIT

MPEG2 = "1.2.840.10008.1.2.4.100"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"

#: DCMTK's decoders, by what they read.
DECODERS = {
    "1.2.840.10008.1.2": "dcmconv",
    "1.2.840.10008.1.2.2": "dcmconv",
    "1.2.840.10008.1.2.1.99": "dcmconv",
    "1.2.840.10008.1.2.4.50": "dcmdjpeg",
    "1.2.840.10008.1.2.4.70": "dcmdjpeg",
    "1.2.840.10008.1.2.4.80": "dcmdjpls",
    "1.2.840.10008.1.2.5": "dcmdrle",
}

#: Files whose frames differ by rounding from decoder to decoder.
LOSSY = {"1.2.840.10008.1.2.4.50"}


class TranscodedTests(GetCase):
    """As DCMTK's decoders have it, and pydicom reads it."""

    def files(self) -> dict[str, RealFile]:
        """One stored file for each transfer syntax that DCMTK decodes."""
        found: dict[str, RealFile] = {}
        for file in storageFiles():
            if not file.study or file.transferSyntax not in DECODERS:
                continue
            if file.path.name in ("bad_sequence.dcm", "SC_rgb_jpeg.dcm"):
                continue
            # Some have one SOP Instance UID in several transfer syntaxes.
            isKnown = file.instance in {other.instance for other in found.values()}
            if not isKnown and "PixelData" in dcmread(file.path):
                found.setdefault(file.transferSyntax, file)
        self.assertEqual(found.keys(), DECODERS.keys())
        return found

    def decoded(self, file: RealFile) -> Any:
        """What DCMTK makes of it."""
        path = Path(self.mktemp()).absolute()
        program = DECODERS[file.transferSyntax]
        options = ["+te"] if program == "dcmconv" else []
        command = [dcmtk(program), *options, str(file.path), str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return dcmread(path)

    def assertSame(self, got: Any, file: RealFile) -> None:
        """The same pixels, and the same of all else that they do not say."""
        expected = self.decoded(file)
        one, other = got.pixel_array.astype(int), expected.pixel_array.astype(int)
        self.assertEqual(one.shape, other.shape, file.path)
        if file.transferSyntax in LOSSY:
            self.assertEqual(got.LossyImageCompression, "01")
            self.assertLess(float(numpy.abs(one - other).mean()), 2, file.path)
        else:
            self.assertTrue(numpy.array_equal(one, other), file.path)
        for keyword in (
            *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns"),
            *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
            *("SamplesPerPixel", "NumberOfFrames", "InstanceNumber"),
        ):
            self.assertEqual(got.get(keyword), expected.get(keyword), file.path)
        self.assertEqual(got.SOPInstanceUID, file.instance)

    def test_move(self) -> None:
        """
        storescp that takes Implicit VR Little Endian only, and a receiver that
        takes Explicit VR Little Endian only.
        """
        files = self.files()
        for file in files.values():
            self.store(file.path)
        kept = {f.instance: self.kept(f.instance).read_bytes() for f in files.values()}
        identifier = keys("IMAGE", SOPInstanceUID=[f.instance for f in files.values()])
        implicit = StoreSCP(self, "+xi")
        explicit = Receiver(
            self, accept=lambda abstract, tried: EXPLICIT if EXPLICIT in tried else None
        )
        self.register("IMPLICIT", implicit.port)
        self.register("EXPLICIT", explicit.port)
        count = len(files)
        for title in ("IMPLICIT", "EXPLICIT"):
            (*_, final) = self.move(title, identifier, count)
            self.assertEqual(
                (final.status, final.counts), (0, (None, count, 0, 0)), self.logged()
            )
        arrived = implicit.files()
        self.assertEqual(len(explicit.stored), count)
        for file in files.values():
            dataset = dcmread(arrived[file.instance])
            self.assertEqual(dataset.file_meta.TransferSyntaxUID, IMPLICIT)
            self.assertSame(dataset, file)
            (stored,) = (s for s in explicit.stored if s.instance == file.instance)
            self.assertEqual(stored.transferSyntax, EXPLICIT)
            path = Path(self.mktemp()).absolute()
            head = arrived[file.instance].read_bytes()
            end = 144 + int.from_bytes(head[140:144], "little")
            meta = head[:end].replace(
                b"\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0",
                b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0",
            )
            length = (end - 144 + 2).to_bytes(4, "little")
            path.write_bytes(meta[:140] + length + meta[144:] + stored.data)
            self.assertSame(dcmread(path), file)
        for uid, data in kept.items():
            self.assertEqual(self.kept(uid).read_bytes(), data)
        self.assertEqual(self.leftOver(), [])

    def leftOver(self) -> list[str]:
        """What transcoding has left in its folder."""
        folder = self.server.folder / "data" / "transcoding"
        return sorted(path.name for path in folder.rglob("*") if path.is_file())

    def test_get(self) -> None:
        """getscu that proposes uncompressed transfer syntaxes only."""
        files = self.files()
        for file in files.values():
            self.store(file.path)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        uids = "\\".join(file.instance for file in files.values())
        # With this option, DCMTK 3.6.7 proposes Explicit VR Little Endian.
        answer = self.client(
            "getscu",
            "-S",
            *("-od", str(folder), "+B", "+xi"),
            *("-k", "QueryRetrieveLevel=IMAGE", "-k", f"SOPInstanceUID={uids}"),
        )
        responses = readRetrieved(answer.output)
        self.check(responses, len(files))
        self.assertEqual(responses[-1].status, 0, self.logged())
        arrived = received(folder)
        for file in files.values():
            dataset = dcmread(arrived[file.instance])
            self.assertEqual(dataset.file_meta.TransferSyntaxUID, EXPLICIT)
            self.assertSame(dataset, file)

    def test_failsAlone(self) -> None:
        """MPEG-2, and a JPEG image that is damaged, though kept as it came."""
        folder = Path(self.mktemp()).absolute()
        paths = makeCT(folder, 5)
        files = {}
        for number, path in enumerate(paths):
            dataset = dcmread(path)
            syntax = {1: MPEG2, 3: JPEG_LOSSLESS}.get(number)
            if syntax:
                dataset.PixelData = encapsulate([b"\xff\xd8 no image" * 100])
                dataset["PixelData"].VR = "OB"
                dataset["PixelData"].is_undefined_length = True
                dataset.file_meta.TransferSyntaxUID = syntax
                dataset.save_as(path, implicit_vr=False, little_endian=True)
            files[str(dataset.SOPInstanceUID)] = path
        self.store(*paths)
        study = str(dataset.StudyInstanceUID)
        uids = list(files)
        receiver = Receiver(
            self, accept=lambda abstract, tried: EXPLICIT if EXPLICIT in tried else None
        )
        self.register("EXPLICIT", receiver.port)
        before = self.openFiles()
        identifier = keys("STUDY", StudyInstanceUID=study)
        (*_, final) = self.move("EXPLICIT", identifier, 5)
        self.assertEqual((final.status, final.counts), (0xB000, (None, 3, 2, 0)))
        self.assertEqual(final.failedUIDs, (uids[1], uids[3]))
        self.assertEqual(
            [s.instance for s in receiver.stored], [uids[0], uids[2], uids[4]]
        )
        final, _ = self.get(identifier, [(CT, EXPLICIT)], 5)
        self.assertEqual((final.status, final.counts), (0xB000, (None, 3, 2, 0)))
        self.assertEqual(final.failedUIDs, (uids[1], uids[3]))
        # A receiver that takes them gets them as they are.
        anything = Receiver(self)
        self.register("ANYTHING", anything.port)
        (*_, final) = self.move("ANYTHING", identifier, 5)
        self.assertEqual(final.status, 0)
        for stored in anything.stored:
            self.assertEqual(stored.data, dataSetOf(files[stored.instance]))
        # A child or two may have been started meanwhile, with two pipes each.
        self.assertNoneLeft(before + 8)
        self.assertEqual(self.leftOver(), [])

    def test_mixedPreference(self) -> None:
        """Whoever takes what is stored besides others gets that."""
        study, files = self.makeStudy(2)
        receiver = Receiver(self, accept=lambda abstract, tried: tried[-1])
        self.register("BOTH", receiver.port)
        (*_, final) = self.move("BOTH", keys("STUDY", StudyInstanceUID=study), 2)
        self.assertEqual(final.status, 0)
        for stored in receiver.stored:
            self.assertEqual(stored.transferSyntax, EXPLICIT)
            self.assertEqual(stored.data, dataSetOf(files[stored.instance]))
