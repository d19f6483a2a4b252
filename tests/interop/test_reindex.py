"""
C{d360ctl status} and C{d360ctl reindex} against a running server: the index is
made anew from the files alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg2
from pydicom.dataset import Dataset
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.findset import THORAX, instances, many, send
from tests.interop.running import PATIENCE, Responses, RunningServer, freePort

#: What is asked before and after at each level.
KEYS = {
    "PATIENT": (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "NumberOfPatientRelatedStudies",
        "NumberOfPatientRelatedSeries",
        "NumberOfPatientRelatedInstances",
    ),
    "STUDY": (
        "StudyInstanceUID",
        "PatientName",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
        "StudyDescription",
        "ReferringPhysicianName",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    ),
    "SERIES": (
        f"StudyInstanceUID={THORAX}",
        "SeriesInstanceUID",
        "SeriesNumber",
        "Modality",
        "SeriesDescription",
        "BodyPartExamined",
        "NumberOfSeriesRelatedInstances",
    ),
    "IMAGE": (
        f"StudyInstanceUID={THORAX}",
        "SOPInstanceUID",
        "SOPClassUID",
        "InstanceNumber",
        "InstanceCreationTime",
    ),
}


class ReindexTests(SynchronousTestCase):
    """The files speak for themselves."""

    def setUp(self) -> None:
        self.server = RunningServer(Path(self.mktemp()).absolute())
        self.addCleanup(self.server.stop)
        self.server.start()

    def store(self, datasets: list[Dataset]) -> None:
        """Store them; all are kept."""
        self.assertEqual(set(send(self.server, datasets)), {0})

    def loseIndex(self) -> None:
        """As after the loss of the disk that had it."""
        self.server.stop()
        shutil.rmtree(self.server.folder / "data" / "postgresql")
        self.server.start()
        self.assertEqual(self.server.entered(), 0)

    def reindex(self, *options: str, status: int = 0) -> dict[str, int]:
        """The progress at the end."""
        answer = self.server.ctl("reindex", "--json", *options)
        self.assertEqual(answer.status, status, answer.output)
        progress: dict[str, int] = json.loads(answer.output.splitlines()[0])
        self.assertFalse(progress["running"])
        return progress

    def all(self) -> dict[str, list[dict[str, str]]]:
        """What is found at each level."""
        found: dict[str, list[dict[str, str]]] = {}
        for level, keys in KEYS.items():
            responses: Responses = self.server.find(level, *keys, model="-P")
            self.assertEqual(responses.statuses[-1], "0000")
            found[level] = sorted(responses.matches, key=lambda m: sorted(m.items()))
        return found

    def test_lostIndex(self) -> None:
        """All is found again, with the same values; and once more adds nothing."""
        self.store(list(instances()))
        before = self.all()
        count = self.server.entered()
        files = list(self.server.archived())
        self.assertEqual(len(files), count)
        self.loseIndex()
        answer = self.server.ctl("reindex")
        self.assertEqual(answer.status, 0, answer.output)
        self.assertIn(f"{count}/{count} files, {count} added, 0 known", answer.output)
        self.assertEqual(self.all(), before)
        progress = self.reindex()
        self.assertEqual((progress["added"], progress["unchanged"]), (0, count))
        progress = self.reindex("--full")
        self.assertEqual((progress["added"], progress["unchanged"]), (0, count))
        self.assertEqual(self.all(), before)
        self.assertEqual(list(self.server.archived()), files)

    def test_damagedFile(self) -> None:
        """One that cannot be read is reported, and does not stop the rest."""
        self.store(many("REINDEX", 0, 5))
        first, second, *_ = self.server.archived()
        first.write_bytes(b"no DICOM file")
        second.write_bytes(second.read_bytes()[:400])
        self.loseIndex()
        progress = self.reindex(status=1)
        self.assertEqual((progress["added"], progress["failed"]), (3, 2))
        self.assertEqual(self.server.entered(), 3)
        log = self.server.logged()
        for path in (first, second):
            self.assertIn(f"Cannot index {path.parent.parent.parent.name}/", log)
            self.assertIn(path.name, log)
        answer = self.server.ctl("reindex")
        self.assertEqual(answer.status, 1)
        self.assertIn("2 files could not be entered", answer.output)
        self.assertEqual(first.read_bytes(), b"no DICOM file")

    def test_missingFile(self) -> None:
        """A row without a file is reported, and forgotten only with --prune."""
        self.store(many("REINDEX", 0, 3))
        next(iter(self.server.archived())).unlink()
        answer = self.server.ctl("reindex")
        self.assertEqual(answer.status, 0, answer.output)
        self.assertIn("1 instances of the index have no file", answer.output)
        self.assertEqual(self.server.entered(), 3)
        progress = self.reindex("--prune")
        self.assertEqual((progress["missing"], progress["pruned"]), (1, 1))
        self.assertEqual(self.server.entered(), 2)
        matches = self.server.find("STUDY", "StudyInstanceUID").matches
        self.assertEqual(len(matches), 2)
        self.assertEqual(self.reindex()["missing"], 0)

    def test_interrupted(self) -> None:
        """Ctrl-C ends it; running it again goes on where it was."""
        count = 600
        self.store(many("REINDEX", 0, count))
        self.loseIndex()
        with closing(psycopg2.connect(self.server.database)) as other:
            # The turn to write is ours: nothing is entered meanwhile.
            other.cursor().execute("SELECT pg_advisory_lock(360, 1)")
            # As from a terminal: an interrupt of a background job is ignored.
            process = subprocess.Popen(
                self.server.ctlCommand("reindex"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=lambda: signal.signal(
                    signal.SIGINT, signal.default_int_handler
                ),
            )
            self.addCleanup(process.wait, PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while self.server.get("/api/reindex")["progress"] is None:
                self.assertLess(time.monotonic(), deadline)
            os.kill(process.pid, signal.SIGINT)
            # Until the server has heard of it: only what it had begun is entered.
            time.sleep(1)
        output, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 1, output)
        self.assertIn("stopped; run it again to go on", output)
        self.assertNotIn("Traceback", output)
        entered = self.server.entered()
        progress = self.reindex()
        self.assertEqual(progress["unchanged"], entered)
        self.assertEqual(progress["added"], count - entered)
        self.assertEqual(self.server.entered(), count)

    def test_whileStoring(self) -> None:
        """It runs beside the modalities' work, which it does not disturb."""
        self.store(many("REINDEX", 0, 50))
        self.loseIndex()
        process = subprocess.Popen(
            self.server.ctlCommand("reindex"), stderr=subprocess.DEVNULL
        )
        self.addCleanup(process.wait, PATIENCE)
        self.store(many("REINDEX", 50, 50))
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(self.server.entered(), 100)
        self.assertEqual(self.reindex()["unchanged"], 100)


class StatusTests(SynchronousTestCase):
    """C{d360ctl status}."""

    def setUp(self) -> None:
        self.server = RunningServer(Path(self.mktemp()).absolute())
        self.addCleanup(self.server.stop)

    def test_status(self) -> None:
        """What is there, for people and for scripts."""
        self.server.start()
        self.assertEqual(set(send(self.server, instances())), {0})
        output = self.server.ctl("status").output
        self.assertRegex(output, r"^D360 \d+\.\d+\S*, D360PACS\n")
        self.assertIn("  associations  0 open, 1 since the start\n", output)
        self.assertRegex(output, r"  database      embedded PostgreSQL 18\.\d+\n")
        self.assertRegex(
            output,
            r"  stored        6 patients, 7 studies, 8 series, 9 instances, \d",
        )
        self.assertRegex(output, r"  disk          [\d.]+ .iB of [\d.]+ .iB free\n")
        for arguments in (("--json", "status"), ("status", "--json")):
            answer = self.server.ctl(*arguments)
            self.assertEqual(answer.status, 0)
            decoded = json.loads(answer.output)
            self.assertEqual(decoded["counts"]["studies"], 7)
            self.assertEqual(decoded["ae_title"], "D360PACS")

    def test_noServer(self) -> None:
        """One clear line, and exit status 1."""
        url = f"http://127.0.0.1:{freePort()}"
        for command in ("status", "reindex"):
            done = subprocess.run(
                [sys.executable, "-m", "d360.admin.ctl", "--url", url, command],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stdout, "")
            (line,) = done.stderr.splitlines()
            self.assertIn(f"no D360 answers at {url}", line)

    def test_token(self) -> None:
        """With C{web.token} set, each call needs it."""
        self.server.folder.mkdir(parents=True)
        path = self.server.folder / "d360.toml"
        path.write_text('[web]\ntoken = "secret"\n')
        self.server = RunningServer(self.server.folder, f"--config={path}")
        self.addCleanup(self.server.stop)
        self.server.start()
        answer = self.server.ctl("status")
        self.assertEqual(answer.status, 1)
        self.assertIn("token", answer.output)
        self.assertEqual(self.server.ctl("--token", "wrong", "status").status, 1)
        self.assertEqual(self.server.ctl("--token", "secret", "status").status, 0)
        self.assertEqual(self.server.ctl("status", "--token=secret").status, 0)
        self.assertNotIn("secret", self.server.logged())
