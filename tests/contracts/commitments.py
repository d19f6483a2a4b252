"""What every L{ICommitmentRequests} does, whatever it keeps them in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import evolve

from d360.index.sql import MAX_COMMITMENTS
from d360.interfaces import ICommitmentRequests
from d360.model import CommitmentRequest, Referenced
from tests.contracts.instances import assertSameSignatures

CT = "1.2.840.10008.5.1.4.1.1.2"

FIRST = CommitmentRequest(
    "1.2.3.1", "MODALITY", (Referenced(CT, "1.2.3.4.1"), Referenced(CT, "1.2.3.4.2"))
)
SECOND = CommitmentRequest("1.2.3.2", "MODALITY", (Referenced(CT, "1.2.3.4.1"),))


class CommitmentRequestsContract:
    """
    Mix into a trial C{TestCase}; C{setUp} puts an empty store into
    C{requests}, and C{later} has so many seconds pass.
    """

    def test_signatures(self: Any) -> None:
        assertSameSignatures(self, ICommitmentRequests, self.requests)

    async def test_empty(self: Any) -> None:
        self.assertIsNone(await self.requests.due(60))
        self.assertEqual(await self.requests.all(10), ())
        await self.requests.postpone(1, 60)
        await self.requests.checked(1, [0])
        await self.requests.putOff("MODALITY", 60)
        self.assertIs(await self.requests.retry(1), False)
        self.assertIs(await self.requests.remove(1), False)

    async def test_due(self: Any) -> None:
        """Each is due after its time, the oldest first, and then put off."""
        first = await self.requests.add(FIRST, 0)
        second = await self.requests.add(SECOND, 0)
        self.assertNotEqual(first.identifier, second.identifier)
        self.later(1)
        for kept in (first, second):
            due = await self.requests.due(60)
            self.assertEqual(due, evolve(kept, attempts=1, age=due.age))
            self.assertGreaterEqual(due.age, 0)
        self.assertIsNone(await self.requests.due(60))
        self.later(61)
        due = await self.requests.due(60)
        self.assertEqual((due.identifier, due.attempts), (first.identifier, 2))

    async def test_patience(self: Any) -> None:
        """Who takes one has it for a while."""
        kept = await self.requests.add(FIRST, 60)
        self.assertIsNone(await self.requests.due(60))
        await self.requests.postpone(kept.identifier, 0)
        self.later(1)
        self.assertEqual((await self.requests.due(60)).references, FIRST.references)
        await self.requests.postpone(kept.identifier, 600)
        self.later(300)
        self.assertIsNone(await self.requests.due(60))

    async def test_without(self: Any) -> None:
        """Of AE titles that somebody is busy with none is given."""
        await self.requests.add(FIRST, 0)
        other = await self.requests.add(evolve(SECOND, aeTitle="OTHER"), 0)
        self.later(1)
        self.assertIsNone(await self.requests.due(60, ("OTHER", "MODALITY")))
        due = await self.requests.due(60, {"MODALITY"})
        self.assertEqual(due.identifier, other.identifier)
        self.assertIsNone(await self.requests.due(60, ["MODALITY"]))
        self.assertEqual((await self.requests.due(60)).aeTitle, "MODALITY")

    async def test_putOff(self: Any) -> None:
        """All of an AE that wait are due later; none is due earlier for it."""
        first = await self.requests.add(FIRST, 0)
        second = await self.requests.add(SECOND, 0)
        other = await self.requests.add(evolve(SECOND, aeTitle="OTHER"), 0)
        for one, seconds in ((first, 0), (second, 600), (other, 0)):
            await self.requests.postpone(one.identifier, seconds, "unreachable")
        await self.requests.putOff("MODALITY", 300)
        self.later(1)
        self.assertEqual((await self.requests.due(900)).aeTitle, "OTHER")
        self.assertIsNone(await self.requests.due(900))
        self.later(300)
        due = await self.requests.due(0)
        self.assertEqual(due.identifier, first.identifier)

    async def test_notPutOff(self: Any) -> None:
        """Who sees to one decides himself; as long as it is his."""
        kept = await self.requests.add(FIRST, 60)
        await self.requests.putOff("MODALITY", 300)
        self.later(61)
        self.assertEqual((await self.requests.due(60)).identifier, kept.identifier)
        self.later(61)
        await self.requests.putOff("MODALITY", 300)
        self.assertIsNone(await self.requests.due(60))

    async def test_retry(self: Any) -> None:
        """What waits is due at once; who is at work is left alone."""
        kept = await self.requests.add(FIRST, 600)
        self.assertIs(await self.requests.retry(kept.identifier), True)
        self.later(1)
        self.assertIsNone(await self.requests.due(60))
        await self.requests.postpone(kept.identifier, 600, "unreachable")
        self.assertIs(await self.requests.retry(kept.identifier), True)
        self.later(1)
        due = await self.requests.due(60)
        self.assertEqual(due.identifier, kept.identifier)

    async def test_renew(self: Any) -> None:
        """Who has it may have it longer, until another has got it."""
        kept = await self.requests.add(FIRST, 0)
        self.assertIs(await self.requests.renew(kept, 60), True)
        self.later(1)
        self.assertIsNone(await self.requests.due(60))
        self.later(60)
        given = await self.requests.due(60)
        self.assertIs(await self.requests.renew(kept, 60), False)
        self.assertIs(await self.requests.renew(given, 60), True)

    async def test_tooMany(self: Any) -> None:
        """One AE title cannot fill the database; others are not in its way."""
        for number in range(MAX_COMMITMENTS):
            one = evolve(FIRST, transactionUID=f"1.2.{number}")
            self.assertIsNotNone(await self.requests.add(one, 60))
        self.assertIsNone(await self.requests.add(FIRST, 60))
        self.assertIsNotNone(await self.requests.add(evolve(FIRST, aeTitle="B"), 60))

    async def test_checked(self: Any) -> None:
        """What was found stays true for a while."""
        kept = await self.requests.add(FIRST, 0)
        await self.requests.checked(kept.identifier, [0, 0x0112])
        self.later(1)
        self.assertEqual((await self.requests.due(0)).reasons, (0, 0x0112))
        self.later(86401)
        self.assertIsNone((await self.requests.due(0)).reasons)

    async def test_again(self: Any) -> None:
        """One transaction of an AE title takes the place of the one before."""
        kept = await self.requests.add(FIRST, 0)
        await self.requests.checked(kept.identifier, [0, 0])
        again = await self.requests.add(evolve(FIRST, references=SECOND.references), 0)
        # Who is at work on the one before has no hold on it.
        self.assertNotEqual(again.identifier, kept.identifier)
        await self.requests.checked(kept.identifier, [1, 1])
        await self.requests.remove(kept.identifier)
        self.assertIs(await self.requests.renew(kept, 60), False)
        await self.requests.add(evolve(FIRST, aeTitle="OTHER"), 60)
        self.later(1)
        due = await self.requests.due(60)
        self.assertEqual((due.references, due.reasons), (SECOND.references, None))
        self.assertIsNone(await self.requests.due(60))

    async def test_remove(self: Any) -> None:
        kept = await self.requests.add(FIRST, 0)
        self.assertIs(await self.requests.remove(kept.identifier), True)
        self.assertIs(await self.requests.remove(kept.identifier), False)
        self.later(1)
        self.assertIsNone(await self.requests.due(60))

    async def test_all(self: Any) -> None:
        """The oldest, and how far they are."""
        for one in (FIRST, SECOND):
            await self.requests.add(one, 60)
        first, second = await self.requests.all(10)
        self.assertEqual(
            (first.aeTitle, first.transactionUID, first.instances, first.attempts),
            ("MODALITY", "1.2.3.1", 2, 0),
        )
        self.assertEqual((second.transactionUID, second.instances), ("1.2.3.2", 1))
        waits = (first.dueAt - first.receivedAt).total_seconds()
        self.assertAlmostEqual(waits, 60, delta=1)
        self.assertEqual(first.receivedAt.utcoffset(), timedelta(0))
        self.assertEqual(await self.requests.all(1), (first,))

    async def test_states(self: Any) -> None:
        """Somebody sees to it; or it waits, and why."""

        async def state() -> tuple[bool, bool, str]:
            (one,) = await self.requests.all(10)
            return one.isUnderWay, one.failedAt is not None, one.failure

        kept = await self.requests.add(FIRST, 60)
        self.assertEqual(await state(), (True, False, ""))
        await self.requests.postpone(kept.identifier, 0)
        self.assertEqual(await state(), (False, False, ""))
        await self.requests.postpone(kept.identifier, 0, "unreachable")
        self.assertEqual(await state(), (False, True, "unreachable"))
        self.later(1)
        await self.requests.due(60)
        self.assertEqual(await state(), (True, True, ""))
        # Whoever it was has had his time.
        self.later(61)
        self.assertEqual(await state(), (False, True, ""))
        # It is asked for anew: what was before is of no interest.
        await self.requests.add(FIRST, 60)
        self.assertEqual(await state(), (True, False, ""))
