"""
What TCP must be told so that requests and responses do not wait for its
timers: Nagle's algorithm on one side and delayed acknowledgements on the other
hold each response up for 40 ms.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import ITCPTransport


def sendWithoutDelay(transport: Any) -> None:
    """Set TCP_NODELAY, where the transport is a TCP connection."""
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)


def quickAcknowledger(transport: Any) -> Callable[[], None] | None:
    """
    A function that has what was read acknowledged now: a peer with Nagle's
    algorithm on sends the rest of its message only then. It is to be called
    after each read, for the system does not keep the option.

    @return: C{None} where the platform or the transport has no such thing.
    """
    option = getattr(socket, "TCP_QUICKACK", None)
    getHandle = getattr(transport, "getHandle", None)
    if option is None or getHandle is None:
        return None
    connection = getHandle()
    if not isinstance(connection, socket.socket):
        return None
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None

    def acknowledge() -> None:
        # Where the peer is gone, or the system refuses, it is merely slower.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, 1)

    return acknowledge
