"""
The verification that goes on all the time, where it is wanted: within so many days
each file is read once, as slowly as that allows.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from d360.asynchronous import asynchronous
from d360.errors import ArchiveError, DatabaseError
from d360.interfaces import IIndex, IVerify, IVerifyNotes
from d360.logs import Logger
from d360.model import VerifyRound

#: Seconds from one look to the next.
INTERVAL = 300.0

#: Bytes a second that are read at least: to be slower would help nobody.
LEAST_RATE = 1 << 20

#: How much faster it is than it had to be, for it is not always at work.
_HASTE = 1.25

_DAY = 86400.0


class VerifyCare:
    """
    Has everything verified, round by round.

    @param verify: one of its own.
    @param clock: its seconds are those since the epoch.
    @param days: for a round; 0 for none.
    """

    _log = Logger("d360.verify")

    def __init__(
        self,
        verify: IVerify,
        index: IIndex,
        notes: IVerifyNotes,
        clock: IReactorTime,
        days: int,
    ) -> None:
        self._verify = verify
        self._index = index
        self._notes = notes
        self._clock = clock
        self._days = days
        # The one that was begun, or gone on with, by this run of the server.
        self._round: VerifyRound | None = None
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        self._ended: Deferred[Any] = succeed(None)

    def start(self) -> None:
        """Begin, or go on where an earlier run of the server was."""
        if self._days:
            self._ended = self._loop.start(INTERVAL)

    def _look(self) -> Deferred[None]:
        return self._care().addErrback(
            lambda failure: self._log.failure("verifying regularly", failure)
        )

    @asynchronous
    async def _care(self) -> None:
        try:
            await self._noteIt()
            progress = self._verify.progress()
            if progress is None or not progress.running:
                await self._goOn()
        except (DatabaseError, ArchiveError) as error:
            self._log.warn("Cannot verify regularly yet: {why}", why=str(error))

    async def _noteIt(self) -> None:
        """How far the round has come by now."""
        round_, progress = self._round, self._verify.progress()
        if round_ is None or round_.complete or progress is None:
            return
        complete = not progress.running and not progress.error
        round_ = evolve(round_, position=progress.position, complete=complete)
        await self._notes.write(round_)
        self._round = round_

    async def _goOn(self) -> None:
        """With a round that was interrupted, or the next one when that is due."""
        round_ = self._round or await self._notes.read()
        now = self._clock.seconds()
        extent = await self._index.extent(0)
        totals = await self._index.totals()
        if round_ is not None and round_.complete:
            if now - round_.begunAt < self._days * _DAY:
                self._round = round_
                return
            round_ = None
        # Where there is nothing at its position, the index was made anew.
        if round_ is None or round_.position > extent.last:
            round_ = VerifyRound(now)
            await self._notes.write(round_)
        if not self._loop.running:
            return
        rate = max(LEAST_RATE, totals.size / (self._days * _DAY) * _HASTE)
        self._verify.start(rate, "", round_.position)
        self._round = round_

    @asynchronous
    async def stop(self) -> None:
        """End it, and remember where it was."""
        if self._loop.running:
            self._loop.stop()
        await self._ended
        await self._verify.stop()
        try:
            await self._noteIt()
        except ArchiveError as error:
            self._log.warn("Cannot note how far it was: {why}", why=str(error))
