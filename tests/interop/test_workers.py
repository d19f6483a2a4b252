"""
Several processes serve associations: to those outside it is one server, also
when one of the processes dies.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import generate_uid
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.files import makeCT, rename
from tests.interop.running import HOST, PATIENCE, RunningServer, dcmtk, freePort
from tests.interop.wire import ECHO, IMPLICIT, Peer, echo


def isAlive(pid: int) -> bool:
    """Whether a process is there, and not merely its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


class WorkersTestCase(SynchronousTestCase):
    """A server with two workers."""

    options = ""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        path = self.folder / "d360.toml"
        path.write_text(self.options)
        self.server = RunningServer(self.folder, f"--config={path}", workers=2)
        self.addCleanup(self.server.stop)
        self.server.start()

    def workers(self) -> list[dict[str, Any]]:
        """What the server says of them."""
        found: list[dict[str, Any]] = self.server.get("/api/status")["workers"]
        return found

    def pids(self) -> list[int]:
        """Their processes."""
        return [worker["pid"] for worker in self.workers()]

    def eventually(self, isSo: Any) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not isSo():
            if time.monotonic() > deadline:
                self.fail(f"not within {PATIENCE} s: {self.server.logged()[-3000:]}")
            time.sleep(0.1)

    def associate(self) -> Peer:
        """An association that stays open."""
        peer = Peer(self.server)
        self.addCleanup(peer.socket.close)
        peer.associate([(ECHO, [IMPLICIT])])
        return peer

    def sending(self, folder: Path) -> subprocess.Popen[bytes]:
        """storescu under way, with new instances until its association ends."""
        makeCT(folder, 5)
        with open(folder.with_suffix(".log"), "wb") as output:
            sender = subprocess.Popen(
                [dcmtk("storescu"), "-v", "-aec", "D360PACS", "+II"]
                + ["--repeat", "1000000", "+sd"]
                + [HOST, str(self.server.port), str(folder)],
                stdout=output,
                stderr=output,
            )
        self.addCleanup(sender.wait, PATIENCE)
        self.addCleanup(sender.kill)
        return sender

    def acknowledged(self, sender: subprocess.Popen[bytes], folder: Path) -> int:
        """How many instances the server has taken of it, when it has ended."""
        sender.wait(PATIENCE)
        output = folder.with_suffix(".log").read_text(errors="replace")
        return output.count("Received Store Response (Success)")

    def assertBalanced(self) -> None:
        """Each worker has two associations, as the server is told a moment later."""
        self.eventually(lambda: [w["live"] for w in self.workers()] == [2, 2])


class TogetherTests(WorkersTestCase):
    """What they do as one."""

    def test_balanced(self) -> None:
        """Four associations: two for each, and each listed once."""
        peers = [self.associate() for _ in range(4)]
        self.assertBalanced()
        status = self.server.get("/api/status")
        self.assertEqual(status["associations"], {"live": 4, "accepted": 4})
        listed = self.server.get("/api/associations")
        self.assertEqual(listed["live"], 4)
        numbers = {one["number"] for one in listed["associations"]}
        self.assertEqual(len(numbers), 4)
        for peer in peers:
            peer.send(echo(1, 1))
            self.assertEqual(peer.response().status, 0)
            peer.release()
        self.eventually(lambda: self.server.get("/api/associations")["live"] == 0)
        self.assertEqual(self.server.stop(), 0)
        text = (self.folder / "data" / "log" / "d360.log").read_text()
        for number in numbers:
            self.assertIn(f" association {number} with {HOST}: ", text)

    def test_work(self) -> None:
        """Store, find, get and move, by whoever has the turn; and the sums."""
        paths = makeCT(self.folder / "files", 3)
        study = str(dcmread(paths[0]).StudyInstanceUID)
        for path in paths:
            self.assertEqual(self.server.store(str(path)).status, 0)
        for _ in range(2):
            answer = self.server.find(
                "STUDY", f"StudyInstanceUID={study}", "NumberOfStudyRelatedInstances"
            )
            self.assertEqual([m["0020,1208"] for m in answer.matches], ["3"])
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        for number in range(2):
            folder = self.folder / f"got{number}"
            folder.mkdir()
            got = self.server.client("getscu", "-S", *keys, "-od", str(folder))
            self.assertEqual(got.status, 0, got.output)
            self.assertEqual(len(list(folder.iterdir())), 3)
        port = freePort()
        self.server.ctl("ae", "add", "MOVESCU", HOST, str(port))
        for number in range(2):
            folder = self.folder / f"moved{number}"
            folder.mkdir()
            moved = self.server.client(
                "movescu", "-S", "+P", str(port), *keys, "-od", str(folder)
            )
            self.assertEqual(moved.status, 0, moved.output)
            self.assertEqual(len(list(folder.iterdir())), 3)
        self.sums()

    def sums(self) -> None:
        """What L{test_work} has done, as the server counts it."""
        succeeded = (
            'd360_operations_total{{class="success",service="{}",status="0000"}}'
        )
        expected = (
            "d360_instances_stored_total 3.0",
            "d360_associations_accepted_total 9.0",
            f"{succeeded.format('C-STORE')} 3.0",
            f"{succeeded.format('C-MOVE')} 2.0",
            'd360_operation_duration_seconds_count{service="C-FIND"} 2.0',
            'd360_suboperations_total{outcome="completed"} 12.0',
            'd360_associations_requested_total{outcome="accepted"} 2.0',
        )

        def missing() -> list[str]:
            text = urllib.request.urlopen(self.server.web + "/metrics").read().decode()
            self.assertRegex(
                text, r'd360_worker_cpu_seconds_total\{worker="2"\} [0-9.]*[1-9]'
            )
            return [line for line in expected if f"{line}\n" not in text]

        # A worker that is late with its answer is left at what it said last.
        self.eventually(lambda: not missing())

        def sums() -> dict[str, int]:
            rates = self.server.get("/api/rates")
            return {k: sum(rates[k]) for k in ("stored", "queries", "retrieved")}

        self.eventually(lambda: sums() == {"stored": 3, "queries": 2, "retrieved": 12})
        self.assertEqual(self.server.get("/api/settings")["settings"]["workers"], 2)

    def test_errors(self) -> None:
        """A warning of any of them is among the last events."""
        for _ in range(2):
            self.associate().send(b"\xff" * 10)
        self.eventually(lambda: len(self.server.get("/api/errors")["errors"]) == 2)
        errors = self.server.get("/api/errors")["errors"]
        self.assertEqual({error["level"] for error in errors}, {"warn"})
        self.assertEqual(len({error["text"] for error in errors}), 2)

    def test_storedAfterDeletion(self) -> None:
        """
        A study that was deleted by the server's own process is stored again by
        each of those that had stored it, by series that were not there before.
        """
        paths = makeCT(self.folder / "files", 2)
        study = str(dcmread(paths[0]).StudyInstanceUID)
        for _ in range(2):
            for path in paths:
                self.assertEqual(self.server.store(str(path)).status, 0)
            request = urllib.request.Request(
                f"{self.server.web}/api/studies/{study}", method="DELETE"
            )
            urllib.request.urlopen(request, timeout=PATIENCE).close()
            for path in paths:
                dataset = dcmread(path)
                rename(dataset)
                dataset.SeriesInstanceUID = generate_uid()
                dataset.save_as(path)
        for path in paths:
            stored = self.server.store(str(path))
            self.assertEqual(stored.status, 0, stored.output)
        self.assertEqual(self.server.entered(), 2)


class KnownCallersTests(WorkersTestCase):
    """C{require_known_callers}: a change is seen by all, at once."""

    options = "[dicom]\nrequire_known_callers = true\n"

    def test_callers(self) -> None:
        """Whoever has the turn."""

        def calls() -> list[int]:
            return [
                self.server.client("echoscu", "-aet", "MODALITY").status
                for _ in range(3)
            ]

        self.assertNotIn(0, calls())
        self.server.ctl("ae", "add", "MODALITY", HOST, "104")
        self.assertEqual(calls(), [0, 0, 0])
        self.server.ctl("ae", "remove", "MODALITY")
        self.assertNotIn(0, calls())


class LimitTests(WorkersTestCase):
    """C{max_associations} is for all together."""

    options = "[dicom]\nmax_associations = 3\n"

    def test_limit(self) -> None:
        """The fourth is rejected, until one of the others has ended."""
        peers = [self.associate() for _ in range(3)]
        for _ in range(3):
            rejected = self.server.client("echoscu")
            self.assertIn("Local Limit Exceeded", rejected.output)
        for peer in peers:
            peer.release()
            # The server hears of it a moment later, and chooses who has room.
            self.eventually(lambda: self.server.client("echoscu").status == 0)
            self.eventually(self.associated)
            self.assertNotEqual(self.server.client("echoscu").status, 0)

    def associated(self) -> bool:
        """Whether another association was accepted; it stays open."""
        try:
            self.associate()
        except RuntimeError:
            return False
        return True


class LifeTests(WorkersTestCase):
    """Dying, and what is left."""

    def found(self) -> int:
        """How many instances there are to be found."""
        answer = self.server.find(
            "STUDY", "StudyInstanceUID", "NumberOfStudyRelatedInstances"
        )
        self.assertEqual(answer.statuses[-1:], ["0000"])
        return sum(int(match["0020,1208"]) for match in answer.matches)

    def test_workerKilled(self) -> None:
        """
        The sender sees its association end; another works at once; what was
        acknowledged is found; and the worker comes back.
        """
        many = self.folder / "many"
        sender = self.sending(many)
        self.server.waitFor(re.compile("C-STORE 20"))
        self.eventually(lambda: any(w["live"] for w in self.workers()))
        (busy,) = [w for w in self.workers() if w["live"]]
        os.kill(busy["pid"], signal.SIGKILL)
        self.assertEqual(self.server.client("echoscu").status, 0)
        acknowledged = self.acknowledged(sender, many)
        self.assertGreaterEqual(acknowledged, 20)
        self.assertNotEqual(sender.returncode, 0)
        self.assertGreaterEqual(self.found(), acknowledged)
        self.eventually(lambda: any(w["restarts"] for w in self.workers()))
        self.eventually(lambda: all(w["answers"] for w in self.workers()))
        (again,) = [w for w in self.workers() if w["restarts"]]
        self.assertEqual(again["number"], busy["number"])
        self.assertNotEqual(again["pid"], busy["pid"])
        errors = [e["text"] for e in self.server.get("/api/errors")["errors"]]
        self.assertTrue(any("ended: SIGKILL" in error for error in errors), errors)
        peers = [self.associate() for _ in range(4)]
        self.assertBalanced()
        for peer in peers:
            peer.release()
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(self.server.incoming(), [])

    def test_stopUnderLoad(self) -> None:
        """SIGTERM: operations end, exit status 0, and nobody is left."""
        folders = [self.folder / f"many{number}" for number in range(3)]
        senders = [self.sending(folder) for folder in folders]
        self.server.waitFor(re.compile("C-STORE 20"))
        pids = self.pids()
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual([pid for pid in pids if isAlive(pid)], [])
        acknowledged = sum(map(self.acknowledged, senders, folders))
        self.assertGreater(acknowledged, 20)
        self.server.start()
        self.assertGreaterEqual(self.found(), acknowledged)

    def test_wholeGroup(self) -> None:
        """A terminal and a supervisor send their signals to all of them."""
        pids = self.pids()
        for pid in pids:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
        self.assertEqual(self.server.client("echoscu").status, 0)
        self.assertEqual(self.pids(), pids)
        self.assertEqual(self.server.stop(signal.SIGINT), 0)

    def test_serverKilled(self) -> None:
        """Nothing is left of it, also where a worker has no time to look."""
        many = self.folder / "many"
        sender = self.sending(many)
        self.server.waitFor(re.compile("C-STORE 20"))
        pids = self.pids()
        os.kill(pids[0], signal.SIGSTOP)
        self.server.stop(signal.SIGKILL)
        self.eventually(lambda: not any(map(isAlive, pids)))
        acknowledged = self.acknowledged(sender, many)
        self.server.start()
        self.assertGreaterEqual(self.found(), acknowledged)

    def test_fewer(self) -> None:
        """What a worker has left that there is no more of is resolved, too."""
        self.server.stop()
        incoming = self.folder / "data" / "archive" / ".incoming" / "7"
        incoming.mkdir(parents=True, exist_ok=True)
        (incoming / "0123456789abcdef.part").write_bytes(b"half")
        self.server.start()
        self.assertEqual(self.server.incoming(), [])
