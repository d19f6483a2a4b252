"""
Text as it comes from a peer, in whatever Specific Character Set (0008,0005),
as Unicode (PS3.5 6.1, PS3.3 C.12.1.1.2).
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

from pydicom.charset import decode_bytes, python_encoding

#: Of a text that goes through C{decodeText}: control characters (also those
#: which a database refuses).
_CONTROLS = re.compile("[\0-\x1f\x7f]")

#: What ends a code extension (PS3.5 6.1.2.5.3), besides controls.
_DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D, 0x5C}
_NAME_DELIMITERS = _DELIMITERS | {0x3D, 0x5E}

_ESCAPE = b"\x1b"

#: What selects another set (ISO 2022): some decoders leave it in the text.
_SELECTION = re.compile("\x1b[\x20-\x2f]*[\x30-\x7e]")

#: More of them are in no text of a sane sender; each takes some microseconds.
MAX_ESCAPES = 1000

#: Characters of a Specific Character Set: 16 terms, of 16 characters (PS3.5 6.2).
_LONGEST_SET = 16 * 17

#: VRs that the Specific Character Set applies to.
TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})

# "ISO-IR 100", "ISO IR 100", "ISO2022 IR 87" ... as terms of PS3.3.
_SPELLING = re.compile(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?(\d+)\Z")


def _encoding(term: str) -> str | None:
    """Python's name of an encoding; none but DICOM's are to be had."""
    term = term.strip("\0 ").upper()
    if not term:
        return "iso8859"
    known = python_encoding.get(term)
    if known is None:
        spelling = _SPELLING.match(term)
        if spelling is not None:
            prefix = "ISO 2022 IR " if spelling[1] else "ISO_IR "
            known = python_encoding.get(prefix + spelling[2])
        elif term in ("UTF-8", "UTF8"):
            known = "utf8"
    return known


def encodingsOf(characterSet: str) -> tuple[str, ...]:
    """
    Python's encodings for a Specific Character Set; empty where it is absent
    or says nothing that can be understood.
    """
    # What a peer sends is remembered: not at any length.
    return _encodingsOf(characterSet[:_LONGEST_SET])


@lru_cache(256)
def _encodingsOf(characterSet: str) -> tuple[str, ...]:
    if not characterSet.strip("\0 \\"):
        return ()
    found = [_encoding(term) for term in characterSet.split("\\")[:16]]
    if found[0] is None:
        return ()
    return tuple(encoding for encoding in found if encoding is not None)


def _decodeExtended(value: bytes, encodings: tuple[str, ...], isName: bool) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        delimiters = _NAME_DELIMITERS if isName else _DELIMITERS
        return decode_bytes(value, encodings, delimiters)


def decodeText(value: bytes, encodings: tuple[str, ...], isName: bool = False) -> str:
    """
    Text of a value, without its padding. What does not fit to the declared
    encodings, or comes without any, is read as UTF-8 if it is, else as Latin 1:
    a name with a wrong letter is found sooner than none.
    """
    if value.isascii() and _ESCAPE not in value:
        text = value.decode("ascii")
    else:
        text = _SELECTION.sub("", _decodeAny(value, encodings, isName))
    return _CONTROLS.sub("", text).strip()


def _decodeAny(value: bytes, encodings: tuple[str, ...], isName: bool) -> str:
    if encodings and 0 < value.count(_ESCAPE) <= MAX_ESCAPES:
        try:
            text = _decodeExtended(value, encodings, isName)
        except (ValueError, LookupError):
            text = "\ufffd"
        if "\ufffd" not in text:
            return text
    for encoding in (*encodings[:1], "utf8"):
        try:
            return value.decode(encoding)
        except (ValueError, LookupError):
            continue
    return value.decode("latin-1")
