"""The audit trail is told of what services and calls over HTTP do."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from d360.admin.aes import RemoteAEsResource
from d360.admin.site import makeSite
from d360.admin.studies import StudiesResource
from d360.admin.worklist import WorklistResource
from d360.audit.values import Action, AuditedInstance, AuditedStudy, Peer, User
from d360.errors import DatabaseUnavailable
from d360.model import Duplicates, Outcome, RemoteAE
from d360.services.retrieve import GetService, MoveService
from d360.services.storage import StorageService
from d360.services.studies import Sending, Studies
from d360.services.worklistitems import WorklistForms
from tests.admin.test_studies import StudiesTestCase
from tests.contracts.memoryaudit import MemoryAudit
from tests.contracts.memoryfreespace import MemoryFreeSpace
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.memoryworklist import MemoryWorklist
from tests.services.datasets import instance
from tests.services.test_retrieve import CT, STUDY_ROOT_GET, RetrieveCase
from tests.services.test_storage import StorageCase

MODALITY = Peer("MODALITY", "192.0.2.7")
#: Who has no token, by the address that StringTransport has.
ANYBODY = User("anonymous", "192.168.1.1")


class StorageTests(StorageCase):
    """C-STORE."""

    def make(self, duplicates: Duplicates) -> StorageService:
        self.audit = MemoryAudit()
        return StorageService(
            self.archive,
            self.index,
            self.recovery,
            self.clock,
            MemoryFreeSpace(),
            duplicates,
            self.audit,
        )

    def told(self, outcome: Outcome | None, why: str = "") -> tuple[Any, ...]:
        study = AuditedStudy("1.2.3", "P1", "Rossi^Anna", "A1")
        one = AuditedInstance(study, CT, "1.2.3.4.5")
        return ("received", "MODALITY", one, outcome, why)

    def test_stored(self) -> None:
        """Before the sender is told."""
        operation = self.operation(instance(AccessionNumber="A1"))
        respond, before = operation.respond, []

        def watched(*arguments: Any, **elements: Any) -> Any:
            before.extend(self.audit.calls)
            return respond(*arguments, **elements)

        operation.respond = watched  # type: ignore[method-assign]
        self.store(operation)
        self.assertEqual(before, [self.told(Outcome.STORED)])
        self.assertEqual(self.audit.calls, before)

    def test_refused(self) -> None:
        """What is not kept, too, once it is known what it is."""
        self.index.pending = fail(DatabaseUnavailable("away"))
        self.refuse(self.operation(instance(AccessionNumber="A1")), 0xA700)
        why = "A700 Database is not available"
        self.assertEqual(self.audit.calls, [self.told(None, why)])

    def test_again(self) -> None:
        """What we had of it before, too."""
        self.index.outcome = Outcome.REPLACED
        self.store(self.operation(instance(AccessionNumber="A1")))
        self.assertEqual(self.audit.calls, [self.told(Outcome.REPLACED)])

    def test_notUnderstood(self) -> None:
        """What cannot be read is nobody's."""
        self.refuse(self.operation(b"nothing of the kind"), 0xC000)
        self.assertEqual(self.audit.calls, [])


class MoveTests(RetrieveCase):
    """C-MOVE."""

    def makeService(self, parallel: int = 1) -> Any:
        self.audit = MemoryAudit()
        return MoveService(
            self.index,
            self.sender,
            self.clock,
            self.remoteAEs,
            self.opener,
            parallel,
            self.audit,
        )

    def test_sent(self) -> None:
        """To whom, on whose behalf, and what became of each."""
        for number in (1, 2, 3):
            self.stored(number)
        self.opener.answer = lambda received: (
            0xA700 if received.command.AffectedSOPInstanceUID.endswith(".2") else 0x0000
        )
        self.successResultOf(self.service.perform(self.operation()))
        (transfer,) = self.audit.transfers
        self.assertEqual(transfer.requestor, MODALITY)
        self.assertEqual(transfer.destination, Peer("WS1", "192.0.2.1"))
        self.assertEqual(transfer.instances, ["1.1.1.1", "1.1.1.2", "1.1.1.3"])
        self.assertEqual(transfer.taken, ["1.1.1.1", "1.1.1.3"])
        self.assertEqual(transfer.refused, [("1.1.1.2", "it was refused with A700")])
        self.assertEqual(transfer.ends, 1)

    def test_warning(self) -> None:
        """What was taken with a warning was taken."""
        self.stored(1)
        self.opener.answer = lambda received: 0xB000
        self.successResultOf(self.service.perform(self.operation()))
        self.assertEqual(self.audit.transfers[0].taken, ["1.1.1.1"])

    def test_requestorGone(self) -> None:
        """The end is told, however it came."""
        self.stored(1)
        self.opener.waiter = Deferred()
        operation = self.operation()
        performed = self.service.perform(operation)
        performed.addErrback(lambda _: None)
        self.assertEqual(self.audit.transfers[0].ends, 0)
        operation.lose()
        self.successResultOf(performed)
        self.assertEqual(self.audit.transfers[0].ends, 1)


class GetTests(RetrieveCase):
    """C-GET."""

    sopClass = STUDY_ROOT_GET
    commandField = 0x0010

    def makeService(self, parallel: int = 1) -> Any:
        self.audit = MemoryAudit()
        return GetService(self.index, self.sender, self.clock, self.audit)

    def test_sent(self) -> None:
        """The requestor is the receiver."""
        self.stored(1)
        self.successResultOf(self.service.perform(self.operation()))
        (transfer,) = self.audit.transfers
        self.assertEqual((transfer.requestor, transfer.destination), (MODALITY,) * 2)
        self.assertEqual(transfer.ends, 1)
        # It has no context for it.
        self.assertEqual([uid for uid, _ in transfer.refused], ["1.1.1.1"])


class HTTPTests(StudiesTestCase):
    """Calls."""

    def setUp(self) -> None:
        super().setUp()
        self.audit = MemoryAudit()
        self.opened = self.opener
        remotes = MemoryRemoteAEs(RemoteAE("WS 1", "192.0.2.1", 104))
        self.sending = Sending(
            self.index,
            None,  # type: ignore[arg-type]
            self.opener,
            Clock(),
        )
        self.studies = Studies(self.archive, self.index)
        self.site = makeSite(
            {
                b"studies": StudiesResource(self.studies, remotes, self.sending),
                b"aes": RemoteAEsResource(remotes, None, "D360PACS"),  # type: ignore[arg-type]
                b"worklist": WorklistResource(MemoryWorklist(), WorklistForms()),
            },
            self.token,
            audit=self.audit,
        )
        self.site.timeOut = None

    def told(self, method: str, path: str, body: bytes = b"") -> list[Any]:
        """What was told of a call."""
        before = len(self.audit.calls)
        self.call(method, path, body)
        return self.audit.calls[before:]

    def test_search(self) -> None:
        """Each call whose answer tells of patients."""
        for path in (
            "/api/studies?PatientName=Rossi*",
            "/api/studies/1.1",
            "/api/studies/1.1/series",
            "/api/studies/1.1/series/1.1.1",
            "/api/worklist?PatientID=4711",
        ):
            expected = [("searched", ANYBODY, path, "")]
            self.assertEqual(self.told("GET", path), expected)
        self.assertEqual(self.told("GET", "/api/aes"), [])

    def test_failedSearch(self) -> None:
        """One that fails says so."""
        path = "/api/studies?Colour=red"
        expected = [("searched", ANYBODY, path, "HTTP status 400")]
        self.assertEqual(self.told("GET", path), expected)

    def test_deleted(self) -> None:
        """With whose it was."""
        study = AuditedStudy("1.2", "P1", "Rossi^2")
        told = self.told("DELETE", "/api/studies/1.2")
        self.assertEqual(told, [("studyDeleted", ANYBODY, study, 2, "")])
        self.assertEqual(self.told("DELETE", "/api/studies/1.2"), [])

    def test_notDeleted(self) -> None:
        """What was not, too."""
        self.studies.delete = lambda study: fail(  # type: ignore[method-assign]
            DatabaseUnavailable("away")
        )
        ((what, _, study, count, why),) = self.told("DELETE", "/api/studies/1.2")
        self.assertEqual(
            (what, study.PatientName, count, why),
            ("studyDeleted", "Rossi^2", 0, "DatabaseUnavailable"),
        )

    def test_sent(self) -> None:
        """On behalf of whom something is sent."""
        sent: list[Any] = []

        def send(study: str, remote: RemoteAE, requestor: Any) -> Any:
            sent.append((study, remote.title, requestor))
            raise DatabaseUnavailable("away")

        self.sending.send = send  # type: ignore[method-assign]
        self.call("POST", "/api/studies/1.2/send", b'{"aet": "WS 1"}')
        self.assertEqual(sent, [("1.2", "WS 1", ANYBODY)])

    def test_remoteAEs(self) -> None:
        """Who may do what is a matter of security."""
        body = b'{"host": "192.0.2.9", "port": 105}'
        for method, text in (
            ("PUT", "remote AE WS 1 at 192.0.2.9:105 is entered"),
            ("DELETE", "remote AE WS 1 is removed"),
        ):
            told = self.told(method, "/api/aes/WS%201", body)
            expected = [("configured", ANYBODY, "/api/aes/WS%201", text)]
            self.assertEqual(told, expected)
        self.assertEqual(self.told("DELETE", "/api/aes/WS%201"), [])
        self.assertEqual(self.told("PUT", "/api/aes/WS%201", b"{}"), [])

    def test_worklist(self) -> None:
        """An item made, read, changed and removed, and whose it is."""
        body = (
            b'{"PatientName": "%s", "PatientID": "1", "StudyInstanceUID": "1.9",'
            b'"AccessionNumber": "A1", "ScheduledProcedureStepSequence": [{"Modality":'
            b'"CT", "ScheduledStationAETitle": "CT01",'
            b'"ScheduledProcedureStepStartDate": "20260101"}]}'
        )
        answer = self.call("POST", "/api/worklist", body % b"Rossi^Anna")
        path = f"/api/worklist/{answer.json['id']}"
        self.call("GET", path)
        self.call("PUT", path, body % b"Rossi^Anna")
        self.call("PUT", path, body % b"Bianchi^Anna")
        self.call("DELETE", path)
        rossi = AuditedStudy("1.9", "1", "Rossi^Anna", "A1")
        bianchi = AuditedStudy("1.9", "1", "Bianchi^Anna", "A1")
        self.assertEqual(
            [(action, study) for _, _, action, study in self.audit.calls],
            [
                (Action.CREATE, rossi),
                (Action.READ, rossi),
                (Action.UPDATE, rossi),
                # Another patient's now: a message is of one patient.
                (Action.UPDATE, rossi),
                (Action.UPDATE, bianchi),
                (Action.DELETE, bianchi),
            ],
        )


class TokenTests(StudiesTestCase):
    """Whoever has the token, or has not."""

    token = "secret"

    def setUp(self) -> None:
        super().setUp()
        self.audit = MemoryAudit()
        self.site.audit = self.audit  # type: ignore[attr-defined]

    def test_who(self) -> None:
        """Whoever has it is known by that alone."""
        self.call("GET", "/api/studies", Authorization="Bearer secret")
        ((_, user, _, _),) = self.audit.calls
        self.assertEqual(user, User("token", ANYBODY.address))

    def test_wrong(self) -> None:
        """A wrong one is an alert; none at all is a browser that asks for it."""
        answer = self.call("GET", "/api/studies", Authorization="Bearer guessed")
        self.assertEqual(answer.code, 401)
        self.call("GET", "/api/studies")
        ((what, user, why),) = self.audit.calls
        self.assertEqual((what, user), ("refused", ANYBODY))
        self.assertNotIn("guessed", why)
