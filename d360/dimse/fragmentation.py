"""
Messages into P-DATA-TF PDUs (PS3.7 6.3.1, PS3.8 Annex E): fragments of even
length, none larger than the peer takes, the data itself never copied.
"""

from __future__ import annotations

from d360.ul.framing import dataHeader, maxPDVData


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
    if len(data) <= size:
        return [dataHeader(contextID, isCommand, isEnd, len(data)), data]
    view = memoryview(data)
    buffers: list[bytes | memoryview] = []
    for start in range(0, len(data), size):
        piece = view[start : start + size]
        isLast = isEnd and start + size >= len(data)
        buffers.append(dataHeader(contextID, isCommand, isLast, len(piece)))
        buffers.append(piece)
    return buffers
