"""
Real files of many kinds, from pydicom and pydicom-data: sent by storescu, each
in its own transfer syntax, kept byte for byte, and found at each level.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from attrs import frozen
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pynetdicom import _config
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind as PatientRoot,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as StudyRoot,
)
from twisted.trial.unittest import SynchronousTestCase

from d360.services.sopclasses import STORAGE
from tests.interop.files import PLACES
from tests.interop.running import HOST, PATIENCE, RunningServer, dcmtk, freePort
from tests.interop.scu import associated

#: DCMTK's programs wait for each other's acknowledgements otherwise.
NO_DELAY = dict(os.environ, TCP_NODELAY="1")

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

#: What makes storescu propose a transfer syntax.
PROPOSE = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
}


@frozen
class RealFile:
    """A file with a storage SOP class of the conformance statement."""

    path: Path
    study: str
    series: str
    instance: str
    sopClass: str
    transferSyntax: str


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword, "") or "")


def storageFiles() -> list[RealFile]:
    """All of them, also those without File Meta Information."""
    found = []
    for place in PLACES:
        for path in sorted(place.rglob("*")):
            if not path.is_file() or path.suffix in (".py", ".pyc", ".json", ".txt"):
                continue
            try:
                dataset = dcmread(path, force=True, stop_before_pixels=True)
                sopClass = _text(dataset, "SOPClassUID") or _text(
                    read_file_meta_info(path), "MediaStorageSOPClassUID"
                )
            except Exception:
                continue
            if sopClass not in STORAGE:
                continue
            found.append(
                RealFile(
                    path,
                    _text(dataset, "StudyInstanceUID"),
                    _text(dataset, "SeriesInstanceUID"),
                    _text(dataset, "SOPInstanceUID"),
                    sopClass,
                    _text(dataset.file_meta, "TransferSyntaxUID"),
                )
            )
    return found


def dataSetOf(path: Path) -> bytes:
    """The bytes behind the File Meta Information of a Part 10 file."""
    data = path.read_bytes()
    assert data[128:132] == b"DICM"
    assert data[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return data[144 + int.from_bytes(data[140:144], "little") :]


#: Files that storescu sends and that cannot be stored: the status and why.
REFUSED = {
    "JPEGLSNearLossless_08.dcm": ("C000", "StudyInstanceUID is missing"),
    "JPEGLSNearLossless_16.dcm": ("C000", "StudyInstanceUID is missing"),
    "SC_rgb_jls_lossy_line.dcm": ("C000", "StudyInstanceUID is missing"),
    "SC_rgb_jls_lossy_sample.dcm": ("C000", "StudyInstanceUID is missing"),
    "bad_sequence.dcm": ("C000", "Affected SOP Instance UID is no valid UID"),
}

#: Files that storescu cannot read or finds no UID in, so that it sends nothing.
#: What they get when their bytes are sent as they are stands in L{RAW}.
UNREADABLE = frozenset(
    {
        "DICOMDIR",
        "DICOMDIR-bigEnd",
        "DICOMDIR-empty.dcm",
        "DICOMDIR-implicit",
        "DICOMDIR-nooffset",
        "DICOMDIR-nopatient",
        "DICOMDIR-reordered",
        "MR_truncated.dcm",
        "SC_rgb_jpeg.dcm",
        "UN_sequence.dcm",
        "emri_small_jpeg_2k_lossless_too_short.dcm",
        "explicit_VR-UN.dcm",
        "no_meta_group_length.dcm",
        "priv_SQ.dcm",
        "rtdose_rle.dcm",
        "rtdose_rle_1frame.dcm",
        "rtplan_truncated.dcm",
    }
)

_MISSING = ("C000", "StudyInstanceUID is missing")
_DIFFER = ("A900", "SOP Instance UID of command and data set differ")

#: The status of those that cannot be stored when their bytes are sent as they
#: are, and why. The command has the SOP Instance UID of the File Meta
#: Information, which in some of them is not the data set's.
RAW = {
    "DICOMDIR": _MISSING,
    "DICOMDIR-bigEnd": _MISSING,
    "DICOMDIR-empty.dcm": _MISSING,
    "DICOMDIR-implicit": _MISSING,
    "DICOMDIR-nooffset": _MISSING,
    "DICOMDIR-nopatient": _MISSING,
    "DICOMDIR-reordered": _MISSING,
    "JPEGLSNearLossless_08.dcm": _MISSING,
    "JPEGLSNearLossless_16.dcm": _MISSING,
    "SC_rgb_jls_lossy_line.dcm": _MISSING,
    "SC_rgb_jls_lossy_sample.dcm": _MISSING,
    "UN_sequence.dcm": _MISSING,
    "no_meta_group_length.dcm": _MISSING,
    "priv_SQ.dcm": _MISSING,
    "bad_sequence.dcm": ("C000", "StudyInstanceUID is no valid UID"),
    "MR_truncated.dcm": ("C000", "Data set is truncated"),
    "badVR.dcm": _DIFFER,
    "rtdose.dcm": _DIFFER,
    "rtdose_1frame.dcm": _DIFFER,
    "rtdose_expb.dcm": _DIFFER,
    "rtdose_expb_1frame.dcm": _DIFFER,
    "rtplan.dcm": _DIFFER,
    "rtplan_truncated.dcm": _DIFFER,
}


class RealFilesTests(SynchronousTestCase):
    """Storage of what modalities really make (PS3.4 B, conformance 6)."""

    server: RunningServer

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        self.server = RunningServer(folder / "server")
        self.server.start()
        self.addCleanup(self.server.stop)
        self.reference = Reference(folder / "reference")
        self.addCleanup(self.reference.stop)
        #: What is stored by now, the last of each SOP Instance UID.
        self.stored: dict[str, RealFile] = {}

    def kept(self, file: RealFile) -> bytes:
        """The data set that the archive has of it; the one it replaced goes."""
        pattern = f"??/{file.study}/{file.series}/{file.instance}*.dcm"
        archive = self.server.folder / "data" / "archive"
        deadline = time.monotonic() + PATIENCE
        while True:
            paths = list(archive.glob(pattern))
            if len(paths) == 1 or time.monotonic() > deadline:
                (path,) = paths
                return dataSetOf(path)
            time.sleep(0.01)

    def test_storescu(self) -> None:
        """
        storescu sends each file in its own transfer syntax; what is kept is
        what DCMTK's own bit-preserving server receives of the same file.
        """
        unreadable, refused = set(), {}
        for file in storageFiles():
            arguments = ["-R", PROPOSE[file.transferSyntax or EXPLICIT], str(file.path)]
            answer = self.server.store(*arguments)
            name = file.path.name
            if "Sending Store Request" not in answer.output:
                unreadable.add(name)
            elif "Store Response (Success)" in answer.output:
                self.assertEqual(
                    self.kept(file), self.reference.received(arguments), name
                )
                self.stored[file.instance] = file
            else:
                refused[name] = self.lastRefusal()
        self.assertEqual(refused, REFUSED)
        self.assertEqual(unreadable, UNREADABLE)
        self.assertGreater(len(self.stored), 100)
        self.assertFound()
        self.server.stop()
        self.server.start()
        self.assertFound()

    def test_asTheyAre(self) -> None:
        """
        A client that sends a file's bytes as they are finds the same bytes
        kept, or gets a status.
        """
        self.patch(_config, "STORE_SEND_CHUNKED_DATASET", True)
        files = [file for file in storageFiles() if file.transferSyntax]
        contexts = sorted({(file.sopClass, file.transferSyntax) for file in files})
        refused = {}
        with associated(self.server, contexts) as association:
            for count, file in enumerate(files, 1):
                # The data set of the file is sent without being decoded.
                if association.send_c_store(file.path).Status == 0:
                    self.assertEqual(self.kept(file), dataSetOf(file.path), file.path)
                    self.stored[file.instance] = file
                else:
                    refused[file.path.name] = self.lastRefusal(count)
        self.assertEqual(refused, RAW)
        self.assertFound()

    def lastRefusal(self, count: int = 1) -> tuple[str, str]:
        """
        Status and Error Comment of the last C-STORE, from the log.

        @param count: how many there were; the answer comes before its line.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            found = re.findall(r"answered (\w{4}) (.*?) *after", self.server.logged())
            if len(found) >= count or time.monotonic() > deadline:
                return found[-1]
            time.sleep(0.01)

    def assertFound(self) -> None:
        """All that is stored is found, each at each level."""
        contexts = [(StudyRoot, IMPLICIT), (PatientRoot, IMPLICIT)]
        with associated(self.server, contexts) as association:
            self._assertFound(association)

    def _assertFound(self, association: Any) -> None:
        def find(model: str, level: str, **keys: str) -> list[Dataset]:
            identifier = Dataset()
            identifier.QueryRetrieveLevel = level
            for keyword, value in keys.items():
                setattr(identifier, keyword, value)
            responses = list(association.send_c_find(identifier, model))
            self.assertEqual(responses[-1][0].Status, 0)
            self.assertEqual({s.Status for s, _ in responses[:-1]} - {0xFF00}, set())
            return [found for _, found in responses[:-1]]

        studies = {file.study for file in self.stored.values()}
        series = {(file.study, file.series) for file in self.stored.values()}
        for uid in studies:
            (study,) = find(
                StudyRoot,
                "STUDY",
                StudyInstanceUID=uid,
                NumberOfStudyRelatedInstances="",
                NumberOfStudyRelatedSeries="",
                PatientID="",
                ModalitiesInStudy="",
            )
            inStudy = [f for f in self.stored.values() if f.study == uid]
            self.assertEqual(study.NumberOfStudyRelatedInstances, len(inStudy), uid)
            self.assertEqual(
                study.NumberOfStudyRelatedSeries, len({f.series for f in inStudy})
            )
            if study.PatientID:
                (patient,) = find(PatientRoot, "PATIENT", PatientID=study.PatientID)
                self.assertEqual(patient.PatientID, study.PatientID)
        for studyUID, uid in series:
            (found,) = find(
                StudyRoot,
                "SERIES",
                StudyInstanceUID=studyUID,
                SeriesInstanceUID=uid,
                Modality="",
                NumberOfSeriesRelatedInstances="",
            )
            instances = [f for f in self.stored.values() if f.series == uid]
            self.assertEqual(found.NumberOfSeriesRelatedInstances, len(instances))
            images = find(
                StudyRoot,
                "IMAGE",
                StudyInstanceUID=studyUID,
                SeriesInstanceUID=uid,
                SOPInstanceUID="",
                SOPClassUID="",
                InstanceNumber="",
            )
            self.assertEqual(
                sorted(i.SOPInstanceUID for i in images),
                sorted(f.instance for f in instances),
            )
            for image in images:
                file = self.stored[image.SOPInstanceUID]
                original = dcmread(file.path, force=True, stop_before_pixels=True)
                self.assertEqual(image.SOPClassUID, file.sopClass)
                self.assertEqual(
                    image.InstanceNumber, original.get("InstanceNumber"), file.path
                )
                self.assertEqual(found.Modality, original.get("Modality", ""))


class Reference:
    """DCMTK's storescp, which keeps data sets bit by bit."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = freePort()
        self._process = subprocess.Popen(
            [dcmtk("storescp"), "+B", "+xa", "-od", str(folder), str(self._port)],
            stderr=subprocess.DEVNULL,
            env=NO_DELAY,
        )
        deadline = time.monotonic() + PATIENCE
        echo = [dcmtk("echoscu"), HOST, str(self._port)]
        while subprocess.run(echo, capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError("storescp does not answer")
            time.sleep(0.05)

    def received(self, arguments: list[str]) -> bytes:
        """The data set that it receives from storescu."""
        command = [dcmtk("storescu"), HOST, str(self._port), *arguments]
        subprocess.run(command, check=True, capture_output=True, env=NO_DELAY)
        (path,) = self._folder.iterdir()
        data = dataSetOf(path)
        path.unlink()
        return data

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
