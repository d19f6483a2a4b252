"""
Logging: each event says what it belongs to, and the log file has a time stamp
on each line.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from twisted.logger import (
    ILogObserver,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
    formatTime,
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
        """As L{TwistedLogger.emit}, for levels that there are."""
        if level >= self.threshold:
            kwargs.update(
                log_logger=self,
                log_level=level,
                log_namespace=self.namespace,
                log_source=self.source,
                log_format=format,
                log_time=time(),
            )
            self.observer(kwargs)


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


def hushLibraries() -> None:
    """
    Have no warnings of pydicom in the log: they quote what a peer has sent, of
    which any may be a patient's name, or lines that pass for ours. And Python
    remembers each one that it shows, for good.
    """
    warnings.filterwarnings("ignore", module=r"pydicom\b")


class Lines:
    """
    Events as lines, as L{formatEventAsClassicLogText} has them. There is one
    for each instance that is stored, so that what is simple is done here, in a
    tenth of the time; the rest is left to Twisted.
    """

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""

    def lineOf(self, event: dict[str, Any]) -> str | None:
        """An event's line, or lines, with its end; C{None} if it has no text."""
        if "log_failure" in event or "log_system" in event:
            return formatEventAsClassicLogText(event)
        try:
            text: str = event["log_format"].format_map(event)
            second = int(event["log_time"])
            system = f"{event['log_namespace']}#{event['log_level'].name}"
        except Exception:
            # A legacy event, a call in the format, or none that can be shown.
            return formatEventAsClassicLogText(event)
        if second != self._second:
            self._second, self._stamp = second, formatTime(second)
        if not text:
            return None
        if "\n" in text:
            text = text.replace("\n", "\n\t")
        return f"{self._stamp} [{system}] {text}\n"


@implementer(ILogObserver)
class LineObserver:
    """
    Writes events as lines.

    @param write: takes the line of one event.
    @param word: the lowest level written.
    """

    def __init__(self, write: Callable[[str], Any], word: str) -> None:
        self._write = write
        self._lowest = LogLevel.levelWithName(word)
        self._lines = Lines()

    def __call__(self, event: dict[str, Any]) -> None:
        """See L{ILogObserver}."""
        level = event.get("log_level")
        if level is not None and level >= self._lowest:
            line = self._lines.lineOf(event)
            if line:
                self._write(line)


class FileObserver(LineObserver):
    """
    Writes to a file, which is rotated.

    @ivar append: takes whole lines, in UTF-8, that others have formatted.
    """

    def __init__(self, file: LogFile, word: str) -> None:
        super().__init__(file.write, word)
        self.append: Callable[[bytes], Any] = file.write


def fileObserver(path: Path, word: str, maxSize: int, keep: int) -> FileObserver:
    """
    An observer that writes to a file, which is rotated.

    @param word: the lowest level written.
    @param maxSize: bytes after which a new file is begun.
    @param keep: how many older ones stay.
    @raise OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file: Any = LogFile(path.name, str(path.parent), maxSize, 0o640, keep)
    return FileObserver(file, word)


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
