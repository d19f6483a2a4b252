"""Tests for L{d360.tls.contexts}: handshakes in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols import tls
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from d360.errors import CertificateError
from d360.tls.contexts import Accepting, Both, Connecting, serverContext
from d360.tls.credentials import Credentials
from d360.tls.profiles import PROFILES
from d360.ul.security import describe, explain, fingerprintOf
from tests.tls.making import Issued, issue, rsaKey

CA = issue("CA", isCA=True)
OWN = issue("pacs", CA)
MODALITY = issue("modality", CA)
STRANGER = issue("stranger")

PROFILE = PROFILES["bcp195"]


def credentials(one: Issued | None, **others: str) -> Credentials:
    pem, key = (one.pem, one.key) if one else ("", "")
    return Credentials("tls", pem, key, **others)


@implementer(IHandshakeListener)
class Talking(Protocol):
    """Says something as soon as it may, and notes what it is told."""

    def __init__(self, words: bytes) -> None:
        self.words, self.heard = words, b""
        self.security = ""
        self.reason: BaseException | None = None

    def connectionMade(self) -> None:
        self.transport.write(self.words)

    def handshakeCompleted(self) -> None:
        self.security = describe(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.reason = reason.value


class Endpoint:
    """Connects nothing, and keeps what was to be connected."""

    def connect(self, factory: Any) -> Any:
        self.factory = factory
        return Deferred()


class Meeting:
    """
    Two ends that talk to each other.

    @ivar server: and C{client}: what speaks there.
    """

    def __init__(self, accepting: Accepting, client: Any, clock: Clock) -> None:
        self.server, self.client = Talking(b"server"), Talking(b"client")
        self.clock = clock
        over = accepting.over(Factory.forProtocol(lambda: self.server), clock)
        self.ends = [over.buildProtocol(None), client(self.client)]
        self.wires = [StringTransport(), StringTransport()]
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.makeConnection(wire)
        self.lost = [False, False]
        while self.pump():
            """There is more to say."""

    def pump(self) -> bool:
        self.clock.advance(0)
        moved = False
        for at, other in ((0, 1), (1, 0)):
            data = self.wires[at].value()
            self.wires[at].clear()
            if data and not self.lost[other]:
                moved = True
                self.ends[other].dataReceived(data)
            ended = self.wires[at].disconnecting or self.wires[at].disconnected
            if ended and not self.lost[at]:
                for end in (at, other):
                    if not self.lost[end]:
                        self.lost[end] = moved = True
                        self.ends[end].connectionLost(Failure(ConnectionError()))
        return moved


class HandshakeTestCase(SynchronousTestCase):
    """A server that our client trusts."""

    def setUp(self) -> None:
        self.clock = Clock()
        # Of connections that we open; it is the reactor.
        self.patch(tls, "_get_default_clock", lambda: self.clock)
        self.accepting = Accepting(PROFILE)
        self.use(self.accepting, credentials(OWN))
        self.connecting = Connecting(PROFILE)
        self.use(self.connecting, credentials(None, ca=CA.pem))

    def use(self, who: Accepting | Connecting, what: Credentials) -> None:
        who.prepare(what)()

    def meet(self, host: str = "127.0.0.1") -> Meeting:
        """Our client with our server."""

        def client(protocol: Protocol) -> Any:
            endpoint = Endpoint()
            self.connecting.secure(host, endpoint).connect(  # type: ignore[arg-type]
                Factory.forProtocol(lambda: protocol)
            )
            factory = endpoint.factory
            return factory.buildProtocol(None)

        return Meeting(self.accepting, client, self.clock)

    def meetOther(self, context: SSL.Context) -> Meeting:
        """Another client, with a context of its own."""

        @implementer(IOpenSSLClientConnectionCreator)
        class Creator:
            def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
                return SSL.Connection(context)

        def client(protocol: Protocol) -> Any:
            factory = TLSMemoryBIOFactory(
                Creator(), True, Factory.forProtocol(lambda: protocol), self.clock
            )
            return factory.buildProtocol(None)

        return Meeting(self.accepting, client, self.clock)

    def assertTalk(self, meeting: Meeting) -> None:
        self.assertEqual(
            (meeting.server.heard, meeting.client.heard), (b"client", b"server")
        )

    def assertNoTalk(self, meeting: Meeting, server: str, client: str) -> None:
        """Nothing was heard, and each end says why."""
        self.assertEqual(meeting.server.heard, b"")
        self.assertIn(server, explain(meeting.server.reason) or "")
        self.assertIn(client, explain(meeting.client.reason) or "")


class HandshakeTests(HandshakeTestCase):
    """Who may connect, and with what (PS3.15 B.12)."""

    def test_talk(self) -> None:
        """TLS 1.3, and nobody has to show a certificate."""
        meeting = self.meet()
        self.assertTalk(meeting)
        self.assertIn("TLSv1.3", meeting.server.security)
        self.assertEqual(meeting.server.security, meeting.client.security)
        self.assertEqual(fingerprintOf(meeting.server.transport), "")
        self.assertEqual(fingerprintOf(meeting.client.transport), OWN.fingerprint)

    def test_name(self) -> None:
        """A certificate is for the names and addresses that are in it."""
        self.assertTalk(self.meet("localhost"))
        for host in ("pacs.example.org", "127.0.0.2", "::1", "pacs"):
            meeting = self.meet(host)
            self.assertNoTalk(meeting, "refuses", "not for the host")

    def test_unknownCA(self) -> None:
        """Of a server that anybody could have set up."""
        self.use(self.accepting, credentials(STRANGER))
        self.assertNoTalk(self.meet(), "refuses", "not to be trusted")

    def test_systemCAs(self) -> None:
        """Without C{ca}, those of the system's decide; ours is none of them."""
        self.connecting = Connecting(PROFILE)
        self.assertNoTalk(self.meet(), "refuses", "not to be trusted")

    def test_ofTheSystem(self) -> None:
        """A CA that the system knows, which is whatever OpenSSL is told."""
        path = Path(self.mktemp())
        path.write_text(CA.pem)
        load = SSL.Context.set_default_verify_paths

        def known(context: SSL.Context) -> None:
            load(context)
            context.load_verify_locations(str(path))

        self.patch(SSL.Context, "set_default_verify_paths", known)
        self.connecting = Connecting(PROFILE)
        for host in ("127.0.0.1", "localhost"):
            self.assertTalk(self.meet(host))

    def test_expired(self) -> None:
        """A server whose certificate has ended."""
        self.use(self.accepting, credentials(issue("old", CA, days=-1)))
        self.assertNoTalk(self.meet(), "refuses", "not to be trusted")

    def test_clientCertificate(self) -> None:
        """Ours is shown; without C{client_ca} any is taken, and known by it."""
        for one in (MODALITY, STRANGER):
            self.use(self.connecting, credentials(one, ca=CA.pem))
            meeting = self.meet()
            self.assertTalk(meeting)
            self.assertEqual(fingerprintOf(meeting.server.transport), one.fingerprint)

    def test_clientCA(self) -> None:
        """Those of its CAs, or none; others are refused."""
        self.use(self.accepting, credentials(OWN, clientCA=CA.pem))
        self.assertTalk(self.meet())
        self.use(self.connecting, credentials(MODALITY, ca=CA.pem))
        self.assertTalk(self.meet())
        for other in (STRANGER, issue("old", CA, days=-1)):
            self.use(self.connecting, credentials(other, ca=CA.pem))
            self.assertNoTalk(self.meet(), "not to be trusted", "refuses")

    def test_required(self) -> None:
        """Whoever shows none is refused."""
        self.accepting = Accepting(PROFILE, requireCertificate=True)
        self.use(self.accepting, credentials(OWN, clientCA=CA.pem))
        self.assertNoTalk(self.meet(), "shows no certificate", "refuses")
        self.use(self.connecting, credentials(MODALITY, ca=CA.pem))
        self.assertTalk(self.meet())

    def test_chain(self) -> None:
        """Certificates between ours and its CA are sent along."""
        between = issue("between", CA, isCA=True)
        own = issue("pacs", between)
        self.use(self.accepting, credentials(own))
        self.assertNoTalk(self.meet(), "refuses", "not to be trusted")
        chained = evolve(credentials(own), certificate=own.pem + between.pem)
        self.use(self.accepting, chained)
        self.assertTalk(self.meet())

    def test_oldVersions(self) -> None:
        """TLS 1.1 and older are refused (RFC 8996), 1.2 is not."""
        for version, talks in (
            (SSL.TLS1_1_VERSION, False),
            (SSL.TLS1_2_VERSION, True),
        ):
            context = SSL.Context(SSL.TLS_METHOD)
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(SSL.TLS1_VERSION)
            context.set_max_proto_version(version)
            meeting = self.meetOther(context)
            if talks:
                self.assertTalk(meeting)
                self.assertIn("TLSv1.2", meeting.server.security)
            else:
                self.assertNoTalk(meeting, "no TLS 1.2 or later", "refuses")

    def test_suites(self) -> None:
        """The suites of TLS 1.2 are those of the profile, and no other."""
        own = issue("pacs", CA, rsaKey())
        taken: dict[str, set[str]] = {}
        for name, profile in PROFILES.items():
            self.accepting = Accepting(profile)
            self.use(self.accepting, credentials(own))
            for suite in (
                "ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "DHE-RSA-AES256-GCM-SHA384",
                "DHE-RSA-AES128-GCM-SHA256",
                "ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-SHA256",
                "AES128-GCM-SHA256",
                "AES128-SHA",
            ):
                context = SSL.Context(SSL.TLS_METHOD)
                context.set_max_proto_version(SSL.TLS1_2_VERSION)
                context.set_cipher_list(suite.encode())
                meeting = self.meetOther(context)
                if meeting.server.heard:
                    self.assertIn(suite, meeting.server.security)
                    taken.setdefault(name, set()).add(suite)
                else:
                    self.assertNoTalk(meeting, "no cipher suite", "refuses")
        gcm = {"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"}
        dhe = {"DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256"}
        self.assertEqual(
            taken,
            {
                "bcp195": gcm,
                "bcp195-modified": gcm | {"ECDHE-RSA-CHACHA20-POLY1305"},
                "bcp195-nd": gcm | dhe,
                "bcp195-extended": gcm | dhe,
            },
        )

    def test_full(self) -> None:
        """Who takes no more connections has none over TLS, either."""
        factory = Factory()
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        self.assertIsNone(self.accepting.over(factory, self.clock).buildProtocol(None))

    def test_notAsked(self) -> None:
        """A browser is not asked for a certificate that nobody looks at."""
        for asks, mode in ((True, SSL.VERIFY_PEER), (False, SSL.VERIFY_NONE)):
            context = serverContext(PROFILE, credentials(OWN), False, asks)
            self.assertEqual(context.get_verify_mode(), mode)

    def test_notTLS(self) -> None:
        """A peer that speaks plain DICOM, or HTTP."""
        for data in (b"\x01\x00\x00\x00\x00\xcd\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
            server = Talking(b"")
            over = self.accepting.over(Factory.forProtocol(lambda s=server: s), Clock())
            end, wire = over.buildProtocol(None), StringTransport()
            end.makeConnection(wire)
            end.dataReceived(data * 4)
            self.assertTrue(wire.disconnecting)
            end.connectionLost(Failure(ConnectionError()))
            self.assertIn("does not speak TLS", explain(server.reason) or "")


class RenewalTests(HandshakeTestCase):
    """Other credentials are for new connections."""

    def test_open(self) -> None:
        """One that is open goes on with what it began with."""
        first = self.meet()
        other = issue("another", CA)
        self.use(self.accepting, credentials(other))
        second = self.meet()
        self.assertTalk(second)
        self.assertEqual(fingerprintOf(first.client.transport), OWN.fingerprint)
        self.assertEqual(fingerprintOf(second.client.transport), other.fingerprint)
        first.server.transport.write(b" goes on")
        while first.pump():
            """There is more to say."""
        self.assertEqual(first.client.heard, b"server goes on")

    def test_refused(self) -> None:
        """What cannot be used changes nothing."""
        both = Both(PROFILE)
        both.prepare(credentials(OWN, ca=CA.pem))()
        for wrong in (
            evolve(credentials(OWN), key=STRANGER.key),
            credentials(OWN, clientCA="nothing"),
            credentials(issue("weak", key=rsaKey(bits=1024))),
        ):
            error = self.assertRaises(CertificateError, both.prepare, wrong)
            self.assertNotIn("\n", str(error))
        self.accepting, self.connecting = both.accepting, both.connecting
        self.assertTalk(self.meet())

    def test_connectingOnly(self) -> None:
        """Without a certificate we can still call others."""
        both = Both(PROFILE)
        both.prepare(credentials(None, ca=CA.pem))()
        self.connecting = both.connecting
        self.assertTalk(self.meet())
