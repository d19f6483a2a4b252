"""Paths, SQL and control characters where names belong: by DICOM, by commands."""

from __future__ import annotations

import struct
import subprocess

from tests.faults.attacks.victim import (
    FIND,
    GET,
    LIST,
    STUDY_GET,
    WORKLIST,
    Victim,
    Wrong,
    asking,
    fresh,
    store,
)
from tests.faults.attacks.web import BAD
from tests.interop import wire
from tests.interop.wire import CT, EXPLICIT, STUDY_FIND, Peer
from tests.services.datasets import encode

_PENDING = (0xFF00, 0xFF01)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def titles(victim: Victim) -> None:
    """AE titles that are none are rejected; others are AE titles, whatever they say."""
    for bad in BAD:
        title = _bytes(bad)[:16].ljust(16)
        for called, calling in (
            (b"D360PACS".ljust(16), title),
            (title, b"PEER".ljust(16)),
        ):
            request = bytearray(wire.request([(CT, [EXPLICIT])]))
            request[10:26], request[26:42] = called, calling
            with Peer(victim.server) as peer:
                peer.send(bytes(request))
                kind, body = peer.receive()
                isTitle = title.strip(b" ").isascii() and bad.isprintable()
                if kind == wire.ACCEPT and not (isTitle and "\\" not in bad):
                    raise Wrong(f"{bad[:16]!r} is taken for an AE title")
                if kind not in (wire.ACCEPT, wire.REJECT):
                    raise Wrong(f"{bad[:16]!r}: PDU of type {kind}, {body.hex()}")


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """In Explicit VR Little Endian; as it is."""
    value += bytes(len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + struct.pack("<H", len(value)) + value


_LEVEL = 0x00080052


def uids(victim: Victim) -> None:
    """What is no UID is no path and no SQL, wherever it comes."""
    for bad in BAD:
        value = _bytes(bad)
        if not value.strip(b"\0 "):
            # It asks for everything, and is none at all in a data set.
            continue
        with victim.open() as peer:
            dataset = fresh()
            whole = encode(dataset)
            for uid in (dataset.StudyInstanceUID, dataset.SOPInstanceUID):
                right = uid.encode() + bytes(len(uid) % 2)
                head = b"UI" + struct.pack("<H", len(right))
                wrong = value + bytes(len(value) % 2)
                changed = whole.replace(
                    head + right, b"UI" + struct.pack("<H", len(wrong)) + wrong
                )
                _expectRefused(store(peer, changed, dataset.SOPInstanceUID), bad)
            for level, tag in (("STUDY", 0x0020000D), ("IMAGE", 0x00080018)):
                keys = sorted(
                    [
                        (_LEVEL, b"CS", level.encode()),
                        (0x00080050, b"SH", value),
                        (0x00100010, b"PN", value),
                        (0x00100020, b"LO", value),
                        (0x0020000D, b"UI", value),
                        (tag, b"UI", value),
                    ]
                )
                identifier = b"".join(_element(*key) for key in dict.fromkeys(keys))
                _ask(victim, peer, FIND, STUDY_FIND, 0x20, identifier)
                _ask(victim, peer, LIST, WORKLIST, 0x20, identifier)
                _ask(victim, peer, GET, STUDY_GET, 0x10, identifier)
            peer.release()


def _expectRefused(status: int, bad: str) -> None:
    if status not in (0xC000, 0xA900):
        raise Wrong(f"{bad[:20]!r} as a UID is answered {status:04X}")


def _ask(
    victim: Victim,
    peer: Peer,
    contextID: int,
    sopClass: str,
    field: int,
    identifier: bytes,
) -> None:
    """Nothing is found, or it is refused; but the database is not to blame."""
    peer.send(asking(contextID, sopClass, identifier, field))
    while (status := peer.response().status) in _PENDING:
        raise Wrong(f"something is found by {identifier[-40:]!r}")
    if status not in (0, 0xC000, 0xA900):
        raise Wrong(f"{identifier[-40:]!r} is answered {status:04X}")


def commands(victim: Victim) -> None:
    """The same at the command line."""
    for bad in BAD:
        if "\0" in bad:
            # No program can be given one.
            continue
        for arguments in (
            ("ae", "add", bad, "127.0.0.1", "104"),
            ("ae", "remove", bad),
            ("worklist", "show", bad),
            ("worklist", "remove", bad),
        ):
            command = victim.server.ctlCommand(*arguments)
            done = subprocess.run(command, capture_output=True, timeout=60)
            if b"Traceback" in done.stderr or done.returncode not in (0, 1, 2):
                raise Wrong(f"{arguments}: {done.returncode} {done.stderr!r}")
            victim.server.ctl("ae", "remove", bad)
