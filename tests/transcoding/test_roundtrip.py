"""Through all uncompressed transfer syntaxes and back: nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.transcoding.building import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    explicit,
    item,
    number,
    transcoded,
)

#: Elements that have their VR from the dictionary alone, and the bytes of a
#: number in them.
SIMPLE = (
    (0x00020102, "OB", 2),
    (0x00080005, "CS", 2),
    (0x00080018, "UI", 2),
    (0x00080003, "UN", 2),
    (0x00081163, "FD", 8),
    (0x00089459, "FL", 4),
    (0x00100010, "PN", 2),
    (0x00120063, "LO", 2),
    (0x00181271, "FD", 8),
    (0x00186020, "SL", 4),
    (0x00189219, "SS", 2),
    (0x00204000, "LT", 2),
    (0x00280009, "AT", 4),
    (0x00280106, "SS", 2),
    (0x00283006, "OW", 2),
    (0x00080119, "UC", 2),
    (0x0040A160, "UT", 2),
    (0x00660040, "OL", 4),
    (0x300A00B2, "SH", 2),
    (0x60023000, "OW", 2),
    (0x7FE00001, "OV", 8),
    (0x7FE00008, "OF", 4),
    (0x7FE00009, "OD", 8),
    (0x7FE00010, "OW", 2),
)

#: Private elements of a creator that nobody knows: their VR is forgotten.
PRIVATE = ((0x00110010, "LO", 2), (0x00111001, "UN", 2), (0x00111002, "UN", 2))

SEQUENCES = (0x00081140, 0x00082218, 0x0040A730, 0x52009230)


def values(width: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, 5).flatmap(
        lambda count: st.binary(min_size=count * width, max_size=count * width)
    )


@st.composite
def elements(draw: Any, depth: int) -> bytes:
    """A data set, sorted by tag."""
    parts = {0x00280103: explicit(0x00280103, "US", number(1))}
    for tag, vr, width in draw(st.lists(st.sampled_from(SIMPLE + PRIVATE))):
        parts[tag] = explicit(tag, vr, draw(values(width)))
    for tag in draw(st.lists(st.sampled_from(SEQUENCES), max_size=2)) if depth else ():
        parts[tag] = draw(sequences(tag, depth - 1))
    return b"".join(parts[tag] for tag in sorted(parts))


@st.composite
def sequences(draw: Any, tag: int, depth: int) -> bytes:
    """Of either form, with items of either form."""
    items = b""
    for inner in draw(st.lists(elements(depth), max_size=3)):
        items += draw(st.sampled_from((item(inner), item(inner + ITEM_END, UNDEFINED))))
    whole = explicit(tag, "SQ", items)
    open_ = explicit(tag, "SQ", items + SEQUENCE_END, UNDEFINED)
    return draw(st.sampled_from((whole, open_)))


class RoundTripTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(elements(2))
    def test_back(self, data: bytes) -> None:
        """Explicit, Implicit, Big Endian and Explicit again: the same bytes."""
        folder = Path("roundtrip")
        there = transcoded(folder, data, EXPLICIT, IMPLICIT)
        further = transcoded(folder, there, IMPLICIT, BIG_ENDIAN)
        self.assertEqual(transcoded(folder, further, BIG_ENDIAN, EXPLICIT), data)
        self.assertEqual(transcoded(folder, data, EXPLICIT, BIG_ENDIAN), further)
        self.assertEqual(transcoded(folder, further, BIG_ENDIAN, IMPLICIT), there)
