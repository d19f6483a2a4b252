"""What every L{IWorklist} does, whatever it keeps its items in."""

from __future__ import annotations

from datetime import date
from typing import Any

from twisted.internet.defer import gatherResults

from d360.attributes import Attribute, foldName
from d360.errors import WorklistConflict
from d360.interfaces import IScheduledSteps, IWorklist
from d360.model import (
    AnyOf,
    Condition,
    NameMatch,
    Nothing,
    Range,
    ScheduledStep,
    Wildcard,
    WorklistItem,
)
from d360.worklistattributes import START, WORKLIST, jsonKey
from tests.contracts.instances import assertSameSignatures, drained

#: Of no item.
NOBODY = "0" * 32


def attribute(keyword: str) -> Attribute:
    """One of the worklist's."""
    return WORKLIST.byKeyword[keyword]


def elements(**values: Any) -> dict[str, Any]:
    """Attributes in the DICOM JSON Model; a tuple is several values."""
    made: dict[str, Any] = {}
    for keyword, value in values.items():
        known = attribute(keyword)
        given = value if isinstance(value, tuple) else (value,)
        if known.vr == "PN":
            names = ("Alphabetic", "Ideographic", "Phonetic")
            given = tuple(
                dict(zip(names, text.split("="), strict=False)) for text in given
            )
        made[jsonKey(known.tag)] = {"vr": known.vr, "Value": list(given)}
    return made


def step(start: str = "20260301 080000", **values: Any) -> dict[str, Any]:
    """An item of the Scheduled Procedure Step Sequence."""
    day, time = start.split(" ")
    return elements(
        **{
            "Modality": "CT",
            "ScheduledStationAETitle": "CT01",
            "ScheduledProcedureStepStartDate": day,
            "ScheduledProcedureStepStartTime": time,
            "ScheduledProcedureStepID": "S1",
            **values,
        }
    )


def procedure(
    study: str = "1.2.3", *steps: dict[str, Any], **values: Any
) -> dict[str, Any]:
    """An item's attributes."""
    return {
        **elements(
            **{
                "StudyInstanceUID": study,
                "PatientName": "Rossi^Anna",
                "PatientID": "P1",
                "RequestedProcedureID": "R1",
                **values,
            }
        ),
        "00400100": {"vr": "SQ", "Value": list(steps or (step(),))},
    }


def name(keyword: str, pattern: str, group: int | None = None) -> Condition:
    """A name's pattern, folded."""
    folded = "^".join(foldName(part).strip("=") for part in pattern.split("^"))
    return NameMatch(attribute(keyword), (folded,), group)


class WorklistContract:
    """
    Mix into a trial C{TestCase}; C{setUp} puts an empty worklist into
    C{worklist}; C{arrive} tells the index of a study.
    """

    worklist: Any

    async def fill(self, *items: dict[str, Any]) -> list[WorklistItem]:
        return [await self.worklist.schedule(item) for item in items]

    async def found(self, *conditions: Condition) -> list[tuple[str, int]]:
        """Study and number of each step that matches, in order."""
        steps = await drained(self.worklist.match(conditions))
        return [
            (step.item.attributes["0020000D"]["Value"][0], step.number)
            for step in steps
        ]

    async def listed(self, *conditions: Condition, count: int = 100) -> list[str]:
        """The studies of the items, over all pages."""
        studies: list[str] = []
        after = ""
        while page := await self.worklist.list(conditions, after, count):
            studies += [x.attributes["0020000D"]["Value"][0] for x in page]
            after = page[-1].identifier
        return studies

    # --- the interface -------------------------------------------------------

    def test_signatures(self: Any) -> None:
        assertSameSignatures(self, IWorklist, self.worklist)
        assertSameSignatures(self, IScheduledSteps, self.worklist.match(()))

    async def test_empty(self: Any) -> None:
        self.assertEqual(await self.found(), [])
        self.assertEqual(await self.worklist.list((), "", 10), ())
        self.assertEqual(await self.worklist.removeArrived(9), ())
        self.assertEqual(await self.worklist.removeOld(date(2030, 1, 1), 9), ())
        for identifier in (NOBODY, "", "x", "../x", "a\0b", "\ud800", "ä" * 9999):
            self.assertIsNone(await self.worklist.get(identifier))
            self.assertIsNone(await self.worklist.replace(identifier, procedure()))
            self.assertIs(await self.worklist.remove(identifier), False)

    # --- writing ---------------------------------------------------------------

    async def test_schedule(self: Any) -> None:
        """It is found as it was given, under a name of ours."""
        given = procedure(
            "1.2.3",
            step(ScheduledStationAETitle=("CT01", "CT02")),
            PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
            PatientWeight="70.50",
            PregnancyStatus=4,
            PatientComments="one\r\ntwo",
            OtherPatientIDs=("A", "B"),
        )
        item = await self.worklist.schedule(given)
        self.assertEqual(item.version, 1)
        self.assertEqual(item.attributes, given)
        self.assertEqual(await self.worklist.get(item.identifier), item)
        self.assertEqual(await self.worklist.list((), "", 10), (item,))
        self.assertEqual(
            await drained(self.worklist.match(())), [ScheduledStep(item, 0)]
        )

    async def test_sameStudy(self: Any) -> None:
        first, _ = await self.fill(procedure("1"), procedure("2"))
        await self.assertFailure(
            self.worklist.schedule(procedure("1", PatientID="P9")), WorklistConflict
        )
        await self.assertFailure(
            self.worklist.replace(first.identifier, procedure("2")), WorklistConflict
        )
        self.assertEqual(await self.worklist.get(first.identifier), first)
        self.assertEqual(len(await self.worklist.list((), "", 10)), 2)

    async def test_replace(self: Any) -> None:
        """All of it, its steps too."""
        (item,) = await self.fill(procedure("1", step(), step("20260302 080000")))
        changed = procedure("1", step(Modality="MR"), PatientID="P2")
        new = await self.worklist.replace(item.identifier, changed)
        self.assertEqual(new, WorklistItem(item.identifier, 2, changed))
        self.assertEqual(await self.worklist.get(item.identifier), new)
        self.assertEqual(await self.found(), [("1", 0)])
        self.assertEqual(await self.found(AnyOf(attribute("Modality"), ("CT",))), [])
        self.assertEqual(
            await self.found(AnyOf(attribute("PatientID"), ("P2",))), [("1", 0)]
        )
        other = procedure("9")
        newest = await self.worklist.replace(item.identifier, other, 2)
        self.assertEqual(newest, WorklistItem(item.identifier, 3, other))

    async def test_versions(self: Any) -> None:
        """Two writers do not overwrite each other silently."""
        (item,) = await self.fill(procedure("1"))
        await self.worklist.replace(item.identifier, procedure("1", PatientID="P2"), 1)
        for writing in (
            self.worklist.replace(item.identifier, procedure("1"), 1),
            self.worklist.remove(item.identifier, 1),
            self.worklist.remove(item.identifier, 3),
        ):
            await self.assertFailure(writing, WorklistConflict)
        kept = await self.worklist.get(item.identifier)
        self.assertEqual(kept.attributes["00100020"]["Value"], ["P2"])
        self.assertIs(await self.worklist.remove(item.identifier, 2), True)

    async def test_atTheSameTime(self: Any) -> None:
        """Of several writers of one version, one wins."""
        (item,) = await self.fill(procedure("1"))
        done = await gatherResults(
            self.worklist.replace(
                item.identifier, procedure("1", PatientID=f"P{n}"), 1
            ).addErrback(lambda failure: failure.trap(WorklistConflict))
            for n in range(8)
        )
        self.assertEqual(done.count(WorklistConflict), 7)
        studies = await gatherResults(
            self.worklist.schedule(procedure("2")).addErrback(
                lambda failure: failure.trap(WorklistConflict)
            )
            for _ in range(8)
        )
        self.assertEqual(studies.count(WorklistConflict), 7)
        self.assertEqual(sorted(await self.found()), [("1", 0), ("2", 0)])

    async def test_remove(self: Any) -> None:
        one, _ = await self.fill(procedure("1"), procedure("2"))
        self.assertIs(await self.worklist.remove(one.identifier), True)
        self.assertIs(await self.worklist.remove(one.identifier), False)
        self.assertIsNone(await self.worklist.get(one.identifier))
        self.assertEqual(await self.found(), [("2", 0)])
        await self.fill(procedure("1"))
        self.assertEqual(sorted(await self.found()), [("1", 0), ("2", 0)])

    async def test_brokenText(self: Any) -> None:
        """NUL, lone surrogates and endless values enter, and harm no other."""
        await self.fill(
            procedure(
                "1",
                step(Modality="C\0T"),
                PatientID="A\0B",
                PatientName="Ros\udcffsi^" + "x" * 100_000,
                AccessionNumber="漢" * 100_000,
                PatientComments="%s \0 \\u0000 '",
            ),
            procedure("2"),
        )
        self.assertEqual(sorted(await self.found()), [("1", 0), ("2", 0)])

    # --- matching --------------------------------------------------------------

    async def fillSome(self) -> None:
        await self.fill(
            procedure(
                "1",
                step("20260301 080000", ScheduledStationAETitle=("CT01", "CT02")),
                step(
                    "20260302 090000",
                    Modality="MR",
                    ScheduledStationAETitle="MR01",
                    ScheduledPerformingPhysicianName="House^Gregory",
                    ScheduledProcedureStepID="S2",
                ),
                PatientName="Müller^Jörg",
                PatientID="M_1",
                PatientBirthDate="19600229",
                PatientSex="M",
                AccessionNumber="A%1",
                AdmissionID="ADM1",
                ReferringPhysicianName="Verdi^Giulia",
                RequestingPhysician="Neri^Ugo",
                RequestedProcedurePriority="STAT",
            ),
            procedure(
                "2",
                step("20260302 103000.5", ScheduledProcedureStepID="T1"),
                PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
                PatientID="MX1",
                RequestedProcedureID="R2",
            ),
            procedure("3", step("20260228 2359"), PatientID="P3"),
        )

    async def test_order(self: Any) -> None:
        """By start, one answer a step, also one for several stations."""
        await self.fillSome()
        expected = [("3", 0), ("1", 0), ("1", 1), ("2", 0)]
        self.assertEqual(await self.found(), expected)
        self.assertEqual(await self.listed(), ["3", "1", "2"])

    async def test_keys(self: Any) -> None:
        """Each key of conformance 5.2.2.1, and with it no other item."""
        await self.fillSome()
        cases: list[tuple[Condition, list[tuple[str, int]]]] = [
            (AnyOf(attribute("AccessionNumber"), ("A%1",)), [("1", 0), ("1", 1)]),
            (AnyOf(attribute("AdmissionID"), ("ADM1",)), [("1", 0), ("1", 1)]),
            (name("ReferringPhysicianName", "verdi^*"), [("1", 0), ("1", 1)]),
            (name("RequestingPhysician", "neri^ugo"), [("1", 0), ("1", 1)]),
            (name("PatientName", "müller^*"), [("1", 0), ("1", 1)]),
            (name("PatientName", "*太郎"), [("2", 0)]),
            (name("PatientName", "山田*", 1), [("2", 0)]),
            (name("PatientName", "山田*", 0), []),
            (AnyOf(attribute("PatientID"), ("MX1", "P3")), [("3", 0), ("2", 0)]),
            (AnyOf(attribute("PatientBirthDate"), ("19600229",)), [("1", 0), ("1", 1)]),
            (AnyOf(attribute("PatientSex"), ("M",)), [("1", 0), ("1", 1)]),
            (AnyOf(attribute("Modality"), ("MR",)), [("1", 1)]),
            (
                AnyOf(attribute("ScheduledStationAETitle"), ("CT01",)),
                [("3", 0), ("1", 0), ("2", 0)],
            ),
            (
                AnyOf(attribute("ScheduledStationAETitle"), ("CT02", "MR01", "CT01")),
                [("3", 0), ("1", 0), ("1", 1), ("2", 0)],
            ),
            (
                Range(attribute("ScheduledProcedureStepStartDate"), "20260302", None),
                [("1", 1), ("2", 0)],
            ),
            (
                Range(
                    attribute("ScheduledProcedureStepStartTime"),
                    "090000.000000",
                    "103000.499999",
                ),
                [("1", 1)],
            ),
            (name("ScheduledPerformingPhysicianName", "house*"), [("1", 1)]),
            (AnyOf(attribute("RequestedProcedureID"), ("R2",)), [("2", 0)]),
            (
                AnyOf(attribute("RequestedProcedurePriority"), ("STAT",)),
                [("1", 0), ("1", 1)],
            ),
            (AnyOf(attribute("StudyInstanceUID"), ("2", "3")), [("3", 0), ("2", 0)]),
            (AnyOf(attribute("ScheduledProcedureStepID"), ("S2",)), [("1", 1)]),
            (
                Range(START, "20260301080000.000001", "20260302090000.000000"),
                [("1", 1)],
            ),
            (Wildcard(attribute("PatientID"), ("M_?",)), [("1", 0), ("1", 1)]),
            (
                Wildcard(attribute("PatientID"), ("M?1",)),
                [("1", 0), ("1", 1), ("2", 0)],
            ),
            (Wildcard(attribute("PatientID"), ("m*",)), []),
            (Wildcard(attribute("ScheduledStationAETitle"), ("*2",)), [("1", 0)]),
            (Nothing(attribute("PatientBirthDate")), []),
        ]
        for condition, expected in cases:
            self.assertEqual(await self.found(condition), expected, condition)
            studies = {study for study, _ in expected}
            found = await self.listed(condition)
            self.assertEqual(sorted(found), sorted(studies), condition)

    async def test_brokenKeys(self: Any) -> None:
        """What a database cannot hold is no failure."""
        await self.fillSome()
        for text in ("X\0Y", "\ud800", "é" * 99_999):
            self.assertEqual(
                await self.found(AnyOf(attribute("PatientID"), (text,))), []
            )
            self.assertEqual(await self.listed(name("PatientName", text)), [])

    async def test_insideTheSameStep(self: Any) -> None:
        """Keys of the sequence match in one item of it (PS3.4 C.2.2.2.6)."""
        await self.fillSome()
        modality, station = attribute("Modality"), attribute("ScheduledStationAETitle")
        for kind, title, expected in (
            ("CT", "CT02", [("1", 0)]),
            ("MR", "MR01", [("1", 1)]),
            ("MR", "CT01", []),
        ):
            both = (AnyOf(modality, (kind,)), AnyOf(station, (title,)))
            self.assertEqual(await self.found(*both), expected)
            self.assertEqual(await self.listed(*both), [study for study, _ in expected])

    async def test_batches(self: Any) -> None:
        """Each step comes once; after the last, and after close, none."""
        await self.fill(
            *(
                procedure(f"4.{n}", step(), step(ScheduledStationAETitle=("A", "B")))
                for n in range(60)
            )
        )
        everything = await self.found()
        expected = [(f"4.{n}", number) for n in range(60) for number in range(2)]
        self.assertEqual(sorted(everything), sorted(expected))
        some = await self.found(AnyOf(attribute("Modality"), ("CT",)))
        self.assertEqual(some, everything)
        steps = self.worklist.match(())
        first = await steps.nextBatch()
        self.assertTrue(0 < len(first) < 120)
        steps.close()
        steps.close()
        self.assertEqual(await steps.nextBatch(), ())

    async def test_removedMeanwhile(self: Any) -> None:
        """What goes while a slow peer reads is left out."""
        items = await self.fill(*(procedure(f"4.{n}") for n in range(60)))
        steps = self.worklist.match(())
        first = await steps.nextBatch()
        for item in items:
            await self.worklist.remove(item.identifier)
        rest = await drained(steps)
        self.assertLess(len(first) + len(rest), 61)

    # --- pages -----------------------------------------------------------------

    async def test_pages(self: Any) -> None:
        """By start of the first step; each item once."""
        items = await self.fill(
            *(
                procedure(
                    f"4.{n}",
                    step("20260303 080000"),
                    step(f"202603{n % 4 + 1:02} 080000"),
                )
                for n in range(12)
            )
        )
        everything = await self.listed(count=5)
        self.assertEqual(sorted(everything), sorted(f"4.{n}" for n in range(12)))
        first_days = [min(int(study[2:]) % 4 + 1, 3) for study in everything]
        self.assertEqual(first_days, sorted(first_days))
        self.assertEqual(await self.listed(count=1), everything)
        condition = Range(
            attribute("ScheduledProcedureStepStartDate"), "20260304", None
        )
        last = [study for study in everything if int(study[2:]) % 4 == 3]
        self.assertEqual(await self.listed(condition, count=2), last)
        gone = items[0].identifier
        await self.worklist.remove(gone)
        await self.assertFailure(self.worklist.list((), gone, 5), WorklistConflict)

    # --- housekeeping ----------------------------------------------------------

    async def test_removeOld(self: Any) -> None:
        """Only where each step is."""
        items = await self.fill(
            procedure("1", step("20260228 235959")),
            procedure("2", step("20260227 080000"), step("20260301 000000")),
            procedure("3", step("20260302 080000")),
        )
        remove = self.worklist.removeOld
        self.assertEqual(await remove(date(2026, 2, 28), 9), ())
        self.assertEqual(await remove(date(2026, 3, 1), 9), (items[0],))
        self.assertEqual(await self.found(), [("2", 0), ("2", 1), ("3", 0)])
        self.assertEqual(await remove(date(2026, 3, 2), 9), (items[1],))
        self.assertEqual(await self.found(), [("3", 0)])

    async def test_removeArrived(self: Any) -> None:
        items = await self.fill(procedure("1"), procedure("2"))
        await self.arrive("2")
        await self.arrive("7")
        self.assertEqual(await self.worklist.removeArrived(9), (items[1],))
        self.assertEqual(await self.found(), [("1", 0)])
        self.assertEqual(await self.worklist.removeArrived(9), ())

    async def test_removeSome(self: Any) -> None:
        """As many as are wanted at a time."""
        await self.fill(*(procedure(str(number)) for number in range(5)))
        removed = []
        for _ in range(3):
            removed.append(len(await self.worklist.removeOld(date(2099, 1, 1), 2)))
        self.assertEqual(removed, [2, 2, 1])
        self.assertEqual(await self.found(), [])
