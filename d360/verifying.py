"""
The verification of the files put together: a part of L{d360.composition} that only
the server's own process has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from attrs import frozen

from d360.archive.verifynotes import VerifyNotes
from d360.asynchronous import asynchronous
from d360.composition import Stores
from d360.config import Configuration
from d360.interfaces import IAudit
from d360.metrics.exposition import Reading
from d360.model import FileState
from d360.services.verify import Verify
from d360.services.verifycare import VerifyCare


@frozen
class Verifying:
    """
    What compares the files with what was stored.

    @ivar asked: when somebody wants it.
    @ivar regular: all the time, as C{care} has it.
    """

    asked: Verify
    regular: Verify
    care: VerifyCare

    def readings(self) -> Sequence[Reading]:
        """What the metrics tell of them: what the last of each kind has found."""

        def count(state: FileState) -> int:
            found = (self.asked.progress(), self.regular.progress())
            return sum(getattr(one, state.value) for one in found if one is not None)

        return [
            Reading(
                "d360_files_not_intact",
                "Files that are not what was stored, as the last verifications found.",
                partial(count, state),
                {"state": state.value},
            )
            for state in FileState
        ]

    @asynchronous
    async def stop(self) -> None:
        """End both where they are."""
        await self.asked.stop()
        await self.care.stop()


def makeVerifying(
    reactor: Any, configuration: Configuration, stores: Stores, audit: IAudit
) -> Verifying:
    """Nothing is begun yet."""
    archive, index = stores.archive, stores.index
    # One file at a time: it is in no hurry.
    regular = Verify(archive, index, reactor, 1, audit)
    notes = VerifyNotes(configuration.dataDirectory / "verify.json", stores.threads.run)
    days = configuration.archive.verifyDays
    return Verifying(
        Verify(archive, index, reactor, audit=audit),
        regular,
        VerifyCare(regular, index, notes, reactor, days),
    )
