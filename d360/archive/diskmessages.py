"""
What a process and the one that writes its files say to each other, over a pair
of sockets. Both are of one Python, so that they speak its own format.
"""

from __future__ import annotations

import marshal
from struct import Struct
from typing import Any

#: What stands before each message.
_LENGTH = Struct("<I")

#: Of an answer: what was asked for has come to its end; it was refused by the
#: system, by number and text; the file has its place.
DONE, REFUSED, PLACED = range(3)


def split(data: bytes) -> tuple[list[Any], bytes]:
    """The messages at the begin of what came, and the rest."""
    messages, at, end = [], 0, len(data)
    while end - at >= _LENGTH.size:
        start = at + _LENGTH.size
        (length,) = _LENGTH.unpack_from(data, at)
        if end - start < length:
            break
        at = start + length
        messages.append(marshal.loads(data[start:at]))
    return messages, data[at:]


def join(message: Any) -> bytes:
    """A message as it is sent."""
    data = marshal.dumps(message)
    return _LENGTH.pack(len(data)) + data
