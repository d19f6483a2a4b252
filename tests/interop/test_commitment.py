"""
Storage Commitment with real peers (PS3.4 Annex J): pynetdicom, which waits on
the same association or listens for another, and Orthanc, which listens.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as COMMITMENT
from pynetdicom.sop_class import (
    StorageCommitmentPushModelInstance as INSTANCE,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.postgres import execute
from tests.interop.files import makeCT
from tests.interop.running import HOST, PATIENCE, RunningServer, freePort, sharedServer

TITLE = "MODALITY"


class Modality:
    """
    One that asks for storage commitment, and keeps what it is told.

    @ivar told: event type and data set of each N-EVENT-REPORT.
    @ivar status: what it answers to them.
    """

    def __init__(self) -> None:
        self.told: list[tuple[int, Dataset]] = []
        self.roles: list[Any] = []
        self.status = 0x0000
        self._news = threading.Semaphore(0)
        self.port = 0
        self._listening: Any = None

    def _take(self, event: Any) -> tuple[int, None]:
        self.told.append((event.event_type, event.event_information))
        self._news.release()
        return self.status, None

    def listen(self, port: int = 0, answersRole: bool = True) -> None:
        """For associations of the server's."""
        self.port = port or freePort()
        ae = AE(TITLE)
        if answersRole:
            # The peer, who asks for the association, is the SCP.
            ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
        else:
            ae.add_supported_context(COMMITMENT)
        self._listening = ae.start_server(
            (HOST, self.port),
            block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)],
        )

    def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.shutdown()
            self._listening = None

    def associate(self, server: RunningServer, title: str = TITLE) -> Any:
        """An association to ask over."""
        ae = AE(title)
        ae.add_requested_context(COMMITMENT)
        association = ae.associate(
            HOST,
            server.port,
            ae_title=server.aeTitle,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)],
        )
        if not association.is_established:
            raise RuntimeError("the association was not accepted")
        return association

    def wait(self) -> tuple[int, Dataset]:
        """What it is told next."""
        if not self._news.acquire(timeout=PATIENCE):
            raise RuntimeError("it was told of nothing")
        return self.told[-1]


def asked(transaction: str, references: list[tuple[str, str]]) -> Dataset:
    """The Action Information."""
    dataset = Dataset()
    dataset.TransactionUID = transaction
    dataset.ReferencedSOPSequence = []
    for sopClass, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sopClass
        item.ReferencedSOPInstanceUID = instance
        dataset.ReferencedSOPSequence.append(item)
    return dataset


def request(association: Any, dataset: Dataset | None, **others: Any) -> int:
    """N-ACTION; its status."""
    response, _ = association.send_n_action(
        dataset,
        others.get("action", 1),
        COMMITMENT,
        others.get("instance", INSTANCE),
    )
    return int(response.Status)


def named(dataset: Dataset, keyword: str) -> dict[str, int]:
    """The instances of a sequence, each with its Failure Reason, or 0."""
    return {
        item.ReferencedSOPInstanceUID: item.get("FailureReason", 0)
        for item in dataset.get(keyword) or ()
    }


class CommitmentTestCase(SynchronousTestCase):
    """A server that has three instances, and who asks for them."""

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="d360-commitment-"))
        self.addCleanup(shutil.rmtree, folder, True)
        self.server = self.startServer(folder)
        self.files = makeCT(folder / "ct", 3)
        self.assertEqual(self.server.store(*map(str, self.files)).status, 0)
        self.kept = [self.reference(path) for path in self.files]
        self.modality = Modality()
        self.addCleanup(self.modality.close)

    def startServer(self, folder: Path) -> RunningServer:
        return sharedServer("commitment")

    def reference(self, path: Path) -> tuple[str, str]:
        dataset = dcmread(path, stop_before_pixels=True)
        return str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)

    def instances(self) -> list[str]:
        return [instance for _, instance in self.kept]

    def knowModality(self) -> None:
        """Enter it among the remote AEs."""
        answer = self.server.ctl("ae", "add", TITLE, HOST, str(self.modality.port))
        self.assertEqual(answer.status, 0, answer.output)

    def waiting(self) -> int:
        return len(self.server.get("/api/commitments")["commitments"])

    def pending(self, transaction: str) -> Any:
        """One that nobody was told of yet."""
        found = self.server.get("/api/commitments")["commitments"]
        (one,) = [one for one in found if one["transaction"] == transaction]
        return one

    def postponed(self, transaction: str) -> Any:
        """Likewise, once it waits: it is logged before it is kept."""
        deadline = time.monotonic() + PATIENCE
        while (one := self.pending(transaction))["state"] != "waiting":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        return one

    def makeDue(self) -> None:
        execute(self.server.database, "UPDATE commitment_requests SET due_at = now()")


class CommitmentTests(CommitmentTestCase):
    def test_sameAssociation(self) -> None:
        """Who stays is told there, and need not be known."""
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.1", self.kept)), 0)
        event, told = self.modality.wait()
        association.release()
        self.assertEqual(event, 1)
        self.assertEqual(told.TransactionUID, "1.2.3.1")
        self.assertEqual(told.RetrieveAETitle, self.server.aeTitle)
        self.assertEqual(
            named(told, "ReferencedSOPSequence"), dict.fromkeys(self.instances(), 0)
        )
        self.assertNotIn("FailedSOPSequence", told)

    def test_newAssociation(self) -> None:
        """Who has gone is told over an association of ours, in the SCP's role."""
        self.modality.listen()
        self.knowModality()
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.2", self.kept)), 0)
        association.release()
        event, told = self.modality.wait()
        self.assertEqual((event, told.TransactionUID), (1, "1.2.3.2"))

    def test_refused(self) -> None:
        """What is no request is refused, and the association goes on."""
        association = self.modality.associate(self.server)
        good = asked("1.2.3.5", self.kept)
        for dataset, others, status in (
            (good, {"action": 2}, 0x0123),
            (good, {"instance": "1.2.3"}, 0x0112),
            (asked("", self.kept), {}, 0x0115),
            (asked("1.2.3.x", self.kept), {}, 0x0115),
            (asked("1.2.3.6", []), {}, 0x0115),
            (asked("1.2.3.6", [("1.2", "../../etc")]), {}, 0x0115),
        ):
            self.assertEqual(request(association, dataset, **others), status)
        self.assertEqual(request(association, good), 0)
        self.assertEqual(self.modality.wait()[0], 1)
        association.release()

    def test_notTaken(self) -> None:
        """An answer that is a failure is no answer: it is tried again."""
        self.modality.status = 0x0110
        self.modality.listen()
        self.knowModality()
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.8", self.kept)), 0)
        association.release()
        self.modality.wait()
        self.server.waitFor(re.compile("tried again in 60 s: it answers with"))
        self.postponed("1.2.3.8")
        self.modality.status = 0x0000
        self.makeDue()
        self.assertEqual(self.modality.wait()[0], 1)

    def test_retried(self) -> None:
        """Who could not be reached is told as soon as somebody wants it."""
        self.modality.port = freePort()
        self.knowModality()
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.9", self.kept)), 0)
        association.release()
        self.server.waitFor(re.compile("cannot be told of storage commitment 1.2.3.9"))
        waits = self.postponed("1.2.3.9")
        self.assertEqual((waits["aet"], waits["instances"]), (TITLE, 3))
        self.assertIn("Connection refused", waits["error"])
        listed = self.server.ctl("commitments", "list")
        self.assertIn(TITLE, listed.output)
        self.modality.listen(self.modality.port)
        retried = self.server.ctl("commitments", "retry", str(waits["id"]))
        self.assertEqual(retried.status, 0, retried.output)
        event, told = self.modality.wait()
        self.assertEqual((event, told.TransactionUID), (1, "1.2.3.9"))
        self.server.waitFor(re.compile("is told of storage commitment 1.2.3.9"))

    def test_dropped(self) -> None:
        """What nobody wants to be told of any more is gone."""
        self.modality.port = freePort()
        self.knowModality()
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.10", self.kept)), 0)
        association.release()
        self.server.waitFor(re.compile("cannot be told of storage commitment 1.2.3.10"))
        waits = self.pending("1.2.3.10")
        dropped = self.server.ctl("commitments", "drop", str(waits["id"]))
        self.assertEqual(dropped.status, 0, dropped.output)
        self.assertRaises(ValueError, self.pending, "1.2.3.10")
        again = self.server.ctl("commitments", "drop", str(waits["id"]))
        self.assertEqual(again.status, 1, again.output)
        self.assertIn("no such storage commitment", again.output)

    def test_noRole(self) -> None:
        """
        Who accepts and does not answer what role we propose (PS3.7 D.3.3.4) is
        told all the same.
        """
        self.modality.listen(answersRole=False)
        self.knowModality()
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.11", self.kept)), 0)
        association.release()
        event, told = self.modality.wait()
        self.assertEqual((event, told.TransactionUID), (1, "1.2.3.11"))

    def test_hanging(self) -> None:
        """Ten that take connections and say nothing make nobody else wait."""
        silent = socket.create_server((HOST, 0), backlog=50)
        self.addCleanup(silent.close)
        for number in range(10):
            title = f"SILENT{number}"
            port = str(silent.getsockname()[1])
            self.assertEqual(self.server.ctl("ae", "add", title, HOST, port).status, 0)
            association = self.modality.associate(self.server, title)
            self.assertEqual(
                request(association, asked(f"1.2.4.{number}", self.kept)), 0
            )
            association.release()
        self.modality.listen()
        self.knowModality()
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.12", self.kept)), 0)
        association.release()
        event, told = self.modality.wait()
        self.assertEqual((event, told.TransactionUID), (1, "1.2.3.12"))
        # Nobody was told of the others.
        for number in range(10):
            self.pending(f"1.2.4.{number}")
        self.server.ctl("commitments", "drop", "all")


class OrthancTests(CommitmentTestCase):
    """Orthanc, which asks, releases, and waits for an association."""

    def startOrthanc(self) -> str:
        """Where its REST API is."""
        folder = Path(tempfile.mkdtemp(prefix="d360-orthanc-"))
        self.addCleanup(shutil.rmtree, folder, True)
        self.modality.port, web = freePort(), freePort()
        title = self.server.aeTitle
        settings = {
            "DicomAet": TITLE,
            "DicomPort": self.modality.port,
            "HttpPort": web,
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"d360": [title, HOST, self.server.port]},
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        # Debian has it among the programs of administrators.
        program = shutil.which("Orthanc", path=os.environ["PATH"] + ":/usr/sbin")
        if program is None:
            raise RuntimeError("Orthanc is missing: apt-get install orthanc")
        process = subprocess.Popen(
            [program, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        return f"http://{HOST}:{web}"

    def call(self, url: str, body: Any = None) -> Any:
        """A call of its REST API, which may not have begun yet."""
        data = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(url, data, PATIENCE) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError:
                raise
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def commit(self, orthanc: str, *references: tuple[str, str]) -> Any:
        """What it has been told in the end."""
        body = {"DicomInstances": [list(one) for one in references]}
        path = self.call(f"{orthanc}/modalities/d360/storage-commitment", body)["Path"]
        deadline = time.monotonic() + PATIENCE
        while True:
            report = self.call(orthanc + path)
            if report["Status"] != "Pending" or time.monotonic() > deadline:
                return report
            time.sleep(0.2)

    def test_told(self) -> None:
        """All kept; and one that is not there."""
        orthanc = self.startOrthanc()
        self.call(f"{orthanc}/system")
        self.knowModality()
        report = self.commit(orthanc, *self.kept)
        self.assertEqual(report["Status"], "Success", report)
        self.assertEqual(len(report["Success"]), len(self.kept))
        unknown = self.kept[0][0], "1.2.3.4.5.6"
        report = self.commit(orthanc, self.kept[0], unknown)
        self.assertEqual(report["Status"], "Failure", report)
        (failed,) = report["Failures"]
        self.assertEqual(failed["SOPInstanceUID"], unknown[1])
        self.assertEqual(failed["FailureReason"], 0x0112, failed)


class OwnServerTests(CommitmentTestCase):
    """What others could not go on with."""

    def startServer(self, folder: Path) -> RunningServer:
        server = RunningServer(folder / "server")
        self.addCleanup(server.stop)
        server.start()
        return server

    def test_failures(self) -> None:
        """Each with its reason: unknown, of another class, damaged, gone."""
        first, second, third = self.server.archived()
        damaged = bytearray(first.read_bytes())
        damaged[-1] ^= 1
        first.write_bytes(damaged)
        second.unlink()
        instance = {path: self.reference(path)[1] for path in (first, third)}
        gone = set(self.instances()) - set(instance.values())
        wanted = [*self.kept, (self.kept[0][0], "1.2.3.4.5")]
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.3", wanted)), 0)
        event, told = self.modality.wait()
        self.assertEqual(event, 2)
        self.assertEqual(named(told, "ReferencedSOPSequence"), {instance[third]: 0})
        self.assertEqual(
            named(told, "FailedSOPSequence"),
            {instance[first]: 0x0110, gone.pop(): 0x0110, "1.2.3.4.5": 0x0112},
        )
        other = [("1.2.840.10008.5.1.4.1.1.4", instance[third])]
        self.assertEqual(request(association, asked("1.2.3.4", other)), 0)
        event, told = self.modality.wait()
        association.release()
        self.assertEqual(named(told, "FailedSOPSequence"), {instance[third]: 0x0119})

    def test_restart(self) -> None:
        """A request survives a crash; who asked is told when it can be reached."""
        port = freePort()
        self.modality.port = port
        self.knowModality()
        association = self.modality.associate(self.server)
        self.assertEqual(request(association, asked("1.2.3.7", self.kept)), 0)
        association.release()
        self.server.waitFor(re.compile("cannot be told"))
        self.assertEqual(self.waiting(), 1)
        self.server.stop(signal.SIGKILL)
        self.modality.listen(port)
        self.server.start()
        self.makeDue()
        event, told = self.modality.wait()
        self.assertEqual((event, told.TransactionUID), (1, "1.2.3.7"))
        self.server.waitFor(re.compile("is told of storage commitment 1.2.3.7"))
