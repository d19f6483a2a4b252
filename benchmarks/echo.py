"""How long a C-ECHO takes, over one association, while others are at work."""

from __future__ import annotations

import socket
import statistics
import time
from typing import Any

from benchmarks.servers import HOST, Server
from d360.dimse import commands
from d360.dimse.fragmentation import fragments
from d360.model import AssociationRequest, Command, ProposedContext
from d360.ul import pdus

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"


def _readPDU(connection: socket.socket) -> bytes:
    data = b""
    length = 6
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError("the server has closed the connection")
        data += piece
        if len(data) == 6:
            length = 6 + int.from_bytes(data[2:6], "big")
    return data


def measureEcho(server: Server, seconds: float) -> dict[str, Any]:
    """C-ECHO again and again for so many seconds; milliseconds."""
    request = AssociationRequest(
        "ECHO", server.aeTitle, (ProposedContext(1, VERIFICATION, (IMPLICIT,)),)
    )
    command = Command(commands.C_ECHO_RQ, AffectedSOPClassUID=VERIFICATION, MessageID=1)
    echo = b"".join(fragments(1, True, commands.encode(command), 0))
    times = []
    with socket.create_connection((HOST, server.port), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(pdus.encodeRequest(request))
        _readPDU(connection)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.perf_counter()
            connection.sendall(echo)
            _readPDU(connection)
            times.append((time.perf_counter() - start) * 1000)
            time.sleep(0.01)
    times.sort()
    return {
        "echoes": len(times),
        "milliseconds": statistics.median(times),
        "p99 milliseconds": times[len(times) * 99 // 100],
        "longest milliseconds": times[-1],
    }
