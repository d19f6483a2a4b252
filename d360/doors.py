"""
The doors that peers come in by: the ports for DICOM, plain and over TLS, and the
one for the web; and the keys to them. Put together here for L{d360.tap} and
L{d360.worker}.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attrs import asdict, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.web.server import Site

from d360.config import TLS, Configuration
from d360.errors import CertificateError
from d360.listening import listenTCP
from d360.logs import Logger
from d360.metrics.exposition import Reading
from d360.server import Listener
from d360.tls.contexts import Accepting, Both
from d360.tls.credentials import Credentials, Files
from d360.tls.profiles import PROFILES
from d360.tls.renewal import Certificates, Renewed

_log = Logger("d360.doors")

#: The doors for DICOM, by which workers know how to serve a connection.
PLAIN, SECURE = "DICOM", "DICOM over TLS"

#: What workers are told by this name: L{Credentials}, as JSON has them.
CREDENTIALS = "credentials"


def makeTLS(tls: TLS) -> Both:
    """What a process makes connections for DICOM over TLS with."""
    return Both(PROFILES[tls.profile], tls.requireClientCertificate)


class _Told:
    """
    Tells others of our credentials.

    @ivar tell: takes them, by name.
    """

    tell: Callable[[str, Any], None] | None = None

    def __call__(self, credentials: Credentials) -> None:
        if self.tell is not None:
            self.tell(CREDENTIALS, asdict(credentials))


@frozen
class Security:
    """
    What the server's own process has for TLS.

    @ivar tls: for DICOM.
    @ivar web: for the web; C{None} where that is plain.
    """

    tls: Both
    web: Accepting | None
    certificates: Certificates
    _told: _Told

    def tellOthers(self, tell: Callable[[str, Any], None]) -> None:
        """Before any are read: who else has to have L{CREDENTIALS}."""
        self._told.tell = tell


def makeSecurity(
    configuration: Configuration, run: Callable[..., Deferred[Any]], reactor: Any
) -> Security:
    """
    @param run: runs a function in a thread.
    """
    tls, web = configuration.tls, configuration.web
    both, told, renewed = makeTLS(tls), _Told(), []
    if tls.certificate or tls.ca:
        files = Files("tls", tls.certificate, tls.key, tls.clientCA, tls.ca)
        renewed.append(Renewed("DICOM", files, both, told))
    accepting = None
    if web.certificate:
        accepting = Accepting(PROFILES[tls.profile], asksForCertificate=False)
        files = Files("web", web.certificate, web.key)
        renewed.append(Renewed("web", files, accepting))
    return Security(both, accepting, Certificates(renewed, run, reactor), told)


def useCredentials(tls: Both, value: dict[str, str]) -> None:
    """
    In a worker: what the server has read, and found to be right.

    @param value: what came by the name of L{CREDENTIALS}.
    """
    try:
        tls.prepare(Credentials(**value))()
    except CertificateError as error:
        _log.error("{why}", why=str(error))


def listenersOf(
    configuration: Configuration,
    doors: Mapping[str, Any],
    site: Site,
    security: Security,
    reactor: Any,
    listen: Callable[..., IListeningPort] = listenTCP,
) -> list[Listener]:
    """
    All ports that are to be listened on.

    @param doors: a factory for each of L{PLAIN} and L{SECURE}.
    @param listen: see L{Listener}; for DICOM.
    """
    dicom, tls, web = configuration.dicom, configuration.tls, configuration.web
    listeners = []
    if dicom.plain:
        listeners.append(
            Listener(PLAIN, "--port", dicom.address, dicom.port, doors[PLAIN], listen)
        )
    what, factory = "web", site
    if security.web is not None:
        what, factory = "web over TLS", security.web.over(site, reactor)
    listeners.append(Listener(what, "--web-port", web.address, web.port, factory))
    if tls.port:
        listeners.append(
            Listener(SECURE, "tls.port", tls.address, tls.port, doors[SECURE], listen)
        )
    return listeners


def warnOfDoors(configuration: Configuration) -> None:
    """Into the log: what is more open than it may be meant to be."""
    web = configuration.web
    if not ipaddress.ip_address(web.address).is_loopback and not web.certificate:
        _log.warn(
            "the web port is on {address} without TLS: whoever sees its traffic can "
            "read the token; set web.certificate and web.key, or use 127.0.0.1",
            address=web.address,
        )


def certificateReadings(certificates: Certificates) -> list[Reading]:
    """What the metrics say of each certificate."""

    def ends(use: str) -> float:
        found = [one for one in certificates.states() if one.use == use]
        return found[0].expires.timestamp() if found else 0.0

    return [
        Reading(
            "d360_certificate_expiry_timestamp_seconds",
            "When a certificate that is shown to peers ends.",
            partial(ends, use),
            {"use": use},
        )
        for use in certificates.uses
    ]
