"""Tests for L{d360.archive.threads}."""

from __future__ import annotations

from threading import Event, current_thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from d360.archive.threads import DiskThreads

#: Seconds after which a test has failed.
PATIENCE = 120


class Reactor:
    """Keeps what threads ask for until the test lets it happen."""

    def __init__(self) -> None:
        self.called = Event()
        self.calls: list[Any] = []

    def callFromThread(self, function: Any) -> None:
        self.calls.append(function)
        self.called.set()

    def turn(self) -> None:
        """Wait for a call and make all there are."""
        if not self.called.wait(PATIENCE):
            raise RuntimeError("no thread has called")
        self.called.clear()
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class DiskThreadsTests(SynchronousTestCase):
    """Jobs run in threads; results come back in the reactor's."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.threads = DiskThreads(self.reactor, 2)
        self.threads.start()
        self.addCleanup(self.threads.stop)

    def result(self, deferred: Deferred[Any]) -> Any:
        for _ in range(100):
            if deferred.called:
                break
            self.reactor.turn()
        return deferred

    def test_result(self) -> None:
        """What the function returns, from another thread than ours."""
        threads = []

        def job(a: int, b: int) -> int:
            threads.append(current_thread())
            return a + b

        deferred = self.threads.run(job, 2, 3)
        self.assertEqual(self.successResultOf(self.result(deferred)), 5)
        self.assertNotEqual(threads, [current_thread()])

    def test_failure(self) -> None:
        """What it raises."""
        deferred = self.threads.run(lambda: 1 // 0)
        self.failureResultOf(self.result(deferred), ZeroDivisionError)

    def test_sideBySide(self) -> None:
        """Two jobs that wait for each other come to their end."""
        first, second = Event(), Event()

        def one() -> bool:
            first.set()
            return second.wait(PATIENCE)

        def other() -> bool:
            second.set()
            return first.wait(PATIENCE)

        jobs = [self.threads.run(one), self.threads.run(other)]
        for job in jobs:
            self.assertTrue(self.successResultOf(self.result(job)))

    def test_stop(self) -> None:
        """What was asked for is done before they end."""
        done: list[int] = []
        for number in range(20):
            self.threads.run(done.append, number)
        self.threads.stop()
        self.assertEqual(sorted(done), list(range(20)))

    def test_beforeStart(self) -> None:
        """What is asked for before the start waits for it."""
        threads = DiskThreads(self.reactor, 1)
        deferred = threads.run(int)
        threads.start()
        self.assertEqual(self.successResultOf(self.result(deferred)), 0)
        threads.stop()

    def test_waiting(self) -> None:
        """How many functions no thread has begun with."""
        threads = DiskThreads(Reactor(), 1)
        self.assertEqual(threads.waiting, 0)
        for _ in range(3):
            threads.run(int)
        self.assertEqual(threads.waiting, 3)
        threads.start()
        threads.stop()
        self.assertEqual(threads.waiting, 0)
