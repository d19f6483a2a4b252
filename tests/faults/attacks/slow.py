"""Peers that are slow without an end, and one that is slow in good faith."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

from tests.faults.attacks.victim import (
    ARTIM,
    ECHOING,
    FIND,
    GET,
    GRACE,
    IDLE,
    LONGEST,
    PROPOSALS,
    STORE,
    STUDY_GET,
    Victim,
    Wrong,
    asking,
    atOnce,
    flood,
    fresh,
    isEnded,
    push,
    storeCommand,
)
from tests.interop import wire
from tests.interop.running import PATIENCE
from tests.interop.wire import COMMAND, LAST, STUDY_FIND, Peer
from tests.services.datasets import encode

#: Seconds between two bytes.
_STEP = 0.1


@frozen
class _Drip:
    """
    @ivar more: gives what is sent next, a little.
    """

    peer: Peer
    more: Callable[[], bytes]

    def isOver(self) -> bool:
        """Send some more; whether the server has ended it."""
        try:
            self.peer.send(self.more())
            gone = isEnded(self.peer.socket)
        except OSError:
            gone = True
        if gone:
            self.peer.socket.close()
        return gone


def _untilOver(drips: list[_Drip], seconds: float, what: str) -> None:
    start = time.monotonic()
    while drips:
        drips = [drip for drip in drips if not drip.isOver()]
        if drips and time.monotonic() - start > seconds:
            raise Wrong(f"{what}: {len(drips)} are open after {seconds} s")
        time.sleep(_STEP)


def slowRequest(victim: Victim) -> None:
    """
    An A-ASSOCIATE-RQ byte by byte: ARTIM counts from the connection (PS3.8
    9.1.5), whatever comes.
    """
    drips = []
    for _ in range(20 * victim.scale):
        rest = iter(wire.request(PROPOSALS))
        drips.append(_Drip(Peer(victim.server), lambda rest=rest: bytes([next(rest)])))
    _untilOver(drips, ARTIM + GRACE, "slow requests")


def slowInstance(victim: Victim) -> None:
    """
    Instances that never come to their end, of which a byte comes now and then:
    in a PDU of its own, within one, or with none at all in it.
    """
    empty, one = wire.pdv(STORE, 0, b""), wire.pdv(STORE, 0, b"\0")
    drips = []
    for more in (b"\0", one, empty):
        for _ in range(5 * victim.scale):
            peer = victim.open()
            uid = fresh().SOPInstanceUID
            peer.send(storeCommand(STORE, uid))
            if more == b"\0":
                peer.send(wire.pdv(STORE, 0, bytes(10000))[:20])
            drips.append(_Drip(peer, lambda more=more: more))
    _untilOver(drips, 2 * IDLE + GRACE, "instances without an end")


def slowInGoodFaith(victim: Victim) -> None:
    """Over a bad line, 600 bytes a second in small pieces, an instance arrives."""
    dataset = fresh(PixelData=bytes(4000))
    data = encode(dataset)
    with victim.open() as peer:
        peer.send(storeCommand(STORE, dataset.SOPInstanceUID))
        start, at = time.monotonic(), 0
        while at < len(data):
            # Whatever the machine does meanwhile.
            end = 60 * (1 + int((time.monotonic() - start) / _STEP))
            last = LAST if end >= len(data) else 0
            peer.send(wire.pdv(STORE, last, data[at:end]))
            at = end
            time.sleep(_STEP)
        if peer.response().status:
            raise Wrong("a slow instance was not stored")
        peer.release()


def neverReads(victim: Victim) -> None:
    """
    Requests one after the other, and nothing of the answers is read: then the
    requests are no longer taken either, and at last the association is ended, long
    before what was to be answered fills the memory.
    """
    images = victim.images()
    requests = {
        "C-ECHO": wire.echo(ECHOING, 1),
        "C-FIND": asking(FIND, STUDY_FIND, images),
        "C-GET": asking(GET, STUDY_GET, images, 0x10),
    }

    def ask(name: str) -> None:
        request = requests[name]
        more = request * (1 + 30000 // len(request))
        with victim.open(isNarrow=True) as peer:
            taken, isOver = push(peer.socket, lambda: more, 4 * IDLE + GRACE)
        if not isOver:
            raise Wrong(f"{name} without reading goes on; {taken} bytes taken")

    atOnce(ask, requests)


def endless(victim: Victim) -> None:
    """
    Without an end and at full speed: PDVs with nothing in them, a command set,
    an identifier.
    """
    nothing = wire.pdv(STORE, 0, b"") * 1000
    begun = storeCommand(STORE, fresh().SOPInstanceUID)
    element = b"\x10\0\x20\0LO" + (0x4000).to_bytes(2, "little") + b"A" * 0x4000
    question = asking(FIND, STUDY_FIND, None)
    cases = {
        "empty PDVs of a data set": (begun, nothing),
        "empty PDVs of an identifier": (question, wire.pdv(FIND, 0, b"") * 1000),
        "empty PDVs of a command set": (b"", wire.pdv(STORE, COMMAND, b"") * 1000),
        "a command set": (b"", wire.pdv(STORE, COMMAND, bytes(1000)) * 50),
        "an identifier": (question, wire.pdv(FIND, 0, element) * 10),
    }

    def send(name: str) -> None:
        first, more = cases[name]
        with victim.open() as peer:
            peer.send(first)
            taken, isOver = flood(peer.socket, lambda: more, 2 * IDLE + GRACE)
        if not isOver:
            raise Wrong(f"{name} without an end goes on; {taken} bytes taken")

    atOnce(send, cases)


def endlessInstance(victim: Victim) -> None:
    """
    An instance that goes on and on: as soon as it is longer than any may be nothing
    of it is on the disk any more, and at its end, if there is one, it is refused.
    """
    dataset = fresh()
    pixels = b"\xe0\x7f\x10\0OW\0\0" + 0xFFFFFFFE.to_bytes(4, "little")
    piece = wire.pdv(STORE, 0, bytes(1 << 15))
    archive = victim.server.folder / "data" / "archive"
    with victim.open() as peer:
        peer.send(storeCommand(STORE, dataset.SOPInstanceUID))
        peer.send(wire.pdv(STORE, 0, encode(dataset) + pixels))
        for _ in range((LONGEST << 20) // (1 << 15) + 100):
            peer.send(piece)
        deadline = time.monotonic() + PATIENCE
        while list(archive.glob(f"*/{dataset.StudyInstanceUID}/*/*")):
            if time.monotonic() > deadline:
                raise Wrong("an instance without an end stays on the disk")
            peer.send(piece)
        peer.send(wire.pdv(STORE, LAST, b"\0\0"))
        status = peer.response().status
        if status != 0xA700:
            raise Wrong(f"an instance that is too long: {status:04X}")
        peer.release()
