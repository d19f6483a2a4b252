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


class ElementEncoder:
    """Encodes elements in one transfer syntax (PS3.5 chapter 7)."""

    def __init__(self, transferSyntax: str) -> None:
        #: As L{Struct} writes the byte order.
        self.order = ">" if transfersyntaxes.isBigEndian(transferSyntax) else "<"
        self._implicit = transfersyntaxes.isImplicit(transferSyntax)
        self._short, self._long = Struct(f"{self.order}H"), Struct(f"{self.order}L")
        self._tag = Struct(f"{self.order}HH")

    def header(self, tag: int, vr: str) -> tuple[bytes, Struct]:
        """What stands before a value's length, and how that is packed."""
        start = self._tag.pack(tag >> 16, tag & 0xFFFF)
        if self._implicit:
            return start, self._long
        start += vr.encode("ascii")
        if vr in _LONG_VRS:
            return start + b"\0\0", self._long
        return start, self._short

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """A whole one, padded; empty where the value is too long for its VR."""
        if len(value) % 2:
            value += paddingOf(vr)
        if len(value) > _MAX_SHORT and vr not in _LONG_VRS:
            value = b""
        header, length = self.header(tag, vr)
        return header + length.pack(len(value)) + value

    def sequence(self, tag: int, items: Iterable[bytes]) -> bytes:
        """A sequence of encoded data sets (PS3.5 7.5)."""
        start = self._tag.pack(0xFFFE, 0xE000)
        value = b"".join(start + self._long.pack(len(item)) + item for item in items)
        return self.element(tag, "SQ", value)


def paddingOf(vr: str) -> bytes:
    """What makes a value even (PS3.5 6.2)."""
    return b"\0" if vr == "UI" else b" "


def characterSets(encoder: ElementEncoder) -> tuple[bytes, bytes]:
    """Specific Character Set as it stands for Latin 1, and for UTF-8."""
    latin, unicode = (
        encoder.element(SPECIFIC_CHARACTER_SET, "CS", term)
        for term in (b"ISO_IR 100", b"ISO_IR 192")
    )
    return latin, unicode


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
        encoder = ElementEncoder(transferSyntax)
        ordered = sorted(fields, key=lambda field: field.tag)
        # In the order of tags: bytes stay as they are; None is the Specific
        # Character Set; the rest is header, length, padding and column.
        self._parts: list[_Part] = []
        for field in ordered:
            if field.column is None:
                text = field.text.encode("ascii")
                self._parts.append(encoder.element(field.tag, field.vr, text))
            else:
                header, length = encoder.header(field.tag, field.vr)
                padding = paddingOf(field.vr)
                self._parts.append((header, length.pack, padding, field.column))
        if any(field.vr in TEXT_VRS for field in ordered):
            before = sum(field.tag < SPECIFIC_CHARACTER_SET for field in ordered)
            self._parts.insert(before, None)
        self._latin, self._unicode = characterSets(encoder)

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
