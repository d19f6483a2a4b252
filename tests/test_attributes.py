"""Tests for L{d360.attributes}."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from twisted.trial.unittest import SynchronousTestCase

from d360.attributes import (
    REGISTRY,
    Level,
    dateKey,
    foldComponentGroup,
    foldName,
    foldText,
    integerKey,
    matchKey,
    timeKey,
)

#: Conformance 7.2.2.1: level, tag, VR and keyword of each search key.
SEARCH_KEYS = """
PATIENT 00100010 PN PatientName
PATIENT 00100020 LO PatientID
PATIENT 00100030 DA PatientBirthDate
PATIENT 00100040 CS PatientSex
STUDY 00080050 SH AccessionNumber
STUDY 00200010 SH StudyID
STUDY 0020000D UI StudyInstanceUID
STUDY 00080020 DA StudyDate
STUDY 00080030 TM StudyTime
STUDY 00080061 CS ModalitiesInStudy
STUDY 00081030 LO StudyDescription
SERIES 0020000E UI SeriesInstanceUID
SERIES 00200011 IS SeriesNumber
SERIES 00080060 CS Modality
IMAGE 00080018 UI SOPInstanceUID
IMAGE 00080016 UI SOPClassUID
IMAGE 00200013 IS InstanceNumber
"""

#: Conformance 7.2.2.2: those that are returned beside the search keys.
RETURNED = """
PATIENT 00201200 IS NumberOfPatientRelatedStudies
PATIENT 00201202 IS NumberOfPatientRelatedSeries
PATIENT 00201204 IS NumberOfPatientRelatedInstances
STUDY 00201206 IS NumberOfStudyRelatedSeries
STUDY 00201208 IS NumberOfStudyRelatedInstances
SERIES 0008103E LO SeriesDescription
SERIES 00080021 DA SeriesDate
SERIES 00080031 TM SeriesTime
SERIES 00200060 CS Laterality
SERIES 00180015 CS BodyPartExamined
SERIES 00185100 CS PatientPosition
SERIES 00102210 CS AnatomicalOrientationType
SERIES 00201209 IS NumberOfSeriesRelatedInstances
IMAGE 00080012 DA InstanceCreationDate
IMAGE 00080013 TM InstanceCreationTime
"""

texts = st.text(max_size=40)
names = st.text(st.characters(codec="utf-8") | st.sampled_from("^= éß"), max_size=40)


class RegistryTests(SynchronousTestCase):
    """Each attribute once, as PS3.6 and the conformance statement have it."""

    def test_unique(self) -> None:
        """No keyword, tag or column stands twice."""
        count = len(REGISTRY.attributes)
        self.assertEqual(len(REGISTRY.byKeyword), count)
        self.assertEqual(len(REGISTRY.byTag), count)
        columns = [a.column for a in REGISTRY.stored()]
        self.assertEqual(len(set(columns)), len(columns))
        self.assertEqual(
            [a.keyword for a in REGISTRY.attributes if a.unique],
            ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"],
        )

    def test_dictionary(self) -> None:
        """Keyword, tag and VR are those of PS3.6."""
        for attribute in REGISTRY.attributes:
            self.assertEqual(tag_for_keyword(attribute.keyword), attribute.tag)
            self.assertEqual(dictionary_VR(attribute.tag), attribute.vr)

    def assertListed(self, table: str, matched: bool) -> None:
        for line in table.strip().splitlines():
            level, tag, vr, keyword = line.split()
            attribute = REGISTRY.byKeyword[keyword]
            self.assertIs(attribute.level, Level[level], keyword)
            self.assertEqual(attribute.tag, int(tag, 16), keyword)
            self.assertEqual(attribute.vr, vr, keyword)
            if matched:
                self.assertTrue(attribute.matched, keyword)

    def test_searchKeys(self) -> None:
        """Conformance 7.2.2.1: each is there, and is matched."""
        self.assertListed(SEARCH_KEYS, True)

    def test_returned(self) -> None:
        """Conformance 7.2.2.2: each is there."""
        self.assertListed(RETURNED, False)

    def test_levels(self) -> None:
        """From the root downwards (PS3.4 C.6.1.1)."""
        self.assertEqual(
            [level.name for level in sorted(Level)], list(Level.__members__)
        )
        self.assertLess(Level.PATIENT, Level.STUDY)
        self.assertLess(Level.SERIES, Level.IMAGE)


class FoldTests(SynchronousTestCase):
    """Names as people type them."""

    def test_examples(self) -> None:
        """Without case, accents and forms; other scripts keep their marks."""
        for text, folded in (
            ("MÜLLER", "muller"),
            ("Straße", "strasse"),
            ("Łukasiewicz", "lukasiewicz"),
            ("Øre Æble", "ore aeble"),
            ("İstanbul", "istanbul"),
            ("ＡＢＣ", "abc"),
            ("ﾔﾏﾀﾞ", "ヤマダ"),
            ("がぎ", "がぎ"),
            ("  a \t b  ", "a b"),
            ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
            ("", ""),
        ):
            self.assertEqual(foldText(text), folded, text)

    def test_names(self) -> None:
        """Up to three component groups, each between C{=}."""
        for name, folded in (
            ("", ""),
            ("^^", ""),
            ("==", ""),
            ("Rossi^Anna^^", "=rossi^anna="),
            (" Rossi ^ Anna ", "=rossi^anna="),
            ("^Anna", "=^anna="),
            ("Yamada^Tarou=山田^太郎=", "=yamada^tarou=山田^太郎="),
            ("=山田", "==山田="),
            ("a=b=c=d", "=a=b=c="),
        ):
            self.assertEqual(foldName(name), folded, name)

    @given(texts)
    def test_again(self, text: str) -> None:
        """What is folded stays as it is."""
        self.assertEqual(foldText(foldText(text)), foldText(text))

    @given(names)
    def test_nameAgain(self, name: str) -> None:
        """So does a name, without its outer C{=}."""
        folded = foldName(name)
        self.assertEqual(foldName(folded[1:-1]), folded)

    @given(st.text(st.sampled_from("aäéñÖüß^= Zz"), max_size=30))
    def test_equal(self, name: str) -> None:
        """Case and composition make no difference."""
        for other in (
            name.lower(),
            unicodedata.normalize("NFD", name),
            unicodedata.normalize("NFC", name),
            name + "^",
        ):
            if "=" not in name:
                self.assertEqual(foldName(other), foldName(name))

    @given(names)
    def test_group(self, name: str) -> None:
        """Components are neither made nor joined, but for empty ones at the end."""
        group = name.replace("=", "")
        folded = foldComponentGroup(group)
        self.assertLessEqual(folded.count("^"), group.count("^"))
        self.assertFalse(folded.endswith("^"))


class KeyTests(SynchronousTestCase):
    """Values in one form (PS3.5 6.2)."""

    @given(st.dates())
    def test_dates(self, date: object) -> None:
        """Each date there is, in both forms."""
        text = f"{date:%Y%m%d}".rjust(8, "0")
        self.assertEqual(dateKey(text), text)
        self.assertEqual(dateKey(f" {text[:4]}.{text[4:6]}.{text[6:]} "), text)

    def test_noDates(self) -> None:
        """What is no date has no key."""
        for text in (
            "",
            "2024",
            "20241301",
            "20240132",
            "2024-01-01",
            "2024010",
            "٢٠٢٤٠١٠١",
        ):
            self.assertIsNone(dateKey(text), text)

    @given(st.times())
    def test_times(self, time: object) -> None:
        """Each time there is, in both forms and in each precision."""
        text = f"{time:%H%M%S.%f}"
        self.assertEqual(timeKey(text), text)
        self.assertEqual(timeKey(f"{time:%H:%M:%S.%f}"), text)
        for length in (2, 4, 6, 8, 9, 10, 11, 12, 13):
            low, high = timeKey(text[:length]), timeKey(text[:length], latest=True)
            assert low is not None and high is not None
            self.assertEqual((len(low), len(high)), (13, 13))
            self.assertLessEqual(low, text)
            self.assertLessEqual(text, high)

    def test_periods(self) -> None:
        """A time with less precision is the whole period."""
        self.assertEqual(timeKey("10"), "100000.000000")
        self.assertEqual(timeKey("10", latest=True), "105959.999999")
        self.assertEqual(timeKey("101530.2", latest=True), "101530.299999")
        self.assertEqual(timeKey("235960"), "235960.000000")  # a leap second

    def test_noTimes(self) -> None:
        """What is no time has no key."""
        for text in (
            "",
            "1",
            "24",
            "1060",
            "101561",
            "10.5",
            "10:1",
            "101530.",
            "x",
            "١٠",
        ):
            self.assertIsNone(timeKey(text), text)

    @given(st.integers(-(10**12) + 1, 10**12 - 1))
    def test_integers(self, number: int) -> None:
        """Numbers, however they are written."""
        for text in (f"{number}", f" {number} ", f"{number:+}"):
            self.assertEqual(integerKey(text), number)

    def test_noIntegers(self) -> None:
        """What is no integer has no key."""
        for text in ("", "1.0", "1e3", "one", "1 2", "--1", "1" * 13, "٣"):
            self.assertIsNone(integerKey(text), text)

    @given(texts)
    def test_any(self, text: str) -> None:
        """No value is too strange for a key, or for having none."""
        for vr in ("PN", "DA", "TM", "IS", "LO"):
            key = matchKey(vr, text)
            self.assertIsInstance(key, (str, int, type(None)))
            if vr == "LO":
                self.assertEqual(key, text)
