"""Tests for L{d360.services.verification}, in the role of SCU."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import (
    AssociationAborted,
    AssociationEnded,
    AssociationRejected,
    ConnectionClosed,
    DIMSEError,
)
from d360.interfaces import IAssociation, IAssociationOpener, IVerification
from d360.model import Command, RemoteAE
from d360.services.verification import PATIENCE, VerificationSCU
from tests.contracts.archive import checkSignatures
from tests.contracts.opener import FakeOpener, Received

REMOTE = RemoteAE("WS1", "192.0.2.7", 104)


class VerificationSCUTests(SynchronousTestCase):
    """C-ECHO of a remote AE (PS3.4 A.4, PS3.7 9.1.5)."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.opener = FakeOpener()
        self.verification = VerificationSCU(self.opener, self.clock)

    def tearDown(self) -> None:
        """No timer is left, and no association."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for association in self.opener.associations:
            self.assertIsNotNone(association.ended)

    def failed(self, kind: type[Any]) -> Any:
        """The error that it ends with."""
        return self.failureResultOf(self.verification.verify(REMOTE), kind).value

    def test_interfaces(self) -> None:
        """All of them provide what they say."""
        checkSignatures(self, IVerification, self.verification)
        checkSignatures(self, IAssociationOpener, self.opener)
        self.successResultOf(self.verification.verify(REMOTE))
        checkSignatures(self, IAssociation, self.opener.associations[0])

    def test_verified(self) -> None:
        """The time from request to response; then the association is released."""
        answer: Deferred[int] = Deferred()

        def answerLater(received: Received) -> Deferred[int]:
            return answer

        self.opener.answer = answerLater
        self.opener.waiter = opening = Deferred()
        verified = self.verification.verify(REMOTE)
        self.clock.advance(2)
        opening.callback(None)
        self.assertNoResult(verified)
        self.clock.advance(0.25)
        answer.callback(0)
        self.assertEqual(self.successResultOf(verified), 0.25)
        self.assertEqual(
            self.opener.opened,
            [
                (
                    REMOTE,
                    [
                        (
                            "1.2.840.10008.1.1",
                            ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"),
                        )
                    ],
                )
            ],
        )
        (received,) = self.opener.received
        self.assertEqual(
            received.command,
            Command(0x0030, AffectedSOPClassUID="1.2.840.10008.1.1", MessageID=1),
        )
        self.assertIsNone(received.data)
        self.assertEqual(self.opener.associations[0].calls, ["release"])

    def test_either(self) -> None:
        """The transfer syntax is the acceptor's choice."""
        self.opener.accept = lambda abstractSyntax, transferSyntaxes: transferSyntaxes[
            1
        ]
        self.successResultOf(self.verification.verify(REMOTE))
        (received,) = self.opener.received
        self.assertEqual(received.context.transferSyntax, "1.2.840.10008.1.2.1")

    def test_notOpened(self) -> None:
        """It refuses, or is not there."""
        for error in (AssociationRejected(1, 1, 7), ConnectionClosed("refused")):
            self.opener.refusal = error
            self.assertIs(self.failed(type(error)), error)

    def test_notAccepted(self) -> None:
        """An association without the context."""
        self.opener.accept = lambda abstractSyntax, transferSyntaxes: None
        error = self.failed(DIMSEError)
        self.assertEqual(error.status, 0x0122)
        self.assertIn("not accept C-ECHO", error.comment)
        self.assertEqual(self.opener.associations[0].calls, ["release"])

    def test_failure(self) -> None:
        """Its status and its comment, without what a terminal would obey."""
        for answer, words in (
            (0x0122, "status 0122"),
            (Command(0x8030, Status=0x0110, ErrorComment="no \x1b[2Jroom"),
             "status 0110: no ?[2Jroom"),
        ):  # fmt: skip
            self.opener.answer = lambda received, answer=answer: answer
            error = self.failed(DIMSEError)
            self.assertTrue(error.comment.endswith(words), error.comment)
            self.assertEqual(self.opener.associations[-1].calls, ["release"])
        self.assertEqual(error.status, 0x0110)

    def test_noStatus(self) -> None:
        """A response that lacks its Status is a failure."""
        self.opener.answer = lambda received: Command(0x8030)
        self.assertIn("without a status", self.failed(DIMSEError).comment)

    def test_lost(self) -> None:
        """The association ends under the request."""
        self.opener.answer = lambda received: AssociationAborted(2, 0)
        self.failed(AssociationAborted)

    def test_silence(self) -> None:
        """No response: the association is aborted, and that said."""
        self.opener.answer = lambda received: Deferred()
        verified = self.verification.verify(REMOTE)
        self.clock.advance(PATIENCE - 0.1)
        self.assertNoResult(verified)
        self.clock.advance(0.1)
        error = self.failureResultOf(verified, AssociationEnded).value
        self.assertIn("no response", str(error))
        self.assertEqual(self.opener.associations[0].calls[0], ("abort", str(error)))

    def test_mistake(self) -> None:
        """A mistake of ours leaves no association behind either."""
        self.opener.answer = lambda received: ZeroDivisionError()
        self.failed(ZeroDivisionError)
