"""
The identifiers of the worklist's answers (PS3.4 K.4.1.1.3, K.6.1.2), one for a
scheduled procedure step, encoded directly from the DICOM JSON Model. Their
Specific Character Set is chosen as in L{d360.services.identifiers}.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any

from d360.model import ScheduledStep
from d360.services.header import SPECIFIC_CHARACTER_SET
from d360.services.identifiers import ElementEncoder, characterSets
from d360.services.text import TEXT_VRS
from d360.services.worklistquestions import Asked
from d360.worklistattributes import (
    STATED_OF_STEP,
    STEP_SEQUENCE,
    jsonKey,
    stepsOf,
    textsOf,
)

#: VRs of numbers that are not text, as L{struct} packs them.
_FORMATS = {
    "FD": "d",
    "FL": "f",
    "SL": "l",
    "SS": "h",
    "SV": "q",
    "UL": "L",
    "US": "H",
    "UV": "Q",
}

_Item = dict[str, Any]

#: Encoded elements by tag and VR.
_Elements = dict[tuple[int, str], bytes]


class AnswerEncoder:
    """
    Encodes the identifiers of one operation.

    @param asked: what they hold.
    """

    def __init__(self, asked: Iterable[Asked], transferSyntax: str) -> None:
        self._asked = tuple(asked)
        self._encoder = ElementEncoder(transferSyntax)
        self._empty: _Elements = {}
        self._latin, self._unicode = characterSets(self._encoder)

    def encode(self, step: ScheduledStep) -> bytes:
        """
        One identifier, its elements in the order of their tags; without a
        value what the item does not have.
        """
        steps = stepsOf(step.item.attributes)
        item = {
            **step.item.attributes,
            jsonKey(STEP_SEQUENCE): {"vr": "SQ", "Value": [steps[step.number]]},
        }
        try:
            return self._identifier(item, "latin-1", self._latin)
        except UnicodeEncodeError:
            return self._identifier(item, "utf-8", self._unicode)

    def _identifier(self, item: _Item, encoding: str, characterSet: bytes) -> bytes:
        before, behind = b"", b""
        writing = _Writing(self._encoder, encoding, self._empty)
        for asked in self._asked:
            element = writing.element(asked, item)
            if asked.tag < SPECIFIC_CHARACTER_SET:
                before += element
            else:
                behind += element
        return before + (characterSet if writing.hasText else b"") + behind


class _Writing:
    """
    One identifier being written.

    @param empty: elements without a value, made once for all identifiers.
    @ivar hasText: it has an element that the character set applies to.
    """

    def __init__(
        self, encoder: ElementEncoder, encoding: str, empty: _Elements
    ) -> None:
        self.hasText = False
        self._encoder = encoder
        self._encoding = encoding
        self._empty = empty

    def _without(self, asked: Asked) -> bytes:
        """One without a value, as most of them are."""
        found = self._empty.get((asked.tag, asked.vr))
        if found is None:
            found = self._encoder.element(asked.tag, asked.vr, b"")
            self._empty[asked.tag, asked.vr] = found
        return found

    def element(self, asked: Asked, item: _Item) -> bytes:
        """What is asked of an item, with or without a value."""
        held = item.get(jsonKey(asked.tag))
        if held is None:
            if asked.vr in TEXT_VRS:
                self.hasText = True
            return self._without(asked)
        vr: str = held["vr"]
        if vr in TEXT_VRS:
            self.hasText = True
        if vr == "SQ":
            within = (
                b"".join(self.element(one, inner) for one in _insideOf(asked, inner))
                for inner in held.get("Value", ())
            )
            return self._encoder.sequence(asked.tag, within)
        return self._encoder.element(asked.tag, vr, self._value(vr, held))

    def _value(self, vr: str, held: _Item) -> bytes:
        if vr == "AT":
            halves = Struct(f"{self._encoder.order}HH")
            tags = [int(text, 16) for text in textsOf(held) if text]
            return b"".join(halves.pack(tag >> 16, tag & 0xFFFF) for tag in tags)
        if vr in _FORMATS:
            values = [value for value in held.get("Value", ()) if value is not None]
            return Struct(f"{self._encoder.order}{len(values)}{_FORMATS[vr]}").pack(
                *values
            )
        return "\\".join(textsOf(held)).encode(self._encoding)


def _insideOf(asked: Asked, item: _Item) -> Iterable[Asked]:
    """What of an item is answered: what is asked, or all that there is."""
    if asked.inside is not None:
        return asked.inside
    everything = {int(key, 16): element["vr"] for key, element in item.items()}
    if asked.tag == STEP_SEQUENCE:
        for attribute in STATED_OF_STEP:
            everything.setdefault(attribute.tag, attribute.vr)
    return [Asked(tag, vr) for tag, vr in sorted(everything.items())]
