"""Tests for L{d360.admin.ctlworklist}."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from d360.admin import ctl
from tests.admin.test_ctl import CtlTestCase

POST = "POST /api/worklist"
STEPS = "ScheduledProcedureStepSequence"

#: The beginning of a DICOM file.
FILE = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00"

ITEM = {
    "id": "a1",
    "version": 2,
    "PatientName": "Rossi^Anna",
    "PatientID": "1",
    STEPS: [
        {
            "Modality": "CT",
            "ScheduledStationAETitle": ["CT01", "CT02"],
            "ScheduledProcedureStepStartDate": "20260101",
            "ScheduledProcedureStepStartTime": "0900",
        },
        {"Modality": "MR"},
    ],
}

LIST = """\
ID  DATE      TIME  STATION    MODALITY  PATIENT ID  PATIENT NAME  ACCESSION
a1  20260101  0900  CT01\\CT02  CT        1           Rossi^Anna
a1                             MR        1           Rossi^Anna
b2                                       2           山田          A?[31m
"""

SHOWN = """\
id: a1
version: 2
PatientName: Rossi^Anna
PatientID: 1
ScheduledProcedureStepSequence, item 1
  Modality: CT
  ScheduledStationAETitle: CT01\\CT02
  ScheduledProcedureStepStartDate: 20260101
  ScheduledProcedureStepStartTime: 0900
ScheduledProcedureStepSequence, item 2
  Modality: MR
"""


class WorklistCtlTestCase(CtlTestCase):
    """Runs C{d360ctl worklist} in this process."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def answer(self, call: str, *answers: Any) -> None:
        """What the server says to one call after the other."""
        self.connections.answers[call] = list(answers)

    def file(self, name: str, content: Any) -> str:
        """The path of a file."""
        path = self.folder / name
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        path.write_bytes(content)
        return str(path)

    def sent(self) -> list[tuple[Any, str]]:
        """What was posted, and its content type."""
        return [
            (body, headers["Content-Type"])
            for call, body, headers in self.connections.calls
            if call == POST
        ]


class AddTests(WorklistCtlTestCase):
    """C{d360ctl worklist add}."""

    def test_words(self) -> None:
        """One item; what belongs to a step goes into its step."""
        self.answer(POST, (201, {"id": "a1"}))
        status, output, errors = self.run_(
            "worklist",
            "add",
            "PatientName=Rossi^Anna",
            "PatientComments=a=b\\c",
            "AccessionNumber=",
            "Modality=CT",
            f"{STEPS}.ScheduledStationAETitle=CT01\\CT02",
            "ScheduledProtocolCodeSequence.CodeValue=1",
            "RequestedProcedureCodeSequence.CodeValue=2",
            "RequestedProcedureCodeSequence.CodeMeaning=Head",
            "PatientColour=red",
        )
        self.assertEqual(
            (status, output, errors), (0, "the command line: added, id a1\n", "")
        )
        ((body, kind),) = self.sent()
        self.assertEqual(kind, "application/json")
        self.assertEqual(
            body,
            {
                "PatientName": "Rossi^Anna",
                "PatientComments": "a=b\\c",
                "AccessionNumber": "",
                "RequestedProcedureCodeSequence": [
                    {"CodeValue": "2", "CodeMeaning": "Head"}
                ],
                "PatientColour": "red",
                STEPS: [
                    {
                        "Modality": "CT",
                        "ScheduledStationAETitle": ["CT01", "CT02"],
                        "ScheduledProtocolCodeSequence": [{"CodeValue": "1"}],
                    }
                ],
            },
        )

    def test_badWords(self) -> None:
        """Nothing is sent."""
        path = self.file("a.json", {})
        for arguments, words in (
            (("PatientID=1", "PatientID=2"), "PatientID is given twice"),
            (("Modality=1", f"{STEPS}.Modality=2"), "Modality is given twice"),
            (("Modality=1", f"{STEPS}=2"), f"{STEPS} is given twice"),
            (("PatientID=1", "PatientID.X=2"), "PatientID is no sequence"),
            (("PatientID=1", path), "not both"),
            (("-", "-"), "once only"),
            ((), "--help"),
        ):
            self.assertIn(words, self.refused("worklist", "add", *arguments))
        self.assertEqual(self.connections.opened, 0)

    def test_files(self) -> None:
        """Each in its form; a list has several; what C{list --json} gave too."""
        model = {"00100020": {"vr": "LO", "Value": ["1"]}}
        paths = [
            self.file("a.json", {"PatientID": "1"}),
            self.file("b.json", model),
            self.file("c.wl", FILE),
            self.file("d.dcm", b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"),
            self.file("e.json", [{"PatientID": "5"}, model]),
            self.file("f.json", {"items": [ITEM]}),
        ]
        self.answer(POST, *((201, {"id": str(n)}) for n in range(7)))
        status, output, errors = self.run_("worklist", "add", *paths)
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(len(output.splitlines()), 7)
        self.assertIn(f"{paths[4]}, item 2: added, id 5\n", output)
        copy = {key: ITEM[key] for key in ITEM if key not in ("id", "version")}
        self.assertEqual(
            self.sent(),
            [
                ({"PatientID": "1"}, "application/json"),
                (model, "application/dicom+json"),
                (FILE, "application/dicom"),
                (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", "application/dicom"),
                ({"PatientID": "5"}, "application/json"),
                (model, "application/dicom+json"),
                (copy, "application/json"),
            ],
        )

    def test_standardInput(self) -> None:
        """C{-}, whatever the form."""
        for data, kind in (
            (b' {"PatientID": "1"}', "application/json"),
            (FILE, "application/dicom"),
        ):
            self.patch(ctl.sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            self.answer(POST, (201, {"id": "a1"}))
            status, output, _ = self.run_("worklist", "add", "-")
            self.assertEqual((status, output), (0, "standard input: added, id a1\n"))
            self.assertEqual(self.sent()[-1][1], kind)

    def test_badFiles(self) -> None:
        """One that cannot be read is named with the reason."""
        for content, words in (
            (b"", "it is empty"),
            (b"\n", "it is empty"),
            (b"{", "not valid JSON"),
            (b"[" * 100000, "not valid JSON"),
            (b'{"x": "\xff"}', "not valid JSON"),
            (b"[1]", "not a JSON object"),
            (b"PatientID: 1\n", "neither JSON nor a DICOM file"),
        ):
            path = self.file("bad", content)
            line = self.refused("worklist", "add", path)
            self.assertIn(f"{path}: ", line)
            self.assertIn(words, line)
        line = self.refused("worklist", "add", "no-such-file")
        self.assertIn("no-such-file: No such file", line)
        self.assertIn("Is a directory", self.refused("worklist", "add", "."))
        self.assertEqual(self.connections.opened, 0)

    def test_partly(self) -> None:
        """The others are added all the same; the exit status is 1."""
        paths = [self.file(f"{n}.json", {"PatientID": n}) for n in "abc"]
        paths.insert(1, "missing.json")
        refusal = 400, {"error": "PatientID: too long"}
        for option in ((), ("--json",)):
            self.answer(POST, (201, {"id": "1"}), refusal, (201, {"id": "3"}))
            status, output, errors = self.run_("worklist", "add", *paths, *option)
            self.assertEqual(status, 1)
            self.assertEqual(
                errors.splitlines(),
                [
                    "d360ctl: missing.json: No such file or directory",
                    f"d360ctl: {paths[2]}: PatientID: too long",
                    "d360ctl: 2 of 4 failed",
                ],
            )
        done = json.loads(output)
        self.assertEqual(
            done,
            {
                "added": [
                    {"source": paths[0], "id": "1"},
                    {"source": paths[3], "id": "3"},
                ],
                "failed": [
                    {"source": "missing.json", "reason": "No such file or directory"},
                    {"source": paths[2], "reason": "PatientID: too long"},
                ],
            },
        )

    def test_refused(self) -> None:
        """Of one item, one line."""
        self.answer(POST, (400, {"error": "PatientID: missing"}))
        line = self.refused("worklist", "add", "PatientName=x")
        self.assertEqual(line, "d360ctl: the command line: PatientID: missing")

    def test_hopeless(self) -> None:
        """What holds for all is said once, and the others are not tried."""
        paths = [self.file(f"{n}.json", {"PatientID": n}) for n in "abc"]
        for answer in (
            ConnectionRefusedError("refused"),
            (401, {"error": "give the token"}),
            (429, {"error": "too many wrong tokens came from 192.0.2.7: wait 4 s"}),
            (503, {"error": "the database is not available"}),
        ):
            self.answer(POST, answer)
            self.refused("worklist", "add", *paths)

    def test_hopelessThen(self) -> None:
        """A script is told what was done before."""
        paths = [self.file(f"{n}.json", {"PatientID": n}) for n in "abc"]
        self.answer(POST, (201, {"id": "1"}), ConnectionRefusedError("refused"))
        status, output, errors = self.run_("worklist", "add", "--json", *paths)
        self.assertEqual(status, 1)
        self.assertIn("no D360 answers", errors)
        done = json.loads(output)
        self.assertEqual(done["added"], [{"source": paths[0], "id": "1"}])
        (failure,) = done["failed"]
        self.assertEqual(failure["source"], paths[1])
        self.answer("DELETE /api/worklist/a", (204, b""))
        self.answer("DELETE /api/worklist/b", (503, {"error": "away"}))
        status, output, errors = self.run_("worklist", "remove", "--json", *"abc")
        self.assertEqual((status, errors), (1, "d360ctl: away\n"))
        self.assertEqual(
            json.loads(output),
            {"removed": ["a"], "failed": [{"source": "b", "reason": "away"}]},
        )


class ListTests(WorklistCtlTestCase):
    """C{d360ctl worklist list}."""

    first = "GET /api/worklist?limit=1000"

    def test_list(self) -> None:
        """A line for each step; nothing that a terminal would obey."""
        other = {
            "id": "b2",
            "PatientID": "2",
            "PatientName": "山田",
            "AccessionNumber": "A\x1b[31m",
            STEPS: [{}],
        }
        self.answer(self.first, (200, {"items": [ITEM, other], "next": None}))
        self.assertEqual(self.run_("worklist", "list"), (0, LIST, ""))

    def test_pages(self) -> None:
        """All of them, however many there are."""
        for option in ((), ("--json",)):
            self.answer(self.first, (200, {"items": [ITEM], "next": "a1"}))
            self.answer(
                f"{self.first}&after=a1", (200, {"items": [ITEM], "next": None})
            )
            status, output, errors = self.run_("worklist", "list", *option)
            self.assertEqual((status, errors), (0, ""))
        self.assertEqual(json.loads(output), {"items": [ITEM, ITEM]})

    def test_goneMeanwhile(self) -> None:
        """Where the item to go on behind is removed, it begins again."""
        first = "GET /api/worklist?limit=1000"
        page = 200, {"items": [ITEM], "next": "a1"}
        self.answer(first, page, (200, {"items": [ITEM], "next": None}))
        gone = 409, {"error": "the item to go on behind is gone"}
        self.answer(f"{first}&after=a1", gone)
        status, output, errors = self.run_("worklist", "list", "--json")
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(json.loads(output), {"items": [ITEM]})
        self.answer(first, *[page] * 9)
        self.answer(f"{first}&after=a1", *[gone] * 9)
        self.assertIn("is gone", self.refused("worklist", "list", "--json"))

    def test_filters(self) -> None:
        """They go as they are; the sequence may be named."""
        call = "GET /api/worklist?PatientName=ros%2A&Modality=CT&limit=1000"
        self.answer(call, (200, {"items": [], "next": None}))
        words = ("PatientName=ros*", f"{STEPS}.Modality=CT")
        status, output, errors = self.run_("worklist", "list", *words)
        self.assertEqual((status, output, errors), (0, "", "there are none\n"))
        for words, reason in (
            (("CT",), "'CT' is no filter"),
            (("Modality=CT", "Modality=MR"), "Modality is given twice"),
        ):
            self.assertIn(reason, self.refused("worklist", "list", *words))

    def test_refused(self) -> None:
        """The server's reason."""
        call = "GET /api/worklist?X=1&limit=1000"
        self.answer(call, (400, {"error": "X: unknown"}))
        self.assertEqual(self.refused("worklist", "list", "X=1"), "d360ctl: X: unknown")


class OneTests(WorklistCtlTestCase):
    """C{d360ctl worklist show} and C{remove}."""

    def test_show(self) -> None:
        """Each attribute, or JSON."""
        for option, shown in (((), SHOWN), (("--json",), json.dumps(ITEM) + "\n")):
            self.answer("GET /api/worklist/a1", (200, ITEM))
            self.assertEqual(
                self.run_("worklist", "show", "a1", *option), (0, shown, "")
            )
        self.answer("GET /api/worklist/..%2Fx", (404, {"error": "no such item"}))
        line = self.refused("worklist", "show", "../x")
        self.assertEqual(line, "d360ctl: no such item")

    def test_remove(self) -> None:
        """Several; those that are not there are named."""
        self.answer("DELETE /api/worklist/a1", (204, b""), (204, b""))
        self.assertEqual(
            self.run_("worklist", "remove", "a1"), (0, "a1 is removed\n", "")
        )
        self.answer("DELETE /api/worklist/b2", (404, {"error": "no such item"}))
        status, output, errors = self.run_("worklist", "remove", "b2", "a1", "--json")
        self.assertEqual(status, 1)
        self.assertEqual(errors, "d360ctl: b2: no such item\nd360ctl: 1 of 2 failed\n")
        self.assertEqual(
            json.loads(output),
            {"removed": ["a1"], "failed": [{"source": "b2", "reason": "no such item"}]},
        )
        self.answer("DELETE /api/worklist/b2", ConnectionRefusedError("refused"))
        self.assertIn("no D360 answers", self.refused("worklist", "remove", "b2", "c"))

    def test_help(self) -> None:
        """With examples."""
        for command in ((), ("add",), ("list",), ("show",), ("remove",)):
            status, output, _ = self.run_("worklist", *command, "--help")
            self.assertEqual(status, 0)
            self.assertIn("d360ctl worklist add step.json", output)
