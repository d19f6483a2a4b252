"""
Peers by the host that they come from: how many of something each host has, how
many it may have, and which of those that were turned away are worth a line of
the log. A host is an address, as a connection shows it: behind a gateway or a
NAT there may be many devices.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from attrs import frozen
from twisted.logger import Logger

#: Seconds in which like events of one host make one line.
INTERVAL = 60.0

#: Hosts that L{Seldom} tells apart.
_HOSTS = 100


@frozen
class HostLimits:
    """
    What one host may have open at the same time.

    @ivar associations: beyond, it is told that there are too many.
    @ivar connections: beyond, they are closed.
    """

    associations: int = sys.maxsize
    connections: int = sys.maxsize


class HostCounts:
    """How many each host has; of those that have none nothing is kept."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many hosts have any."""
        return len(self._counts)

    def of(self, host: str) -> int:
        """How many it has."""
        return self._counts.get(host, 0)

    def put(self, host: str, count: int) -> None:
        """It has so many."""
        if count:
            self._counts[host] = count
        else:
            self._counts.pop(host, None)

    def add(self, host: str) -> None:
        """It has one more."""
        self._counts[host] = self._counts.get(host, 0) + 1

    def remove(self, host: str) -> None:
        """It has one less."""
        self.put(host, self._counts[host] - 1)


class Seldom:
    """
    Which of like events make a line of the log: the first one of a host, and
    after L{INTERVAL} the next one, with how many there were; so that nobody can
    fill the log by being turned away again and again.

    @param seconds: tells the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}
        self._counts = HostCounts()

    def note(self, host: str) -> int:
        """
        There was one more.

        @return: how many there were since the last line, with this one; 0 if
            it makes none.
        """
        now = self._seconds()
        if host not in self._last and len(self._last) >= _HOSTS:
            self._forget(now)
            if len(self._last) >= _HOSTS:
                # All others together.
                host = ""
        self._counts.add(host)
        if self._isRecent(self._last.get(host, -math.inf), now):
            return 0
        count = self._counts.of(host)
        self._counts.put(host, 0)
        self._last[host] = now
        return count

    def _isRecent(self, last: float, now: float) -> bool:
        # A clock that is put back silences nobody.
        return 0 <= now - last < INTERVAL

    def _forget(self, now: float) -> None:
        for host, last in tuple(self._last.items()):
            if not self._isRecent(last, now):
                del self._last[host]
                self._counts.put(host, 0)


def tellOfMany(count: int) -> str:
    """
    What stands at the end of a line that may be for several.

    @param count: see L{Seldom.note}.
    """
    return f" ({count} since the last such line)" if count > 1 else ""


class ClosedConnections:
    """
    Tells the log of connections that are closed at once.

    @param seconds: see L{Seldom}.
    """

    def __init__(self, log: Logger, seconds: Callable[[], float]) -> None:
        self._log = log
        self._seldom = Seldom(seconds)

    def note(self, host: str, why: str) -> None:
        """There was one more."""
        count = self._seldom.note(host)
        if count:
            self._log.warn(
                "connection from {peer} closed: {why}{many}",
                peer=host,
                why=why,
                many=tellOfMany(count),
            )
