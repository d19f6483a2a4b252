"""
What a loss of power can leave behind and SIGKILL cannot: made by hand in the
data directory of a server that is stopped, and looked at when it runs again.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from d360.archive.layout import markOf
from d360.index.embedded import EmbeddedServer
from tests.contracts.postgres import execute
from tests.faults.inspection import awaitSettled
from tests.faults.processes import killAll
from tests.interop.files import makeCT
from tests.interop.receivers import received
from tests.interop.running import RunningServer, sharedFolder
from tests.interop.test_realfiles import dataSetOf


@cache
def _filled(count: int) -> Path:
    """A folder of a server that has so many instances and was stopped."""
    folder = sharedFolder("power")
    server = RunningServer(folder)
    server.start()
    try:
        paths = makeCT(folder / "files", count)
        if server.store(*map(str, paths)).status:
            raise RuntimeError("they were not stored")
        awaitSettled(server)
    finally:
        server.stop()
    return folder


class PowerLossCase(SynchronousTestCase):
    """
    A server that has eight instances and is stopped.

    @ivar paths: of the files in its archive, by SOP Instance UID.
    """

    workers = 1
    count = 8

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.server = RunningServer(self.folder, workers=self.workers)
        self.addCleanup(self.server.stop)
        self.archive = self.folder / "data" / "archive"
        self.incoming = self.archive / ".incoming"
        shutil.copytree(_filled(self.count), self.folder)
        self.sent = sorted((self.folder / "files").iterdir())
        self.paths = {path.stem: path for path in self.server.archived()}
        self.uids = sorted(self.paths)
        self.assertEqual(self.count, len(self.uids))
        self.dataSets = {uid: dataSetOf(path) for uid, path in self.paths.items()}
        self.offsets = {
            uid: path.stat().st_size - len(self.dataSets[uid])
            for uid, path in self.paths.items()
        }
        self.study, self.series = (
            next(iter(self.paths.values())).parts[-3],
            next(iter(self.paths.values())).parts[-2],
        )

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of its database, which runs meanwhile."""
        database = EmbeddedServer(self.folder / "data")
        database.start()
        try:
            yield database.url
        finally:
            database.stopNow()

    def unconfirm(self, *uids: str, writer: str = "0") -> None:
        """The index was told of these, and they were not confirmed."""
        names = ", ".join(f"'{uid}'" for uid in uids)
        with self.database() as url:
            # As they were entered last, all from the first on are looked at.
            execute(
                url,
                "UPDATE instances SET id = DEFAULT"
                f" WHERE sop_instance_uid IN ({names})",
            )
            execute(
                url,
                f"INSERT INTO unconfirmed SELECT '{writer}', min(id) FROM instances"
                f" WHERE sop_instance_uid IN ({names})",
            )

    def mark(self, path: Path, folder: str = ".", token: str = "abcdef01-2") -> None:
        """What was not settled has its mark."""
        location = str(path.relative_to(self.archive))
        offset = self.offsets.get(path.stem, 300)
        (self.incoming / folder).mkdir(exist_ok=True)
        os.link(path, self.incoming / folder / markOf(location, offset, token))

    def restarted(self) -> list[str]:
        """The instances that are found after a start; nothing is left to do."""
        self.server.start()
        self.assertEqual([], self.server.incoming())
        rows = execute(self.server.database, "SELECT * FROM unconfirmed")
        self.assertEqual([], rows)
        answer = self.server.find(
            "IMAGE",
            f"StudyInstanceUID={self.study}",
            f"SeriesInstanceUID={self.series}",
            "SOPInstanceUID",
        )
        self.assertEqual("0000", answer.statuses[-1])
        return sorted(match["0008,0018"].rstrip("\0") for match in answer.matches)

    def files(self) -> list[str]:
        return sorted(path.stem for path in self.server.archived())

    def aside(self) -> list[Path]:
        """What was set aside."""
        return list((self.archive / ".damaged").glob("*"))

    def retrieved(self) -> int:
        """How many of them a C-GET brings, byte for byte."""
        folder = self.folder / "got"
        folder.mkdir()
        keys = ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={self.study}"]
        self.server.client(
            "getscu", "-S", "+B", "-od", str(folder), "-k", keys[0], "-k", keys[1]
        )
        files = received(folder)
        for uid, path in files.items():
            self.assertEqual(self.dataSets[uid], dataSetOf(path))
        return len(files)

    def sendAgain(self) -> None:
        """All are there again, and each once."""
        self.assertEqual(self.server.store(*map(str, self.sent)).status, 0)
        awaitSettled(self.server)
        rows = execute(self.server.database, "SELECT path FROM instances")
        self.assertEqual(
            sorted(
                str(path.relative_to(self.archive)) for path in self.server.archived()
            ),
            sorted(str(path) for (path,) in rows),
        )
        self.assertEqual(self.count, self.retrieved())


class UnconfirmedTests(PowerLossCase):
    """
    The index has committed what the disk had not yet: it is in C{unconfirmed}, and
    its mark is lost with the power.
    """

    def test_notWhole(self) -> None:
        """
        Only a part of the bytes had reached the disk, or none; the file has its
        length, and all or some blocks of it were never written; or it is not
        there. What was whole stays. Sent again, they come.
        """
        for uid, size in zip(self.uids, (0, 300, 20_000), strict=False):
            os.truncate(self.paths[uid], size)
        whole, tail, gone = (self.paths[uid] for uid in self.uids[3:6])
        whole.write_bytes(bytes(whole.stat().st_size))
        with open(tail, "r+b") as file:
            file.seek(-4096, os.SEEK_END)
            file.write(bytes(4096))
        gone.unlink()
        self.unconfirm(*self.uids[:7])
        self.assertEqual(self.uids[6:], self.restarted())
        self.assertEqual(self.uids[6:], self.files())
        self.assertEqual(5, len(self.aside()))
        self.sendAgain()

    def test_whole(self) -> None:
        """All of it was there already, with its mark or without."""
        self.mark(self.paths[self.uids[0]])
        self.unconfirm(*self.uids)
        self.assertEqual(self.uids, self.restarted())
        self.assertEqual(self.count, self.retrieved())

    def test_marked(self) -> None:
        """Its mark is there as well: then it is nothing to be kept aside."""
        os.truncate(self.paths[self.uids[0]], 20_000)
        self.mark(self.paths[self.uids[0]])
        self.unconfirm(self.uids[0])
        self.assertEqual(self.uids[1:], self.restarted())
        self.assertEqual(self.uids[1:], self.files())
        self.assertEqual([], self.aside())
        self.sendAgain()

    def test_confirmed(self) -> None:
        """
        What was confirmed and is damaged is no matter of a start: it stays where
        it is, also if it was marked, and coming again it takes the place.
        """
        first, second = (self.paths[uid] for uid in self.uids[:2])
        os.truncate(first, 20_000)
        os.truncate(second, 20_000)
        self.mark(second)
        self.unconfirm(self.uids[-1])
        self.assertEqual(self.uids, self.restarted())
        self.assertEqual(self.uids, self.files())
        self.sendAgain()


class WorkersTests(PowerLossCase):
    """Likewise of what the workers had on its way."""

    workers = 2

    def test_marked(self) -> None:
        """What has a mark is resolved by it, whoever made it."""
        for folder, uid in zip("12", self.uids, strict=False):
            os.truncate(self.paths[uid], 20_000)
            self.mark(self.paths[uid], folder)
            self.unconfirm(uid, writer=folder)
        self.assertEqual(self.uids[2:], self.restarted())
        self.assertEqual(self.uids[2:], self.files())
        self.assertEqual([], self.aside())
        self.sendAgain()

    def test_noMark(self) -> None:
        """What has none is found by what the index knows."""
        os.truncate(self.paths[self.uids[0]], 20_000)
        self.unconfirm(self.uids[0], writer="2")
        self.assertEqual(self.uids[1:], self.restarted())
        self.assertEqual(1, len(self.aside()))


class LeftoverTests(PowerLossCase):
    """What is in C{.incoming} and nobody knows."""

    def test_marks(self) -> None:
        """
        Of a file that the index knows; of one that it does not; of none; of
        another than has the name: by the server, by workers, and by one that there
        is not any more.
        """
        known = self.paths[self.uids[0]]
        for folder in (".", "1", "7"):
            self.mark(known, folder)
            unknown = known.with_name(f"{self.uids[1]}-0000000{len(folder)}.dcm")
            if folder != ".":
                unknown = known.with_name(f"1.2.{folder}.dcm")
            unknown.write_bytes(b"nobody was told of it")
            self.mark(unknown, folder)
            place = self.incoming / folder
            (place / "abcdef01-3.part").write_bytes(b"half")
            (place / markOf("00/1.2/1.3/1.4.dcm", 300, "abcdef01-4")).write_bytes(b"")
            other = str(known.relative_to(self.archive))
            (place / markOf(other, 300, "abcdef01-5")).write_bytes(b"another")
        self.assertEqual(self.uids, self.restarted())
        self.assertEqual(self.uids, self.files())
        self.assertEqual(self.count, self.retrieved())

    def test_onlyOne(self) -> None:
        """A study of which nothing is known but a marked file goes with it."""
        path = self.archive / "00" / "1.2" / "1.3" / "1.4.dcm"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"nobody was told of it")
        self.mark(path)
        self.assertEqual(self.uids, self.restarted())
        self.assertFalse((self.archive / "00" / "1.2").exists())


class DatabaseTests(PowerLossCase):
    """The embedded PostgreSQL after the machine has stopped."""

    def test_allAtOnce(self) -> None:
        """It replays its log, whatever has its process ID by now."""
        self.server.start()
        killAll(self.server)
        data = self.folder / "data" / "postgresql" / "data"
        lines = (data / "postmaster.pid").read_text().splitlines()
        (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]))
        self.assertEqual(self.uids, self.restarted())
        self.assertEqual(0, self.server.stop())

    def test_noPIDFile(self) -> None:
        """What it had written of itself was lost, or is not to be read."""
        data = self.folder / "data" / "postgresql" / "data"
        for content in (b"", b"\0" * 60):
            self.server.start()
            killAll(self.server)
            (data / "postmaster.pid").write_bytes(content)
            self.assertEqual(self.uids, self.restarted())
            self.server.stop(signal.SIGKILL)
