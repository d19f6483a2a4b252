"""
Whose turn it is. The reactor serves every connection that has something to read
before it looks for others; with a hundred that send images as fast as they can,
one that asks for an answer of some bytes would wait for all of them. So there is
only so much done on long messages, on new associations and on connections that have
gone in one round, and the rest waits for the next ones, the longest waiting first.
What is short is served in the round it comes.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds of work on long messages in one round of the reactor, but for what is
#: begun; how long a round takes at most, where nobody has had to wait; how many
#: seconds there are for one connection, and after how many pieces of what it has
#: sent the clock is looked at.
ROUND = 0.004
LONGEST_ROUND = 0.01
TURN = 0.001
LOOK = 8

#: Bytes of a read up to which it is short: most requests are.
SHORT = 2048


class ITakesTurns(Protocol):
    """Who waits for a turn."""

    def takeTurn(self) -> None:
        """Go on."""


class Turns:
    """The turns of all connections of one reactor."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[ITakesTurns] = deque()
        self._call: IDelayedCall | None = None
        # When the round began, as far as can be told from here, and what was
        # spent in it.
        self._begun = 0.0
        self._spent = 0.0

    def isOver(self, now: float) -> bool:
        """Whether there is no time left for long messages in this round."""
        return bool(self._waiting) or (
            self._spent >= ROUND and now - self._begun <= LONGEST_ROUND
        )

    def spend(self, begin: float, end: float) -> None:
        """For so long somebody was at work."""
        if end - self._begun > LONGEST_ROUND:
            self._begun, self._spent = begin, 0.0
        self._spent += end - begin

    def wait(self, who: ITakesTurns) -> None:
        """Have its L{ITakesTurns.takeTurn} called in a later round."""
        self._waiting.append(who)
        if self._call is None:
            self._call = self._clock.callLater(0, self._nextRound)

    def _nextRound(self) -> None:
        self._call = None
        self._begun, self._spent = self._clock.seconds(), 0.0
        # Who has had a turn, and wants another, waits behind all others.
        for _ in range(len(self._waiting)):
            if self._spent >= ROUND or not self._waiting:
                break
            self._waiting.popleft().takeTurn()
        if self._waiting and self._call is None:
            self._call = self._clock.callLater(0, self._nextRound)
