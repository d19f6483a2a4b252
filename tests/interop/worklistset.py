"""
A made worklist to query, as JSON by keyword: in D360, and as the files that
DCMTK's C{wlmscpfs} reads.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from d360.services.worklistitems import readKeywords
from tests.interop.running import HOST, PATIENCE, RunningServer, dcmtk, freePort

ROOT = "1.2.826.0.1.3680043.9.7433.9"


def item(number: int, start: str, station: str, **values: Any) -> dict[str, Any]:
    """
    An item with one step.

    @param start: date and time of the step.
    @param values: further attributes; those of the step under C{step}.
    """
    day, clock = start.split()
    step = {
        "Modality": station[:2],
        "ScheduledStationAETitle": station,
        "ScheduledProcedureStepStartDate": day,
        "ScheduledProcedureStepStartTime": clock,
        "ScheduledProcedureStepDescription": f"Step {number}",
        "ScheduledProcedureStepID": f"SPS{number}",
        "ScheduledStationName": f"{station}NAME",
        "ScheduledProcedureStepLocation": "Ground floor",
        **values.pop("step", {}),
    }
    return {
        "StudyInstanceUID": f"{ROOT}.{number}",
        "RequestedProcedureID": f"RP{number}",
        "RequestedProcedureDescription": f"Procedure {number}",
        "ScheduledProcedureStepSequence": [step],
        **values,
    }


def items() -> list[dict[str, Any]]:
    """All of them; each step has a Scheduled Procedure Step ID of its own."""
    rossi = {"PatientName": "Rossi^Anna", "PatientID": "P1", "PatientSex": "F"}
    rossi |= {"PatientBirthDate": "19600229", "PatientWeight": "61.5"}
    muller = {"PatientName": "Müller^Jörg", "PatientID": "P2", "PatientSex": "M"}
    muller |= {"PatientBirthDate": "19701231", "AccessionNumber": "A2"}
    house = {"ScheduledPerformingPhysicianName": "House^Gregory"}
    return [
        item(1, "20260301 080000", "CT01", **rossi, AccessionNumber="A1", step=house),
        item(2, "20260301 093000", "CT01", **muller, AdmissionID="ADM2"),
        item(3, "20260301 180000", "MR01", **rossi, AccessionNumber="A3",
             RequestedProcedurePriority="STAT"),
        item(4, "20260302 000000", "MR01", PatientName="Rossini^Gioachino",
             PatientID="P4", PatientSex="M", AccessionNumber="A4",
             ReferringPhysicianName="Verdi^Giuseppe", step=house),
        item(5, "20260302 235959", "CT02", PatientName="Verdi^Giulia",
             PatientID="P_5", PatientSex="F", PatientBirthDate="19800101",
             RequestingPhysician="Neri^Ugo", AccessionNumber="100%"),
        item(6, "20260303 101530.25", "US01", PatientName="O'Neill^Brigid",
             PatientID="PX5", PatientSex="O", AccessionNumber="A6",
             RequestedProcedurePriority="ROUTINE"),
        item(7, "20260304 1200", "CT01", PatientName="Rossi",
             PatientID="P7", AccessionNumber="A7",
             PatientComments="Two\r\nlines", Allergies=["Latex", "Iodine"]),
        item(8, "20260305 120000", "XA01", PatientName="Bianchi^Maria^Anna",
             PatientID="p1", PatientSex="F", PatientBirthDate="19600301",
             AccessionNumber="A8", RequestedProcedureCodeSequence=[{
                 "CodeValue": "HEAD", "CodingSchemeDesignator": "99D360",
                 "CodeMeaning": "Head"}]),
    ]  # fmt: skip


def beyond() -> list[dict[str, Any]]:
    """What C{wlmscpfs} does not take: several steps, other character sets."""
    japanese = item(
        20,
        "20260401 080000",
        "CT09",
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        PatientID="J1",
    )
    polish = item(
        21, "20260402 080000", "MR09", PatientName="Łukasiewicz^Żaneta", PatientID="J2"
    )
    (first,) = polish["ScheduledProcedureStepSequence"]
    second = {
        **first,
        "ScheduledStationAETitle": ["MR08", "MR09"],
        "ScheduledProcedureStepStartDate": "20260403",
        "ScheduledProcedureStepID": "SPS22",
        "ScheduledPerformingPhysicianName": "Żuk^Łucja",
        "ScheduledProtocolCodeSequence": [
            {"CodeValue": "A", "CodeMeaning": "Eins"},
            {"CodeValue": "B", "CodeMeaning": "Zwei"},
        ],
    }
    polish["ScheduledProcedureStepSequence"] = [first, second]
    return [japanese, polish]


def schedule(server: RunningServer, bodies: Iterable[dict[str, Any]]) -> None:
    """Add items to a server, by HTTP."""
    for body in bodies:
        request = urllib.request.Request(
            f"{server.web}/api/worklist",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            response.read()


def asFile(body: dict[str, Any], path: Path, characterSet: str = "ISO_IR 100") -> None:
    """A DICOM file of an item."""
    dataset = Dataset.from_json(json.dumps(readKeywords(body)))
    dataset.SpecificCharacterSet = characterSet
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    meta.MediaStorageSOPInstanceUID = f"{dataset.StudyInstanceUID}.1"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.file_meta = meta
    dcmwrite(path, dataset, enforce_file_format=True)


class WlmscpfsServer:
    """
    DCMTK's worklist server, over files of these items.

    @param options: further ones of its command line.
    """

    aeTitle = "D360PACS"

    def __init__(
        self, folder: Path, bodies: Iterable[dict[str, Any]], *options: str
    ) -> None:
        files = folder / self.aeTitle
        files.mkdir(parents=True)
        (files / "lockfile").touch()
        for number, body in enumerate(bodies):
            asFile(body, files / f"{number}.wl")
        self.port = freePort()
        command = [dcmtk("wlmscpfs"), "-s", "-dfp", str(folder), *options]
        with open(folder / "output.log", "wb") as output:
            self.process = subprocess.Popen(
                [*command, str(self.port)], stdout=output, stderr=output
            )
        echo = [dcmtk("echoscu"), "-aec", self.aeTitle, HOST, str(self.port)]
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(echo, capture_output=True).returncode:
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((folder / "output.log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
