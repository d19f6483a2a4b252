"""
Connections of the second port, which are held to a measure: HTTP knows none for
how slowly a request may come, or how many may come at once.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel


class BoundedChannel(HTTPChannel):
    """
    One connection.

     - A request has C{timeOut} seconds to arrive as a whole, from its first byte
       on; so has the next one to begin. Twisted's would have them from its last
       byte on, for ever.
     - A request waits for the answer to the one before. One that comes in the same
       read ends the connection after that answer, as a server may (RFC 9112 9.3.2):
       no client asks so any more, and one that reads no answers could have
       thousands of them put together in one go.
     - Who does not take an answer is closed after C{timeOut} seconds, too.

    @ivar host: the address that it comes from.
    """

    site: Any
    host = ""
    _hasBegun = False
    _hasAnswered = False
    _isOver = False

    def dataReceived(self, data: bytes) -> None:
        """See L{HTTPChannel.dataReceived}."""
        if not self._isOver:
            self._hasAnswered = False
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """See L{HTTPChannel.lineReceived}."""
        if self._hasAnswered and line:
            self.loseConnection()
        else:
            super().lineReceived(line)

    def setLineMode(self, extra: bytes = b"") -> None:
        """
        A request was answered.

        @param extra: what came meanwhile.
        """
        self._hasAnswered = True
        super().setLineMode()
        if extra.strip(b"\r\n"):
            self.loseConnection()

    def setTimeout(self, period: float | None) -> Any:
        """See L{TimeoutMixin.setTimeout}: something else is waited for."""
        self._hasBegun = False
        return super().setTimeout(period)

    def resetTimeout(self) -> None:
        """See L{TimeoutMixin.resetTimeout}: there is some data."""
        if not self._hasBegun:
            self._hasBegun = True
            super().resetTimeout()

    def loseConnection(self) -> None:
        """See L{HTTPChannel.loseConnection}: as soon as all is sent."""
        if not self._isOver:
            self._isOver = True
            self.setTimeout(self.site.timeOut)
            super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{HTTPChannel.connectionLost}."""
        self._isOver = True
        super().connectionLost(reason)
        self.site.disconnected(self.host)
