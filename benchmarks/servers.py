"""The servers that are measured: each is started below a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HOST = "127.0.0.1"

#: The AE title of the receiver of a C-MOVE.
DESTINATION = "DESTINATION"

#: Seconds between the start of a server and its first work.
SETTLE = 3


def freePort() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def dcmtk(client: str) -> str:
    """
    The path of one of DCMTK's programs. pynetdicom has some of the same
    names, beside the Python that runs this.
    """
    ours = str(Path(sys.executable).parent)
    folders = [f for f in os.get_exec_path() if f != ours]
    path = shutil.which(client, path=os.pathsep.join(folders))
    if path is None:
        raise SystemExit(f"{client} is not there: apt-get install dcmtk")
    return path


class Server:
    """
    A DICOM server as a child process.

    @cvar name: in the tables.
    @cvar aeTitle: what it is called by.
    @ivar settings: what a reader must know of how it was run.
    """

    name = ""
    aeTitle = ""
    settings = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = freePort()
        self.webPort = freePort()
        #: Where L{DESTINATION} listens, for those who are to send to it.
        self.destinationPort = freePort()
        self.process: subprocess.Popen[bytes] | None = None

    def available(self) -> bool:
        """Whether it is installed."""
        return True

    def version(self) -> str:
        """What it says of itself."""
        raise NotImplementedError(self.name)

    def command(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError(self.name)

    def environment(self) -> dict[str, str]:
        """Its environment."""
        return dict(os.environ)

    def start(self) -> None:
        """Start it, and wait until it answers a C-ECHO."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "output.log", "ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 60
        echo = [dcmtk("echoscu"), "-q", "-to", "2", "-aec", self.aeTitle]
        echo += [HOST, str(self.port)]
        while subprocess.run(echo, capture_output=True).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "output.log").read_text(errors="replace")
                raise SystemExit(f"{self.name} does not start; it says:\n{said}")
            time.sleep(0.1)
        # What the server before has left to the disk is not this one's work.
        os.sync()
        time.sleep(SETTLE)

    def addDestination(self) -> None:
        """Make it know L{DESTINATION}."""

    def stop(self) -> None:
        """Stop it and wait for its end."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def memory(self, kind: str = "VmRSS") -> float:
        """MiB of the server's process, by a line of C{/proc/PID/status}."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(kind))
        return int(line.split()[1]) / 1024

    def resetPeak(self) -> None:
        """Let C{VmHWM} begin anew (proc(5), clear_refs)."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


class D360(Server):
    """This one, with its embedded PostgreSQL."""

    name = "D360"
    aeTitle = "D360PACS"
    settings = "embedded PostgreSQL, fsync on; all else as installed"

    def version(self) -> str:
        from d360 import __version__

        return __version__

    def command(self) -> list[str]:
        twistd = Path(sys.executable).with_name("twistd")
        return [
            str(twistd),
            "--nodaemon",
            "--pidfile=",
            f"--logfile={self.folder / 'twistd.log'}",
            "d360",
            f"--port={self.port}",
            f"--web-port={self.webPort}",
            f"--data-directory={self.folder / 'data'}",
        ]

    def addDestination(self) -> None:
        """See L{Server.addDestination}."""
        d360ctl = str(Path(sys.executable).with_name("d360ctl"))
        url = f"http://{HOST}:{self.webPort}"
        add = ["ae", "add", DESTINATION, HOST, str(self.destinationPort)]
        subprocess.run([d360ctl, "--url", url, *add], check=True, capture_output=True)


class Orthanc(Server):
    """Debian's package, with its SQLite index."""

    name = "Orthanc"
    aeTitle = "ORTHANC"
    settings = "SQLite, SyncStorageArea on (its default), TCP_NODELAY=1"

    def available(self) -> bool:
        return shutil.which("Orthanc") is not None

    def version(self) -> str:
        output = subprocess.run(
            ["Orthanc", "--version"], capture_output=True, text=True
        )
        return output.stdout.split("\n")[0].removeprefix("Orthanc ")

    def environment(self) -> dict[str, str]:
        return dict(os.environ, TCP_NODELAY="1")

    def command(self) -> list[str]:
        configuration = self.folder / "orthanc.json"
        configuration.write_text(
            json.dumps(
                {
                    "DicomAet": self.aeTitle,
                    "DicomPort": self.port,
                    "HttpPort": self.webPort,
                    "StorageDirectory": str(self.folder / "data"),
                    "DicomAlwaysAllowStore": True,
                    "DicomAlwaysAllowFind": True,
                    "DicomAlwaysAllowGet": True,
                    "DicomAlwaysAllowMove": True,
                    "DicomModalities": {
                        "destination": [DESTINATION, HOST, self.destinationPort]
                    },
                    "LimitFindResults": 0,
                    "LimitFindInstances": 0,
                    "Plugins": [],
                }
            )
        )
        return ["Orthanc", str(configuration)]


KNOWN: dict[str, type[Server]] = {"d360": D360, "orthanc": Orthanc}
