"""What every L{IIndex} does, whatever it keeps its rows in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import evolve
from twisted.internet.defer import gatherResults

from d360.attributes import Level
from d360.interfaces import IIndex, IMatches, IStoredInstances
from d360.model import (
    AnyOf,
    Duplicates,
    Extent,
    InstanceRecord,
    Location,
    NameMatch,
    Outcome,
    Query,
    Registration,
    StoredInstance,
    Totals,
)
from tests.contracts.instances import (
    KEEP,
    NEWEST,
    REPLACE,
    assertSameSignatures,
    attribute,
    drained,
    place,
    record,
)
from tests.contracts.matching import MatchingContract


class IndexContract(MatchingContract):
    """
    Mix into a trial C{TestCase}; C{setUp} puts an empty index into C{index}.
    """

    # --- the interface -------------------------------------------------------

    def test_signatures(self: Any) -> None:
        assertSameSignatures(self, IIndex, self.index)
        query = Query(Level.STUDY)
        assertSameSignatures(self, IMatches, self.index.match(query))
        assertSameSignatures(self, IStoredInstances, self.index.locate(query))

    async def test_empty(self: Any) -> None:
        self.assertEqual(await self.studies(), [])
        self.assertEqual(await self.stored(Level.PATIENT), [])
        self.assertEqual(await self.index.totals(), Totals(0, 0, 0, 0, 0))
        self.assertEqual(await self.index.locationsBelow("ab"), ())

    async def test_state(self: Any) -> None:
        state = await self.index.state()
        self.assertTrue(state.available)
        self.assertTrue(state.version)
        self.assertGreater(state.schema, 0)

    # --- register --------------------------------------------------------------

    async def test_stored(self: Any) -> None:
        one = record()
        [done] = await self.enter(one)
        self.assertEqual(done, Registration(Outcome.STORED, place(one)))
        self.assertIsNotNone(await self.index.storedAt(place(one)))
        self.assertEqual(await self.index.totals(), Totals(1, 1, 1, 1, 1000))

    async def test_sameBytesAgain(self: Any) -> None:
        """Byte-identical: nothing is rewritten, the new file goes."""
        one = record()
        await self.enter(one)
        for policy in Duplicates:
            done = await self.index.register(one, place(one, "-2"), policy)
            self.assertEqual(
                done, Registration(Outcome.DUPLICATE, place(one), place(one, "-2"))
            )
        self.assertIsNone(await self.index.storedAt(place(one, "-2")))

    async def test_sameBytesInTheSamePlace(self: Any) -> None:
        """A rebuild brings the row up to date."""
        one = record()
        await self.enter(one)
        location = Location(place(one).path, 350)
        changed = evolve(one, InstanceNumber="7", PatientName="Rossi^Anna Maria")
        done = await self.index.register(changed, location, NEWEST)
        self.assertEqual(done, Registration(Outcome.DUPLICATE, location))
        self.assertEqual(
            await self.ask(Level.IMAGE, returned="InstanceNumber PatientName"),
            [("7", "Rossi^Anna Maria")],
        )
        [found] = await drained(self.index.locate(Query(Level.IMAGE)))
        self.assertEqual(found.location, location)

    async def test_otherTransferSyntaxIsOtherBytes(self: Any) -> None:
        one = record()
        other = evolve(one, TransferSyntaxUID="1.2.840.10008.1.2")
        await self.enter(one)
        done = await self.index.register(other, place(one, "-2"), REPLACE)
        self.assertEqual(done.outcome, Outcome.REPLACED)

    async def test_replaced(self: Any) -> None:
        one, two = record(), record(content="other", minute=1, InstanceNumber="2")
        await self.enter(one)
        done = await self.index.register(two, place(two, "-2"), REPLACE)
        self.assertEqual(
            done, Registration(Outcome.REPLACED, place(two, "-2"), place(one))
        )
        [found] = await drained(self.index.locate(Query(Level.IMAGE)))
        self.assertEqual(
            found,
            StoredInstance(
                two.SOPInstanceUID,
                two.SOPClassUID,
                two.TransferSyntaxUID,
                place(two, "-2"),
                two.size,
                two.digest,
            ),
        )
        self.assertEqual(await self.index.totals(), Totals(1, 1, 1, 1, 1000))

    async def test_replacedInItsOwnFile(self: Any) -> None:
        """Where old and new are one file, nothing is superseded."""
        one = record()
        await self.enter(one)
        for number, policy in enumerate(Duplicates):
            other = evolve(one, digest=bytes([number]) * 32)
            [done] = await self.enter(other, duplicates=policy)
            self.assertEqual(done, Registration(Outcome.REPLACED, place(one)))

    async def test_kept(self: Any) -> None:
        one, two = record(), record(content="other", minute=1)
        await self.enter(one)
        done = await self.index.register(two, place(two, "-2"), KEEP)
        self.assertEqual(done, Registration(Outcome.KEPT, place(one), place(two, "-2")))
        [found] = await drained(self.index.locate(Query(Level.IMAGE)))
        self.assertEqual(found.digest, one.digest)

    async def test_newest(self: Any) -> None:
        """The one received last stays, in whatever order they come."""
        old, new = record(content="old"), record(content="new", minute=5)
        for first, second in ((old, new), (new, old)):
            a = await self.index.register(first, place(first, "-a"), NEWEST)
            b = await self.index.register(second, place(second, "-b"), NEWEST)
            self.assertEqual(a.outcome, Outcome.STORED)
            expected = Outcome.REPLACED if second is new else Outcome.KEPT
            self.assertEqual(b.outcome, expected)
            [found] = await drained(self.index.locate(Query(Level.IMAGE)))
            self.assertEqual(found.digest, new.digest)
            self.assertTrue(await self.index.forget(found.location))

    async def test_replacedInAnotherStudy(self: Any) -> None:
        """It moves, and what it leaves empty goes."""
        await self.enter(record("1.1", "1.1.1", "9", PatientID="P1"))
        moved = record("1.2", "1.2.1", "9", content="other", PatientID="P2")
        [done] = await self.enter(moved)
        self.assertEqual(done.outcome, Outcome.REPLACED)
        self.assertEqual(
            await self.ask(Level.IMAGE, returned="StudyInstanceUID PatientID"),
            [("1.2", "P2")],
        )
        self.assertEqual(await self.index.totals(), Totals(1, 1, 1, 1, 1000))

    async def test_relocate(self: Any) -> None:
        """The known file is gone: the new one takes its place."""
        one = record()
        await self.enter(one)
        done = await self.index.relocate(one, place(one, "-2"))
        self.assertEqual(
            done, Registration(Outcome.REPLACED, place(one, "-2"), place(one))
        )
        self.assertIsNotNone(await self.index.storedAt(place(one, "-2")))
        self.assertIsNone(await self.index.storedAt(place(one)))
        other = record("1.1", "1.1.1", "2")
        done = await self.index.relocate(other, place(other))
        self.assertEqual(done, Registration(Outcome.STORED, place(other)))

    async def test_announced(self: Any) -> None:
        """Entered as any other; until it is confirmed it is remembered."""
        one, two = record(), record(instance="1.1.1.2")
        first = await self.index.announce(one, place(one))
        second = await self.index.announce(two, place(two))
        self.assertEqual(await self.index.totals(), Totals(1, 1, 1, 2, 2000))
        found = await self.index.storedAt(place(two))
        self.assertEqual(
            (found.SOPInstanceUID, found.digest, found.size),
            (two.SOPInstanceUID, two.digest, two.size),
        )
        waiting = await self.index.unconfirmed()
        self.assertEqual([one.location for one in waiting], [place(one), place(two)])
        self.index.confirm(first)
        self.assertIn(found, await self.index.unconfirmed())
        self.index.confirm(second)
        await self.index.confirmAll()
        self.assertEqual(await self.index.unconfirmed(), ())

    async def test_announcedAgain(self: Any) -> None:
        """What is known is left as it is, whatever comes."""
        one = record()
        await self.enter(one)
        for again in (one, evolve(one, digest=b"other", PatientName="Bianchi")):
            self.assertIsNone(await self.index.announce(again, place(one, "-2")))
        self.assertIsNone(await self.index.storedAt(place(one, "-2")))
        self.assertEqual(
            await self.ask(Level.IMAGE, returned="PatientName"), [("Rossi^Anna",)]
        )
        self.assertEqual(await self.index.unconfirmed(), ())

    async def test_announcedOfAnotherPatient(self: Any) -> None:
        """It is told as it is of what is registered."""
        one = record()
        await self.enter(one)
        other = record(instance="1.1.1.2", PatientID="P2")
        announcement = await self.index.announce(other, place(other))
        self.assertTrue(announcement.patientConflict)

    async def test_announcedAndForgotten(self: Any) -> None:
        """Its file was not kept after all: it is gone, with what it had made."""
        one = record()
        announcement = await self.index.announce(one, place(one))
        self.assertTrue(await self.index.forget(place(one)))
        self.index.confirm(announcement)
        self.assertEqual(await self.index.totals(), Totals(0, 0, 0, 0, 0))
        self.assertEqual(await self.index.unconfirmed(), ())

    async def test_seriesOfTwoStudies(self: Any) -> None:
        """Each instance is found under the UIDs that it carries."""
        await self.enter(record("1.1", "7", "1"), record("1.2", "7", "2"))
        self.assertEqual(
            await self.ask(Level.IMAGE, returned="StudyInstanceUID SOPInstanceUID"),
            [("1.1", "1"), ("1.2", "2")],
        )
        self.assertEqual(
            await self.stored(
                Level.SERIES,
                AnyOf(attribute("StudyInstanceUID"), ("1.2",)),
                AnyOf(attribute("SeriesInstanceUID"), ("7",)),
            ),
            ["2"],
        )

    async def test_atTheSameTime(self: Any) -> None:
        """64 on one new study make one study, with the right counts."""
        records = [record("5", f"5.{n % 4}", f"5.{n % 4}.{n}") for n in range(64)]
        done = await gatherResults(
            [self.index.register(one, place(one), REPLACE) for one in records]
        )
        self.assertEqual([r.location for r in done], [place(r) for r in records])
        self.assertEqual({r.outcome for r in done}, {Outcome.STORED})
        self.assertEqual(
            await self.ask(
                Level.STUDY,
                returned="NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances",
            ),
            [("4", "64")],
        )

    async def test_oneInstanceManyTimesAtTheSameTime(self: Any) -> None:
        one = record()
        done = await gatherResults(
            [self.index.register(one, place(one, str(n)), REPLACE) for n in range(8)]
        )
        outcomes = [registration.outcome for registration in done]
        self.assertEqual(outcomes, [Outcome.STORED] + [Outcome.DUPLICATE] * 7)

    async def test_brokenText(self: Any) -> None:
        """NUL, lone surrogates and endless values enter, and harm no other."""
        one = record(
            PatientID="A\0B",
            PatientName="Ros\udcffsi^" + "x" * 100_000,
            AccessionNumber="漢" * 100_000,
            InstanceNumber="no number",
        )
        done = await gatherResults(
            self.index.register(r, place(r), REPLACE)
            for r in (record(instance="2"), one, record(instance="3"))
        )
        self.assertEqual([r.outcome for r in done], [Outcome.STORED] * 3)

    # --- whose attributes ------------------------------------------------------

    async def test_patientConflict(self: Any) -> None:
        """A study stays with the patient that it was first seen with."""
        first = record("1", "1.1", "a", PatientID="P1", PatientName="Rossi")
        second = record("1", "1.1", "b", minute=1, PatientID="P2", PatientName="Verdi")
        done = await self.enter(first, second)
        self.assertEqual([r.patientConflict for r in done], [False, True])
        self.assertEqual(
            await self.ask(
                Level.STUDY,
                returned="PatientID PatientName NumberOfStudyRelatedInstances",
            ),
            [("P1", "Rossi", "2")],
        )
        self.assertEqual(await self.ask(Level.PATIENT, returned="PatientID"), [("P1",)])

    async def test_anyOrder(self: Any) -> None:
        """A rebuild in another order comes to the same rows."""
        records = [
            record("1", "1.1", "a", minute=1, PatientName="Bianchi^Anna"),
            record("1", "1.1", "b", minute=2, PatientName="Neri", Modality="SR"),
            record("2", "2.1", "c", minute=3, PatientName="Rossi^Anna"),
            record("2", "2.2", "d", minute=4, PatientID="P2", PatientName="Verdi"),
        ]
        answers = []
        for order in (records, records[::-1], records[1:] + records[:1]):
            await self.enter(*order)
            answers.append(
                [
                    await self.ask(Level.PATIENT, returned="PatientID PatientName"),
                    await self.ask(
                        Level.SERIES, returned="SeriesInstanceUID PatientName Modality"
                    ),
                ]
            )
            for one in records:
                await self.index.forget(place(one))
        expected = [
            [("P1", "Rossi^Anna")],
            [
                ("1.1", "Bianchi^Anna", "CT"),
                ("2.1", "Rossi^Anna", "CT"),
                ("2.2", "Rossi^Anna", "CT"),
            ],
        ]
        self.assertEqual(answers, [expected] * 3)

    async def test_correctedAndSentAgain(self: Any) -> None:
        """When the describing instance is replaced, the new one describes."""
        await self.enter(
            record("1", "1.1", "a", PatientID="P1"),
            record("1", "1.1", "b", minute=1, PatientID="P1"),
        )
        done = await self.enter(
            record("1", "1.1", "a", content="A", minute=2, PatientID="P2"),
            record("1", "1.1", "b", content="B", minute=3, PatientID="P2"),
        )
        self.assertEqual([r.outcome for r in done], [Outcome.REPLACED] * 2)
        self.assertEqual(await self.ask(Level.PATIENT, returned="PatientID"), [("P2",)])

    async def test_noPatientID(self: Any) -> None:
        """Without a Patient ID, name, birth date and sex tell patients apart."""
        await self.enter(
            record("1", "1.1", "a", PatientID="", PatientName="Müller^Jörg"),
            record("2", "2.1", "b", PatientID="", PatientName="MULLER^JORG^"),
            record("3", "3.1", "c", PatientID="", PatientName="Rossi"),
        )
        self.assertEqual((await self.index.totals()).patients, 2)

    async def test_issuersApart(self: Any) -> None:
        await self.enter(
            record("1", "1.1", "a", IssuerOfPatientID="A"),
            record("2", "2.1", "b", IssuerOfPatientID="B"),
        )
        self.assertEqual((await self.index.totals()).patients, 2)

    # --- locate and places -------------------------------------------------------

    async def test_locateInOrder(self: Any) -> None:
        """By series, then Instance Number; those without one last."""

        def one(series: str, uid: str, number: str) -> InstanceRecord:
            return record("1", series, uid, InstanceNumber=number)

        await self.enter(
            one("1.1", "x", "10"), one("1.2", "a", "1"), one("1.1", "b", ""),
            one("1.1", "y", "9"), one("1.1", "c", "-1"), one("1.1", "a2", "9"),
        )  # fmt: skip
        uid = attribute("StudyInstanceUID")
        self.assertEqual(
            await self.stored(Level.STUDY, AnyOf(uid, ("1",))),
            ["c", "a2", "y", "x", "b", "a"],
        )
        self.assertEqual(
            await self.stored(
                Level.IMAGE, AnyOf(attribute("SOPInstanceUID"), ("x", "a", "z"))
            ),
            ["x", "a"],
        )
        named = AnyOf(attribute("SOPInstanceUID"), ("x", "a", "b", "c", "y"))
        series = AnyOf(attribute("SeriesInstanceUID"), ("1.1",))
        self.assertEqual(
            await self.stored(Level.IMAGE, named, series), ["c", "y", "x", "b"]
        )

    async def test_locateByPatient(self: Any) -> None:
        """The patient's own attributes decide, not each study's copy."""
        await self.enter(
            record("1", "1.1", "a", PatientName="Nubile^Anna"),
            record("2", "2.1", "b", minute=1, PatientName="Sposata^Anna"),
            record("3", "3.1", "c", PatientID="P3", PatientName="Sposata^Anna"),
        )
        name = attribute("PatientName")
        condition = NameMatch(name, ("sposata^*",))
        self.assertEqual(await self.stored(Level.PATIENT, condition), ["a", "b", "c"])
        self.assertEqual(await self.stored(Level.STUDY, condition), ["b", "c"])

    async def test_locationsBelow(self: Any) -> None:
        paths = ("ab/1/x.dcm", "ab/2/x.dcm", "ab0/1/x.dcm", "a%/1/x.dcm", "a/1/x.dcm")
        for number, path in enumerate(paths):
            await self.index.register(
                record(instance=str(number)), Location(path, number), REPLACE
            )

        async def below(folder: str) -> Iterable[str]:
            found = await self.index.locationsBelow(folder)
            return sorted(location.path for location in found)

        self.assertEqual(await below("ab"), ["ab/1/x.dcm", "ab/2/x.dcm"])
        self.assertEqual(await below("ab/1"), ["ab/1/x.dcm"])
        self.assertEqual(await below("a%"), ["a%/1/x.dcm"])
        self.assertEqual(await below("zz"), [])
        self.assertIn(Location("ab/2/x.dcm", 1), await self.index.locationsBelow("ab"))

    async def test_instancesAfter(self: Any) -> None:
        """All of them in the order of their arrival; what is replaced stays there."""
        self.assertEqual(await self.index.extent(0), Extent(0, 0))
        self.assertEqual(await self.index.instancesAfter(0, 10), ())
        records = [record(instance=str(n)) for n in (3, 1, 2)]
        await self.enter(*records)
        other = record(instance="3", content="other", minute=1)
        await self.index.register(other, place(other, "-2"), REPLACE)
        two = await self.index.instancesAfter(0, 2)
        self.assertEqual([one.stored.SOPInstanceUID for one in two], ["3", "1"])
        self.assertEqual(two[0].stored.location, place(other, "-2"))
        (three,) = await self.index.instancesAfter(two[1].number, 2)
        self.assertEqual(three.stored.digest, records[2].digest)
        self.assertEqual(await self.index.instancesAfter(three.number, 2), ())
        self.assertEqual(await self.index.extent(0), Extent(three.number, 3))
        self.assertEqual(
            await self.index.extent(two[0].number), Extent(three.number, 2)
        )
        self.assertEqual(await self.index.extent(three.number), Extent(0, 0))

    async def test_forgetEmptiesWhatIsAbove(self: Any) -> None:
        await self.enterSome()
        for uid, study in (("1.1.1", "1"), ("1.2.1", "1"), ("2.1.1", "2")):
            location = place(record(study, "", uid))
            self.assertTrue(await self.index.forget(location))
            self.assertIsNone(await self.index.storedAt(location))
        self.assertEqual(await self.ask(Level.PATIENT, returned="PatientID"), [("P3",)])
        self.assertEqual(await self.studies(), ["3"])
