"""The contract of L{IAudit}."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from d360.audit.values import Action, AuditedInstance, AuditedStudy, Peer, User
from d360.interfaces import IAudit, ITransfer
from d360.model import (
    CommitmentFinding,
    EstablishedAssociation,
    FileState,
    Finding,
    Location,
    Outcome,
    PresentationContext,
    Referenced,
    StoredInstance,
)
from tests.contracts.archive import checkSignatures
from tests.contracts.opener import OpenedAssociation

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = PresentationContext(1, "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.2")
CT01 = Peer("CT01", "192.0.2.7")
USER = User("token", "192.0.2.9")
STUDY = AuditedStudy("1.1", "4711", "Rossi^Anna", "A1")


def associated() -> OpenedAssociation:
    """An association that CT01 has opened."""
    return OpenedAssociation(
        EstablishedAssociation(
            False, CT01.title, "D360PACS", CT01.address, 16384, {1: FIND}
        )
    )


def storedInstance(number: int, study: str = "1.1") -> StoredInstance:
    """One in the archive."""
    uid = f"{study}.1.{number}"
    location = Location(f"00/{study}/{study}.1/{uid}.dcm", 300)
    return StoredInstance(uid, CT, "1.2.840.10008.1.2.1", location, 1000, b"")


class AuditContract:
    """
    What every audit trail does. A subclass has C{makeAudit}.
    """

    def test_interface(self: Any) -> None:
        """It provides what it says, and so do its transfers."""
        audit = self.makeAudit()
        verifyObject(IAudit, audit)
        checkSignatures(self, IAudit, audit)
        transfer = audit.sending(CT01, CT01, [storedInstance(1)])
        verifyObject(ITransfer, transfer)
        checkSignatures(self, ITransfer, transfer)

    def test_returnsNothing(self: Any) -> None:
        """Nobody waits for it."""
        audit, association = self.makeAudit(), associated()
        instance = AuditedInstance(STUDY, CT, "1.1.1.1")
        for outcome in Outcome:
            self.assertIsNone(audit.received(association, instance, outcome))
        self.assertIsNone(audit.received(association, instance, None, "A700"))
        self.assertIsNone(audit.queried(association, FIND, b""))
        finding = CommitmentFinding((0,), ("00/1.1/1.1.1",))
        references = [Referenced(CT, "1.1.1.1")]
        self.assertIsNone(audit.committed(CT01, "1.2.9", references, finding))
        damaged = Finding(FileState.DAMAGED, "1.1.1.1", "00/1.1/1.1.1/1.dcm", "why")
        self.assertIsNone(audit.damaged(damaged))
        self.assertIsNone(audit.searched(USER, "/api/studies"))
        self.assertIsNone(audit.studyDeleted(USER, STUDY, 3))
        self.assertIsNone(audit.worklistUsed(USER, Action.CREATE, STUDY))
        self.assertIsNone(audit.worklistUsed(None, Action.DELETE, STUDY))
        self.assertIsNone(audit.configured(USER, "/api/aes/WS1", "removed"))
        self.assertIsNone(audit.refused(CT01, "not known"))
        self.assertIsNone(audit.notPermitted(CT01, "retrieve"))

    def test_transfer(self: Any) -> None:
        """A transfer may end more than once, and have nothing in it."""
        audit = self.makeAudit()
        for instances in ([], [storedInstance(1), storedInstance(2)]):
            transfer = audit.sending(CT01, CT01, instances)
            transfer.failed(instances[1:], "refused")
            for one in instances[:1]:
                transfer.sent(one)
            transfer.end()
            transfer.end()
