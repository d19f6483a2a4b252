"""The servers that D360 is measured beside."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.servers import (
    D360,
    DESTINATION,
    HOST,
    Server,
    dcmtk,
    findDCMTK,
    firstLine,
)
from d360.index.embedded import EmbeddedServer, packagedBinaries

#: Where Debian and Orthanc's own packages have its plugins.
_PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))
_POSTGRESQL_INDEX = "libOrthancPostgreSQLIndex.so"


class Orthanc(Server):
    """Orthanc with its own SQLite index."""

    name = "Orthanc"
    aeTitle = "ORTHANC"
    settings = "SQLite, SyncStorageArea on (its default), TCP_NODELAY=1"

    def missing(self) -> str:
        """See L{Server.missing}."""
        return "" if shutil.which("Orthanc") else "apt-get install orthanc"

    def version(self) -> str:
        return firstLine(["Orthanc", "--version"]).removeprefix("Orthanc ")

    def extras(self) -> dict[str, Any]:
        """What a variant adds to the configuration."""
        return {"Plugins": []}

    def command(self) -> list[str]:
        configuration = self.folder / "orthanc.json"
        settings = {
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
        }
        configuration.write_text(json.dumps(settings | self.extras()))
        return ["Orthanc", str(configuration)]


def _plugin() -> Path | None:
    found = (folder / _POSTGRESQL_INDEX for folder in _PLUGINS)
    return next((path for path in found if path.exists()), None)


class OrthancPostgreSQL(Orthanc):
    """
    Orthanc with its index in PostgreSQL, the same one that D360 brings along,
    with the same settings.
    """

    name = "Orthanc PostgreSQL"
    settings = (
        "index in PostgreSQL with D360's settings, fsync on; SyncStorageArea on "
        "(its default), TCP_NODELAY=1"
    )

    def __init__(self, folder: Path, asInstalled: bool = False) -> None:
        super().__init__(folder, asInstalled)
        self._database: EmbeddedServer | None = None

    def missing(self) -> str:
        """See L{Server.missing}."""
        if super().missing() or _plugin() is None:
            return "apt-get install orthanc-postgresql"
        return ""

    def version(self) -> str:
        """See L{Server.version}."""
        plugin = _plugin()
        assert plugin is not None
        number = plugin.resolve().name.partition(".so.")[2]
        server = firstLine([str(packagedBinaries() / "postgres"), "--version"])
        return f"{super().version()}, plugin {number}, {server}"

    def prepare(self) -> None:
        """See L{Server.prepare}."""
        self._database = EmbeddedServer(self.folder / "database")
        self._database.start()

    def extras(self) -> dict[str, Any]:
        """See L{Orthanc.extras}."""
        assert self._database is not None
        return {
            "Plugins": [str(_plugin())],
            "PostgreSQL": {
                "EnableIndex": True,
                "EnableStorage": False,
                "ConnectionUri": self._database.url,
            },
        }

    def roots(self) -> list[int]:
        """See L{Server.roots}."""
        database = self._database and self._database.pid
        return [*super().roots(), *([database] if database else [])]

    def tidy(self) -> None:
        """See L{Server.tidy}."""
        if self._database is not None:
            self._database.stopNow()
            self._database = None


class StoreSCP(Server):
    """DCMTK's storescp: files, and no index at all."""

    name = "storescp"
    aeTitle = "STORESCP"
    settings = "--fork +B, no fsync, no index, TCP_NODELAY=1"
    queries = False

    def missing(self) -> str:
        """See L{Server.missing}."""
        return "" if findDCMTK("storescp") else "apt-get install dcmtk"

    def version(self) -> str:
        return firstLine([dcmtk("storescp"), "--version"])

    def files(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        """See L{Server.prepare}."""
        self.files().mkdir()

    def command(self) -> list[str]:
        command = [dcmtk("storescp"), "-q", "--fork", "+B", "-aet", self.aeTitle]
        return [*command, "-od", str(self.files()), str(self.port)]


class DCMQRSCP(Server):
    """DCMTK's dcmqrscp: a process an association, and an index in one file."""

    name = "dcmqrscp"
    aeTitle = "DCMQRSCP"
    settings = "its index file without fsync, PDUs of 64 KiB, TCP_NODELAY=1"

    def missing(self) -> str:
        """See L{Server.missing}."""
        return "" if findDCMTK("dcmqrscp") else "apt-get install dcmtk"

    def version(self) -> str:
        return firstLine([dcmtk("dcmqrscp"), "--version"])

    def command(self) -> list[str]:
        storage = self.folder / "data"
        storage.mkdir(exist_ok=True)
        configuration = self.folder / "dcmqrscp.cfg"
        configuration.write_text(
            f"NetworkTCPPort = {self.port}\n"
            f"MaxPDUSize = {16384 if self.asInstalled else 65536}\n"
            "MaxAssociations = 4096\n"
            "HostTable BEGIN\n"
            f"destination = ({DESTINATION}, {HOST}, {self.destinationPort})\n"
            "HostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            "AETable BEGIN\n"
            f"{self.aeTitle} {storage} RW (500, 9999mb) ANY\n"
            "AETable END\n"
        )
        return [dcmtk("dcmqrscp"), "-q", "-c", str(configuration)]


class QRSCP(Server):
    """pynetdicom's qrscp: Python as D360, and a thread an association."""

    name = "qrscp"
    aeTitle = "QRSCP"
    settings = "SQLite, as installed (it does not know TCP_NODELAY)"
    share = 0.2

    def missing(self) -> str:
        """See L{Server.missing}."""
        needed = ("pynetdicom", "sqlalchemy")
        if not all(map(find_spec, needed)):
            return "pip install pynetdicom sqlalchemy"
        return ""

    def version(self) -> str:
        return f"pynetdicom {version('pynetdicom')}"

    def command(self) -> list[str]:
        storage = self.folder / "data"
        storage.mkdir(exist_ok=True)
        configuration = self.folder / "qrscp.ini"
        configuration.write_text(
            "[DEFAULT]\n"
            f"ae_title: {self.aeTitle}\n"
            f"port: {self.port}\n"
            "max_pdu: 65534\nacse_timeout: 60\ndimse_timeout: 60\n"
            f"network_timeout: 600\nbind_address: {HOST}\n"
            f"instance_location: {storage}\n"
            f"database_location: {self.folder / 'index.sqlite'}\n"
            "log_identifier: False\n"
            f"[{DESTINATION}]\naddress: {HOST}\nport: {self.destinationPort}\n"
        )
        command = [sys.executable, "-m", "pynetdicom", "qrscp", "-q"]
        return [*command, "-c", str(configuration)]


_ALL: Iterable[type[Server]] = (
    D360,
    Orthanc,
    OrthancPostgreSQL,
    StoreSCP,
    DCMQRSCP,
    QRSCP,
)

#: By what the command line calls them.
KNOWN: dict[str, type[Server]] = {
    kind.name.lower().replace(" ", "-"): kind for kind in _ALL
}
