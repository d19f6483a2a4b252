"""
Logging: each event says what it belongs to, and the log file has a time stamp
on each line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
)
from twisted.logger import Logger as TwistedLogger
from twisted.python.logfile import LogFile


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
