"""Wrong tokens, by the host that shows them."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from d360.admin.resource import JSONResource
from d360.admin.site import makeSite
from d360.admin.tries import FORGOTTEN, FREE, HOSTS, LONGEST_WAIT, Tries
from d360.audit.null import NullAudit
from tests.admin.test_site import Answer, readAnswer

GUESSER, OTHER = "192.0.2.7", "192.0.2.8"


class TriesTests(SynchronousTestCase):
    """Who has to wait, and for how long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.tries = Tries(self.clock.seconds)
        self.numbers = itertools.count()

    def guess(self, count: int, host: str = GUESSER) -> None:
        """So many, each another one."""
        for _ in range(count):
            self.tries.wrong(host, b"%d" % next(self.numbers))

    def test_free(self) -> None:
        """Some mistakes are nobody's fault."""
        self.guess(FREE)
        self.assertEqual(self.tries.wait(GUESSER), 0)
        self.guess(1)
        self.assertEqual(self.tries.wait(GUESSER), 1)
        self.assertEqual(self.tries.wait(OTHER), 0)

    def test_longer(self) -> None:
        """Twice as long with each further one, up to a bound."""
        self.guess(FREE)
        waits = []
        for _ in range(8):
            self.guess(1)
            waits.append(self.tries.wait(GUESSER))
            self.clock.advance(waits[-1])
            self.assertEqual(self.tries.wait(GUESSER), 0)
        self.assertEqual(waits, [1, 2, 4, 8, 16, 30, 30, 30])

    def test_same(self) -> None:
        """The same one again tells nobody anything, however often."""
        for _ in range(1000):
            self.tries.wrong(GUESSER, b"an old one")
        self.assertEqual(self.tries.wait(GUESSER), 0)
        self.guess(FREE - 1)
        self.assertEqual(self.tries.wait(GUESSER), 0)

    def test_forgotten(self) -> None:
        """After a while without any."""
        self.guess(FREE + 5)
        self.clock.advance(FORGOTTEN + 1)
        self.guess(FREE)
        self.assertEqual(self.tries.wait(GUESSER), 0)

    def test_clockPutBack(self) -> None:
        """Nobody waits longer for it than he would have to."""
        self.guess(FREE + 1)
        self.clock.rightNow -= 900
        self.assertLessEqual(self.tries.wait(GUESSER), LONGEST_WAIT)

    def test_bounded(self) -> None:
        """So many hosts are remembered, those of which there was something last."""
        self.guess(FREE + 1, "first")
        for number in range(HOSTS + 50):
            self.guess(1, str(number))
            self.guess(1, "first")
        self.assertEqual(len(self.tries), HOSTS)
        self.assertGreater(self.tries.wait("first"), 0)
        for number in range(HOSTS):
            self.guess(FREE + 1, f"again{number}")
        self.assertEqual(self.tries.wait("first"), 0)


class Audit(NullAudit):
    """Notes who was refused."""

    def __init__(self) -> None:
        self.refusals: list[str] = []

    def refused(self, who: Any, why: str) -> None:
        self.refusals.append(f"{who.address} {why}")


class Secret(JSONResource):
    """What a token is needed for."""

    async def get(self, request: Any) -> dict[str, bool]:
        return {"ok": True}


class AnswerTests(SynchronousTestCase):
    """What those are answered that try."""

    def setUp(self) -> None:
        self.clock, self.audit = Clock(), Audit()
        self.site = makeSite(
            {b"status": Secret()},
            "long secret",
            "another secret",
            self.audit,
            seconds=self.clock.seconds,
        )
        self.site.timeOut = None
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def call(self, token: str, host: str = GUESSER) -> Answer:
        """With a token; empty for none."""
        lines = ["GET /api/status HTTP/1.1", "Host: localhost", "Connection: close"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        address = IPv4Address("TCP", host, 5000)
        protocol: Any = self.site.buildProtocol(address)
        transport = StringTransport(peerAddress=address)
        protocol.makeConnection(transport)
        protocol.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n")
        protocol.connectionLost(Failure(ConnectionDone()))
        return readAnswer(transport.value())

    def guess(self) -> None:
        """As long as it is looked at."""
        for number in range(FREE + 1):
            self.assertEqual(self.call(f"guess {number}").code, 401)

    def test_guesser(self) -> None:
        """429, and when to come again (RFC 6585 4); also with the right one."""
        self.guess()
        for token in ("guess 0", "new", "long secret", "another secret"):
            answer = self.call(token)
            self.assertEqual((answer.code, answer.headers["retry-after"]), (429, "1"))
            self.assertEqual(list(answer.json), ["error"])
        self.assertEqual(self.call("").code, 401)
        self.clock.advance(1)
        self.assertEqual(self.call("long secret").code, 200)

    def test_others(self) -> None:
        """Nobody else is concerned, whatever is tried."""
        self.guess()
        for _ in range(100):
            self.call("long", GUESSER)
            for token in ("long secret", "another secret"):
                self.assertEqual(self.call(token, OTHER).code, 200)

    def test_right(self) -> None:
        """Right ones never count, nor does none; what is looked at is audited."""
        for _ in range(5 * FREE):
            self.assertEqual(self.call("long secret").code, 200)
            self.assertEqual(self.call("another secret").code, 200)
            self.assertEqual(self.call("").code, 401)
        self.assertEqual(self.audit.refusals, [])
        self.guess()
        told = f"{GUESSER} wrong token for a call over HTTP"
        self.assertEqual(self.audit.refusals, [told] * (FREE + 1))

    def test_log(self) -> None:
        """A line at the first, and one a minute; with no token in it."""
        self.guess()
        self.clock.advance(60)
        self.call("one more guess")
        lines = [
            formatEvent(event)
            for event in self.events
            if event["log_level"] >= LogLevel.warn
        ]
        self.assertEqual(
            lines,
            [
                f"web: a call from {GUESSER} had a wrong token",
                f"web: a call from {GUESSER} had a wrong token ({FREE + 1} since the "
                "last such line)",
            ],
        )
