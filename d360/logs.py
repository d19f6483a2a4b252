"""
Logging: each event says what it belongs to, and the log file has a time stamp
on each line.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.logger import Logger as TwistedLogger
from twisted.python.logfile import LogFile
from zope.interface import implementer

from d360.interfaces import IRecentEvents
from d360.metrics.values import LogEvent

#: Events that L{RecentEvents} keeps, and characters of each.
_KEPT = 100
_LONGEST = 1000


class Logger(TwistedLogger):
    """
    A logger that makes no event which nobody wants: one costs more than what
    many of them tell of.

    @cvar threshold: the lowest level made.
    """

    threshold = LogLevel.info

    def emit(self, level: Any, format: str | None = None, **kwargs: Any) -> None:
        """As L{TwistedLogger.emit}."""
        if level >= self.threshold:
            super().emit(level, format, **kwargs)


class ContextLogger(Logger):
    """
    A logger that says in each event what it belongs to.

    @ivar context: put before the text, and in the event as C{context}.
    """

    context: str

    def __init__(self, namespace: str, context: str) -> None:
        super().__init__(namespace)
        self.context = context

    def __get__(self, instance: object, owner: type | None = None) -> ContextLogger:
        # A Logger makes another one for each object that it is looked up on;
        # this one says what it belongs to already.
        return self

    def emit(self, level: Any, format: str | None = None, **kwargs: Any) -> None:
        """As L{Logger.emit}."""
        super().emit(
            level, "{context}: " + (format or ""), context=self.context, **kwargs
        )


def printable(text: str) -> str:
    """Text of a peer's, without what could pass for a line of the log."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:64])


def setThreshold(word: str) -> None:
    """Make events of this level and above, by the configuration's word."""
    Logger.threshold = LogLevel.levelWithName(word)


def fileObserver(path: Path, word: str, maxSize: int, keep: int) -> ILogObserver:
    """
    An observer that writes to a file, which is rotated.

    @param word: the lowest level written.
    @param maxSize: bytes after which a new file is begun.
    @param keep: how many older ones stay.
    @raise OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    output: Any = LogFile(path.name, str(path.parent), maxSize, 0o640, keep)
    level = LogLevel.levelWithName(word)
    return FilteringLogObserver(
        FileLogObserver(output, formatEventAsClassicLogText),
        [LogLevelFilterPredicate(level)],
    )


@implementer(ILogObserver, IRecentEvents)
class RecentEvents:
    """Keeps the last warnings and errors, for people to look at."""

    def __init__(self) -> None:
        self._events: deque[LogEvent] = deque(maxlen=_KEPT)

    def __call__(self, event: dict[str, Any]) -> None:
        """See L{ILogObserver}."""
        level = event.get("log_level")
        if level is None or level < LogLevel.warn:
            return
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            # The message of an exception may quote anything.
            text = f"{text}: {failure.type.__name__}"
        time = datetime.fromtimestamp(event["log_time"], UTC)
        self._events.append(LogEvent(time, level.name, text[:_LONGEST]))

    def recent(self) -> tuple[LogEvent, ...]:
        """See L{IRecentEvents.recent}."""
        return tuple(reversed(self._events))
