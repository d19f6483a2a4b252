"""
Peers that have gone silent: they send nothing, or no longer read what they
are sent, and TCP would hold the connection open for ever. And those that send so
little of a message that it never comes to its end.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer


class SilenceWatch:
    """
    Calls back when there was no traffic for a time and no excuse for it; or, while
    a message is coming, less than there must be.

    It has one timer, which is not touched for traffic: when it fires, it is
    set anew for what is left.

    @ivar isComing: some of a message has come, and not all of it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        isExcused: Callable[[], bool],
        silent: Callable[[str], None],
        minRate: int = 0,
    ) -> None:
        """
        @param isExcused: whether silence is none of the peer's fault now.
        @param silent: called once with what is wrong.
        @param minRate: bytes a second of a message's data that there must be on
            average over the limit; 0 for any.
        """
        self._clock = clock
        self._isExcused = isExcused
        self._silent = silent
        self._limit = 0.0
        self._lastTraffic = 0.0
        self._timer: IDelayedCall | None = None
        self._minRate = minRate
        self.isComing = False
        # Since when a message is looked at, and what has come since.
        self._since = 0.0
        self._received = 0

    def start(self, limit: float) -> None:
        """
        Begin, or go on with another limit, which counts from now.

        @param limit: seconds; 0 for none.
        """
        self.stop()
        self._limit = limit
        self.traffic()
        if limit:
            self._timer = self._clock.callLater(limit, self._look)

    def stop(self) -> None:
        """Watch no longer."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def traffic(self) -> None:
        """The peer has sent something, or taken something from us."""
        self._lastTraffic = self._clock.seconds()

    def data(self, length: int, isComing: bool) -> None:
        """
        The peer has sent some of a message.

        @param isComing: that was not all of it.
        """
        if isComing and not self.isComing:
            self._since = self._clock.seconds()
            self._received = 0
        self.isComing = isComing
        self._received += length

    def excused(self) -> None:
        """Up to now, it was none of the peer's fault."""
        self.traffic()
        self._since, self._received = self._lastTraffic, 0

    def _look(self) -> None:
        self._timer = None
        if self._isExcused():
            self.excused()
        now = self._clock.seconds()
        left = self._lastTraffic + self._limit - now
        if left <= 0:
            self._silent(f"the peer has been silent for {self._limit:g} s")
            return
        if self.isComing and now - self._since >= self._limit:
            if self._received < self._minRate * (now - self._since):
                self._silent(
                    f"the peer has sent {self._received} bytes of a message in "
                    f"{now - self._since:.0f} s: less than min_rate"
                )
                return
            self._since, self._received = now, 0
        if self.isComing and self._minRate:
            left = min(left, self._since + self._limit - now)
        self._timer = self._clock.callLater(left, self._look)


@implementer(IPushProducer)
class WatchedProducer:
    """
    Stands between a transport and its producer and sees whether the peer
    reads: to be asked for more is traffic, to be paused for long is not.
    """

    def __init__(self, producer: IPushProducer, traffic: Callable[[], None]) -> None:
        self.isPaused = False
        self._producer = producer
        self._traffic = traffic

    def pauseProducing(self) -> None:
        """The connection is full."""
        if not self.isPaused:
            self._traffic()
        self.isPaused = True
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer has taken what there was."""
        self.isPaused = False
        self._traffic()
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self.isPaused = False
        self._producer.stopProducing()
