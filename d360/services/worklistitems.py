"""
Worklist items from and to the forms that they have outside: JSON by keyword,
the DICOM JSON Model (PS3.18 F.2) and data sets. Inside there is one form, the
DICOM JSON Model with every value checked, without empty elements and without
Specific Character Set: text is Unicode. Pure: no I/O.

Any attribute of DICOM's dictionary may be in an item, other than bulk data and
those that belong to a message or a file. Where the worklist's registry knows
an attribute's place, it stands there.

What must be there (type 1 in PS3.4 Table K.6-1) and is not is an error, unless
it can be made: UIDs and IDs are, and a step that has a date and no time starts
with the day, at 000000.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any
from uuid import uuid4

from attrs import frozen
from pydicom.datadict import (
    dictionary_VM,
    dictionary_VR,
    keyword_for_tag,
    tag_for_keyword,
)
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue

from d360.model import WorklistItem
from d360.reading import BoundedFile, TooManyElements, itemsOf
from d360.services import transfersyntaxes
from d360.services.header import SPECIFIC_CHARACTER_SET, HeaderError
from d360.services.matching import characterSetOf, isKey, readKey
from d360.services.part10 import readHead
from d360.services.text import decodeText, encodingsOf
from d360.services.worklistquestions import readConditions
from d360.services.worklistvalues import LONG_TEXT_VRS, readValue
from d360.worklistattributes import (
    START_TIME,
    WORKLIST,
    isOfStep,
    jsonKey,
    stepsOf,
    textsOf,
)

#: Sequences within sequences, items of a sequence, values of an element, and
#: elements of an item in all, of which one with several values counts as several.
#: An item of a RIS has some hundred; others wait while they are read, for some
#: milliseconds.
MAX_DEPTH = 8
MAX_ITEMS = 100
MAX_VALUES = 100
MAX_ELEMENTS = 2_000

_BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBER_VRS = frozenset({"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})

_STEPS = "ScheduledProcedureStepSequence"
_REQUIRED = ("PatientName", "PatientID")
_REQUIRED_OF_STEP = (
    "Modality",
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
)

_Attributes = dict[str, Any]


class ItemError(ValueError):
    """
    What is given makes no worklist item.

    @ivar keyword: what is wrong, with the way to it:
        C{ScheduledProcedureStepSequence[0].Modality}. Never with its value.
    @ivar reason: why, or what would be right.
    """

    def __init__(self, keyword: str, reason: str) -> None:
        super().__init__(f"{keyword}: {reason}")
        self.keyword = keyword
        self.reason = reason


@frozen
class _Given:
    """
    An element as it is given.

    @ivar name: for people.
    @ivar vr: of the dictionary.
    @ivar values: of a sequence its items, in whatever form they have.
    """

    name: str
    tag: int
    vr: str
    values: list[Any]


#: Takes an item of some form, and the way to it, apart.
_Form = Callable[[Any, str], Iterator[_Given]]


# --- in ---------------------------------------------------------------------


def readKeywords(
    body: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> _Attributes:
    """
    An item of JSON by keyword. A value is a text, a number, a list of such
    where there are several, or a list of objects for a sequence; the component
    groups of a name are joined by C{=}.

    @param known: the attributes that it is to replace: where UIDs and IDs are
        not given, it keeps theirs.
    @raise ItemError: it is not right.
    """
    return _complete(_Reading(_ofKeywords).read(body, "", 0), known)


def readModel(
    body: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> _Attributes:
    """As L{readKeywords}, of the DICOM JSON Model."""
    return _complete(_Reading(_ofModel).read(body, "", 0), known)


def readDataset(
    dataset: Dataset, known: Mapping[str, Any] | None = None
) -> _Attributes:
    """
    As L{readKeywords}, of a data set in whatever character set. Private
    attributes, bulk data, and what the dictionary does not know are left out.
    """
    return _complete(_Reading(_ofDataset).read((dataset, ""), "", 0), known)


def readFile(data: bytes, known: Mapping[str, Any] | None = None) -> _Attributes:
    """As L{readDataset}, of a DICOM file (PS3.10)."""
    file = BytesIO(data)
    try:
        syntax = readHead(file).transferSyntax
    except HeaderError as error:
        raise ItemError("file", str(error)) from None
    if transfersyntaxes.isDeflated(syntax):
        raise ItemError("file", "it is deflated; give one that is not")
    try:
        dataset = read_dataset(
            BoundedFile(file.read(), MAX_ELEMENTS),
            transfersyntaxes.isImplicit(syntax),
            not transfersyntaxes.isBigEndian(syntax),
        )
        return readDataset(dataset, known)
    except ItemError:
        raise
    except TooManyElements:
        raise ItemError("file", f"more than {MAX_ELEMENTS} elements") from None
    except Exception:
        # pydicom raises whatever its readers stumble over.
        raise ItemError("file", "it cannot be decoded") from None


class _Reading:
    """Reads one item, with all that is inside of it."""

    def __init__(self, form: _Form) -> None:
        self._form = form
        self._elements = 0

    def read(self, item: Any, way: str, depth: int) -> _Attributes:
        """An item or an item of a sequence, its elements by tag."""
        attributes = {}
        for given in self._form(item, way):
            self._elements += len(given.values) or 1
            where = way + given.name
            if self._elements > MAX_ELEMENTS:
                raise ItemError(where, f"more than {MAX_ELEMENTS} elements")
            _checkPlace(given, where, way)
            key = jsonKey(given.tag)
            if key in attributes:
                raise ItemError(where, "it is there twice")
            if given.vr == "SQ":
                values = self._items(given, where, depth)
            else:
                values = _values(given, where)
            attributes[key] = {"vr": given.vr, "Value": values}
        return {
            key: attributes[key]
            for key in sorted(attributes)
            if any(value is not None for value in attributes[key]["Value"])
        }

    def _items(self, given: _Given, where: str, depth: int) -> list[_Attributes]:
        if depth == MAX_DEPTH:
            raise ItemError(where, f"more than {MAX_DEPTH} sequences in each other")
        if len(given.values) > MAX_ITEMS:
            raise ItemError(where, f"more than {MAX_ITEMS} items")
        return [
            self.read(item, f"{where}[{number}].", depth + 1)
            for number, item in enumerate(given.values)
        ]


def _checkPlace(given: _Given, where: str, way: str) -> None:
    """Attributes whose place the registry knows stand there."""
    if given.vr in _BULK_VRS:
        raise ItemError(where, f"leave it out, for an item holds no VR {given.vr}")
    attribute = WORKLIST.byTag.get(given.tag)
    if attribute is None:
        return
    isInStep = re.fullmatch(rf"{_STEPS}\[[0-9]+\]\.", way) is not None
    if isOfStep(attribute) and not way:
        raise ItemError(where, f"it belongs into an item of {_STEPS}")
    if not isOfStep(attribute) and isInStep:
        raise ItemError(where, f"it belongs outside of {_STEPS}")


def _values(given: _Given, where: str) -> list[Any]:
    least, most = _multiplicity(given.tag)
    if len(given.values) > most:
        raise ItemError(where, f"more than {most} value{'s' if most > 1 else ''}")
    try:
        values = [readValue(given.vr, value) for value in given.values]
    except ValueError as error:
        raise ItemError(where, str(error)) from None
    if any(value is not None for value in values) and len(values) < least:
        raise ItemError(where, f"fewer than {least} values")
    return values


@lru_cache(8192)
def _multiplicity(tag: int) -> tuple[int, int]:
    """How many values an attribute has, at least and at most (PS3.6 5)."""
    least, _, most = dictionary_VM(tag).split(" ")[0].partition("-")
    if not most:
        return int(least), int(least)
    return int(least), int(most) if most.isdigit() else MAX_VALUES


def _entryOf(tag: int, where: str) -> tuple[str, str]:
    """Keyword and VR of an attribute that an item may have."""
    keyword, vr = _known(tag)
    if not keyword:
        raise ItemError(where, "DICOM knows no such attribute")
    if not isKey(tag):
        raise ItemError(where, "leave it out, for it belongs to no item")
    return keyword, vr


@lru_cache(8192)
def _known(tag: int) -> tuple[str, str]:
    """Keyword and VR in the dictionary, which is slow to ask; empty if in none."""
    keyword = keyword_for_tag(tag)
    # One keyword is for all groups of a repeating one, so that it names none.
    if not keyword or tag_for_keyword(keyword) != tag:
        return "", ""
    # "US or SS" and the like: the first.
    return keyword, dictionary_VR(tag).split(" ")[0]


def _object(item: Any, way: str) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise ItemError(way.rstrip(".") or "item", "give an object")
    return item


def _ofKeywords(item: Any, way: str) -> Iterator[_Given]:
    for keyword, value in _object(item, way).items():
        name = str(keyword)[:64]
        tag = tag_for_keyword(name)
        if tag is None:
            raise ItemError(way + name, "DICOM knows no such attribute")
        if tag == SPECIFIC_CHARACTER_SET:
            continue
        _, vr = _entryOf(tag, way + name)
        if vr == "SQ" and not isinstance(value, list) and value is not None:
            raise ItemError(way + name, "give a list of objects, for it is a sequence")
        values = value if isinstance(value, list) else [value]
        if vr == "SQ" and value is None:
            values = []
        elif vr != "SQ" and any(isinstance(one, (dict, list)) for one in values):
            raise ItemError(way + name, "give a text or a number, or a list of such")
        yield _Given(name, tag, vr, values)


_MODEL_TAG = re.compile(r"[0-9A-Fa-f]{8}")


def _ofModel(item: Any, way: str) -> Iterator[_Given]:
    for key, element in _object(item, way).items():
        if not _MODEL_TAG.fullmatch(key):
            raise ItemError(way + key[:64], "give a tag as eight hexadecimal digits")
        tag = int(key, 16)
        if tag == SPECIFIC_CHARACTER_SET or tag & 0xFFFF == 0:
            continue
        name, vr = _entryOf(tag, way + key)
        element = _object(element, way + name)
        if element.get("vr", vr) != vr:
            raise ItemError(way + name, f"its vr is {vr}")
        if not element.keys() <= {"vr", "Value"}:
            raise ItemError(way + name, "give its vr and its Value, and nothing else")
        values = element.get("Value", [])
        if not isinstance(values, list):
            raise ItemError(way + name, "give a list as its Value")
        if vr != "PN" and vr != "SQ" and any(isinstance(v, dict) for v in values):
            raise ItemError(way + name, "give texts or numbers as its Value")
        # An empty item of a sequence may be null.
        if vr == "SQ":
            values = [{} if value is None else value for value in values]
        yield _Given(name, tag, vr, values)


def _ofDataset(item: tuple[Dataset, str], way: str) -> Iterator[_Given]:
    dataset, inherited = item
    characterSet = characterSetOf(dataset, inherited)
    for tag in sorted(map(int, dataset.keys())):
        if not isKey(tag) or tag >> 16 & 1:
            continue
        try:
            name, vr = _entryOf(tag, "")
        except ItemError:
            continue
        if vr in _BULK_VRS:
            continue
        try:
            values = list(_valuesOf(dataset, tag, vr, characterSet))
        except TooManyElements:
            raise ItemError(way + name, f"more than {MAX_ELEMENTS} elements") from None
        except Exception:
            # pydicom raises whatever its readers stumble over.
            raise ItemError(way + name, "it cannot be decoded") from None
        yield _Given(name, tag, vr, values)


def _valuesOf(dataset: Dataset, tag: int, vr: str, characterSet: str) -> Iterator[Any]:
    if vr == "SQ":
        items = itemsOf(dataset, tag, MAX_ELEMENTS)
        if items is None:
            raise ValueError("no sequence")
        yield from ((item, characterSet) for item in items)
    elif vr in _NUMBER_VRS:
        value = dataset[tag].value
        values = value if isinstance(value, (MultiValue, list)) else [value]
        yield from (f"{one:08X}" if vr == "AT" else one for one in values)
    elif vr in LONG_TEXT_VRS:
        yield _linesOf(dataset, tag, characterSet)
    else:
        text = readKey(dataset, tag, vr, characterSet)
        yield from text.split("\\") if text else ()


_LINE_ENDS = re.compile(rb"([\t\n\f\r]+)")


def _linesOf(dataset: Dataset, tag: int, characterSet: str) -> str:
    """A text line by line, so that its controls stay."""
    element: Any = dataset.get_item(tag)
    if not isinstance(element, RawDataElement):
        return str(element.value or "")
    encodings = encodingsOf(characterSet)
    return "".join(
        piece.decode("ascii") if number % 2 else decodeText(piece, encodings)
        for number, piece in enumerate(_LINE_ENDS.split(element.value or b""))
    )


# --- what must be there -----------------------------------------------------


def _complete(attributes: _Attributes, known: Mapping[str, Any] | None) -> _Attributes:
    """
    Make what can be made.

    @raise ItemError: the rest, all that is missing.
    """
    steps = stepsOf(attributes)
    missing = [keyword for keyword in _REQUIRED if _key(keyword) not in attributes]
    if not steps:
        missing.append(_STEPS)
    missing += [
        f"{_STEPS}[{number}].{keyword}"
        for number, step in enumerate(steps)
        for keyword in _REQUIRED_OF_STEP
        if _key(keyword) not in step
    ]
    if missing:
        raise ItemError(", ".join(missing[:20]), "missing")
    former = dict(known or {})
    _make(attributes, "StudyInstanceUID", former, f"2.25.{uuid4().int}")
    _make(attributes, "RequestedProcedureID", former, f"RP{_unique()}")
    _completeSteps(steps, stepsOf(former))
    return dict(sorted(attributes.items()))


def _completeSteps(steps: list[_Attributes], former: list[_Attributes]) -> None:
    key = _key("ScheduledProcedureStepID")
    taken: set[tuple[str, ...]] = set()
    for number, step in enumerate(steps):
        if key in step and textsOf(step[key]) in taken:
            raise ItemError(
                f"{_STEPS}[{number}].ScheduledProcedureStepID", "another step has it"
            )
        taken.add(textsOf(step.get(key)))
    for number, step in enumerate(steps):
        source = former[number] if number < len(former) else {}
        if textsOf(source.get(key)) in taken:
            source = {}
        _make(step, "ScheduledProcedureStepID", source, f"SPS{_unique()}")
        taken.add(textsOf(step[key]))
        _make(step, START_TIME.keyword, {}, "000000")
        ordered = sorted(step.items())
        step.clear()
        step.update(ordered)


def _make(
    attributes: _Attributes, keyword: str, former: _Attributes, value: str
) -> None:
    key = _key(keyword)
    element = {"vr": WORKLIST.byKeyword[keyword].vr, "Value": [value]}
    attributes.setdefault(key, former.get(key, element))


def _key(keyword: str) -> str:
    return jsonKey(WORKLIST.byKeyword[keyword].tag)


def _unique() -> str:
    """What nobody else makes, short enough for SH with three letters before it."""
    return uuid4().hex[-13:].upper()


# --- out --------------------------------------------------------------------


def asKeywords(item: WorklistItem) -> dict[str, Any]:
    """What L{readKeywords} makes the same item of."""
    return _named(item.attributes)


def _named(attributes: _Attributes) -> dict[str, Any]:
    return {
        _known(int(key, 16))[0] or key: _plain(element)
        for key, element in attributes.items()
    }


def _plain(element: dict[str, Any]) -> Any:
    values = element["Value"]
    if element["vr"] == "SQ":
        return [_named(item) for item in values]
    if element["vr"] == "PN":
        values = textsOf(element)
    plain = ["" if value is None else value for value in values]
    return plain[0] if len(plain) == 1 else plain


def asModel(item: WorklistItem) -> dict[str, Any]:
    """What L{readModel} makes the same item of."""
    return item.attributes


class WorklistForms:
    """All of this as one object, for those who see no services."""

    fromKeywords = staticmethod(readKeywords)
    fromModel = staticmethod(readModel)
    fromFile = staticmethod(readFile)
    asKeywords = staticmethod(asKeywords)
    asModel = staticmethod(asModel)
    conditions = staticmethod(readConditions)
