"""
Reading the header of a data set while it streams by (PS3.5 chapter 7).

An instance may be gigabytes long, and D360 keeps its bytes as they are; of all
of them the index needs some thirty short values near the start. L{HeaderScanner}
collects these and counts its way past everything else: it never holds more than
one short value and one element's header, whatever the sender says about lengths.

Up to the last wanted element the data set must be readable, for without these
values it cannot be indexed. Beyond it the scanner only follows the lengths of
the elements, to notice that the end of the data set is missing; whatever looks
odd there ends the following, without a word, since refusing a good instance
would be worse than keeping a bad one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct
from typing import Any

from d360.attributes import REGISTRY
from d360.services import transfersyntaxes

SPECIFIC_CHARACTER_SET = 0x00080005

#: What the index needs, and what it takes to decode it.
WANTED = frozenset(a.tag for a in REGISTRY.stored()) | {SPECIFIC_CHARACTER_SET}

#: Longer values are not collected. None of the wanted ones may be longer than
#: a few hundred bytes.
MAX_VALUE_LENGTH = 16384

#: Undefined-length sequences and items inside each other.
MAX_DEPTH = 64

#: A deflated data set is inflated in steps of this size, one at a time, up to this
#: much: so much private data before the last wanted element is a bomb, not a
#: header.
INFLATE_STEP = 32768
MAX_INFLATED = 64 * 1024 * 1024

_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())

_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010

#: The longest header of an element (PS3.5 7.1.2).
_LONGEST = 12


class HeaderError(Exception):
    """The data set cannot be read; the message has no patients' data."""


class _Encoding:
    """How the elements' headers are laid out (PS3.5 7.1)."""

    def __init__(self, implicit: bool, order: str) -> None:
        self.implicit = implicit
        #: Group, element and either length, or VR and short length.
        self.header: Callable[[Any, int], tuple[Any, ...]] = Struct(
            f"{order}HHL" if implicit else f"{order}HH2sH"
        ).unpack_from
        #: A header without VR: items, and what strays into explicit VR.
        self.bare: Callable[[Any, int], tuple[Any, ...]] = Struct(
            f"{order}HHL"
        ).unpack_from
        self.length: Callable[[Any, int], tuple[Any, ...]] = Struct(
            f"{order}L"
        ).unpack_from


_IMPLICIT = _Encoding(True, "<")
_EXPLICIT = _Encoding(False, "<")
_BIG_ENDIAN = _Encoding(False, ">")


def _encodingOf(transferSyntax: str) -> _Encoding:
    if transfersyntaxes.isImplicit(transferSyntax):
        return _IMPLICIT
    return _BIG_ENDIAN if transfersyntaxes.isBigEndian(transferSyntax) else _EXPLICIT


class HeaderScanner:
    """
    Feed it the data set by L{write}, and end it by L{finish}. As a few bytes of a
    deflated one can become very many, not all of them are inflated at once: while
    it L{isBehind}, have it L{goOn}.

    @ivar values: the wanted elements of the top level, by tag, as encoded.
    @ivar complete: all that was wanted and is there has been collected.
    @ivar error: why the data set cannot be read; C{""} as long as it can.
    """

    def __init__(
        self,
        transferSyntax: str,
        wanted: frozenset[int] = WANTED,
        maxValueLength: int = MAX_VALUE_LENGTH,
    ) -> None:
        self.values: dict[int, bytes] = {}
        self.complete = False
        self.error = ""
        self._wanted = wanted
        self._lastWanted = max(wanted)
        self._maxValueLength = maxValueLength
        self._encoding = _encodingOf(transferSyntax)
        # The open containers of undefined length, outermost first, each with
        # whether it is a sequence (else an item) and its encoding.
        self._containers: list[tuple[bool, _Encoding]] = []
        self._skip = 0
        self._collecting = 0
        self._value = bytearray()
        self._carry = b""
        self._lastTag = 0
        # Nothing more is to be learned from what comes.
        self._resting = False
        self._inflated = 0
        self._deflated = b""
        # The inflater had more to give than it was asked for.
        self._holdsMore = False
        self._inflater = (
            zlib.decompressobj(-zlib.MAX_WBITS)
            if transfersyntaxes.isDeflated(transferSyntax)
            else None
        )

    def write(self, data: memoryview | bytes) -> None:
        """
        Take a piece, of any size. Does not raise: see L{error}.
        """
        if self._resting:
            return
        try:
            if self._inflater is None:
                self._follow(memoryview(data))
            else:
                self._deflated += data
                self._inflate()
        except HeaderError as error:
            self._stop(str(error))

    @property
    def isBehind(self) -> bool:
        """Some of what was taken is still to be inflated."""
        return not self._resting and (bool(self._deflated) or self._holdsMore)

    def goOn(self) -> None:
        """Inflate some more of what was taken. Does not raise: see L{error}."""
        try:
            self._inflate()
        except HeaderError as error:
            self._stop(str(error))

    def finish(self) -> None:
        """
        The data set is at its end.

        @raise HeaderError: it cannot be read, or its end is missing.
        """
        while self.isBehind:
            self.goOn()
        if not self._resting:
            self._checkEnd()
        self._resting = True
        if self.error:
            raise HeaderError(self.error)
        self.complete = True

    def _checkEnd(self) -> None:
        cut = self._skip > 0
        if not self.complete:
            # Some writers fill up with zeros. An open container is tolerated:
            # its delimiter is the last that anyone would miss.
            cut = cut or bool(self._carry.strip(b"\0"))
        if self._inflater is not None and not self._inflater.eof:
            cut = True
        if cut:
            self.error = "Data set is truncated"

    def _stop(self, error: str) -> None:
        """Something is odd: an error, if it is in the header."""
        self._resting = True
        self._deflated = b""
        self._value = bytearray()
        if not self.complete:
            self.error = error

    def _inflate(self) -> None:
        inflater = self._inflater
        assert inflater is not None
        try:
            piece = inflater.decompress(self._deflated, INFLATE_STEP)
        except zlib.error:
            raise HeaderError("Data set cannot be inflated") from None
        self._deflated = b"" if inflater.eof else inflater.unconsumed_tail
        self._holdsMore = len(piece) == INFLATE_STEP and not inflater.eof
        self._inflated += len(piece)
        self._follow(memoryview(piece))
        if self.complete:
            # Whatever else is in there is not worth the work.
            self._resting = True
        elif self._inflated > MAX_INFLATED:
            raise HeaderError("Header of the deflated data set is too long")
        if self._resting:
            self._deflated = b""

    def _follow(self, data: memoryview) -> None:
        """Go through a piece: values are skipped or collected here."""
        offset, end = 0, len(data)
        while offset < end and not self._resting:
            if self._skip:
                step = min(self._skip, end - offset)
                if self._collecting:
                    self._value += data[offset : offset + step]
                self._skip -= step
                offset += step
                if not self._skip and self._collecting:
                    self.values[self._collecting] = bytes(self._value)
                    self._collecting = 0
            elif self._carry:
                # The header of an element lies across two pieces.
                begun = self._carry
                joined = begun + bytes(data[offset : offset + _LONGEST - 1])
                taken = len(joined) - len(begun)
                stop = self._scan(memoryview(joined), 0, len(joined))
                left = len(joined) - stop
                if left <= taken:
                    self._carry = b""
                    offset += taken - left
                else:
                    self._carry = joined[stop:]
                    offset += taken
            else:
                offset = self._scan(data, offset, end)
                if not self._skip and offset < end:
                    self._carry = bytes(data[offset:end])
                    offset = end

    def _scan(self, data: memoryview, offset: int, end: int) -> int:
        """
        Read headers of elements, and step over the values that are all there.

        @return: the offset of the first header that is not all there, or
            C{end}; with C{_skip} set if a value goes on in the next piece.
        """
        wanted, values, lastWanted = self._wanted, self.values, self._lastWanted
        encoding, header, vr = self._encoding, self._encoding.header, b""
        while end - offset >= 8 and not self._resting:
            if self.complete and not self._containers and not encoding.implicit:
                offset = self._walk(data, offset, end)
                if self._resting or end - offset < 8:
                    break
            if self._containers:
                offset, length, tag = self._nested(data, offset, end)
                if tag < 0:
                    return offset
            else:
                start = offset + 8
                if encoding.implicit:
                    group, element, length = header(data, offset)
                    tag = group << 16 | element
                else:
                    group, element, vr, length = header(data, offset)
                    tag = group << 16 | element
                    if vr not in _SHORT_VRS:
                        start, length = self._unusual(
                            encoding, data, offset, end, vr, tag
                        )
                        if start < 0:
                            return offset
                if (tag > lastWanted or self.complete) and not self._continues(tag):
                    return end
                if length == _UNDEFINED:
                    self._enter(True, _IMPLICIT if vr == b"UN" else encoding)
                    length = 0
                offset = start
            if offset + length > end:
                self._cut(tag, length, data, offset, end)
                return end
            if tag in wanted and length <= self._maxValueLength and not self.complete:
                values[tag] = bytes(data[offset : offset + length])
            offset += length
        return end if self._resting else offset

    def _walk(self, data: memoryview, offset: int, end: int) -> int:
        """
        Step over elements of the short form, in explicit VR, beyond the last
        wanted one: there are some hundred of them in many instances.

        @return: the offset of the first header that is anything else, or whose
            value goes on in the next piece.
        """
        header, short, last = self._encoding.header, _SHORT_VRS, self._lastTag
        while end - offset >= 8:
            group, element, vr, length = header(data, offset)
            tag = group << 16 | element
            following = offset + 8 + length
            if vr not in short or following > end:
                break
            if tag <= last or tag > _PIXEL_DATA:
                self._resting = True
                break
            last, offset = tag, following
        self._lastTag = last
        return offset

    def _cut(
        self, tag: int, length: int, data: memoryview, offset: int, end: int
    ) -> None:
        """The value goes on beyond this piece."""
        self._skip = length - (end - offset)
        if tag in self._wanted and length <= self._maxValueLength and not self.complete:
            self._collecting = tag
            self._value = bytearray(data[offset:end])

    def _unusual(
        self,
        encoding: _Encoding,
        data: memoryview,
        offset: int,
        end: int,
        vr: bytes,
        tag: int,
    ) -> tuple[int, int]:
        """
        The rest of a header in explicit VR that is not of the short form.

        @return: where the value begins, -1 if the header is not all there; and
            its length.
        """
        if vr in _LONG_VRS:
            if end - offset < _LONGEST:
                return -1, 0
            return offset + 12, encoding.length(data, offset + 8)[0]
        if tag > self._lastWanted or self.complete:
            self.complete = self._resting = True
            return end, 0
        if not (vr.isalpha() and vr.isupper()):
            # Implicit VR among explicit ones, which some writers slip in.
            return offset + 8, encoding.bare(data, offset)[2]
        if bytes(data[offset + 6 : offset + 8]) != b"\0\0":
            return offset + 8, encoding.header(data, offset)[3]
        # PS3.5 7.1.2 gives VRs that are not known the long form, with reserved
        # bytes of zero.
        if end - offset < _LONGEST:
            return -1, 0
        return offset + 12, encoding.length(data, offset + 8)[0]

    def _nested(self, data: memoryview, offset: int, end: int) -> tuple[int, int, int]:
        """
        Read one header inside a container of undefined length.

        @return: where the value begins, its length, and 0; C{-1} instead if
            the header is not all there.
        """
        isSequence, encoding = self._containers[-1]
        group, element, length = encoding.bare(data, offset)
        tag = group << 16 | element
        start = offset + 8
        if tag == _SEQUENCE_END:
            # The end of a sequence ends an item that was left open.
            self._containers.pop()
            if not isSequence and self._containers:
                self._containers.pop()
            return start, 0, 0
        if tag == _ITEM_END:
            if not isSequence:
                self._containers.pop()
            return start, 0, 0
        if isSequence:
            if tag != _ITEM:
                raise HeaderError("An item is missing in a sequence")
            if length == _UNDEFINED:
                self._enter(False, encoding)
                length = 0
            return start, length, 0
        vr = b""
        if not encoding.implicit:
            _, _, vr, length = encoding.header(data, offset)
            if vr not in _SHORT_VRS:
                start, length = self._unusual(encoding, data, offset, end, vr, 0)
                if start < 0:
                    return offset, 0, -1
        if length == _UNDEFINED:
            self._enter(True, _IMPLICIT if vr == b"UN" else encoding)
            length = 0
        return start, length, 0

    def _continues(self, tag: int) -> bool:
        """
        An element beyond the last wanted one begins: the header is complete.

        @return: whether there is a reason to follow what comes.
        """
        self.complete = True
        # What comes after the pixels is padding and signatures, and too often
        # not well-formed.
        if tag <= self._lastTag or tag > _PIXEL_DATA:
            self._resting = True
        self._lastTag = tag
        return not self._resting

    def _enter(self, isSequence: bool, encoding: _Encoding) -> None:
        if len(self._containers) >= MAX_DEPTH:
            raise HeaderError("Sequences are nested too deeply")
        self._containers.append((isSequence, encoding))
