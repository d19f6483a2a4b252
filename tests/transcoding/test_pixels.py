"""Compressed pixels in uncompressed transfer syntaxes, and in JPEG Lossless SV1."""

from __future__ import annotations

import resource
from pathlib import Path
from struct import pack
from typing import Any

import imagecodecs
import numpy
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import TranscodingError
from d360.transcoding.syntaxes import SOURCES, TARGETS, Codec, targetsOf
from tests.transcoding.building import (
    BASELINE,
    BIG_ENDIAN,
    EXPLICIT,
    HTJ2K,
    IMPLICIT,
    JPEG_2000,
    JPEG_LS,
    LOSSLESS,
    RLE,
    SEQUENCE_END,
    SV1,
    UNDEFINED,
    encapsulated,
    explicit,
    header,
    item,
    number,
    transcoded,
)
from tests.transcoding.real import (
    converted,
    named,
    parsed,
    part10,
    run,
    stored,
    storedFiles,
)

JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"

#: What decodes the same independently of us.
DECODERS = {
    Codec.JPEG: ("dcmdjpeg",),
    Codec.JPEG_LS: ("dcmdjpls",),
    Codec.RLE: ("dcmdrle",),
    Codec.JPEG_2000: ("gdcmconv", "--raw"),
}

#: Real files that are refused, and why.
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "other Rows, Columns",
    "SC_rgb_jpeg.dcm": "truncated",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "Pixel Data is truncated",
}

#: Its codestream takes signed samples for unsigned ones; the other decoder
#: leaves the bits above them empty.
MISMATCH = "J2K_pixelrep_mismatch.dcm"


def pixels(dataset: Dataset) -> numpy.ndarray:
    """The samples, color by pixel, as the bits that they are."""
    samples = dataset.SamplesPerPixel
    size = dataset.Rows * dataset.Columns
    frames = int(dataset.get("NumberOfFrames") or 1)
    found = numpy.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
    found = found[: size * samples * frames]
    if samples == 3 and dataset.PlanarConfiguration == 1:
        found = found.reshape(frames, 3, size).transpose(0, 2, 1)
    return found.reshape(frames, dataset.Rows, dataset.Columns, samples)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def decoded(self, data: bytes, source: str, target: str = EXPLICIT) -> Dataset:
        return parsed(transcoded(self.folder, data, source, target), target)

    def reference(self, path: Path, *command: str) -> Dataset:
        """What another decoder makes of a file."""
        output = self.folder / "reference"
        self.assertTrue(run(*command, path, output), (command, path))
        file = stored(output)
        return parsed(output.read_bytes()[file.offset :], file.transferSyntax)

    def assertSame(self, ours: Any, theirs: Any, name: str = "") -> None:
        self.assertEqual(ours.dtype, theirs.dtype, name)
        numpy.testing.assert_array_equal(ours, theirs, name)

    def fails(
        self,
        data: bytes,
        source: str,
        why: str,
        target: str = EXPLICIT,
        memory: int = 1 << 30,
    ) -> None:
        with self.assertRaisesRegex(TranscodingError, why):
            transcoded(self.folder, data, source, target, memory)


class RealFilesTests(Case):
    """Real files, against decoders of DCMTK and GDCM."""

    def test_decoded(self) -> None:
        """To the last bit, whether something was lost in them or not."""
        decoded, refused = 0, {}
        for file in storedFiles():
            codec, name = SOURCES[file.transferSyntax].codec, file.path.name
            if codec is None:
                continue
            try:
                data = converted(file, EXPLICIT, self.folder / "ours")
            except TranscodingError as why:
                refused[name] = str(why)
                continue
            ours = parsed(data, EXPLICIT)
            if "PixelData" not in ours:
                continue
            theirs = self.reference(file.path, *DECODERS[codec])
            samples = pixels(ours)
            if name == MISMATCH:
                samples = samples & ((1 << ours.BitsStored) - 1)
            self.assertSame(samples, pixels(theirs), name)
            self.assertEqual(
                ours.PhotometricInterpretation, theirs.PhotometricInterpretation, name
            )
            self.assertEqual(ours.SOPInstanceUID, dcmread(file.path).SOPInstanceUID)
            decoded += 1
        self.assertEqual(set(refused), set(REFUSED))
        for name, why in REFUSED.items():
            self.assertIn(why, refused[name])
        self.assertGreater(decoded, 55)

    def test_targets(self) -> None:
        """Every target has the same pixels."""
        for name in (
            "JPEG-LL.dcm",
            "examples_ybr_color.dcm",
            "JPGExtended.dcm",
            "emri_small_RLE.dcm",
            "emri_small_jpeg_ls_lossless.dcm",
            "US1_J2KR.dcm",
            "SC_rgb_rle_16bit_2frame.dcm",
        ):
            file = named(name)
            data = converted(file, EXPLICIT, self.folder / "ours")
            expected = pixels(parsed(data, EXPLICIT))
            for target in targetsOf(file.transferSyntax):
                data = converted(file, target, self.folder / "ours")
                (self.folder / "file").write_bytes(part10(data, target))
                program = "dcmdjpeg" if target == SV1 else "dcmconv"
                theirs = self.reference(self.folder / "file", program, "+te")
                self.assertSame(expected, pixels(theirs), f"{name} {target}")

    def test_sv1(self) -> None:
        """What is uncompressed is in SV1 what it was, to the last bit."""
        same = 0
        for file in storedFiles():
            if SOURCES[file.transferSyntax].codec is not None:
                continue
            try:
                data = converted(file, SV1, self.folder / "ours")
            except TranscodingError:
                continue
            (self.folder / "sv1").write_bytes(part10(data, SV1))
            theirs = self.reference(self.folder / "sv1", "dcmdjpeg", "+cn")
            ours = self.reference(file.path, "dcmconv", "+te")
            self.assertSame(pixels(ours), pixels(theirs), file.path.name)
            same += 1
        self.assertGreater(same, 70)


def noise(*shape: int, bits: int, signed: bool = False) -> numpy.ndarray:
    low = -(1 << bits - 1) if signed else 0
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    generator = numpy.random.default_rng(bits)
    return generator.integers(low, low + (1 << bits), shape).astype(kind)


class EncodersTests(Case):
    """Images that others' encoders have made."""

    def encoded(
        self, image: numpy.ndarray, bits: int, program: str, *options: str, pi: bytes
    ) -> tuple[bytes, str]:
        """A data set of an image (frames, rows, columns, samples)."""
        frames, rows, columns, samples = image.shape
        data = header(
            rows,
            columns,
            image.itemsize * 8,
            frames,
            samples,
            pi,
            int(image.dtype.kind == "i"),
            bits,
        )
        value = image.tobytes() + bytes(image.nbytes % 2)
        vr = "OB" if image.itemsize == 1 else "OW"
        uid = explicit(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0")
        uid += explicit(0x00080018, "UI", b"1.2.3\0")
        (self.folder / "raw").write_bytes(
            part10(uid + data + explicit(0x7FE00010, vr, value), EXPLICIT)
        )
        path = self.folder / "encoded"
        path.unlink(missing_ok=True)
        arguments = (self.folder / "raw", path)
        self.assertTrue(run(program, *options, *arguments), (program, *options))
        file = stored(path)
        return path.read_bytes()[file.offset :], file.transferSyntax

    def exact(
        self,
        source: str,
        bits: int,
        program: str,
        *options: str,
        colour: bytes = b"",
        signed: bool = False,
    ) -> None:
        """Three odd frames come back to the last bit."""
        image = noise(3, 37, 35, 3 if colour else 1, bits=bits, signed=signed)
        pi = colour or b"MONOCHROME2 "
        data, syntax = self.encoded(image, bits, program, *options, pi=pi)
        self.assertEqual(syntax, source)
        for target in (EXPLICIT, BIG_ENDIAN, IMPLICIT):
            found = self.decoded(data, source, target)
            order = ">" if target == BIG_ENDIAN and image.itemsize > 1 else "="
            raw = image.astype(image.dtype.newbyteorder(order)).tobytes()
            self.assertEqual(found.PixelData, raw + bytes(len(raw) % 2))
            self.assertEqual(found.NumberOfFrames, 3)

    def test_jpegLossless(self) -> None:
        """Each predictor of Process 14, and the restart of each line."""
        for predictor in range(1, 8):
            option = ("+el", "+sv", str(predictor))
            self.exact(LOSSLESS, 8, "dcmcjpeg", *option)
            self.exact(LOSSLESS, 16, "dcmcjpeg", *option)
            self.exact(LOSSLESS, 12, "dcmcjpeg", *option)
        self.exact(LOSSLESS, 8, "dcmcjpeg", "+el", colour=b"RGB ")
        self.exact(SV1, 8, "dcmcjpeg", "+e1")
        self.exact(SV1, 16, "dcmcjpeg", "+e1", signed=True)
        self.exact(SV1, 8, "dcmcjpeg", "+e1", colour=b"RGB ")

    def test_jpegLosslessYBR(self) -> None:
        """Nothing is converted where nothing was lost."""
        self.exact(SV1, 8, "dcmcjpeg", "+e1", colour=b"YBR_FULL")

    def test_jpegLS(self) -> None:
        """Interleaved by line, by sample, and not."""
        for bits in (8, 12, 16):
            self.exact(JPEG_LS, bits, "dcmcjpls")
        for option in ("+il", "+is", "+in"):
            self.exact(JPEG_LS, 8, "dcmcjpls", option, colour=b"RGB ")

    def test_rle(self) -> None:
        for bits in (8, 12, 16):
            self.exact(RLE, bits, "dcmcrle")
        self.exact(RLE, 16, "dcmcrle", signed=True)
        self.exact(RLE, 8, "dcmcrle", colour=b"RGB ")

    def test_jpeg2000(self) -> None:
        for bits in (8, 12, 16):
            self.exact(JPEG_2000, bits, "gdcmconv", "--j2k")

    def test_fragments(self) -> None:
        """Frames in several fragments, with and without an offset table."""
        for option in ((), ("-ot",)):
            self.exact(SV1, 16, "dcmcjpeg", "+e1", "+fs", "1", *option)
            self.exact(RLE, 16, "dcmcrle", *option)

    def test_signed(self) -> None:
        """Bits above a signed sample of 12 bits are those of its sign."""
        image = noise(1, 9, 4, 1, bits=12, signed=True)
        data, syntax = self.encoded(image, 12, "dcmcjpls", pi=b"MONOCHROME2 ")
        found = self.decoded(data, syntax)
        self.assertSame(pixels(found).view("i2"), image)

    def test_jpegLossy(self) -> None:
        """As near as two decoders come to each other."""
        image = (noise(2, 40, 30, 3, bits=8) // 8).cumsum(1).astype("u1")
        for options in (("+eb",), ("+eb", "+s2"), ("+eb", "+cr")):
            data, syntax = self.encoded(image, 8, "dcmcjpeg", *options, pi=b"RGB ")
            self.assertEqual(syntax, BASELINE)
            theirs = self.reference(self.folder / "encoded", "dcmdjpeg")
            found = self.decoded(data, syntax)
            self.assertEqual(found.PhotometricInterpretation, "RGB")
            off = pixels(found).astype(int) - pixels(theirs)
            self.assertLessEqual(abs(off).max(), 2)


class HTJ2KTests(Case):
    """High-Throughput JPEG 2000; encoded by OpenJPH, which does not decode here."""

    def test_exact(self) -> None:
        for bits, signed in ((8, False), (12, False), (16, True)):
            image = noise(33, 21, bits=bits, signed=signed)
            frame = bytes(imagecodecs.htj2k_encode(image, reversible=True))
            data = header(33, 21, image.itemsize * 8, signed=signed, stored=bits)
            found = self.decoded(data + encapsulated(frame), HTJ2K)
            self.assertEqual(found.PixelData, image.tobytes() + bytes(image.nbytes % 2))


class JP2Tests(Case):
    """A file of JPEG 2000 where a codestream should be (PS3.5 8.2.4)."""

    def test_decoded(self) -> None:
        """It is decoded, and its own word on colours is not heard."""
        image = noise(33, 21, 3, bits=8)
        for photometric in (b"RGB ", b"YBR_FULL"):
            frame = imagecodecs.jpeg2k_encode(
                image, codecformat="jp2", reversible=True, mct=False, colorspace="SYCC"
            )
            self.assertEqual(frame[4:8], b"jP  ")
            head = header(33, 21, samples=3, photometric=photometric)
            found = self.decoded(head + encapsulated(bytes(frame)), JPEG_2000)
            self.assertEqual(found.PixelData[:-1], image.tobytes())
            self.assertEqual(
                found.PhotometricInterpretation, photometric.decode().strip()
            )


class AttributesTests(Case):
    """What changes in the data set around the pixels, and what does not."""

    def baseline(self, *lossy: tuple[int, str, bytes], frames: int = 1) -> bytes:
        image = numpy.zeros((8, 8, 3), "u1")
        frame = bytes(imagecodecs.jpeg8_encode(image))
        self.ratio = f"{8 * 8 * 3 / (len(frame) + len(frame) % 2):.2f}"
        head = header(8, 8, 8, None, 3, b"YBR_FULL_422")
        for element in lossy:
            head += explicit(*element)
        return head + encapsulated(frame)

    def test_colours(self) -> None:
        """YBR_FULL_422 becomes RGB, in the element and in the pixels."""
        found = self.decoded(self.baseline(), BASELINE)
        self.assertEqual(found.PhotometricInterpretation, "RGB")
        self.assertEqual(found.PlanarConfiguration, 0)
        self.assertEqual(found["PixelData"].VR, "OB")

    def test_lossAdded(self) -> None:
        """What was lost is told, where the sender did not (PS3.3 C.7.6.1.1.5)."""
        for lossy in ((), ((0x00282110, "CS", b"00"),)):
            found = self.decoded(self.baseline(*lossy), BASELINE)
            self.assertEqual(found.LossyImageCompression, "01")
            self.assertEqual(found["LossyImageCompressionRatio"].value, self.ratio)
            self.assertEqual(found.LossyImageCompressionMethod, "ISO_10918_1")

    def test_lossKept(self) -> None:
        """What the sender said of it stays, also where it is of several steps."""
        found = self.decoded(
            self.baseline(
                (0x00282110, "CS", b"01"),
                (0x00282112, "DS", b"10\\5"),
                (0x00282114, "CS", b"ISO_15444_1\\ISO_10918_1 "),
            ),
            BASELINE,
        )
        self.assertEqual(list(found.LossyImageCompressionRatio), [10, 5])
        self.assertEqual(
            list(found.LossyImageCompressionMethod), ["ISO_15444_1", "ISO_10918_1"]
        )

    def test_losslessSaysNothing(self) -> None:
        """Of a lossless codestream, nothing is said."""
        frame = bytes(imagecodecs.jpegls_encode(noise(4, 4, bits=8)))
        found = self.decoded(header(4, 4) + encapsulated(frame), JPEG_LS_NEAR_LOSSLESS)
        self.assertNotIn("LossyImageCompression", found)

    def test_near(self) -> None:
        """JPEG-LS with a loss says so, by the codestream."""
        frame = bytes(imagecodecs.jpegls_encode(noise(4, 4, bits=8), level=3))
        found = self.decoded(header(4, 4) + encapsulated(frame), JPEG_LS_NEAR_LOSSLESS)
        self.assertEqual(found.LossyImageCompression, "01")
        self.assertEqual(found.LossyImageCompressionMethod, "ISO_14495_1")

    def test_order(self) -> None:
        """What is added stands in its place, and what was there stays."""
        data = self.baseline((0x00283010, "SQ", b""))
        tags = list(self.decoded(data, BASELINE).keys())
        self.assertEqual(tags, sorted(tags))
        self.assertIn(0x00283010, tags)

    def test_highBit(self) -> None:
        """A codestream's samples are in the lowest bits."""
        frame = bytes(imagecodecs.jpeg2k_encode(noise(4, 4, bits=12), bitspersample=12))
        head = header(4, 4, 16, stored=12).replace(
            explicit(0x00280102, "US", number(11)),
            explicit(0x00280102, "US", number(15)),
        )
        found = self.decoded(head + encapsulated(frame), JPEG_2000)
        self.assertEqual(found.HighBit, 11)

    def test_offsetTables(self) -> None:
        """The Extended Offset Table goes (PS3.3 C.7.6.3.1.8)."""
        tables = explicit(0x7FE00001, "OV", bytes(8)) + explicit(
            0x7FE00002, "OV", bytes(8)
        )
        frame = bytes(imagecodecs.jpegls_encode(noise(4, 4, bits=8)))
        found = self.decoded(header(4, 4) + tables + encapsulated(frame), JPEG_LS)
        self.assertNotIn(0x7FE00001, found)
        self.assertNotIn(0x7FE00002, found)
        self.assertEqual(found.PixelData, noise(4, 4, bits=8).tobytes())

    def test_behind(self) -> None:
        """What comes after Pixel Data is copied."""
        frame = bytes(imagecodecs.jpegls_encode(noise(3, 3, bits=8)))
        data = header(3, 3) + encapsulated(frame)
        data += explicit(0xFFFCFFFC, "OB", b"\0\0")
        new = transcoded(self.folder, data, JPEG_LS, EXPLICIT)
        self.assertTrue(
            new.endswith(
                explicit(0x7FE00010, "OB", noise(3, 3, bits=8).tobytes() + b"\0")
                + explicit(0xFFFCFFFC, "OB", b"\0\0")
            )
        )

    def test_icon(self) -> None:
        """An icon that is compressed itself is decoded too (PS3.3 C.7.6.1.1.6)."""
        icon, image = noise(4, 6, bits=8), noise(8, 8, bits=8)
        inner = header(4, 6) + encapsulated(bytes(imagecodecs.jpegls_encode(icon)))
        sequence = explicit(
            0x00880200,
            "SQ",
            item(inner + bytes.fromhex("feff0de000000000"), UNDEFINED) + SEQUENCE_END,
            UNDEFINED,
        )
        data = header(8, 8) + sequence
        data += encapsulated(bytes(imagecodecs.jpegls_encode(image)))
        for target in (EXPLICIT, SV1):
            found = self.decoded(data, JPEG_LS, target)
            (inside,) = found.IconImageSequence
            self.assertEqual(inside.PixelData, icon.tobytes())
        defined = explicit(0x00880200, "SQ", item(inner))
        data = (
            header(8, 8)
            + defined
            + encapsulated(bytes(imagecodecs.jpegls_encode(image)))
        )
        found = self.decoded(data, JPEG_LS)
        self.assertEqual(found.IconImageSequence[0].PixelData, icon.tobytes())
        self.assertEqual(found.PixelData, image.tobytes())

    def test_nested(self) -> None:
        """Compressed pixels in any other sequence are refused."""
        inner = header(4, 4) + encapsulated(
            bytes(imagecodecs.jpegls_encode(noise(4, 4, bits=8)))
        )
        self.fails(
            explicit(0x00081140, "SQ", item(inner)), JPEG_LS, "7FE0,0010. is encaps"
        )


class RefusalTests(Case):
    """What is not decoded, and ends in a reason."""

    frame = bytes(imagecodecs.jpegls_encode(noise(4, 4, bits=8)))

    def test_otherSize(self) -> None:
        """A codestream that is larger than the data set says is not decoded."""
        self.fails(
            header(4, 5) + encapsulated(self.frame), JPEG_LS, "other Rows, Columns"
        )

    def test_absurd(self) -> None:
        """Nor one that would be more than there may be, before it is tried."""
        self.fails(
            header(60000, 60000) + encapsulated(self.frame),
            JPEG_LS,
            "more memory than is allowed",
        )
        self.fails(
            header(4000, 4000, frames=999_999_999) + encapsulated(self.frame),
            JPEG_LS,
            "larger than 4 GB",
        )
        self.fails(header(4, 4, frames=0) + encapsulated(self.frame), JPEG_LS, "is 0")
        self.fails(
            header(4, 4, frames=7) + encapsulated(self.frame), JPEG_LS, "7 frames"
        )

    def test_memory(self) -> None:
        self.fails(
            header(4, 4) + encapsulated(self.frame),
            JPEG_LS,
            "more memory than is allowed",
            memory=100,
        )

    def test_broken(self) -> None:
        for source, frame in (
            (JPEG_LS, self.frame[:-9] + b"\xff\xd9"),
            (JPEG_2000, bytes(imagecodecs.jpeg2k_encode(noise(9, 9, bits=8)))[:-30]),
        ):
            rows = 4 if source == JPEG_LS else 9
            self.fails(
                header(rows, rows) + encapsulated(frame), source, "cannot be coded"
            )

    def test_brokenRLE(self) -> None:
        """Offsets lead to segments, one for each byte (PS3.5 G.5)."""
        run = b"\xf1\7"

        def frame(count: int, *offsets: int, data: bytes = run) -> bytes:
            rest = [0] * (15 - len(offsets))
            return pack("<16L", count, *offsets, *rest) + data

        for broken, why in (
            (bytes(62), "RLE header is truncated"),
            (frame(0), "RLE header is broken"),
            (frame(2, 64, 66), "RLE header is broken"),
            (frame(1, 65), "RLE header is broken"),
            (frame(1, 64, data=b"\xf2\7"), "fewer pixels"),
            (frame(1, 64, data=b"\x0f\7"), "cannot be coded"),
        ):
            self.fails(header(4, 4) + encapsulated(broken), RLE, why)
        for offsets in ((64, 1 << 31), (64, 60)):
            self.fails(
                header(4, 4, 16) + encapsulated(frame(2, *offsets)), RLE, "broken"
            )
        found = self.decoded(header(4, 4) + encapsulated(frame(1, 64)), RLE)
        self.assertEqual(found.PixelData, b"\7" * 16)

    def test_incomplete(self) -> None:
        self.fails(encapsulated(self.frame), JPEG_LS, "is missing or no number")
        self.fails(
            header(4, 4, frames=1).replace(b"1 (", b"x (") + encapsulated(self.frame),
            JPEG_LS,
            "is missing or no number",
        )

    def test_colours(self) -> None:
        self.fails(
            header(4, 4, samples=3, photometric=b"HSV ") + encapsulated(self.frame),
            JPEG_LS,
            "Photometric",
        )

    def test_noPixels(self) -> None:
        """What has no pixels has none to compress."""
        self.fails(explicit(0x00080060, "CS", b"SR"), EXPLICIT, "no Pixel Data", SV1)

    def test_pixelsTwice(self) -> None:
        """
        The file is not gone through again and again, until the disk is full or
        the time is up.
        """
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
        native = explicit(0x7FE00010, "OB", bytes(4))
        rle = encapsulated(pack("<16L", 1, 64, *[0] * 14) + b"\3abcd\0")
        for pixels, syntax in ((native, EXPLICIT), (rle, RLE)):
            data = header(2, 2) + pixels + pixels
            self.fails(data, syntax, "Pixel Data twice", SV1)

    def test_bitsForSV1(self) -> None:
        for allocated, why in ((32, "more than 16 bits"), (1, "not supported")):
            self.fails(
                header(4, 4, allocated, stored=1)
                + explicit(0x7FE00010, "OW", bytes(4 * 4 * max(allocated, 8) // 8)),
                EXPLICIT,
                why,
                SV1,
            )

    def test_lengthForSV1(self) -> None:
        self.fails(
            header(4, 4) + explicit(0x7FE00010, "OW", bytes(14)),
            EXPLICIT,
            "longer or shorter",
            SV1,
        )


class SV1Tests(Case):
    """Uncompressed pixels in JPEG Lossless with first-order prediction."""

    def test_planar(self) -> None:
        """Color by plane becomes color by pixel, as JPEG has it."""
        planes = noise(3, 4, 6, bits=8)
        head = header(4, 6, samples=3, photometric=b"RGB ")
        head = head.replace(
            explicit(0x00280006, "US", number(0)), explicit(0x00280006, "US", number(1))
        )
        data = head + explicit(0x7FE00010, "OB", planes.tobytes())
        found = self.decoded(data, EXPLICIT, SV1)
        self.assertEqual(found.PlanarConfiguration, 0)
        (frame,) = generate_frames(found.PixelData, number_of_frames=1)
        self.assertSame(
            imagecodecs.jpeg8_decode(frame, colorspace="RGB", outcolorspace="RGB"),
            numpy.ascontiguousarray(planes.transpose(1, 2, 0)),
        )

    def test_bigEndianBytes(self) -> None:
        """Odd frames of bytes, which are turned around in pairs."""
        image = noise(3, 3, 3, bits=8)
        data = image.tobytes() + b"\0"
        head = transcoded(self.folder, header(3, 3, frames=3), EXPLICIT, BIG_ENDIAN)
        swapped = b"".join(
            data[n + 1 : n + 2] + data[n : n + 1] for n in range(0, 28, 2)
        )
        found = self.decoded(
            head + explicit(0x7FE00010, "OW", swapped, order=">"), BIG_ENDIAN, SV1
        )
        frames = generate_frames(found.PixelData, number_of_frames=3)
        for frame, expected in zip(frames, image, strict=True):
            self.assertSame(imagecodecs.jpeg8_decode(frame), expected)

    def test_offsetTable(self) -> None:
        """The Basic Offset Table leads to each frame's fragment."""
        data = header(5, 5, frames=3) + explicit(
            0x7FE00010, "OB", noise(3, 5, 5, bits=8).tobytes() + b"\0"
        )
        new = transcoded(self.folder, data, EXPLICIT, SV1)
        place = new.index(b"OB\0\0\xff\xff\xff\xff") + 8
        self.assertEqual(new[place : place + 8], b"\xfe\xff\0\xe0\x0c\0\0\0")
        first = place + 8 + 12
        for n in range(3):
            start = place + 8 + 4 * n
            offset = int.from_bytes(new[start : start + 4], "little")
            fragment = new[first + offset :][:11]
            self.assertEqual(fragment[:4], b"\xfe\xff\0\xe0")
            self.assertEqual(fragment[8:], b"\xff\xd8\xff")
        self.assertTrue(new.endswith(SEQUENCE_END))

    def test_predictor(self) -> None:
        """It is SOF3 with selection value 1 and no point transform."""
        data = header(4, 4) + explicit(0x7FE00010, "OB", noise(4, 4, bits=8).tobytes())
        found = self.decoded(data, EXPLICIT, SV1)
        (frame,) = generate_frames(found.PixelData, number_of_frames=1)
        self.assertIn(b"\xff\xc3", frame)
        scan = frame.index(b"\xff\xda")
        self.assertEqual(frame[scan + 2 :][:8], b"\0\x08\1\1\0\1\0\0")


class TargetsTests(SynchronousTestCase):
    def test_targets(self) -> None:
        """Best first, never the same again, and none of what cannot be read."""
        native = [EXPLICIT, IMPLICIT, BIG_ENDIAN]
        self.assertEqual(list(TARGETS), [*native, SV1])
        self.assertEqual(targetsOf(JPEG_2000), (*native, SV1))
        self.assertEqual(targetsOf(SV1), tuple(native))
        self.assertEqual(targetsOf(EXPLICIT), (IMPLICIT, BIG_ENDIAN, SV1))
        for uid in ("100", "101", "102", "106", "107", "92", "93", "110"):
            self.assertEqual(targetsOf(f"1.2.840.10008.1.2.4.{uid}"), ())
