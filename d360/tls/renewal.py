"""
Certificates are made anew while the server runs: their files are looked at now
and then, and new ones are used when they are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import frozen
from cryptography import x509
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import CertificateError
from d360.interfaces import ICertificates
from d360.logs import Logger
from d360.metrics.values import CertificateState
from d360.tls.credentials import (
    Credentials,
    Files,
    Signature,
    daysLeft,
    fingerprintOf,
    keysOf,
    nameOf,
)

#: Seconds between looks at the files, and between looks at the calendar.
LOOK, CALENDAR = 60.0, 86400.0

#: Days before its end from which on a certificate is warned of.
SOON = 30


class ITakesCredentials(Protocol):
    """What connections are made with; see L{d360.tls.contexts.Accepting}."""

    def prepare(self, credentials: Credentials) -> Callable[[], None]:
        """
        @raise CertificateError: these cannot be used.
        """


@frozen
class _Found:
    """
    What was read, and can be used.

    @ivar certificate: ours, if there is one.
    @ivar use: has it used.
    """

    credentials: Credentials
    certificate: x509.Certificate | None
    use: Callable[[], None]


class Renewed:
    """
    The credentials of one use, from files.

    @ivar use: for people, such as C{"DICOM"}.
    @param taker: has connections made with them.
    @param renewed: hears of them when they are in use.
    """

    def __init__(
        self,
        use: str,
        files: Files,
        taker: ITakesCredentials,
        renewed: Callable[[Credentials], None] = lambda credentials: None,
    ) -> None:
        self.use = use
        self._files = files
        self._taker = taker
        self._renewed = renewed
        self._seen: Signature = ()
        self._current: Credentials | None = None
        self.certificate: x509.Certificate | None = None

    def read(self, anyway: bool = True) -> _Found | None:
        """
        What to L{take}, if it has changed. Blocks.

        @param anyway: also if the files look as before.
        @raise CertificateError: it cannot be used. It is said once, until the
            files change again.
        """
        # Before they are read: what changes meanwhile is seen the next time.
        signature = self._files.signature()
        if signature == self._seen and not anyway:
            return None
        self._seen = signature
        credentials = self._files.read()
        if credentials == self._current:
            return None
        certificate = keysOf(credentials).certificate
        return _Found(credentials, certificate, self._taker.prepare(credentials))

    def take(self, found: _Found) -> None:
        """Use what was read."""
        found.use()
        self._current = found.credentials
        self.certificate = found.certificate
        self._renewed(found.credentials)


@implementer(ICertificates)
class Certificates:
    """
    See L{ICertificates}.

    @param run: runs a function in a thread.
    """

    _log = Logger("d360.tls")

    def __init__(
        self,
        renewed: Sequence[Renewed],
        run: Callable[..., Deferred[Any]],
        clock: IReactorTime,
    ) -> None:
        self._renewed = renewed
        self._run = run
        self._clock = clock
        self._turn: DeferredLock = DeferredLock()
        self._looking = LoopingCall(self._look)
        self._calendar = LoopingCall(self.warn)
        self._looking.clock = self._calendar.clock = clock

    @property
    def uses(self) -> tuple[str, ...]:
        """What they are for, see L{Renewed.use}."""
        return tuple(each.use for each in self._renewed)

    def load(self) -> None:
        """
        Read them for the first time. Blocks.

        @raise CertificateError: one cannot be used.
        """
        for each in self._renewed:
            found = each.read()
            if found is not None:
                each.take(found)

    def watch(self) -> bool:
        """
        The server runs: look at them from now on.

        @return: there are some.
        """
        if self._renewed:
            self._looking.start(LOOK, now=False)
            self._calendar.start(CALENDAR)
        return bool(self._renewed)

    @asynchronous
    async def stop(self) -> None:
        """Look no more."""
        for call in (self._looking, self._calendar):
            if call.running:
                call.stop()
        await self._turn.run(lambda: None)

    @asynchronous
    async def reload(self) -> None:
        """See L{ICertificates.reload}."""
        for each in self._renewed:
            await self._turn.run(self._again, each, True)

    @asynchronous
    async def _look(self) -> None:
        for each in self._renewed:
            await self._turn.run(self._again, each, False)

    @asynchronous
    async def _again(self, each: Renewed, anyway: bool) -> None:
        try:
            found = await self._run(each.read, anyway)
        except CertificateError as error:
            self._log.error(
                "the certificate for {use} stays as it was: {why}",
                use=each.use,
                why=str(error),
            )
            return
        except Exception:
            # The next look may be luckier.
            self._log.failure("cannot look at the certificate for {use}", use=each.use)
            return
        if found is None:
            return
        each.take(found)
        self._log.info(
            "the certificate for {use} was read again; new connections use it",
            use=each.use,
        )
        self._warnOf(each)

    # --- how long they are valid

    def states(self) -> tuple[CertificateState, ...]:
        """See L{ICertificates.states}."""
        return tuple(
            CertificateState(
                each.use,
                nameOf(each.certificate),
                fingerprintOf(each.certificate),
                each.certificate.not_valid_after_utc,
                daysLeft(each.certificate, self._clock.seconds()),
            )
            for each in self._renewed
            if each.certificate is not None
        )

    def warn(self) -> None:
        """Of those that end soon, or have ended."""
        for each in self._renewed:
            self._warnOf(each)

    def _warnOf(self, each: Renewed) -> None:
        if each.certificate is None:
            return
        left = daysLeft(each.certificate, self._clock.seconds())
        until = each.certificate.not_valid_after_utc.date().isoformat()
        if left < 0:
            self._log.error(
                "the certificate for {use} has expired ({until}): peers refuse it; "
                "put a new one in its place, it is read without a restart",
                use=each.use,
                until=until,
            )
        elif left < SOON:
            self._log.warn(
                "the certificate for {use} expires in {days} days ({until}); put a "
                "new one in its place, it is read without a restart",
                use=each.use,
                days=left,
                until=until,
            )
