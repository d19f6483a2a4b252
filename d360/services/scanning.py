"""
The header of a data set, read while it streams by without anybody else having to
wait: a few bytes of a deflated one may become gigabytes (PS3.5 A.5).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from d360.services.header import HeaderScanner


@implementer(IPushProducer)
class SharedProducer:
    """
    One producer that two consumers pause: it goes on when both want it to.
    The methods of L{IPushProducer} are for one of them.
    """

    def __init__(self, producer: IPushProducer) -> None:
        self._producer = producer
        self._pausing: set[str] = set()

    def pause(self, who: str) -> None:
        """One of them is behind."""
        if not self._pausing:
            self._producer.pauseProducing()
        self._pausing.add(who)

    def resume(self, who: str) -> None:
        """It has caught up."""
        if who in self._pausing:
            self._pausing.remove(who)
            if not self._pausing:
                self._producer.resumeProducing()

    def pauseProducing(self) -> None:
        self.pause("consumer")

    def resumeProducing(self) -> None:
        self.resume("consumer")

    def stopProducing(self) -> None:
        self._producer.stopProducing()


class Scanning:
    """
    Has a L{HeaderScanner} go on bit by bit, and the producer wait for it.

    @ivar producer: what stands for the producer before the other consumer.
    """

    def __init__(self, scanner: HeaderScanner, clock: IReactorTime) -> None:
        self._scanner = scanner
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []
        self.producer: Any = None

    def registerProducer(self, producer: IPushProducer) -> None:
        """What is to wait."""
        self.producer = SharedProducer(producer)

    def goOn(self) -> None:
        """Something was written; go on with it when others have had their turn."""
        if self._call is None and self._scanner.isBehind:
            if self.producer is not None:
                self.producer.pause("scanner")
            self._call = self._clock.callLater(0, self._takeTurn)

    def _takeTurn(self) -> None:
        self._call = None
        self._scanner.goOn()
        self.goOn()
        if self._call is None:
            self._end()

    def whenDone(self) -> Deferred[None]:
        """Fires when all that was written is read."""
        if self._call is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        return done

    def stop(self) -> None:
        """Nobody wants to know any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._end()

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
        if self.producer is not None:
            self.producer.resume("scanner")
