"""
The identifiers of answers (PS3.4 C.4.1.1.3), encoded directly: thousands of
them leave in one query, all with the same elements.

Specific Character Set (0008,0005) is in each answer that has an attribute which
it applies to: ISO_IR 100, as conformance 4.5 promises, or ISO_IR 192 for an
answer with a character that Latin 1 does not have. No text is ever replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct

from attrs import frozen

from d360.services import transfersyntaxes
from d360.services.header import SPECIFIC_CHARACTER_SET
from d360.services.text import TEXT_VRS

_LONG_VRS = frozenset(
    {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
)

#: The longest even value of a short explicit VR.
_MAX_SHORT = 0xFFFE


_Part = bytes | tuple[bytes, Callable[[int], bytes], bytes, int] | None


@frozen
class Field:
    """
    An element of all answers.

    @ivar column: which of the values given to L{IdentifierEncoder.encode} it
        holds; C{None} for one that is the same in all.
    """

    tag: int
    vr: str
    column: int | None = None
    text: str = ""


class IdentifierEncoder:
    """
    Encodes the identifiers of one operation.

    @param fields: the elements, in any order, without (0008,0005).
    """

    def __init__(self, fields: Iterable[Field], transferSyntax: str) -> None:
        self._order = ">" if transfersyntaxes.isBigEndian(transferSyntax) else "<"
        self._implicit = transfersyntaxes.isImplicit(transferSyntax)
        ordered = sorted(fields, key=lambda field: field.tag)
        # In the order of tags: bytes stay as they are; None is the Specific
        # Character Set; the rest is header, length, padding and column.
        self._parts: list[_Part] = []
        for field in ordered:
            if field.column is None:
                self._parts.append(self._element(field.tag, field.vr, field.text))
            else:
                header, length = self._header(field.tag, field.vr)
                padding = b"\0" if field.vr == "UI" else b" "
                self._parts.append((header, length.pack, padding, field.column))
        if any(field.vr in TEXT_VRS for field in ordered):
            before = sum(field.tag < SPECIFIC_CHARACTER_SET for field in ordered)
            self._parts.insert(before, None)
        self._latin = self._element(SPECIFIC_CHARACTER_SET, "CS", "ISO_IR 100")
        self._unicode = self._element(SPECIFIC_CHARACTER_SET, "CS", "ISO_IR 192")

    def _header(self, tag: int, vr: str) -> tuple[bytes, Struct]:
        """What stands before a value's length, and how that is packed."""
        group, element = tag >> 16, tag & 0xFFFF
        start = Struct(f"{self._order}HH").pack(group, element)
        if self._implicit:
            return start, Struct(f"{self._order}L")
        start += vr.encode("ascii")
        if vr in _LONG_VRS:
            return start + b"\0\0", Struct(f"{self._order}L")
        return start, Struct(f"{self._order}H")

    def _element(self, tag: int, vr: str, text: str) -> bytes:
        header, length = self._header(tag, vr)
        value = text.encode("ascii")
        if len(value) % 2:
            value += b"\0" if vr == "UI" else b" "
        return header + length.pack(len(value)) + value

    def encode(self, values: Sequence[str]) -> bytes:
        """
        One identifier, its elements in the order of their tags.

        @param values: text, several values joined by a backslash.
        """
        encoding, characterSet = "latin-1", self._latin
        whole = "".join(values)
        if not whole.isascii():
            try:
                whole.encode("latin-1")
            except UnicodeEncodeError:
                encoding, characterSet = "utf-8", self._unicode
        pieces = []
        for part in self._parts:
            if part is None:
                pieces.append(characterSet)
                continue
            if isinstance(part, bytes):
                pieces.append(part)
                continue
            header, length, padding, column = part
            value = values[column].encode(encoding)
            if len(value) % 2:
                value += padding
            if len(value) > _MAX_SHORT:
                value = b""
            pieces += (header, length(len(value)), value)
        return b"".join(pieces)
