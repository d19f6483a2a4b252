"""
Which VR an element has where the source does not say it (PS3.5 Annex A, PS3.6),
or where its value does not fit the one it has.
"""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import dictionary_VR, private_dictionary_VR

from d360.transcoding.elements import LONG, UNDEFINED, WIDTH, Element

PIXEL_DATA = 0x7FE00010
PIXEL_REPRESENTATION = 0x00280103
BITS_ALLOCATED = 0x00280100
WAVEFORM_DATA = 0x54001010
WAVEFORM_PADDING = 0x5400100A
WAVEFORM_BITS_ALLOCATED = 0x54001004


class Scope:
    """
    What the elements of one data set, the root or an item, say of the others.

    @ivar numbers: of elements that choose between two VRs, those of the data
        sets around it included.
    """

    def __init__(self, around: Scope | None = None) -> None:
        self.numbers: dict[int, int] = dict(around.numbers) if around else {}
        self._creators: dict[int, str] = {}

    def addCreator(self, tag: int, creator: bytes) -> None:
        """A Private Creator (PS3.5 7.8.1)."""
        text = creator.decode("latin-1").strip(" \0")
        self._creators[tag & 0xFFFF0000 | (tag & 0xFF) << 8] = text

    def vrOf(self, element: Element) -> str:
        """The VR of an element that comes without one."""
        if element.tag >> 16 & 1:
            return self._private(element)
        vr = _public(element.tag)
        if " or " in vr:
            return self._chosen(element.tag, vr)
        return vr

    def _private(self, element: Element) -> str:
        """The one that is well known, if the value can have it."""
        if isCreator(element.tag):
            return "LO"
        creator = self._creators.get(element.tag & 0xFFFFFF00)
        try:
            vr = private_dictionary_VR(element.tag, creator) if creator else "UN"
        except KeyError:
            vr = "UN"
        # A sequence of stated length is left as it is: UN is the encoding it
        # has already (PS3.5 6.2.2).
        if len(vr) > 2 or (vr == "SQ" and element.length != UNDEFINED):
            return "UN"
        return vr if element.length % WIDTH.get(vr, 1) == 0 else "UN"

    def _chosen(self, tag: int, vr: str) -> str:
        """PS3.5 A.2 for those with two VRs."""
        if vr == "US or SS":
            return "SS" if self.numbers.get(PIXEL_REPRESENTATION) == 1 else "US"
        if tag == PIXEL_DATA:
            return "OB" if self.numbers.get(BITS_ALLOCATED, 16) <= 8 else "OW"
        if tag in (WAVEFORM_DATA, WAVEFORM_PADDING):
            bits = self.numbers.get(WAVEFORM_BITS_ALLOCATED, 16)
            return "OB" if bits <= 8 else "OW"
        return "OW"


def isCreator(tag: int) -> bool:
    """Whether it reserves a block of private elements."""
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def fitting(vr: str, length: int) -> str:
    """The VR that a value of this length is sent with (PS3.5 6.2.2)."""
    return "UN" if vr not in LONG and length > 0xFFFE else vr


@lru_cache(4096)
def _public(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
