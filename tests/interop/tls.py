"""A D360 server with TLS, and DCMTK's clients over it."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.interop.running import (
    HOST,
    PATIENCE,
    WORKERS,
    Answer,
    RunningServer,
    dcmtk,
    freePort,
)
from tests.tls.making import Issued, issue, rsaKey


class TLSServer(RunningServer):
    """
    A server with a certificate for 127.0.0.1 and localhost, and what its peers
    need: C{ca.pem}, and certificates with their keys.

    @ivar ca: signs all of them.
    @ivar modality: the certificate of a client.
    @ivar securePort: of DICOM over TLS.
    @param options: further lines of the section C{[tls]}.
    @param others: further lines of the configuration, in sections.
    """

    def __init__(
        self,
        folder: Path,
        options: str = "",
        others: str = "",
        workers: int = WORKERS,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = issue("CA of a test", key=rsaKey(0), isCA=True)
        self.ours = issue("pacs", self.ca, rsaKey(1))
        self.modality = issue("modality", self.ca, rsaKey(2))
        self.ca.write(folder, "ca")
        self.ours.write(folder, "pacs")
        self.modality.write(folder, "modality")
        self.securePort = freePort()
        path = folder / "d360.toml"
        path.write_text(
            f"[tls]\nport = {self.securePort}\n"
            f'certificate = "{folder}/pacs.pem"\nkey = "{folder}/pacs.key"\n'
            f'ca = "{folder}/ca.pem"\n{options.format(folder=folder)}\n'
            "[database]\nconnections = 2\n" + others.format(folder=folder)
        )
        super().__init__(folder, f"--config={path}", workers=workers)

    def secureClient(
        self, name: str, *arguments: str, identity: str = "", **options: Any
    ) -> Answer:
        """
        Run a DCMTK client over TLS.

        @param identity: whose certificate it shows; nobody's by default.
        """
        done = subprocess.run(
            self.secureCommand(name, *arguments, identity=identity),
            capture_output=True,
            timeout=options.pop("timeout", PATIENCE),
            **options,
        )
        return Answer(done.returncode, (done.stdout + done.stderr).decode("latin-1"))

    def secureCommand(
        self, name: str, *arguments: str, identity: str = ""
    ) -> list[str]:
        """The command of L{secureClient}."""
        return [
            dcmtk(name),
            *self.security(identity),
            *("-aec", self.aeTitle, HOST, str(self.securePort)),
            *arguments,
        ]

    def security(self, identity: str = "") -> list[str]:
        """DCMTK's options for TLS."""
        ca = ["+cf", str(self.folder / "ca.pem")]
        if not identity:
            return ["+tla", *ca]
        files = (self.folder / f"{identity}.key", self.folder / f"{identity}.pem")
        return ["+tls", *map(str, files), *ca]

    def issue(self, name: str, **options: Any) -> Issued:
        """Another certificate of the CA, in its folder."""
        issued = issue(name, self.ca, rsaKey(3), **options)
        issued.write(self.folder, name)
        return issued


class HTTPSServer(TLSServer):
    """Likewise, whose web port is HTTPS."""

    def __init__(self, folder: Path, workers: int = WORKERS) -> None:
        web = '[web]\ncertificate = "{folder}/pacs.pem"\nkey = "{folder}/pacs.key"\n'
        super().__init__(folder, others=web, workers=workers)

    readyPattern = re.compile(
        r"is ready: DICOM on \S+:(\d+), web over TLS on ([^,\s]+)"
    )
    scheme = "https"

    def get(self, path: str) -> Any:
        """See L{RunningServer.get}."""
        trust = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        with urllib.request.urlopen(
            self.web + path, timeout=PATIENCE, context=trust
        ) as response:
            return json.load(response)
