"""Worklist items from and to the forms outside (PS3.18 F.2; PS3.4 K.6-1)."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID
from twisted.trial.unittest import SynchronousTestCase

from d360.admin.worklist import WorklistForms as FormsOfTheWeb
from d360.model import WorklistItem
from d360.services.part10 import encodeHead
from d360.services.worklistitems import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_VALUES,
    ItemError,
    WorklistForms,
    asKeywords,
    asModel,
    readDataset,
    readFile,
    readKeywords,
    readModel,
)
from d360.services.worklistvalues import readValue
from d360.worklistattributes import WORKLIST, isOfStep
from tests.services.datasets import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, encode
from tests.transcoding import building

STEP = {
    "Modality": "CT",
    "ScheduledStationAETitle": "CT01",
    "ScheduledProcedureStepStartDate": "20260101",
    "ScheduledProcedureStepStartTime": "101500",
    "ScheduledProcedureStepID": "S1",
}
BODY = {
    "PatientName": "Rossi^Anna",
    "PatientID": "1",
    "StudyInstanceUID": "1.2.3",
    "RequestedProcedureID": "R1",
    "ScheduledProcedureStepSequence": [STEP],
}


def body(*steps: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Of JSON by keyword; C{None} leaves something out."""
    made = {**BODY, **values}
    if steps:
        made["ScheduledProcedureStepSequence"] = list(steps)
    return {keyword: value for keyword, value in made.items() if value is not None}


def back(attributes: dict[str, Any]) -> dict[str, Any]:
    return asKeywords(WorklistItem("x", 1, attributes))


class FormsTests(SynchronousTestCase):
    """What comes in one form goes out in each."""

    full = body(
        {
            **STEP,
            "ScheduledStationAETitle": ["CT01", "CT02"],
            "ScheduledProtocolCodeSequence": [
                {"CodeValue": "HEAD", "CodeMeaning": "Schädel"},
                {"CodeValue": "NECK"},
            ],
        },
        {**STEP, "ScheduledProcedureStepID": "S2"},
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        PatientWeight="70.5",
        PregnancyStatus=4,
        Allergies=["Iodine", "Latex"],
        PatientComments="one\r\ntwo \\ three",
        OtherPatientNames=["Nubile^Anna", "=安娜"],
    )

    def test_keywords(self) -> None:
        attributes = readKeywords(self.full)
        self.assertEqual(self.full, back(attributes))
        self.assertEqual(list(attributes), sorted(attributes))
        self.assertEqual(
            {"vr": "PN", "Value": [{
                "Alphabetic": "Yamada^Tarou",
                "Ideographic": "山田^太郎",
                "Phonetic": "やまだ^たろう",
            }]},
            attributes["00100010"],
        )  # fmt: skip
        self.assertEqual({"vr": "US", "Value": [4]}, attributes["001021C0"])
        self.assertEqual({"vr": "DS", "Value": ["70.5"]}, attributes["00101030"])

    def test_decimals(self) -> None:
        """As they are written; numbers in 16 characters."""
        for value, expected in (
            ("70.50", "70.50"),
            (70.5, "70.5"),
            (1e-300, "1e-300"),
            (0.1 + 0.2, "0.30000000000000"),
            (7, "7"),
        ):
            self.assertEqual(expected, readValue("DS", value))

    def test_model(self) -> None:
        """What goes out as the model comes in as such; pydicom reads it too."""
        attributes = readKeywords(self.full)
        model = asModel(WorklistItem("x", 1, attributes))
        self.assertEqual(attributes, readModel(json.loads(json.dumps(model))))
        dataset = Dataset.from_json(json.dumps(model))
        self.assertEqual("山田^太郎", dataset.PatientName.ideographic)
        self.assertEqual(attributes, readDataset(dataset))
        self.assertEqual(attributes, readModel(dataset.to_json_dict()) | {
            "00101030": attributes["00101030"]
        })  # fmt: skip

    def test_dataset(self) -> None:
        """Files in each character set and transfer syntax."""
        attributes = readKeywords(self.full)
        for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
            dataset = Dataset.from_json(json.dumps(attributes))
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
            data = encode(dataset, syntax)
            read = read_dataset(
                BytesIO(data), UID(syntax).is_implicit_VR, UID(syntax).is_little_endian
            )
            self.assertEqual(attributes, readDataset(read))
            self.assertEqual(attributes, readFile(asFile(dataset, syntax)))
        for characterSet, name in (
            ("ISO_IR 100", "Müller^Jörg"),
            ("ISO_IR 101", "Łukasz"),
            ("ISO_IR 144", "Люкceмбypг"),
            ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎"),
            ("GB18030", "王小东"),
        ):
            dataset = Dataset.from_json(json.dumps(readKeywords(BODY)))
            dataset.SpecificCharacterSet = characterSet.split("\\")
            dataset.PatientName = name
            dataset.PatientComments = f"one\r\n{name}"
            (item,) = dataset.ScheduledProcedureStepSequence
            item.ScheduledPerformingPhysicianName = name
            read = readFile(asFile(dataset, EXPLICIT))
            self.assertNotIn("00080005", read)
            found = back(read)
            self.assertEqual(name, found["PatientName"])
            self.assertEqual(f"one\r\n{name}", found["PatientComments"])
            (step,) = found["ScheduledProcedureStepSequence"]
            self.assertEqual(name, step["ScheduledPerformingPhysicianName"])

    def test_whatFilesHaveBesides(self) -> None:
        """Left out: private attributes, bulk data, group lengths, unknown ones."""
        dataset = Dataset.from_json(json.dumps(readKeywords(BODY)))
        dataset.add_new(0x00090010, "LO", "ACME")
        dataset.add_new(0x00091001, "LO", "secret")
        dataset.add_new(0x00080000, "UL", 4)
        dataset.PixelData = b"\0\0"
        dataset["PixelData"].VR = "OW"
        dataset.add_new(0x0008FFFE, "LO", "?")
        dataset.add_new(0x60020010, "US", 4)
        self.assertEqual(readKeywords(BODY), readFile(asFile(dataset, EXPLICIT)))

    def test_oldForms(self) -> None:
        """Dates and times of ACR-NEMA, padding, lower-case hexadecimal digits."""
        attributes = readKeywords(
            body(
                {**STEP, "ScheduledProcedureStepStartDate": "2026.01.02",
                 "ScheduledProcedureStepStartTime": "10:15:00.5"},
                PatientID=" 1 ", PatientSex="F ",
            )
        )  # fmt: skip
        found = back(attributes)
        (step,) = found["ScheduledProcedureStepSequence"]
        self.assertEqual("20260102", step["ScheduledProcedureStepStartDate"])
        self.assertEqual("101500.5", step["ScheduledProcedureStepStartTime"])
        self.assertEqual(("1", "F"), (found["PatientID"], found["PatientSex"]))
        lower = {key.lower(): value for key, value in attributes.items()}
        self.assertEqual(attributes, readModel(lower))

    def test_empty(self) -> None:
        """Without a value it is not there; the empty ones among several stay."""
        attributes = readKeywords(
            body(
                PatientBirthDate="", PatientSex=[], Allergies=["", "Latex", None],
                RequestedProcedureCodeSequence=[], PatientWeight=None,
                OtherPatientNames="^^=", SpecificCharacterSet="ISO_IR 100",
            )
        )  # fmt: skip
        self.assertEqual(readKeywords(BODY).keys() | {"00102110"}, attributes.keys())
        self.assertEqual(["", "Latex", ""], back(attributes)["Allergies"])
        self.assertEqual(attributes, readKeywords(back(attributes)))

    def test_web(self) -> None:
        """All of it as the HTTP side wants it."""
        forms: FormsOfTheWeb = WorklistForms()
        attributes = forms.fromKeywords(BODY)
        item = WorklistItem("x", 1, attributes)
        self.assertEqual(attributes, forms.fromModel(forms.asModel(item)))
        self.assertEqual(BODY, forms.asKeywords(item))
        dataset = Dataset.from_json(json.dumps(attributes))
        self.assertEqual(attributes, forms.fromFile(asFile(dataset, EXPLICIT)))
        (condition,) = forms.conditions({"PatientID": "1"})
        self.assertEqual("PatientID", condition.attribute.keyword)


def asFile(dataset: Dataset, transferSyntax: str) -> bytes:
    """A Part 10 file of it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.31"
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = transferSyntax
    dataset.file_meta = meta
    output = BytesIO()
    dcmwrite(output, dataset, enforce_file_format=True)
    return output.getvalue()


class CompletionTests(SynchronousTestCase):
    """Type 1 of PS3.4 Table K.6-1: refused, or made."""

    def test_made(self) -> None:
        steps = [dict(STEP) for _ in range(3)]
        for step in steps:
            del step["ScheduledProcedureStepID"]
            del step["ScheduledProcedureStepStartTime"]
        first, second = (
            back(
                readKeywords(
                    body(*steps, StudyInstanceUID=None, RequestedProcedureID=None)
                )
            )
            for _ in range(2)
        )
        for keyword in ("StudyInstanceUID", "RequestedProcedureID"):
            self.assertNotEqual(first[keyword], second[keyword])
        self.assertRegex(first["StudyInstanceUID"], r"\A2\.25\.[1-9][0-9]{20,38}\Z")
        made = [
            step["ScheduledProcedureStepID"]
            for item in (first, second)
            for step in item["ScheduledProcedureStepSequence"]
        ]
        self.assertEqual(6, len(set(made)))
        for text in (*made, first["RequestedProcedureID"]):
            self.assertEqual(text, readValue("SH", text))
        self.assertEqual(
            ["000000"] * 3,
            [
                step["ScheduledProcedureStepStartTime"]
                for step in first["ScheduledProcedureStepSequence"]
            ],
        )

    def test_kept(self) -> None:
        """What replaces an item keeps what was made for it."""
        bare = {k: v for k, v in STEP.items() if k != "ScheduledProcedureStepID"}
        given = body(bare, bare, StudyInstanceUID=None, RequestedProcedureID=None)
        known = readKeywords(given)
        self.assertEqual(known, readKeywords(given, known))
        more = readKeywords(body(bare, bare, bare, StudyInstanceUID="1.9"), known)
        self.assertEqual("1.9", back(more)["StudyInstanceUID"])
        ids = [s["ScheduledProcedureStepID"] for s in _steps(more)]
        self.assertEqual(
            [s["ScheduledProcedureStepID"] for s in _steps(known)], ids[:2]
        )
        self.assertEqual(3, len(set(ids)))
        taken = {**STEP, "ScheduledProcedureStepID": ids[0]}
        swapped = readKeywords(body(bare, taken), known)
        ids = [s["ScheduledProcedureStepID"] for s in _steps(swapped)]
        self.assertEqual(2, len(set(ids)))

    def test_missing(self) -> None:
        """All of it is named at once."""
        empty = {**STEP, "Modality": "", "ScheduledStationAETitle": []}
        for item, keyword in (
            (body(PatientName=None), "PatientName"),
            (body(PatientID="  "), "PatientID"),
            (body(ScheduledProcedureStepSequence=None),
             "ScheduledProcedureStepSequence"),
            (body(ScheduledProcedureStepSequence=[]), "ScheduledProcedureStepSequence"),
            (
                body(STEP, empty, PatientName=None),
                "PatientName, ScheduledProcedureStepSequence[1].Modality, "
                "ScheduledProcedureStepSequence[1].ScheduledStationAETitle",
            ),
            (
                {},
                "PatientName, PatientID, ScheduledProcedureStepSequence",
            ),
        ):  # fmt: skip
            error = self.assertRaises(ItemError, readKeywords, item)
            self.assertEqual((keyword, "missing"), (error.keyword, error.reason))

    def test_sameID(self) -> None:
        error = self.assertRaises(ItemError, readKeywords, body(STEP, STEP))
        self.assertEqual(
            "ScheduledProcedureStepSequence[1].ScheduledProcedureStepID", error.keyword
        )


def _steps(attributes: dict[str, Any]) -> Any:
    return back(attributes)["ScheduledProcedureStepSequence"]


class RefusalTests(SynchronousTestCase):
    """The keyword and the reason, and never the value."""

    def refused(self, given: Any, keyword: str, read: Any = readKeywords) -> ItemError:
        error: ItemError = self.assertRaises(ItemError, read, given)
        self.assertEqual(keyword, error.keyword)
        self.assertTrue(error.reason)
        self.assertIsInstance(error, ValueError)
        return error

    def test_values(self) -> None:
        """By VR (PS3.5 6.2)."""
        for keyword, value in (
            ("PatientID", 12), ("PatientID", True), ("PatientID", "x" * 65),
            ("PatientID", "a\\b"), ("PatientID", "a\0b"), ("PatientID", "a\nb"),
            ("PatientID", "\ud800"), ("PatientID", ["a", "b"]), ("PatientID", {}),
            ("PatientID", [["a"]]), ("PatientID", "\x1b$B"),
            ("AccessionNumber", "x" * 17),
            ("PatientBirthDate", "2026-01-01"), ("PatientBirthDate", "20260230"),
            ("PatientBirthDate", "20261301"), ("PatientBirthDate", 20260101),
            ("PatientBirthDate", "00000101"), ("PatientBirthDate", "٢٠٢٦٠١٠١"),
            ("PatientBirthDate", "20260101-20260102"),
            ("PatientBirthTime", "25"), ("PatientBirthTime", "1015001"),
            ("PatientSex", "f"), ("PatientSex", "X" * 17), ("PatientSex", "Ä"),
            ("PatientAge", "42"), ("PatientAge", "42Y"),
            ("PatientWeight", "heavy"), ("PatientWeight", "1,5"),
            ("PatientWeight", "1e999"), ("PatientWeight", "0" * 17),
            ("PatientWeight", float("nan")), ("PatientWeight", True),
            ("PatientWeight", 10**400), ("PatientWeight", 10**5000),
            ("PregnancyStatus", -1), ("PregnancyStatus", 65536),
            ("PregnancyStatus", 1.5), ("PregnancyStatus", "x"),
            ("PregnancyStatus", True), ("PregnancyStatus", "9" * 5000),
            ("StudyInstanceUID", "1..2"), ("StudyInstanceUID", "1.2a"),
            ("StudyInstanceUID", "1." + "2" * 63), ("StudyInstanceUID", ".1"),
            ("PatientName", "a=b=c=d"), ("PatientName", "x" * 65),
            ("PatientName", "a^b^c^d^e^f"), ("PatientName", ["a", "b"]),
            ("PatientName", "a\\b"), ("PatientName", {"Alphabetic": "x"}),
            ("Allergies", ["x"] * (MAX_VALUES + 1)),
            ("PatientComments", "x" * 10241), ("PatientComments", "a\0b"),
            ("RequestedProcedureCodeSequence", "x"),
            ("RequestedProcedureCodeSequence", {"CodeValue": "x"}),
            ("RequestedProcedureCodeSequence", [{}] * (MAX_ITEMS + 1)),
            ("PixelData", "x"), ("EncapsulatedDocument", "x"),
            ("TransferSyntaxUID", "1.2"), ("Status", 1), ("Nonsense", "x"),
            ("patientName", "x"), ("", "x"),
            ("Modality", "CT"), ("ScheduledStationAETitle", "CT01"),
        ):  # fmt: skip
            error = self.refused(body(**{keyword: value}), keyword)
            self.assertLess(len(str(error)), 200)
            if isinstance(value, str) and len(value) > 4:
                self.assertNotIn(value, str(error))

    def test_inSteps(self) -> None:
        """With the way to it."""
        way = "ScheduledProcedureStepSequence[1]"
        for keyword, value in (
            ("ScheduledStationAETitle", "X" * 17),
            ("ScheduledStationAETitle", "Ä"),
            ("ScheduledStationAETitle", "A\\B"),
            ("Modality", "ct"),
            ("Modality", ["CT", "MR"]),
            ("ScheduledProcedureStepStartDate", "tomorrow"),
            ("PatientName", "Rossi"),
        ):
            self.refused(body(STEP, {**STEP, keyword: value}), f"{way}.{keyword}")
        self.refused(
            body(STEP, {**STEP, "ScheduledProtocolCodeSequence": ["x"]}),
            f"{way}.ScheduledProtocolCodeSequence[0]",
        )
        self.refused(
            body({**STEP, "ScheduledProtocolCodeSequence": [{"CodeValue": "x" * 17}]}),
            "ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence[0]"
            ".CodeValue",
        )
        for step in ("x", None, [], 1):
            self.refused(
                body(ScheduledProcedureStepSequence=[step]),
                "ScheduledProcedureStepSequence[0]",
            )

    def test_tooDeep(self) -> None:
        """Sequences in each other, and elements in all, are bounded."""
        deep: Any = [{"CodeValue": "x"}]
        for _ in range(MAX_DEPTH):
            deep = [{"PurposeOfReferenceCodeSequence": deep}]
        error = self.assertRaises(
            ItemError, readKeywords, body(RequestedProcedureCodeSequence=deep)
        )
        self.assertIn("in each other", error.reason)
        codes = [{"CodeValue": "x", "CodeMeaning": "y"}] * 100
        wide = [{"PurposeOfReferenceCodeSequence": codes}] * 100
        error = self.assertRaises(
            ItemError, readKeywords, body(RequestedProcedureCodeSequence=wide)
        )
        self.assertIn("elements", error.reason)

    def test_tooManyValues(self) -> None:
        """Those of an element count as elements."""
        names = {"OtherPatientNames": ["A^B"] * 100}
        for count, isRight in ((18, True), (20, False)):
            given = body(RequestedProcedureCodeSequence=[names] * count)
            if isRight:
                readKeywords(given)
                continue
            error = self.assertRaises(ItemError, readKeywords, given)
            self.assertIn("elements", error.reason)

    def test_fileOfTooMany(self) -> None:
        """They are not even read, wherever they stand."""
        many = b"".join(building.implicit(0x00110000 + n, b"") for n in range(60000))
        inside = building.item(many, building.UNDEFINED) + building.ITEM_END
        for data in (
            many,
            building.implicit(0x00400100, building.item(many)),
            building.implicit(
                0x00400100, inside + building.SEQUENCE_END, building.UNDEFINED
            ),
        ):
            head = encodeHead("1.2", "1.2.3", IMPLICIT, "", "")
            error = self.assertRaises(ItemError, readFile, head + data)
            self.assertIn("more than", error.reason)

    def test_model(self) -> None:
        """What is none in the DICOM JSON Model."""
        model = readKeywords(BODY)
        for change, keyword in (
            ({"0010": {}}, "0010"),
            ({"PatientID": {"vr": "LO"}}, "PatientID"),
            ({"00100020": "1"}, "PatientID"),
            ({"00100020": {"vr": "SH", "Value": ["1"]}}, "PatientID"),
            ({"00100020": {"vr": "LO", "Value": "1"}}, "PatientID"),
            ({"00100020": {"vr": "LO", "Value": [{}]}}, "PatientID"),
            ({"00100020": {"vr": "LO", "BulkDataURI": "file:///"}}, "PatientID"),
            ({"00100010": {"vr": "PN", "Value": [{"Alphabetic": 1}]}}, "PatientName"),
            ({"00100010": {"vr": "PN", "Value": [{"Other": ""}]}}, "PatientName"),
            ({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "a=b"}]}},
             "PatientName"),
            ({"00091001": {"vr": "LO", "Value": ["x"]}}, "00091001"),
            ({"0008FFFE": {"vr": "LO"}}, "0008FFFE"),
            # Of a repeating group: no keyword tells which.
            ({"60020010": {"vr": "US", "Value": [4]}}, "60020010"),
            ({"00020010": {"vr": "UI", "Value": ["1.2"]}}, "00020010"),
            ({"7FE00010": {"vr": "OW", "InlineBinary": ""}}, "PixelData"),
            ({"001021b0": {"vr": "LT"}, "001021B0": {"vr": "LT"}},
             "AdditionalPatientHistory"),
            ({"x" * 999: {}}, "x" * 64),
        ):  # fmt: skip
            self.refused({**model, **change}, keyword, readModel)
        for nothing in ([], "x", None, 1):
            self.refused(nothing, "item", readModel)
            self.refused(nothing, "item", readKeywords)

    def test_files(self) -> None:
        dataset = Dataset.from_json(json.dumps(readKeywords(BODY)))
        whole = asFile(dataset, EXPLICIT)
        for data in (b"", b"x" * 1000, whole[:200], asFile(dataset, DEFLATED)):
            self.refused(data, "file", readFile)
        dataset.PatientID = None
        self.refused(asFile(dataset, EXPLICIT), "PatientID", readFile)
        broken = Dataset.from_json(json.dumps(readKeywords(BODY)))
        broken[Tag("PregnancyStatus")] = RawDataElement(
            Tag("PregnancyStatus"), "US", 3, b"\0\0\0", 0, False, True
        )
        self.refused(broken, "PregnancyStatus", readDataset)
        long = Dataset.from_json(json.dumps(readKeywords(BODY)))
        long.ScheduledProcedureStepSequence = Sequence([Dataset()] * 101)
        self.refused(long, "ScheduledProcedureStepSequence", readDataset)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["CodeValue", "Modality", "vr", "Value", "Alphabetic"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


class AnythingTests(SynchronousTestCase):
    """Whatever is given, it is an item or an L{ItemError}."""

    @settings(
        max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(
        st.dictionaries(
            st.sampled_from([a.keyword for a in WORKLIST.attributes])
            | st.sampled_from(["ScheduledProcedureStepSequence", "PixelData"])
            | st.text(max_size=5),
            _ANY,
            max_size=5,
        )
    )
    def test_keywords(self, values: dict[str, Any]) -> None:
        try:
            attributes = readKeywords({**BODY, **values})
        except ItemError:
            return
        self.assertEqual(attributes, readKeywords(back(attributes)))
        self.assertEqual(attributes, readModel(attributes))
        json.dumps(attributes, allow_nan=False).encode()

    @settings(max_examples=300, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([f"{a.tag:08X}" for a in WORKLIST.attributes])
            | st.sampled_from(["00400100", "7FE00010", "00080005"]),
            st.fixed_dictionaries({}, optional={"vr": _ANY, "Value": _ANY}) | _ANY,
            max_size=5,
        )
    )
    def test_model(self, values: dict[str, Any]) -> None:
        try:
            attributes = readModel({**readKeywords(BODY), **values})
        except ItemError:
            return
        self.assertEqual(attributes, readKeywords(back(attributes)))

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(sorted(readValue.__globals__["_READERS"])), _ANY)
    @example("DS", 1e-300)
    @example("DS", 0.1 + 0.2)
    @example("PN", "^=^")
    def test_values(self, vr: str, value: Any) -> None:
        """Read again, a value is the same."""
        try:
            read = readValue(vr, value)
        except ValueError:
            return
        self.assertEqual(read, readValue(vr, read))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=300), st.integers(0, 2000))
    def test_files(self, noise: bytes, place: int) -> None:
        dataset = Dataset.from_json(json.dumps(readKeywords(BODY)))
        data = asFile(dataset, IMPLICIT)
        place = min(place, len(data))
        try:
            attributes = readFile(data[:place] + noise + data[place + len(noise) :])
        except ItemError:
            return
        self.assertEqual(attributes, readModel(attributes))


class PlaceTests(SynchronousTestCase):
    def test_everyAttribute(self) -> None:
        """Each one of the registry is taken where it belongs, and only there."""
        values: dict[str, Any] = {
            "AE": "A", "AS": "042Y", "CS": "A", "DA": "20260101", "DS": "1", "LO": "a",
            "LT": "a", "PN": "a", "SH": "a", "ST": "a", "TM": "10", "UI": "1.2",
            "US": 1, "SQ": [{"CodeValue": "x"}],
        }  # fmt: skip
        for known in WORKLIST.attributes:
            value = {known.keyword: values[known.vr]}
            right, wrong = body(**value), body({**STEP, **value})
            if isOfStep(known):
                right, wrong = wrong, right
            found = back(readKeywords(right))
            if isOfStep(known):
                (found,) = found["ScheduledProcedureStepSequence"]
            self.assertEqual(values[known.vr], found[known.keyword])
            error = self.assertRaises(ItemError, readKeywords, wrong)
            self.assertIn("belongs", error.reason)
