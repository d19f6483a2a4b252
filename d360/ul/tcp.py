"""
What TCP must be told so that requests and responses do not wait for its
timers: Nagle's algorithm on one side and delayed acknowledgements on the other
hold each response up for 40 ms. And how buffers get to it without being joined.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper

#: Bytes that are read at once, where so many are there: a peer that is quicker
#: than we are sends several PDUs in the meantime.
READ = 256 * 1024


def _lowest(transport: Any) -> Any:
    """What is below TLS, if that is there."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def prepare(transport: Any) -> None:
    """
    Set TCP_NODELAY, and have much read at once, where the transport is a TCP
    connection, or TLS over one.
    """
    transport = _lowest(transport)
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)
    if isinstance(transport, Connection):
        transport.bufferSize = READ


def quickAcknowledger(transport: Any) -> Callable[[], None] | None:
    """
    A function that has what was read acknowledged now: a peer with Nagle's
    algorithm on sends the rest of its message only then. It is to be called
    after each read, for the system does not keep the option.

    @return: C{None} where the platform or the transport has no such thing.
    """
    option = getattr(socket, "TCP_QUICKACK", None)
    getHandle = getattr(_lowest(transport), "getHandle", None)
    if option is None or getHandle is None:
        return None
    connection = getHandle()
    if not isinstance(connection, socket.socket):
        return None
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None

    def acknowledge() -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, option, 1)
        except OSError:
            # The peer is gone, or the system refuses: it is merely slower.
            return

    return acknowledge


#: C{sendmsg} takes no more buffers at once (POSIX IOV_MAX on Linux).
_MAX_BUFFERS = 1024


def writeAll(transport: Any, buffers: Sequence[bytes | memoryview]) -> None:
    """
    Write buffers, in order and at once. What a TCP connection has room for goes
    straight from where it is; only the rest is copied, for it has to wait.

    @param buffers: may be used for something else afterwards.
    """
    sent = 0
    if (
        isinstance(transport, Connection)
        and not transport.TLS
        and transport.connected
        and not transport.disconnecting
        and len(buffers) <= _MAX_BUFFERS
        # Else there is something before it.
        and not transport.dataBuffer
        and not transport._tempDataLen
    ):
        # What is wrong with the connection is noticed by the write below.
        with suppress(OSError):
            sent = transport.getHandle().sendmsg(buffers)
    if not sent:
        transport.write(b"".join(buffers))
        return
    if sent == sum(map(len, buffers)):
        # Nearly always, and much sooner seen than by going through them.
        return
    for number, buffer in enumerate(buffers):
        if sent < len(buffer):
            rest = (memoryview(buffer)[sent:], *buffers[number + 1 :])
            transport.write(b"".join(rest))
            return
        sent -= len(buffer)
