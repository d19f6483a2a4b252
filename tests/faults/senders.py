"""
Clients that store without a pause: new instances, the same again, and the same
with other bytes; and that begin anew when their association ends.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.faults.ledger import Ledger
from tests.faults.material import Content, Stock, Template, fingerprint
from tests.interop.running import RunningServer
from tests.interop.wire import Peer, store

#: What a client does next, and how often.
_NEW, _AGAIN, _CHANGED, _SHARED, _CUT = range(5)
_WEIGHTS = (42, 20, 25, 11, 2)


class Shared:
    """
    Instances that all clients send, also at the same time, with the same bytes
    and with others.
    """

    def __init__(self, stock: Stock, count: int) -> None:
        self._stock = stock
        self._versions = [[stock.new()] for _ in range(count)]
        self._lock = threading.Lock()

    def choose(self, rng: random.Random) -> Content:
        """One of them."""
        with self._lock:
            versions = rng.choice(self._versions)
            if rng.random() < 0.3:
                versions.append(self._stock.changed(versions[0]))
            return rng.choice(versions[-2:])


class Sender(threading.Thread):
    """
    One client.

    @ivar problems: what should not have happened, whatever was killed.
    @ivar halt: set to have it end after what it is sending.
    """

    def __init__(
        self,
        server: RunningServer,
        ledger: Ledger,
        kinds: Sequence[Template],
        stock: Stock,
        shared: Shared,
        rng: random.Random,
    ) -> None:
        super().__init__(daemon=True)
        self.problems: list[str] = []
        self.halt = threading.Event()
        self._server = server
        self._ledger = ledger
        self._contexts = list(
            dict.fromkeys((one.sopClass, one.transferSyntax) for one in kinds)
        )
        self._stock = stock
        self._shared = shared
        self._rng = rng
        self._own: dict[str, Content] = {}
        self._kept: list[tuple[float, float]] = []

    def again(self, server: RunningServer) -> Sender:
        """Another thread with what this one knows; a thread runs once."""
        other = Sender(server, self._ledger, (), self._stock, self._shared, self._rng)
        other._contexts, other._own = self._contexts, self._own
        return other

    def acknowledgedAfter(self, since: float) -> float | None:
        """
        When the first instance was answered with 0000 that was sent after a
        moment; both by L{time.monotonic}.
        """
        return next((end for begin, end in self._kept if begin > since), None)

    def run(self) -> None:
        """Store until L{halt}."""
        while not self.halt.is_set():
            try:
                self._associate()
            except TimeoutError:
                self.problems.append("a client was not answered in time")
            except (OSError, EOFError, RuntimeError):
                # Nobody listens, or the association has ended.
                self.halt.wait(0.05)

    def _associate(self) -> None:
        with Peer(self._server) as peer:
            peer.associate([(c, [syntax]) for c, syntax in self._contexts])
            for number in range(1, self._rng.randint(5, 60)):
                if self.halt.is_set() or not self._sendOne(peer, number):
                    break
            with suppress(EOFError):
                peer.release()

    def _sendOne(self, peer: Peer, number: int) -> bool:
        """Whether the association goes on."""
        (what,) = self._rng.choices(range(len(_WEIGHTS)), _WEIGHTS)
        content = self._content(what)
        template, data = content.template, content.data()
        context = self._contexts.index((template.sopClass, template.transferSyntax))
        message = store(
            2 * context + 1, number, template.sopClass, content.instance, data
        )
        if what == _CUT:
            # Nothing of it may ever be seen.
            peer.send(message[: self._rng.randrange(len(message) - 2)])
            peer.socket.close()
            return False
        sent = self._ledger.begin(content.instance, fingerprint(data))
        if what != _SHARED:
            self._own[content.instance] = content
        began = time.monotonic()
        peer.send(message)
        status = peer.response().status
        self._ledger.answered(sent, status)
        if status == 0:
            self._kept.append((began, time.monotonic()))
        elif status != 0xA700:
            self.problems.append(f"a C-STORE was answered with {status:04X}")
        return True

    def _content(self, what: int) -> Content:
        if what == _SHARED:
            return self._shared.choose(self._rng)
        if what in (_AGAIN, _CHANGED) and self._own:
            known = self._own[self._rng.choice(list(self._own)[-200:])]
            return known if what == _AGAIN else self._stock.changed(known)
        return self._stock.new()
