"""What peers send below the services: PDUs and command sets."""

from __future__ import annotations

import random
from collections.abc import Sequence

from d360.dimse import commands
from d360.dimse.assembly import MAX_COMMAND_SET, CommandAssembly
from d360.dimse.pending import pendingCommand
from d360.errors import AssociationRejected, PDUError
from d360.model import Fragment
from d360.ul import negotiation, pdus
from d360.ul.framing import DataPDU, Framing, WholePDU, dataHeader
from tests.faults.fuzzing.conversations import (
    REQUEST,
    ServicesOffered,
    conversations,
    someCommands,
)
from tests.faults.fuzzing.target import Target, allowing, check

_LONGEST = 16384


def _pulled(framing: Framing, pieces: Sequence[bytes]) -> list[object]:
    """
    All events, up to the first error, of what comes in pieces; those that are
    parts of a PDV joined.
    """
    events: list[object] = []
    for piece in pieces:
        framing.feed(piece)
        while True:
            try:
                event = framing.next()
            except PDUError as error:
                return [*events, error.reason]
            if event is None:
                break
            if isinstance(event, Fragment):
                _join(events, event)
            else:
                events.append(event)
    return events


def _join(events: list[object], piece: Fragment) -> None:
    last = events[-1] if events else None
    if isinstance(last, list) and not last[2]:
        last[2], last[3] = piece.isLast, last[3] + bytes(piece.data)
        return
    events.append([piece.contextID, piece.isCommand, piece.isLast, bytes(piece.data)])


def frame(data: bytes) -> None:
    """Whole or in pieces, the same comes out."""
    whole = _pulled(Framing(_LONGEST), [data])
    choice = random.Random(len(data))
    pieces, place = [], 0
    while place < len(data):
        size = choice.choice((1, 2, 5, 6, 7, 12, 100, 1000))
        pieces.append(data[place : place + size])
        place += size
    check(_pulled(Framing(_LONGEST), pieces) == whole, "pieces make another PDU")
    for event in whole:
        check(not isinstance(event, DataPDU) or event.length <= _LONGEST, "too long")
        check(not isinstance(event, WholePDU) or len(event.body) < 1 << 21, "too long")


def decodePDU(data: bytes) -> None:
    """
    All that is decoded can be answered, and what is encoded again says the
    same.
    """
    with allowing(PDUError):
        pdus.decodeRejection(data)
    with allowing(PDUError):
        pdus.decodeAbort(data)
    with allowing(PDUError):
        acceptance = pdus.decodeAcceptance(data)
        request = pdus.decodeRequest(REQUEST[6:], "192.0.2.1")
        negotiation.establish(request, acceptance, requestor=True)
    with allowing(PDUError):
        request = pdus.decodeRequest(data, "192.0.2.1")
        if negotiation.refusal(request) is None:
            check(
                pdus.decodeRequest(pdus.encodeRequest(request)[6:], "192.0.2.1")
                == request,
                "encoded again, it says something else",
            )
            acceptance = negotiation.accept(
                request, ServicesOffered(), 16384, "1.2.3", "TEST"
            )
            again = pdus.decodeAcceptance(
                pdus.encodeAcceptance(acceptance, request)[6:]
            )
            check(
                negotiation.establish(request, again, requestor=False)
                == negotiation.establish(request, acceptance, requestor=False),
                "the answer says something else",
            )


def decodeCommand(data: bytes) -> None:
    """A command set in fragments; what it was decoded to can be sent."""
    assembly = CommandAssembly()
    size = 1 + data[0] if data else 1
    with allowing(PDUError):
        for place in range(0, max(len(data), 1), size):
            piece = data[place : place + size]
            isLast = place + size >= len(data)
            command = assembly.write(Fragment(1, True, isLast, memoryview(piece)))
            if command is None:
                continue
            # What no UID may have is replaced, once.
            again = commands.decode(commands.encode(command))
            check(
                commands.decode(commands.encode(again)) == again,
                "encoded again, it says something else",
            )
            commands.decode(pendingCommand(command)(1, 2, 3, 4))
    check(len(assembly._data) <= MAX_COMMAND_SET + size, "it grows")


def _frameSeeds() -> list[bytes]:
    return [
        *conversations(),
        dataHeader(1, False, True, 4) + b"data",
        dataHeader(3, True, False, 0),
    ]


def _pduSeeds() -> list[bytes]:
    request = pdus.decodeRequest(REQUEST[6:])
    acceptance = negotiation.accept(request, ServicesOffered(), 16384, "1.2", "TEST")
    return [
        REQUEST[6:],
        pdus.encodeAcceptance(acceptance, request)[6:],
        pdus.encodeRejection(AssociationRejected(1, 1, 1))[6:],
        pdus.encodeAbort(2, 1)[6:],
    ]


def _commandSeeds() -> list[bytes]:
    return [commands.encode(command) for command in someCommands()]


TARGETS = (
    Target("framing", frame, _frameSeeds, 200),
    Target("pdus", decodePDU, _pduSeeds, 200),
    Target("commands", decodeCommand, _commandSeeds, 220),
)
