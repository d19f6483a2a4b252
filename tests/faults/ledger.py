"""
What was sent and how it was answered; and from that, what an archive that keeps
its word may hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from threading import Lock

from attrs import define

#: When a C-STORE without an answer has ended: it may still take effect.
NEVER = 1 << 62


@define(eq=False)
class Sent:
    """
    One C-STORE.

    @ivar began: its turn among all that happened.
    @ivar ended: likewise, when the answer was there.
    @ivar status: that was answered; C{None} for none.
    """

    fingerprint: bytes
    began: int
    ended: int = NEVER
    status: int | None = None


@define
class Verdict:
    """
    What may be there of an instance.

    @ivar permitted: the fingerprints of all bytes that are right.
    @ivar isOptional: there may be nothing, as nothing was acknowledged.
    """

    permitted: frozenset[bytes]
    isOptional: bool


class Ledger:
    """
    All instances by SOP Instance UID; for several threads.

    @ivar acknowledged: how many were answered with 0000.
    @ivar refused: the other answers, each with how often it was given.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.refused: dict[int, int] = {}
        self._instances: dict[str, list[Sent]] = {}
        self._turn = itertools.count(1)
        self._lock = Lock()

    def begin(self, uid: str, fingerprint: bytes) -> Sent:
        """It is about to be sent."""
        with self._lock:
            sent = Sent(fingerprint, next(self._turn))
            self._instances.setdefault(uid, []).append(sent)
            return sent

    def answered(self, sent: Sent, status: int) -> None:
        """The answer has come."""
        with self._lock:
            sent.ended, sent.status = next(self._turn), status
            if status == 0:
                self.acknowledged += 1
            else:
                self.refused[status] = self.refused.get(status, 0) + 1

    def uids(self) -> Iterable[str]:
        """All that was ever sent."""
        return list(self._instances)

    def verdict(self, uid: str) -> Verdict:
        """
        The bytes that were acknowledged last, or what was sent at the same time
        as those or later, whatever it was answered. Before the first
        acknowledgement it is anything that was sent, or nothing.
        """
        sent = self._instances[uid]
        kept = [one.began for one in sent if one.status == 0]
        last = max(kept, default=0)
        return Verdict(
            frozenset(one.fingerprint for one in sent if one.ended >= last),
            not kept,
        )

    def settle(self, uid: str, found: bytes | None) -> None:
        """
        It was looked at when nothing was under way: what has been found is to
        stay, as if it had been acknowledged.

        @param found: its fingerprint.
        """
        with self._lock:
            if found is None:
                del self._instances[uid]
                return
            turn = next(self._turn)
            self._instances[uid] = [Sent(found, turn, turn, 0)]
