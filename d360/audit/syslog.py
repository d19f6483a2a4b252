"""
Audit messages over the network: RFC 5424, over UDP (RFC 5426; PS3.15 A.7), TCP
(RFC 6587) and TLS (RFC 5425; PS3.15 A.6).
"""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import (
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.audit.messages import timestamp
from d360.logs import ContextLogger

#: PS3.15 A.6, A.7: security/authorization messages.
FACILITY = 10

#: RFC 5424 6.2.1.
_NOTICE, _WARNING = 5, 4

#: PS3.15 A.6.
MESSAGE_ID = "DICOM+RFC3881"

#: RFC 5424 6.4: of what is in UTF-8.
_BOM = b"\xef\xbb\xbf"

#: Bytes that wait for a receiver at most.
MAX_WAITING = 32 << 20

#: Seconds between two lines of the log that say that messages were dropped.
_QUIET = 60.0

#: Bytes of a datagram at most (RFC 768, over IPv4).
MAX_DATAGRAM = 65507

_log = ContextLogger("d360.audit", "audit trail to syslog")


@frozen
class Header:
    """
    What stands before each message (RFC 5424 6.2).

    @ivar process: PROCID.
    """

    host: str
    process: str

    def frame(self, message: bytes, time: float, succeeded: bool) -> bytes:
        """
        A SYSLOG-MSG.

        @param time: seconds since the epoch.
        """
        severity = _NOTICE if succeeded else _WARNING
        head = (
            f"<{FACILITY * 8 + severity}>1 {timestamp(time)} {self.host} D360"
            f" {self.process} {MESSAGE_ID} - "
        )
        return head.encode("ascii") + _BOM + message


def localHeader() -> Header:
    """That of this process."""
    host = re.sub("[^!-~]", "", socket.gethostname())[:255] or "-"
    return Header(host, str(os.getpid()))


class Syslog:
    """
    Where messages go.

    @ivar dropped: how many were not sent, for there was no room or no way.
    """

    def __init__(self, clock: IReactorTime, where: str) -> None:
        self.dropped = 0
        self._clock = clock
        self._where = where
        self._told = -_QUIET

    @property
    def waiting(self) -> int:
        """How many are not sent yet."""
        return 0

    @property
    def isFailing(self) -> bool:
        """Nothing can be sent now."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to send."""
        raise NotImplementedError

    def send(self, messages: Sequence[bytes]) -> None:
        """Have them sent, sooner or later."""
        raise NotImplementedError

    def stop(self, patience: float) -> Deferred[None]:
        """
        Send what waits, and end.

        @param patience: seconds that this may take.
        """
        raise NotImplementedError

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        now = self._clock.seconds()
        if count and now - self._told >= _QUIET:
            self._told = now
            _log.error(
                "{count} messages were dropped up to now, {where}: {why}",
                count=self.dropped,
                where=self._where,
                why=why,
            )


class DatagramSyslog(Syslog):
    """
    Over UDP: nobody tells whether a message arrives.

    @param listen: opens a port for a protocol, on any address of a family.
    @param resolve: fires with family and IP address of the receiver.
    """

    def __init__(
        self,
        clock: IReactorTime,
        where: str,
        port: int,
        listen: Callable[[DatagramProtocol, socket.AddressFamily], Any],
        resolve: Callable[[], Deferred[tuple[socket.AddressFamily, str]]],
    ) -> None:
        super().__init__(clock, where)
        self._number = port
        self._listen = listen
        self._resolve = resolve
        self._port: Any = None
        self._address = ""
        self._retry: Any = None
        self._stopped = False

    @property
    def isFailing(self) -> bool:
        return self._port is None

    def start(self) -> None:
        self._retry = None
        self._resolve().addCallback(self._open).addErrback(self._cannotOpen)

    def _open(self, found: tuple[socket.AddressFamily, str]) -> None:
        family, address = found
        if not self._stopped:
            self._port, self._address = (
                self._listen(DatagramProtocol(), family),
                address,
            )

    def _cannotOpen(self, failure: Failure) -> None:
        _log.error(
            "{where} cannot be used, see audit.syslog in the configuration: {why}",
            where=self._where,
            why=str(failure.value),
        )
        if not self._stopped:
            self._retry = self._clock.callLater(_QUIET, self.start)

    def send(self, messages: Sequence[bytes]) -> None:
        if self._port is None:
            self._drop(len(messages), "the receiver is not known")
            return
        for message in messages:
            try:
                self._port.write(message, (self._address, self._number))
            except MessageLengthError:
                self._drop(1, "it is too long for UDP; use tcp:// or tls://")
            except OSError as error:
                self._drop(1, str(error))

    def stop(self, patience: float) -> Deferred[None]:
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        port.stopListening().addBoth(lambda _: closed.callback(None))
        return closed


@implementer(IPushProducer, IHandshakeListener)
class _Connection(Protocol):
    """
    One connection; there is nothing to be read from it.

    @param withTLS: it is of use only when it is known who the other one is.
    """

    transport: Any

    def __init__(self, syslog: StreamSyslog, withTLS: bool) -> None:
        self.isReady = True
        self._syslog = syslog
        self._withTLS = withTLS

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        if not self._withTLS:
            self._syslog.connected(self)

    def handshakeCompleted(self) -> None:
        """TLS is there, and the certificate is right."""
        self._syslog.connected(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._syslog.lost(self, reason)

    def pauseProducing(self) -> None:
        """It is full."""
        self.isReady = False

    def resumeProducing(self) -> None:
        """It takes more."""
        self.isReady = True
        self._syslog.sendMore()

    def stopProducing(self) -> None:
        """It has ended."""


class StreamSyslog(Syslog):
    """
    Over TCP or TLS, each message behind its length (RFC 6587 3.4.1, RFC 5425 4.3).
    A connection that is lost is made again; what the receiver had not read of
    it by then is lost, for syslog has no acknowledgements.

    @param endpoint: leads to the receiver.
    @param withTLS: over TLS.
    """

    def __init__(
        self,
        clock: IReactorTime,
        where: str,
        endpoint: IStreamClientEndpoint,
        withTLS: bool = False,
    ) -> None:
        super().__init__(clock, where)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._connection: _Connection | None = None
        self._whenEmpty: Deferred[None] | None = None
        factory = Factory.forProtocol(lambda: _Connection(self, withTLS))
        factory.noisy = False
        self._service = ClientService(endpoint, factory, clock=clock)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def isFailing(self) -> bool:
        return self._connection is None

    def start(self) -> None:
        self._service.startService()
        self._await()

    def _await(self) -> None:
        self._service.whenConnected(1).addCallbacks(lambda _: None, self._notYet)

    def _notYet(self, failure: Failure) -> None:
        if self._service.running:
            _log.error(
                "{where} does not answer: {why}; messages wait until it does",
                where=self._where,
                why=str(failure.value),
            )

    def send(self, messages: Sequence[bytes]) -> None:
        dropped = 0
        for message in messages:
            if self._size + len(message) > MAX_WAITING:
                dropped += 1
            else:
                self._waiting.append(message)
                self._size += len(message)
        self._drop(dropped, "the receiver does not take them")
        self.sendMore()

    def sendMore(self) -> None:
        """Send what waits, as far as the connection takes it."""
        connection = self._connection
        if connection is None:
            return
        while self._waiting and connection.isReady:
            message = self._waiting.popleft()
            self._size -= len(message)
            connection.transport.write(b"%d %b" % (len(message), message))
        if not self._waiting and self._whenEmpty is not None:
            waiter, self._whenEmpty = self._whenEmpty, None
            waiter.callback(None)

    def connected(self, connection: _Connection) -> None:
        """There is a connection."""
        self._connection = connection
        _log.info("{where} is connected", where=self._where)
        self.sendMore()

    def lost(self, connection: _Connection, reason: Failure) -> None:
        """There is none any more."""
        self._connection = None
        if self._service.running:
            _log.error(
                "{where} is not connected: {why}; messages wait until it is",
                where=self._where,
                why=str(reason.value),
            )
            self._await()

    def stop(self, patience: float) -> Deferred[None]:
        waiting: Deferred[None] = succeed(None)
        if self._waiting:
            self._whenEmpty = waiting = Deferred()
            waiting.addTimeout(patience, self._clock)
            waiting.addErrback(lambda _: self._giveUp())
        return waiting.addCallback(lambda _: self._close(patience))

    def _giveUp(self) -> None:
        self._whenEmpty = None
        self._told = -_QUIET
        self._drop(len(self._waiting), "the server has stopped")

    def _close(self, patience: float) -> Deferred[None]:
        """What is written is sent before the connection is closed."""
        connection = self._connection
        if connection is not None:
            # TLS would wait for it.
            connection.transport.unregisterProducer()
        stopped: Deferred[None] = Deferred()
        self._service.stopService().addBoth(
            lambda _: None if stopped.called else stopped.callback(None)
        )
        stopped.addTimeout(patience, self._clock)
        return stopped.addErrback(lambda _: None)
