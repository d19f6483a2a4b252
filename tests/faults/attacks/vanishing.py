"""Peers that go at the wrong moment, abort, or release when nobody expects it."""

from __future__ import annotations

import random
import time
from contextlib import suppress

from tests.faults.attacks.victim import (
    ECHOING,
    FIND,
    GET,
    GRACE,
    IDLE,
    PROPOSALS,
    STORE,
    STUDY_GET,
    Victim,
    Wrong,
    asking,
    ended,
    fresh,
    reset,
)
from tests.interop import wire
from tests.interop.wire import CT, STUDY_FIND, Peer
from tests.services.datasets import encode

_ABORT = wire.pdu(wire.ABORT, bytes(4))
_RELEASE_RP = wire.pdu(wire.RELEASE_RP, bytes(4))


def vanishing(victim: Victim) -> None:
    """
    500 that connect and go: without a byte, in a request, after it, in an
    instance or in a query; with a FIN or with a RST; one after the other, and
    all at the same time.
    """
    dataset = fresh(PixelData=bytes(50000))
    request = wire.request(PROPOSALS)
    stored = wire.store(STORE, 1, CT, dataset.SOPInstanceUID, encode(dataset))
    found = asking(FIND, STUDY_FIND, victim.images())
    source = random.Random(500)
    for atOnce in (False, True):
        peers = []
        for number in range(500 * victim.scale):
            peer = Peer(victim.server)
            said = (b"", request, request + stored, request + found)[number % 4]
            # Not all of the instance: it would be kept.
            peer.send(said[: source.randrange(len(said) or 1)])
            peers.append(peer)
            if not atOnce:
                _leave(peers.pop(), number)
        for number, peer in enumerate(peers):
            _leave(peer, number)


def _leave(peer: Peer, number: int) -> None:
    if number % 3:
        reset(peer.socket)
    else:
        peer.socket.close()


def aborting(victim: Victim) -> None:
    """A-ABORTs without number: many in a row, and many associations that end so."""
    for _ in range(300 * victim.scale):
        peer = victim.open()
        peer.send(_ABORT)
        peer.socket.close()
    for said in (
        b"",
        asking(FIND, STUDY_FIND, victim.images()) * 20,
        asking(GET, STUDY_GET, victim.images(), 0x10),
        wire.echo(ECHOING, 1) * 1000,
    ):
        peer = victim.open()
        peer.send(said)
        # It does what it was asked to, and heeds no more.
        with suppress(OSError):
            for _ in range(100):
                peer.send(_ABORT * 100)
        if ended(peer.socket, IDLE + GRACE) is None:
            raise Wrong("an association stays open after an A-ABORT")
        peer.socket.close()
    peer = Peer(victim.server)
    peer.send(_ABORT)
    if ended(peer.socket, GRACE) is None:
        raise Wrong("a connection stays open after an A-ABORT")
    peer.socket.close()


def releasing(victim: Victim) -> None:
    """
    Releases that collide, come twice, come in the middle of an operation, or
    answer what nobody asked (PS3.8 7.2, Table 9-10).
    """
    find = asking(FIND, STUDY_FIND, victim.images())
    peers = []
    for said in (
        wire.RELEASE * 1000,
        wire.RELEASE + _RELEASE_RP,
        _RELEASE_RP,
        _RELEASE_RP + wire.RELEASE,
        find * 10 + wire.RELEASE * 10,
        wire.RELEASE + find,
        wire.RELEASE + _ABORT,
        wire.RELEASE + wire.request(PROPOSALS),
        asking(GET, STUDY_GET, victim.images(), 0x10) + wire.RELEASE + _RELEASE_RP,
    ):
        peer = victim.open()
        # It may have seen enough.
        with suppress(OSError):
            peer.send(said)
        peers.append(peer)
    # ARTIM waits for the peer to close (PS3.8 9.1.5): no longer than that.
    start = time.monotonic()
    for number, peer in enumerate(peers):
        if ended(peer.socket, start + 2 * IDLE + GRACE - time.monotonic()) is None:
            raise Wrong(f"open {time.monotonic() - start:.1f} s after release {number}")
        peer.socket.close()
