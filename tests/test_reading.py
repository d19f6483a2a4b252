"""Tests for L{d360.reading}."""

from __future__ import annotations

from io import BytesIO

from pydicom.filereader import read_dataset
from twisted.trial.unittest import SynchronousTestCase

from d360.reading import BoundedFile, TooManyElements, itemsOf
from tests.transcoding.building import (
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    explicit,
    implicit,
    item,
)

STEPS = 0x00400100


def elements(count: int) -> bytes:
    """Empty ones."""
    return b"".join(implicit(0x00110000 + n, b"") for n in range(count))


def undefined(count: int) -> bytes:
    """A sequence and an item of undefined length."""
    inside = item(elements(count), UNDEFINED) + ITEM_END
    return implicit(STEPS, inside + SEQUENCE_END, UNDEFINED)


class BoundedFileTests(SynchronousTestCase):
    """What is inside of sequences counts (PS3.5 7.5)."""

    def test_within(self) -> None:
        """As many as are allowed are read."""
        dataset = read_dataset(BoundedFile(undefined(100), 110), True, True)
        self.assertEqual(100, len(dataset[STEPS].value[0]))

    def test_beyond(self) -> None:
        """No more, however they are nested."""
        nested = b""
        for _ in range(60):
            nested = implicit(
                STEPS,
                item(nested + elements(10), UNDEFINED) + ITEM_END + SEQUENCE_END,
                UNDEFINED,
            )
        for data in (undefined(2000), elements(2000), nested):
            file = BoundedFile(data, 100)
            self.assertRaises(TooManyElements, read_dataset, file, True, True)


class ItemsTests(SynchronousTestCase):
    """Sequences that pydicom has put off."""

    def read(self, data: bytes, isImplicit: bool = True) -> object:
        dataset = read_dataset(BytesIO(data), isImplicit, True)
        return itemsOf(dataset, STEPS, 100)

    def test_within(self) -> None:
        """The same as pydicom's."""
        inside = implicit(0x00080060, b"CT")
        for data in (
            implicit(STEPS, item(inside) + item(b"")),
            implicit(STEPS, item(inside) + item(b"") + SEQUENCE_END, UNDEFINED),
        ):
            first, second = self.read(data)
            self.assertEqual(("CT", 0), (first.Modality, len(second)))
        explicitly = explicit(STEPS, "SQ", item(explicit(0x00080060, "CS", b"CT")))
        (first,) = self.read(explicitly, False)
        self.assertEqual("CT", first.Modality)
        self.assertEqual([], list(self.read(implicit(STEPS, b""))))

    def test_beyond(self) -> None:
        """Elements in an item, and as UN, which is known to be a sequence."""
        many = item(elements(2000))
        for data, isImplicit in (
            (implicit(STEPS, many), True),
            (explicit(STEPS, "UN", many), False),
        ):
            self.assertRaises(TooManyElements, self.read, data, isImplicit)

    def test_none(self) -> None:
        """A text in its place."""
        self.assertIsNone(self.read(explicit(STEPS, "LO", b"text"), False))
