"""
The audit trail of one process: notes what happens, and has messages made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.audit import codes, events
from d360.audit.events import Ourselves, Transfer
from d360.audit.gathering import (
    Alert,
    Alerts,
    Groups,
    Received,
    Receptions,
    groupCommitted,
    groupDamaged,
)
from d360.audit.messages import AuditMessage, EventOutcome
from d360.audit.null import NULL_TRANSFER
from d360.audit.origins import UNKNOWN, folderOf, folderOfPath
from d360.audit.values import (
    Action,
    AuditedInstance,
    AuditedStudy,
    Peer,
    Requestor,
    User,
)
from d360.audit.writer import AuditWriter, Make
from d360.errors import DatabaseError
from d360.interfaces import IAssociation, IAudit, ITransfer
from d360.logs import ContextLogger
from d360.model import (
    CommitmentFinding,
    Finding,
    Outcome,
    PresentationContext,
    Referenced,
    StoredInstance,
)

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds that the index may take to tell whose instances are sent.
PATIENCE = 10.0

#: Seconds between two looks at what was gathered.
_INTERVAL = 1.0

#: Bytes that an instance's UID takes in a message.
_INSTANCE = 85

_log = ContextLogger("d360.audit", "audit trail")

#: PS3.15 A.5.3.7: what we, the receiver, had of it before.
_ACTIONS = {
    Outcome.STORED: Action.CREATE,
    Outcome.REPLACED: Action.UPDATE,
    Outcome.DUPLICATE: Action.READ,
    Outcome.KEPT: Action.READ,
}


class IOrigins(Protocol):
    """Knows which study an instance belongs to."""

    def studiesOf(
        self, folders: Mapping[str, str]
    ) -> Deferred[dict[str, AuditedStudy]]:
        """See L{d360.audit.origins.Origins.studiesOf}."""


def _neverFails(method: F) -> F:
    """Whatever goes wrong here is no reason for others to fail."""

    @wraps(method)
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        try:
            return method(*arguments, **keywords)
        except Exception:
            _log.failure("{what} cannot be noted", what=method.__name__)
            return None

    return guarded  # type: ignore[return-value]


def peerOf(association: IAssociation) -> Peer:
    """Who has opened an association with us."""
    established = association.established
    return Peer(established.callingAETitle, established.peer)


@implementer(IAudit)
class AuditTrail:
    """
    See L{IAudit}.

    @param writer: has started already, or will.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ours: Ourselves,
        origins: IOrigins,
        writer: AuditWriter,
    ) -> None:
        self.writer = writer
        self._clock = clock
        self._ours = ours
        self._origins = origins
        self._receptions = Receptions(clock, self._writeReceived)
        self._alerts = Alerts(clock, self._writeAlert)
        self._damaged: list[Finding] = []
        self._asking: set[Deferred[None]] = set()
        self._isApplication = False
        self._loop = LoopingCall(self._sweep)
        self._loop.clock = clock

    # --- its own life

    def start(self) -> None:
        """Begin to write. Again does nothing."""
        if not self._loop.running:
            self.writer.start()
            self._loop.start(_INTERVAL, now=False)

    def applicationStarts(self) -> None:
        """The server begins to serve; with this process, it stops."""
        self._isApplication = True
        self._activity(True)

    @asynchronous
    async def stop(self) -> None:
        """Write all there is, and end. Before the threads do."""
        if self._loop.running:
            self._loop.stop()
        self._receptions.finish()
        self._alerts.sweep(all=True)
        self._writeDamaged()
        await DeferredList(list(self._asking))
        if self._isApplication:
            self._activity(False)
        await self.writer.stop()

    @_neverFails
    def _sweep(self) -> None:
        self._receptions.sweep()
        self._alerts.sweep()
        self._writeDamaged()

    def _activity(self, starts: bool) -> None:
        now = self._clock.seconds()
        self._add(lambda: [events.applicationActivity(self._ours, now, starts)])

    def _add(self, make: Make, size: int = 0) -> None:
        self.writer.add(make, size)

    # --- IAudit

    @_neverFails
    def received(
        self,
        association: IAssociation,
        instance: AuditedInstance,
        outcome: Outcome | None,
        why: str = "",
    ) -> None:
        action = Action.CREATE if outcome is None else _ACTIONS[outcome]
        self._receptions.add(association, instance, action, why)

    def _writeReceived(self, group: Received) -> None:
        transfer = events.receiving(self._ours, peerOf(group.association))
        make = partial(
            events.instancesTransferred,
            transfer,
            group.last,
            group.study,
            group.action,
            group.instances,
            group.why,
        )
        self._add(make, group.count * _INSTANCE)

    @_neverFails
    def queried(
        self,
        association: IAssociation,
        context: PresentationContext,
        identifier: bytes,
        why: str = "",
    ) -> None:
        message = partial(
            events.query,
            self._ours,
            self._clock.seconds(),
            peerOf(association),
            context.abstractSyntax,
            context.transferSyntax,
            identifier,
            why,
        )
        self._add(lambda: [message()], 2 * len(identifier))

    def sending(
        self,
        requestor: Requestor,
        destination: Peer,
        instances: Sequence[StoredInstance],
    ) -> ITransfer:
        try:
            return self._sending(requestor, destination, instances)
        except Exception:
            _log.failure("a transfer cannot be noted")
            return NULL_TRANSFER

    def _sending(
        self,
        requestor: Requestor,
        destination: Peer,
        instances: Sequence[StoredInstance],
    ) -> ITransfer:
        if not instances:
            return NULL_TRANSFER
        transfer = events.sending(self._ours, destination, requestor)
        following = FollowedTransfer(self, transfer, self._clock)
        self.ask(following.begin(instances))
        return following

    @_neverFails
    def committed(
        self,
        requestor: Peer,
        transactionUID: str,
        references: Sequence[Referenced],
        finding: CommitmentFinding,
    ) -> None:
        uids = (one.SOPInstanceUID for one in references)
        folders = dict(zip(finding.folders, uids, strict=True))
        folders.pop("", None)
        purpose = "Storage Commitment", f"Transaction UID {transactionUID}"
        self._read(
            folders,
            len(references),
            partial(groupCommitted, references, finding),
            requestor,
            purpose,
        )

    @_neverFails
    def damaged(self, finding: Finding) -> None:
        self._damaged.append(finding)

    @_neverFails
    def _writeDamaged(self) -> None:
        findings, self._damaged = self._damaged, []
        if findings:
            self._read(
                {folderOfPath(one.path): one.SOPInstanceUID for one in findings},
                len(findings),
                partial(groupDamaged, findings),
                None,
                ("Verification", "compared with what was stored"),
            )

    def _read(
        self,
        folders: Mapping[str, str],
        count: int,
        group: Callable[[Mapping[str, AuditedStudy]], Groups],
        who: Requestor | None,
        purpose: tuple[str, str],
    ) -> None:
        """
        Have messages of instances written whose files were read.

        @param group: puts them together, when it is known whose they are; there may
            be thousands, so that it is called in a thread.
        """
        ours, now = self._ours, self._clock.seconds()

        def write(studies: Mapping[str, AuditedStudy]) -> None:
            def make() -> Iterator[AuditMessage]:
                for (study, why), instances in group(studies).items():
                    yield from events.instancesRead(
                        ours, now, who, purpose, study, instances, why
                    )

            self._add(make, count * _INSTANCE)

        self.ask(self.studiesOf(folders).addCallback(write))

    @asynchronous
    async def studiesOf(self, folders: Mapping[str, str]) -> dict[str, AuditedStudy]:
        """See L{IOrigins}; what cannot be known now is left out."""
        try:
            asking = self._origins.studiesOf(folders)
            return await asking.addTimeout(PATIENCE, self._clock)
        except (DatabaseError, TimeoutError) as error:
            _log.error(
                "whose instances these are cannot be known, their UIDs are written: "
                "{why}",
                why=str(error) or "the database does not answer",
            )
            return {}

    def ask(self, asking: Deferred[None]) -> None:
        """Something is under way that messages come of."""
        self._asking.add(asking)
        asking.addErrback(lambda failure: _log.failure("cannot be noted", failure))
        asking.addCallback(lambda _: self._asking.discard(asking))

    @_neverFails
    def searched(self, user: User, uri: str, why: str = "") -> None:
        message = partial(
            events.search, self._ours, self._clock.seconds(), user, uri, why
        )
        self._add(lambda: [message()], 2 * len(uri))

    @_neverFails
    def studyDeleted(
        self, user: User, study: AuditedStudy, count: int, why: str = ""
    ) -> None:
        now = self._clock.seconds()
        self._add(
            lambda: [events.studyDeleted(self._ours, now, user, study, count, why)]
        )

    @_neverFails
    def worklistUsed(
        self, user: User | None, action: Action, study: AuditedStudy
    ) -> None:
        now = self._clock.seconds()
        self._add(
            lambda: [events.procedureRecord(self._ours, now, user, action, study)]
        )

    @_neverFails
    def configured(self, user: User, uri: str, text: str) -> None:
        message = partial(
            events.alert,
            self._ours,
            self._clock.seconds(),
            codes.SECURITY_CONFIGURATION,
            user,
            uri,
            text,
            EventOutcome.SUCCESS,
        )
        self._add(lambda: [message()])

    @_neverFails
    def refused(self, who: Requestor, why: str) -> None:
        self._alerts.add(codes.NODE_AUTHENTICATION, who, why)

    @_neverFails
    def notPermitted(self, who: Requestor, why: str) -> None:
        self._alerts.add(codes.USE_OF_RESTRICTED_FUNCTION, who, why)

    def _writeAlert(self, alert: Alert, text: str) -> None:
        message = partial(
            events.alert,
            self._ours,
            self._clock.seconds(),
            alert.kind,
            alert.who,
            "",
            text,
            EventOutcome.MINOR_FAILURE,
        )
        self._add(lambda: [message()])

    # --- what is sent

    def writeTransfer(self, instances: Sequence[StoredInstance], make: Make) -> None:
        """Of instances that were sent, or are about to be."""
        self._add(make, len(instances) * _INSTANCE)


@implementer(ITransfer)
class FollowedTransfer:
    """See L{ITransfer}. Its messages are those of one study each."""

    def __init__(
        self, trail: AuditTrail, transfer: Transfer, clock: IReactorTime
    ) -> None:
        self._trail = trail
        self._transfer = transfer
        self._clock = clock
        self._sent: list[StoredInstance] = []
        self._failed: dict[str, list[StoredInstance]] = {}
        self._studies: Mapping[str, AuditedStudy] | None = None
        self._endedAt: float | None = None
        self._isEnded = False

    @asynchronous
    async def begin(self, instances: Sequence[StoredInstance]) -> None:
        """Find out what they are, and write that they are about to be sent."""
        now = self._clock.seconds()
        folders = {folderOf(one): one.SOPInstanceUID for one in instances}
        self._studies = await self._trail.studiesOf(folders)
        for study, some in self._byStudy(instances).items():
            counts = Counter(one.SOPClassUID for one in some)
            message = partial(
                events.beginTransferring, self._transfer, now, study, counts
            )
            self._trail.writeTransfer((), lambda m=message: [m()])  # type: ignore[misc]
        self._writeEnd()

    @_neverFails
    def sent(self, instance: StoredInstance) -> None:
        self._sent.append(instance)

    @_neverFails
    def failed(self, instances: Iterable[StoredInstance], why: str) -> None:
        self._failed.setdefault(why, []).extend(instances)

    @_neverFails
    def end(self) -> None:
        if self._endedAt is None:
            self._endedAt = self._clock.seconds()
            self._writeEnd()

    def _writeEnd(self) -> None:
        """When it has ended, and it is known what they are."""
        if self._endedAt is None or self._studies is None or self._isEnded:
            return
        self._isEnded = True
        self._write(self._sent, "")
        for why, instances in self._failed.items():
            self._write(instances, why)

    def _write(self, instances: Sequence[StoredInstance], why: str) -> None:
        assert self._endedAt is not None
        for study, some in self._byStudy(instances).items():
            byClass: dict[str, list[str]] = {}
            for one in some:
                byClass.setdefault(one.SOPClassUID, []).append(one.SOPInstanceUID)
            make = partial(
                events.instancesTransferred,
                self._transfer,
                self._endedAt,
                study,
                # Whether the receiver had them, we do not know (A.5.3.7).
                Action.READ,
                byClass,
                why,
            )
            self._trail.writeTransfer(some, make)

    def _byStudy(
        self, instances: Iterable[StoredInstance]
    ) -> dict[AuditedStudy, list[StoredInstance]]:
        assert self._studies is not None
        found: dict[AuditedStudy, list[StoredInstance]] = {}
        for one in instances:
            study = self._studies.get(folderOf(one), UNKNOWN)
            found.setdefault(study, []).append(one)
        return found
