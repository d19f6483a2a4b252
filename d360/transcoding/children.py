"""
A child process that transcodes, as the server sees it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol

from d360.children import commandOf, environment
from d360.errors import TranscodingError
from d360.logs import Logger
from d360.transcoding.job import Job

#: Longer than any answer.
_LONGEST_ANSWER = 4096


class Child(ProcessProtocol):
    """
    One L{d360.transcoding.worker}; one job at a time.

    @param ended: is called with it when the process has ended, after what it
        was doing has failed.
    """

    _log = Logger("d360.transcoding")

    transport: Any

    def __init__(self, reactor: Any, ended: Callable[[Child], None]) -> None:
        self._reactor = reactor
        self._ended = ended
        self._answered: Deferred[int] | None = None
        self._answer = b""
        self._timer: Any = None
        self._why = ""

    def spawn(self, memory: int) -> None:
        """
        Start the process.

        @param memory: see L{d360.transcoding.conversion.convert}.
        @raise OSError: it cannot be.
        """
        # A thread's stack each would be taken off its memory.
        variables = environment(OPENBLAS_NUM_THREADS="1")
        command = commandOf("d360.transcoding.worker", str(memory))
        self._reactor.spawnProcess(self, sys.executable, command, variables)

    def run(self, job: Job, timeout: float) -> Deferred[int]:
        """
        Fires with the length of the new data set.

        @raise TranscodingError: the child says why not, or it has died, or the
            time is over, and it is killed.
        """
        answered: Deferred[int] = Deferred()
        self._answered, self._answer = answered, b""
        self._timer = self._reactor.callLater(
            timeout, self.kill, f"it took longer than {timeout:g} s"
        )
        self.transport.write(json.dumps(asdict(job)).encode("ascii") + b"\n")
        return answered

    def finish(self) -> None:
        """Have it end when its job is done."""
        self.transport.closeStdin()

    def kill(self, why: str) -> None:
        """End it at once."""
        self._why = why
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def outReceived(self, data: bytes) -> None:
        if self._why:
            # It is being killed, and can be given nothing more.
            return
        self._answer += data
        if len(self._answer) > _LONGEST_ANSWER:
            self.kill("the child does not answer as it should")
        elif self._answer.endswith(b"\n"):
            said = json.loads(self._answer)
            if "size" in said:
                self._settle(int(said["size"]))
            else:
                self._settle(TranscodingError(str(said["error"])))

    def _settle(self, result: int | TranscodingError) -> None:
        answered, self._answered = self._answered, None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if answered is None:
            return
        if isinstance(result, int):
            answered.callback(result)
        else:
            answered.errback(result)

    def processEnded(self, reason: Any) -> None:
        if self._answered is not None:
            status = reason.value.signal or reason.value.status
            self._log.warn(
                "A transcoding process ended in its job ({status}) {why}",
                status=status,
                why=self._why,
            )
        self._ended(self)
        self._settle(TranscodingError(self._why or "the process that did it died"))
