"""An audit trail in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

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
class MemoryTransfer:
    """
    See L{ITransfer}.

    @ivar taken: SOP Instance UIDs of those that were sent.
    @ivar refused: likewise of those that were not, each with why.
    """

    def __init__(
        self,
        requestor: Requestor,
        destination: Peer,
        instances: Sequence[StoredInstance],
    ) -> None:
        self.requestor = requestor
        self.destination = destination
        self.instances = [one.SOPInstanceUID for one in instances]
        self.taken: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.ends = 0

    def sent(self, instance: StoredInstance) -> None:
        self.taken.append(instance.SOPInstanceUID)

    def failed(self, instances: Iterable[StoredInstance], why: str) -> None:
        self.refused += [(one.SOPInstanceUID, why) for one in instances]

    def end(self) -> None:
        self.ends += 1


@implementer(IAudit)
class MemoryAudit:
    """
    See L{IAudit}.

    @ivar calls: what was told, as the method's name and its arguments.
    @ivar transfers: what was sent.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.transfers: list[MemoryTransfer] = []

    def received(
        self,
        association: IAssociation,
        instance: AuditedInstance,
        outcome: Outcome | None,
        why: str = "",
    ) -> None:
        title = association.established.callingAETitle
        self.calls.append(("received", title, instance, outcome, why))

    def queried(
        self,
        association: IAssociation,
        context: PresentationContext,
        identifier: bytes,
        why: str = "",
    ) -> None:
        title = association.established.callingAETitle
        self.calls.append(("queried", title, context, identifier, why))

    def sending(
        self,
        requestor: Requestor,
        destination: Peer,
        instances: Sequence[StoredInstance],
    ) -> ITransfer:
        transfer = MemoryTransfer(requestor, destination, instances)
        self.transfers.append(transfer)
        return transfer

    def committed(
        self,
        requestor: Peer,
        transactionUID: str,
        references: Sequence[Referenced],
        finding: CommitmentFinding,
    ) -> None:
        told = dict(zip(references, finding.reasons, strict=True))
        self.calls.append(("committed", requestor, transactionUID, told))

    def damaged(self, finding: Finding) -> None:
        self.calls.append(("damaged", finding))

    def searched(self, user: User, uri: str, why: str = "") -> None:
        self.calls.append(("searched", user, uri, why))

    def studyDeleted(
        self, user: User, study: AuditedStudy, count: int, why: str = ""
    ) -> None:
        self.calls.append(("studyDeleted", user, study, count, why))

    def worklistUsed(
        self, user: User | None, action: Action, study: AuditedStudy
    ) -> None:
        self.calls.append(("worklistUsed", user, action, study))

    def configured(self, user: User, uri: str, text: str) -> None:
        self.calls.append(("configured", user, uri, text))

    def refused(self, who: Requestor, why: str) -> None:
        self.calls.append(("refused", who, why))

    def notPermitted(self, who: Requestor, why: str) -> None:
        self.calls.append(("notPermitted", who, why))
