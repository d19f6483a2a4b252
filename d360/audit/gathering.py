"""
What would be one message each, gathered into few: instances that are received or
read, and alerts that repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from d360.audit.codes import Code
from d360.audit.events import MAX_INSTANCES
from d360.audit.origins import UNKNOWN, folderOfPath
from d360.audit.values import Action, AuditedInstance, AuditedStudy, Requestor
from d360.interfaces import IAssociation
from d360.model import CommitmentFinding, Finding, Referenced

#: Seconds without a further instance after which those of a study are told of,
#: and seconds after which they are in any case.
QUIET = 5.0
LONGEST = 60.0

#: Groups that one association has at most.
_GROUPS = 8

#: Seconds for which an alert stands for further ones of the same host.
REPEATING = 60.0

#: Hosts of which alerts are told one by one.
_HOSTS = 100

#: What instances of one message have in common; the last is why they were
#: refused.
Key = tuple[AuditedStudy, Action, str]


@define(eq=False, slots=True)
class Received:
    """
    Instances of one study that came over one association, with one outcome.

    @ivar instances: SOP Instance UIDs by SOP Class UID.
    @ivar first: when the first one came, and C{last} the last.
    """

    association: IAssociation
    study: AuditedStudy
    action: Action
    why: str
    first: float
    last: float
    count: int = 0
    instances: dict[str, list[str]] = field(factory=dict)

    def add(self, instance: AuditedInstance, time: float) -> None:
        """One more."""
        self.last = time
        self.count += 1
        uids = self.instances.get(instance.SOPClassUID)
        if uids is None:
            uids = self.instances[instance.SOPClassUID] = []
        uids.append(instance.SOPInstanceUID)


class Receptions:
    """
    Gathers what is received, by association and study.

    @param write: takes those that belong together, when there are no more.
    """

    def __init__(self, clock: IReactorTime, write: Callable[[Received], None]) -> None:
        self._clock = clock
        self._write = write
        self._groups: dict[IAssociation, dict[Key, Received]] = {}

    def add(
        self,
        association: IAssociation,
        instance: AuditedInstance,
        action: Action,
        why: str,
    ) -> None:
        """One came."""
        groups = self._groups.get(association)
        isNew = groups is None
        if groups is None:
            groups = self._groups[association] = {}
        now = self._clock.seconds()
        key = instance.study, action, why
        group = groups.get(key)
        if group is None:
            if len(groups) >= _GROUPS:
                self._write(groups.pop(next(iter(groups))))
            group = groups[key] = Received(
                association, instance.study, action, why, now, now
            )
        group.add(instance, now)
        if group.count >= MAX_INSTANCES:
            self._write(groups.pop(key))
        if isNew:
            # It may have ended while this one was being kept.
            association.whenEnded().addCallback(lambda _: self._ended(association))

    def _ended(self, association: IAssociation) -> None:
        for group in self._groups.pop(association, {}).values():
            self._write(group)

    def sweep(self) -> None:
        """Write those that seem to be complete, and those that are old."""
        now = self._clock.seconds()
        for groups in self._groups.values():
            for key, group in tuple(groups.items()):
                # A clock that is put back makes none wait longer.
                if not (
                    0 <= now - group.last < QUIET and 0 <= now - group.first < LONGEST
                ):
                    self._write(groups.pop(key))

    def finish(self) -> None:
        """Write all."""
        for association in tuple(self._groups):
            self._ended(association)


@define(eq=False)
class Alert:
    """
    A security alert, and those like it that followed.

    @ivar count: further ones; their number is told with the first one's text.
    """

    kind: Code
    who: Requestor
    text: str
    time: float
    count: int = 0


class Alerts:
    """
    Tells of the first alert of a kind from a host at once, and of how many have
    followed later: so that nobody can flush the audit trail by being refused
    again and again.

    @param write: takes one to be told of, with its text.
    """

    def __init__(
        self, clock: IReactorTime, write: Callable[[Alert, str], None]
    ) -> None:
        self._clock = clock
        self._write = write
        self._open: dict[tuple[str, str], Alert] = {}

    def add(self, kind: Code, who: Requestor, text: str) -> None:
        """One more."""
        key = kind.value, who.address
        if key not in self._open and len(self._open) >= _HOSTS:
            key = kind.value, ""
        found = self._open.get(key)
        if found is not None:
            found.count += 1
            return
        alert = Alert(kind, who, text, self._clock.seconds())
        self._open[key] = alert
        self._write(alert, text)

    def sweep(self, all: bool = False) -> None:
        """
        Tell how many have followed.

        @param all: also those that are not old enough.
        """
        now = self._clock.seconds()
        for key, alert in tuple(self._open.items()):
            if not all and 0 <= now - alert.time < REPEATING:
                continue
            del self._open[key]
            if alert.count:
                whose = "this host" if key[1] else "several hosts"
                text = f"{alert.count} more of {whose}, of which the first was: "
                self._write(alert, text + alert.text)


#: SOP Instance UIDs by SOP class, by study and what is wrong with them.
Groups = dict[tuple[AuditedStudy, str], dict[str, list[str]]]


def groupCommitted(
    references: Sequence[Referenced],
    finding: CommitmentFinding,
    studies: Mapping[str, AuditedStudy],
) -> Groups:
    """
    What somebody was told of, as far as it is written.

    @param studies: by folder.
    """
    found: Groups = {}
    # What was named twice is one instance.
    each = dict.fromkeys(zip(references, finding.reasons, finding.folders, strict=True))
    unknown, left = sum(not folder for _, _, folder in each), MAX_INSTANCES
    for one, reason, folder in each:
        why = f"Not committed, Failure Reason {reason:04X}" if reason else ""
        if not folder:
            # Nobody fills the trail by asking for what was never there.
            why += f", of {unknown} that are not known"
            left -= 1
            if left < 0:
                continue
        instances = found.setdefault((studies.get(folder, UNKNOWN), why), {})
        instances.setdefault(one.SOPClassUID, []).append(one.SOPInstanceUID)
    return found


def groupDamaged(
    findings: Sequence[Finding], studies: Mapping[str, AuditedStudy]
) -> Groups:
    """
    What a verification has found.

    @param studies: by folder.
    """
    found: Groups = {}
    for one in findings:
        study = studies.get(folderOfPath(one.path), UNKNOWN)
        instances = found.setdefault((study, f"The file is {one.state.value}"), {})
        # Of which class they are, nobody needs to know.
        instances.setdefault("", []).append(one.SOPInstanceUID)
    return found
