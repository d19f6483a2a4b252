"""Tests for L{d360.tls.renewal}."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.errors import CertificateError
from d360.interfaces import ICertificates
from d360.tls.contexts import Accepting
from d360.tls.credentials import Credentials, Files
from d360.tls.profiles import PROFILES
from d360.tls.renewal import CALENDAR, LOOK, Certificates, Renewed
from tests.contracts.archive import checkSignatures
from tests.tls.making import Issued, issue

DAY = 86400.0

#: As it is, whatever a test does to it.
READ = Files.read


class Taker(Accepting):
    """Notes what is used."""

    def __init__(self) -> None:
        super().__init__(PROFILES["bcp195"])
        self.used: list[str] = []

    def prepare(self, credentials: Credentials) -> Callable[[], None]:
        use = super().prepare(credentials)

        def noted() -> None:
            use()
            self.used.append(credentials.certificate)

        return noted


class CertificatesTests(SynchronousTestCase):
    """Files that change while the server runs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.folder = Path(self.mktemp())
        self.first = issue("first")
        # As in the world, but for the days that a test lets pass.
        end = self.first.certificate.not_valid_after_utc.timestamp()
        self.clock.advance(end - 90 * DAY)
        self.first.write(self.folder, "pacs")
        self.taker = Taker()
        self.told: list[Credentials] = []
        self.waiting: list[Deferred[None]] = []
        files = Files("tls", self.path("pem"), self.path("key"))
        renewed = Renewed("DICOM", files, self.taker, self.told.append)
        self.certificates = Certificates([renewed], self.run_, self.clock)
        self.addCleanup(lambda: self.successResultOf(self.certificates.stop()))
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def path(self, kind: str) -> str:
        return str(self.folder / f"pacs.{kind}")

    def run_(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Not a thread."""
        return maybeDeferred(function, *arguments)

    def logged(self, level: LogLevel) -> list[str]:
        return [formatEvent(e) for e in self.events if e["log_level"] == level]

    def begin(self) -> None:
        self.certificates.load()
        self.assertTrue(self.certificates.watch())

    def put(self, one: Issued) -> None:
        one.write(self.folder, "pacs")

    def test_interface(self) -> None:
        """It is what it says."""
        verifyObject(ICertificates, self.certificates)
        checkSignatures(self, ICertificates, self.certificates)

    def test_load(self) -> None:
        """Used at once, and told to whom it concerns."""
        self.certificates.load()
        self.assertEqual(self.taker.used, [self.first.pem])
        self.assertEqual(
            self.told, [Credentials("tls", self.first.pem, self.first.key)]
        )

    def test_cannotLoad(self) -> None:
        """At the start that is the end."""
        Path(self.path("key")).unlink()
        self.assertRaises(CertificateError, self.certificates.load)

    def test_unchanged(self) -> None:
        """Nothing is read again."""
        self.begin()
        self.clock.pump([LOOK] * 5)
        self.assertEqual((len(self.taker.used), len(self.told)), (1, 1))
        self.assertEqual(self.logged(LogLevel.error), [])

    def test_changed(self) -> None:
        """Used within a minute."""
        self.begin()
        second = issue("second")
        self.put(second)
        self.assertEqual(len(self.taker.used), 1)
        self.clock.advance(LOOK)
        self.assertEqual(self.taker.used, [self.first.pem, second.pem])
        self.assertEqual(self.told[-1].key, second.key)
        self.assertTrue(any("was read again" in s for s in self.logged(LogLevel.info)))
        (state,) = self.certificates.states()
        self.assertEqual(
            (state.use, state.subject, state.fingerprint),
            ("DICOM", "CN=second", second.fingerprint),
        )

    def test_broken(self) -> None:
        """Said once, and the one before stays; until it is right."""
        self.begin()
        second = issue("second")
        Path(self.path("pem")).write_text(second.pem)
        self.clock.pump([LOOK] * 3)
        self.assertEqual(self.taker.used, [self.first.pem])
        (line,) = self.logged(LogLevel.error)
        self.assertIn("the certificate for DICOM stays as it was", line)
        self.assertIn("tls.key is not the key", line)
        Path(self.path("key")).write_text(second.key)
        self.clock.advance(LOOK)
        self.assertEqual(self.taker.used, [self.first.pem, second.pem])
        self.assertEqual(len(self.logged(LogLevel.error)), 1)

    def test_gone(self) -> None:
        """Likewise when a file is not there, which comes back as it was."""
        self.begin()
        Path(self.path("pem")).unlink()
        self.clock.pump([LOOK] * 3)
        self.assertEqual(len(self.logged(LogLevel.error)), 1)
        self.put(self.first)
        self.clock.advance(LOOK)
        self.assertEqual(self.taker.used, [self.first.pem])

    def test_reload(self) -> None:
        """At once, also if the files look as before."""
        self.begin()
        second = issue("second")
        self.put(second)
        self.successResultOf(self.certificates.reload())
        self.assertEqual(len(self.taker.used), 2)
        Path(self.path("pem")).unlink()
        for _ in range(2):
            self.successResultOf(self.certificates.reload())
        self.assertEqual(len(self.logged(LogLevel.error)), 2)

    def test_failure(self) -> None:
        """What nobody has thought of is logged, and it goes on looking."""
        self.begin()
        self.patch(Files, "read", lambda files: 1 / 0)
        self.put(issue("second"))
        self.clock.advance(LOOK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.flushLoggedErrors()
        self.patch(Files, "read", READ)
        self.put(issue("third"))
        self.clock.advance(LOOK)
        self.assertEqual(len(self.taker.used), 2)

    def test_turns(self) -> None:
        """One look at a time; the end waits for the last."""
        running: list[Deferred[None]] = []

        def run(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
            running.append(Deferred())
            return running[-1].addCallback(lambda _: function(*arguments))

        self.begin()
        self.certificates._run = run
        first, second = self.certificates.reload(), self.certificates.reload()
        self.assertEqual(len(running), 1)
        running[0].callback(None)
        self.successResultOf(first)
        self.assertEqual(len(running), 2)
        stopping = self.certificates.stop()
        self.assertNoResult(stopping)
        running[1].callback(None)
        self.successResultOf(second)
        self.successResultOf(stopping)

    def test_expires(self) -> None:
        """A month before it is a warning each day, afterwards an error."""
        self.begin()
        self.clock.pump([CALENDAR] * 60)
        self.assertEqual(self.logged(LogLevel.warn), [])
        self.clock.advance(CALENDAR)
        (line,) = self.logged(LogLevel.warn)
        self.assertIn("expires in 29 days", line)
        self.assertEqual(self.certificates.states()[0].daysLeft, 29)
        self.clock.pump([CALENDAR] * 29)
        self.assertEqual(len(self.logged(LogLevel.warn)), 30)
        self.assertEqual(self.logged(LogLevel.error), [])
        self.clock.advance(CALENDAR)
        (line,) = self.logged(LogLevel.error)
        self.assertIn("has expired", line)
        self.assertEqual(self.certificates.states()[0].daysLeft, -1)

    def test_none(self) -> None:
        """Nothing to look at."""
        nothing = Certificates([], self.run_, self.clock)
        nothing.load()
        self.assertFalse(nothing.watch())
        self.assertEqual(nothing.states(), ())
        self.successResultOf(nothing.reload())

    def test_withoutOwn(self) -> None:
        """CAs alone have no state: they are not ours."""
        files = Files("tls", ca=self.path("pem"))

        class Silent(Taker):
            def prepare(self, credentials: Credentials) -> Callable[[], None]:
                return lambda: None

        only = Certificates([Renewed("DICOM", files, Silent())], self.run_, self.clock)
        only.load()
        self.assertEqual(only.states(), ())
        only.warn()
