"""From identifiers to questions (PS3.4 C.2.2.2; conformance 7.2.2.1)."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID
from twisted.trial.unittest import SynchronousTestCase

from d360.attributes import REGISTRY, Level, foldName, matchKey
from d360.errors import DIMSEError
from d360.model import AnyOf, Condition, NameMatch, Nothing, Range, Wildcard
from d360.services import matching
from d360.services.matching import Root, conditionsFor, namePatterns, readQuestion
from tests.services.datasets import EXPLICIT, IMPLICIT, encode


def identifier(level: str | None = "STUDY", **keys: Any) -> Dataset:
    dataset = Dataset()
    if level is not None:
        dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def received(dataset: Dataset, transferSyntax: str = EXPLICIT) -> Dataset:
    """As it comes from the wire."""
    return decoded(encode(dataset, transferSyntax), transferSyntax)


def decoded(data: bytes, transferSyntax: str = EXPLICIT) -> Dataset:
    """As an operation reads it."""
    syntax = UID(transferSyntax)
    file = BytesIO(data)
    return read_dataset(file, syntax.is_implicit_VR, syntax.is_little_endian)


def conditions(keyword: str, text: str) -> list[Condition]:
    return conditionsFor(REGISTRY.byKeyword[keyword], text)


def wildcard(pattern: str, value: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None


def holds(condition: Condition, value: str) -> bool:
    """What L{d360.model} says of conditions, in plain Python."""
    vr = condition.attribute.vr
    key = matchKey(vr, value)
    if isinstance(condition, AnyOf):
        return key in condition.keys
    if isinstance(condition, Wildcard):
        return any(wildcard(pattern, value) for pattern in condition.patterns)
    if isinstance(condition, Range):
        return (
            key is not None
            and (condition.low is None or condition.low <= key)
            and (condition.high is None or key <= condition.high)
        )
    if isinstance(condition, NameMatch):
        groups = foldName(value)[1:-1].split("=")
        chosen = groups if condition.group is None else groups[condition.group :][:1]
        return any(
            wildcard(pattern, group)
            for group in chosen
            for pattern in condition.patterns
        )
    return False


def matches(keyword: str, key: str, value: str) -> bool:
    return all(holds(condition, value) for condition in conditions(keyword, key))


class LevelTests(SynchronousTestCase):
    """Query/Retrieve Level (PS3.4 C.6.1.1.1, C.6.2.1.1)."""

    def refused(self, dataset: Dataset, root: Root, tag: int) -> None:
        error = self.assertRaises(DIMSEError, readQuestion, dataset, root)
        self.assertEqual((0xA900, (tag,)), (error.status, error.offendingElements))
        self.assertTrue(0 < len(error.comment) <= 64)

    def test_levels(self) -> None:
        for level in Level:
            dataset = identifier(level.name, StudyInstanceUID="1.2")
            self.assertIs(level, readQuestion(dataset, Root.PATIENT).query.level)

    def test_missingOrUnknown(self) -> None:
        for level in (None, "", "WORKLIST", "*", "study", "STUDY\\SERIES"):
            for root in Root:
                self.refused(identifier(level), root, 0x00080052)

    def test_patientInStudyRoot(self) -> None:
        self.refused(identifier("PATIENT"), Root.STUDY, 0x00080052)

    def test_requiredKeys(self) -> None:
        """Conformance 7.2.2.1: type R."""
        for level in ("SERIES", "IMAGE"):
            for root in Root:
                self.refused(identifier(level), root, 0x0020000D)
                for uid in ("", "*"):
                    dataset = identifier(level, StudyInstanceUID=uid)
                    self.refused(dataset, root, 0x0020000D)
                dataset = identifier(level, StudyInstanceUID=["1.2", "1.3"])
                (condition,) = readQuestion(dataset, root).query.conditions
                self.assertEqual(("1.2", "1.3"), condition.keys)


class AskedTests(SynchronousTestCase):
    """Only the asked keys come back (PS3.4 C.4.1.1.3.2)."""

    def test_asked(self) -> None:
        question = readQuestion(
            received(identifier(PatientName="Ro*", StudyDate="", StudyID="")),
            Root.STUDY,
        )
        self.assertEqual(
            [0x00080020, 0x00100010, 0x00200010], [key.tag for key in question.asked]
        )
        self.assertEqual(
            ["StudyDate", "PatientName", "StudyID"],
            [attribute.keyword for attribute in question.query.returned],
        )
        self.assertTrue(question.isFullySupported)

    def test_unsupported(self) -> None:
        """Unknown keys, sequences and lower levels: empty, and FF01."""
        item = Dataset()
        item.CodeValue = "1"
        for keyword, value in (
            ("PatientComments", "x"),
            ("ProcedureCodeSequence", Sequence([item])),
            ("SeriesDescription", ""),
            ("SOPInstanceUID", ""),
            ("TimezoneOffsetFromUTC", ""),
        ):
            for transferSyntax in (IMPLICIT, EXPLICIT):
                dataset = received(identifier(**{keyword: value}), transferSyntax)
                question = readQuestion(dataset, Root.STUDY)
                (key,) = question.asked
                self.assertIsNone(key.attribute)
                self.assertEqual(dataset[keyword].VR, key.vr)
                self.assertEqual(
                    ((), ()), (question.query.conditions, question.query.returned)
                )
                self.assertFalse(question.isFullySupported)

    def test_countAsKey(self) -> None:
        """A count cannot be matched; it is returned all the same."""
        dataset = identifier(NumberOfStudyRelatedInstances="5")
        question = readQuestion(received(dataset), Root.STUDY)
        self.assertFalse(question.isFullySupported)
        self.assertEqual(1, len(question.query.returned))
        dataset = identifier(NumberOfStudyRelatedInstances="")
        self.assertTrue(readQuestion(received(dataset), Root.STUDY).isFullySupported)

    def test_ignored(self) -> None:
        """Group lengths, character set, and what every answer has."""
        dataset = identifier(RetrieveAETitle="X", InstanceAvailability="")
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.add_new(0x00080000, "UL", 100)
        dataset.add_new(0x00100000, "UL", 100)
        question = readQuestion(received(dataset), Root.STUDY)
        self.assertEqual(((), True), (question.asked, question.isFullySupported))

    def test_private(self) -> None:
        dataset = identifier()
        dataset.add_new(0x00090010, "LO", "ACME")
        dataset.add_new(0x00091001, "DS", "1")
        for transferSyntax, vr in ((IMPLICIT, "UN"), (EXPLICIT, "DS")):
            question = readQuestion(received(dataset, transferSyntax), Root.STUDY)
            self.assertEqual(vr, question.asked[1].vr)

    def test_upperLevels(self) -> None:
        """Are matched and returned at lower levels."""
        dataset = identifier("IMAGE", StudyInstanceUID="1.2", PatientID="P1")
        question = readQuestion(dataset, Root.STUDY)
        self.assertEqual(2, len(question.query.conditions))

    def test_tooMany(self) -> None:
        dataset = identifier()
        for number in range(matching.MAX_KEYS + 1):
            dataset.add_new(0x00111000 + number, "LO", "")
        error = self.assertRaises(DIMSEError, readQuestion, dataset, Root.STUDY)
        self.assertEqual(0xC000, error.status)
        uids = [f"1.{number}" for number in range(matching.MAX_VALUES + 1)]
        dataset = identifier(StudyInstanceUID=uids)
        error = self.assertRaises(DIMSEError, readQuestion, dataset, Root.STUDY)
        self.assertEqual(0xC000, error.status)

    def test_tooManyPatterns(self) -> None:
        """Each is compared with each entity; of UIDs there may be more."""
        most = matching.MAX_PATTERNS
        for keyword, value in (
            ("PatientName", "Rossi"),
            ("PatientName", "*"),
            ("AccessionNumber", "A*"),
        ):
            attribute = REGISTRY.byKeyword[keyword]
            values = [f"{value}{number}" for number in range(most + 1)]
            conditions = conditionsFor(attribute, "\\".join(values[:most]))
            self.assertEqual(most, len(conditions[0].patterns))
            error = self.assertRaises(
                DIMSEError, conditionsFor, attribute, "\\".join(values)
            )
            self.assertEqual(0xC000, error.status)
            self.assertEqual((attribute.tag,), error.offendingElements)

    def test_tooLong(self) -> None:
        """Nothing that is indexed is as long; folding it would take a second."""
        for keyword in ("PatientName", "PatientID", "StudyDescription"):
            text = "a^" * (matching.MAX_KEY_LENGTH // 2 + 1)
            dataset = identifier()
            dataset[keyword] = RawDataElement(
                Tag(keyword), "UT", len(text), text.encode(), 0, False, True
            )
            error = self.assertRaises(DIMSEError, readQuestion, dataset, Root.STUDY)
            self.assertEqual(0xC000, error.status)
            self.assertEqual((int(Tag(keyword)),), error.offendingElements)
        uids = [f"1.2.840.{number}" for number in range(4000)]
        question = readQuestion(identifier(StudyInstanceUID=uids), Root.STUDY)
        self.assertEqual(4000, len(question.query.conditions[0].keys))

    def test_tooManyAreNotLookedAt(self) -> None:
        """They are counted first: each takes its time."""
        dataset = identifier()
        for number in range(matching.MAX_KEYS + 1):
            dataset.add_new(0x00111000 + number, "LO", "")
        self.patch(matching, "_vrOf", None)
        self.assertRaises(DIMSEError, readQuestion, dataset, Root.STUDY)

    def test_sequenceInsteadOfText(self) -> None:
        """Cannot be matched: universal, and FF01."""
        item = Dataset()
        item.PatientName = "x"
        dataset = identifier()
        dataset.add_new("PatientID", "SQ", [item])
        question = readQuestion(dataset, Root.STUDY)
        self.assertEqual((), question.query.conditions)
        self.assertFalse(question.isFullySupported)

    def test_characterSet(self) -> None:
        """Specific Character Set of the request decodes its keys."""
        for characterSet in ("ISO_IR 100", "ISO_IR 192"):
            dataset = Dataset()
            dataset.SpecificCharacterSet = characterSet
            dataset.QueryRetrieveLevel = "STUDY"
            dataset.PatientName = "Müller*"
            dataset.StudyDescription = "Schädel"
            first, second = readQuestion(received(dataset), Root.STUDY).query.conditions
            self.assertEqual(("Schädel",), first.keys)
            self.assertEqual(("muller*",), second.patterns)

    def test_everyMatchingKeyOfTheStatement(self) -> None:
        """Conformance 7.2.2.1."""
        for level, keywords in (
            ("PATIENT", "PatientName PatientID PatientBirthDate PatientSex"),
            (
                "STUDY",
                "AccessionNumber PatientName PatientID PatientBirthDate PatientSex "
                "StudyID StudyInstanceUID StudyDate StudyTime ModalitiesInStudy "
                "StudyDescription",
            ),
            ("SERIES", "StudyInstanceUID SeriesInstanceUID SeriesNumber Modality"),
            (
                "IMAGE",
                "StudyInstanceUID SeriesInstanceUID SOPInstanceUID SOPClassUID "
                "InstanceNumber",
            ),
        ):
            keys = {"StudyInstanceUID": "1"} if level in ("SERIES", "IMAGE") else {}
            for keyword in keywords.split():
                value = {"DA": "20240101", "TM": "10"}.get(
                    REGISTRY.byKeyword[keyword].vr, "1"
                )
                dataset = received(identifier(level, **{**keys, keyword: value}))
                question = readQuestion(dataset, Root.PATIENT)
                self.assertTrue(question.isFullySupported)
                self.assertIn(
                    keyword, [c.attribute.keyword for c in question.query.conditions]
                )


class ValueTests(SynchronousTestCase):
    """Kinds of matching (PS3.4 C.2.2.2)."""

    def test_universal(self) -> None:
        """Empty, and C{*}, for every VR (C.2.2.2.3)."""
        for attribute in REGISTRY.attributes:
            for text in ("", "*", "**", " * "):
                self.assertEqual([], conditionsFor(attribute, text))

    def test_UIDs(self) -> None:
        """Lists, and no wild cards (C.2.2.2.2)."""
        (condition,) = conditions("StudyInstanceUID", "1.2\\1.3\\\\1.2")
        self.assertEqual(("1.2", "1.3"), condition.keys)
        for text in ("1.2*", "1.?"):
            self.assertFalse(matches("StudyInstanceUID", text, "1.2"))

    def test_wildcards(self) -> None:
        """C.2.2.2.4; otherwise text is as it is written."""
        self.assertEqual(
            [Wildcard(REGISTRY.byKeyword["StudyDescription"], ("a%*_?",))],
            conditions("StudyDescription", "a%*_?"),
        )
        self.assertTrue(matches("AccessionNumber", "A?1*", "AB123"))
        self.assertFalse(matches("AccessionNumber", "ab", "AB"))
        self.assertTrue(matches("PatientID", "A\\B", "B"))
        self.assertTrue(matches("PatientID", "A*\\B", "AC"))
        self.assertFalse(matches("PatientID", "A*\\B", "BC"))

    def test_dates(self) -> None:
        """C.2.2.2.5, and the old form of PS3.5 6.2."""
        for key, value, expected in (
            ("20240115", "20240115", True),
            ("20240115", "2024.01.15", True),
            ("2024.01.15", "20240115", True),
            ("20240115-", "20240115", True),
            ("20240115-", "20240114", False),
            ("-20240115", "20240115", True),
            ("-20240115", "20240116", False),
            ("20240101-20240131", "20240115", True),
            ("2024.01.01-2024.01.31", "20240115", True),
            ("20240101 - 20240131", "20240115", True),
            ("20240131-20240101", "20240115", False),
            ("-20240115", "", False),
            ("202401*", "20240115", False),
            ("2024011?", "20240115", False),
            ("202401", "20240115", False),
            ("-", "20240115", False),
            ("20240101-20240102-20240103", "20240102", False),
            ("20240114\\20240115", "20240115", True),
        ):
            self.assertEqual(expected, matches("StudyDate", key, value), (key, value))
        for key in ("20240131-20240101", "nonsense", "202401*", "-"):
            self.assertIsInstance(conditions("StudyDate", key)[0], Nothing)

    def test_times(self) -> None:
        """With partial precision: 10 is 10:00:00 to 10:59:59.999999."""
        for key, value, expected in (
            ("10", "100000", True),
            ("10", "105959.999999", True),
            ("10", "110000", False),
            ("1030", "103059", True),
            ("10:30", "103000.5", True),
            ("10-11", "115959", True),
            ("10-11", "120000", False),
            ("-10", "105959", True),
            ("10-", "095959", False),
            ("103000.5", "103000.500000", True),
            ("103000.5", "103000.600000", False),
            ("11-10", "103000", False),
            ("1*", "103000", False),
            ("10", "", False),
        ):
            self.assertEqual(expected, matches("StudyTime", key, value), (key, value))

    def test_numbers(self) -> None:
        """As numbers."""
        self.assertTrue(matches("SeriesNumber", "7", "007"))
        self.assertTrue(matches("SeriesNumber", " +7 ", "7"))
        self.assertTrue(matches("SeriesNumber", "6\\7", "7"))
        for key in ("7*", "x", "1.5"):
            self.assertIsInstance(conditions("SeriesNumber", key)[0], Nothing)

    def test_numberWithWildcardFromTheWire(self) -> None:
        """pydicom refuses to make a value of it; the question stands."""
        dataset = identifier("SERIES", StudyInstanceUID="1.2")
        dataset.add_new(0x00200011, "IS", "1")
        data = encode(dataset).replace(b"IS\x02\x001 ", b"IS\x02\x001*")
        question = readQuestion(decoded(data), Root.STUDY)
        self.assertIn(
            Nothing(REGISTRY.byKeyword["SeriesNumber"]), question.query.conditions
        )


class NameTests(SynchronousTestCase):
    """Person names (PS3.5 6.2.1, PS3.4 C.2.2.2.1.1)."""

    def test_names(self) -> None:
        for key, value, expected in (
            ("rossi^anna", "Rossi^Anna", True),
            ("ROSSI^ANNA^^^", "Rossi^Anna", True),
            ("Rossi^Anna", "Rossi^Anna^^Dr", False),
            ("Rossi", "Rossi^Anna", False),
            ("Rossi*", "Rossi^Anna", True),
            ("Rossi^*", "Rossi^Anna", True),
            ("Rossi^*", "Rossi", True),
            ("Rossi^*^*", "Rossi", True),
            ("Rossi^*", "Rossini^Anna", False),
            ("R?ssi^A*", "Rossi^Anna", True),
            ("*Anna*", "Rossi^Anna", True),
            ("*^Anna", "Rossi^Anna", True),
            ("Muller", "Müller", True),
            ("Müller", "MULLER", True),
            ("Rossi^ Anna", "Rossi ^Anna", True),
            ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
            ("yamada*", "Yamada^Tarou=山田^太郎", True),
            ("=山田*", "Yamada^Tarou=山田^太郎", True),
            ("=yamada*", "Yamada^Tarou=山田^太郎", False),
            ("Yamada*=山田*", "Yamada^Tarou=山田^太郎", True),
            ("Suzuki*=山田*", "Yamada^Tarou=山田^太郎", False),
            ("Yamada^Tarou", "Yamada^Tarou=山田^太郎", True),
            ("Rossi^Anna\\Bianchi^Ugo", "Bianchi^Ugo", True),
        ):
            self.assertEqual(expected, matches("PatientName", key, value), (key, value))

    def test_universal(self) -> None:
        for key in ("^", "*^*", "=", "==", "^^*", "*=*"):
            self.assertEqual([], conditions("PatientName", key), key)

    def test_groupsInAList(self) -> None:
        error = self.assertRaises(DIMSEError, conditions, "PatientName", "A=B\\C")
        self.assertEqual(0xA900, error.status)


WORD = st.text("abAB*?", max_size=4)
PLAIN = st.text("abAB", max_size=4)


class NaiveMatcherTests(SynchronousTestCase):
    """Against a matcher that only knows the rules."""

    @settings(max_examples=300, deadline=None)
    @given(WORD, PLAIN)
    def test_text(self, key: str, value: str) -> None:
        expected = not key.strip("*") or wildcard(key, value)
        self.assertEqual(expected, matches("PatientID", key, value))

    @settings(max_examples=300, deadline=None)
    @given(st.lists(WORD, max_size=3), st.lists(PLAIN, max_size=3))
    def test_names(self, key: list[str], value: list[str]) -> None:
        """Component by component, those that are missing being empty."""
        text, name = "^".join(key), "^".join(value)
        patterns = namePatterns(text)
        if not patterns:
            self.assertFalse(text.strip("^*"))
            return
        folded = name.lower().rstrip("^")
        literal = text.lower().rstrip("^")
        if wildcard(literal, folded):
            # Whatever the key as it stands matches, the patterns do.
            self.assertTrue(any(wildcard(p, folded) for p in patterns))
        if not literal.endswith("^*") and not literal.endswith("*"):
            self.assertEqual((literal,), patterns)

    @settings(max_examples=300, deadline=None)
    @given(
        st.integers(20240101, 20240120),
        st.integers(20240101, 20240120),
        st.integers(20240101, 20240120),
    )
    def test_dates(self, low: int, high: int, value: int) -> None:
        self.assertEqual(
            low <= value <= high, matches("StudyDate", f"{low}-{high}", str(value))
        )

    @settings(max_examples=300, deadline=None)
    @given(st.text(max_size=20), st.sampled_from(REGISTRY.attributes))
    def test_anyKey(self, key: str, attribute: Any) -> None:
        """Whatever is asked, it is a condition or a refusal."""
        try:
            for condition in conditionsFor(attribute, key):
                self.assertIs(attribute, condition.attribute)
        except DIMSEError:
            self.assertIn("\\", key)
