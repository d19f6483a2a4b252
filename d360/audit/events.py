"""
What each kind of audit message consists of (PS3.15 A.5.3). Pure.

Of patients' data there is what the tables of A.5.3 ask for and no more: Patient
ID and Patient's Name, the Study Instance UID, the Accession Number, and the
identifier of a query as it was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from d360.audit import codes
from d360.audit.messages import (
    AuditMessage,
    EventOutcome,
    Instances,
    ObjectRole,
    ObjectType,
    Participant,
    ParticipantObject,
)
from d360.audit.values import Action, AuditedStudy, Peer, Requestor

#: SOP Instance UIDs in a message: receivers need not take one that is longer
#: than 32768 octets (PS3.15 A.6), and each UID takes up to 85.
MAX_INSTANCES = 256

#: SOP Instance UIDs by SOP Class UID.
ByClass = Mapping[str, Sequence[str]]


@frozen
class Ourselves:
    """
    This process, as the one that is active in all of it.

    @ivar process: its number, as the system has it (A.5.2.1).
    @ivar host: the name of the machine (A.5.2.4).
    """

    aeTitle: str
    process: str
    host: str

    def asParticipant(
        self, *roles: codes.Code, isRequestor: bool = False
    ) -> Participant:
        """As an C{ActiveParticipant}; as a rule it is others who ask."""
        return Participant(
            self.process,
            isRequestor,
            roles,
            f"AETITLES={self.aeTitle}",
            "D360",
            self.host,
        )


def _participant(who: Requestor, *roles: codes.Code, isRequestor: bool) -> Participant:
    if isinstance(who, Peer):
        # Who was turned away may not have said who he is.
        alternative = f"AETITLES={who.title}" if who.title else ""
        return Participant(
            who.title or who.address,
            isRequestor,
            roles,
            alternative,
            address=who.address,
        )
    # A.5.2.1: loginName@domain-name.
    name = f"{who.name}@{who.address}"
    return Participant(name, isRequestor, roles, address=who.address)


def _askedBy(who: Requestor | None, ours: Ourselves) -> tuple[Participant, ...]:
    """
    @param who: C{None} where we do something by ourselves.
    """
    if who is None:
        return (ours.asParticipant(isRequestor=True),)
    return (_participant(who, isRequestor=True), ours.asParticipant())


def _patient(study: AuditedStudy) -> ParticipantObject:
    return ParticipantObject(
        study.PatientID,
        codes.PATIENT_NUMBER,
        ObjectType.PERSON,
        ObjectRole.PATIENT,
        study.PatientName,
    )


def _study(
    study: AuditedStudy,
    instances: tuple[Instances, ...] = (),
    details: tuple[tuple[str, bytes], ...] = (),
) -> ParticipantObject:
    # A.5.2: where there is an Accession Number, there is a SOP class.
    if study.AccessionNumber and not instances:
        instances = (Instances("", 0),)
    return ParticipantObject(
        study.StudyInstanceUID,
        codes.STUDY_INSTANCE_UID,
        ObjectType.SYSTEM,
        ObjectRole.REPORT,
        # There must be one; a description of the study may say too much.
        study.StudyInstanceUID,
        details=details,
        accession=study.AccessionNumber,
        instances=instances,
    )


def _outcome(why: str) -> EventOutcome:
    return EventOutcome.SERIOUS_FAILURE if why else EventOutcome.SUCCESS


def applicationActivity(ours: Ourselves, time: float, starts: bool) -> AuditMessage:
    """The server starts or stops (A.5.3.1)."""
    return AuditMessage(
        codes.APPLICATION_ACTIVITY,
        Action.EXECUTE,
        time,
        (ours.asParticipant(codes.APPLICATION),),
        type=codes.APPLICATION_START if starts else codes.APPLICATION_STOP,
    )


@frozen
class Transfer:
    """
    Between whom instances go, and who has asked for it.

    @ivar requestor: C{None} where it is one of the two.
    """

    source: Participant
    destination: Participant
    requestor: Participant | None = None

    @property
    def participants(self) -> tuple[Participant, ...]:
        """All that are active in it."""
        further = () if self.requestor is None else (self.requestor,)
        return (self.source, self.destination, *further)


def receiving(ours: Ourselves, peer: Peer) -> Transfer:
    """A peer sends us something."""
    return Transfer(
        _participant(peer, codes.SOURCE, isRequestor=True),
        ours.asParticipant(codes.DESTINATION),
    )


def sending(ours: Ourselves, destination: Peer, requestor: Requestor) -> Transfer:
    """We send something, to whoever has asked for it or to somebody else."""
    isSame = isinstance(requestor, Peer) and requestor.title == destination.title
    return Transfer(
        ours.asParticipant(codes.SOURCE),
        _participant(destination, codes.DESTINATION, isRequestor=isSame),
        None if isSame else _participant(requestor, isRequestor=True),
    )


def beginTransferring(
    transfer: Transfer, time: float, study: AuditedStudy, counts: Mapping[str, int]
) -> AuditMessage:
    """
    Instances of a study are about to be sent (A.5.3.3).

    @param counts: how many of each SOP class.
    """
    instances = tuple(Instances(uid, count) for uid, count in counts.items())
    return AuditMessage(
        codes.BEGIN_TRANSFERRING,
        Action.EXECUTE,
        time,
        transfer.participants,
        (_study(study, instances), _patient(study)),
    )


def instancesTransferred(
    transfer: Transfer,
    time: float,
    study: AuditedStudy,
    action: Action,
    instances: ByClass,
    why: str = "",
) -> Iterable[AuditMessage]:
    """
    Instances of a study were sent or received, or were not (A.5.3.7): as many
    messages as their number asks for.

    @param why: they were not; C{""} where they were.
    """
    for some in _portions(instances):
        told = tuple(Instances(uid, len(uids), uids) for uid, uids in some)
        yield AuditMessage(
            codes.INSTANCES_TRANSFERRED,
            action,
            time,
            transfer.participants,
            (_study(study, told), _patient(study)),
            outcome=_outcome(why),
            description=why,
        )


def instancesRead(
    ours: Ourselves,
    time: float,
    who: Requestor | None,
    purpose: tuple[str, str],
    study: AuditedStudy,
    instances: ByClass,
    why: str = "",
) -> Iterable[AuditMessage]:
    """
    Files of a study's instances were read, to see whether we have them as they were
    sent (A.5.3.6): as many messages as their number asks for.

    @param who: is told; C{None} where we did it by ourselves.
    @param purpose: what for, and a word on that.
    @param why: we have not; C{""} where we have.
    """
    details = ((purpose[0], purpose[1].encode("utf-8", "replace")),)
    for some in _portions(instances):
        told = tuple(Instances(uid, len(uids), uids) for uid, uids in some)
        yield AuditMessage(
            codes.INSTANCES_ACCESSED,
            Action.READ,
            time,
            _askedBy(who, ours),
            (_study(study, told, details), _patient(study)),
            outcome=_outcome(why),
            description=why,
        )


def _portions(instances: ByClass) -> Iterable[list[tuple[str, tuple[str, ...]]]]:
    portion: list[tuple[str, tuple[str, ...]]] = []
    room = MAX_INSTANCES
    for sopClass, uids in instances.items():
        first = 0
        while first < len(uids):
            some = tuple(uids[first : first + room])
            portion.append((sopClass, some))
            first += len(some)
            room -= len(some)
            if not room:
                yield portion
                portion, room = [], MAX_INSTANCES
    if portion:
        yield portion


def studyDeleted(
    ours: Ourselves,
    time: float,
    user: Requestor,
    study: AuditedStudy,
    count: int,
    why: str = "",
) -> AuditMessage:
    """
    A study was removed with all its instances (A.5.3.8).

    @param count: of its instances.
    @param why: it was not, or not as a whole.
    """
    return AuditMessage(
        codes.STUDY_DELETED,
        Action.DELETE,
        time,
        (_participant(user, isRequestor=True), ours.asParticipant()),
        (_study(study, (Instances("", count),)), _patient(study)),
        outcome=_outcome(why),
        description=why,
    )


def query(
    ours: Ourselves,
    time: float,
    peer: Peer,
    sopClass: str,
    transferSyntax: str,
    identifier: bytes,
    why: str = "",
) -> AuditMessage:
    """
    A peer has asked what there is (A.5.3.10).

    @param identifier: encoded in C{transferSyntax}.
    @param why: it was refused, or failed.
    """
    asked = ParticipantObject(
        sopClass,
        codes.SOP_CLASS_UID,
        ObjectType.SYSTEM,
        ObjectRole.REPORT,
        query=identifier,
        details=(("TransferSyntax", transferSyntax.encode()),),
    )
    return AuditMessage(
        codes.QUERY,
        Action.EXECUTE,
        time,
        (
            _participant(peer, codes.SOURCE, isRequestor=True),
            ours.asParticipant(codes.DESTINATION),
        ),
        (asked,),
        outcome=_outcome(why),
        description=why,
    )


def search(
    ours: Ourselves, time: float, user: Requestor, uri: str, why: str = ""
) -> AuditMessage:
    """A user has looked for studies or worklist items over HTTP (A.5.3.10)."""
    asked = ParticipantObject(
        uri.partition("?")[0],
        codes.URI,
        ObjectType.SYSTEM,
        ObjectRole.REPORT,
        query=uri.encode("utf-8", "replace"),
    )
    return AuditMessage(
        codes.QUERY,
        Action.EXECUTE,
        time,
        (
            _participant(user, codes.SOURCE, isRequestor=True),
            ours.asParticipant(codes.DESTINATION),
        ),
        (asked,),
        outcome=_outcome(why),
        description=why,
    )


def procedureRecord(
    ours: Ourselves,
    time: float,
    user: Requestor | None,
    action: Action,
    study: AuditedStudy,
) -> AuditMessage:
    """
    A worklist item was made, read, changed or removed (A.5.3.15).

    @param user: C{None} where nobody has asked for it.
    """
    return AuditMessage(
        codes.PROCEDURE_RECORD,
        action,
        time,
        _askedBy(user, ours),
        (_study(study), _patient(study)),
    )


def alert(
    ours: Ourselves,
    time: float,
    kind: codes.Code,
    who: Requestor,
    subject: str,
    text: str,
    outcome: EventOutcome,
) -> AuditMessage:
    """
    A security alert (A.5.3.11).

    @param subject: the URI of what it is about; C{""} where that is who did it.
    @param text: the nature of the alert.
    """
    identifier, type_ = (
        (subject, codes.URI) if subject else (who.address, codes.NODE_ID)
    )
    about = ParticipantObject(
        identifier,
        type_,
        ObjectType.SYSTEM,
        ObjectRole.SECURITY_RESOURCE,
        who.title if isinstance(who, Peer) else who.name,
        details=(("Alert Description", text.encode("utf-8", "replace")),),
    )
    return AuditMessage(
        codes.SECURITY_ALERT,
        Action.EXECUTE,
        time,
        (ours.asParticipant(), _participant(who, isRequestor=False)),
        (about,),
        kind,
        outcome,
    )
