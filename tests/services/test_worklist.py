"""The Modality Worklist service class (PS3.4 Annex K; conformance 5)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.dimse import status
from d360.errors import AssociationEnded, DIMSEError
from d360.interfaces import IServiceClass
from d360.model import (
    AnyOf,
    Command,
    NameMatch,
    Nothing,
    PresentationContext,
    Range,
    ScheduledStep,
    Wildcard,
    WorklistItem,
)
from d360.services import answering
from d360.services.worklist import WorklistService
from d360.services.worklistanswers import AnswerEncoder
from d360.services.worklistitems import readDataset, readKeywords
from d360.services.worklistquestions import (
    MAX_DEPTH,
    Asked,
    readConditions,
    readWorklistQuestion,
)
from d360.worklistattributes import START, WORKLIST, isOfStep, jsonKey, stepsOf
from tests.contracts.memoryworklist import MemoryWorklist
from tests.contracts.operation import FakeOperation
from tests.contracts.worklist import attribute, elements, procedure, step
from tests.services.datasets import BIG_ENDIAN, EXPLICIT, IMPLICIT, encode

START_DATE = "ScheduledProcedureStepStartDate"
START_TIME = "ScheduledProcedureStepStartTime"

WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN)


def _words(text: str) -> list[str]:
    return text.split()


#: Conformance 5.2.2.2, the sequence's apart.
RETURNED = _words(
    """
    AccessionNumber ReferringPhysicianName PatientName PatientID PatientBirthDate
    PatientSex OtherPatientIDs PatientMotherBirthName MedicalRecordLocator PatientAge
    Occupation ConfidentialityConstraintOnPatientDataDescription PatientBirthTime
    BranchOfService CountryOfResidence RegionOfResidence PatientTelephoneNumbers
    PatientReligiousPreference ResponsiblePerson ResponsiblePersonRole
    ResponsibleOrganization PatientSpeciesDescription PatientBreedDescription Allergies
    PatientSexNeutered OtherPatientNames PatientSize PatientWeight PatientAddress
    MilitaryRank MedicalAlerts EthnicGroup SmokingStatus AdditionalPatientHistory
    PregnancyStatus LastMenstrualDate PatientComments StudyInstanceUID
    RequestingPhysician
    RequestedProcedureDescription AdmissionID SpecialNeeds CurrentPatientLocation
    PatientState RequestedProcedureID RequestedProcedurePriority
    PatientTransportArrangements
    """
)
RETURNED_OF_STEP = _words(
    """
    Modality RequestedContrastAgent ScheduledStationAETitle
    ScheduledProcedureStepStartDate
    ScheduledProcedureStepStartTime ScheduledProcedureStepEndDate
    ScheduledProcedureStepEndTime ScheduledProcedureStepID ScheduledStationName
    ScheduledProcedureStepLocation PreMedication
    """
)

#: Conformance 5.2.2.1.
KEYS = _words(
    """
    AccessionNumber AdmissionID ReferringPhysicianName RequestingPhysician PatientName
    PatientID PatientBirthDate PatientSex RequestedProcedureID
    RequestedProcedurePriority
    """
)
KEYS_OF_STEP = _words(
    """
    Modality ScheduledStationAETitle ScheduledProcedureStepStartDate
    ScheduledProcedureStepStartTime ScheduledPerformingPhysicianName
    """
)

VALUES = {
    "AE": "CT01",
    "AS": "042Y",
    "CS": "F",
    "DA": "20260301",
    "DS": "70.5",
    "LO": "Text",
    "LT": "Long text",
    "PN": "Rossi^Anna",
    "SH": "Short",
    "TM": "101500",
    "UI": "1.2.3",
    "US": 4,
}


def identifier(
    sps: dict[str, Any] | None = None, characterSet: str = "", **keys: Any
) -> Dataset:
    """A query; C{sps} the keys inside the sequence, C{None} for no sequence."""
    dataset = Dataset()
    if characterSet:
        dataset.SpecificCharacterSet = characterSet
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    if sps is not None:
        item = Dataset()
        for keyword, value in sps.items():
            setattr(item, keyword, value)
        dataset.ScheduledProcedureStepSequence = Sequence([item])
    return dataset


def received(dataset: Dataset, transferSyntax: str = EXPLICIT) -> Dataset:
    """As it comes off the wire."""
    syntax = UID(transferSyntax)
    return read_dataset(
        BytesIO(encode(dataset, transferSyntax)),
        syntax.is_implicit_VR,
        syntax.is_little_endian,
    )


class RegistryTests(SynchronousTestCase):
    """The worklist's attributes are the statement's, and the standard's."""

    def test_statement(self) -> None:
        self.assertEqual(58, len(RETURNED) + len(RETURNED_OF_STEP))
        self.assertEqual(15, len(KEYS) + len(KEYS_OF_STEP))
        for keywords, inStep in (
            (RETURNED, False),
            (RETURNED_OF_STEP, True),
            (KEYS, False),
            (KEYS_OF_STEP, True),
        ):
            for keyword in keywords:
                self.assertIs(isOfStep(attribute(keyword)), inStep, keyword)
        for keyword in KEYS + KEYS_OF_STEP:
            self.assertTrue(attribute(keyword).matched, keyword)
            self.assertTrue(attribute(keyword).column, keyword)

    def test_dictionary(self) -> None:
        """Each once, with the dictionary's tag and VR."""
        tags = [known.tag for known in WORKLIST.attributes]
        self.assertEqual(len(tags), len(set(tags)))
        for known in WORKLIST.attributes:
            self.assertEqual(keyword_for_tag(known.tag), known.keyword)
            self.assertEqual(dictionary_VR(known.tag), known.vr, known.keyword)


class QuestionTests(SynchronousTestCase):
    """From the identifier to conditions (PS3.4 C.2.2.2, K.4.1)."""

    def question(self, *arguments: Any, **keys: Any) -> Any:
        return readWorklistQuestion(received(identifier(*arguments, **keys)))

    def refused(self, dataset: Dataset) -> int:
        error = self.assertRaises(
            DIMSEError, readWorklistQuestion, received(dataset, IMPLICIT)
        )
        return error.status

    def test_everyKey(self) -> None:
        """Conformance 5.2.2.1, in each transfer syntax."""
        for keywords, inStep in ((KEYS, False), (KEYS_OF_STEP, True)):
            for keyword in keywords:
                keys = {keyword: VALUES[attribute(keyword).vr]}
                dataset = identifier(keys) if inStep else identifier(**keys)
                for syntax in SYNTAXES:
                    question = readWorklistQuestion(received(dataset, syntax))
                    self.assertTrue(question.isFullySupported)
                    (condition,) = question.conditions
                    self.assertIs(condition.attribute, attribute(keyword))

    def test_universal(self) -> None:
        """No sequence, no item, an empty item, empty keys, and C{*}."""
        empty = Dataset()
        empty.ScheduledProcedureStepSequence = Sequence([])
        for dataset in (
            Dataset(),
            empty,
            identifier({}),
            identifier({"Modality": "", "ScheduledProcedureStepStartDate": ""}),
            identifier({"Modality": "*"}, PatientName="*", PatientID="**"),
        ):
            question = readWorklistQuestion(received(dataset))
            self.assertEqual((), question.conditions)
            self.assertTrue(question.isFullySupported)

    def test_kinds(self) -> None:
        """Wild cards where the VR has them, lists, ranges, folded names."""
        station = attribute("ScheduledStationAETitle")
        modality = attribute("Modality")
        question = self.question(
            {
                "Modality": ["CT", "MR"],
                "ScheduledStationAETitle": "CT*",
                "ScheduledProcedureStepStartDate": "20260301-",
            },
            PatientName="MÜLLER*",
            characterSet="ISO_IR 192",
        )
        self.assertEqual(
            (
                NameMatch(attribute("PatientName"), ("muller*",)),
                AnyOf(modality, ("CT", "MR")),
                Wildcard(station, ("CT*",)),
                Range(attribute("ScheduledProcedureStepStartDate"), "20260301", None),
            ),
            question.conditions,
        )

    def test_characterSetOfItems(self) -> None:
        """They have that of the data set around them, or their own (PS3.5 7.5.3)."""
        for outer, inner in (("ISO_IR 192", ""), ("ISO_IR 100", "ISO_IR 192")):
            keys = {"ScheduledPerformingPhysicianName": "Łukasz"}
            if inner:
                keys["SpecificCharacterSet"] = inner
            for syntax in SYNTAXES:
                question = readWorklistQuestion(
                    received(identifier(keys, outer), syntax)
                )
                (condition,) = question.conditions
                self.assertEqual(("lukasz",), condition.patterns)

    def start(self, date: str, time: str) -> Any:
        question = self.question(
            {
                "ScheduledProcedureStepStartDate": date,
                "ScheduledProcedureStepStartTime": time,
            }
        )
        self.assertTrue(question.isFullySupported)
        return question.conditions

    def test_combined(self) -> None:
        """Two ranges are one from the first day's to the last day's time (K.6-1)."""
        date = attribute("ScheduledProcedureStepStartDate")
        days = Range(date, "20260705", "20260707")
        for time, expected in (
            ("10-18", ("20260705100000.000000", "20260707185959.999999")),
            ("1800-0900", ("20260705180000.000000", "20260707090059.999999")),
            ("10-", ("20260705100000.000000", "20260707235959.999999")),
            ("-10", ("20260705000000.000000", "20260707105959.999999")),
        ):
            self.assertEqual(
                (days, Range(START, *expected)), self.start("20260705-20260707", time)
            )
        self.assertEqual(
            (
                Range(date, "20260705", None),
                Range(START, "20260705080000.000000", None),
            ),
            self.start("20260705-", "08-"),
        )
        self.assertEqual(
            (
                Range(date, None, "20260705"),
                Range(START, None, "20260705125959.999999"),
            ),
            self.start("-20260705", "-12"),
        )
        for day, time in (
            ("20260705-20260705", "18-09"),
            ("20260705-20260707", "x-09"),
            ("20260707-20260705", "08-09"),
            ("2026-2027", "08-09"),
        ):
            self.assertIn(Nothing(START), self.start(day, time))

    def test_notCombined(self) -> None:
        """A single date or time stands for itself; so does an end without a day."""
        date = attribute("ScheduledProcedureStepStartDate")
        time = attribute("ScheduledProcedureStepStartTime")
        morning = Range(time, "080000.000000", "125959.999999")
        hour = Range(time, "080000.000000", "085959.999999")
        self.assertEqual(
            (AnyOf(date, ("20260705",)), morning), self.start("20260705", "08-12")
        )
        self.assertEqual(
            (Range(date, "20260705", "20260707"), hour),
            self.start("20260705-20260707", "08"),
        )
        self.assertEqual((morning,), self.start("", "08-12"))
        for day, low, high in (
            ("20260705-", "20260705", None),
            ("-20260705", None, "20260705"),
        ):
            self.assertEqual(
                (Range(date, low, high), morning), self.start(day, "08-12")
            )
        self.assertEqual((Nothing(date), morning), self.start("-", "08-12"))

    def test_unsupported(self) -> None:
        """Universal, and FF01."""
        code = Dataset()
        code.CodeValue = "X"
        for dataset in (
            identifier(PatientWeight="70"),
            identifier(Modality="CT"),
            identifier(InstanceNumber=""),
            identifier({"PatientName": "x"}),
            identifier({"ScheduledStationName": "x"}),
            identifier(RequestedProcedureCodeSequence=Sequence([code])),
        ):
            for syntax in SYNTAXES:
                question = readWorklistQuestion(received(dataset, syntax))
                self.assertEqual((), question.conditions)
                self.assertFalse(question.isFullySupported, dataset)

    def test_askedOnly(self) -> None:
        """What is known and not matched is no reason for FF01."""
        code = Dataset()
        code.CodeValue = ""
        question = self.question(
            {"ScheduledStationName": "", "ScheduledProtocolCodeSequence": None},
            PatientWeight="",
            RequestedProcedureCodeSequence=Sequence([code]),
            ReferencedStudySequence=Sequence([]),
        )
        self.assertTrue(question.isFullySupported)
        self.assertEqual(
            (
                Asked(0x00081110, "SQ"),
                Asked(0x00101030, "DS"),
                Asked(0x00321064, "SQ", (Asked(0x00080100, "SH"),)),
                Asked(
                    0x00400100,
                    "SQ",
                    (Asked(0x00400008, "SQ"), Asked(0x00400010, "SH")),
                ),
            ),
            question.asked,
        )

    def test_refused(self) -> None:
        """A900 for several items, C000 for what nobody asks in good faith."""
        several = Dataset()
        several.ScheduledProcedureStepSequence = Sequence([Dataset(), Dataset()])
        self.assertEqual(status.DATA_SET_DOES_NOT_MATCH, self.refused(several))
        codes = identifier(RequestedProcedureCodeSequence=[Dataset(), Dataset()])
        self.assertEqual(status.DATA_SET_DOES_NOT_MATCH, self.refused(codes))
        deep = Dataset()
        for _ in range(MAX_DEPTH + 1):
            outer = Dataset()
            outer.RequestedProcedureCodeSequence = Sequence([deep])
            deep = outer
        self.assertEqual(status.CANNOT_UNDERSTAND, self.refused(deep))
        many = Dataset()
        for number in range(2000):
            many.add_new(0x00111000 + number, "LO", "")
        inside = Dataset()
        inside.ScheduledProcedureStepSequence = Sequence([many])
        self.assertEqual(status.CANNOT_UNDERSTAND, self.refused(inside))

    def test_cutOff(self) -> None:
        """A key whose value is missing is no universal one: C000."""
        modality = b"\x08\x00\x60\x00\x02\x00\x00\x00CT"
        for value in (
            b"\xfe\xff\x00\xe0\xff\xff\xff\x7f",
            b"\xfe\xff\x00\xe0\x0a\x00\x00\x00" + modality[:-2],
            b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + modality[:-1],
            b"\xfe\xff\x00\xe0\x0a\x00\x00\x00" + modality + b"\xfe\xff",
            b"garbage!",
            b"\0" * 7,
            b"\0" * 8,
        ):
            data = b"\x40\x00\x00\x01" + len(value).to_bytes(4, "little") + value
            garbage = read_dataset(BytesIO(data), True, True)
            self.assertEqual(
                status.CANNOT_UNDERSTAND,
                self.assertRaises(DIMSEError, readWorklistQuestion, garbage).status,
            )

    def test_byKeyword(self) -> None:
        """The filters of the HTTP side are the same keys."""
        self.assertEqual(
            (
                AnyOf(attribute("PatientID"), ("P1",)),
                AnyOf(attribute("Modality"), ("CT",)),
            ),
            readConditions({"PatientID": "P1", "Modality": "CT"}),
        )
        self.assertIsInstance(
            readConditions(
                {
                    "ScheduledProcedureStepStartDate": "20260101-",
                    "ScheduledProcedureStepStartTime": "08-",
                }
            )[1],
            Range,
        )
        for keys, named in (
            ({"Nonsense": "x"}, "Nonsense"),
            ({"PatientWeight": "70"}, "PatientWeight"),
            ({"PatientBirthDate": "20200101\\20210101-"}, "PatientBirthDate"),
            # In a C-FIND they match nothing; a script would take its slip for
            # an empty worklist.
            ({"PatientBirthDate": "2020-01-01"}, "PatientBirthDate: give a date"),
            ({START_DATE: "tomorrow"}, f"{START_DATE}: give a date"),
            ({START_DATE: "20260102-20260101"}, f"{START_DATE}: give a date"),
            ({START_TIME: "9"}, f"{START_TIME}: give a time"),
            (
                {START_DATE: "20260101-20260102", START_TIME: "8-9"},
                f"{START_DATE}, {START_TIME}: give",
            ),
            ({"PatientID": "x" * 99_999}, "PatientID"),
        ):
            error = self.assertRaises(ValueError, readConditions, keys)
            self.assertIn(named, str(error))


class WorklistCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.worklist = MemoryWorklist()
        self.service = WorklistService(self.worklist)

    def schedule(self, *items: dict[str, Any]) -> None:
        for item in items:
            self.successResultOf(self.worklist.schedule(item))

    def operation(
        self, dataset: Dataset, transferSyntax: str = EXPLICIT
    ) -> FakeOperation:
        context = PresentationContext(1, WORKLIST_FIND, transferSyntax)
        data = encode(dataset, transferSyntax)
        return FakeOperation(context, Command(0x0020, WORKLIST_FIND), data)

    def find(self, dataset: Dataset, transferSyntax: str = EXPLICIT) -> list[Dataset]:
        operation = self.operation(dataset, transferSyntax)
        self.successResultOf(self.service.perform(operation))
        *pending, final = operation.statuses()
        self.assertEqual(0x0000, final)
        self.pending = set(pending)
        return self.answers(operation)

    def answers(self, operation: FakeOperation) -> list[Dataset]:
        syntax = UID(operation.context.transferSyntax)
        return [
            read_dataset(
                BytesIO(response.dataset),
                syntax.is_implicit_VR,
                syntax.is_little_endian,
            )
            for response in operation.responses
            if response.dataset is not None
        ]


class AnswerTests(WorklistCase):
    """One answer a step, with what was asked (PS3.4 K.4.1.1.3, K.6.1.2)."""

    def test_interface(self) -> None:
        verifyObject(IServiceClass, self.service)
        self.assertEqual({WORKLIST_FIND}, self.service.sopClasses)
        self.assertEqual(set(SYNTAXES), self.service.transferSyntaxesFor(WORKLIST_FIND))
        self.assertFalse(self.service.grantsSCPRole(WORKLIST_FIND))

    def test_everyAttribute(self) -> None:
        """All of conformance 5.2.2.2, in each transfer syntax."""
        values = {keyword: VALUES[attribute(keyword).vr] for keyword in RETURNED}
        inner = {keyword: VALUES[attribute(keyword).vr] for keyword in RETURNED_OF_STEP}
        del values["StudyInstanceUID"]
        self.schedule(procedure("1.2.3", elements(**inner), **values))
        asked = identifier(dict.fromkeys(RETURNED_OF_STEP), **dict.fromkeys(RETURNED))
        for syntax in SYNTAXES:
            (answer,) = self.find(asked, syntax)
            self.assertEqual({0xFF00}, self.pending)
            values["StudyInstanceUID"] = "1.2.3"
            (item,) = answer.ScheduledProcedureStepSequence
            for dataset, expected in ((answer, values), (item, inner)):
                found = {e.keyword: e.value for e in dataset}
                found.pop("SpecificCharacterSet", None)
                found.pop("ScheduledProcedureStepSequence", None)
                self.assertEqual(
                    {keyword: str(value) for keyword, value in expected.items()},
                    {keyword: str(value) for keyword, value in found.items()},
                )

    def test_onlyAsked(self) -> None:
        """The asked come, the unknown among them empty, and no other."""
        self.schedule(procedure())
        (answer,) = self.find(
            identifier(
                {"Modality": "", "ScheduledStationName": ""},
                PatientName="",
                PatientWeight="",
                PatientComments="",
                RequestedProcedureCodeSequence=Sequence([]),
            )
        )
        self.assertEqual(
            "SpecificCharacterSet PatientName PatientWeight PatientComments "
            "RequestedProcedureCodeSequence ScheduledProcedureStepSequence",
            " ".join(element.keyword for element in answer),
        )
        self.assertEqual("Rossi^Anna", answer.PatientName)
        self.assertIsNone(answer.PatientWeight)
        self.assertEqual(0, len(answer.RequestedProcedureCodeSequence))
        (item,) = answer.ScheduledProcedureStepSequence
        self.assertEqual(
            ["Modality", "ScheduledStationName"], [e.keyword for e in item]
        )
        self.assertEqual("CT", item.Modality)
        (answer,) = self.find(identifier(PatientID=""))
        self.assertEqual(
            ["SpecificCharacterSet", "PatientID"], [e.keyword for e in answer]
        )

    def test_unknown(self) -> None:
        """Empty, with FF01 in place of FF00."""
        self.schedule(procedure())
        dataset = identifier({"Modality": ""}, InstanceNumber="", Modality="")
        dataset.add_new(0x00111001, "LO", "x")
        (answer,) = self.find(dataset)
        self.assertEqual({0xFF01}, self.pending)
        self.assertIsNone(answer.InstanceNumber)
        self.assertFalse(answer.Modality)
        self.assertFalse(answer[0x00111001].value)
        self.assertEqual("CT", answer.ScheduledProcedureStepSequence[0].Modality)

    def test_wholeSequence(self) -> None:
        """An empty sequence, or item, asks for all of the statement's."""
        self.schedule(
            procedure("1", step(ScheduledProcedureStepDescription="Head, plain"))
        )
        empty = Dataset()
        empty.ScheduledProcedureStepSequence = Sequence([])
        for dataset in (empty, identifier({})):
            for syntax in SYNTAXES:
                (answer,) = self.find(dataset, syntax)
                self.assertEqual({0xFF00}, self.pending)
                (item,) = answer.ScheduledProcedureStepSequence
                keywords = [element.keyword for element in item]
                self.assertEqual(
                    sorted(
                        [
                            *RETURNED_OF_STEP,
                            "ScheduledPerformingPhysicianName",
                            "ScheduledProcedureStepDescription",
                        ]
                    ),
                    sorted(keywords),
                )
                self.assertEqual("Head, plain", item.ScheduledProcedureStepDescription)
                self.assertFalse(item.PreMedication)

    def test_longSequence(self) -> None:
        """One that is full of items is refused before they are read."""
        identifier = Dataset()
        identifier.ScheduledProcedureStepSequence = [Dataset()] * 3000
        whole = read_dataset(BytesIO(encode(identifier)), False, True)
        error = self.assertRaises(DIMSEError, readWorklistQuestion, whole)
        self.assertEqual(error.status, 0xC000)
        self.assertIn("more than 16384 bytes", error.comment)

    def test_codes(self) -> None:
        """Sequences inside: what is asked of their items, or all."""
        code = {
            "00080100": {"vr": "SH", "Value": ["CTHEAD"]},
            "00080102": {"vr": "SH", "Value": ["99D360"]},
            "00080104": {"vr": "LO", "Value": ["Schädel"]},
        }
        codes = {"vr": "SQ", "Value": [code, code]}
        self.schedule(
            {**procedure("1", {**step(), "00400008": codes}), "00321064": codes}
        )
        asked = Dataset()
        asked.CodeMeaning = ""
        asked.CodingSchemeVersion = ""
        (answer,) = self.find(
            identifier(
                {"ScheduledProtocolCodeSequence": Sequence([])},
                RequestedProcedureCodeSequence=Sequence([asked]),
            )
        )
        self.assertEqual({0xFF00}, self.pending)
        first, second = answer.RequestedProcedureCodeSequence
        self.assertEqual(first, second)
        self.assertEqual(
            ["CodingSchemeVersion", "CodeMeaning"], [e.keyword for e in first]
        )
        self.assertEqual("Schädel", first.CodeMeaning)
        (item,) = answer.ScheduledProcedureStepSequence
        first, _ = item.ScheduledProtocolCodeSequence
        self.assertEqual("CTHEAD", first.CodeValue)
        self.assertEqual(3, len(first))

    def test_oneAnswerAStep(self) -> None:
        """In the order of their start, each with its own item."""
        self.schedule(
            procedure("1", step("20260302 080000"), step("20260301 080000")),
            procedure("2", step("20260301 120000", Modality="MR")),
        )
        answers = self.find(identifier({"Modality": ""}, StudyInstanceUID=""))
        self.assertEqual(["1", "2", "1"], [a.StudyInstanceUID for a in answers])
        for answer in answers:
            self.assertEqual(1, len(answer.ScheduledProcedureStepSequence))
        (answer,) = self.find(
            identifier({"Modality": "MR"}, StudyInstanceUID="", PatientName="rossi^*")
        )
        self.assertEqual("2", answer.StudyInstanceUID)
        self.assertEqual([], self.find(identifier({"Modality": "US"})))

    def test_characterSets(self) -> None:
        """Conformance 4.5: ISO_IR 100, and more where that is not enough."""
        for name, expected in (
            ("Rossi^Anna", "ISO_IR 100"),
            ("Müller^Jörg", "ISO_IR 100"),
            ("Łukasz", "ISO_IR 192"),
            ("Yamada^Tarou=山田^太郎", "ISO_IR 192"),
        ):
            self.worklist = MemoryWorklist()
            self.service = WorklistService(self.worklist)
            self.schedule(procedure("1", step(ScheduledPerformingPhysicianName=name)))
            for syntax in SYNTAXES:
                (answer,) = self.find(
                    identifier({"ScheduledPerformingPhysicianName": ""}), syntax
                )
                self.assertEqual(expected, answer.SpecificCharacterSet)
                (item,) = answer.ScheduledProcedureStepSequence
                self.assertEqual(name, item.ScheduledPerformingPhysicianName)
            (answer,) = self.find(identifier({"Modality": ""}))
            self.assertNotIn("SpecificCharacterSet", answer)


class StatusTests(WorklistCase):
    """Statuses of C-FIND, and what a slow or absent peer does."""

    def test_away(self) -> None:
        self.worklist.away = True
        operation = self.operation(identifier({}))
        failure = self.failureResultOf(self.service.perform(operation), DIMSEError)
        self.assertEqual(0xA700, failure.value.status)

    def test_refused(self) -> None:
        dataset = Dataset()
        dataset.ScheduledProcedureStepSequence = Sequence([Dataset(), Dataset()])
        failure = self.failureResultOf(
            self.service.perform(self.operation(dataset)), DIMSEError
        )
        self.assertEqual(0xA900, failure.value.status)
        self.assertEqual((0x00400100,), failure.value.offendingElements)

    def test_cancel(self) -> None:
        """FE00, without identifier."""
        self.patch(answering, "TOGETHER", 1)
        self.schedule(*(procedure(f"1.{n}") for n in range(9)))
        operation = self.operation(identifier(PatientID=""))
        operation.hold = True
        performed = self.service.perform(operation)
        operation.letGo()
        operation.cancel()
        operation.hold = False
        operation.letGo()
        self.successResultOf(performed)
        self.assertEqual([0xFF00, 0xFF00, 0xFE00], operation.statuses())
        self.assertIsNone(operation.responses[-1].dataset)

    def test_pages(self) -> None:
        """The next is sent when the peer has taken the last."""
        self.patch(answering, "TOGETHER", 1)
        self.schedule(*(procedure(f"1.{n}") for n in range(3)))
        operation = self.operation(identifier(PatientID=""))
        operation.hold = True
        performed = self.service.perform(operation)
        for count in (1, 2, 3, 4):
            self.assertEqual(count, len(operation.responses))
            operation.letGo()
        self.successResultOf(performed)
        self.assertEqual([0xFF00] * 3 + [0x0000], operation.statuses())

    def test_associationEnds(self) -> None:
        self.schedule(procedure())
        operation = self.operation(identifier(PatientID=""))
        operation.lost = AssociationEnded()
        self.failureResultOf(self.service.perform(operation), AssociationEnded)


_TEXTS = {
    "AE": st.from_regex(r"\A[A-Z]{1,16}\Z"),
    "CS": st.from_regex(r"\A[A-Z0-9_]{1,16}\Z"),
    "DA": st.dates().map(lambda day: day.strftime("%Y%m%d").zfill(8)),
    "DS": st.integers(-(10**9), 10**9).map(str),
    "LO": st.text("abcäöü山Ł", min_size=1, max_size=20),
    "LT": st.text("abcäöü山Ł", min_size=1, max_size=200),
    "PN": st.from_regex(r"\A[a-zäö山]{1,9}(\^[a-z]{1,9})?\Z"),
    "SH": st.text("abcäöü山Ł", min_size=1, max_size=16),
    "TM": st.sampled_from(["10", "101112", "101112.5"]),
    "UI": st.from_regex(r"\A[1-9][0-9]{0,5}(\.[1-9][0-9]{0,5}){0,4}\Z"),
    "US": st.integers(0, 65535),
    "AS": st.just("042Y"),
}
_KEYWORDS = st.fixed_dictionaries(
    {},
    optional={
        known.keyword: _TEXTS[known.vr]
        for known in WORKLIST.attributes
        if known.vr in _TEXTS
    },
)


class EncoderTests(SynchronousTestCase):
    """What pydicom writes, and reads again (PS3.5 chapter 7)."""

    @settings(max_examples=100, deadline=None)
    @given(_KEYWORDS, st.sampled_from(SYNTAXES))
    def test_roundTrip(self, values: dict[str, Any], transferSyntax: str) -> None:
        """An answer that holds everything makes the same item again."""
        required = {
            "PatientName": "a",
            "PatientID": "1",
            "StudyInstanceUID": "1.2",
            "RequestedProcedureID": "1",
        }
        outer = {k: v for k, v in values.items() if not isOfStep(attribute(k))}
        inner = {k: v for k, v in values.items() if isOfStep(attribute(k))}
        attributes = procedure("1.2", step(**inner), **{**required, **outer})
        asked = [
            Asked(int(key, 16), element["vr"])
            for key, element in sorted(attributes.items())
        ]
        encoder = AnswerEncoder(asked, transferSyntax)
        data = encoder.encode(ScheduledStep(WorklistItem("x", 1, attributes), 0))
        syntax = UID(transferSyntax)
        answer = read_dataset(
            BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian
        )
        self.assertEqual(
            {**attributes, "00400100": {"vr": "SQ", "Value": stepsOf(attributes)}},
            readDataset(answer),
        )
        self.assertEqual(data, encode(answer, transferSyntax))
        self.assertIn(jsonKey(0x0020000D), attributes)

    def test_numbers(self) -> None:
        """Those that are no text are binary, a tag as two numbers (PS3.5 6.2)."""
        attributes = readKeywords(
            {
                "PatientName": "a",
                "PatientID": "1",
                "SelectorAttribute": "00100020",
                "SelectorUSValue": [1, 258],
                "SelectorFDValue": [0.5],
                "ScheduledProcedureStepSequence": [
                    {
                        "Modality": "CT",
                        "ScheduledStationAETitle": "CT01",
                        "ScheduledProcedureStepStartDate": "20260101",
                    }
                ],
            }
        )
        for syntax, tag in (
            (IMPLICIT, b"\x10\x00\x20\x00"),
            (EXPLICIT, b"\x10\x00\x20\x00"),
            (BIG_ENDIAN, b"\x00\x10\x00\x20"),
        ):
            asked = [
                Asked(int(key, 16), element["vr"])
                for key, element in attributes.items()
            ]
            data = AnswerEncoder(asked, syntax).encode(
                ScheduledStep(WorklistItem("x", 1, attributes), 0)
            )
            answer = read_dataset(
                BytesIO(data), UID(syntax).is_implicit_VR, UID(syntax).is_little_endian
            )
            raw: Any = answer.get_item("SelectorAttribute")
            self.assertEqual(raw.value, tag)
            self.assertEqual(attributes, readDataset(answer))


class BadInputTests(WorklistCase):
    """Whatever comes, it is answered, or refused with a status."""

    def test_noVR(self) -> None:
        """A key of a VR that is none comes back with one that is."""
        self.schedule(procedure())
        for vr, expected in ((b"L\x80", "UN"), (b"\0\0", "UN"), (b"SH", "SH")):
            data = b"\x11\x00\x01\x10" + vr + b"\0\0"
            operation = FakeOperation(
                PresentationContext(1, WORKLIST_FIND, EXPLICIT),
                Command(0x0020, WORKLIST_FIND),
                data,
            )
            self.successResultOf(self.service.perform(operation))
            self.assertEqual([0xFF01, 0x0000], operation.statuses())
            (answer,) = self.answers(operation)
            self.assertEqual(expected, answer[0x00111001].VR)

    @settings(max_examples=400, deadline=None)
    @given(
        st.binary(max_size=60),
        st.integers(0, 400),
        st.sampled_from(SYNTAXES),
        st.booleans(),
    )
    def test_noise(
        self, noise: bytes, place: int, transferSyntax: str, isInserted: bool
    ) -> None:
        code = Dataset()
        code.CodeValue = "X"
        dataset = identifier(
            {
                "Modality": "CT",
                "ScheduledProcedureStepStartDate": "20260101-",
                "ScheduledProcedureStepStartTime": "08-",
                "ScheduledProtocolCodeSequence": Sequence([code]),
            },
            "ISO_IR 192",
            PatientName="Rossi*",
            PatientID="*",
        )
        data = encode(dataset, transferSyntax)
        place %= len(data)
        rest = data[place if isInserted else place + len(noise) :]
        data = data[:place] + noise + rest
        syntax = UID(transferSyntax)
        try:
            noisy = read_dataset(
                BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian
            )
            for key in tuple(noisy.keys()):
                noisy.get_item(key)
        except Exception:
            # The operation refuses it, as it does whatever pydicom cannot read.
            return
        try:
            question = readWorklistQuestion(noisy)
        except DIMSEError as error:
            self.assertIn(error.status, (0xA900, 0xC000))
            return
        encoder = AnswerEncoder(question.asked, transferSyntax)
        encoder.encode(ScheduledStep(WorklistItem("x", 1, procedure()), 0))
        for condition in question.conditions:
            self.successResultOf(MemoryWorklist().list([condition], "", 1))
