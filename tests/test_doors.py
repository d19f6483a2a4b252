"""Tests for L{d360.doors}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from d360.config import Configuration, load
from d360.doors import (
    CREDENTIALS,
    PLAIN,
    SECURE,
    certificateReadings,
    listenersOf,
    makeSecurity,
    makeTLS,
    useCredentials,
    warnOfDoors,
)
from tests.tls.making import issue


class DoorsTests(SynchronousTestCase):
    """Which ports there are, and what is behind them."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.own = issue("pacs")
        self.own.write(self.folder, "pacs")
        self.clock = Clock()
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def configured(self, **options: Any) -> Configuration:
        """Sections and keys with an underscore between them; C{OWN} is ours."""
        given: dict[str, Any] = {}
        for name, value in options.items():
            section, _, key = name.partition("_")
            given[f"{section}.{key}"] = value
            if key == "certificate":
                given[f"{section}.certificate"] = str(self.folder / "pacs.pem")
                given[f"{section}.key"] = str(self.folder / "pacs.key")
        return load(None, given)

    def listeners(self, configuration: Configuration) -> dict[str, Any]:
        """Port and factory of each by what it is for."""
        security = makeSecurity(configuration, lambda f, *a: f(*a), self.clock)
        doors, site = {PLAIN: "plain", SECURE: "secure"}, Site(Resource())
        found = listenersOf(configuration, doors, site, security, self.clock)
        return {one.what: (one.port, one.factory) for one in found}

    def test_plain(self) -> None:
        """As long as nothing else is said."""
        found = self.listeners(self.configured())
        self.assertEqual(list(found), [PLAIN, "web"])
        self.assertEqual(found[PLAIN], (104, "plain"))

    def test_secure(self) -> None:
        """Beside the plain one, or in its place."""
        found = self.listeners(self.configured(tls_port=2762, tls_certificate=1))
        self.assertEqual(list(found), [PLAIN, "web", SECURE])
        self.assertEqual(found[SECURE], (2762, "secure"))
        found = self.listeners(
            self.configured(tls_port=2762, tls_certificate=1, dicom_plain=False)
        )
        self.assertEqual(list(found), ["web", SECURE])

    def test_web(self) -> None:
        """HTTPS with a certificate."""
        found = self.listeners(self.configured(web_certificate=1))
        port, factory = found["web over TLS"]
        self.assertEqual(port, 8360)
        self.assertIsInstance(factory, TLSMemoryBIOFactory)

    def test_others(self) -> None:
        """Workers are told what is read, and make the same of it."""
        configuration = self.configured(tls_port=2762, tls_certificate=1)
        security = makeSecurity(configuration, lambda f, *a: f(*a), self.clock)
        told: list[tuple[str, Any]] = []
        security.tellOthers(lambda what, value: told.append((what, value)))
        security.certificates.load()
        ((what, value),) = told
        self.assertEqual((what, value["key"]), (CREDENTIALS, self.own.key))
        theirs = makeTLS(configuration.tls)
        useCredentials(theirs, value)
        self.assertIsNotNone(theirs.accepting._context)
        useCredentials(theirs, value | {"key": "none"})
        (line,) = (formatEvent(e) for e in self.events if "why" in e)
        self.assertIn("tls.key has no private key", line)

    def test_readings(self) -> None:
        """One for each certificate that we show."""
        configuration = self.configured(tls_certificate=1, web_certificate=1)
        security = makeSecurity(configuration, lambda f, *a: f(*a), self.clock)
        security.certificates.load()
        readings = certificateReadings(security.certificates)
        self.assertEqual(
            [reading.labels for reading in readings], [{"use": "DICOM"}, {"use": "web"}]
        )
        end = self.own.certificate.not_valid_after_utc.timestamp()
        self.assertEqual([reading.read() for reading in readings], [end, end])

    def test_warning(self) -> None:
        """A token that can be read on its way."""
        elsewhere = {"web_address": "0.0.0.0", "web_token": "secret"}
        for options, warned in (
            ({}, False),
            (elsewhere, True),
            (elsewhere | {"web_certificate": 1}, False),
        ):
            self.events.clear()
            warnOfDoors(self.configured(**options))
            lines = [formatEvent(event) for event in self.events]
            self.assertEqual(len(lines), int(warned), options)
            self.assertNotIn("secret", "".join(lines))
