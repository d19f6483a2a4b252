"""For where nobody keeps an audit trail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zope.interface import implementer

from d360.audit.values import (
    Action,
    AuditedInstance,
    AuditedStudy,
    Peer,
    Requestor,
    User,
)
from d360.interfaces import IAssociation, IAudit, ITransfer
from d360.model import (
    CommitmentFinding,
    Finding,
    Outcome,
    PresentationContext,
    Referenced,
    StoredInstance,
)


@implementer(ITransfer)
class NullTransfer:
    """Tells nobody."""

    def sent(self, instance: StoredInstance) -> None:
        """See L{ITransfer.sent}."""

    def failed(self, instances: Iterable[StoredInstance], why: str) -> None:
        """See L{ITransfer.failed}."""

    def end(self) -> None:
        """See L{ITransfer.end}."""


@implementer(IAudit)
class NullAudit:
    """Keeps nothing."""

    def received(
        self,
        association: IAssociation,
        instance: AuditedInstance,
        outcome: Outcome | None,
        why: str = "",
    ) -> None:
        """See L{IAudit.received}."""

    def queried(
        self,
        association: IAssociation,
        context: PresentationContext,
        identifier: bytes,
        why: str = "",
    ) -> None:
        """See L{IAudit.queried}."""

    def sending(
        self,
        requestor: Requestor,
        destination: Peer,
        instances: Sequence[StoredInstance],
    ) -> ITransfer:
        """See L{IAudit.sending}."""
        return NULL_TRANSFER

    def committed(
        self,
        requestor: Peer,
        transactionUID: str,
        references: Sequence[Referenced],
        finding: CommitmentFinding,
    ) -> None:
        """See L{IAudit.committed}."""

    def damaged(self, finding: Finding) -> None:
        """See L{IAudit.damaged}."""

    def searched(self, user: User, uri: str, why: str = "") -> None:
        """See L{IAudit.searched}."""

    def studyDeleted(
        self, user: User, study: AuditedStudy, count: int, why: str = ""
    ) -> None:
        """See L{IAudit.studyDeleted}."""

    def worklistUsed(
        self, user: User | None, action: Action, study: AuditedStudy
    ) -> None:
        """See L{IAudit.worklistUsed}."""

    def configured(self, user: User, uri: str, text: str) -> None:
        """See L{IAudit.configured}."""

    def refused(self, who: Requestor, why: str) -> None:
        """See L{IAudit.refused}."""

    def notPermitted(self, who: Requestor, why: str) -> None:
        """See L{IAudit.notPermitted}."""


NULL_TRANSFER = NullTransfer()
NULL_AUDIT = NullAudit()
