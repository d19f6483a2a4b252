"""
C-MOVE as requestors and destinations meet it: DCMTK, GDCM, pynetdicom, a second
server, and peers that misbehave.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelMove as PatientRoot,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelMove as StudyRoot,
)

from tests.interop.files import makeCT, rename
from tests.interop.receivers import (
    ABORT_IT,
    HANG_UP,
    IMPATIENT,
    PATIENT_MOVE,
    SAY_NOTHING,
    STUDY_MOVE,
    Receiver,
    Requestor,
    RetrieveCase,
    Stored,
    StoreSCP,
    configuredServer,
    keys,
    received,
)
from tests.interop.running import HOST, PATIENCE, freePort
from tests.interop.scu import associated
from tests.interop.test_realfiles import dataSetOf, storageFiles
from tests.interop.wire import (
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    cancel,
    echo,
)

MR = "1.2.840.10008.5.1.4.1.1.4"


def program(name: str) -> str:
    """The path of one of GDCM's programs."""
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is missing: apt-get install libgdcm-tools")
    return path


class RequestorTests(RetrieveCase):
    """All levels of both models (PS3.4 C.4.2.2.1; conformance 8.2.2.1)."""

    def makePatient(self) -> tuple[str, dict[str, Path]]:
        """A patient with two studies of two series of two images."""
        folder = Path(self.mktemp()).absolute()
        patient = generate_uid()[-20:].replace(".", "-")
        files = {}
        for study in range(2):
            for number, path in enumerate(makeCT(folder / str(study), 4)):
                dataset = dcmread(path)
                dataset.PatientID = patient
                dataset.SeriesInstanceUID = (
                    f"{dataset.StudyInstanceUID}"[:50] + f".{number // 2 + 1}"
                )
                dataset.save_as(path)
                files[str(dataset.SOPInstanceUID)] = path
        self.store(*files.values())
        return patient, files

    def test_levels(self) -> None:
        """movescu to storescp; each time just what the keys select comes."""
        patient, files = self.makePatient()
        headers = {uid: dcmread(path) for uid, path in files.items()}
        one = next(iter(headers.values()))
        study, series = one.StudyInstanceUID, one.SeriesInstanceUID
        image = one.SOPInstanceUID

        def having(**values: str) -> set[str]:
            return {
                uid
                for uid, header in headers.items()
                if all(getattr(header, k) == v for k, v in values.items())
            }

        inStudy = having(StudyInstanceUID=study)
        inSeries = having(SeriesInstanceUID=series)
        two = sorted(inStudy)[:2]
        allStudies = "\\".join(sorted({h.StudyInstanceUID for h in headers.values()}))
        p, s = f"PatientID={patient}", f"StudyInstanceUID={study}"
        e, i = f"SeriesInstanceUID={series}", f"SOPInstanceUID={image}"
        for model, level, given, expected in (
            ("-P", "PATIENT", [p], set(files)),
            ("-P", "STUDY", [p, s], inStudy),
            ("-P", "SERIES", [p, s, e], inSeries),
            ("-P", "IMAGE", [p, s, e, i], {image}),
            ("-S", "STUDY", [s], inStudy),
            ("-S", "STUDY", [f"StudyInstanceUID={allStudies}"], set(files)),
            ("-S", "SERIES", [s, e], inSeries),
            ("-S", "SERIES", [e], inSeries),
            ("-S", "IMAGE", [s, e, i], {image}),
            ("-S", "IMAGE", ["SOPInstanceUID=" + "\\".join(two)], set(two)),
        ):
            receiver = StoreSCP(self, "+xa")
            self.register("LEVELS", receiver.port)
            (*pending, final) = self.movescu(
                "LEVELS",
                f"QueryRetrieveLevel={level}",
                *given,
                model=model,
                total=len(expected),
            )
            self.assertEqual(final.status, 0x0000, (model, level))
            self.assertEqual(final.counts, (None, len(expected), 0, 0))
            self.assertEqual(len(pending), len(expected) - 1)
            self.assertExact(receiver.files(), {uid: files[uid] for uid in expected})
            receiver.stop()

    def test_ownPort(self) -> None:
        """movescu is its own destination."""
        study, files = self.makeStudy(5)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        port = freePort()
        self.register("OWNPORT", port)
        (*_, final) = self.movescu(
            "OWNPORT",
            "QueryRetrieveLevel=STUDY",
            f"StudyInstanceUID={study}",
            total=5,
            options=["+P", str(port), "+B", "+xa"],
            cwd=folder,
        )
        self.assertEqual(final.status, 0x0000)
        self.assertExact(received(folder), files)

    def test_gdcmscu(self) -> None:
        """
        GDCM asks, storescp under its title receives; GDCM would wait for them
        itself.
        """
        study, files = self.makeStudy(3)
        receiver = StoreSCP(self, "+xa")
        self.register("GDCM", receiver.port)
        process = subprocess.Popen(
            [
                program("gdcmscu"),
                *("--move", "--studyroot", "--study", "--aetitle", "GDCM"),
                *("--call", self.server.aeTitle, "--port-scp", str(freePort())),
                *("-o", str(receiver.folder), "--key", f"20,d={study}"),
                *(HOST, str(self.server.port)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        answered = re.compile(r"C-MOVE 1: .* answered 0000")
        self.eventually(lambda: answered.search(self.logged()) is not None)
        self.assertExact(receiver.files(), files)

    def test_pynetdicom(self) -> None:
        """As requestor and as receiver, which is told who asked for it."""
        study, files = self.makeStudy(4)
        with pynetdicomSCP() as (port, got):
            self.register("PYNETDICOM_SCP", port)
            with associated(self.server, [(StudyRoot, IMPLICIT)]) as association:
                responses = [
                    status
                    for status, _ in association.send_c_move(
                        keys("STUDY", StudyInstanceUID=study),
                        "PYNETDICOM_SCP",
                        StudyRoot,
                        msg_id=4711,
                    )
                ]
        self.assertEqual([r.Status for r in responses], [0xFF00] * 3 + [0x0000])
        self.assertEqual(
            [r.NumberOfCompletedSuboperations for r in responses], [1, 2, 3, 4]
        )
        self.assertEqual(len(got), 4)
        for number, request in enumerate(got):
            self.assertEqual(request.MoveOriginatorMessageID, 4711)
            self.assertEqual(
                request.MoveOriginatorApplicationEntityTitle.strip(), "PYNETDICOM"
            )
            self.assertEqual(request.MessageID, number + 1)
            path = files[request.AffectedSOPInstanceUID]
            self.assertEqual(request.DataSet.getvalue(), dataSetOf(path))

    def test_patientRootByPynetdicom(self) -> None:
        """A patient by its ID alone, nothing else of its namesakes."""
        patient, files = self.makePatient()
        self.makeStudy(2)
        with pynetdicomSCP() as (port, got):
            self.register("PYNETDICOM_SCP", port)
            with associated(self.server, [(PatientRoot, EXPLICIT)]) as association:
                responses = list(
                    association.send_c_move(
                        keys("PATIENT", PatientID=patient),
                        "PYNETDICOM_SCP",
                        PatientRoot,
                    )
                )
        self.assertEqual(responses[-1][0].Status, 0)
        self.assertEqual({r.AffectedSOPInstanceUID for r in got}, set(files))


@contextmanager
def pynetdicomSCP() -> Iterator[tuple[int, list[Any]]]:
    """A storage SCP of pynetdicom: its port, and what it was sent."""
    got: list[Any] = []

    def store(event: Any) -> int:
        got.append(event.request)
        return 0

    ae = AE("PYNETDICOM_SCP")
    ae.add_supported_context(CT, [EXPLICIT, IMPLICIT])
    scp: Any = ae.start_server(
        (HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield scp.server_address[1], got
    finally:
        scp.shutdown()


class DestinationTests(RetrieveCase):
    """Instances arrive as they are stored (conformance 8.2)."""

    def test_secondServer(self) -> None:
        """From one archive into another: the same bytes in both."""
        study, files = self.makeStudy(6)
        other = configuredServer("parallel_moves = 3")
        self.register(other.aeTitle, other.port)
        self.assertNotEqual(other.port, self.server.port)
        (*_, final) = self.move(other.aeTitle, keys("STUDY", StudyInstanceUID=study), 6)
        self.assertEqual(final.counts, (None, 6, 0, 0))
        arrived = {p.stem.split("-")[0]: p for p in other.archived() if study in str(p)}
        self.assertExact(arrived, files)
        # And once more, which changes nothing.
        (*_, final) = self.move(other.aeTitle, keys("STUDY", StudyInstanceUID=study), 6)
        self.assertEqual(final.counts, (None, 6, 0, 0))

    def test_itself(self) -> None:
        """The server is its own destination: all are there already."""
        study, _ = self.makeStudy(3)
        self.register(self.server.aeTitle, self.server.port)
        (*_, final) = self.move(
            self.server.aeTitle, keys("STUDY", StudyInstanceUID=study), 3
        )
        self.assertEqual((final.status, final.counts), (0, (None, 3, 0, 0)))

    def test_maximumPDU(self) -> None:
        """No PDU is longer than the receiver announces (PS3.8 D.1)."""
        study, files = self.makeStudy(2)
        for maximum in (4096, 4097, 16384, 128, 0):
            receiver = Receiver(self, maximum=maximum)
            self.register("MAXIMUM", receiver.port)
            (*_, final) = self.move("MAXIMUM", keys("STUDY", StudyInstanceUID=study), 2)
            self.assertEqual(final.status, 0x0000)
            if maximum:
                self.assertLessEqual(receiver.longest, maximum)
                self.assertGreaterEqual(receiver.longest, min(maximum, 4096) - 2)
            for stored in receiver.stored:
                self.assertEqual(stored.data, dataSetOf(files[stored.instance]))
        small = StoreSCP(self, "--max-pdu", "4096")
        self.register("MAXIMUM", small.port)
        (*_, final) = self.move("MAXIMUM", keys("STUDY", StudyInstanceUID=study), 2)
        self.assertEqual(final.status, 0x0000)
        self.assertExact(small.files(), files)

    def test_manyContexts(self) -> None:
        """
        140 pairs of SOP class and transfer syntax, which are more than an
        association has contexts: each comes by its own.
        """
        from d360.services.sopclasses import STORAGE

        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        (template,) = makeCT(folder / "template", 1)
        dataset = dcmread(template)
        for keyword in ("PixelData", "DataSetTrailingPadding"):
            if keyword in dataset:
                delattr(dataset, keyword)
        classes = sorted(STORAGE)[:70]
        self.assertEqual(len(classes), 70)
        files = {}
        self.patch(_config, "STORE_SEND_CHUNKED_DATASET", True)
        for syntax in (IMPLICIT, EXPLICIT):
            contexts = [(sopClass, syntax) for sopClass in classes]
            with associated(self.server, contexts) as association:
                for sopClass in classes:
                    rename(dataset)
                    dataset.SOPClassUID = sopClass
                    dataset.file_meta.MediaStorageSOPClassUID = sopClass
                    dataset.file_meta.TransferSyntaxUID = syntax
                    path = folder / f"{dataset.SOPInstanceUID}.dcm"
                    dataset.save_as(
                        path, implicit_vr=syntax == IMPLICIT, little_endian=True
                    )
                    self.assertEqual(association.send_c_store(path).Status, 0)
                    files[str(dataset.SOPInstanceUID)] = path, sopClass, syntax
        receiver = Receiver(self)
        self.register("MANY", receiver.port)
        study = str(dataset.StudyInstanceUID)
        (*_, final) = self.move("MANY", keys("STUDY", StudyInstanceUID=study), 140)
        self.assertEqual((final.status, final.counts), (0, (None, 140, 0, 0)))
        self.assertGreater(len(receiver.requests), 1)
        for request in receiver.requests:
            self.assertLessEqual(len(request.proposals), 128)
        got = {
            one.instance: (one.data, one.text(2), one.transferSyntax)
            for one in receiver.stored
        }
        self.assertEqual(len(receiver.stored), 140)
        for uid, (path, sopClass, syntax) in files.items():
            self.assertEqual(got[uid], (dataSetOf(path), sopClass, syntax))

    def test_realFiles(self) -> None:
        """
        Whatever modalities make, in each of its transfer syntaxes: to a
        receiver that takes all of them, and to storescp, which takes those
        that DCMTK knows.
        """
        self.patch(_config, "STORE_SEND_CHUNKED_DATASET", True)
        files = [file for file in storageFiles() if file.transferSyntax]
        contexts = sorted({(file.sopClass, file.transferSyntax) for file in files})
        stored = {}
        with associated(self.server, contexts) as association:
            for file in files:
                if association.send_c_store(file.path).Status == 0:
                    stored[file.instance] = file
        self.assertGreater(len(stored), 100)
        studies = sorted({file.study for file in stored.values()})
        receiver, dcmtk = Receiver(self), StoreSCP(self, "+xa", "-pm")
        self.register("ANYTHING", receiver.port)
        self.register("STORESCP", dcmtk.port)
        for title in ("ANYTHING", "STORESCP"):
            (*_, final) = self.move(
                title, keys("STUDY", StudyInstanceUID=studies), len(stored)
            )
            if title == "ANYTHING":
                self.assertEqual(final.status, 0, (final, self.logged()))
        self.assertEqual(len(receiver.stored), len(stored))
        for one in receiver.stored:
            file = stored[one.instance]
            self.assertEqual(one.transferSyntax, file.transferSyntax)
            self.assertEqual(one.data, dataSetOf(file.path), file.path)
        same = 0
        for uid, path in dcmtk.files().items():
            file = stored[uid]
            syntax = dcmread(path, specific_tags=[]).file_meta.TransferSyntaxUID
            if syntax == file.transferSyntax:
                same += 1
                self.assertEqual(dataSetOf(path), dataSetOf(file.path), file.path)
        self.assertGreater(same, 90)


class ParallelTests(RetrieveCase):
    """C{parallel_moves}: a study over several associations at once."""

    options = "parallel_moves = 3"

    def test_forking(self) -> None:
        """storescp with a process for each association."""
        study, files = self.makeStudy(60)
        receiver = StoreSCP(self, "--fork", "+xa")
        self.register("FORKING", receiver.port)
        (*_, final) = self.movescu(
            "FORKING",
            "QueryRetrieveLevel=STUDY",
            f"StudyInstanceUID={study}",
            total=60,
        )
        self.assertEqual((final.status, final.counts), (0, (None, 60, 0, 0)))
        self.assertExact(receiver.files(), files)
        opened = self.server.linesOf(": D360PACS to FORKING", self.begin, 3)
        self.assertEqual(len(opened), 3)

    def test_oneAtATime(self) -> None:
        """storescp that serves one association after the other."""
        study, files = self.makeStudy(20)
        receiver = StoreSCP(self, "+xa")
        self.register("SINGLE", receiver.port)
        before = self.openFiles()
        (*_, final) = self.move("SINGLE", keys("STUDY", StudyInstanceUID=study), 20)
        self.assertEqual((final.status, final.counts), (0, (None, 20, 0, 0)))
        self.assertExact(receiver.files(), files)
        self.assertNoneLeft(before)

    def test_shared(self) -> None:
        """Each instance comes once, whichever association brings it."""
        study, files = self.makeStudy(12)
        barrier = threading.Barrier(3)

        def answer(stored: Stored) -> int:
            barrier.wait(PATIENCE)
            return 0

        receiver = Receiver(self, answer=answer)
        self.register("SHARED", receiver.port)
        (*_, final) = self.move("SHARED", keys("STUDY", StudyInstanceUID=study), 12)
        self.assertEqual((final.status, final.counts), (0, (None, 12, 0, 0)))
        self.assertEqual(sorted(s.instance for s in receiver.stored), sorted(files))
        self.assertEqual(len({s.association for s in receiver.stored}), 3)
        self.eventually(lambda: receiver.ends == ["released"] * 3)

    def test_oneDies(self) -> None:
        """Only what was under way on it has failed."""
        study, _ = self.makeStudy(12)
        barrier = threading.Barrier(3)
        died: list[str] = []

        def answer(stored: Stored) -> int:
            barrier.wait(PATIENCE)
            if not died:
                died.append(stored.instance)
                barrier.abort()
                return ABORT_IT
            return 0

        def patiently(stored: Stored) -> int:
            try:
                return answer(stored)
            except threading.BrokenBarrierError:
                return 0

        receiver = Receiver(self, answer=patiently)
        self.register("DYING", receiver.port)
        (*_, final) = self.move("DYING", keys("STUDY", StudyInstanceUID=study), 12)
        self.assertEqual((final.status, final.counts), (0xB000, (None, 11, 1, 0)))
        self.assertEqual(final.failedUIDs, tuple(died))


class RefusalTests(RetrieveCase):
    """What ends a C-MOVE before its first sub-operation."""

    def refused(self, title: str, identifier: Any, **options: Any) -> int:
        """The only response's status; it has no counts."""
        (final,) = self.move(title, identifier, 0, **options)
        return final.status

    def test_unknownDestination(self) -> None:
        """C001 (conformance 8.2.2.2), and the log says what to do."""
        study, _ = self.makeStudy(1)
        identifier = keys("STUDY", StudyInstanceUID=study)
        for title in ("NOBODY", "a\\b", "x" * 16, " ", "\x01"):
            self.assertEqual(self.refused(title, identifier), 0xC001, title)
        self.server.linesOf("d360ctl ae add", self.begin, 1)
        (final,) = self.movescu(
            "NOBODY",
            "QueryRetrieveLevel=STUDY",
            f"StudyInstanceUID={study}",
            total=0,
        )
        self.assertEqual(final.status, 0xC001)

    def test_identifiers(self) -> None:
        """Levels and keys that do not fit (conformance 8.2.2.1)."""
        self.register("KEYS", freePort())
        for sopClass, identifier in (
            (STUDY_MOVE, keys("PATIENT", PatientID="1")),
            (STUDY_MOVE, keys("STUDY")),
            (STUDY_MOVE, keys("STUDY", StudyInstanceUID="")),
            (STUDY_MOVE, keys("STUDY", StudyInstanceUID="*")),
            (STUDY_MOVE, keys("STUDY", PatientID="1")),
            (STUDY_MOVE, keys("STUDY", StudyInstanceUID="1.2", SOPInstanceUID="1.3")),
            (STUDY_MOVE, keys("SERIES")),
            (STUDY_MOVE, keys("IMAGE")),
            (STUDY_MOVE, keys("FRAME", StudyInstanceUID="1.2")),
            (STUDY_MOVE, keys("", StudyInstanceUID="1.2")),
            (PATIENT_MOVE, keys("PATIENT")),
            (PATIENT_MOVE, keys("PATIENT", StudyInstanceUID="1.2")),
            (PATIENT_MOVE, keys("PATIENT", PatientID=["1", "2"])),
        ):
            status = self.refused("KEYS", identifier, sopClass=sopClass)
            self.assertEqual(status, 0xA900, identifier)

    def test_nothingMatched(self) -> None:
        """Success, and nobody is called."""
        receiver = Receiver(self)
        self.register("IDLE", receiver.port)
        for identifier in (
            keys("STUDY", StudyInstanceUID="1.2.3.4.5.6"),
            keys("IMAGE", SOPInstanceUID=["1.2.3.4.5.6", "1.2.3.4.5.7"]),
            keys("STUDY", StudyInstanceUID="no UID"),
        ):
            (final,) = self.move("IDLE", identifier, 0)
            self.assertEqual((final.status, final.counts), (0, (None, 0, 0, 0)))
        self.assertEqual(receiver.requests, [])

    def test_down(self) -> None:
        """Nobody listens there: A702 with counts, and all UIDs."""
        study, files = self.makeStudy(3)
        self.register("DOWN", freePort())
        (*_, final) = self.move("DOWN", keys("STUDY", StudyInstanceUID=study), 3)
        self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 3, 0)))
        self.assertEqual(sorted(final.failedUIDs), sorted(files))
        self.server.linesOf("refused", self.begin, 1)
        (*_, final) = self.movescu(
            "DOWN",
            "QueryRetrieveLevel=STUDY",
            f"StudyInstanceUID={study}",
            total=3,
        )
        self.assertEqual(final.status, 0xA702)

    def test_rejected(self) -> None:
        """The destination is called otherwise, or refuses all."""
        study, _ = self.makeStudy(2)
        self.register("WRONGTITLE", configuredServer("parallel_moves = 3").port)
        refusing = StoreSCP(self, "--refuse")
        self.register("REFUSING", refusing.port)
        for title in ("WRONGTITLE", "REFUSING"):
            (*_, final) = self.move(title, keys("STUDY", StudyInstanceUID=study), 2)
            self.assertEqual(final.status, 0xA702)
            self.assertEqual(final.counts, (None, 0, 2, 0))

    def test_takesNothing(self) -> None:
        """An association without one accepted context."""
        study, _ = self.makeStudy(2)
        receiver = Receiver(self, accept=lambda abstract, transfers: None)
        self.register("NOTHING", receiver.port)
        (*_, final) = self.move("NOTHING", keys("STUDY", StudyInstanceUID=study), 2)
        self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 2, 0)))
        self.assertEqual(receiver.stored, [])

    def test_speaksNoDICOM(self) -> None:
        """Who hangs up, greets otherwise, or accepts what was not proposed."""
        study, _ = self.makeStudy(2)
        before = self.openFiles()
        for greeting in (b"", b"220 ready\r\n", b"\x02\x00\xff\xff\xff\xff"):
            listener = socket.create_server((HOST, 0))
            self.addCleanup(listener.close)

            def greet(
                listener: socket.socket = listener, greeting: bytes = greeting
            ) -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(greeting)
                    if greeting:
                        connection.recv(65536)

            threading.Thread(target=greet, daemon=True).start()
            self.register("NODICOM", listener.getsockname()[1])
            (*_, final) = self.move("NODICOM", keys("STUDY", StudyInstanceUID=study), 2)
            self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 2, 0)))
        other = Receiver(self, accept=lambda abstract, tried: "1.2.3.4")
        self.register("NODICOM", other.port)
        (*_, final) = self.move("NODICOM", keys("STUDY", StudyInstanceUID=study), 2)
        self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 2, 0)))
        self.assertEqual(other.stored, [])
        self.assertNoneLeft(before)


class FailureTests(RetrieveCase):
    """What fails in the middle (PS3.4 C.4.2.1.6; conformance 8.2.2.2)."""

    def mixedStudy(self) -> tuple[str, dict[str, str]]:
        """A study of CT and MR: SOP classes by SOP Instance UID."""
        folder = Path(self.mktemp()).absolute()
        classes = {}
        for number, path in enumerate(makeCT(folder, 6)):
            dataset = dcmread(path)
            if number % 2:
                dataset.SOPClassUID = MR
                dataset.file_meta.MediaStorageSOPClassUID = MR
                dataset.save_as(path)
            classes[str(dataset.SOPInstanceUID)] = str(dataset.SOPClassUID)
        self.store(*sorted(folder.iterdir()))
        return str(dataset.StudyInstanceUID), classes

    def test_someClasses(self) -> None:
        """Those of another class fail, the rest arrives."""
        study, classes = self.mixedStudy()
        receiver = Receiver(
            self, accept=lambda abstract, tried: tried[0] if abstract == CT else None
        )
        self.register("ONLYCT", receiver.port)
        (*_, final) = self.move("ONLYCT", keys("STUDY", StudyInstanceUID=study), 6)
        self.assertEqual((final.status, final.counts), (0xB000, (None, 3, 3, 0)))
        self.assertEqual(
            set(final.failedUIDs), {uid for uid, c in classes.items() if c == MR}
        )
        self.eventually(lambda: receiver.ends == ["released"])

    def test_statuses(self) -> None:
        """Failures and warnings of the receiver are told from each other."""
        study, _ = self.makeStudy(6)
        statuses = iter([0, 0xA700, 0xB000, 0xC123, 0xB007, 0])
        receiver = Receiver(self, answer=lambda stored: next(statuses))
        self.register("STATUSES", receiver.port)
        (*_, final) = self.move("STATUSES", keys("STUDY", StudyInstanceUID=study), 6)
        self.assertEqual((final.status, final.counts), (0xB000, (None, 2, 2, 2)))
        failed = (receiver.stored[1].instance, receiver.stored[3].instance)
        self.assertEqual(final.failedUIDs, failed)

    def test_abortsHalfWay(self) -> None:
        """By an A-ABORT, or by closing the connection: the rest has failed."""
        study, files = self.makeStudy(8)
        for way in (ABORT_IT, HANG_UP):
            receiver = Receiver(
                self,
                answer=lambda s, way=way: way if s.number(0x110) == 4 else 0,  # type: ignore[misc]
            )
            self.register("HALFWAY", receiver.port)
            before = self.openFiles()
            (*_, final) = self.move("HALFWAY", keys("STUDY", StudyInstanceUID=study), 8)
            self.assertEqual((final.status, final.counts), (0xB000, (None, 3, 5, 0)))
            came = {one.instance for one in receiver.stored[:3]}
            self.assertEqual(set(final.failedUIDs), set(files) - came)
            self.assertNoneLeft(before)

    def test_storescpAborts(self) -> None:
        """While it receives the first, and before it answers it."""
        study, _ = self.makeStudy(3)
        for option in ("--abort-during", "--abort-after"):
            receiver = StoreSCP(self, option)
            self.register("ABORTING", receiver.port)
            (*_, final) = self.move(
                "ABORTING", keys("STUDY", StudyInstanceUID=study), 3
            )
            self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 3, 0)))
            receiver.stop()

    def test_neverAnswers(self) -> None:
        """Not a C-STORE, not even an A-ASSOCIATE-RQ: C{response_timeout} ends it."""
        self.use(IMPATIENT)
        study, _ = self.makeStudy(3)
        before = self.openFiles()
        mute = Receiver(self, isMute=True)
        deaf = Receiver(self, answer=lambda stored: SAY_NOTHING)
        for title, receiver in (("MUTE", mute), ("DEAF", deaf)):
            self.register(title, receiver.port)
            (*_, final) = self.move(title, keys("STUDY", StudyInstanceUID=study), 3)
            self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 3, 0)))
        self.assertEqual(len(deaf.stored), 1)
        self.assertNoneLeft(before)

    def test_damagedFiles(self) -> None:
        """Deleted, overwritten, truncated or unreadable: each fails alone."""
        study, files = self.makeStudy(7)
        gone, other, short, longer, folder, *good = files
        self.kept(gone).unlink()
        path = self.kept(other)
        data = bytearray(path.read_bytes())
        data[-100] ^= 0xFF
        path.write_bytes(data)
        path = self.kept(short)
        path.write_bytes(path.read_bytes()[:-1000])
        with open(self.kept(longer), "ab") as file:
            file.write(b"more")
        path = self.kept(folder)
        path.unlink()
        path.mkdir()
        self.addCleanup(path.rmdir)
        receiver = Receiver(self)
        self.register("DAMAGED", receiver.port)
        before = self.openFiles()
        (*_, final) = self.move("DAMAGED", keys("STUDY", StudyInstanceUID=study), 7)
        self.assertEqual((final.status, final.counts), (0xB000, (None, 2, 5, 0)))
        bad = {gone, other, short, longer, folder}
        self.assertEqual(set(final.failedUIDs), bad)
        self.assertEqual({one.instance for one in receiver.stored}, set(good))
        self.eventually(lambda: receiver.ends == ["released"])
        for uid in bad:
            lines = self.server.linesOf(f"send {uid}", self.begin, 1)
            self.assertEqual(len(lines), 1, uid)
            self.assertIn("#error", lines[0])
        self.assertNoneLeft(before)

    def test_replacedMeanwhile(self) -> None:
        """The newer one is sent, although the older was found."""
        study, files = self.makeStudy(8)
        dataset = dcmread(list(files.values())[-1])
        dataset.ImageComments = "newer"
        path = Path(self.mktemp()).absolute()
        dataset.save_as(path)
        old = self.kept(str(dataset.SOPInstanceUID))

        def answer(stored: Stored) -> int:
            if stored.number(0x110) == 1:
                self.store(path)
                self.eventually(lambda: not old.exists())
            return 0

        receiver = Receiver(self, answer=answer)
        self.register("REPLACED", receiver.port)
        (*_, final) = self.move("REPLACED", keys("STUDY", StudyInstanceUID=study), 8)
        self.assertEqual((final.status, final.counts), (0, (None, 8, 0, 0)))
        self.assertEqual(receiver.stored[-1].instance, dataset.SOPInstanceUID)
        self.assertEqual(receiver.stored[-1].data, dataSetOf(path))


class EndTests(RetrieveCase):
    """C-CANCEL, and requestors that go away (PS3.4 C.4.2.3.2)."""

    def test_movescuCancels(self) -> None:
        """Its responses are few by then; FE00 with the remaining count."""
        study, _ = self.makeStudy(100)

        def slowly(stored: Stored) -> int:
            time.sleep(0.1)
            return 0

        receiver = Receiver(self, answer=slowly)
        self.register("CANCELLED", receiver.port)
        (*_, final) = self.movescu(
            "CANCELLED",
            "QueryRetrieveLevel=STUDY",
            f"StudyInstanceUID={study}",
            total=100,
            options=["--cancel", "2"],
        )
        self.assertEqual(final.status, 0xFE00)
        self.assertGreater(final.remaining, 0)

    def started(self, peer: Requestor, receiver: Receiver, study: str) -> None:
        """A C-MOVE of ten whose second instance is not answered yet."""
        peer.associate([(STUDY_MOVE, [IMPLICIT]), (ECHO, [IMPLICIT])])
        peer.ask(1, STUDY_MOVE, keys("STUDY", StudyInstanceUID=study), "CANCELLED")
        self.eventually(lambda: len(receiver.stored) == 2)

    def slow(self) -> Receiver:
        """A receiver that answers the second instance when it is told to."""
        receiver = Receiver(self)

        def answer(stored: Stored) -> int:
            if stored.number(0x110) == 2:
                receiver.goOn.clear()
                receiver.goOn.wait(PATIENCE)
            return 0

        receiver._answer = answer
        self.register("CANCELLED", receiver.port)
        return receiver

    def test_cancel(self) -> None:
        """The one under way is ended, no other begun; the association goes on."""
        study, _ = self.makeStudy(10)
        receiver = self.slow()
        with Requestor(self.server) as peer:
            self.started(peer, receiver, study)
            peer.send(cancel(1, 99))
            peer.send(cancel(1, 7))
            threading.Event().wait(0.2)
            receiver.goOn.set()
            responses = peer.toTheEnd()
            self.check(responses, 10)
            final = responses[-1]
            self.assertEqual((final.status, final.counts), (0xFE00, (8, 2, 0, 0)))
            # A late one is of no consequence.
            peer.send(cancel(1, 7))
            peer.send(echo(3, 8))
            self.assertEqual(peer.response().status, 0)
            peer.release()
        self.eventually(lambda: receiver.ends == ["released"])
        self.assertEqual(len(receiver.stored), 2)

    def test_requestorGoesAway(self) -> None:
        """By an A-ABORT, or without a word: sub-operations stop."""
        study, _ = self.makeStudy(10)
        before = self.openFiles()
        for isAborting in (True, False):
            receiver = self.slow()
            with Requestor(self.server) as peer:
                self.started(peer, receiver, study)
                if isAborting:
                    peer.send(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
            threading.Event().wait(0.2)
            receiver.goOn.set()
            self.eventually(lambda r=receiver: r.ends == ["released"])  # type: ignore[misc]
            self.assertEqual(len(receiver.stored), 2)
        self.assertNoneLeft(before)

    def test_requestorReleases(self) -> None:
        """In the middle of a C-MOVE, which it may not."""
        study, _ = self.makeStudy(10)
        before = self.openFiles()
        receiver = self.slow()
        with Requestor(self.server) as peer:
            self.started(peer, receiver, study)
            peer.retrieved()
            peer.release()
        receiver.goOn.set()
        self.eventually(lambda: receiver.ends == ["released"])
        self.assertNoneLeft(before)

    def test_moreRequests(self) -> None:
        """One that comes while a C-MOVE is served waits for its turn."""
        study, _ = self.makeStudy(10)
        receiver = self.slow()
        with Requestor(self.server) as peer:
            self.started(peer, receiver, study)
            peer.send(echo(3, 8))
            receiver.goOn.set()
            self.check(peer.toTheEnd(), 10)
            self.assertEqual(peer.response().messageID, 8)
            peer.release()

    def test_atOnce(self) -> None:
        """Eight requestors move one study to one destination."""
        study, files = self.makeStudy(10)
        receiver = Receiver(self)
        self.register("ATONCE", receiver.port)
        before = self.openFiles()
        self._moveAtOnce(study)
        self.assertEqual(len(receiver.stored), 80)
        for one in receiver.stored:
            self.assertEqual(one.data, dataSetOf(files[one.instance]))
        self.assertNoneLeft(before)

    def _moveAtOnce(self, study: str) -> None:
        peers = [Requestor(self.server) for _ in range(8)]
        for peer in peers:
            peer.associate([(STUDY_MOVE, [IMPLICIT])])
            identifier = keys("STUDY", StudyInstanceUID=study)
            peer.ask(1, STUDY_MOVE, identifier, "ATONCE")
        for peer in peers:
            with peer:
                responses = peer.toTheEnd()
                self.check(responses, 10)
                self.assertEqual(responses[-1].status, 0)
