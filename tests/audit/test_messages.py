"""Tests for L{d360.audit.messages} and L{d360.audit.events}."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydicom.sr._concepts_dict import concepts
from twisted.trial.unittest import SynchronousTestCase

from d360.audit import codes, events
from d360.audit.codes import Code
from d360.audit.events import MAX_INSTANCES, Ourselves
from d360.audit.messages import AuditMessage, AuditSource, EventOutcome, encode
from d360.audit.values import Action, AuditedStudy, Peer, User
from tests.audit.reading import SCHEMA, Read

OURS = Ourselves("D360PACS", "4711", "pacs1")
SOURCE = AuditSource("D360PACS", "Hospital")
CT01 = Peer("CT01", "192.0.2.7")
WS1 = Peer("WS1", "ws1.example.org")
USER = User("token", "192.0.2.9")
STUDY = AuditedStudy("1.2.3", "4711", "Rossi^Anna", "A1")
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
#: 2026-01-01 12:00:00.25 UTC.
NOON = 1767268800.25


def read(message: AuditMessage) -> Read:
    """As a receiver does."""
    return Read(encode(message, SOURCE))


def all_(messages: Iterable[AuditMessage]) -> list[Read]:
    return [read(message) for message in messages]


class CodeTests(SynchronousTestCase):
    """The coded terms."""

    def test_asInTheStandard(self) -> None:
        """Those of DICOM are those of PS3.16 Annex D, by pydicom's tables."""
        meanings = {
            code: meaning
            for terms in concepts["DCM"].values()
            for code, (meaning, _) in terms.items()
        }
        ours = [one for one in vars(codes).values() if isinstance(one, Code)]
        self.assertGreater(len(ours), 15)
        for code in ours:
            if code.system == "DCM":
                self.assertEqual(meanings[code.value], code.meaning)


class EncodingTests(SynchronousTestCase):
    """PS3.15 A.5.1.1."""

    def test_literally(self) -> None:
        """Elements and attributes as the schema names them."""
        message = events.applicationActivity(OURS, NOON, True)
        self.assertEqual(
            encode(message, SOURCE),
            b'<?xml version="1.0" encoding="UTF-8"?><AuditMessage>'
            b'<EventIdentification EventActionCode="E"'
            b' EventDateTime="2026-01-01T12:00:00.250000Z" EventOutcomeIndicator="0">'
            b'<EventID csd-code="110100" codeSystemName="DCM"'
            b' originalText="Application Activity" />'
            b'<EventTypeCode csd-code="110120" codeSystemName="DCM"'
            b' originalText="Application Start" /></EventIdentification>'
            b'<ActiveParticipant UserID="4711" AlternativeUserID="AETITLES=D360PACS"'
            b' UserName="D360" UserIsRequestor="false" NetworkAccessPointID="pacs1"'
            b' NetworkAccessPointTypeCode="1"><RoleIDCode csd-code="110150"'
            b' codeSystemName="DCM" originalText="Application" /></ActiveParticipant>'
            b'<AuditSourceIdentification AuditEnterpriseSiteID="Hospital"'
            b' AuditSourceID="D360PACS"><AuditSourceTypeCode csd-code="4" />'
            b"</AuditSourceIdentification></AuditMessage>",
        )

    def test_schemaRefuses(self) -> None:
        """The schema that tests rely on tells what is wrong."""
        good = encode(events.applicationActivity(OURS, NOON, True), SOURCE)
        for one, other in (
            (b'"E"', b'"X"'),
            (b"csd-code", b"code"),
            (b'UserID="4711" ', b""),
            (b'Z" Event', b'noon" Event'),
            (b'Indicator="0"', b'Indicator="1"'),
        ):
            self.assertIn(one, good)
            document = etree.fromstring(good.replace(one, other))
            self.assertFalse(SCHEMA.validate(document), one)

    def test_anyText(self) -> None:
        """Whatever a patient is called, it is one line of valid XML."""
        for name, expected in (
            ("Müller^Jürg=Иван", "Müller^Jürg=Иван"),
            ("<&\"'>", "<&\"'>"),
            ("a\nb\rc\0d\x1b$B", "a\ufffdb\ufffdc\ufffdd\ufffd$B"),
            ("\ud800\x85\u2028", "\ufffd" * 3),
            ("😀", "😀"),
            ("", ""),
        ):
            study = evolve(STUDY, PatientName=name, PatientID=name)
            deleted = events.studyDeleted(OURS, NOON, USER, study, 3)
            data = encode(deleted, SOURCE)
            self.assertEqual(1, len(data.decode().splitlines()))
            self.assertEqual(Read(data).patient, (expected, expected))

    @given(st.text(st.characters(exclude_categories=())))
    def test_whateverText(self, text: str) -> None:
        """Nothing that a peer could have sent makes it anything else."""
        peer = Peer(text, text)
        transfer = events.sending(OURS, peer, User(text, text))
        study = AuditedStudy("1.2", text, text, text)
        (message,) = events.instancesTransferred(
            transfer, NOON, study, Action.READ, {CT: ["1.1"]}, text
        )
        data = encode(message, SOURCE)
        self.assertEqual(1, len(data.decode().splitlines()))
        Read(data)


class EventTests(SynchronousTestCase):
    """PS3.15 A.5.3; L{Read} looks at what the tables ask for."""

    def test_applicationActivity(self) -> None:
        """A.5.3.1."""
        for starts, code in ((True, "110120"), (False, "110121")):
            message = read(events.applicationActivity(OURS, NOON, starts))
            self.assertEqual((message.kind, message.type), ("110100", code))

    def test_query(self) -> None:
        """A.5.3.10: the identifier as it came, and its transfer syntax."""
        message = read(
            events.query(OURS, NOON, CT01, FIND, "1.2.840.10008.1.2", b"\x08\0\x52")
        )
        self.assertEqual(message.query, b"\x08\0\x52")
        self.assertEqual(message.details, {"TransferSyntax": b"1.2.840.10008.1.2"})
        (asked,) = message.objects("110181")
        self.assertEqual(asked.get("ParticipantObjectID"), FIND)
        self.assertEqual(message.requestor, "CT01")
        source = message.participant("110153")
        self.assertEqual(source.get("AlternativeUserID"), "AETITLES=CT01")
        self.assertEqual(source.get("NetworkAccessPointID"), "192.0.2.7")
        self.assertEqual(source.get("NetworkAccessPointTypeCode"), "2")
        self.assertEqual((message.outcome, message.why), ("0", ""))

    def test_failedQuery(self) -> None:
        """What failed says so, and why."""
        message = read(
            events.query(OURS, NOON, CT01, FIND, "1.2.840.10008.1.2", b"", "A700 away")
        )
        self.assertEqual((message.outcome, message.why), ("8", "A700 away"))
        self.assertEqual(message.query, b"")

    def test_search(self) -> None:
        """A.5.3.10, note 2: a query of another protocol."""
        message = read(events.search(OURS, NOON, USER, "/api/studies?PatientName=R*"))
        self.assertEqual(message.query, b"/api/studies?PatientName=R*")
        (asked,) = message.objects("12")
        self.assertEqual(asked.get("ParticipantObjectID"), "/api/studies")
        self.assertEqual(message.requestor, "token@192.0.2.9")

    def test_received(self) -> None:
        """A.5.3.7: from a peer to us."""
        (message,) = all_(
            events.instancesTransferred(
                events.receiving(OURS, CT01),
                NOON,
                STUDY,
                Action.CREATE,
                {CT: ["1.1", "1.2"], MR: ["1.3"]},
            )
        )
        self.assertEqual(message.action, "C")
        self.assertEqual(message.classes, {CT: 2, MR: 1})
        self.assertEqual(message.instances, ["1.1", "1.2", "1.3"])
        self.assertEqual(message.study, "1.2.3")
        self.assertEqual(message.patient, ("4711", "Rossi^Anna"))
        self.assertEqual(message.accession, ["A1"])
        self.assertEqual(message.participant("110153").get("UserID"), "CT01")
        self.assertEqual(message.participant("110152").get("UserID"), "4711")
        self.assertEqual(message.requestor, "CT01")

    def test_many(self) -> None:
        """No message is longer than a receiver has to take (A.6)."""
        uid = "1." + "2" * 59 + "%03d"
        instances = {
            CT: [uid % n for n in range(400)],
            MR: [uid % n for n in range(400, 600)],
        }
        messages = list(
            events.instancesTransferred(
                events.receiving(OURS, CT01),
                NOON,
                STUDY,
                Action.CREATE,
                instances,
            )
        )
        found = all_(messages)
        told = [uid for message in found for uid in message.instances]
        self.assertEqual(told, instances[CT] + instances[MR])
        for message in found:
            self.assertEqual(sum(message.classes.values()), len(message.instances))
            self.assertLessEqual(len(message.instances), MAX_INSTANCES)
            self.assertLess(len(message.text), 32768)

    def test_moved(self) -> None:
        """A.5.3.3 and A.5.3.7: who has asked for it is a third one."""
        transfer = events.sending(OURS, WS1, CT01)
        message = read(events.beginTransferring(transfer, NOON, STUDY, {CT: 2}))
        self.assertEqual(message.requestor, "CT01")
        destination = message.participant("110152")
        self.assertEqual(destination.get("UserID"), "WS1")
        self.assertEqual(destination.get("NetworkAccessPointTypeCode"), "1")
        self.assertEqual(message.participant("110153").get("UserID"), "4711")
        self.assertEqual((message.classes, message.instances), ({CT: 2}, []))

    def test_sentToRequestor(self) -> None:
        """Who has asked may be the receiver."""
        transfer = events.sending(OURS, CT01, CT01)
        message = read(events.beginTransferring(transfer, NOON, STUDY, {CT: 2}))
        self.assertEqual(len(transfer.participants), 2)
        self.assertEqual(message.requestor, "CT01")

    def test_sentByUser(self) -> None:
        """Or somebody who made a call over HTTP."""
        transfer = events.sending(OURS, CT01, USER)
        (message,) = all_(
            events.instancesTransferred(
                transfer, NOON, STUDY, Action.READ, {CT: ["1.1"]}, "refused with A700"
            )
        )
        self.assertEqual(message.requestor, "token@192.0.2.9")
        self.assertEqual(
            (message.action, message.outcome, message.why),
            ("R", "8", "refused with A700"),
        )

    def test_studyDeleted(self) -> None:
        """A.5.3.8."""
        message = read(events.studyDeleted(OURS, NOON, USER, STUDY, 19))
        self.assertEqual((message.study, message.classes), ("1.2.3", {None: 19}))
        self.assertEqual(message.patient, ("4711", "Rossi^Anna"))
        self.assertEqual(message.requestor, "token@192.0.2.9")

    def test_procedureRecord(self) -> None:
        """A.5.3.15."""
        for action in (Action.CREATE, Action.READ, Action.UPDATE, Action.DELETE):
            message = read(events.procedureRecord(OURS, NOON, USER, action, STUDY))
            self.assertEqual(message.action, action.value)
            self.assertEqual(message.study, "1.2.3")
            self.assertEqual(message.accession, ["A1"])

    def test_alert(self) -> None:
        """A.5.3.11: of a node, and of a resource."""
        for subject, kind, identifier in (
            ("", "110182", "192.0.2.7"),
            ("/api/aes/WS1", "12", "/api/aes/WS1"),
        ):
            message = read(
                events.alert(
                    OURS,
                    NOON,
                    codes.SECURITY_CONFIGURATION,
                    CT01,
                    subject,
                    "what",
                    EventOutcome.MINOR_FAILURE,
                )
            )
            (about,) = message.objects(kind)
            self.assertEqual(about.get("ParticipantObjectID"), identifier)
            self.assertEqual(message.details, {"Alert Description": b"what"})
            self.assertEqual((message.type, message.outcome), ("110129", "4"))
