"""Associations over TLS (PS3.15 B), as the upper layer sees them."""

from __future__ import annotations

import socket
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.logs import Logger
from d360.ul.security import explain
from d360.ul.tcp import READ, prepare, quickAcknowledger
from tests.tls.making import issue
from tests.ul.association import REQUEST, AcceptorSide

CERTIFICATE = issue("modality")


def failed(reason: str) -> Failure:
    """What a connection is lost with when OpenSSL says this."""
    return Failure(SSL.Error([("SSL routines", "", reason)]))


class Secure(StringTransport):
    """A transport whose peer has shown a certificate."""

    def getPeerCertificate(self) -> X509:
        return X509.from_cryptography(CERTIFICATE.certificate)


class Anonymous(StringTransport):
    """One whose peer has shown none."""

    def getPeerCertificate(self) -> None:
        return None

    def getHandle(self) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_METHOD))


class AcceptorTests(SynchronousTestCase):
    """Who calls, and why somebody cannot."""

    def setUp(self) -> None:
        self.side = AcceptorSide(artim=30.0)
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.patch(Logger, "threshold", LogLevel.debug)

    def connect(self, transport: StringTransport) -> Any:
        self.protocol = self.side.factory.buildProtocol(None)
        self.protocol.makeConnection(transport)
        return self.protocol

    def logged(self, level: LogLevel) -> list[str]:
        return [formatEvent(e) for e in self.events if e["log_level"] == level]

    def test_certificate(self) -> None:
        """Admission is told its fingerprint, if one was shown."""
        for transport, fingerprint in (
            (Secure(), CERTIFICATE.fingerprint),
            (Anonymous(), ""),
            (StringTransport(), ""),
        ):
            self.connect(transport).dataReceived(REQUEST)
            request, _ = self.side.admission.asked[-1]
            self.assertEqual(request.certificate, fingerprint)

    def test_handshake(self) -> None:
        """It is heard of, at debug."""
        protocol = self.connect(Anonymous())
        verifyObject(IHandshakeListener, protocol)
        protocol.handshakeCompleted()
        self.assertTrue(any("TLSv1.3" in line for line in self.logged(LogLevel.debug)))

    def test_failed(self) -> None:
        """One line that somebody will look for, and no traceback."""
        protocol = self.connect(StringTransport())
        protocol.connectionLost(failed("no shared cipher"))
        (line,) = self.logged(LogLevel.warn)
        self.assertIn(f"connection {protocol.number} with 192.168.1.1 failed", line)
        self.assertIn("TLS: no cipher suite in common; see tls.profile", line)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_looked(self) -> None:
        """Who only looks whether we live is of no interest, as without TLS."""
        for reason in (ConnectionDone(), ConnectionLost()):
            self.connect(StringTransport()).connectionLost(Failure(reason))
        self.assertEqual(self.logged(LogLevel.warn), [])
        self.assertEqual(self.logged(LogLevel.info), [])

    def test_neverFinished(self) -> None:
        """A handshake has as long as an association request (PS3.8 9.1.5)."""
        transport = StringTransport()
        protocol = self.connect(transport)
        self.side.clock.advance(29.9)
        self.assertFalse(transport.disconnected)
        self.side.clock.advance(0.2)
        self.assertTrue(transport.disconnected)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.side.clock.getDelayedCalls(), [])

    def test_later(self) -> None:
        """On an association it is how that has ended."""
        protocol = self.connect(Secure())
        protocol.dataReceived(REQUEST)
        protocol.connectionLost(failed("bad record mac"))
        self.assertEqual(self.logged(LogLevel.warn), [])
        (user,) = self.side.users
        self.assertIn("TLS: bad record mac", str(user.endings[0]))


class ExplainTests(SynchronousTestCase):
    """OpenSSL's words, for people."""

    def test_reasons(self) -> None:
        """What to do, as far as it can be said."""
        for reason, words in (
            ("tlsv1 alert unknown ca", "the peer refuses (tlsv1 alert unknown ca)"),
            ("certificate verify failed", "is not to be trusted"),
            ("peer did not return a certificate", "shows no certificate"),
            ("wrong version number", "does not speak TLS"),
            ("unsupported protocol", "no TLS 1.2 or later"),
            ("Something New", "TLS: something new"),
        ):
            self.assertIn(words, explain(failed(reason).value) or "")

    def test_others(self) -> None:
        """With nothing to say, and none of TLS's."""
        for error in (SSL.Error(), SSL.Error([]), SSL.Error(1)):
            self.assertEqual(explain(error), "TLS: no reason given")
        self.assertIn("not for the host", explain(VerificationError([])) or "")
        for other in (ConnectionDone(), ValueError("x"), None):
            self.assertIsNone(explain(other))


class LowestTests(SynchronousTestCase):
    """What TCP is told reaches it through what is above it."""

    def test_wrapped(self) -> None:
        """Reads are long, and acknowledged at once."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
        self.addCleanup(ours.close)
        connection = Connection(ours, Protocol(), object())
        factory: Any = WrappingFactory(Factory())
        wrapper = ProtocolWrapper(factory, Protocol())
        outer = ProtocolWrapper(factory, Protocol())
        wrapper.transport, outer.transport = connection, wrapper
        prepare(outer)
        self.assertEqual(connection.bufferSize, READ)
        acknowledge = quickAcknowledger(outer)
        assert acknowledge is not None
        acknowledge()
