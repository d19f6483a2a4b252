"""
What is sent: instances of new studies, made out of real files, from one kilobyte
to several megabytes. The bytes of each can be made again at any time, so that
nothing needs to be kept of what was sent.
"""

from __future__ import annotations

import random
import struct
import zlib
from hashlib import sha256

from attrs import field, frozen
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.services.datasets import DEFLATED, IMPLICIT, encode

#: Of pydicom's files: many modalities and transfer syntaxes.
_REAL = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "693_J2KR.dcm",
    "JPEG2000.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "image_dfl.dcm",
    "reportsi.dcm",
    "waveform_ecg.dcm",
)

#: Stand for what differs between instances; of one length, so that a file is
#: encoded once only.
_STUDY, _SERIES, _INSTANCE = (f"2.25.{digit * 31}".encode() for digit in "123")
_COMMENT = b"what has been sent: 0000000000"

#: Random bytes, of which each padding is a part.
_NOISE = random.Random(360).randbytes(6 << 20)

#: The bytes of padding, from and to, and how often.
_PADDINGS = (((0, 0), 30), ((1, 60_000), 45), ((60_000, 900_000), 20))
_LARGE = ((1 << 20, 5 << 20), 5)


def newUID(rng: random.Random) -> str:
    """One that nobody had before."""
    return f"2.25.{rng.randrange(10**30, 10**31)}"


@frozen(eq=False)
class Template:
    """
    A real file, with room for what makes another instance of it.

    @ivar encoded: its data set, not deflated.
    """

    sopClass: str
    transferSyntax: str
    isLittleEndian: bool
    encoded: bytes = field(repr=False)

    def fill(
        self, study: str, series: str, instance: str, number: int, padding: int
    ) -> bytes:
        """
        Another data set.

        @param number: of these bytes among all, which is in a comment.
        @param padding: even: the length of a Data Set Trailing Padding.
        """
        data = self.encoded.replace(_COMMENT, b"what has been sent: %010d" % number)
        for place, uid in ((_STUDY, study), (_SERIES, series), (_INSTANCE, instance)):
            data = data.replace(place, uid.encode())
        if padding:
            start = number * 4099 % (len(_NOISE) - padding)
            data += self._header(padding) + _NOISE[start : start + padding]
        if self.transferSyntax == DEFLATED:
            deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
            data = deflate.compress(data) + deflate.flush()
            data += bytes(len(data) % 2)
        return data

    def _header(self, length: int) -> bytes:
        """Of (FFFC,FFFC) OB (PS3.5 7.1.2, 7.1.3)."""
        order = "<" if self.isLittleEndian else ">"
        tag = struct.pack(f"{order}HH", 0xFFFC, 0xFFFC)
        if self.transferSyntax == IMPLICIT:
            return tag + struct.pack("<I", length)
        return tag + b"OB\0\0" + struct.pack(f"{order}I", length)


def templates() -> list[Template]:
    """One for each of L{_REAL}."""
    return [_template(name) for name in _REAL]


def _template(name: str) -> Template:
    path = get_testdata_file(name)
    assert isinstance(path, str), name
    dataset = dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.StudyInstanceUID = _STUDY.decode()
    dataset.SeriesInstanceUID = _SERIES.decode()
    dataset.SOPInstanceUID = _INSTANCE.decode()
    dataset.ImageComments = _COMMENT.decode()
    encoded = encode(dataset, str(syntax))
    for place in (_STUDY, _SERIES, _INSTANCE, _COMMENT):
        assert place in encoded, name
    return Template(
        str(dataset.SOPClassUID), str(syntax), syntax.is_little_endian, encoded
    )


@frozen
class Content:
    """
    The bytes of an instance, which may be sent again with others.

    @ivar number: its own, among all.
    """

    template: Template
    study: str
    series: str
    instance: str
    number: int
    padding: int

    def data(self) -> bytes:
        """The data set."""
        return self.template.fill(
            self.study, self.series, self.instance, self.number, self.padding
        )


def fingerprint(data: bytes | memoryview) -> bytes:
    """By which bytes are compared: not the digest that the server has of them."""
    return sha256(data).digest()


class Stock:
    """
    Makes instances of a few studies.

    @param rng: what is chosen by chance.
    """

    def __init__(self, rng: random.Random, kinds: list[Template], studies: int) -> None:
        self._rng = rng
        self._number = rng.randrange(1 << 20)
        self._studies = [
            (rng.choice(kinds), newUID(rng), [newUID(rng) for _ in range(3)])
            for _ in range(studies)
        ]

    def new(self) -> Content:
        """Another instance."""
        template, study, series = self._rng.choice(self._studies)
        return self._content(
            template, study, self._rng.choice(series), newUID(self._rng)
        )

    def changed(self, known: Content) -> Content:
        """The same instance with other bytes."""
        series = known.series
        if self._rng.random() < 0.1:
            # As after a correction: it is in another series from then on.
            series = self._rng.choice(
                next(all_ for _, study, all_ in self._studies if study == known.study)
            )
        return self._content(known.template, known.study, series, known.instance)

    def _content(
        self, template: Template, study: str, series: str, instance: str
    ) -> Content:
        self._number += 1
        ranges, weights = zip(*_PADDINGS, _LARGE, strict=True)
        ((first, last),) = self._rng.choices(ranges, weights)
        padding = self._rng.randint(first, last) & ~1
        return Content(template, study, series, instance, self._number, padding)
