"""
The modality worklist as DCMTK's findscu and pynetdicom see it (PS3.4 Annex K,
conformance 5.2), and as DCMTK's own server answers the same.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from attrs import frozen
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from twisted.trial.unittest import SynchronousTestCase

from d360.services.worklistitems import readFile, readKeywords
from tests.interop.running import (
    HOST,
    PATIENCE,
    RunningServer,
    dcmtk,
    readResponses,
    sharedServer,
)
from tests.interop.scu import associated
from tests.interop.worklistset import (
    WlmscpfsServer,
    asFile,
    beyond,
    item,
    items,
    schedule,
)
from tests.services.datasets import BIG_ENDIAN, EXPLICIT, IMPLICIT

WORKLIST = "1.2.840.10008.5.1.4.31"

_server: list[RunningServer] = []


def worklistServer() -> RunningServer:
    """A server that holds the set and nothing else."""
    if not _server:
        server = sharedServer("worklist")
        schedule(server, [*items(), *beyond()])
        _server.append(server)
    return _server[0]


def identifier(
    keys: dict[str, Any], step: dict[str, Any] | None, characterSet: str = "ISO_IR 100"
) -> Dataset:
    """
    A query; the Scheduled Procedure Step ID is asked for in any case, if there
    is a sequence.
    """
    dataset = Dataset()
    dataset.SpecificCharacterSet = characterSet
    for keyword, value in {"StudyInstanceUID": "", **keys}.items():
        setattr(dataset, keyword, value)
    if step is not None:
        inside = Dataset()
        for keyword, value in {"ScheduledProcedureStepID": "", **step}.items():
            setattr(inside, keyword, value)
        dataset.ScheduledProcedureStepSequence = Sequence([inside])
    return dataset


@frozen
class Found:
    """
    The answers of a findscu.

    @ivar statuses: of all responses, in hexadecimal.
    """

    answers: list[Dataset]
    statuses: list[str]

    @property
    def numbers(self) -> list[int]:
        """Of the set's items, one for each answer, sorted."""
        uids = [answer.StudyInstanceUID for answer in self.answers]
        return sorted(int(uid.rsplit(".", 1)[1]) for uid in uids)

    def values(self) -> dict[int, Any]:
        """What each item's answer says, apart from how it is encoded."""
        values = {}
        for answer in self.answers:
            answer.pop("SpecificCharacterSet", None)
            values[int(answer.StudyInstanceUID.rsplit(".", 1)[1])] = answer.to_json()
        return values


def findscu(port: int, query: Dataset, *options: str) -> Found:
    """Ask a server by DCMTK's findscu; its answers as pydicom reads them."""
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / "query"
        query.save_as(path, implicit_vr=False, little_endian=True)
        command = [dcmtk("findscu"), "-d", "-W", "-X", "-od", str(folder), *options]
        command += ["-aec", "D360PACS", HOST, str(port), str(path)]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
        output = (done.stdout + done.stderr).decode("latin-1")
        answers = [dcmread(answer) for answer in sorted(folder.glob("rsp*.dcm"))]
        return Found(answers, readResponses(output).statuses)
    finally:
        shutil.rmtree(folder)


class WorklistTestCase(SynchronousTestCase):
    """Asks the server that holds the set."""

    def setUp(self) -> None:
        self.server = worklistServer()

    def ask(
        self,
        keys: dict[str, Any],
        step: dict[str, Any] | None = None,
        *options: str,
        characterSet: str = "ISO_IR 192",
    ) -> Found:
        query = identifier(keys, step, characterSet)
        return findscu(self.server.port, query, *options)


class QueryTests(WorklistTestCase):
    """What C{wlmscpfs} cannot be compared with."""

    def test_oneAnswerAStep(self) -> None:
        """Several steps, several stations, and keys inside the same step."""
        for step, expected in (
            ({}, ["SPS21", "SPS22"]),
            ({"ScheduledStationAETitle": "MR08"}, ["SPS22"]),
            ({"ScheduledStationAETitle": "MR0?"}, ["SPS21", "SPS22"]),
            ({"ScheduledPerformingPhysicianName": "zuk^*"}, ["SPS22"]),
            (
                {
                    "ScheduledStationAETitle": "MR09",
                    "ScheduledProcedureStepStartDate": "20260402",
                },
                ["SPS21"],
            ),
            (
                {
                    "ScheduledStationAETitle": "MR08",
                    "ScheduledProcedureStepStartDate": "20260402",
                },
                [],
            ),
        ):
            found = self.ask({"PatientID": "J2"}, step)
            steps = [answer.ScheduledProcedureStepSequence for answer in found.answers]
            self.assertEqual([len(one) for one in steps], [1] * len(expected))
            self.assertEqual(
                [one[0].ScheduledProcedureStepID for one in steps], expected
            )

    def test_names(self) -> None:
        """Case and accents do not matter; each component group is searched."""
        for name, expected in (
            ("muller^jorg", [2]),
            ("MÜLLER*", [2]),
            ("lukasiewicz*", [21, 21]),
            ("山田*", [20]),
            ("*太郎", [20]),
            ("=山田^太郎", [20]),
            ("o'neill*", [6]),
            ("rossi", [7]),
            ("rossi^*", [1, 3, 7]),
        ):
            self.assertEqual(self.ask({"PatientName": name}).numbers, expected, name)

    def test_characterSets(self) -> None:
        """ISO_IR 100 where that holds the text, else ISO_IR 192."""
        for patient, characterSet, name in (
            ("P2", "ISO_IR 100", "Müller^Jörg"),
            ("J1", "ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ):
            (answer,) = self.ask({"PatientID": patient, "PatientName": ""}).answers
            self.assertEqual(answer.SpecificCharacterSet, characterSet)
            self.assertEqual(answer.PatientName, name)
        for asked, name in (("ISO_IR 100", "Müller*"), ("ISO_IR 101", "Łukas*")):
            found = self.ask({"PatientName": name}, characterSet=asked)
            self.assertTrue(found.answers, asked)

    def test_transferSyntaxes(self) -> None:
        """Conformance 5.2: three, one answer."""
        answers = [
            self.ask({"PatientID": "P1", "PatientName": ""}, {"Modality": "CT"}, option)
            for option in ("-xi", "-xe", "-xb")
        ]
        for found in answers:
            self.assertEqual(found.statuses, ["FF00", "0000"])
            self.assertEqual(found.numbers, [1])
            self.assertEqual(found.values(), answers[0].values())

    def test_wholeSequence(self) -> None:
        """An empty item asks for all that there is of the step."""
        query = identifier({"PatientID": "J2"}, None)
        query.ScheduledProcedureStepSequence = Sequence([Dataset()])
        first, second = findscu(self.server.port, query).answers
        (step,) = first.ScheduledProcedureStepSequence
        self.assertEqual(step.ScheduledStationAETitle, "MR09")
        self.assertIsNone(step.ScheduledProcedureStepEndDate or None)
        self.assertNotIn("ScheduledProtocolCodeSequence", step)
        (step,) = second.ScheduledProcedureStepSequence
        self.assertEqual(step.ScheduledStationAETitle, ["MR08", "MR09"])
        self.assertEqual(
            [c.CodeMeaning for c in step.ScheduledProtocolCodeSequence],
            ["Eins", "Zwei"],
        )

    def test_refused(self) -> None:
        """Two items in the sequence: A900; what is not matched: FF01."""
        query = identifier({}, {})
        query.ScheduledProcedureStepSequence.append(Dataset())
        self.assertEqual(findscu(self.server.port, query).statuses, ["A900"])
        found = self.ask({"PatientID": "P1", "PatientWeight": "1"})
        self.assertEqual(found.statuses, ["FF01", "FF01", "0000"])

    def test_cancel(self) -> None:
        """findscu's own C-CANCEL after the first answer."""
        many = [item(100 + n, "20270101 080000", "CT77", PatientName="Many",
                     PatientID=f"M{n}") for n in range(700)]  # fmt: skip
        server = sharedServer("worklist of many")
        schedule(server, many)
        query = identifier({"PatientName": "Many"}, {})
        self.assertEqual(len(findscu(server.port, query).answers), 700)
        # It may come too late, when findscu is slow: all may be on its way to it.
        for _ in range(10):
            found = findscu(server.port, query, "--cancel", "1")
            if found.statuses[-1] != "0000":
                break
        self.assertEqual(found.statuses[-1], "FE00")
        self.assertLess(len(found.answers), 700)

    def test_pynetdicom(self) -> None:
        """Another client, in each transfer syntax."""
        for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
            with associated(self.server, [(WORKLIST, syntax)]) as association:
                query = identifier({"PatientName": "ROSSI*"}, {"Modality": "CT"})
                responses = list(association.send_c_find(query, WORKLIST))
                statuses = [response.Status for response, _ in responses]
                self.assertEqual(statuses, [0xFF00, 0xFF00, 0x0000])
                found = {str(answer.PatientName) for _, answer in responses if answer}
                self.assertEqual(found, {"Rossi^Anna", "Rossi"})

    def test_afterRestart(self) -> None:
        """What was scheduled is there still."""
        server = RunningServer(Path(self.mktemp()).absolute())
        self.addCleanup(server.stop)
        server.start()
        query = identifier({"PatientName": ""}, {})
        self.assertEqual(findscu(server.port, query).numbers, [])
        schedule(server, items()[:2])
        self.assertEqual(findscu(server.port, query).numbers, [1, 2])
        server.stop()
        server.start()
        self.assertEqual(findscu(server.port, query).numbers, [1, 2])


def _words(text: str) -> list[str]:
    return text.split()


DATE, TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"

#: Keys outside of the sequence, keys inside of it (C{None} for none at all),
#: and the items that are found.
QUERIES: list[tuple[dict[str, Any], dict[str, Any] | None, list[int]]] = [
    ({}, {}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({}, None, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"PatientName": "*"}, {"Modality": "*"}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"PatientName": "Rossi^Anna"}, {}, [1, 3]),
    ({"PatientName": "Rossi*"}, {}, [1, 3, 4, 7]),
    ({"PatientName": "Rossi"}, {}, [7]),
    ({"PatientName": "*Anna"}, {}, [1, 3, 8]),
    ({"PatientName": "Ross?^Anna"}, {}, [1, 3]),
    ({"PatientName": "Müller*"}, {}, [2]),
    ({"PatientName": "O'N*"}, {}, [6]),
    ({"PatientName": ["Rossi^Anna", "Verdi^Giulia"]}, {}, [1, 3, 5]),
    ({"PatientID": "P1"}, {}, [1, 3]),
    ({"PatientID": "P1 "}, {}, [1, 3]),
    ({"PatientID": "P_5"}, {}, [5]),
    ({"PatientID": "nobody"}, {}, []),
    ({"PatientID": ["P1", "P7"]}, {}, [1, 3, 7]),
    ({"AccessionNumber": "A2"}, {}, [2]),
    ({"AccessionNumber": "100%"}, {}, [5]),
    ({"AccessionNumber": "A*"}, {}, [1, 2, 3, 4, 6, 7, 8]),
    ({"PatientBirthDate": "19600229"}, {}, [1, 3]),
    ({"PatientBirthDate": "19600101-19791231"}, {}, [1, 2, 3, 8]),
    ({"PatientBirthDate": "-19600301"}, {}, [1, 3, 8]),
    ({"PatientSex": "F"}, {}, [1, 3, 5, 8]),
    ({"AdmissionID": "ADM2"}, {}, [2]),
    ({"ReferringPhysicianName": "Verdi^Giuseppe"}, {}, [4]),
    ({"ReferringPhysicianName": "Verdi*"}, {}, [4]),
    ({"RequestingPhysician": "Neri^Ugo"}, {}, [5]),
    ({"RequestedProcedureID": "RP3"}, {}, [3]),
    ({"RequestedProcedurePriority": "STAT"}, {}, [3]),
    ({}, {"Modality": "CT"}, [1, 2, 5, 7]),
    ({}, {"ScheduledStationAETitle": "CT01"}, [1, 2, 7]),
    ({}, {"ScheduledStationAETitle": "CT01", "Modality": "MR"}, []),
    ({}, {"ScheduledStationAETitle": "CT01", DATE: "20260301"}, [1, 2]),
    ({}, {"ScheduledPerformingPhysicianName": "House^Gregory"}, [1, 4]),
    ({}, {"ScheduledPerformingPhysicianName": "House*"}, [1, 4]),
    ({}, {DATE: "20260301"}, [1, 2, 3]),
    ({}, {DATE: "20260301-20260302"}, [1, 2, 3, 4, 5]),
    ({}, {DATE: "20260303-"}, [6, 7, 8]),
    ({}, {DATE: "-20260302"}, [1, 2, 3, 4, 5]),
    ({}, {TIME: "080000"}, [1]),
    ({}, {TIME: "08"}, [1]),
    ({}, {TIME: "101530.25"}, [6]),
    ({}, {TIME: "0800-1000"}, [1, 2]),
    ({}, {TIME: "12-"}, [3, 5, 7, 8]),
    ({}, {TIME: "-0930"}, [1, 2, 4]),
    ({}, {DATE: "20260301", TIME: "0900-1800"}, [2, 3]),
    ({}, {DATE: "20260301-20260302", TIME: "0900-1800"}, [2, 3, 4]),
    ({}, {DATE: "20260301-20260302", TIME: "1800-0000"}, [3, 4]),
    ({}, {DATE: "20260301-", TIME: "0900-"}, [2, 3, 4, 5, 6, 7, 8]),
    ({}, {DATE: "-20260302", TIME: "-0900"}, [1, 2, 3, 4]),
    ({}, {DATE: "20260302-", TIME: "0900-1800"}, [6, 7, 8]),
    ({}, {DATE: "-20260302", TIME: "0900-1800"}, [2, 3]),
    ({}, {DATE: "20260301-20260304", TIME: "12"}, [7]),
    ({"PatientName": "Rossi*"}, {"Modality": "CT", DATE: "20260301-20260302"}, [1]),
]

#: Where C{wlmscpfs} finds something else, and why: the query, what D360 finds,
#: and what C{wlmscpfs} does.
DIFFERENCES: list[tuple[str, dict[str, Any], dict[str, Any], list[int], list[int]]] = [
    (
        "it compares names letter by letter, which PS3.4 C.2.2.2.1 leaves open",
        {"PatientName": "rossi*"}, {}, [1, 3, 4, 7], [],
    ),
    (
        "so it does with accents",
        {"PatientName": "Muller*"}, {}, [2], [],
    ),
    (
        "trailing delimiters of a name may be left out (PS3.5 6.2.1)",
        {"PatientName": "Rossi^Anna^^"}, {}, [1, 3], [],
    ),
    (
        "the same where a component is left open",
        {"PatientName": "Rossi^*"}, {}, [1, 3, 7], [1, 3],
    ),
    (
        "it has no wild cards in a Patient ID, for which Table K.6-1 asks for none",
        {"PatientID": "P?5"}, {}, [5, 6], [],
    ),
    (
        "nor in a Modality",
        {}, {"Modality": "C*"}, [1, 2, 5, 7], [],
    ),
    (
        "nor in an AE title",
        {}, {"ScheduledStationAETitle": "CT*"}, [1, 2, 5, 7], [],
    ),
    (
        "several modalities are an error to it, A900",
        {}, {"Modality": ["CT", "MR"]}, [1, 2, 3, 4, 5, 7], [],
    ),
    (
        "Study Instance UID is no key of its",
        {"StudyInstanceUID": "1.2.826.0.1.3680043.9.7433.9.3"}, {},
        [3], [1, 2, 3, 4, 5, 6, 7, 8],
    ),
]  # fmt: skip

#: Asked for beside the keys: what both servers answer with. C{wlmscpfs} leaves
#: out what it does not support, where D360 answers with an empty element; and
#: to it a Pregnancy Status that is not known is 4, unknown.
RETURNED = _words(
    """
    AccessionNumber ReferringPhysicianName PatientName PatientID PatientBirthDate
    PatientSex PatientWeight MedicalAlerts Allergies PatientComments
    RequestingPhysician RequestedProcedureDescription AdmissionID SpecialNeeds
    CurrentPatientLocation PatientState RequestedProcedureID
    RequestedProcedurePriority PatientTransportArrangements
    ConfidentialityConstraintOnPatientDataDescription
    """
)
RETURNED_OF_STEP = _words(
    """
    Modality RequestedContrastAgent ScheduledStationAETitle
    ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime
    ScheduledProcedureStepDescription ScheduledPerformingPhysicianName
    ScheduledStationName ScheduledProcedureStepLocation PreMedication
    """
)


class DifferentialTests(SynchronousTestCase):
    """The same items, the same queries, the same answers as DCMTK's server's."""

    def setUp(self) -> None:
        self.server = sharedServer("worklist beside wlmscpfs")
        if not findscu(self.server.port, identifier({}, {})).answers:
            schedule(self.server, items())
        self.other = WlmscpfsServer(Path(self.mktemp()).absolute(), items(), "-csk")
        self.addCleanup(self.other.stop)

    def both(
        self, keys: dict[str, Any], step: dict[str, Any] | None
    ) -> tuple[Found, Found]:
        query = identifier(
            {**dict.fromkeys(RETURNED), **keys},
            None if step is None else {**dict.fromkeys(RETURNED_OF_STEP), **step},
        )
        return findscu(self.server.port, query), findscu(self.other.port, query)

    def test_queries(self) -> None:
        """More than fifty, all values compared."""
        self.assertGreater(len(QUERIES), 50)
        for keys, step, expected in QUERIES:
            ours, theirs = self.both(keys, step)
            self.assertEqual(ours.numbers, expected, (keys, step))
            self.assertEqual(ours.values(), theirs.values(), (keys, step))
            self.assertEqual(ours.statuses, theirs.statuses, (keys, step))

    def test_differences(self) -> None:
        """Where it differs, and no more than is said."""
        for why, keys, step, expected, others in DIFFERENCES:
            ours, theirs = self.both(keys, step)
            self.assertEqual(ours.numbers, expected, why)
            self.assertEqual(theirs.numbers, others, why)
            theirValues = theirs.values()
            for number, values in ours.values().items():
                self.assertEqual(values, theirValues.get(number, values))

    def test_files(self) -> None:
        """A file as C{wlmscpfs} has it, also one of dump2dcm's, makes an item."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for number, body in enumerate(items()):
            # In a dump a value is one line.
            body.pop("PatientComments", None)
            path = folder / f"{number}.wl"
            asFile(body, path)
            dumped = folder / f"{number}.dump"
            dump = subprocess.check_output([dcmtk("dcmdump"), "+L", path])
            dumped.write_bytes(dump)
            again = folder / f"{number}-2.wl"
            subprocess.run([dcmtk("dump2dcm"), dumped, again], check=True)
            for one in (path, again):
                self.assertEqual(readFile(one.read_bytes()), readKeywords(body))
