"""Tests for L{d360.workers.wire}."""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from d360.workers.wire import (
    Answer,
    Ask,
    Begin,
    Message,
    Noted,
    Ready,
    Report,
    Stop,
    Take,
    Tell,
    Wire,
)

MESSAGES: list[Message] = [
    Begin(
        1, 2, {"web.token": "Größe", "dicom.port": 104}, "postgresql:///", 9, 1, False
    ),
    Ready(3),
    Tell("credentials", {"key": "PEM"}),
    Take(2, "DICOM"),
    Take(10, "DICOM", True),
    Report(1, 2, 3, 4, 5),
    Report(1, 2, 3, 4, 5, {"192.0.2.7": 2, "2001:db8::7": 0}),
    Ask(7, "counters"),
    Answer(7, {"a": [1, 2.5, None]}),
    Noted(1767225600.5, "warn", "a line\nanother"),
    Stop("the server stops"),
]


class Receiving(Wire):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def received(self, message: Message) -> None:
        self.messages.append(message)


class WireTests(SynchronousTestCase):
    """What one end sends, the other receives."""

    def test_pieces(self) -> None:
        """Every kind of message, however it is cut."""
        sender, transport = Receiving(), StringTransport()
        sender.makeConnection(transport)
        for message in MESSAGES:
            sender.send(message)
        data = transport.value()
        for size in (1, 7, len(data)):
            receiver = Receiving()
            receiver.makeConnection(StringTransport())
            for at in range(0, len(data), size):
                receiver.dataReceived(data[at : at + size])
            self.assertEqual(receiver.messages, MESSAGES)
