"""
Lines of the log on their way from a worker to the server, which has the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from time import time
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

#: Seconds that a line may wait for others, so that the server is not woken
#: for each: that would cost more than the line.
PATIENCE = 0.05

#: Characters that are kept at most before they are sent.
_MANY = 32 * 1024

#: A line without an end that is longer than this is passed on in pieces.
_LONGEST = 1 << 20


class LineSender:
    """
    Writes lines to a descriptor, several at once. Blocks while the pipe is
    full.
    """

    def __init__(self, descriptor: int, clock: IReactorTime) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._lines: list[str] = []
        self._size = 0
        self._call: IDelayedCall | None = None

    def write(self, line: str) -> None:
        """Have it written soon."""
        self._lines.append(line)
        self._size += len(line)
        if self._size > _MANY:
            self.flush()
        elif self._call is None:
            self._call = self._clock.callLater(PATIENCE, self._timeout)

    def _timeout(self) -> None:
        self._call = None
        self.flush()

    def flush(self) -> None:
        """Write what waits, at once."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        data = memoryview("".join(self._lines).encode("utf-8", "replace"))
        self._lines.clear()
        self._size = 0
        # The server has gone, and we follow it.
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._descriptor, data) :]


class WholeLines:
    """
    Passes on what comes in pieces, in whole lines only, so that those of
    several workers do not mix.

    @param write: takes some lines at a time, as they came.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """A piece has come."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > _LONGEST:
            data += b"\n"
            end = len(data)
        self._rest = data[end:]
        if end:
            self._write(data[:end])

    def end(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self._write(self._rest + b"\n")
            self._rest = b""


def shownElsewhere(lines: bytes) -> None:
    """
    Give lines that are in the log file to whoever else observes the log, such
    as the terminal of C{twistd -n}, several as one event.
    """
    globalLogPublisher(
        {
            "log_level": LogLevel.info,
            "log_namespace": "d360.workers",
            "log_system": "workers",
            "log_time": time(),
            "log_format": "\n{workerLines}",
            "workerLines": lines.decode("utf-8", "replace").rstrip("\n"),
        }
    )


@implementer(ILogObserver)
class WithoutLines:
    """Passes on events that are not those of L{shownElsewhere}."""

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer

    def __call__(self, event: dict[str, Any]) -> None:
        """See L{ILogObserver}."""
        if "workerLines" not in event:
            self._observer(event)
