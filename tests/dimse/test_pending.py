"""The pending responses of a retrieve (PS3.7 9.3.3.2, 9.3.4.2)."""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from d360.dimse import commands
from d360.dimse.pending import pendingCommand
from d360.model import Command
from tests.dimse.test_commands import uids, words


class PendingTests(SynchronousTestCase):
    """The quicker way to write them writes the same."""

    @given(uids, words, words, words, words, words)
    def test_asAnyOther(
        self,
        sopClass: str,
        messageID: int,
        remaining: int,
        completed: int,
        failed: int,
        warning: int,
    ) -> None:
        request = Command(0x0021, AffectedSOPClassUID=sopClass, MessageID=messageID)
        expected = Command(
            0x8021,
            AffectedSOPClassUID=sopClass,
            MessageIDBeingRespondedTo=messageID,
            Status=0xFF00,
            NumberOfRemainingSuboperations=remaining,
            NumberOfCompletedSuboperations=completed,
            NumberOfFailedSuboperations=failed,
            NumberOfWarningSuboperations=warning,
        )
        encode = pendingCommand(request)
        self.assertEqual(
            commands.encode(expected), encode(remaining, completed, failed, warning)
        )
