"""
Values of worklist items as people and programs write them, checked by their
value representation (PS3.5 6.2) and brought to the one form of the DICOM JSON
Model (PS3.18 F.2) in which they are kept.

Numbers that are text in DICOM (DS) stay text, which the model allows: C{70.50}
comes back as it was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any

from pydicom.valuerep import format_number_as_ds

from d360.addresses import readAETitle
from d360.attributes import dateKey, timeKey
from d360.services.uids import isUID

#: VRs whose text may have lines, and backslashes.
LONG_TEXT_VRS = frozenset({"LT", "ST", "UR", "UT"})

#: Component groups of a name, as the model calls them.
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

# Characters at most. Those of UC, UR and UT are ours.
_LENGTHS = {
    "LO": 64,
    "LT": 10240,
    "SH": 16,
    "ST": 1024,
    "UC": 65536,
    "UR": 65536,
    "UT": 65536,
}
_NAME_LENGTH = 64
_COMPONENTS = 5

_CONTROLS = re.compile("[\0-\x1f\x7f]")
_CONTROLS_IN_LINES = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CODE = re.compile(r"[A-Z0-9 _]{1,16}")
_AGE = re.compile(r"[0-9]{3}[DWMY]")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATETIME = re.compile(
    r"([0-9]{4}(?:[0-9]{2}){0,2})((?:[0-9]{2}){1,3}(?:\.[0-9]{1,6})?)?"
    r"([+-][01][0-9][0-5][0-9])?"
)

# The least and the largest of whole numbers.
_BOUNDS = {
    "IS": (-(2**31), 2**31 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "SV": (-(2**63), 2**63 - 1),
    "UL": (0, 2**32 - 1),
    "US": (0, 2**16 - 1),
    "UV": (0, 2**64 - 1),
}


def readValue(vr: str, value: Any) -> Any:
    """
    One value in the model's form; C{None} for an empty one.

    @raise ValueError: with what would be right.
    """
    if value is None or value == "":
        return None
    read = _READERS.get(vr)
    if read is None:
        raise ValueError(f"leave it out, for an item holds no VR {vr}")
    return read(vr, value)


def _text(value: Any, controls: re.Pattern[str] = _CONTROLS) -> str:
    """Text without the spaces around it, which are of no meaning."""
    if not isinstance(value, str):
        raise ValueError("give a text in quotes")
    if controls.search(value):
        raise ValueError("give a text without control characters")
    if _SURROGATES.search(value):
        raise ValueError("give a text of whole characters")
    return value.strip(" ")


def _readText(vr: str, value: Any) -> str | None:
    if vr in LONG_TEXT_VRS:
        text = _text(value, _CONTROLS_IN_LINES)
    else:
        text = _text(value)
        if "\\" in text:
            raise ValueError("give a list for several values, and no backslash")
    if len(text) > _LENGTHS[vr]:
        raise ValueError(f"give {_LENGTHS[vr]} characters at most")
    return text or None


def _readName(vr: str, value: Any) -> dict[str, str] | None:
    if isinstance(value, dict):
        if not value.keys() <= set(GROUPS):
            raise ValueError(f"give nothing but {', '.join(GROUPS)}")
        groups = [_text(value.get(group) or "") for group in GROUPS]
        if any("=" in group for group in groups):
            raise ValueError("give each component group for itself, and no =")
    else:
        groups = [group.strip(" ") for group in _text(value).split("=")]
    if len(groups) > len(GROUPS):
        raise ValueError("give three component groups at most")
    for group in groups:
        if "\\" in group:
            raise ValueError("give a list for several names, and no backslash")
        if len(group) > _NAME_LENGTH:
            raise ValueError(f"give {_NAME_LENGTH} characters a component group")
        if group.count("^") >= _COMPONENTS:
            raise ValueError(f"give {_COMPONENTS} components at most")
    found = {name: text for name, text in zip(GROUPS, groups, strict=False) if text}
    # Nothing but delimiters is no name.
    return found if any(text.strip("^ ") for text in found.values()) else None


def _readAETitle(vr: str, value: Any) -> str | None:
    if not _text(value):
        return None
    try:
        return readAETitle(value)
    except ValueError as error:
        raise ValueError(f"give {error}") from None


def _readDate(vr: str, value: Any) -> str | None:
    text = _text(value)
    key = dateKey(text)
    if text and key is None:
        raise ValueError("give a date as YYYYMMDD")
    if key is not None:
        try:
            date(int(key[:4]), int(key[4:6]), int(key[6:]))
        except ValueError:
            raise ValueError("give a day that the calendar has") from None
    return key


def _readTime(vr: str, value: Any) -> str | None:
    text = _text(value)
    if text and timeKey(text) is None:
        raise ValueError("give a time as HH, HHMM, HHMMSS or HHMMSS.FFFFFF")
    return text.replace(":", "") or None


def _readDateTime(vr: str, value: Any) -> str | None:
    text = _text(value)
    match = _DATETIME.fullmatch(text)
    if text and not (
        match
        and dateKey(match[1].ljust(8, "?").replace("??", "01")) is not None
        and (match[2] is None or (len(match[1]) == 8 and timeKey(match[2])))
    ):
        raise ValueError("give a date and time as YYYYMMDDHHMMSS")
    return text or None


def _matching(pattern: re.Pattern[str], right: str) -> Callable[[str, Any], Any]:
    def read(vr: str, value: Any) -> str | None:
        text = _text(value)
        if text and not pattern.fullmatch(text):
            raise ValueError(f"give {right}")
        return text or None

    return read


def _readUID(vr: str, value: Any) -> str | None:
    text = _text(value)
    if text and not isUID(text):
        raise ValueError("give a UID: numbers joined by dots, 64 characters at most")
    return text or None


def _readDecimal(vr: str, value: Any) -> str | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            if not math.isfinite(value):
                raise ValueError
            return str(value) if len(str(value)) <= 16 else format_number_as_ds(value)
        except (ValueError, OverflowError, TypeError):
            raise ValueError("give a number of 16 digits at most") from None
    text = _text(value)
    if text and (
        len(text) > 16 or not _DECIMAL.fullmatch(text) or not math.isfinite(float(text))
    ):
        raise ValueError("give a number, in 16 characters at most")
    return text or None


def _readFloat(vr: str, value: Any) -> float | None:
    text = _text(value) if isinstance(value, str) else value
    if text == "":
        return None
    largest = 3.4028234663852886e38 if vr == "FL" else math.inf
    try:
        number = float(text)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not abs(number) <= largest or math.isinf(number):
        raise ValueError("give a number")
    return number


def _readInteger(vr: str, value: Any) -> int | None:
    low, high = _BOUNDS[vr]
    if isinstance(value, str):
        text = _text(value)
        if not text:
            return None
        value = int(text) if _INTEGER.fullmatch(text) else None
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"give a whole number from {low} to {high}")
    return value


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "AE": _readAETitle,
    "AS": _matching(_AGE, "an age such as 042Y, 018M, 003W or 010D"),
    "AT": _matching(_TAG, "a tag as eight hexadecimal digits"),
    "CS": _matching(_CODE, "1 to 16 of A to Z, 0 to 9, space and _"),
    "DA": _readDate,
    "DS": _readDecimal,
    "DT": _readDateTime,
    "FD": _readFloat,
    "FL": _readFloat,
    "PN": _readName,
    "TM": _readTime,
    "UI": _readUID,
    **dict.fromkeys(_LENGTHS, _readText),
    **dict.fromkeys(_BOUNDS, _readInteger),
}
