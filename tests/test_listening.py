"""Tests for L{d360.listening}, on sockets of loopback."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from d360 import listening
from d360.listening import REST, listenTCP

reactor: Any = _reactor


class PatientPortTests(TestCase):
    """Where nothing can be accepted, it is not tried without a pause."""

    def setUp(self) -> None:
        self.canOpen = True
        self.patch(listening, "_canOpen", lambda: self.canOpen)
        self.patch(listening, "REST", REST / 4)
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        self.port = listenTCP(reactor, 0, factory, 5, "127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.told: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_level") is LogLevel.error:
            self.told.append(event["log_format"])

    async def connect(self) -> None:
        """Somebody wants in."""
        peer = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(peer.close)
        await deferLater(reactor, 0.01)

    def isReading(self) -> bool:
        return self.port in reactor.getReaders()

    async def test_rests(self) -> None:
        """It rests, says so once, and goes on by itself."""
        await self.connect()
        self.assertTrue(self.isReading())
        self.canOpen = False
        for _ in range(3):
            await self.connect()
            self.assertFalse(self.isReading())
            await deferLater(reactor, REST / 3)
            self.assertTrue(self.isReading())
        (words,) = self.told
        self.assertIn("LimitNOFILE", words)
        self.canOpen = True
        await self.connect()
        self.assertTrue(self.isReading())

    async def test_closed(self) -> None:
        """A port that rests can be closed, and stays so."""
        self.canOpen = False
        await self.connect()
        await self.port.stopListening()
        await deferLater(reactor, REST / 3)
        self.assertFalse(self.isReading())


class CanOpenTests(TestCase):
    """What the system says."""

    def test_canOpen(self) -> None:
        self.assertTrue(listening._canOpen())

    def test_cannot(self) -> None:
        """C{EMFILE}."""

        def dup(descriptor: int) -> int:
            raise OSError(24, "Too many open files")

        self.patch(listening.os, "dup", dup)
        self.assertFalse(listening._canOpen())
