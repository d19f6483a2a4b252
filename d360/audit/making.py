"""An audit trail made as the configuration has it."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import DatagramProtocol

from d360.addresses import readSyslog
from d360.audit.events import Ourselves
from d360.audit.file import AuditFile
from d360.audit.messages import AuditSource
from d360.audit.null import NULL_AUDIT
from d360.audit.origins import Origins
from d360.audit.syslog import DatagramSyslog, StreamSyslog, Syslog, localHeader
from d360.audit.trail import AuditTrail
from d360.audit.writer import AuditWriter, Run
from d360.config import Audit
from d360.errors import StartupError
from d360.interfaces import IAudit, IIndex

_PEM_END = b"-----END CERTIFICATE-----"

#: Seconds that a connection to a receiver of syslog may take.
_CONNECTING = 10.0


class Auditing:
    """
    The audit trail of a process as who puts it together sees it: there may be
    none.

    @ivar audit: for those who tell of what they do.
    """

    def __init__(self, file: AuditFile | None, trail: AuditTrail | None) -> None:
        self.audit: IAudit = NULL_AUDIT if trail is None else trail
        self._file = file
        self._trail = trail

    def prepare(self) -> None:
        """
        See that the file can be written. Blocks.

        @raise OSError: it cannot be.
        """
        if self._file is not None:
            self._file.prepare()

    def start(self) -> None:
        """The reactor runs: begin to write. Again does nothing."""
        if self._trail is not None:
            self._trail.start()

    def applicationStarts(self) -> None:
        """See L{AuditTrail.applicationStarts}."""
        if self._trail is not None:
            self._trail.applicationStarts()

    def stop(self) -> Deferred[None]:
        """Write all there is, and end; while there are threads."""
        return succeed(None) if self._trail is None else self._trail.stop()

    @property
    def written(self) -> int:
        """Messages written since the start."""
        return 0 if self._trail is None else self._trail.writer.written

    @property
    def waiting(self) -> int:
        """Messages that are not written or sent yet."""
        return 0 if self._trail is None else self._trail.writer.allWaiting

    @property
    def dropped(self) -> int:
        """Messages for which there was no room, in file or syslog."""
        return 0 if self._trail is None else self._trail.writer.allDropped

    @property
    def isFailing(self) -> bool:
        """They cannot be written to the file or sent now."""
        return self._trail is not None and self._trail.writer.cannotWrite


def makeAuditing(
    reactor: Any,
    audit: Audit,
    aeTitle: str,
    path: Path | None,
    index: IIndex,
    run: Run,
) -> Auditing:
    """
    @param path: of the file; C{None} for none.
    @param run: runs a function in a thread.
    @raise StartupError: what a receiver's certificate is to come of cannot be
        read.
    """
    if path is None and not audit.syslog:
        return Auditing(None, None)
    ours = Ourselves(aeTitle, str(os.getpid()), socket.gethostname())
    file = None if path is None else AuditFile(path, audit.maxSize << 20, audit.keep)
    writer = AuditWriter(
        reactor,
        run,
        AuditSource(audit.sourceID or aeTitle, audit.enterpriseSiteID),
        localHeader(),
        file,
        _makeSyslog(reactor, audit, run) if audit.syslog else None,
    )
    return Auditing(file, AuditTrail(reactor, ours, Origins(index), writer))


def _makeSyslog(reactor: Any, audit: Audit, run: Run) -> Syslog:
    transport, host, port = readSyslog(audit.syslog)
    if transport == "udp":
        return DatagramSyslog(
            reactor,
            audit.syslog,
            port,
            partial(_listen, reactor),
            partial(_resolve, run, host),
        )
    endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=_CONNECTING)
    withTLS = transport == "tls"
    if withTLS:
        endpoint = wrapClientTLS(_tlsOptions(host, audit.ca), endpoint)
    return StreamSyslog(reactor, audit.syslog, endpoint, withTLS)


def _tlsOptions(host: str, ca: str) -> Any:
    """
    @param ca: the file of the certificates that the receiver's must come of;
        C{""} for those of the system.
    """
    # OpenSSL takes its time to load, and most do without.
    from OpenSSL.crypto import Error
    from twisted.internet import ssl

    if not ca:
        return ssl.optionsForClientTLS(host)
    try:
        text = Path(ca).read_bytes()
        certificates = [
            ssl.Certificate.loadPEM(one + _PEM_END) for one in text.split(_PEM_END)[:-1]
        ]
    except (OSError, ValueError, Error) as error:
        raise StartupError(
            f"audit.ca = {ca!r} cannot be read: {error}; give a file with "
            "certificates in PEM"
        ) from None
    if not certificates:
        raise StartupError(f"audit.ca = {ca!r} has no certificate in PEM")
    return ssl.optionsForClientTLS(
        host, trustRoot=ssl.trustRootFromCertificates(certificates)
    )


def _listen(
    reactor: Any, protocol: DatagramProtocol, family: socket.AddressFamily
) -> Any:
    interface = "::" if family == socket.AF_INET6 else ""
    return reactor.listenUDP(0, protocol, interface=interface)


def _resolve(run: Run, host: str) -> Deferred[tuple[socket.AddressFamily, str]]:
    return run(_lookUp, host)


def _lookUp(host: str) -> tuple[socket.AddressFamily, str]:
    """Blocks."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    family, _, _, _, address = found[0]
    return family, str(address[0])
