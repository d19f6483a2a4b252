"""
What the server's own processes say to each other, of which a stranger chooses some
words: AE titles and addresses in answers and lines of the log, UIDs in the names of
files. Whatever they are, and however they are cut, it arrives as it was said.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.testing import StringTransport

from d360.archive import diskmessages
from d360.workers.lines import WholeLines
from d360.workers.wire import (
    Answer,
    Begin,
    Message,
    Noted,
    Report,
    Stop,
    Take,
    Tell,
    Wire,
)
from tests.faults.fuzzing.target import Target, check


def _pieces(data: bytes, seed: int) -> Sequence[bytes]:
    choice = random.Random(seed)
    pieces, place = [], 0
    while place < len(data):
        size = choice.choice((1, 2, 3, 7, 64, 4096))
        pieces.append(data[place : place + size])
        place += size
    return pieces


class _Receiving(Wire):
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.makeConnection(StringTransport())

    def received(self, message: Message) -> None:
        self.messages.append(message)


def tell(data: bytes) -> None:
    """Between the server and a worker."""
    words = data.decode("utf-8", "surrogateescape"), data.decode("latin-1")
    messages: list[Message] = []
    for word in words:
        messages += [
            Begin(1, 2, {word: word}, word, 10, 1, False),
            Tell(word, {"credentials": [word, len(data), None]}),
            Take(2, word, len(data) % 2 == 0),
            Report(1, 2, 3, 4, 5, {word: len(data)}),
            Answer(len(data), [{"callingAETitle": word, "peer": word}]),
            Noted(0.5, "warn", word),
            Stop(word),
        ]
    sender = _Receiving()
    for message in messages:
        sender.send(message)
    transport: Any = sender.transport
    receiver = _Receiving()
    for piece in _pieces(transport.value(), len(data)):
        receiver.dataReceived(piece)
    check(receiver.messages == messages, "a worker is told something else")
    _write(data)


def _write(data: bytes) -> None:
    """Lines of a worker's log: whole ones, and none that it has not written."""
    written: list[bytes] = []
    lines = WholeLines(written.append)
    for piece in _pieces(data, len(data)):
        lines.feed(piece)
    check(all(each.endswith(b"\n") for each in written), "a line is torn")
    lines.end()
    check(b"".join(written).removesuffix(b"\n") == data.removesuffix(b"\n"), "a line")


def store(data: bytes) -> None:
    """To the process that writes files, and back."""
    word = data.decode("latin-1")
    messages: list[Any] = [
        (1, "place", word, len(data), word, word),
        (2, "commit", word, 1, [(1, 2, 3)] * (len(data) % 9), word, word),
        (3, "settle", [word] * (len(data) % 5)),
        (1, diskmessages.PLACED, (word, len(data))),
        (1, diskmessages.DONE, ((word, 1), (1, 2, 3))),
        (2, diskmessages.REFUSED, (5, word)),
    ]
    stream = b"".join(map(diskmessages.join, messages))
    found, rest = [], b""
    for piece in _pieces(stream, len(data)):
        some, rest = diskmessages.split(rest + piece)
        found += some
    check(found == messages and not rest, "the disk is told something else")


def _seeds() -> list[bytes]:
    return [
        b"PACS\\1",
        b"2001:db8::7%eth0",
        b"1.2.840.10008.1.2.1\0",
        b"a line\nanother\n\tand more",
        "Größe".encode(),
        b"\xed\xa0\x80\xff\x00\x7f",
    ]


TARGETS = (
    Target("workers", tell, _seeds, 4, longest=2048),
    Target("disk", store, _seeds, 4, longest=2048),
)
