"""Tests for L{d360.logs}."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress as suppressed
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.filereader import read_dataset
from twisted.internet.task import Clock
from twisted.logger import LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360 import composition
from d360.composition import makeStores
from d360.config import load
from d360.interfaces import IRecentEvents
from d360.logs import (
    ContextLogger,
    Logger,
    RecentEvents,
    fileObserver,
    hushLibraries,
    setThreshold,
)
from d360.shared import SharedNumber

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ")


class HushTests(SynchronousTestCase):
    """What a library says of a peer's data is not for the log."""

    def test_pydicom(self) -> None:
        """It quotes a character set that it does not know."""
        sent = b"\x08\0\x05\0\x08\0\0\0ROSSI^A "
        sent += b"\x08\0\x90\0\xff\xff\xff\xff"
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            with suppressed(Exception):
                read_dataset(BytesIO(sent), True, True)
            self.assertIn("ROSSI^A", str(shown[0].message))
            del shown[:]
            hushLibraries()
            with suppressed(Exception):
                read_dataset(BytesIO(sent), True, True)
            self.assertEqual([], shown)

    def test_always(self) -> None:
        """Every process that has stores does not let it through."""
        calls: list[bool] = []
        self.patch(composition, "hushLibraries", lambda: calls.append(True))
        configuration = load(None, {"data_directory": self.mktemp()})
        makeStores(Clock(), configuration, lambda: "", "embedded", SharedNumber())
        self.assertEqual([True], calls)


class LogTestCase(SynchronousTestCase):
    """Puts the threshold back, which all loggers share."""

    def setUp(self) -> None:
        self.patch(Logger, "threshold", Logger.threshold)
        self.events: list[Any] = []

    def listen(self, logger: Logger) -> Logger:
        """Have its events in C{events}."""
        logger.observer = self.events.append
        return logger

    def texts(self) -> list[str]:
        """The formatted events."""
        return [event["log_format"].format(**event) for event in self.events]


class LoggerTests(LogTestCase):
    """Events that nobody wants are not made."""

    def test_threshold(self) -> None:
        """Below it nothing is made, from it on everything."""
        words = ("debug", "info", "warn", "error", "critical")
        for number, word in enumerate(words[:4]):
            self.events.clear()
            setThreshold(word)
            logger = self.listen(Logger("tests"))
            for each in words:
                getattr(logger, each)("an event of {word}", word=each)
            self.assertEqual(
                [event["log_level"] for event in self.events],
                [LogLevel.levelWithName(each) for each in words[number:]],
            )

    def test_failure(self) -> None:
        """A mistake of ours is made whatever the threshold."""
        setThreshold("error")
        logger = self.listen(Logger("tests"))
        try:
            raise ZeroDivisionError("of a test")
        except ZeroDivisionError:
            logger.failure("it failed")
        self.assertEqual(self.events[0]["log_level"], LogLevel.critical)
        self.assertIn("log_failure", self.events[0])


class ContextTests(LogTestCase):
    """Each event says what it belongs to."""

    def test_context(self) -> None:
        """In the text and in the event."""
        logger = self.listen(ContextLogger("tests", "association 5"))
        logger.info("{count} contexts", count=3)
        self.assertEqual(self.texts(), ["association 5: 3 contexts"])
        self.assertEqual(self.events[0]["context"], "association 5")
        self.assertEqual(self.events[0]["log_namespace"], "tests")

    def test_braces(self) -> None:
        """A context that came from a peer is text, and never a format."""
        logger = self.listen(ContextLogger("tests", "{count!r} {0}"))
        logger.info("{count} contexts", count=3)
        self.assertEqual(self.texts(), ["{count!r} {0}: 3 contexts"])

    def test_ofAnObject(self) -> None:
        """Looked up on an object it stays itself."""

        class Holder:
            log = ContextLogger("tests", "holder")

        self.assertIs(Holder().log, Holder.log)

    def test_threshold(self) -> None:
        """It keeps to the threshold."""
        setThreshold("warn")
        logger = self.listen(ContextLogger("tests", "x"))
        logger.info("quiet")
        logger.warn("loud")
        self.assertEqual(self.texts(), ["x: loud"])


class FileTests(LogTestCase):
    """The log file: a time stamp on each line, rotated by size."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp()) / "log" / "d360.log"

    def publish(self, word: str = "info", size: int = 1 << 20, keep: int = 2) -> Logger:
        """A logger that writes to the file."""
        setThreshold("debug")
        observer = fileObserver(self.path, word, size, keep)
        return Logger("tests", observer=LogPublisher(observer))

    def test_lines(self) -> None:
        """Time stamp, namespace, level and text; its folder is made."""
        self.publish().info("{count} contexts", count=3)
        (line,) = self.path.read_text().splitlines()
        self.assertRegex(line, STAMP)
        self.assertTrue(line.endswith(" [tests#info] 3 contexts"), line)

    def test_level(self) -> None:
        """The file's own level holds for it."""
        logger = self.publish("warn")
        logger.info("quiet")
        logger.warn("loud")
        self.assertNotIn("quiet", self.path.read_text())
        self.assertIn("loud", self.path.read_text())

    def test_oneLineEach(self) -> None:
        """What has line breaks is indented, and is no line of its own."""
        self.publish().info("first\n2026-01-01T00:00:00+0000 [tests#info] forged")
        first, second = self.path.read_text().splitlines()
        self.assertRegex(first, STAMP)
        self.assertTrue(second.startswith("\t"))

    def test_rotation(self) -> None:
        """After so many bytes a new file is begun; so many older ones stay."""
        logger = self.publish(size=1000, keep=2)
        for number in range(60):
            logger.info("event {number:04}" + "." * 50, number=number)
        names = sorted(path.name for path in self.path.parent.iterdir())
        self.assertEqual(names, ["d360.log", "d360.log.1", "d360.log.2"])
        for path in self.path.parent.iterdir():
            self.assertLess(path.stat().st_size, 1200)
        self.assertIn("event 0059", self.path.read_text())

    def test_permissions(self) -> None:
        """Others may not read it."""
        self.publish().info("x")
        self.assertEqual(self.path.stat().st_mode & 0o007, 0)

    def test_append(self) -> None:
        """A restart goes on with the same file."""
        self.publish().info("first")
        self.publish().info("second")
        self.assertEqual(len(self.path.read_text().splitlines()), 2)

    def test_cannotWrite(self) -> None:
        """An OSError where it cannot be written."""
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_text("a file")
        self.assertRaises(OSError, self.publish)


class RecentTests(LogTestCase):
    """What somebody should look at is kept, for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.events = RecentEvents()
        self.logger = ContextLogger("tests", "association 7")
        self.logger.observer = self.events

    def test_levels(self) -> None:
        """Warnings and worse, the latest first."""
        verifyObject(IRecentEvents, self.events)
        for word in ("debug", "info", "warn", "error", "critical"):
            getattr(self.logger, word)("an event of {word}", word=word)
        self.assertEqual(
            [(event.level, event.text) for event in self.events.recent()],
            [
                ("critical", "association 7: an event of critical"),
                ("error", "association 7: an event of error"),
                ("warn", "association 7: an event of warn"),
            ],
        )
        times = [event.time.timestamp() for event in self.events.recent()]
        self.assertEqual(times, sorted(times, reverse=True))

    def test_bounded(self) -> None:
        """The last hundred, and not all of a long one."""
        for number in range(120):
            self.logger.warn("{number} {text}", number=number, text="x" * 5000)
        recent = self.events.recent()
        self.assertEqual(len(recent), 100)
        self.assertIn(" 119 ", recent[0].text)
        self.assertIn(" 20 ", recent[-1].text)
        self.assertEqual(len(recent[0].text), 1000)

    def test_failure(self) -> None:
        """Of an exception its class is told, and not its words."""
        try:
            raise ZeroDivisionError("a secret of the inside")
        except ZeroDivisionError:
            self.logger.failure("it failed")
        self.assertEqual(
            self.events.recent()[0].text, "association 7: it failed: ZeroDivisionError"
        )

    def test_foreign(self) -> None:
        """Events of others, without a level or a format, do no harm."""
        self.events({"log_time": 0.0})
        self.events({"log_time": 0.0, "log_level": LogLevel.warn, "log_format": None})
        self.assertEqual([event.text for event in self.events.recent()], [""])
