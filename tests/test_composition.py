"""Tests for L{d360.composition}: what each of several processes gets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from d360 import composition
from d360.composition import (
    AUDIT,
    MOST_WORKERS,
    ProcessUse,
    auditState,
    connectionsOf,
    hostLimitsOf,
    incomingOf,
    makeReadings,
    numbersLeft,
    portionOf,
    processReadings,
    warnOfOpenFiles,
    workersOf,
)
from d360.config import Configuration, load
from d360.hosts import HostLimits
from d360.metrics.exposition import Reading


def configured(**values: Any) -> Configuration:
    """A configuration; keys with two underscores for the dot."""
    return load(None, {key.replace("__", "."): v for key, v in values.items()})


class WorkersTests(SynchronousTestCase):
    """How many processes serve associations."""

    def test_given(self) -> None:
        """As many as are configured."""
        for count in (1, 2, 64):
            self.assertEqual(workersOf(configured(workers=count)), count)

    def test_byProcessors(self) -> None:
        """As many as there are processors that we may use, and not too many."""
        for processors, expected in ((1, 1), (2, 1), (4, 3), (32, MOST_WORKERS)):
            self.patch(os, "sched_getaffinity", lambda _, n=processors: set(range(n)))
            self.assertEqual(workersOf(configured()), expected)


class OpenFilesTests(SynchronousTestCase):
    """Connections are bounded by what there can be files open for."""

    def connections(self, files: int, processes: int = 1) -> int:
        self.patch(composition, "allowedOpenFiles", lambda: files)
        return connectionsOf(configured(dicom__max_associations=100).dicom, processes)

    def test_bounded(self) -> None:
        """Each process has files of its own."""
        self.assertEqual(self.connections(65536), 356)
        self.assertEqual(self.connections(128), 32)
        self.assertEqual(self.connections(128, 4), 128)

    def test_warning(self) -> None:
        """Said at the start, where fewer can be served than was asked for."""
        said: list[str] = []
        self.patch(
            composition,
            "_log",
            SimpleNamespace(warn=lambda text, **_: said.append(text)),
        )
        for files, count in ((1024, 0), (128, 1)):
            self.connections(files)
            warnOfOpenFiles(configured(dicom__max_associations=100, workers=1))
            self.assertEqual(len(said), count)
        self.assertIn("LimitNOFILE", said[0])


class HostLimitsTests(SynchronousTestCase):
    """No host takes all there is, unless it may."""

    def limits(self, most: int, perHost: int = 0, processes: int = 1) -> HostLimits:
        self.patch(composition, "allowedOpenFiles", lambda: 65536)
        options = {
            "dicom__max_associations": most,
            "dicom__max_associations_per_host": perHost,
        }
        return hostLimitsOf(configured(**options).dicom, processes)

    def test_default(self) -> None:
        """A quarter is left for the others."""
        self.assertEqual(self.limits(2000), HostLimits(1500, 1692))
        self.assertEqual(self.limits(5), HostLimits(4, 196))

    def test_few(self) -> None:
        """Of so few there is no quarter, but of connections."""
        for most in (1, 2, 3):
            self.assertEqual(self.limits(most).associations, sys.maxsize)
            self.assertLess(self.limits(most).connections, 200)

    def test_given(self) -> None:
        """As configured, and some connections to be told so."""
        self.assertEqual(self.limits(2000, 100), HostLimits(100, 164))
        self.assertEqual(self.limits(2000, 2000), HostLimits(sys.maxsize, 2064))
        self.assertEqual(self.limits(2000, 99999).connections, 2256)

    def test_openFiles(self) -> None:
        """So it is where there are fewer descriptors."""
        self.limits(2000)
        self.patch(composition, "allowedOpenFiles", lambda: 1024)
        dicom = configured().dicom
        self.assertEqual(hostLimitsOf(dicom).connections, 360)
        self.assertEqual(hostLimitsOf(dicom, 2).connections, 720)


class PortionTests(SynchronousTestCase):
    """What is configured for all together is divided."""

    def test_alone(self) -> None:
        """One has it all."""
        configuration = configured(workers=1)
        self.assertIs(portionOf(configuration, 0), configuration)

    def test_divided(self) -> None:
        """The server's own process asks the database little."""
        configuration = configured(
            workers=4, database__connections=14, transcoding__workers=6
        )
        portions = [portionOf(configuration, number) for number in range(5)]
        connections = [portion.database.connections for portion in portions]
        self.assertEqual(connections, [2, 3, 3, 3, 3])
        self.assertEqual({p.transcoding.workers for p in portions}, {2})

    def test_least(self) -> None:
        """Each has what it cannot do without."""
        configuration = configured(
            workers=8, database__connections=2, transcoding__workers=1
        )
        for number in range(9):
            portion = portionOf(configuration, number)
            self.assertEqual(portion.database.connections, 2)
            self.assertEqual(portion.transcoding.workers, 1)
            self.assertEqual(portion.dicom, configuration.dicom)


class IncomingTests(SynchronousTestCase):
    """Each process has its own folder for what is on its way."""

    def test_left(self) -> None:
        """All that ever were are found again."""
        data = Path(self.mktemp()).absolute()
        configuration = configured(workers=2, data_directory=str(data))
        self.assertEqual(numbersLeft(configuration), [])
        for number in (0, 1, 10, 2):
            (data / "archive" / incomingOf(number)).mkdir(parents=True, exist_ok=True)
        (data / "archive" / incomingOf(0) / "1a2b-0.part").write_bytes(b"")
        (data / "archive" / incomingOf(0) / "3").write_bytes(b"")
        self.assertEqual(numbersLeft(configuration), [1, 2, 10])


class UseTests(SynchronousTestCase):
    """What a worker uses of the machine."""

    def test_readings(self) -> None:
        """Itself knows it; elsewhere there is nothing to add."""
        mine = processReadings(3, ProcessUse())
        for reading in mine:
            self.assertEqual(reading.labels, {"worker": "3"})
            self.assertGreater(reading.read(), 0)
        self.assertEqual([r.read() for r in processReadings(3, None)], [0, 0])


class AuditTests(SynchronousTestCase):
    """How the audit trail does, of all processes together."""

    def test_state(self) -> None:
        """Sums of what each says, and what is configured."""
        readings = [
            Reading("d360_audit_failing", "", lambda: 2),
            Reading("d360_audit_messages", "", lambda: 7, isCounter=True),
            Reading("d360_audit_messages_dropped", "", lambda: 3, isCounter=True),
            Reading("d360_queue_length", "", lambda: 99, {"queue": "disk"}),
            Reading("d360_queue_length", "", lambda: 5, {"queue": "audit"}),
        ]
        self.assertEqual(
            auditState(configured(), readings),
            {
                "file": True,
                "syslog": False,
                "failing": True,
                "written": 7,
                "waiting": 5,
                "dropped": 3,
            },
        )

    def test_names(self) -> None:
        """They are those that processes have."""
        nothing: Any = None
        names = {
            (reading.name, *reading.labels.values())
            for reading in makeReadings(Nothing(), nothing, nothing)
        }
        for name in (
            ("d360_audit_failing",),
            ("d360_audit_messages",),
            ("d360_audit_messages_dropped",),
            ("d360_queue_length", AUDIT),
        ):
            self.assertIn(name, names)


class Nothing:
    """Has all that is asked of it."""

    def __getattr__(self, name: str) -> Any:
        return self
