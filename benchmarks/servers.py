"""A server that is measured: started below a folder of its own, and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import processes

HOST = "127.0.0.1"

#: The AE title of the receiver of a C-MOVE.
DESTINATION = "DESTINATION"


def freePort() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def findDCMTK(program: str) -> str | None:
    """
    The path of one of DCMTK's programs. pynetdicom has some of the same
    names, beside the Python that runs this.
    """
    ours = str(Path(sys.executable).parent)
    folders = [f for f in os.get_exec_path() if f != ours]
    return shutil.which(program, path=os.pathsep.join(folders))


def dcmtk(program: str) -> str:
    """As L{findDCMTK}, of one that must be there."""
    path = findDCMTK(program)
    if path is None:
        raise SystemExit(f"{program} is not there: apt-get install dcmtk")
    return path


def firstLine(command: list[str]) -> str:
    """What a program prints first."""
    output = subprocess.run(command, capture_output=True, text=True)
    return output.stdout.split("\n")[0].strip("$ ")


def nagle(off: bool) -> dict[str, str]:
    """
    An environment in which what is built on DCMTK's network code goes without
    Nagle's algorithm, or in which it does as it was installed.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TCP_NODELAY"}
    return environment | ({"TCP_NODELAY": "1"} if off else {})


class NotStarted(Exception):
    """A server does not start: what it said last, and below it all of it."""


class Server:
    """
    A DICOM server as a child process.

    @cvar name: in the tables.
    @cvar aeTitle: what it is called by.
    @cvar settings: what a reader must know of how it was run.
    @cvar queries: it answers C-FIND, C-GET and C-MOVE.
    @cvar share: the part of the instances, queries and connects that it gets,
        so that a slow one does not hold up all others.
    @ivar asInstalled: it runs with Nagle's algorithm if its package says so.
    """

    name = ""
    aeTitle = ""
    settings = ""
    queries = True
    share = 1.0

    def __init__(self, folder: Path, asInstalled: bool = False) -> None:
        self.folder = folder
        self.asInstalled = asInstalled
        self.port = freePort()
        self.webPort = freePort()
        #: Where L{DESTINATION} listens, for those who are to send to it.
        self.destinationPort = freePort()
        self.process: subprocess.Popen[bytes] | None = None

    def missing(self) -> str:
        """What it lacks to run here; empty if nothing."""
        return ""

    def version(self) -> str:
        """What it says of itself."""
        raise NotImplementedError(self.name)

    def command(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError(self.name)

    def environment(self) -> dict[str, str]:
        """Its environment."""
        return nagle(off=not self.asInstalled)

    def prepare(self) -> None:
        """What comes before its start, in its folder, which is there."""

    def tidy(self) -> None:
        """What comes after its end."""

    def addDestination(self) -> None:
        """Make it know L{DESTINATION}."""

    def said(self) -> str:
        """What it printed and logged last."""
        lines = [
            line
            for path in sorted(self.folder.glob("*.log"))
            for line in path.read_text(errors="replace").splitlines()[-20:]
        ]
        return "\n".join(lines)

    def files(self) -> Path | None:
        """Where it keeps one file an instance, if it cannot be asked."""
        return None

    def roots(self) -> list[int]:
        """The processes that it is, with their descendants."""
        assert self.process is not None
        return [self.process.pid]

    def start(self, settle: float = 0.0) -> None:
        """
        Start it, and wait until it answers a C-ECHO.

        @param settle: seconds to wait before its first work.
        @raise NotStarted: it does not.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with open(self.folder / "output.log", "ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        echo = [dcmtk("echoscu"), "-q", "-to", "2", "-aec", self.aeTitle]
        echo += [HOST, str(self.port)]
        while subprocess.run(echo, capture_output=True).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.said()
                self.stop()
                last = (said.splitlines() or ["without a word"])[-1]
                raise NotStarted(f"it does not start: {last}\n{said}")
            time.sleep(0.1)
        # What the server before has left to the disk is not this one's work.
        os.sync()
        time.sleep(settle)

    def stop(self) -> None:
        """Stop it and wait for its end."""
        if self.process is not None:
            family = processes.tree([self.process.pid])
            self.process.terminate()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(60)
            finally:
                # Also where we are interrupted meanwhile.
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait()
            # One that forks leaves children whose peer has not hung up yet.
            names = {child.pid: child.name for child in family}
            for left in processes.tree(names):
                if names.get(left.pid) == left.name:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(left.pid, signal.SIGKILL)
            self.process = None
        self.tidy()


class D360(Server):
    """This one, with its embedded PostgreSQL."""

    name = "D360"
    aeTitle = "D360PACS"
    settings = "embedded PostgreSQL, fsync on; all else as installed"

    #: A configuration file to run it with, if any.
    configuration: Path | None = None

    def version(self) -> str:
        from d360 import __version__

        return __version__

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    def environment(self) -> dict[str, str]:
        """See L{Server.environment}."""
        return nagle(off=False)

    def command(self) -> list[str]:
        twistd = Path(sys.executable).with_name("twistd")
        given = self.configuration
        return [
            str(twistd),
            "--nodaemon",
            "--pidfile=",
            f"--logfile={self.folder / 'twistd.log'}",
            "d360",
            *([f"--config={given.resolve()}"] if given else []),
            f"--port={self.port}",
            f"--web-port={self.webPort}",
            f"--data-directory={self.data}",
        ]

    def addDestination(self) -> None:
        """See L{Server.addDestination}."""
        d360ctl = str(Path(sys.executable).with_name("d360ctl"))
        url = f"http://{HOST}:{self.webPort}"
        add = ["ae", "add", DESTINATION, HOST, str(self.destinationPort)]
        subprocess.run([d360ctl, "--url", url, *add], check=True, capture_output=True)
