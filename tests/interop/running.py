"""
A D360 server as a process of its own, and the DCMTK clients that talk to it.
Where one of them is missing, that is an error and no skip.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from d360.archive.incoming import LOCK
from tests.contracts.postgres import execute

HOST = "127.0.0.1"

#: Processes that serve associations, in servers whose tests do not say: one,
#: which starts soonest, unless the environment says otherwise.
WORKERS = int(os.environ.get("D360_TEST_WORKERS", "1"))

#: Nothing here takes longer, on whatever machine, unless it hangs.
PATIENCE = 120


def twistdCommand(*arguments: str) -> list[str]:
    """C{twistd} of the Python that runs the tests, in the foreground."""
    twistd = Path(sys.executable).with_name("twistd")
    return [str(twistd), "--nodaemon", "--pidfile=", "d360", *arguments]


#: Have ports, and do not listen on them.
_reserved: list[socket.socket] = []


def freePort() -> int:
    """
    A port of loopback that nobody listens on, nor is given by the system as long
    as the tests run: who asks for that very port can have it with SO_REUSEADDR,
    as servers do.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, 0))
    _reserved.append(holder)
    return int(holder.getsockname()[1])


def dcmtk(client: str) -> str:
    """
    The path of a program of DCMTK. pynetdicom has some of the same names,
    beside the Python that runs the tests.
    """
    ours = str(Path(sys.executable).parent)
    folders = [f for f in os.get_exec_path() if f != ours]
    path = shutil.which(client, path=os.pathsep.join(folders))
    if path is None:
        raise RuntimeError(f"{client} is missing: apt-get install dcmtk")
    return path


@frozen
class Answer:
    """What a client printed, and its exit status."""

    status: int
    output: str

    def values(self, tag: str) -> list[str]:
        """The values of an element that findscu printed, in their order."""
        pattern = rf"{re.escape(tag)} \w\w (?:\[(.*?)\s*\]|=\S+|\(no value.*?\))"
        return [match[1] or "" for match in re.finditer(pattern, self.output)]


@frozen
class Responses:
    """
    The responses of a C-FIND.

    @ivar matches: each identifier as tag to value, decoded in its own
        Specific Character Set.
    @ivar statuses: of all responses, in hexadecimal.
    @ivar detail: what the last one's command set says besides, by tag.
    """

    matches: list[dict[str, str]] = field(factory=list)
    statuses: list[str] = field(factory=list)
    detail: dict[str, str] = field(factory=dict)


class RunningServer:
    """
    A server below a folder of its own.

    @ivar port: of DICOM.
    @ivar web: the URL of its web port.
    @ivar workers: processes that serve associations.
    @param options: of the command line.
    @param wrapper: a command that starts it, in front of its own.
    @param environment: further variables.
    """

    aeTitle = "D360PACS"
    #: What it logs when it serves: the port of DICOM, and where the web is.
    readyPattern = re.compile(r"is ready: DICOM on \S+:(\d+), web on ([^,\s]+)")
    scheme = "http"

    def __init__(
        self,
        folder: Path,
        *options: str,
        workers: int = WORKERS,
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.workers = workers
        self._wrapper = wrapper
        self._environment = {**os.environ, **(environment or {})}
        self._options = options
        self.port = 0
        self.web = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "output.log"

    @property
    def log(self) -> Path:
        """What it prints; lines of workers come a moment later."""
        if self.workers > 1:
            time.sleep(0.15)
        return self._log

    def start(self) -> None:
        """Start it and wait until it is ready."""
        begin = self.launch()
        match = self.waitFor(self.readyPattern, begin)
        self.port = int(match[1])
        self.web = f"{self.scheme}://{match[2]}"

    def launch(self) -> int:
        """
        Start it, and do not wait.

        @return: the length of the log before.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as output:
            begin = output.tell()
            command = twistdCommand(
                f"--port={self.port}",
                "--web-port=0",
                f"--data-directory={self.folder / 'data'}",
                *self._withWorkers(),
            )
            self.process = subprocess.Popen(
                [*self._wrapper, *command],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=self._environment,
            )
        return begin

    def _withWorkers(self) -> list[str]:
        """The options, with a configuration file that has the workers in it."""
        text, others = "", []
        for option in self._options:
            if option.startswith("--config="):
                text = Path(option.removeprefix("--config=")).read_text()
            else:
                others.append(option)
        path = self.folder / "d360-test.toml"
        path.write_text(f"workers = {self.workers}\n{self._mark(text)}{text}")
        return [f"--config={path}", *others]

    def _mark(self, text: str) -> str:
        """No low-water mark where the tests themselves have hardly any room."""
        if "min_free_space" in text or shutil.disk_usage(self.folder).free > 4 << 30:
            return ""
        return "min_free_space = 0\n"

    def waitFor(self, pattern: re.Pattern[str], begin: int = 0) -> re.Match[str]:
        """Wait until it has logged something, from an offset of the log on."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.log.read_bytes()[begin:].decode(errors="replace")
            match = pattern.search(text)
            if match is not None:
                return match
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no {pattern.pattern!r} in:\n{text}")
            time.sleep(0.05)

    def logged(self) -> str:
        """What it has printed up to now."""
        return self.log.read_text(errors="replace")

    def linesOf(self, word: str, begin: int, count: int) -> list[str]:
        """
        The lines logged from an offset on that contain a word, once there
        are so many of them at least.
        """
        self.waitFor(
            re.compile(f"(?:{re.escape(word)}[^\\n]*\\n(?s:.*?)){{{count}}}"), begin
        )
        text = self.log.read_bytes()[begin:].decode(errors="replace")
        return [line for line in text.splitlines() if word in line]

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stop it and return its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None

    def processes(self) -> list[int]:
        """The IDs of its own process and of those that serve associations."""
        assert self.process is not None
        found = [self.process.pid]
        children = Path(f"/proc/{found[0]}/task/{found[0]}/children").read_text()
        for child in map(int, children.split()):
            if b"d360.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        return found

    # --- clients

    def clientCommand(self, name: str, *arguments: str | bytes) -> list[str | bytes]:
        """The command that runs a DCMTK client against it."""
        command = [dcmtk(name), "-aec", self.aeTitle, HOST, str(self.port)]
        return [*command, *arguments]

    def client(self, name: str, *arguments: str | bytes, **options: Any) -> Answer:
        """Run a DCMTK client; its output is read as Latin 1."""
        done = subprocess.run(
            self.clientCommand(name, *arguments),
            capture_output=True,
            timeout=options.pop("timeout", PATIENCE),
            **options,
        )
        output = (done.stdout + done.stderr).decode("latin-1")
        return Answer(done.returncode, output)

    def store(self, *arguments: str) -> Answer:
        """C{storescu}."""
        return self.client("storescu", "-v", *arguments)

    def find(self, level: str, *keys: str, model: str = "-S") -> Responses:
        """C{findscu}; keys as it takes them."""
        arguments = ["-d", model, "-k", f"QueryRetrieveLevel={level}"]
        for key in keys:
            arguments += ["-k", key]
        return readResponses(self.client("findscu", *arguments).output)

    def get(self, path: str) -> Any:
        """An HTTP GET, decoded."""
        with urllib.request.urlopen(self.web + path, timeout=PATIENCE) as response:
            return json.load(response)

    def ctlCommand(self, *arguments: str) -> list[str]:
        """The command that runs C{d360ctl} against it."""
        command = [sys.executable, "-m", "d360.admin.ctl", "--url", self.web]
        return [*command, *arguments]

    def ctl(self, *arguments: str) -> Answer:
        """C{d360ctl}."""
        done = subprocess.run(
            self.ctlCommand(*arguments),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return Answer(done.returncode, done.stdout + done.stderr)

    @property
    def database(self) -> str:
        """The URL of its embedded PostgreSQL."""
        path = self.folder / "data" / "postgresql" / "data" / "postmaster.pid"
        sockets = path.read_text().splitlines()[4]
        return f"postgresql:///d360?host={sockets}&user=d360"

    def entered(self) -> int:
        """How many instances are in its index."""
        ((count,),) = execute(self.database, "SELECT count(*)::int FROM instances")
        return int(str(count))

    def incoming(self) -> list[Path]:
        """What is being received, and what is not settled yet."""
        folder = self.folder / "data" / "archive" / ".incoming"
        return [
            path for path in folder.rglob("*") if path.is_file() and path.name != LOCK
        ]

    def archived(self) -> Iterable[Path]:
        """The files of its archive."""
        return sorted((self.folder / "data" / "archive").glob("??/**/*.dcm"))


_ELEMENT = re.compile(
    r"^\w: \((\w{4},\w{4})\) \w\w "
    r"(?:\[(.*?)\s*\]|(\d\S*)|=(\S+)|\((\w{4},\w{4})\)|\(no value.*)\s+#"
)
_STATUS = re.compile(r"DIMSE Status\s*: 0x(\w{4})")


def readResponses(output: str) -> Responses:
    """The responses in what C{findscu -d} printed, read as Latin 1."""
    found = Responses()
    place: dict[str, str] | None = None
    for line in output.splitlines():
        status = _STATUS.search(line)
        if status:
            found.statuses.append(status[1].upper())
        if "Response Identifiers:" in line:
            place = {}
            found.matches.append(place)
        elif "Status Detail:" in line:
            place = found.detail
        elif "DIMSE MESSAGE" in line:
            place = None
        element = _ELEMENT.match(line)
        if element and place is not None:
            value = next((v for v in element.groups()[1:] if v is not None), "")
            if place.get("0008,0005") == "ISO_IR 192":
                value = value.encode("latin-1").decode("utf-8")
            place[element[1]] = value
    return found


def sharedFolder(name: str) -> Path:
    """
    A folder for what several tests have in common, until their end: beside the
    folders of each, for there may be little room for temporary files.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=Path.cwd()))
    atexit.register(shutil.rmtree, folder, True)
    return folder


_shared: dict[str, RunningServer] = {}


def sharedServer(name: str = "") -> RunningServer:
    """
    One server for all tests that only add to it, started when it is first
    asked for and stopped at the end.

    @param name: for one with contents of their own.
    """
    if name not in _shared:
        server = RunningServer(sharedFolder("shared"))
        atexit.register(server.stop)
        server.start()
        _shared[name] = server
    return _shared[name]
