"""The audit trail of a server that real clients use (PS3.15 A.5 to A.7)."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from twisted.trial.unittest import TestCase

from tests.audit.reading import Read, readFile
from tests.interop.files import ct, makeCT
from tests.interop.receivers import StoreSCP
from tests.interop.running import HOST, PATIENCE, RunningServer
from tests.interop.syslogs import DatagramReceiver, Receiver, TLSReceiver
from tests.interop.test_commitment import Modality, asked, request

#: What its name says; see PS3.15 A.5.3.
START, BEGIN, TRANSFERRED, DELETED = "110100", "110102", "110104", "110105"
ACCESSED = "110103"
RECORD, QUERY, ALERT = "110111", "110112", "110113"

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


class AuditCase(TestCase):
    """A server of its own for each test."""

    def start(self, configuration: str = "", **options: Any) -> RunningServer:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        config = folder / "config.toml"
        config.write_text(configuration)
        server = RunningServer(folder / "server", f"--config={config}", **options)
        self.addCleanup(server.stop)
        server.start()
        self.folder, self.server = folder, server
        self.file = server.folder / "data" / "audit" / "audit.log"
        return server

    def messages(self, kind: str, count: int = 1) -> list[Read]:
        """Those of a kind, once there are so many; no more have come."""

        def found() -> list[Read]:
            return [one for one in readFile(self.file) if one.kind == kind]

        self.await_(lambda: len(found()) >= count)
        self.assertEqual(len(found()), count)
        return found()

    def await_(self, isDone: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not isDone():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """An HTTP call; its answer, or the status of its failure."""
        data = None if body is None else json.dumps(body).encode()
        call = urllib.request.Request(
            self.server.web + path, data, headers, method=method
        )
        try:
            with urllib.request.urlopen(call, timeout=PATIENCE) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


class TrailTests(AuditCase):
    """Who has stored, queried, retrieved and changed what."""

    def test_storedAndRetrieved(self) -> None:
        """storescu, findscu, movescu and getscu, each with what it did."""
        server = self.start()
        paths = makeCT(self.folder / "ct", 3)
        dataset = ct()
        dataset.AccessionNumber = "A1"
        other = self.folder / "other.dcm"
        dataset.save_as(other)
        self.assertEqual(
            server.store("-aet", "CT01", *map(str, [*paths, other])).status, 0
        )
        first, second = self.messages(TRANSFERRED, 2)
        for message, count in ((first, 3), (second, 1)):
            self.assertEqual((message.requestor, message.action), ("CT01", "C"))
            self.assertEqual(message.outcome, "0")
            self.assertEqual(message.classes, {CT_STORAGE: count})
            self.assertEqual(message.patient, ("1CT1", "CompressedSamples^CT1"))
            source = message.participant("110153")
            self.assertEqual(source.get("NetworkAccessPointID"), HOST)
        self.assertEqual(
            (second.study, second.accession), (dataset.StudyInstanceUID, ["A1"])
        )
        self.assertEqual(second.instances, [dataset.SOPInstanceUID])
        study = first.study

        server.find("STUDY", "PatientName=Compressed*", "StudyInstanceUID")
        (query,) = self.messages(QUERY)
        self.assertEqual(query.requestor, "FINDSCU")
        syntax = UID(query.details["TransferSyntax"].decode())
        keys = read_dataset(
            BytesIO(query.query), syntax.is_implicit_VR, syntax.is_little_endian
        )
        self.assertEqual(keys.PatientName, "Compressed*")

        keywords = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        got = server.client("getscu", "-S", "-od", str(self.folder), *keywords)
        self.assertEqual(got.status, 0, got.output)
        (begin,) = self.messages(BEGIN)
        self.assertEqual((begin.requestor, begin.study), ("GETSCU", study))
        self.assertEqual(begin.classes, {CT_STORAGE: 3})
        sent = self.messages(TRANSFERRED, 3)[2]
        self.assertEqual((sent.requestor, sent.action), ("GETSCU", "R"))
        self.assertEqual(sorted(sent.instances), sorted(first.instances))
        self.assertEqual(sent.patient, ("1CT1", "CompressedSamples^CT1"))

        receiver = StoreSCP(self)
        server.ctl("ae", "add", "WS1", HOST, str(receiver.port))
        moved = server.client("movescu", "-S", "-aem", "WS1", *keywords)
        self.assertEqual(moved.status, 0, moved.output)
        begin = self.messages(BEGIN, 2)[1]
        self.assertEqual(begin.requestor, "MOVESCU")
        self.assertEqual(begin.participant("110152").get("UserID"), "WS1")
        sent = self.messages(TRANSFERRED, 4)[3]
        self.assertEqual((sent.requestor, len(sent.instances)), ("MOVESCU", 3))

        self.assertEqual(server.stop(), 0)
        started, stopped = self.messages(START, 2)
        self.assertEqual((started.type, stopped.type), ("110120", "110121"))
        logged = server.logged()
        self.assertNotIn("CompressedSamples", logged)
        self.assertNotIn("1CT1", logged)

    def test_again(self) -> None:
        """The same again is a read, other bytes an update (A.5.3.7)."""
        server = self.start()
        dataset, path = ct(), self.folder / "one.dcm"
        for name in ("Rossi^Anna", "Rossi^Anna", "Bianchi^Anna"):
            dataset.PatientName = name
            dataset.save_as(path)
            self.assertEqual(server.store(str(path)).status, 0)
        messages = sorted(self.messages(TRANSFERRED, 3), key=lambda one: one.time)
        found = [(one.action, one.patient[1]) for one in messages]
        self.assertEqual(
            found, [("C", "Rossi^Anna"), ("R", "Rossi^Anna"), ("U", "Bianchi^Anna")]
        )

    def test_overHTTP(self) -> None:
        """curl's calls, by address and token."""
        token = {"Authorization": "Bearer secret"}
        server = self.start('[web]\ntoken = "secret"\n')
        (file,) = makeCT(self.folder / "ct", 1)
        server.store(str(file))
        (stored,) = self.messages(TRANSFERRED)
        self.request("GET", "/api/studies?PatientID=1CT1", **token)
        (query,) = self.messages(QUERY)
        self.assertEqual(query.query, b"/api/studies?PatientID=1CT1")
        self.assertEqual(query.requestor, f"token@{HOST}")
        body = {"host": HOST, "port": 1}
        self.request("PUT", "/api/aes/WS1", body, **token)
        (entered,) = self.messages(ALERT)
        self.assertEqual((entered.type, entered.outcome), ("110129", "0"))
        (about,) = entered.objects("12")
        self.assertEqual(about.get("ParticipantObjectID"), "/api/aes/WS1")
        # Nobody listens there.
        self.request(
            "POST", f"/api/studies/{stored.study}/send", {"aet": "WS1"}, **token
        )
        (begin,) = self.messages(BEGIN)
        self.assertEqual(begin.requestor, f"token@{HOST}")
        failed = self.messages(TRANSFERRED, 2)[1]
        self.assertEqual((failed.outcome, failed.instances), ("8", stored.instances))
        self.request("DELETE", f"/api/studies/{stored.study}", **token)
        (deleted,) = self.messages(DELETED)
        self.assertEqual(
            (deleted.study, deleted.patient), (stored.study, stored.patient)
        )
        item = {
            "PatientName": "Rossi^Anna",
            "PatientID": "4711",
            "ScheduledProcedureStepSequence": [
                {
                    "Modality": "CT",
                    "ScheduledStationAETitle": "CT01",
                    "ScheduledProcedureStepStartDate": "20260101",
                }
            ],
        }
        made = self.request("POST", "/api/worklist", item, **token)
        self.request("DELETE", f"/api/worklist/{made['id']}", **token)
        found = [(one.action, one.patient) for one in self.messages(RECORD, 2)]
        patient = ("4711", "Rossi^Anna")
        self.assertEqual(found, [("C", patient), ("D", patient)])
        wrong = {"Authorization": "Bearer wrong"}
        self.assertEqual(self.request("GET", "/api/status", **wrong), 401)
        refused = self.messages(ALERT, 2)[1]
        self.assertEqual((refused.type, refused.outcome), ("110126", "4"))
        self.assertNotIn("Rossi", server.logged())

    def test_refused(self) -> None:
        """Who may not enter, and how often he tried."""
        # Each process counts for itself.
        server = self.start("[dicom]\nrequire_known_callers = true\n", workers=1)
        for _ in range(5):
            self.assertNotEqual(server.client("echoscu", "-aet", "STRANGER").status, 0)
        (first,) = self.messages(ALERT)
        (about,) = first.objects("110182")
        self.assertEqual(about.get("ParticipantObjectID"), HOST)
        self.assertIn(b"rejected 1,1,3", first.details["Alert Description"])
        self.assertIn(b"STRANGER", first.details["Alert Description"])
        server.stop()
        second = self.messages(ALERT, 2)[1]
        self.assertIn(b"4 more of this host", second.details["Alert Description"])

    def test_notAll(self) -> None:
        """Presentation contexts of what somebody may not do."""
        server = self.start('[dicom]\ndefault_permissions = ["query"]\n', workers=1)
        (path,) = makeCT(self.folder / "ct", 1)
        self.assertNotEqual(server.store("-aet", "CT01", str(path)).status, 0)
        (alert,) = self.messages(ALERT)
        self.assertEqual(alert.type, "110132")
        self.assertIn(b"presentation contexts", alert.details["Alert Description"])
        self.assertIn(b"may not use", alert.details["Alert Description"])

    def test_committed(self) -> None:
        """Storage commitment: to whom, of which instances, with what outcome."""
        server = self.start()
        paths = makeCT(self.folder / "ct", 3)
        self.assertEqual(server.store(*map(str, paths)).status, 0)
        kept = [str(dcmread(path).SOPInstanceUID) for path in paths]
        modality = Modality()
        association = modality.associate(server, "CT01")
        references = [(CT_STORAGE, uid) for uid in (*kept, "1.2.3.4")]
        self.assertEqual(request(association, asked("1.2.3.1", references)), 0)
        modality.wait()
        association.release()
        yes, no = sorted(self.messages(ACCESSED, 2), key=lambda one: one.outcome)
        self.assertEqual((yes.requestor, yes.action), ("CT01", "R"))
        self.assertEqual((yes.outcome, no.outcome), ("0", "8"))
        self.assertEqual(sorted(yes.instances), sorted(kept))
        self.assertEqual(yes.patient, ("1CT1", "CompressedSamples^CT1"))
        self.assertEqual(no.instances, ["1.2.3.4"])
        self.assertIn("Not committed, Failure Reason 0112", no.why)
        self.assertNotIn("CompressedSamples", server.logged())

    def test_damaged(self) -> None:
        """A file that d360ctl verify finds damaged."""
        server = self.start()
        (path,) = makeCT(self.folder / "ct", 1)
        self.assertEqual(server.store(str(path)).status, 0)
        (kept,) = server.archived()
        kept.write_bytes(kept.read_bytes()[:-1])
        self.assertEqual(server.ctl("verify").status, 1)
        (found,) = self.messages(ACCESSED)
        self.assertEqual((found.outcome, found.why), ("8", "The file is damaged"))
        self.assertEqual(found.instances, [str(dcmread(path).SOPInstanceUID)])
        self.assertEqual(found.patient[0], "1CT1")

    def test_byItself(self) -> None:
        """A worklist item that is removed because it is old."""
        server = self.start("[worklist]\nremove_after_days = 1\n")
        item = {
            "PatientName": "Rossi^Anna",
            "PatientID": "4711",
            "ScheduledProcedureStepSequence": [
                {
                    "Modality": "CT",
                    "ScheduledStationAETitle": "CT01",
                    "ScheduledProcedureStepStartDate": "20200101",
                }
            ],
        }
        self.request("POST", "/api/worklist", item)
        self.messages(RECORD)
        server.stop()
        server.start()
        removed = self.messages(RECORD, 2)[1]
        self.assertEqual((removed.action, removed.patient[0]), ("D", "4711"))
        (ours,) = removed.root.findall("ActiveParticipant")
        self.assertEqual(ours.get("UserIsRequestor"), "true")
        self.assertEqual(ours.get("UserName"), "D360")

    def test_workers(self) -> None:
        """Several processes write to one file."""
        server = self.start(workers=2)
        clients = []
        for number in range(4):
            paths = makeCT(self.folder / f"ct{number}", 5)
            command = server.clientCommand("storescu", *map(str, paths))
            clients.append(subprocess.Popen(command))
        for client in clients:
            self.assertEqual(client.wait(PATIENCE), 0)
        messages = self.messages(TRANSFERRED, 4)
        self.assertEqual({len(one.instances) for one in messages}, {5})
        processes = {one.participant("110152").get("UserID") for one in messages}
        self.assertEqual(len(processes), 2)
        status = server.get("/api/status")["audit"]
        self.assertEqual((status["written"], status["failing"]), (5, False))
        self.assertEqual(server.stop(), 0)
        self.assertEqual(len(self.messages(START, 2)), 2)

    def test_killed(self) -> None:
        """What was written before the server died is there, in whole lines."""
        server = self.start()
        (path,) = makeCT(self.folder / "ct", 1)
        server.store(str(path))
        self.messages(TRANSFERRED)
        server.stop(signal.SIGKILL)
        server.start()
        self.await_(lambda: len(readFile(self.file)) >= 3)
        kinds = [one.kind for one in readFile(self.file)]
        self.assertEqual(kinds, [START, TRANSFERRED, START])

    def test_rotated(self) -> None:
        """A full file is put aside, and none of them is lost."""
        server = self.start("[audit]\nmax_size = 1\n")
        (start,) = self.messages(START)
        full = (start.text + b"\n") * ((1 << 20) // len(start.text))
        self.file.write_bytes(full)
        (path,) = makeCT(self.folder / "ct", 1)
        self.assertEqual(server.store(str(path)).status, 0)
        self.await_(lambda: self.file.stat().st_size < 1 << 20)
        self.messages(TRANSFERRED)
        (older,) = self.file.parent.glob("audit.log.2*")
        self.assertEqual(older.read_bytes(), full)

    def test_off(self) -> None:
        """Without a file and without syslog there is none."""
        server = self.start('[audit]\nfile = ""\n')
        (path,) = makeCT(self.folder / "ct", 1)
        self.assertEqual(server.store(str(path)).status, 0)
        self.assertEqual(server.stop(), 0)
        self.assertFalse(self.file.parent.exists())

    def test_cannotBegin(self) -> None:
        """A file that cannot be written is known at the start."""
        error = self.assertRaises(
            RuntimeError, self.start, '[audit]\nfile = "/proc/none/audit.log"\n'
        )
        self.assertIn("cannot write", str(error))
        self.assertNotIn("Traceback", str(error))


class DiskFullTests(AuditCase):
    """The audit file cannot be written."""

    def test_diskFull(self) -> None:
        """Storing goes on, status says so, and nothing is lost when there is room."""
        server = self.start()
        (path,) = makeCT(self.folder / "ct", 1)
        self.await_(self.file.exists)
        self.messages(START)
        # A folder in its place fails as a full disk does, also for root.
        aside = self.file.with_name("aside")
        self.file.rename(aside)
        self.file.mkdir()
        self.assertEqual(server.store(str(path)).status, 0)
        self.await_(lambda: server.get("/api/status")["audit"]["failing"])
        server.waitFor(re.compile("audit trail: the file cannot be written"))
        self.file.rmdir()
        aside.rename(self.file)
        self.await_(lambda: not server.get("/api/status")["audit"]["failing"])
        self.messages(TRANSFERRED)


class SyslogTests(AuditCase):
    """PS3.15 A.6, A.7."""

    def check(self, receiver: Receiver, url: str, more: str = "") -> None:
        self.addCleanup(receiver.close)
        server = self.start(f'[audit]\nfile = ""\nsyslog = "{url}"\n{more}')
        paths = makeCT(self.folder / "ct", 300)
        self.assertEqual(server.store("-aet", "CT01", *map(str, paths)).status, 0)
        messages = receiver.messages(TRANSFERRED, 2)
        self.assertEqual(sum(len(one.instances) for one in messages), 300)
        self.assertFalse(server.get("/api/status")["audit"]["failing"])
        self.assertEqual(server.stop(), 0)
        started, stopped = receiver.messages(START, 2)
        self.assertEqual((started.type, stopped.type), ("110120", "110121"))
        self.assertTrue(receiver.frames[0].startswith(b"<85>1 20"))

    def test_udp(self) -> None:
        """RFC 5426."""
        receiver = DatagramReceiver()
        self.check(receiver, f"udp://localhost:{receiver.port}")

    def test_tcp(self) -> None:
        """RFC 6587."""
        receiver = Receiver()
        self.check(receiver, f"tcp://{HOST}:{receiver.port}")

    def test_tls(self) -> None:
        """RFC 5425: the receiver is known by its certificate."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        receiver = TLSReceiver(folder)
        more = f'ca = "{receiver.certificate}"\n'
        self.check(receiver, f"tls://{HOST}:{receiver.port}", more)

    def test_tlsUnknown(self) -> None:
        """Whoever has another certificate is told nothing."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        receiver = TLSReceiver(folder)
        self.addCleanup(receiver.close)
        url = f"tls://{HOST}:{receiver.port}"
        server = self.start(f'[audit]\nfile = ""\nsyslog = "{url}"\n')
        server.waitFor(re.compile("is not connected"))
        self.assertEqual(receiver.frames, [])

        def isWaiting() -> bool:
            status = server.get("/api/status")["audit"]
            return (status["failing"], status["waiting"]) == (True, 1)

        self.await_(isWaiting)
        # None of them was given to whoever that was.
        self.assertEqual(server.stop(), 0)
        self.assertIn("2 messages were dropped", server.logged())

    def test_again(self) -> None:
        """What happens while the receiver is away is sent when it is back."""
        receiver = Receiver()
        self.addCleanup(receiver.close)
        url = f"tcp://{HOST}:{receiver.port}"
        server = self.start(f'[audit]\nfile = ""\nsyslog = "{url}"\n')
        receiver.messages(START, 1)
        receiver.close()
        self.await_(lambda: server.get("/api/status")["audit"]["failing"])
        (path,) = makeCT(self.folder / "ct", 1)
        self.assertEqual(server.store(str(path)).status, 0)
        receiver = Receiver(receiver.port)
        self.addCleanup(receiver.close)
        receiver.messages(TRANSFERRED, 1)
        self.await_(lambda: not server.get("/api/status")["audit"]["failing"])
