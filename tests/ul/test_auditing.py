"""Whom the upper layer has turned away, as the audit trail is told (PS3.15 A.5.3)."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.audit.values import Peer
from d360.errors import AssociationRejected
from d360.model import AssociationRequest, Permission, ProposedContext
from d360.ul import pdus
from d360.ul.factory import UpperLayerFactory, requestAssociation
from d360.ul.settings import UpperLayerSettings
from tests.contracts.memoryaudit import MemoryAudit
from tests.ul.association import (
    CT,
    IMPLICIT,
    PROPOSAL,
    REQUEST,
    VERIFICATION,
    AcceptorSide,
    Supported,
    User,
)

HOST = "192.168.1.1"

ECHOSCU = Peer("ECHOSCU", HOST)


def insecure(reason: str) -> Failure:
    """What a connection is lost with when OpenSSL says this."""
    return Failure(SSL.Error([("SSL routines", "", reason)]))


class AcceptorTests(SynchronousTestCase):
    """Those who call."""

    def setUp(self) -> None:
        self.side = AcceptorSide()
        self.audit = MemoryAudit()
        self.side.factory = UpperLayerFactory(
            self.side.buildUser,
            self.side.admission,
            Supported(),
            self.side.clock,
            UpperLayerSettings(),
            audit=self.audit,
        )

    def test_rejected(self) -> None:
        """By admission, for who it is or whom it calls."""
        for reason in (3, 7):
            error = AssociationRejected(1, 1, reason, "not known")
            self.side.admission.answer = fail(error)
            protocol, _ = self.side.connect()
            protocol.dataReceived(REQUEST)
            why = f"rejected 1,1,{reason} not known"
            self.assertEqual(self.audit.calls.pop(), ("refused", ECHOSCU, why))

    def test_noTitle(self) -> None:
        """By the provider, whose rule is broken by a title that is none."""
        protocol, _ = self.side.connect()
        protocol.dataReceived(REQUEST.replace(b"ECHOSCU ", b"ECHO\\SCU"))
        ((what, who, why),) = self.audit.calls
        self.assertEqual((what, who.title), ("refused", "ECHO\\SCU"))
        self.assertEqual(why, "rejected 1,1,3 the calling AE title is none")

    def test_innocent(self) -> None:
        """No alert for the moment's want of room, nor for another version."""
        self.side.admission.answer = fail(AssociationRejected(2, 3, 2, "full"))
        self.side.connect()[0].dataReceived(REQUEST)
        self.side.connect()[0].dataReceived(REQUEST[:6] + b"\x00\x02" + REQUEST[8:])
        self.assertEqual(self.audit.calls, [])

    def test_accepted(self) -> None:
        """Who is admitted is told of by what he does."""
        self.side.establish()
        self.assertEqual(self.audit.calls, [])

    def test_contexts(self) -> None:
        """Presentation contexts of what it may not do, once an association."""
        request = AssociationRequest(
            "STORE",
            "D360PACS",
            (
                ProposedContext(1, VERIFICATION, (IMPLICIT,)),
                ProposedContext(3, CT, (IMPLICIT,)),
                ProposedContext(5, CT, ("1.2.840.10008.1.2.1",)),
                ProposedContext(7, "1.2.3", (IMPLICIT,)),
            ),
        )
        self.side.admission.answer = succeed(frozenset({Permission.QUERY}))
        protocol, _ = self.side.connect()
        protocol.dataReceived(pdus.encodeRequest(request))
        why = "may not use 2 of the presentation contexts that it proposes"
        self.assertEqual(self.audit.calls, [("notPermitted", Peer("STORE", HOST), why)])

    def test_certificates(self) -> None:
        """A TLS handshake that fails for what was shown, or was not."""
        for reason in (
            "certificate verify failed",
            "peer did not return a certificate",
            "tlsv1 alert unknown ca",
            "sslv3 alert bad certificate",
        ):
            protocol, _ = self.side.connect()
            protocol.connectionLost(insecure(reason))
            ((what, who, why),) = self.audit.calls
            self.assertEqual((what, who), ("refused", Peer("", HOST)))
            self.assertTrue(why.startswith("TLS: the peer"), why)
            self.audit.calls.clear()

    def test_otherwise(self) -> None:
        """What fails for anything else is nobody who could not say who he is."""
        for reason in (
            insecure("no shared cipher"),
            insecure("http request"),
            Failure(ConnectionDone()),
        ):
            protocol, _ = self.side.connect()
            protocol.connectionLost(reason)
        self.assertEqual(self.audit.calls, [])


class RequestorTests(SynchronousTestCase):
    """Those whom we call."""

    def test_impostor(self) -> None:
        """Somebody else's certificate, where a remote AE should be."""
        audit, side = MemoryAudit(), AcceptorSide()
        connected: list[Any] = []

        class Endpoint:
            def connect(self, factory: Any) -> Any:
                protocol = factory.buildProtocol(None)
                protocol.makeConnection(StringTransport())
                connected.append(protocol)
                return succeed(protocol)

        requestAssociation(
            Endpoint(),  # type: ignore[arg-type]
            PROPOSAL,
            User(),
            side.clock,
            audit=audit,
        )
        connected[0].connectionLost(Failure(VerificationError(["another host"])))
        ((what, who, why),) = audit.calls
        self.assertEqual((what, who), ("refused", Peer("STORE", HOST)))
        self.assertIn("not for the host that we called", why)
