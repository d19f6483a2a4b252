"""What the identifier of a C-MOVE or C-GET selects (conformance 8.2.2.1)."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from twisted.trial.unittest import SynchronousTestCase

from d360.attributes import Level
from d360.errors import DIMSEError
from d360.model import AnyOf, Query
from d360.services.matching import Root
from d360.services.selection import UNIQUE_KEYS, readSelection


def select(root: Root = Root.STUDY, **keys: Any) -> Query:
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return readSelection(identifier, root)


def key(level: Level, *values: str) -> AnyOf:
    return AnyOf(UNIQUE_KEYS[level], values)


class SelectionTests(SynchronousTestCase):
    """Levels, keys and lists."""

    def assertRefused(self, offending: int, **keys: Any) -> None:
        error = self.assertRaises(DIMSEError, select, **keys)
        self.assertEqual(
            (0xA900, (offending,)), (error.status, error.offendingElements)
        )

    def test_levels(self) -> None:
        """Each level by its unique key, upper ones absent."""
        for level, attribute in UNIQUE_KEYS.items():
            query = select(
                Root.PATIENT,
                QueryRetrieveLevel=level.name,
                **{attribute.keyword: "1.2"},
            )
            self.assertEqual(Query(level, (key(level, "1.2"),)), query)

    def test_upperKeys(self) -> None:
        """They restrict, a Patient ID too."""
        query = select(
            QueryRetrieveLevel="IMAGE",
            PatientID="P 1",
            StudyInstanceUID="1.2",
            SeriesInstanceUID="1.2.3",
            SOPInstanceUID="1.2.3.4",
        )
        wanted = ("P 1", "1.2", "1.2.3", "1.2.3.4")
        self.assertEqual(
            tuple(
                key(level, value) for level, value in zip(Level, wanted, strict=True)
            ),
            query.conditions,
        )

    def test_lists(self) -> None:
        """UIDs may be lists."""
        for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
            query = select(
                QueryRetrieveLevel=level.name,
                **{UNIQUE_KEYS[level].keyword: ["1.2", "1.3", "1.2"]},
            )
            self.assertEqual((key(level, "1.2", "1.3"),), query.conditions)

    def test_upperKeyInPlace(self) -> None:
        """All series or images of a study, as the statement makes keys optional."""
        query = select(QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2")
        self.assertEqual(Query(Level.IMAGE, (key(Level.STUDY, "1.2"),)), query)

    def test_levelMissing(self) -> None:
        self.assertRefused(0x00080052, StudyInstanceUID="1.2")
        self.assertRefused(0x00080052, QueryRetrieveLevel="FRAME")
        self.assertRefused(0x00080052, QueryRetrieveLevel="PATIENT", PatientID="1")

    def test_keyMissing(self) -> None:
        """Nothing, an empty value and a wild card would mean everything."""
        for level, attribute in list(UNIQUE_KEYS.items())[1:]:
            for value in (None, "", "*"):
                keys = {} if value is None else {attribute.keyword: value}
                self.assertRefused(attribute.tag, QueryRetrieveLevel=level.name, **keys)
                self.assertRefused(
                    attribute.tag,
                    QueryRetrieveLevel=level.name,
                    PatientID="1",
                    **keys,
                )
        self.assertRefused(0x0020000D, QueryRetrieveLevel="STUDY", PatientID="1")

    def test_lowerKey(self) -> None:
        """A key below the level."""
        self.assertRefused(
            0x0020000E,
            QueryRetrieveLevel="STUDY",
            StudyInstanceUID="1.2",
            SeriesInstanceUID="1.2.3",
        )

    def test_severalPatients(self) -> None:
        """Patient ID is no UID."""
        error = self.assertRaises(
            DIMSEError,
            select,
            Root.PATIENT,
            QueryRetrieveLevel="PATIENT",
            PatientID=["1", "2"],
        )
        self.assertEqual(0xA900, error.status)

    def test_noWildcards(self) -> None:
        """An asterisk in a Patient ID is an asterisk."""
        query = select(Root.PATIENT, QueryRetrieveLevel="PATIENT", PatientID="P*")
        self.assertEqual((key(Level.PATIENT, "P*"),), query.conditions)

    def test_tooMany(self) -> None:
        error = self.assertRaises(
            DIMSEError,
            select,
            QueryRetrieveLevel="IMAGE",
            SOPInstanceUID=[f"1.{n}" for n in range(5000)],
        )
        self.assertEqual(0xC000, error.status)
