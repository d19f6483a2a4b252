"""Lengths, counts and depths beyond all measure: PDUs, items, data sets."""

from __future__ import annotations

import struct
import time

from tests.faults.attacks.victim import (
    FIND,
    LIST,
    STORE,
    STUDY_FIND,
    WORKLIST,
    Victim,
    Wrong,
    asking,
    fresh,
    keys,
    store,
    storeCommand,
)
from tests.interop import wire
from tests.interop.wire import CT, EXPLICIT, IMPLICIT, LAST, Peer
from tests.services.datasets import encode

#: Seconds that it may take to see that something is wrong, on however slow a
#: machine.
_SOON = 30.0

_UNDEFINED = struct.pack("<I", 0xFFFFFFFF)
_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_END = b"\xfe\xff\x0d\xe0" + bytes(4)
_SEQUENCE_END = b"\xfe\xff\xdd\xe0" + bytes(4)


def _expectEnd(peer: Peer, what: str) -> None:
    """An A-ABORT: who merely waits for more closes the connection without one."""
    peer.socket.settimeout(_SOON)
    try:
        while peer.receive()[0] != wire.ABORT:
            continue
    except EOFError:
        raise Wrong(f"{what}: it was not aborted") from None
    except TimeoutError:
        raise Wrong(f"{what}: it stays open") from None
    peer.socket.close()


def hugeLengths(victim: Victim) -> None:
    """Of 4 GB: of each type of PDU, of a PDV; and of an element of a data set."""
    for kind in range(256):
        head = struct.pack(">BxI", kind, 0xFFFFFFFF)
        peer = Peer(victim.server)
        peer.send(head + bytes(1000))
        _expectEnd(peer, f"PDU {kind:02X}H of 4 GB")
    for kind in range(1, 8):
        peer = victim.open()
        peer.send(struct.pack(">BxI", kind, 0xFFFFFFFF) + bytes(1000))
        _expectEnd(peer, f"PDU {kind:02X}H of 4 GB in an association")
    peer = victim.open()
    peer.send(struct.pack(">BxIIBB", 4, 1000, 0xFFFFFFFF, STORE, 0) + bytes(994))
    _expectEnd(peer, "PDV of 4 GB")
    for length in (0xFFFFFFFE, 0x7FFFFFFF):
        uid = fresh().SOPInstanceUID
        data = b"\x08\0\x08\0UT\0\0" + struct.pack("<I", length) + bytes(1000)
        with victim.open() as peer:
            if store(peer, data, uid) != 0xC000:
                raise Wrong("an element of 4 GB in a data set of 1 KB is taken")
            peer.send(asking(FIND, STUDY_FIND, data))
            if peer.response().status not in (0xC000, 0xA900):
                raise Wrong("an element of 4 GB in an identifier of 1 KB is taken")
            peer.release()


def _request(contexts: bytes, information: bytes = b"", title: str = "PEER") -> bytes:
    """An A-ASSOCIATE-RQ of parts that are given as they are."""
    user = wire.item(0x51, struct.pack(">I", 16384)) + information
    body = struct.pack(">HH", 1, 0) + b"D360PACS".ljust(16) + title.ljust(16).encode()
    body += bytes(32) + wire.item(0x10, wire.APPLICATION_CONTEXT.encode()) + contexts
    return wire.pdu(1, body + wire.item(0x50, user))


def manyItems(victim: Victim) -> None:
    """
    10 000 presentation contexts where there can be 128 (PS3.8 9.3.2.2), and more
    of everything else that a request has several of.
    """
    proposals = [
        wire.proposal(number % 128 * 2 + 1, CT, [EXPLICIT]) for number in range(10000)
    ]
    uid = "1.2.840.10008.5.1.4.1.1.2"
    syntaxes = [f"1.2.840.10008.1.2.4.{number}" for number in range(2000)]
    one = wire.proposal(1, CT, [EXPLICIT])
    for what, request in (
        ("10 000 contexts", _request(b"".join(proposals))),
        ("2000 transfer syntaxes", _request(wire.proposal(1, CT, syntaxes))),
        ("1500 roles", _request(one, wire.role(uid, 1, 1) * 1500)),
        ("5000 items", _request(one, wire.item(0x77, b"") * 5000)),
        ("a UID of 60 000", _request(wire.proposal(1, "1" * 60000, [EXPLICIT]))),
        ("a role of 60 000", _request(one, wire.role("1" * 60000, 1, 1))),
    ):
        peer = Peer(victim.server)
        peer.send(request)
        _expectEnd(peer, what)
    most = [
        wire.proposal(2 * number + 1, CT, [IMPLICIT, *syntaxes[:60]])
        for number in range(128)
    ]
    with Peer(victim.server) as peer:
        peer.send(_request(b"".join(most)))
        if peer.receive()[0] != wire.ACCEPT:
            raise Wrong("128 contexts are refused")


def _nested(depth: int, isDefined: bool) -> bytes:
    """A sequence in a sequence in a sequence, in Explicit VR."""
    head = b"\x08\0\x40\x11SQ\0\0"
    if not isDefined:
        opened = (head + _UNDEFINED + _ITEM + _UNDEFINED) * depth
        return opened + (_ITEM_END + _SEQUENCE_END) * depth
    data = b""
    for _ in range(depth):
        data = _ITEM + struct.pack("<I", len(data)) + data
        data = head + struct.pack("<I", len(data)) + data
    return data


def nesting(victim: Victim) -> None:
    """Sequences in sequences, and items without number (PS3.5 7.5)."""
    items = b"\x08\0\x40\x11SQ\0\0" + _UNDEFINED
    items += (_ITEM + _UNDEFINED + _ITEM_END) * 19000 + _SEQUENCE_END
    short = b"\x08\0\x40\x11SQ\0\0" + _UNDEFINED
    short += (_ITEM + bytes(4)) * 39000 + _SEQUENCE_END
    level = encode(keys("STUDY"))
    deep = [_nested(depth, isDefined) for depth in (100, 9000) for isDefined in (0, 1)]
    steps = b"\x40\0\0\x01SQ\0\0"
    for number, data in enumerate((items, short, *deep)):
        uid = fresh().SOPInstanceUID
        with victim.open() as peer:
            if store(peer, data, uid) != 0xC000:
                raise Wrong(f"a data set of nested sequences, {number}, is stored")
            peer.send(asking(FIND, STUDY_FIND, level + data))
            _answered(peer, f"nested sequences {number} in a C-FIND")
            peer.send(asking(LIST, WORKLIST, data.replace(data[:8], steps)))
            _answered(peer, f"nested sequences {number} in a worklist query")
            peer.release()


def _answered(peer: Peer, what: str) -> None:
    start = time.monotonic()
    while peer.response().status in (0xFF00, 0xFF01):
        continue
    if time.monotonic() - start > _SOON:
        raise Wrong(f"{what} took {time.monotonic() - start:.1f} s")


def severalAtOnce(victim: Victim) -> None:
    """Many data sets of nested sequences, one after the other, without a pause."""
    data = _nested(9000, False)
    with victim.open() as peer:
        for _ in range(20 * victim.scale):
            peer.send(storeCommand(STORE, fresh().SOPInstanceUID))
            for at in range(0, len(data), 16000):
                last = LAST if at + 16000 >= len(data) else 0
                peer.send(wire.pdv(STORE, last, data[at : at + 16000]))
        for _ in range(20 * victim.scale):
            if peer.response().status != 0xC000:
                raise Wrong("a data set of nested sequences is stored")
        peer.release()
