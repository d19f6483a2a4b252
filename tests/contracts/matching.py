"""How every L{IIndex} answers L{IIndex.match} (PS3.4 C.2.2.2)."""

from __future__ import annotations

from typing import Any

from d360.attributes import Level, foldText
from d360.model import (
    AnyOf,
    Condition,
    NameMatch,
    Nothing,
    Query,
    Range,
    Wildcard,
)
from tests.contracts.instances import (
    IndexCase,
    attribute,
    drained,
    place,
    record,
)


class MatchingContract(IndexCase):
    """See L{tests.contracts.index.IndexContract}."""

    async def enterSome(self) -> None:
        await self.enter(
            record(
                "1",
                "1.1",
                "1.1.1",
                PatientName="Müller^Jörg",
                PatientID="M_1",
                PatientBirthDate="19600229",
                StudyDate="20260110",
                StudyTime="101500",
                AccessionNumber="A%1",
                InstanceNumber="2",
                SeriesNumber="3",
            ),
            record(
                "1", "1.2", "1.2.1", PatientName="Müller^Jörg", PatientID="M_1",
                Modality="MR", SeriesNumber="4",
            ),
            record(
                "2", "2.1", "2.1.1", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
                PatientID="MX1", StudyDate="2026.02.20", StudyTime="10", Modality="MR",
                AccessionNumber="AB1",
            ),
            record("3", "3.1", "3.1.1", PatientID="P3", StudyDate="nonsense"),
        )  # fmt: skip

    async def test_names(self: Any) -> None:
        """Case and accents do not matter; each component group is searched."""
        await self.enterSome()
        name = attribute("PatientName")

        async def search(pattern: str, group: int | None = None) -> list[str]:
            found: list[str] = await self.studies(
                NameMatch(name, (foldText(pattern),), group)
            )
            return found

        self.assertEqual(await search("MULLER*"), ["1"])
        self.assertEqual(await search("müller^jörg"), ["1"])
        self.assertEqual(await search("mull"), [])
        self.assertEqual(await search("*jorg"), ["1"])
        self.assertEqual(await search("m?ller^*"), ["1"])
        self.assertEqual(await search("山田*"), ["2"])
        self.assertEqual(await search("*太郎"), ["2"])
        self.assertEqual(await search("山田*", 1), ["2"])
        self.assertEqual(await search("山田*", 0), [])
        self.assertEqual(await search("y*太郎"), [])
        self.assertEqual(await search("", 1), ["1", "3"])
        self.assertEqual(await search("*"), ["1", "2", "3"])
        either = NameMatch(name, ("muller*", "rossi^anna"), None)
        self.assertEqual(await self.studies(either), ["1", "3"])

    async def test_wildcardsAreTheOnlyMetacharacters(self: Any) -> None:
        """LIKE's own mean themselves."""
        await self.enterSome()
        patientID, accession = attribute("PatientID"), attribute("AccessionNumber")
        self.assertEqual(await self.studies(Wildcard(patientID, ("M_?",))), ["1"])
        self.assertEqual(await self.studies(Wildcard(patientID, ("M?1",))), ["1", "2"])
        self.assertEqual(await self.studies(Wildcard(accession, ("A%*",))), ["1"])
        self.assertEqual(await self.studies(Wildcard(accession, ("\\*",))), [])
        self.assertEqual(await self.studies(Wildcard(patientID, ("m*",))), [])

    async def test_keysAndRanges(self: Any) -> None:
        await self.enterSome()
        uid, date = attribute("StudyInstanceUID"), attribute("StudyDate")
        cases: list[tuple[Condition, list[str]]] = [
            (AnyOf(uid, ("1", "3", "4")), ["1", "3"]),
            (AnyOf(uid, ()), []),
            (Range(date, "20260110", "20260220"), ["1", "2"]),
            (Range(date, "20260111", None), ["2"]),
            (Range(date, None, "20260110"), ["1"]),
            (Range(date, None, None), ["1", "2"]),
            (AnyOf(date, ("20260220",)), ["2"]),
            (Range(attribute("StudyTime"), "100000", "105959.9"), ["1", "2"]),
            (Nothing(date), []),
            (AnyOf(attribute("PatientBirthDate"), ("19600229",)), ["1"]),
            (AnyOf(attribute("ModalitiesInStudy"), ("MR",)), ["1", "2"]),
            (Wildcard(attribute("ModalitiesInStudy"), ("C*",)), ["1", "3"]),
        ]  # fmt: skip
        for condition, expected in cases:
            self.assertEqual(await self.studies(condition), expected, str(condition))
        self.assertEqual(
            await self.studies(
                Range(date, "20260101", None),
                Wildcard(attribute("PatientID"), ("MX*",)),
            ),
            ["2"],
        )

    async def test_levels(self: Any) -> None:
        """One answer an entity of the asked level, with those above it."""
        await self.enterSome()
        number = attribute("SeriesNumber")
        self.assertEqual(
            await self.ask(
                Level.SERIES,
                AnyOf(number, (3, 5)),
                returned="SeriesInstanceUID StudyDate",
            ),
            [("1.1", "20260110")],
        )
        self.assertEqual(
            await self.ask(
                Level.PATIENT,
                Wildcard(attribute("PatientID"), ("M*",)),
                returned="PatientID NumberOfPatientRelatedStudies "
                "NumberOfPatientRelatedSeries NumberOfPatientRelatedInstances",
            ),
            [("MX1", "1", "1", "1"), ("M_1", "1", "2", "2")],
        )
        self.assertEqual(
            await self.ask(
                Level.IMAGE,
                AnyOf(attribute("SOPInstanceUID"), ("1.1.1", "3.1.1")),
                returned="SOPInstanceUID Modality ModalitiesInStudy "
                "NumberOfStudyRelatedSeries NumberOfSeriesRelatedInstances",
            ),
            [("1.1.1", "CT", "CT\\MR", "2", "1"), ("3.1.1", "CT", "CT", "1", "1")],
        )
        self.assertEqual(await self.ask(Level.STUDY, returned=""), [()] * 3)

    async def test_countsAfterEveryChange(self: Any) -> None:
        await self.enterSome()
        counts = (
            "ModalitiesInStudy NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances"
        )
        one = AnyOf(attribute("StudyInstanceUID"), ("1",))
        await self.enter(record("1", "1.1", "1.1.2", PatientID="M_1"))
        self.assertEqual(
            await self.ask(Level.STUDY, one, returned=counts), [("CT\\MR", "2", "3")]
        )
        gone = place(record("1", "1.2", "1.2.1"))
        self.assertTrue(await self.index.forget(gone))
        self.assertFalse(await self.index.forget(gone))
        self.assertEqual(
            await self.ask(Level.STUDY, one, returned=counts), [("CT", "1", "2")]
        )

    async def test_batches(self: Any) -> None:
        """Each match comes once; after the last, and after close, none."""
        await self.enter(
            *(record(f"4.{n}", f"4.{n}.1", f"4.{n}.1.1") for n in range(120))
        )
        query = Query(Level.STUDY, (), (attribute("StudyInstanceUID"),))
        everything = [m.values[0] for m in await drained(self.index.match(query))]
        self.assertEqual(sorted(everything), sorted(f"4.{n}" for n in range(120)))
        matches = self.index.match(query)
        first = await matches.nextBatch()
        self.assertTrue(0 < len(first) < 120)
        matches.close()
        matches.close()
        self.assertEqual(await matches.nextBatch(), ())
