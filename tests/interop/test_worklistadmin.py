"""
The worklist of a running server as scripts and people keep it: by curl, by
C{d360ctl}, and from the files of DCMTK's wlmscpfs; and as a modality then sees
it.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import PATIENCE, RunningServer, dcmtk, readResponses

ITEM = {
    "PatientName": "Rossi^Anna",
    "PatientID": "1",
    "ScheduledProcedureStepSequence": [
        {
            "Modality": "CT",
            "ScheduledStationAETitle": "CT01",
            "ScheduledProcedureStepStartDate": "20260101",
        }
    ],
}

#: As DCMTK's own examples of worklist files are, see wlmscpfs.
DUMP = """\
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH [{number:05}]
(0010,0010) PN [VIVALDI^ANTONIO]
(0010,0020) LO [AV{number}]
(0010,0030) DA [16780304]
(0010,0040) CS [M]
(0020,000d) UI [1.2.276.0.7230010.3.2.{number}]
(0032,1032) PN [NEWMAN^ALFRED]
(0032,1060) LO [EXAM{number}]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [MR]
(0040,0001) AE [AA32]
(0040,0002) DA [19951015]
(0040,0003) TM [085607]
(0040,0006) PN [JOHNSON^ARTHUR]
(0040,0007) LO [EXAM{number}]
(0040,0009) SH [SPD{number}]
(0040,0010) SH [STN456]
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH [RP{number}]
(0040,1003) SH [HIGH]
"""


class WorklistAdminTests(SynchronousTestCase):
    """One server, one worklist."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.server = RunningServer(self.folder)
        self.addCleanup(self.server.stop)
        self.server.start()

    def curl(self, *arguments: str) -> Any:
        """What curl prints, decoded."""
        curl = shutil.which("curl")
        if curl is None:
            raise RuntimeError("curl is missing: apt-get install curl")
        done = subprocess.run(
            [curl, "-sS", *arguments], capture_output=True, timeout=PATIENCE
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return json.loads(done.stdout) if done.stdout else None

    def ctl(self, *arguments: str, status: int = 0) -> str:
        """What C{d360ctl worklist} says."""
        answer = self.server.ctl("worklist", *arguments)
        self.assertEqual(answer.status, status, answer.output)
        self.assertNotIn("Traceback", answer.output)
        return answer.output

    def seen(self, *keys: str) -> list[str]:
        """The patients that a modality sees, by C{findscu -W}."""
        arguments = ["-d", "-W", "-k", "PatientID"]
        for key in keys:
            arguments += ["-k", key]
        responses = readResponses(self.server.client("findscu", *arguments).output)
        self.assertEqual(responses.statuses[-1], "0000")
        return sorted(match["0010,0020"] for match in responses.matches)

    def test_curl(self) -> None:
        """One call puts it there, one takes it away; each is seen at once."""
        url = f"{self.server.web}/api/worklist"
        identifier = self.curl("-d", json.dumps(ITEM), url)["id"]
        station = "ScheduledProcedureStepSequence[0].ScheduledStationAETitle"
        self.assertEqual(self.seen(f"{station}=CT01"), ["1"])
        self.assertEqual(self.seen(f"{station}=CT02"), [])
        self.assertEqual(self.seen("PatientName=ROSSI*"), ["1"])
        found = self.curl(f"{url}?PatientName=ros*&Modality=CT")
        self.assertEqual([item["id"] for item in found["items"]], [identifier])
        # It is durable.
        self.server.stop(signal.SIGKILL)
        self.server.start()
        url = f"{self.server.web}/api/worklist"
        item = self.curl(f"{url}/{identifier}")
        self.assertEqual((item["version"], item["PatientID"]), (1, "1"))
        item["PatientID"] = "2"
        data = json.dumps(item)
        match = 'If-Match: "1"'
        now = self.curl("-X", "PUT", "-H", match, "-d", data, f"{url}/{identifier}")
        self.assertEqual(now["version"], 2)
        self.assertEqual(self.seen(), ["2"])
        refused = self.curl("-X", "DELETE", "-H", match, f"{url}/{identifier}")
        self.assertIn("version 2", refused["error"])
        self.assertIsNone(self.curl("-X", "DELETE", f"{url}/{identifier}"))
        self.assertEqual(self.seen(), [])
        self.assertNotIn("Rossi", self.server.logged())
        self.assertNotIn("ros*", self.server.logged())

    def test_curlBad(self) -> None:
        """A reason for each; nothing is kept."""
        url = f"{self.server.web}/api/worklist"
        for arguments, words in (
            (("-d", "{"), "not valid JSON"),
            (("-d", json.dumps({**ITEM, "PatientColour": "red"})), "PatientColour"),
            (("-d", json.dumps({**ITEM, "PatientID": "x" * 65})), "PatientID"),
            (("-H", "Content-Type: text/plain", "-d", "{}"), "application/json"),
            (("-H", "Origin: http://evil.example", "-d", "{}"), "evil.example"),
            (("-H", "Host: evil.example", "-d", "{}"), "evil.example"),
        ):
            self.assertIn(words, self.curl(*arguments, url)["error"])
        path = "..%2f..%2fetc%2fpasswd"
        answer = self.curl("--path-as-is", f"{url}/{path}")
        self.assertIn("no such", answer["error"])
        huge = self.folder / "huge"
        with huge.open("wb") as file:
            file.truncate(100_000_000)
        answer = self.curl("--data-binary", f"@{huge}", url)
        self.assertIn("at most", answer["error"])
        self.assertEqual(self.curl(url)["items"], [])
        self.assertNotIn("Traceback", self.server.logged())

    def worklistFiles(self, count: int) -> list[str]:
        """Files as wlmscpfs serves them."""
        paths = []
        for number in range(1, count + 1):
            dump = self.folder / f"{number}.dump"
            dump.write_text(DUMP.format(number=number))
            path = self.folder / f"{number}.wl"
            subprocess.run(
                [dcmtk("dump2dcm"), str(dump), str(path)],
                check=True,
                stderr=subprocess.DEVNULL,
            )
            paths.append(str(path))
        return paths

    def test_files(self) -> None:
        """C{.wl} files, whose attributes all come back."""
        paths = self.worklistFiles(3)
        bad = self.folder / "bad.json"
        bad.write_text('{"PatientID": "1"}')
        missing = str(self.folder / "missing.wl")
        said = self.ctl("add", *paths, str(bad), missing, status=1)
        self.assertIn(f"{paths[2]}: added, id ", said)
        self.assertIn("bad.json: PatientName", said)
        self.assertIn("missing.wl: No such file", said)
        self.assertIn("2 of 5 failed", said)
        self.assertEqual(self.seen("PatientName=Viv*"), ["AV1", "AV2", "AV3"])
        items = json.loads(self.ctl("list", "PatientID=AV2", "--json"))["items"]
        (item,) = items
        self.assertEqual(item["RequestingPhysician"], "NEWMAN^ALFRED")
        self.assertEqual(item["RequestedProcedurePriority"], "HIGH")
        (step,) = item["ScheduledProcedureStepSequence"]
        self.assertEqual(step["ScheduledStationName"], "STN456")
        again = self.ctl("add", paths[0], status=1)
        self.assertIn("1.wl: ", again)
        listing = self.ctl("list", "ScheduledProcedureStepStartDate=-19991231")
        self.assertEqual(len(listing.splitlines()), 4)
        self.assertIn("19951015  085607  AA32     MR        AV1", listing)
        # A copy of the list can be entered again.
        copy = self.folder / "copy.json"
        copy.write_text(self.ctl("list", "--json"))
        ids = [one["id"] for one in json.loads(copy.read_text())["items"]]
        self.assertIn("is removed", self.ctl("remove", *ids))
        self.assertEqual(self.seen(), [])
        self.ctl("add", str(copy))
        self.assertEqual(self.seen(), ["AV1", "AV2", "AV3"])

    def test_words(self) -> None:
        """From the command line and from standard input, shown and removed."""
        said = self.ctl(
            "add",
            "--json",
            "PatientName=Müller^Jörg=山田^太郎",
            "PatientID=7",
            "Modality=CT",
            "ScheduledStationAETitle=CT01",
            "ScheduledProcedureStepStartDate=20260101",
        )
        (added,) = json.loads(said)["added"]
        shown = self.ctl("show", added["id"])
        self.assertIn("PatientName: Müller^Jörg=山田^太郎\n", shown)
        self.assertIn("  ScheduledStationAETitle: CT01\n", shown)
        for name in ("mull*", "山田*"):
            self.assertIn(added["id"], self.ctl("list", f"PatientName={name}"))
        done = subprocess.run(
            self.server.ctlCommand("worklist", "add", "-"),
            input=json.dumps(ITEM),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.seen(), ["1", "7"])
        self.assertIn("no such", self.ctl("remove", "nothing", status=1))
        self.assertIn("X", self.ctl("list", "X=1", status=1))
        self.ctl("remove", added["id"])
        self.assertEqual(self.seen(), ["1"])

    def test_many(self) -> None:
        """A long list is shown whole, and whoever wants no more may go."""
        step = ITEM["ScheduledProcedureStepSequence"]
        items = [
            {**ITEM, "PatientID": f"P{n:04}", "ScheduledProcedureStepSequence": step}
            for n in range(1200)
        ]
        path = self.folder / "many.json"
        path.write_text(json.dumps(items))
        self.assertEqual(len(self.ctl("add", str(path)).splitlines()), 1200)
        listed = json.loads(self.ctl("list", "--json"))["items"]
        patients = {item["PatientID"] for item in listed}
        self.assertEqual((len(listed), len(patients)), (1200, 1200))
        command = self.server.ctlCommand("worklist", "list")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
