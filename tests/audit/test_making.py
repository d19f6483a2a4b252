"""Tests for L{d360.audit.making}."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import maybeDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from d360.audit.making import Auditing, makeAuditing
from d360.audit.null import NULL_AUDIT
from d360.config import Audit
from d360.errors import StartupError
from tests.audit.reading import readFile
from tests.contracts.audit import CT01
from tests.contracts.memoryindex import MemoryIndex


class MakingTests(SynchronousTestCase):
    """An audit trail as the configuration has it."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()  # type: ignore[no-untyped-call]
        self.path = Path(self.mktemp()) / "audit.log"

    def make(self, path: Path | None = None, **options: Any) -> Auditing:
        audit = evolve(Audit(), **options)
        index = MemoryIndex()
        return makeAuditing(self.reactor, audit, "PACS", path, index, maybeDeferred)

    def test_none(self) -> None:
        """Neither file nor syslog."""
        auditing = self.make()
        self.assertIs(auditing.audit, NULL_AUDIT)
        auditing.prepare()
        auditing.start()
        auditing.applicationStarts()
        self.successResultOf(auditing.stop())
        self.assertEqual((auditing.written, auditing.dropped), (0, 0))
        self.assertEqual((auditing.waiting, auditing.isFailing), (0, False))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_file(self) -> None:
        """What is noted is in it at the end."""
        auditing = self.make(self.path, sourceID="PACS1", enterpriseSiteID="Hospital")
        auditing.prepare()
        auditing.start()
        auditing.start()
        auditing.applicationStarts()
        auditing.audit.refused(CT01, "not known")
        self.assertEqual(auditing.waiting, 2)
        self.successResultOf(auditing.stop())
        self.assertEqual((auditing.written, auditing.waiting), (3, 0))
        for message in readFile(self.path):
            source = message.root.find("AuditSourceIdentification")
            self.assertEqual(source.get("AuditSourceID"), "PACS1")
            self.assertEqual(source.get("AuditEnterpriseSiteID"), "Hospital")

    def test_source(self) -> None:
        """It goes by our AE title, if nothing else is said."""
        auditing = self.make(self.path)
        auditing.prepare()
        auditing.applicationStarts()
        self.successResultOf(auditing.stop())
        source = readFile(self.path)[0].root.find("AuditSourceIdentification")
        self.assertEqual(source.get("AuditSourceID"), "PACS")
        self.assertIsNone(source.get("AuditEnterpriseSiteID"))

    def test_datagrams(self) -> None:
        """To where the name leads."""
        found = [(socket.AF_INET, 0, 0, "", ("192.0.2.7", 0))]
        self.patch(socket, "getaddrinfo", lambda *arguments, **named: found)
        listened: list[Any] = []

        def listenUDP(port: int, protocol: Any, interface: str) -> Any:
            listened.append((port, interface))
            return protocol

        self.reactor.listenUDP = listenUDP
        auditing = self.make(syslog="udp://log.example.org:5140")
        self.assertTrue(auditing.isFailing)
        auditing.start()
        self.assertEqual(listened, [(0, "")])
        self.assertFalse(auditing.isFailing)

    def test_stream(self) -> None:
        """Of TCP, to host and port."""
        auditing = self.make(syslog="tcp://127.0.0.1:6010")
        auditing.start()
        self.assertTrue(auditing.isFailing)
        ((host, port, *_),) = self.reactor.tcpClients
        self.assertEqual((host, port), ("127.0.0.1", 6010))

    def test_certificates(self) -> None:
        """What is no certificate is known at the start, with what to do."""
        empty = self.path.with_name("empty")
        empty.parent.mkdir()
        empty.write_text("nothing")
        broken = self.path.with_name("broken")
        broken.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
        for path, words in (
            (empty, "has no certificate"),
            (broken, "cannot be read"),
            (self.path, "cannot be read"),
        ):
            error = self.assertRaises(
                StartupError, self.make, syslog="tls://log", ca=str(path)
            )
            self.assertIn(words, str(error))
            self.assertIn(str(path), str(error))
