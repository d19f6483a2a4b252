"""
Data sets of strangers, read into memory by pydicom: no further than they may
be large. It takes some 30 microseconds for an element, in which nobody else is
served, and reads all that is inside of a sequence at once.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.sequence import Sequence

#: Bytes of an element's header without the longer of its lengths, and of an
#: item's (PS3.5 7.1, 7.5).
_HEADER = 8


class TooManyElements(ValueError):
    """More than may be in a data set."""


class BoundedFile(BytesIO):
    """
    A data set for pydicom, which asks for the header of each element and each
    item by itself, those within sequences of undefined length too.

    @param limit: elements and items; twice as many may be, where the values
        are as long as their headers.
    """

    def __init__(self, data: bytes | bytearray, limit: int) -> None:
        super().__init__(data)
        self._left = 2 * limit

    def read(self, size: int | None = -1, /) -> bytes:
        """
        @raise TooManyElements: it was asked too often.
        """
        if size == _HEADER:
            self._left -= 1
            if self._left < 0:
                raise TooManyElements
        return super().read(size)


def itemsOf(dataset: Dataset, tag: int, limit: int) -> Sequence | None:
    """
    The items of a sequence, which pydicom has not read yet where its length is
    stated.

    @param limit: elements and items, as for L{BoundedFile}.
    @return: C{None} if it is no sequence.
    @raise TooManyElements: it has more.
    @raise Exception: whatever pydicom stumbles over.
    """
    raw: Any = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.value:
        if raw.VR in (None, "SQ"):
            file = BoundedFile(raw.value, limit)
            size = len(raw.value)
            return read_sequence(
                file, raw.is_implicit_VR, raw.is_little_endian, size, "iso8859"
            )
        # Something else that is said to be one.
        if len(raw.value) > limit * _HEADER:
            raise TooManyElements
    items = dataset[tag].value
    return items if isinstance(items, Sequence) else None
