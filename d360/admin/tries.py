"""
Wrong tokens, by the host that shows them: nobody finds the right one by trying,
however many calls fit into a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import define, field

from d360.admin.resource import log
from d360.hosts import Seldom, tellOfMany

#: Different wrong tokens that a host may show before it has to wait: people
#: mistype, and programs have an old one.
FREE = 10

#: Seconds that it waits then, doubled with each further one, and at most.
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0

#: Seconds without a wrong token after which its former ones are forgotten.
FORGOTTEN = 600.0

#: Hosts that are remembered; of more, those are forgotten that have shown none
#: for the longest time.
HOSTS = 1000


@define
class _Host:
    """
    @ivar shown: what its different wrong tokens come to, L{FREE} at most.
    @ivar last: when it has shown the last one.
    @ivar wait: seconds that it waits after the next one.
    @ivar until: when it may show another.
    """

    last: float
    shown: set[int] = field(factory=set)
    wait: float = FIRST_WAIT
    until: float = 0.0


class Tries:
    """
    See the module. While a host waits, no token of its is looked at, for else it
    could go on guessing, and only the answers to wrong ones would wait. Other
    hosts have nothing to do with it. The same wrong token again tells nobody
    anything new, and does not count: it is most often a program that was not told
    of the new one.

    @param seconds: tells the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        # In the order of L{_Host.last}.
        self._hosts: dict[str, _Host] = {}
        self._seldom = Seldom(seconds)

    def __len__(self) -> int:
        """How many hosts are remembered."""
        return len(self._hosts)

    def wait(self, host: str) -> int:
        """Whole seconds before a token of this host is looked at; 0 for now."""
        known = self._hosts.get(host)
        if known is None:
            return 0
        left = math.ceil(known.until - self._seconds())
        # Longer only if the clock was put back.
        return left if 0 < left <= LONGEST_WAIT else 0

    def wrong(self, host: str, token: bytes) -> None:
        """It has shown a wrong token."""
        now = self._seconds()
        known = self._hosts.pop(host, None)
        if known is None or now - known.last > FORGOTTEN:
            known = _Host(now)
        known.last = now
        self._hosts[host] = known
        if len(self._hosts) > HOSTS:
            del self._hosts[next(iter(self._hosts))]
        if hash(token) in known.shown:
            return
        if len(known.shown) < FREE:
            known.shown.add(hash(token))
        else:
            known.until = now + known.wait
            known.wait = min(2 * known.wait, LONGEST_WAIT)
        count = self._seldom.note(host)
        if count:
            log.warn(
                "a call from {peer} had a wrong token{many}",
                peer=host,
                many=tellOfMany(count),
            )
