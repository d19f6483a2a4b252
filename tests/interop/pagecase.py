"""What the tests of the page in a browser share: a server with studies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.browser import Browser, sharedBrowser
from tests.interop.files import ct, rename
from tests.interop.running import (
    HOST,
    PATIENCE,
    RunningServer,
    dcmtk,
    freePort,
    sharedServer,
)

#: Names that would do something if they were ever read as HTML.
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src onerror^alert(1)>",
    '"><b onclick^x>',
)

#: Instances of Rossi's study, in two series.
INSTANCES = 12

#: Studies besides, so that they fill more than a page.
OTHERS = 55

#: A worklist item of one step.
ITEM: dict[str, Any] = {
    "PatientName": "Bianchi^Carla",
    "PatientID": "W1",
    "AccessionNumber": "W1",
    "RequestedProcedureDescription": "CT <i>Abdomen</i>",
    "PatientComments": "Walks\nwith a stick",
    "OtherPatientIDs": ["X1", "X2"],
    "ScheduledProcedureStepSequence": [
        {
            "Modality": "CT",
            "ScheduledStationAETitle": "CT01",
            "ScheduledProcedureStepStartDate": "20260201",
            "ScheduledProcedureStepStartTime": "083000",
            "ScheduledProcedureStepLocation": "Room 3",
        }
    ],
}


def makeFiles(folder: Path) -> None:
    """One study of two series, those of hostile names, and many of one file."""
    folder.mkdir(parents=True)
    dataset = ct()

    def save(name: str) -> None:
        rename(dataset)
        dataset.save_as(folder / f"{name}.dcm")

    def begin(number: int, name: str, day: str) -> None:
        dataset.StudyInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = generate_uid()
        dataset.PatientName = name
        dataset.PatientID = f"P{number:03}"
        dataset.AccessionNumber = f"A{number:03}"
        dataset.StudyDate = day
        dataset.StudyTime = "101530"
        dataset.StudyDescription = "Thorax"
        dataset.SeriesDescription = "Topogram"
        dataset.SeriesNumber = 1
        dataset.InstanceNumber = 1

    begin(1, "Rossi^Anna", "20260131")
    dataset.PatientBirthDate = "19611231"
    for number in range(INSTANCES):
        if number == INSTANCES // 2:
            dataset.SeriesInstanceUID = generate_uid()
            dataset.SeriesNumber = 2
            dataset.SeriesDescription = "Lung <b>1.0</b>"
        dataset.InstanceNumber = number + 1
        save(f"rossi-{number}")
    for number, name in enumerate(HOSTILE):
        begin(100 + number, name, "20250101")
        save(f"hostile-{number}")
    for number in range(OTHERS):
        begin(200 + number, f"Many^Number{number}", f"202402{number % 28 + 1:02}")
        save(f"many-{number}")


class PageTestCase(SynchronousTestCase):
    """Tests that look at a server's page; nothing may be wrong on the console."""

    browser: Browser
    server: RunningServer

    def setUp(self) -> None:
        self.browser = sharedBrowser()
        self.server = sharedServer("page")
        if not self.server.get("/api/studies")["studies"]:
            folder = Path(self.mktemp()).absolute()
            makeFiles(folder)
            answer = self.server.store("+sd", str(folder))
            self.assertEqual(answer.status, 0, answer.output)

    def tearDown(self) -> None:
        self.keepPicture("end")
        self.assertEqual(self.browser.problems(), [])

    def keepPicture(self, name: str) -> None:
        """For who wants to look: into the folder that D360_PICTURES names."""
        folder = os.environ.get("D360_PICTURES")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder, f"{self.id().partition('.test_')[2]}-{name}.png")
            self.browser.picture(path)

    def visit(self, place: str) -> None:
        """Open a view."""
        self.browser.visit(self.server.web, place)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """An HTTP call, behind the page's back."""
        request = urllib.request.Request(
            self.server.web + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            data = response.read()
            return json.loads(data) if data else None

    def study(self, keys: str) -> str:
        """The Study Instance UID of the one study that matches."""
        (study,) = self.server.get(f"/api/studies?{keys}")["studies"]
        return str(study["StudyInstanceUID"])

    def receiver(self, title: str, *options: str) -> None:
        """Have a storescp listen as a remote AE."""
        port = freePort()
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        process = subprocess.Popen(
            [dcmtk("storescp"), "--aetitle", title, *options, str(port)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.call("PUT", f"/api/aes/{title}", {"host": HOST, "port": port})
        self.addCleanup(self.forget, title)

    def forget(self, title: str) -> None:
        """Remove a remote AE, if it is there."""
        if any(one["aet"] == title for one in self.server.get("/api/aes")["aes"]):
            self.call("DELETE", f"/api/aes/{title}")
