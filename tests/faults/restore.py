"""
Backups taken while a client goes on storing, the loss of everything, and the
restore on another machine: with the very commands of C{docs/administration.rst}.
What was acknowledged before the backup began must be found, and retrieved bit by
bit as it was sent; all that is there must be intact.

C{python -m tests.faults restore [--seconds N] [NAME ...]}
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from attrs import define, field
from pydicom.dataset import Dataset

from d360.index.account import accountFor
from d360.index.embedded import EmbeddedServer
from d360.index.leftover import processesOn
from d360.services.part10 import readHead
from tests.contracts.postgres import execute
from tests.interop import wire
from tests.interop.findset import many, send
from tests.interop.running import PATIENCE, RunningServer
from tests.interop.test_external import ExternalPostgreSQL
from tests.services.datasets import encode

#: Where Debian has the older PostgreSQL that an upgrade begins with.
OLDER = Path("/usr/lib/postgresql/15/bin")

#: In docs/administration.rst: where D360 is, and where its data.
_PLACES = {
    "sudo -u d360 /opt/d360/.venv/bin/python": sys.executable,
}

_DOCUMENT = Path(__file__).parents[2] / "docs" / "administration.rst"


class Wrong(Exception):
    """What a restore has not brought back."""


def documented(beginning: str) -> str:
    """
    The one command of the documentation that begins so.

    @raise Wrong: it is not there.
    """
    text = _DOCUMENT.read_text("utf-8").replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    found = {line for line in lines if line.startswith(beginning)}
    if len(found) != 1:
        raise Wrong(f"{len(found)} commands begin with {beginning!r}")
    return found.pop()


def perform(beginning: str, places: dict[str, str]) -> str:
    """
    Run a command of the documentation.

    @param places: what stands there, and what it is here.
    @return: what it printed.
    """
    command = documented(beginning)
    for there, here in {**_PLACES, **places}.items():
        command = command.replace(there, here)
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE * 5
    )
    if done.returncode:
        raise Wrong(f"{command}: status {done.returncode}: {done.stderr}")
    return done.stdout


@define
class Client:
    """
    Stores until it is told to stop: new instances, and others that are sent
    again changed, or deleted, while a backup is made.

    @ivar acknowledged: what was answered 0000, by SOP Instance UID.
    """

    server: RunningServer
    acknowledged: dict[str, bytes] = field(factory=dict)
    failures: list[Exception] = field(factory=list)
    _number: int = 0
    _running: bool = True
    _thread: threading.Thread | None = None

    def store(self, datasets: list[Dataset]) -> None:
        """On one association."""
        statuses = send(self.server, datasets)
        for dataset, status in zip(datasets, statuses, strict=True):
            if status == 0:
                self.acknowledged[dataset.SOPInstanceUID] = encode(dataset)

    def some(self, count: int) -> None:
        """So many new ones."""
        self.store(many("KEPT", self._number, count))
        self._number += count

    def begin(self) -> None:
        """In the background, until L{end}."""
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            while self._running:
                self.some(10)
                self._unrest()
        except Exception as error:
            self.failures.append(error)

    def _unrest(self) -> None:
        """What is not to be found as it was."""
        # Numbers that no others have.
        first = 1_000_000 + self._number
        made = many("UNREST", first, 6)
        send(self.server, made)
        for dataset in made[:3]:
            dataset.StudyDescription = "changed"
        send(self.server, made[:3])
        before = many("UNREST", first - 10, 6)
        for dataset in before[3:]:
            self._delete(dataset.StudyInstanceUID)

    def _delete(self, study: str) -> None:
        request = urllib.request.Request(
            f"{self.server.web}/api/studies/{study}", method="DELETE"
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                pass
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def end(self) -> None:
        """Wait until it has ended."""
        self._running = False
        if self._thread is not None:
            self._thread.join(PATIENCE)
            self._thread = None
        if self.failures:
            raise self.failures[0]


class Slow:
    """
    An instance that is on its way while the backup is made, and is acknowledged
    after it.
    """

    def __init__(self, server: RunningServer) -> None:
        (dataset,) = many("SLOW", 5_000_000, 1)
        dataset.PixelData = bytes(4 << 20)
        dataset["PixelData"].VR = "OW"
        uid = dataset.SOPInstanceUID
        message = wire.store(1, 1, wire.CT, uid, encode(dataset))
        half = len(message) * 3 // 5
        self._rest = message[half:]
        self._peer = wire.Peer(server)
        self._peer.associate([(wire.CT, [wire.EXPLICIT])])
        self._peer.send(message[:half])
        deadline = time.monotonic() + PATIENCE
        while not any(path.stem == uid for path in server.archived()):
            if time.monotonic() > deadline:
                raise Wrong("the file of an instance on its way does not appear")
            time.sleep(0.02)

    def end(self) -> None:
        """Send the rest."""
        self._peer.send(self._rest)
        status = self._peer.response().status
        self._peer.socket.close()
        if status:
            raise Wrong(f"the slow one was answered {status:04x}")


@define
class Figures:
    """What a scenario has come to."""

    name: str
    before: int = 0
    stored: int = 0
    found: int = 0
    intact: int = 0
    cut: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.before} acknowledged before the backup, "
            f"{self.stored} when all was lost; {self.found} of the former retrieved "
            f"as they were sent, {self.intact} files intact, {self.cut} named that "
            f"were cut off in the copy; {self.seconds:.1f} s"
        )


class Scenario:
    """
    One server, its backup, and another one made of that.

    @param folder: for all of it.
    @param seconds: for which the client is at work around the backup.
    @param options: of the servers.
    """

    def __init__(self, name: str, folder: Path, seconds: float, *options: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.seconds = seconds
        self.figures = Figures(name)
        self.backup = folder / "backup"
        self.backup.mkdir()
        self.old = RunningServer(folder / "old", *options)
        self.new = RunningServer(folder / "new", *options)
        self.client = Client(self.old)
        self.before: dict[str, bytes] = {}
        self.aes: Any = None
        # Of the files, made while they were written.
        self.hasCopy = False
        self._began = time.monotonic()

    def places(self, server: RunningServer) -> dict[str, str]:
        """What the documentation calls them."""
        return {
            "/var/lib/d360": str(server.folder / "data"),
            "/backup": str(self.backup),
            "d360ctl ": shlex.join(server.ctlCommand()) + " "
            if server.web
            else "d360ctl ",
        }

    def close(self) -> None:
        """Stop what still runs."""
        self.client._running = False
        for server in (self.old, self.new):
            if server.process is not None:
                server.stop(signal.SIGKILL)

    def fill(self) -> None:
        """Start the old server, and let it have something of each kind."""
        self.old.start()
        self.client.some(40)
        checked(self.old, "ae", "add", "WS1", "192.0.2.7", "11112")
        checked(
            self.old,
            *("worklist", "add", "PatientName=Rossi^Anna", "PatientID=1"),
            *("Modality=CT", "ScheduledStationAETitle=CT01"),
            "ScheduledProcedureStepStartDate=20260101",
        )
        self.aes = json.loads(checked(self.old, "ae", "list", "--json"))

    def whileStoring(self, back: Callable[[], None]) -> None:
        """Back up while the client goes on before, meanwhile and after."""
        self.client.begin()
        time.sleep(self.seconds / 2)
        self.before = dict(self.client.acknowledged)
        slow = Slow(self.old)
        back()
        slow.end()
        time.sleep(self.seconds / 2)
        self.client.end()
        self.figures.before = len(self.before)
        self.figures.stored = len(self.client.acknowledged)

    def lose(self) -> None:
        """The machine is gone, with all that it had."""
        self.kill()
        shutil.rmtree(self.old.folder / "data")

    def kill(self) -> None:
        """The old server, and wait for the end of its database."""
        self.old.stop(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        data = self.old.folder / "data" / "postgresql" / "data"
        while processesOn(data.resolve()):
            if time.monotonic() > deadline:
                raise Wrong("PostgreSQL does not end with the server")
            time.sleep(0.05)

    def rebuild(self) -> None:
        """What is to be done with the new server, whatever was restored."""
        self.new.start()
        places = self.places(self.new)
        done = self.new.ctl("reindex")
        if done.status and "could not be entered" not in done.output:
            raise Wrong(f"reindex: {done.output}")
        # Those that were on their way when they were copied.
        for path in re.findall(r"Cannot index (\S+):", self.new.logged()):
            (self.new.folder / "data" / "archive" / path).unlink()
            self.figures.cut += 1
        if self.hasCopy and not self.figures.cut:
            raise Wrong("a file that was cut off in the copy was not named")
        perform("d360ctl reindex --prune", places)
        perform("d360ctl verify --rate 0", places)

    def check(self) -> Figures:
        """All that was acknowledged before is there, and all is intact."""
        verified = json.loads(checked(self.new, "verify", "--rate=0", "--json"))
        retrieved = self._retrieved()
        lost = [uid for uid in self.before if uid not in retrieved]
        other = [
            uid
            for uid, data in self.before.items()
            if uid in retrieved and retrieved[uid] != data
        ]
        matches = self.new.find("STUDY", "StudyInstanceUID", "PatientID=KEPT").matches
        studies = {match["0020,000d"].rstrip("\0") for match in matches}
        # Each is the only instance of its study.
        found = {f"{study}.1.1" for study in studies}
        hidden = [uid for uid in self.before if uid not in found]
        if lost or other or hidden:
            raise Wrong(
                f"{len(lost)} are lost, {len(other)} are other, {len(hidden)} are "
                f"not found: {[*lost, *other, *hidden][:5]}"
            )
        self.figures.found = len(self.before)
        self.figures.intact = verified["intact"]
        self.figures.seconds = time.monotonic() - self._began
        if self.figures.intact < len(self.before):
            raise Wrong("less was verified than is there")
        self._checkOthers()
        if self.new.stop() != 0 or "Traceback" in self.new.logged():
            raise Wrong("the new server did not end as it should")
        return self.figures

    def _checkOthers(self) -> None:
        aes = json.loads(checked(self.new, "ae", "list", "--json"))
        items = json.loads(checked(self.new, "worklist", "list", "--json"))["items"]
        if aes != self.aes or [one["aet"] for one in aes["aes"]] != ["WS1"]:
            raise Wrong(f"remote AEs: {aes}, not {self.aes}")
        if [item["PatientName"] for item in items] != ["Rossi^Anna"]:
            raise Wrong(f"worklist: {items}")

    def _retrieved(self) -> dict[str, bytes]:
        """What getscu gets of all, as it came."""
        folder = self.folder / "retrieved"
        folder.mkdir()
        answer = self.new.client(
            "getscu",
            *("-P", "+B", "-od", str(folder), "-k", "QueryRetrieveLevel=PATIENT"),
            *("-k", "PatientID=KEPT"),
            timeout=PATIENCE * 5,
        )
        if answer.status:
            raise Wrong(f"getscu: {answer.output[-500:]}")
        found = {}
        for path in folder.iterdir():
            data = path.read_bytes()
            head = readHead(BytesIO(data))
            found[head.sopInstance] = data[head.dataSetOffset :]
        return found


def checked(server: RunningServer, *arguments: str) -> str:
    """What d360ctl has printed, when it has done what it should."""
    done = subprocess.run(
        server.ctlCommand(*arguments), capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode:
        raise Wrong(f"d360ctl {shlex.join(arguments)}: {done.stderr}")
    return done.stdout


# --- the scenarios


def embedded(folder: Path, seconds: float) -> Figures:
    """Database and files, while storing; restored on a new machine."""
    one = Scenario("embedded", folder, seconds)
    try:
        one.fill()
        places = one.places(one.old)

        def back() -> None:
            perform(f"{_PYTHON} pg_dump", places)
            perform("rsync -a --exclude=/.incoming", places)
            one.hasCopy = True

        one.whileStoring(back)
        one.lose()
        (one.new.folder / "data").mkdir(parents=True)
        places = one.places(one.new)
        perform("rsync -a /backup/archive/", places)
        perform(f"{_PYTHON} pg_restore", places)
        one.rebuild()
        return one.check()
    finally:
        one.close()


def external(folder: Path, seconds: float) -> Figures:
    """The same with a PostgreSQL of one's own."""
    servers = [ExternalPostgreSQL(folder / "one"), ExternalPostgreSQL(folder / "two")]
    urls = [server.url() for server in servers]
    one = None
    try:
        for server in servers:
            server.start()
            execute(server.url("postgres"), "CREATE DATABASE d360")
        one = Scenario("external", folder / "d360", seconds)
        one.old = RunningServer(one.old.folder, f"--database={urls[0]}")
        one.new = RunningServer(one.new.folder, f"--database={urls[1]}")
        one.client.server = one.old
        one.fill()
        there = "/etc/d360/d360.toml"
        paths = []
        for number, url in enumerate(urls):
            paths.append(folder / f"{number}.toml")
            paths[-1].write_text(f'[database]\nurl = "{url}"\n')
        places = {**one.places(one.old), there: str(paths[0])}

        def back() -> None:
            perform(f"{_EXTERNAL} pg_dump", places)
            perform("rsync -a --exclude=/.incoming", places)
            one.hasCopy = True

        one.whileStoring(back)
        one.lose()
        servers[0].stop()
        (one.new.folder / "data").mkdir(parents=True)
        places = {**one.places(one.new), there: str(paths[1])}
        perform("rsync -a /backup/archive/", places)
        perform(f"{_EXTERNAL} pg_restore", places)
        one.rebuild()
        return one.check()
    finally:
        if one is not None:
            one.close()
        for server in servers:
            server.stop()


def files(folder: Path, seconds: float) -> Figures:
    """The files alone, and what d360ctl tells of the rest."""
    one = Scenario("files", folder, seconds)
    try:
        one.fill()
        places = one.places(one.old)

        def back() -> None:
            perform("d360ctl ae list --json", places)
            perform("d360ctl worklist list --json", places)
            perform("rsync -a --exclude=/.incoming", places)
            one.hasCopy = True

        one.whileStoring(back)
        one.lose()
        (one.new.folder / "data").mkdir(parents=True)
        perform("rsync -a /backup/archive/", one.places(one.new))
        one.rebuild()
        places = one.places(one.new)
        perform("d360ctl ae load", places)
        perform("d360ctl worklist add /backup", places)
        return one.check()
    finally:
        one.close()


def index(folder: Path, seconds: float) -> Figures:
    """The folder of the database is lost, and nothing was backed up."""
    one = Scenario("index", folder, seconds)
    try:
        one.fill()
        aes = checked(one.old, "ae", "list", "--json")
        items = checked(one.old, "worklist", "list", "--json")
        one.whileStoring(lambda: None)
        one.before = dict(one.client.acknowledged)
        one.figures.before = len(one.before)
        one.kill()
        shutil.rmtree(one.old.folder / "data" / "postgresql")
        one.new = one.old
        one.rebuild()
        for name, text in (("aes", aes), ("worklist", items)):
            (one.backup / f"{name}.json").write_text(text)
        places = one.places(one.new)
        perform("d360ctl ae load", places)
        perform("d360ctl worklist add /backup", places)
        return one.check()
    finally:
        one.close()


def makeOlder(folder: Path) -> EmbeddedServer:
    """
    An embedded database as a release would have made it that brought an older
    PostgreSQL.
    """
    place = folder / "postgresql"
    place.mkdir(mode=0o700, parents=True)
    account = accountFor(place, OLDER / "postgres", "nobody")
    subprocess.run(
        [
            *account.prefix,
            str(OLDER / "initdb"),
            f"--pgdata={place / 'data'}",
            *("--username=d360", "--auth=trust", "--encoding=UTF8", "--no-locale"),
        ],
        check=True,
        capture_output=True,
        cwd="/",
        **account.arguments,
    )
    return EmbeddedServer(folder, binaries=OLDER)


def major(folder: Path, seconds: float) -> Figures:
    """The embedded PostgreSQL gets another major version."""
    one = Scenario("major", folder, seconds)
    data = one.new.folder / "data"
    try:
        # The older release: this one, on the older database.
        data.mkdir(parents=True)
        older = makeOlder(data)
        older.start()
        one.old = RunningServer(one.old.folder, f"--database={older.url}")
        one.client.server = one.old
        try:
            one.fill()
            one.whileStoring(lambda: None)
            one.before = dict(one.client.acknowledged)
            one.figures.before = len(one.before)
            one.old.stop()
            shutil.move(one.old.folder / "data" / "archive", data)
        finally:
            older.stopNow()
        _checkRefused(one.new)
        places = one.places(one.new)
        dump = {**places, "-m d360.postgres": f"-m d360.postgres --binaries {OLDER}"}
        perform(f"{_PYTHON} pg_dump", dump)
        perform("mv /var/lib/d360/postgresql", places)
        perform(f"{_PYTHON} pg_restore", places)
        one.rebuild()
        if not (data / "postgresql.old" / "data" / "PG_VERSION").exists():
            raise Wrong("the older database was not kept")
        return one.check()
    finally:
        one.close()


def _checkRefused(server: RunningServer) -> None:
    """It does not start on the older data, says why, and changes nothing."""
    data = server.folder / "data" / "postgresql" / "data"
    before = _contents(data)
    try:
        server.start()
    except RuntimeError as error:
        text = str(error)
    else:
        raise Wrong("it started on the data of another major version")
    lines = [line for line in text.splitlines() if "was written by" in line]
    if len(lines) != 1 or "PostgreSQL 15" not in lines[0] or "Traceback" in text:
        raise Wrong(f"it says: {text}")
    if _contents(data) != before:
        raise Wrong("it has changed the data of another major version")
    if server.process is not None and server.process.wait(PATIENCE) != 1:
        raise Wrong("it did not end with status 1")
    server.process = None


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


_PYTHON = (
    "sudo -u d360 /opt/d360/.venv/bin/python -m d360.postgres "
    "--data-directory /var/lib/d360"
)
_EXTERNAL = (
    "sudo -u d360 /opt/d360/.venv/bin/python -m d360.postgres "
    "--config /etc/d360/d360.toml"
)

SCENARIOS: dict[str, Callable[[Path, float], Figures]] = {
    "embedded": embedded,
    "external": external,
    "files": files,
    "index": index,
    "major": major,
}


def main(arguments: list[str]) -> int:
    """
    @return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults restore")
    parser.add_argument(
        "--seconds", type=float, default=20, help="of storing around each backup"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    options: Any = parser.parse_args(arguments)
    wrong = 0
    for name in options.names or SCENARIOS:
        folder = Path(tempfile.mkdtemp(prefix="d360-restore-"))
        try:
            print(SCENARIOS[name](folder / name, options.seconds), flush=True)
        except (Wrong, subprocess.SubprocessError, RuntimeError, OSError) as error:
            wrong += 1
            print(f"{name}: WRONG: {error}", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(options.names or SCENARIOS)} restores, {wrong} of them wrong")
    return 1 if wrong else 0
