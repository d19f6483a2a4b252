"""Files that are not there yet when they are asked for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import succeed

from d360.errors import AssociationAborted
from d360.services.sending import PATIENCE, PAUSES
from tests.services.test_retrieve import RetrieveCase, counts


def placeOf(number: int) -> str:
    return f"00/1.1/1.1.1/1.1.1.{number}.dcm"


class IncompleteTests(RetrieveCase):
    """The index has an instance before its file is complete."""

    def begin(self, *numbers: int) -> dict[str, bytes]:
        """
        Ask for some instances without their files.

        @return: those files.
        """
        for number in numbers:
            self.stored(number)
        away = {placeOf(n): self.archive.files.pop(placeOf(n)) for n in numbers}
        self.begun = self.operation()
        self.done = self.service.perform(self.begun)
        return away

    def counted(self) -> Any:
        self.successResultOf(self.done)
        self.check(self.begun)
        return counts(self.begun.responses[-1])

    def test_completedLater(self) -> None:
        """It is tried again."""
        away = self.begin(1)
        self.clock.advance(PAUSES[0])
        self.assertNoResult(self.done)
        self.archive.files.update(away)
        self.clock.advance(PAUSES[1])
        self.assertEqual((None, 1, 0, 0), self.counted())

    def test_halfWritten(self) -> None:
        """So it is if it is too short by then, or its bytes are others."""
        away = self.begin(1)
        data = away[placeOf(1)]
        pauses = iter(PAUSES)
        for part in (data[:100], bytes(len(data)), data):
            self.assertNoResult(self.done)
            self.archive.files[placeOf(1)] = part
            self.clock.advance(next(pauses))
        self.assertEqual((None, 1, 0, 0), self.counted())

    def test_never(self) -> None:
        """It has failed after some seconds, with what is wrong now."""
        self.begin(1)
        self.clock.pump(PAUSES[:-1])
        self.assertNoResult(self.done)
        self.archive.files[placeOf(1)] = b"headother"
        self.clock.advance(PAUSES[-1])
        self.assertEqual((None, 0, 1, 0), self.counted())
        self.assertIn("the file is damaged", self.begun.log.events[-2][1])

    def test_manyNever(self) -> None:
        """Those whose turn comes later were there long enough."""
        self.begin(*range(1, 101))
        self.clock.pump(PAUSES)
        self.assertEqual(PATIENCE, self.clock.seconds())
        self.assertEqual((None, 0, 100, 0), self.counted())

    def test_movedMeanwhile(self) -> None:
        """The file at the new place is as new as its row."""
        self.begin(1)
        self.clock.pump(PAUSES[:-1])
        self.stored(1, b"newer")
        new = next(iter(self.archive.files))
        data = self.archive.files.pop(new)
        self.clock.advance(PAUSES[-1])
        self.assertNoResult(self.done)
        self.clock.advance(PAUSES[0])
        self.archive.files[new] = data
        self.clock.advance(PAUSES[1])
        self.assertEqual((None, 1, 0, 0), self.counted())
        self.assertEqual(b"newer", self.opener.received[-1].data)

    def test_deletedMeanwhile(self) -> None:
        """What is not in the index any more is not waited for."""
        self.begin(1)
        self.index.locate = lambda query: Nothing()
        self.clock.advance(PAUSES[0])
        self.assertEqual((None, 0, 1, 0), self.counted())

    def test_cancelled(self) -> None:
        """Nothing is waited for; nothing is left behind."""
        self.begin(1, 2, 3, 4, 5)
        self.begun.cancel()
        self.assertEqual((5, 0, 0, 0), self.counted())

    def test_associationLost(self) -> None:
        """Likewise if it is the requestor that has gone."""
        self.begin(1, 2)
        self.begun.lose()
        self.failureResultOf(self.done, AssociationAborted)


class Nothing:
    """No results."""

    def nextBatch(self) -> Any:
        return succeed(())

    def close(self) -> None:
        """Nothing is open."""
