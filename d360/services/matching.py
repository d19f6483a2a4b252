"""
From the identifier of a query to the question that the index is asked
(PS3.4 C.2.2.2, C.4.1; conformance 7.2.2). Pure: no I/O.

Where the standard leaves it open:

 - A date, a time or a number that cannot be read matches nothing; so do wild
   cards in a date, a time, a number or a UID, and a range whose ends are
   swapped. The answer is an empty one, not a failure.
 - Several values with backslashes are any-of for every VR; ranges among
   several values are refused (A900).
 - A key that cannot be matched, such as a count, a sequence, an attribute of
   a lower level, or one that the index does not know, is treated as universal
   and reported by the status FF01 (PS3.4 C.4.1.1.4).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

from attrs import frozen
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.valuerep import STANDARD_VR

from d360.attributes import (
    RANGE_VRS,
    REGISTRY,
    WILDCARD_VRS,
    Attribute,
    Level,
    Registry,
    dateKey,
    foldComponentGroup,
    matchKey,
    timeKey,
)
from d360.dimse.status import CANNOT_UNDERSTAND, DATA_SET_DOES_NOT_MATCH
from d360.errors import DIMSEError
from d360.model import (
    AnyOf,
    Condition,
    NameMatch,
    Nothing,
    Query,
    Range,
    Wildcard,
)
from d360.services.header import SPECIFIC_CHARACTER_SET
from d360.services.sopclasses import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from d360.services.text import TEXT_VRS, decodeText, encodingsOf

QUERY_RETRIEVE_LEVEL = 0x00080052
RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056
_STUDY_INSTANCE_UID = 0x0020000D

#: Answered from what the server is, not from the index.
ANSWERED_ALWAYS = frozenset(
    {QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY}
)

#: Nobody asks for more at once in good faith. The length, in characters, is
#: that of a key other than a list of UIDs.
MAX_KEYS = 1024
MAX_VALUES = 4096
MAX_KEY_LENGTH = 16384

#: Values of a key that are searched for: each is compared with each entity,
#: by thousands of comparisons in all where there are thousands of values.
MAX_PATTERNS = 128


class Root(enum.Enum):
    """The information models (PS3.4 C.6.1, C.6.2) by their FIND SOP class."""

    PATIENT = PATIENT_ROOT_FIND
    STUDY = STUDY_ROOT_FIND

    @property
    def levels(self) -> tuple[Level, ...]:
        """From the top."""
        return tuple(Level) if self is Root.PATIENT else tuple(Level)[1:]


@frozen
class Key:
    """
    A key of the identifier.

    @ivar vr: as the answer has it.
    @ivar attribute: what the index knows it as; C{None} if it can give no
        value for it at this level.
    """

    tag: int
    vr: str
    attribute: Attribute | None


@frozen
class Question:
    """
    What an identifier asks.

    @ivar asked: the keys, by tag; those of L{ANSWERED_ALWAYS} not among them.
    @ivar isFullySupported: no key was ignored; otherwise matches are pending
        with FF01.
    """

    query: Query
    asked: tuple[Key, ...]
    isFullySupported: bool


def readQuestion(
    identifier: Dataset, root: Root, registry: Registry = REGISTRY
) -> Question:
    """
    @raise DIMSEError: A900 or C000, the identifier cannot be answered.
    """
    if len(identifier) > MAX_KEYS:
        raise DIMSEError(CANNOT_UNDERSTAND, f"More than {MAX_KEYS} keys")
    level = readLevel(identifier, root)
    conditions: list[Condition] = []
    asked: list[Key] = []
    supported = True
    for tag in sorted(map(int, identifier.keys())):
        if not isKey(tag) or tag in ANSWERED_ALWAYS:
            continue
        attribute = registry.byTag.get(tag)
        if attribute is None or attribute.level > level:
            asked.append(Key(tag, _vrOf(identifier, tag, attribute), None))
            supported = False
            continue
        asked.append(Key(tag, attribute.vr, attribute))
        element: Any = identifier.get_item(tag)
        if element.VR == "SQ":
            supported = False
            continue
        # Most keys only say what is to come back.
        if element.value is None or element.value == b"":
            continue
        text = readKey(identifier, tag, attribute.vr)
        if attribute.matched:
            conditions += conditionsFor(attribute, text)
        elif not isUniversal(text):
            supported = False
    _checkRequired(level, conditions)
    returned = tuple(key.attribute for key in asked if key.attribute is not None)
    query = Query(level, tuple(conditions), returned)
    return Question(query, tuple(asked), supported)


def readLevel(identifier: Dataset, root: Root) -> Level:
    """
    Query/Retrieve Level (0008,0052).

    @raise DIMSEError: A900, it is missing, or none of the model's.
    """
    text = readKey(identifier, QUERY_RETRIEVE_LEVEL, "CS")
    for level in root.levels:
        if level.name == text:
            return level
    raise DIMSEError(
        DATA_SET_DOES_NOT_MATCH,
        "Query/Retrieve Level is missing or none of this SOP class",
        (QUERY_RETRIEVE_LEVEL,),
    )


def _checkRequired(level: Level, conditions: Iterable[Condition]) -> None:
    """Conformance 7.2.2.1: the study must be named at SERIES and IMAGE level."""
    if level < Level.SERIES:
        return
    if not any(c.attribute.tag == _STUDY_INSTANCE_UID for c in conditions):
        raise DIMSEError(
            DATA_SET_DOES_NOT_MATCH,
            "Study Instance UID is required at this level",
            (_STUDY_INSTANCE_UID,),
        )


def isKey(tag: int) -> bool:
    """Whether an element asks for something: no group length, no character set."""
    return bool(tag & 0xFFFF) and tag >> 16 >= 8 and tag != SPECIFIC_CHARACTER_SET


def _vrOf(identifier: Dataset, tag: int, attribute: Attribute | None) -> str:
    """The VR of a key that comes back empty."""
    return vrOf(identifier, tag) if attribute is None else attribute.vr


def vrOf(identifier: Dataset, tag: int) -> str:
    """The VR of a key that no registry knows."""
    vr = identifier.get_item(tag).VR
    # Two bytes that are no VR would make the answer unreadable.
    if vr not in STANDARD_VR or vr == "UN":
        try:
            # "US or SS" and the like: an empty value is the same in each.
            vr = dictionary_VR(tag).split(" ")[0]
        except KeyError:
            vr = "UN"
    return str(vr)


def characterSetOf(identifier: Dataset, inherited: str = "") -> str:
    """
    Specific Character Set (0008,0005); an item of a sequence without one has
    that of the data set around it (PS3.5 7.5.3).
    """
    return readKey(identifier, SPECIFIC_CHARACTER_SET, "CS") or inherited


def readKey(identifier: Dataset, tag: int, vr: str, inherited: str = "") -> str:
    """
    The text of a key, without padding; C{""} if it is not there. It is read
    from the bytes where they are there, for pydicom refuses to make values of
    keys such as a number with a wild card.

    @param inherited: the Specific Character Set around an item of a sequence.
    """
    if tag not in identifier:
        return ""
    element: Any = identifier.get_item(tag)
    value = element.value
    if isinstance(element, RawDataElement):
        encodings: tuple[str, ...] = ()
        if vr in TEXT_VRS:
            encodings = encodingsOf(characterSetOf(identifier, inherited))
        return decodeText(value or b"", encodings, vr == "PN")
    if isinstance(value, Sequence):
        return ""
    if isinstance(value, (MultiValue, list, tuple)):
        return "\\".join(map(str, value))
    return "" if value is None else str(value).strip("\0 ")


def isUniversal(text: str) -> bool:
    """Whether a key matches everything (PS3.4 C.2.2.2.3)."""
    return not text.strip("* ")


def conditionsFor(attribute: Attribute, text: str) -> list[Condition]:
    """
    What the value of a key asks for; nothing if it is universal.

    @raise DIMSEError: A900 or C000, it cannot be expressed.
    """
    if isUniversal(text):
        return []
    if len(text) > MAX_KEY_LENGTH and attribute.vr != "UI":
        raise DIMSEError(
            CANNOT_UNDERSTAND,
            f"Longer than {MAX_KEY_LENGTH} characters",
            (attribute.tag,),
        )
    values = [value.strip() for value in text.split("\\")]
    values = [value for value in values if value]
    if len(values) > MAX_VALUES:
        raise DIMSEError(
            CANNOT_UNDERSTAND, f"More than {MAX_VALUES} values", (attribute.tag,)
        )
    if not values:
        return []
    isSearched = attribute.vr == "PN" or (
        attribute.vr in WILDCARD_VRS and any(map(_hasWildcards, values))
    )
    if isSearched and len(values) > MAX_PATTERNS:
        raise DIMSEError(
            CANNOT_UNDERSTAND,
            f"More than {MAX_PATTERNS} names or wild cards",
            (attribute.tag,),
        )
    if attribute.vr == "PN":
        return _names(attribute, values)
    if len(values) == 1 and attribute.vr in RANGE_VRS:
        return [_period(attribute, values[0])]
    if isSearched:
        return [Wildcard(attribute, tuple(values))]
    return [_anyOf(attribute, values)]


def _hasWildcards(value: str) -> bool:
    return "*" in value or "?" in value


def _anyOf(attribute: Attribute, values: list[str]) -> Condition:
    """One of several values, or a single one."""
    for value in values:
        if attribute.vr == "TM" or (attribute.vr in RANGE_VRS and "-" in value):
            raise _notInList(attribute, "Ranges and times")
    found = [matchKey(attribute.vr, value) for value in values]
    keys = tuple(dict.fromkeys(key for key in found if key is not None))
    return AnyOf(attribute, keys) if keys else Nothing(attribute)


def _notInList(attribute: Attribute, what: str) -> DIMSEError:
    return DIMSEError(
        DATA_SET_DOES_NOT_MATCH,
        f"{what} among several values are not supported",
        (attribute.tag,),
    )


def _period(attribute: Attribute, value: str) -> Condition:
    """A date or a time, or a range of them (PS3.4 C.2.2.2.5)."""
    isTime = attribute.vr == "TM"
    first, dash, last = value.partition("-")
    if not dash and not isTime:
        key = dateKey(value)
        return AnyOf(attribute, (key,)) if key is not None else Nothing(attribute)
    if not dash:
        last = first
    low = timeKey(first) if isTime else dateKey(first)
    high = timeKey(last, latest=True) if isTime else dateKey(last)
    if (first.strip() and low is None) or (last.strip() and high is None):
        return Nothing(attribute)
    if low is None and high is None:
        return Nothing(attribute)
    if low is not None and high is not None and low > high:
        return Nothing(attribute)
    return Range(attribute, low, high)


def _names(attribute: Attribute, values: list[str]) -> list[Condition]:
    """
    Person names: without C{=} each component group is searched; with it each
    group that is given must match in its place (PS3.5 6.2.1).
    """
    if not any("=" in value for value in values):
        patterns: list[str] = []
        for value in values:
            found = namePatterns(value)
            if not found:
                return []
            patterns += found
        return [NameMatch(attribute, tuple(dict.fromkeys(patterns)))]
    if len(values) > 1:
        raise _notInList(attribute, "Component groups")
    conditions: list[Condition] = []
    for number, group in enumerate(values[0].split("=")[:3]):
        found = namePatterns(group)
        if found:
            conditions.append(NameMatch(attribute, found, number))
    return conditions


def namePatterns(group: str) -> tuple[str, ...]:
    """
    The folded patterns for a key's component group; none if it is universal.

    A component that the key leaves open, C{Rossi^*}, may be missing from the
    name altogether: C{Rossi}.
    """
    folded = foldComponentGroup(group)
    components = folded.split("^")
    while components and not components[-1].strip("*"):
        components.pop()
    shortest = "^".join(components)
    if not shortest:
        return ()
    if shortest == folded:
        return (shortest,)
    return (shortest, f"{shortest}^*")
