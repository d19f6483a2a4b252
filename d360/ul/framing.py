"""
The boundaries of PDUs in a TCP stream, both ways (PS3.8 9.3).

What comes in is cut where it lies: a data set passes as slices of the buffers
that the network filled, in constant memory and without a copy, however large
the PDU or the PDV. Only headers that straddle two reads, and the PDUs that
open and end an association, are put together.

A reader that must wait simply pulls no more; see L{Framing.next}.
"""

from __future__ import annotations

from collections import deque
from struct import Struct

from attrs import frozen

from d360.errors import PDUError
from d360.model import Fragment

A_ASSOCIATE_RQ = 0x01
A_ASSOCIATE_AC = 0x02
A_ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
A_RELEASE_RQ = 0x05
A_RELEASE_RP = 0x06
A_ABORT = 0x07

#: Shortest and longest PDU length of each type that is delivered whole. 128
#: contexts with all the transfer syntaxes there are take less than 1 MiB.
_WHOLE = {
    A_ASSOCIATE_RQ: (68, 1 << 20),
    A_ASSOCIATE_AC: (68, 1 << 20),
    A_ASSOCIATE_RJ: (4, 4),
    A_RELEASE_RQ: (4, 4),
    A_RELEASE_RP: (4, 4),
    A_ABORT: (4, 4),
}

#: PDU type, reserved, PDU length (PS3.8 9.3.1).
_PDU_HEADER = Struct(">BxI")
#: PDV length, context ID, message control header (PS3.8 9.3.5.1, Annex E).
_PDV_HEADER = Struct(">IBB")
_DATA_HEADER = Struct(">BxIIBB")

#: What a PDV adds to the length of its PDU, beside its data.
_PDV_OVERHEAD = _PDV_HEADER.size
#: The PDU length that is sent to a peer which sets no limit, or a larger one.
LONGEST_SENT = 65534
#: A PDU must hold a PDV header and two bytes, or no message gets through.
SHORTEST_MAXIMUM = _PDV_OVERHEAD + 2

_COMMAND = 0x01
_LAST = 0x02


@frozen
class WholePDU:
    """
    A PDU other than P-DATA-TF.

    @ivar body: what follows the six bytes of its header.
    """

    pduType: int
    body: bytes


@frozen
class DataPDU:
    """The header of a P-DATA-TF was read; its fragments follow."""

    length: int


class Framing:
    """
    Cuts one direction of a connection into PDUs.

    Bytes are fed as they come and events are pulled. After a L{PDUError} the
    place of the next PDU is unknown: all that follows is thrown away.
    """

    def __init__(self, maxPDULength: int = LONGEST_SENT) -> None:
        """
        @param maxPDULength: the longest P-DATA-TF accepted, as announced in
            the Maximum Length sub-item; 0 for no limit.
        """
        self._maxPDULength = maxPDULength
        self._chunks: deque[memoryview] = deque()
        self._chunk = memoryview(b"")
        self._at = 0
        # The begin of a header or of a whole PDU that straddles reads.
        self._collected = bytearray()
        # Of the PDU that is being collected whole.
        self._wholeType = 0
        self._wholeLength = 0
        # What is still to come of the P-DATA-TF, and of the PDV within it.
        self._pduLeft = 0
        self._pdvLeft = 0
        self._contextID = 0
        self._isCommand = False
        self._isLast = False
        self._broken = False

    @property
    def isWithin(self) -> bool:
        """Some of a PDU was pulled, and not all of it."""
        return bool(
            self._pdvLeft or self._pduLeft or self._wholeType or self._collected
        )

    def feed(self, data: bytes) -> None:
        """Take bytes from the network; they are referred to, not copied."""
        if data and not self._broken:
            self._chunks.append(memoryview(data))

    def next(self) -> WholePDU | DataPDU | Fragment | None:
        """
        Cut off the next piece.

        @return: C{None} when more bytes are needed.
        @raise PDUError: these bytes are no PDU.
        """
        if self._broken:
            return None
        try:
            if self._pdvLeft:
                return self._piece()
            if self._pduLeft:
                return self._openPDV()
            if self._wholeType:
                return self._whole()
            return self._openPDU()
        except PDUError:
            self._broken = True
            self._chunks.clear()
            self._chunk = memoryview(b"")
            self._collected = bytearray()
            raise

    def _openPDU(self) -> WholePDU | DataPDU | None:
        header = self._collect(_PDU_HEADER.size)
        if header is None:
            return None
        pduType, length = _PDU_HEADER.unpack(header)
        if pduType == P_DATA_TF:
            if length < _PDV_OVERHEAD or 0 < self._maxPDULength < length:
                raise PDUError(
                    PDUError.INVALID_PARAMETER, f"P-DATA-TF of {length} bytes"
                )
            self._pduLeft = length
            return DataPDU(length)
        if pduType not in _WHOLE:
            raise PDUError(PDUError.UNRECOGNIZED_PDU, f"PDU type {pduType:02X}H")
        shortest, longest = _WHOLE[pduType]
        if not shortest <= length <= longest:
            raise PDUError(
                PDUError.INVALID_PARAMETER,
                f"PDU of type {pduType:02X}H and {length} bytes",
            )
        self._wholeType = pduType
        self._wholeLength = length
        return self._whole()

    def _whole(self) -> WholePDU | None:
        body = self._collect(self._wholeLength)
        if body is None:
            return None
        pdu = WholePDU(self._wholeType, bytes(body))
        self._wholeType = 0
        return pdu

    def _openPDV(self) -> Fragment | None:
        if self._pduLeft < _PDV_OVERHEAD:
            raise PDUError(PDUError.INVALID_PARAMETER, "bytes after the last PDV")
        header = self._collect(_PDV_OVERHEAD)
        if header is None:
            return None
        length, contextID, control = _PDV_HEADER.unpack(header)
        # The length counts context ID and control header, but not itself.
        if not 2 <= length <= self._pduLeft - 4:
            raise PDUError(PDUError.INVALID_PARAMETER, f"PDV of {length} bytes")
        self._pduLeft -= 4 + length
        self._pdvLeft = length - 2
        self._contextID = contextID
        self._isCommand = bool(control & _COMMAND)
        self._isLast = bool(control & _LAST)
        if not self._pdvLeft:
            return Fragment(contextID, self._isCommand, self._isLast, memoryview(b""))
        return self._piece()

    def _piece(self) -> Fragment | None:
        """As much of the PDV as lies in one buffer."""
        at = self._at
        there = len(self._chunk) - at
        if not there:
            if not self._chunks:
                return None
            self._chunk = self._chunks.popleft()
            at = 0
            there = len(self._chunk)
        if there < self._pdvLeft:
            self._pdvLeft -= there
            self._at = at + there
            return Fragment(self._contextID, self._isCommand, False, self._chunk[at:])
        end = self._at = at + self._pdvLeft
        self._pdvLeft = 0
        return Fragment(
            self._contextID, self._isCommand, self._isLast, self._chunk[at:end]
        )

    def _collect(self, size: int) -> bytes | memoryview | None:
        """
        The next C{size} bytes; C{None} until all are there. What comes before
        is copied together, so that many small reads keep no buffers alive.
        """
        while True:
            end = self._at + size - len(self._collected)
            if end <= len(self._chunk):
                part = self._chunk[self._at : end]
                self._at = end
                if not self._collected:
                    return part
                self._collected += part
                collected, self._collected = self._collected, bytearray()
                return bytes(collected)
            self._collected += self._chunk[self._at :]
            self._at = 0
            if not self._chunks:
                self._chunk = memoryview(b"")
                return None
            self._chunk = self._chunks.popleft()


def dataHeader(contextID: int, isCommand: bool, isLast: bool, length: int) -> bytes:
    """
    What stands before the data of a P-DATA-TF with one PDV: both headers,
    twelve bytes.

    @param length: of the data, in bytes.
    """
    control = (_COMMAND if isCommand else 0) | (_LAST if isLast else 0)
    return _DATA_HEADER.pack(
        P_DATA_TF, length + _PDV_OVERHEAD, length + 2, contextID, control
    )


def maxPDVData(peerMaxPDULength: int) -> int:
    """
    How many bytes of data go into one PDV, alone in its PDU, for a peer: an
    even number, since each fragment's length is even (PS3.8 9.3.1), and the
    PDV's header counts (PS3.8 D.1).

    @param peerMaxPDULength: as the peer announced it; 0 for no limit.
    @raise ValueError: it lets nothing through. Negotiation refuses such a
        peer.
    """
    longest = min(peerMaxPDULength or LONGEST_SENT, LONGEST_SENT)
    if longest < SHORTEST_MAXIMUM:
        raise ValueError(f"a maximum PDU length of {peerMaxPDULength}")
    return (longest - _PDV_OVERHEAD) & ~1
