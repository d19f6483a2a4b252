"""
Peers that have gone silent: they send nothing, or no longer read what they
are sent, and TCP would hold the connection open for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer


class SilenceWatch:
    """
    Calls back when there was no traffic for a time and no excuse for it.

    It has one timer, which is not touched for traffic: when it fires, it is
    set anew for what is left.
    """

    def __init__(
        self,
        clock: IReactorTime,
        isExcused: Callable[[], bool],
        silent: Callable[[float], None],
    ) -> None:
        """
        @param isExcused: whether silence is none of the peer's fault now.
        @param silent: called once with the limit, in seconds, that was
            passed.
        """
        self._clock = clock
        self._isExcused = isExcused
        self._silent = silent
        self._limit = 0.0
        self._lastTraffic = 0.0
        self._timer: IDelayedCall | None = None

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

    def _look(self) -> None:
        self._timer = None
        if self._isExcused():
            self.traffic()
        left = self._lastTraffic + self._limit - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._silent(self._limit)


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
