"""
Where connections come in that are served by another process: they are
accepted, and nothing is read from them.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import ServerFactory

from d360.listening import PatientPort


class ITaker(Protocol):
    """Who takes accepted connections."""

    def take(self, connection: socket.socket, peer: str, door: str) -> None:
        """
        It is the taker's from now on, which closes it in any case.

        @param peer: the address it comes from.
        @param door: see L{Doorway}.
        """


class _Accepted:
    """
    In the place of a transport: the socket alone. A transport of Twisted's
    would begin to read, and shut the connection down when it is closed.
    """

    def __init__(
        self,
        connection: socket.socket,
        protocol: Any,
        address: tuple[Any, ...],
        *others: Any,
    ) -> None:
        self.connection = connection
        self.peer = str(address[0])


class _HandingOver(TwistedProtocol):
    """Passes its connection on instead of speaking over it."""

    def __init__(self, taker: ITaker, door: str) -> None:
        self._taker = taker
        self._door = door

    def makeConnection(self, transport: Any) -> None:
        """See L{TwistedProtocol.makeConnection}."""
        self._taker.take(transport.connection, transport.peer, self._door)


class Doorway(ServerFactory):
    """
    Gives each connection to who takes them.

    @param door: tells this doorway from others: what a connection is served
        with depends on where it came in.
    """

    noisy = False

    def __init__(self, taker: ITaker, door: str) -> None:
        self._taker = taker
        self._door = door

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol:
        """See L{ServerFactory.buildProtocol}."""
        return _HandingOver(self._taker, self._door)


class DoorwayPort(PatientPort):
    """A port whose connections are not read from; its factory is L{Doorway}."""

    transport = _Accepted  # type: ignore[assignment]


def listen(
    reactor: Any, port: int, factory: Doorway, backlog: int, interface: str
) -> DoorwayPort:
    """
    As C{reactor.listenTCP}.

    @raise CannotListenError: likewise.
    """
    listening = DoorwayPort(port, factory, backlog, interface, reactor)
    listening.startListening()
    return listening
