"""Tests for the parts of L{benchmarks} that need no server."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import association, compare, instances, population
from benchmarks.clients import Sent
from benchmarks.instances import Batch
from benchmarks.run import QUICK, Run, Sizes
from benchmarks.works.store import division
from d360.dimse import commands
from d360.dimse.fragmentation import fragments
from d360.model import Command


class _Folder(SynchronousTestCase):
    """A test with a folder of its own."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="d360-test-"))
        self.addCleanup(shutil.rmtree, self.folder)


class InstancesTests(_Folder):
    """L{instances}."""

    def test_small(self) -> None:
        """About 1 KB, and in 16 studies."""
        batches = instances.small(self.folder / "small", 2)
        self.assertEqual(len({batch.study for batch in batches}), 16)
        files = [path for batch in batches for path in batch.folder.iterdir()]
        self.assertEqual(len(files), 32)
        self.assertEqual(len({dcmread(path).SOPInstanceUID for path in files}), 32)
        for path in files:
            self.assertTrue(900 < path.stat().st_size < 1700, path.stat().st_size)

    def test_shared(self) -> None:
        """One study, four series, no instance twice."""
        batches = instances.shared(self.folder / "shared", 2)
        every = [dcmread(path) for b in batches for path in b.folder.iterdir()]
        self.assertEqual(len({one.StudyInstanceUID for one in every}), 1)
        self.assertEqual(len({one.SeriesInstanceUID for one in every}), 4)
        self.assertEqual(len({one.SOPInstanceUID for one in every}), 32)

    def test_populated(self) -> None:
        """A file says what a row does."""
        places = instances.populated(self.folder / "studies", 8, 3)
        files = [path for place in places for path in place.iterdir()]
        self.assertEqual(len(files), 8)
        for path in files:
            one, study = dcmread(path), population.study(int(path.stem))
            for keyword in population.KEYWORDS:
                self.assertEqual(str(one[keyword].value), getattr(study, keyword))

    def test_large(self) -> None:
        """It can be read, and is as long as it says."""
        batch = instances.large(self.folder / "large", 2 << 20)
        [path] = batch.files(1)
        self.assertEqual(len(dcmread(path).PixelData), 2 << 20)

    def test_files(self) -> None:
        """A part of them, one at least."""
        batch = instances.compressed(self.folder / "batch", 4)
        for share, count in ((1.0, 4), (0.5, 2), (0.01, 1)):
            self.assertEqual(len(batch.files(share)), count)


class DivisionTests(SynchronousTestCase):
    """L{division}."""

    def test_noneTwice(self) -> None:
        """Up to 4 senders have 4 studies each, 16 have one; none has another's."""
        batches = [Batch(Path(f"{n}"), f"{n}", "", 1) for n in range(16)]
        for senders, each in ((1, 4), (2, 4), (4, 4), (8, 2), (16, 1)):
            parts = division(batches, senders)
            self.assertEqual([len(part) for part in parts], [each] * senders)
            sent = [batch.study for part in parts for batch in part]
            self.assertEqual(len(sent), len(set(sent)))


class MessagesTests(SynchronousTestCase):
    """L{association.messages}."""

    def pdus(self, data: bytes) -> list[tuple[int, bytes]]:
        found = []
        while data:
            length = int.from_bytes(data[2:6], "big")
            found.append((data[0], data[6 : 6 + length]))
            data = data[6 + length :]
        return found

    def test_messages(self) -> None:
        """Several fragments make one message; several messages come in one PDU."""
        status = commands.encode(
            Command(
                commands.C_FIND_RQ | 0x8000,
                AffectedSOPClassUID=association.STUDY_ROOT_FIND,
                MessageIDBeingRespondedTo=1,
                Status=0xFF00,
            )
        )
        first = b"".join(fragments(1, True, status, 40))
        second = b"".join(fragments(1, False, b"0123456789" * 10, 50))
        pdus = self.pdus(first + second)
        self.assertGreater(len(pdus), 4)
        joined = [(4, b"".join(data for _, data in pdus))]
        for given in (pdus, joined):
            read = iter([*given, (6, b"")])
            found = association.messages(lambda read=read: next(read))
            self.assertEqual(next(found), (True, status))
            self.assertEqual(next(found), (False, b"0123456789" * 10))
            self.assertRaises(ConnectionResetError, next, found)
        self.assertEqual(association.statusOf(status), 0xFF00)

    def test_datasets(self) -> None:
        dataset = Dataset()
        dataset.PatientID = "P1"
        self.assertEqual(association.decode(association.encode(dataset)), dataset)


class SentTests(SynchronousTestCase):
    """L{Sent}."""

    def test_notes(self) -> None:
        self.assertEqual(Sent(1, 1, (0, 0)).notes(), ())
        self.assertEqual(
            Sent(1, 1, (0, 2, 1, 1)).notes(),
            ("2 of 4 storescu ended with 1", "1 of 4 storescu ended with 2"),
        )


class RunTests(_Folder):
    """L{Run}."""

    def test_turns(self) -> None:
        """Each server once a round, and each begins one; a failure is a figure."""
        kinds = [type(name, (compare.Server,), {"name": name}) for name in "abc"]
        run = Run(kinds, self.folder, Sizes())
        self.patch(Run, "say", lambda run, text: None)
        order = []

        def measure(kind: type[compare.Server]) -> list[object]:
            order.append(kind.name)
            raise ValueError("away\nfor long")

        run.measure("work", kinds, measure, 3)
        self.assertEqual(order, list("abcbcacab"))
        self.assertEqual(run.results.notes("work", "a"), ["failed: ValueError: away"])


class CommandLineTests(SynchronousTestCase):
    """L{compare}."""

    def sizes(self, *given: str) -> Sizes:
        return compare._sizes(compare._parser().parse_args(given))

    def test_sizes(self) -> None:
        self.assertEqual(self.sizes(), Sizes())
        self.assertEqual(self.sizes("--quick"), QUICK)
        given = self.sizes("--quick", "--senders", "1,8", "--idle", "7")
        self.assertEqual((given.senders, given.idle), ((1, 8), 7))
        self.assertEqual(given.many, QUICK.many)

    def test_names(self) -> None:
        given = compare._parser().parse_args(["--work", "find,idle"])
        self.assertEqual(given.work, ["find", "idle"])
        self.assertRaises(
            argparse.ArgumentTypeError, compare._names, "find,nothing", compare.WORKS
        )

    def test_worksAreDescribed(self) -> None:
        told = compare._parser().format_help()
        for name, work in compare.WORKS.items():
            self.assertIn(name, told)
            self.assertTrue(work.__doc__)
