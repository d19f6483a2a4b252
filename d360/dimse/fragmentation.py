"""
Messages into P-DATA-TF PDUs (PS3.7 6.3.1, PS3.8 Annex E): fragments of even
length, none larger than the peer takes, the data itself never copied.
"""

from __future__ import annotations

from functools import lru_cache

from d360.ul.framing import dataHeader, maxPDVData

#: Most fragments of a message are of one length, and those of many messages are.
_header = lru_cache(maxsize=1024)(dataHeader)


def fragments(
    contextID: int,
    isCommand: bool,
    data: bytes | memoryview,
    peerMaxPDULength: int,
    isEnd: bool = True,
) -> list[bytes | memoryview]:
    """
    The PDUs that carry a command set or a data set, as buffers for one write.

    @param peerMaxPDULength: as negotiated; 0 for no limit.
    @param isEnd: the set ends with C{data}; more of it follows otherwise.
    """
    size = maxPDVData(peerMaxPDULength)
    length = len(data)
    if length <= size:
        return [_header(contextID, isCommand, isEnd, length), data]
    view = memoryview(data)
    pieces = [view[start : start + size] for start in range(0, length, size)]
    buffers: list[bytes | memoryview] = [_header(contextID, isCommand, False, size)]
    buffers *= 2 * len(pieces)
    buffers[1::2] = pieces
    buffers[-2] = _header(contextID, isCommand, isEnd, len(pieces[-1]))
    return buffers
