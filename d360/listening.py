"""
Ports that rest when they can accept nothing. Twisted's are told again and again
that somebody waits, for as long as there is no descriptor for a connection: that
takes all of a processor, and lines in the log without an end.
"""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.tcp import Port
from twisted.python.failure import Failure

from d360.logs import Logger

#: Seconds that those who want to connect wait then, before it is tried again.
REST = 0.2


def _canOpen() -> bool:
    """Whether there is a descriptor to be had."""
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno not in (EMFILE, ENFILE)
    return True


class PatientPort(Port):
    """See the module."""

    _log = Logger("d360.server")
    _resting: IDelayedCall | None = None
    _isTold = False

    def doRead(self) -> None:
        """See L{Port.doRead}."""
        super().doRead()
        if _canOpen():
            self._isTold = False
        elif self.connected:
            self._rest()

    def _rest(self) -> None:
        if not self._isTold:
            self._isTold = True
            self._log.error(
                "No more files can be open: connections are closed or wait; raise "
                "the limit (LimitNOFILE of systemd, ulimit -n)"
            )
        self.stopReading()
        if self._resting is None:
            reactor: Any = self.reactor
            self._resting = reactor.callLater(REST, self._goOn)

    def _goOn(self) -> None:
        self._resting = None
        if self.connected and not self.disconnecting:
            self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """See L{Port.connectionLost}."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        super().connectionLost(reason)


def listenTCP(
    reactor: Any, port: int, factory: Any, backlog: int, interface: str
) -> PatientPort:
    """
    As C{reactor.listenTCP}.

    @raise CannotListenError: likewise.
    """
    listening = PatientPort(port, factory, backlog, interface, reactor)
    listening.startListening()
    return listening
