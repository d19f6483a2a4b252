"""
From the identifier of a worklist query to the conditions that the worklist is
asked, and to what its answers hold (PS3.4 C.2.2.2, K.4.1, Table K.6-1;
conformance 5.2.2). Pure: no I/O.

Values are matched as L{d360.services.matching} has it. Besides:

 - The Scheduled Procedure Step Sequence is universal where it is absent, has
   no item, or an empty one; its keys hold for the same step. No sequence may
   have more than one item (A900).
 - Start date and start time, both ranges, are one range from the first day's
   time to the last day's; unless a time's end is without its day, where each
   stands for itself.
 - A key that cannot be matched, or that the worklist does not know, is
   universal and reported by the status FF01.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from struct import Struct
from typing import Any

from attrs import frozen
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from d360.attributes import Attribute, timeKey
from d360.dimse.status import CANNOT_UNDERSTAND, DATA_SET_DOES_NOT_MATCH
from d360.errors import DIMSEError
from d360.model import Condition, Nothing, Range
from d360.services.matching import (
    MAX_KEYS,
    characterSetOf,
    conditionsFor,
    isKey,
    isUniversal,
    readKey,
    vrOf,
)
from d360.worklistattributes import (
    START,
    START_DATE,
    START_TIME,
    STEP_SEQUENCE,
    WORKLIST,
    isOfStep,
)

#: Sequences within sequences; the standard has three.
MAX_DEPTH = 8

#: Bytes of a sequence: decoding one that is full of items takes its time.
MAX_SEQUENCE = 16384

_UNDEFINED = 0xFFFFFFFF


@frozen
class Asked:
    """
    An element that an answer holds.

    @ivar vr: its VR, should the item not have it.
    @ivar inside: what the items of a sequence hold; C{None} for all that
        there is.
    """

    tag: int
    vr: str
    inside: tuple[Asked, ...] | None = None


@frozen
class WorklistQuestion:
    """
    What an identifier asks.

    @ivar asked: by tag.
    @ivar isFullySupported: no key was ignored.
    """

    conditions: tuple[Condition, ...]
    asked: tuple[Asked, ...]
    isFullySupported: bool


def readWorklistQuestion(identifier: Dataset) -> WorklistQuestion:
    """
    @raise DIMSEError: A900 or C000, the identifier cannot be answered.
    """
    reading = _Reading()
    asked = reading.read(identifier, _Place.ITEM, "", 0)
    return WorklistQuestion(
        tuple(conditionsOf(reading.texts)), asked, reading.isFullySupported
    )


def readConditions(keys: Mapping[str, str]) -> tuple[Condition, ...]:
    """
    The conditions of matching keys by keyword.

    @raise ValueError: one is no key, or its value is not right.
    """
    texts = {}
    for keyword, text in keys.items():
        attribute = WORKLIST.byKeyword.get(keyword)
        if attribute is None or not attribute.matched:
            known = ", ".join(a.keyword for a in WORKLIST.stored())
            raise ValueError(f"{keyword} is no key of the worklist; known are {known}")
        texts[attribute] = text
    try:
        conditions = tuple(conditionsOf(texts))
    except DIMSEError as error:
        keywords = [WORKLIST.byTag[tag].keyword for tag in error.offendingElements]
        raise ValueError(f"{', '.join(keywords)}: {error.comment}") from None
    for condition in conditions:
        if isinstance(condition, Nothing):
            raise ValueError(_right(condition.attribute))
    return conditions


def _right(attribute: Attribute) -> str:
    """What is right for a key whose value can match nothing."""
    if attribute is START:
        names = f"{START_DATE.keyword}, {START_TIME.keyword}"
        form = "ranges YYYYMMDD-YYYYMMDD and HHMM-HHMM"
    elif attribute.vr == "TM":
        names, form = attribute.keyword, "a time as HHMMSS, or a range HHMMSS-HHMMSS"
    else:
        names, form = (
            attribute.keyword,
            "a date as YYYYMMDD, or a range YYYYMMDD-YYYYMMDD",
        )
    return f"{names}: give {form} from the first to the last"


def conditionsOf(texts: Mapping[Attribute, str]) -> list[Condition]:
    """
    What keys with these values ask for.

    @raise DIMSEError: A900 or C000, one cannot be expressed.
    """
    date, time = texts.get(START_DATE, ""), texts.get(START_TIME, "")
    isCombined = _isCombined(date, time)
    conditions = []
    for attribute, text in texts.items():
        if not (isCombined and attribute is START_TIME):
            conditions += conditionsFor(attribute, text)
    if isCombined:
        conditions.append(_combined(conditionsFor(START_DATE, date), time))
    return conditions


def _isCombined(date: str, time: str) -> bool:
    """Whether two keys are one range."""
    days, times = date.split("-"), time.split("-")
    return len(days) == len(times) == 2 and all(
        day.strip() or not hour.strip() for day, hour in zip(days, times, strict=True)
    )


def _combined(dates: list[Condition], time: str) -> Condition:
    """
    Two ranges as one (PS3.4 Table K.6-1). The range of dates is asked besides,
    for it is what an index answers.
    """
    (days,) = dates
    first, _, last = time.partition("-")
    low, high = timeKey(first), timeKey(last, latest=True)
    if not isinstance(days, Range) or (
        (first.strip() and low is None) or (last.strip() and high is None)
    ):
        return Nothing(START)
    begin, end = days.low, days.high
    if begin is not None:
        begin += low or "000000.000000"
    if end is not None:
        end += high or "235959.999999"
    if begin is not None and end is not None and begin > end:
        return Nothing(START)
    return Range(START, begin, end)


class _Place(enum.Enum):
    """Where keys stand."""

    ITEM = enum.auto()
    STEP = enum.auto()
    #: Inside a sequence of which the worklist matches nothing.
    ELSEWHERE = enum.auto()


class _Reading:
    """
    Reads one identifier.

    @ivar texts: the values of the keys that are matched.
    """

    def __init__(self) -> None:
        self.texts: dict[Attribute, str] = {}
        self.isFullySupported = True
        self._keys = 0

    def read(
        self, dataset: Dataset, place: _Place, inherited: str, depth: int
    ) -> tuple[Asked, ...]:
        """
        The keys of a data set or an item, by tag.

        @param inherited: the Specific Character Set around it.
        """
        self._keys += len(dataset)
        if self._keys > MAX_KEYS:
            raise DIMSEError(CANNOT_UNDERSTAND, f"More than {MAX_KEYS} keys")
        return tuple(
            self._key(dataset, tag, place, inherited, depth)
            for tag in sorted(map(int, dataset.keys()))
            if isKey(tag)
        )

    def _key(
        self, dataset: Dataset, tag: int, place: _Place, inherited: str, depth: int
    ) -> Asked:
        if tag == STEP_SEQUENCE and place is _Place.ITEM:
            return self._sequence(dataset, tag, _Place.STEP, inherited, depth)
        attribute = _known(tag, place)
        if attribute is None and place is not _Place.ELSEWHERE:
            self.isFullySupported = False
        vr = vrOf(dataset, tag) if attribute is None else attribute.vr
        if vr == "SQ":
            return self._sequence(dataset, tag, _Place.ELSEWHERE, inherited, depth)
        text = readKey(dataset, tag, vr, inherited)
        if dataset.get_item(tag).VR == "SQ":
            self.isFullySupported = False
        elif attribute is not None and attribute.matched:
            self.texts[attribute] = text
        elif not isUniversal(text):
            self.isFullySupported = False
        return Asked(tag, vr)

    def _sequence(
        self, dataset: Dataset, tag: int, place: _Place, inherited: str, depth: int
    ) -> Asked:
        if depth == MAX_DEPTH:
            raise DIMSEError(
                CANNOT_UNDERSTAND, f"Sequences deeper than {MAX_DEPTH}", (tag,)
            )
        items = _itemsOf(dataset, tag)
        if len(items) > 1:
            raise DIMSEError(
                DATA_SET_DOES_NOT_MATCH, "A sequence has more than one item", (tag,)
            )
        inside = None
        for item in items:
            within = characterSetOf(dataset, inherited)
            inside = self.read(item, place, within, depth + 1) or None
        return Asked(tag, "SQ", inside)


def _known(tag: int, place: _Place) -> Attribute | None:
    attribute = WORKLIST.byTag.get(tag)
    if attribute is None or place is _Place.ELSEWHERE:
        return None
    return attribute if isOfStep(attribute) is (place is _Place.STEP) else None


def _itemsOf(dataset: Dataset, tag: int) -> Sequence:
    """
    The items of a sequence.

    @raise DIMSEError: C000, it is none, or is cut off.
    """
    raw: Any = dataset.get_item(tag)
    if not raw.value:
        return Sequence()
    if len(raw.value) > MAX_SEQUENCE:
        raise DIMSEError(
            CANNOT_UNDERSTAND, f"A sequence of more than {MAX_SEQUENCE} bytes", (tag,)
        )
    try:
        items = dataset[tag].value
        if isinstance(items, Sequence) and _isWhole(raw, items):
            return items
    except Exception:
        # pydicom raises whatever its readers stumble over.
        pass
    raise DIMSEError(CANNOT_UNDERSTAND, "A sequence cannot be decoded", (tag,))


def _isWhole(raw: Any, items: Sequence) -> bool:
    """
    Whether nothing of a sequence is cut off: pydicom takes what is there, and
    a key without its value would match everything.
    """
    for item in items:
        elements: list[Any] = [item.get_item(key) for key in tuple(item.keys())]
        for element in elements:
            if isinstance(element, RawDataElement) and element.length not in (
                len(element.value or b""),
                _UNDEFINED,
            ):
                return False
    if not isinstance(raw, RawDataElement) or not isinstance(raw.value, bytes):
        return True
    header = Struct("<HHL" if raw.is_little_endian else ">HHL")
    place = 0
    while place < len(raw.value):
        group, element, length = header.unpack_from(raw.value, place)
        if (group, element) != (0xFFFE, 0xE000):
            return False
        if length == _UNDEFINED:
            return True
        place += header.size + length
    return place == len(raw.value)
