"""What every L{ICommitmentRequests} does, whatever it keeps them in."""

from __future__ import annotations

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
        await self.requests.remove(1)

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
        await self.requests.remove(kept.identifier)
        self.later(1)
        self.assertIsNone(await self.requests.due(60))

    async def test_all(self: Any) -> None:
        """The oldest, without their instances."""
        for one in (FIRST, SECOND):
            await self.requests.add(one, 60)
        found = await self.requests.all(10)
        self.assertEqual(
            [(one.aeTitle, one.transactionUID, one.references) for one in found],
            [("MODALITY", "1.2.3.1", ()), ("MODALITY", "1.2.3.2", ())],
        )
        self.assertEqual(len(await self.requests.all(1)), 1)
