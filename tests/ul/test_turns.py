"""Fairness between connections: L{d360.ul.turns}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.ul.framing import dataHeader
from d360.ul.turns import LONGEST_ROUND, ROUND, SHORT, TURN, Turns
from tests.ul.association import COMMAND, RELEASE_RQ, AcceptorSide


class Waiting:
    """Takes turns of a length, so many times."""

    def __init__(self, clock, turns, name, log, seconds=TURN, times=1):
        self._clock, self._turns = clock, turns
        self._name, self._log = name, log
        self._seconds, self._times = seconds, times
        turns.wait(self)

    def takeTurn(self):
        begin = self._clock.seconds()
        self._log.append(self._name)
        self._clock.rightNow += self._seconds
        self._turns.spend(begin, self._clock.seconds())
        self._times -= 1
        if self._times:
            self._turns.wait(self)


class Rounds(Clock):
    """As a reactor: what is to be called at once is called in the next round."""

    def round(self):
        """One of them."""
        due, self.calls = self.calls, []
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)


class TurnsTests(SynchronousTestCase):
    """Who waits longest is next, and a round is short."""

    def setUp(self):
        self.clock = Rounds()
        self.clock.advance(1000)
        self.turns = Turns(self.clock)
        self.log = []

    def test_order(self):
        """Who wants another turn waits behind all others."""
        for name, times in (("a", 3), ("b", 1), ("c", 2)):
            Waiting(self.clock, self.turns, name, self.log, times=times)
        self.clock.pump([0] * 5)
        self.assertEqual("".join(self.log), "abcaca")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_round(self):
        """In one round there is only so much time, and then everybody else's."""
        for name in "abcdefghij":
            Waiting(self.clock, self.turns, name, self.log)
        self.clock.round()
        # What is begun is done.
        self.assertIn(len(self.log), (round(ROUND / TURN), round(ROUND / TURN) + 1))
        self.assertTrue(self.turns.isOver(self.clock.seconds()))
        for _ in range(2):
            self.clock.round()
        self.assertEqual("".join(self.log), "abcdefghij")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_spent(self):
        """Nobody waits: the time that is spent is counted, and forgotten."""
        now = self.clock.seconds()
        self.assertFalse(self.turns.isOver(now))
        self.turns.spend(now, now + ROUND)
        self.assertTrue(self.turns.isOver(now + ROUND))
        self.assertFalse(self.turns.isOver(now + LONGEST_ROUND + 0.001))


class FairnessTests(SynchronousTestCase):
    """One peer that sends very fast does not have the others wait."""

    def setUp(self):
        self.side = AcceptorSide()

    def work(self, user, seconds):
        """Have each fragment take its time."""

        def reply(what):
            if what == "fragment":
                self.side.clock.rightNow += seconds

        user.reply = reply

    def test_flood(self):
        """Of thousands of PDUs in one read, only some are handed on at once."""
        protocol, transport, user = self.side.establish()
        self.work(user, 0.0001)
        protocol.dataReceived(COMMAND * 1000)
        handed = len(user.fragments)
        self.assertLess(handed, 100)
        self.assertEqual(transport.producerState, "paused")
        self.side.clock.pump([0] * 200)
        self.assertEqual(len(user.fragments), 1000)
        self.assertEqual(transport.producerState, "producing")
        self.assertEqual(self.side.clock.getDelayedCalls().__len__(), 1)

    def test_shortIsServed(self):
        """While others flood, a request of some bytes is handed on at once."""
        flooding = [self.side.establish() for _ in range(10)]
        quiet, _, user = self.side.establish()
        for protocol, _, each in flooding:
            self.work(each, 0.001)
            protocol.dataReceived(COMMAND * 500)
        self.assertLess(sum(len(each.fragments) for _, _, each in flooding), 100)
        quiet.dataReceived(COMMAND)
        self.assertEqual(len(user.fragments), 1)

    def test_longWaits(self):
        """One that is long, or in the middle of a message, waits for its turn."""
        flooding, _, busy = self.side.establish()
        others = [self.side.establish() for _ in range(2)]
        self.work(busy, 0.001)
        begun = dataHeader(1, False, False, 10) + bytes(10)
        others[1][0].dataReceived(begun)
        flooding.dataReceived(COMMAND * 500)
        others[0][0].dataReceived(COMMAND * (SHORT // len(COMMAND) + 1))
        others[1][0].dataReceived(begun)
        self.assertEqual([len(user.fragments) for _, _, user in others], [0, 1])
        self.side.clock.pump([0] * 1000)
        self.assertEqual(len(others[0][2].fragments), SHORT // len(COMMAND) + 1)
        self.assertEqual(len(others[1][2].fragments), 2)

    def test_endWhileWaiting(self):
        """A connection that goes while it waits for its turn leaves nothing."""
        protocol, _, user = self.side.establish()
        self.work(user, 0.001)
        protocol.dataReceived(COMMAND * 100)
        handed = len(user.fragments)
        protocol.connectionLost()
        self.side.clock.pump([0] * 2)
        self.assertEqual(len(user.endings), 1)
        self.assertEqual(len(user.fragments), handed)
        self.assertEqual(self.side.clock.getDelayedCalls(), [])

    def gone(self, count):
        """So many connections that go at once, of which each end takes its time."""
        sides = [self.side.establish() for _ in range(count)]

        def reply(what):
            if what == "ended":
                self.side.clock.rightNow += 0.001

        for protocol, _, user in sides:
            user.reply = reply
            protocol.connectionLost()
        return sides

    def test_manyGone(self):
        """Some end at once, and the others when it is their turn."""
        quiet, _, served = self.side.establish()
        sides = self.gone(50)
        ended = sum(len(user.endings) for _, _, user in sides)
        self.assertIn(ended, (4, 5))
        quiet.dataReceived(COMMAND)
        self.assertEqual(len(served.fragments), 1)
        self.side.clock.pump([0] * 20)
        self.assertEqual([len(user.endings) for _, _, user in sides], [1] * 50)
        self.assertEqual(self.side.factory.connections, 1)
        self.assertEqual(self.side.factory.live, 1)
        self.assertEqual(len(self.side.clock.getDelayedCalls()), 1)

    def test_goneMeanwhile(self):
        """Whatever is asked of one that has gone, and waits to end, it ends once."""
        for what in (
            lambda protocol: protocol.abort("why"),
            lambda protocol: protocol.shut("why"),
            lambda protocol: protocol.pauseReceiving(),
            lambda protocol: protocol.resumeReceiving(),
            lambda protocol: protocol.release(),
            lambda protocol: protocol.sendPData([b"\4\0\0\0\0\0"]),
        ):
            self.setUp()
            protocol, transport, user = self.gone(20)[-1]
            state = transport.producerState
            self.assertEqual(user.endings, [])
            what(protocol)
            self.assertEqual(transport.producerState, state)
            self.side.clock.pump([0] * 20)
            self.assertEqual(len(user.endings), 1)
            self.assertEqual(self.side.factory.connections, 0)
            self.assertEqual(self.side.clock.getDelayedCalls(), [])

    def test_pausedWhileWaiting(self):
        """A user that pauses meanwhile gets nothing when the turn comes."""
        protocol, transport, user = self.side.establish()
        self.work(user, 0.001)
        protocol.dataReceived(COMMAND * 100 + RELEASE_RQ)
        protocol.pauseReceiving()
        before = len(user.fragments)
        self.side.clock.pump([0] * 10)
        self.assertEqual(len(user.fragments), before)
        self.assertEqual(transport.producerState, "paused")
        protocol.resumeReceiving()
        self.side.clock.pump([0] * 200)
        self.assertEqual(len(user.fragments), 100)
        self.assertEqual(user.told[-1], "release")
