"""An upper layer for the tests of what stands on it."""

from __future__ import annotations

from zope.interface import implementer

from d360.interfaces import IUpperLayer
from d360.model import EstablishedAssociation, Fragment, PresentationContext

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"


def established(peerMaxPDULength: int = 0) -> EstablishedAssociation:
    """An association that a modality opened, with contexts 1, 3, 5 and 7."""
    contexts = [
        PresentationContext(1, VERIFICATION, IMPLICIT),
        PresentationContext(3, CT, EXPLICIT),
        PresentationContext(5, FIND, IMPLICIT),
        PresentationContext(7, FIND, BIG_ENDIAN),
    ]
    return EstablishedAssociation(
        requestor=False,
        callingAETitle="CT01",
        calledAETitle="D360PACS",
        peer="127.0.0.1",
        peerMaxPDULength=peerMaxPDULength,
        contexts={context.contextID: context for context in contexts},
    )


@implementer(IUpperLayer)
class RecordingUpperLayer:
    """
    Keeps what it is asked to send.

    @ivar written: one item a C{sendPData}, its buffers joined.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.receiving = True
        self.busy = False
        self.producer = None
        self.ended: list[str] = []

    def sendPData(self, buffers):
        self.written.append(b"".join(buffers))

    def pauseReceiving(self):
        self.receiving = False

    def resumeReceiving(self):
        self.receiving = True

    def setBusy(self, busy):
        self.busy = busy

    def registerProducer(self, producer, streaming):
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None

    def release(self):
        self.ended.append("release")

    def confirmRelease(self):
        self.ended.append("confirmRelease")

    def abort(self, why):
        self.ended.append(f"abort: {why}")


def pieces(contextID: int, isCommand: bool, data: bytes, size: int) -> list[Fragment]:
    """C{data} as the fragments of one message, C{size} bytes each."""
    starts = range(0, max(len(data), 1), size)
    return [
        Fragment(
            contextID,
            isCommand,
            start + size >= len(data),
            memoryview(data)[start : start + size],
        )
        for start in starts
    ]


def messages(written: list[bytes]) -> list[tuple[int, bool, bytes]]:
    """
    The messages in P-DATA-TF PDUs of one PDV each (PS3.8 9.3.5): context ID,
    whether it is a command set, and its bytes.
    """
    found: list[tuple[int, bool, bytes]] = []
    gathered = b""
    for data in written:
        while data:
            assert data[0] == 4
            length = int.from_bytes(data[2:6], "big")
            pdu, data = data[6 : 6 + length], data[6 + length :]
            assert int.from_bytes(pdu[:4], "big") == length - 4
            gathered += pdu[6:]
            if pdu[5] & 2:
                found.append((pdu[4], bool(pdu[5] & 1), gathered))
                gathered = b""
    assert not gathered
    return found
