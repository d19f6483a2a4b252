"""
Inputs out of others, where nothing guides the way: deterministic, from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

#: What has a meaning somewhere, beside what the seeds are made of.
DICTIONARY = (
    b"\xff\xff\xff\xff",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x01\0\0\0",
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN\0\0\xff\xff\xff\xff",
    b"OB\0\0\xff\xff\xff\xff",
    b"PN", b"IS", b"DA", b"TM", b"UI", b"CS", b"UT", b"XX",
    b"\x08\0\x05\0", b"\x08\0\x52\0", b"\x10\0\x10\0", b"\x20\0\x0d\0",
    b"\x40\0\x00\x01", b"\xe0\x7f\x10\0",
    b"\\", b"*", b"?", b"-", b"=", b"^", b"'", b"%", b"_", b"\0", b"$(", b"\x1b$B",
    b"\x1b(J", b"\x1b-A", b"ISO 2022 IR 87", b"ISO_IR 192", b"GB18030", b"GBK",
    b"ISO 2022 IR 149", b"ISO 2022 IR 58", b"\\ISO 2022 IR 87",
    b"STUDY", b"PATIENT", b"SERIES", b"IMAGE", b"00000000", b"20260229",
    b"99999999999999999999", b"-9223372036854775809", b"1e999", b"NaN", b"../../",
    b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"%00", b"%ff", b"{}", b"[]", b"null",
    b'{"vr":"SQ","Value":[', b"\r\n", b"\r\n\r\n", b"\xef\xb7\xba",
    b"\x04\0\0\0", b"\x05\0\0\0\0\x04\0\0\0\0", b"\x07\0\0\0\0\x04\0\0\0\0",
)  # fmt: skip


class Mutation:
    """
    Changes inputs.

    @param seeds: at least one.
    """

    def __init__(self, seeds: Sequence[bytes], longest: int, seed: int) -> None:
        self._seeds = list(seeds)
        self._longest = longest
        self._random = random.Random(seed)
        self._ways: list[Callable[[bytearray], None]] = [
            self._flip,
            self._set,
            self._remove,
            self._repeat,
            self._insertWord,
            self._overwriteWord,
            self._cut,
            self._cross,
            self._number,
        ]

    def inputs(self, count: int) -> Iterator[bytes]:
        """The seeds as they are, then changed ones."""
        for seed in self._seeds[:count]:
            yield seed[: self._longest]
        for _ in range(count - len(self._seeds)):
            data = bytearray(self._random.choice(self._seeds))
            for _ in range(1 << self._random.randrange(5)):
                self._random.choice(self._ways)(data)
            yield bytes(data[: self._longest])

    def _place(self, data: bytearray) -> int:
        return self._random.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.randrange(256)

    def _remove(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + self._random.choice((1, 2, 4, 8, 64))]

    def _repeat(self, data: bytearray) -> None:
        place = self._place(data)
        piece = data[place : place + self._random.choice((1, 4, 16, 128))]
        data[place:place] = piece * self._random.choice((1, 1, 2, 8, 64))

    def _insertWord(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self._random.choice(DICTIONARY)

    def _overwriteWord(self, data: bytearray) -> None:
        place, word = self._place(data), self._random.choice(DICTIONARY)
        data[place : place + len(word)] = word

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _cross(self, data: bytearray) -> None:
        other = self._random.choice(self._seeds)
        place = self._random.randrange(len(other) + 1)
        data[self._place(data) :] = other[place:]

    def _number(self, data: bytearray) -> None:
        """A length or a count that is somewhat wrong."""
        if data:
            place = self._random.randrange(len(data))
            data[place] = (data[place] + self._random.randrange(-4, 5)) % 256
