"""
One host that takes what it can get keeps nobody else out. In each test it is
another one, and has an address of loopback to itself.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import re
import shutil
import socket
import struct
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop import wire
from tests.interop.running import HOST, PATIENCE, RunningServer
from tests.interop.tls import TLSServer
from tests.interop.wire import ECHO, IMPLICIT, REJECT, Peer

#: One host may have two associations and so 66 connections, and 6 of the web.
OPTIONS = """
[dicom]
max_associations = 200
max_associations_per_host = 2
artim_timeout = 300
[web]
max_connections = 8
"""

_PROPOSALS = [(ECHO, [IMPLICIT])]

#: Hosts of which nothing is open.
_hosts = (f"127.0.0.{number}" for number in itertools.count(2))


@cache
def _server(workers: int) -> RunningServer:
    """One for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="d360-crowding-"))
    atexit.register(shutil.rmtree, folder, True)
    path = folder / "crowding.toml"
    path.write_text(OPTIONS)
    server = RunningServer(folder, f"--config={path}", workers=workers)
    server.start()
    atexit.register(server.stop)
    return server


class CrowdingTests(SynchronousTestCase):
    """All is done in one process."""

    workers = 1

    def setUp(self) -> None:
        self.server = _server(self.workers)
        self.crowd = next(_hosts)

    def open(self) -> Peer:
        """A connection, closed when the test is over."""
        peer = Peer(self.server, host=self.crowd)
        self.addCleanup(peer.socket.close)
        return peer

    def requested(self) -> Peer | None:
        """An association; C{None} if it is rejected for the limit."""
        peer = self.open()
        peer.send(wire.request(_PROPOSALS))
        kind, body = peer.receive()
        if kind == REJECT:
            self.assertEqual(struct.unpack(">xBBB", body), (2, 3, 2))
            peer.socket.close()
            return None
        return peer

    def metric(self, line: str) -> float:
        """The number behind it."""
        with urllib.request.urlopen(self.server.web + "/metrics") as response:
            text = response.read().decode()
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def test_associations(self) -> None:
        """Its third is rejected until one has ended; others are served."""
        first, second = self.requested(), self.requested()
        assert first is not None and second is not None
        for _ in range(3):
            self.assertIsNone(self.requested())
            self.assertEqual(self.server.client("echoscu").status, 0)
        for peer in (first, second):
            peer.release()
            peer.socket.close()
            self.eventually()
            self.assertIsNone(self.requested())
        self.assertEqual(self.server.client("echoscu").status, 0)
        rejected = 'd360_associations_rejected_total{reason="local limit exceeded"}'
        self.assertGreaterEqual(self.metric(rejected), 5)
        self.server.waitFor(re.compile(r"max_associations_per_host = 2 open"))

    def eventually(self) -> None:
        """That one has ended may take a moment to be known."""
        deadline = time.monotonic() + PATIENCE
        while self.requested() is None:
            self.assertLess(time.monotonic(), deadline)

    def test_vanishing(self) -> None:
        """However its connections end, none of them counts for ever."""
        request = wire.request(_PROPOSALS)
        abort, release = wire.pdu(wire.ABORT, bytes(4)), wire.RELEASE
        for said in (b"", request[:50], request, request + abort, request + release):
            for isHarsh in (False, True):
                for waits in (False, True):
                    for _ in range(6):
                        self.vanish(said, isHarsh, waits)
        self.eventually()
        self.eventually()
        self.assertIsNone(self.requested())

    def vanish(self, said: bytes, isHarsh: bool, waits: bool) -> None:
        """
        Say something, and go.

        @param isHarsh: with a RST.
        @param waits: for the first answer to a request.
        """
        peer = self.open()
        if isHarsh:
            reset = struct.pack("ii", 1, 0)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        with contextlib.suppress(OSError, EOFError):
            peer.send(said)
            if waits and len(said) > 100:
                peer.receive()
        peer.socket.close()

    def test_connections(self) -> None:
        """It gets so many and no more, and what it has keeps nobody out."""
        before = self.metric("d360_connections_refused_total")
        connections = [self.open().socket for _ in range(100)]
        for connection in connections:
            connection.settimeout(0)
        deadline = time.monotonic() + PATIENCE
        while (closed := sum(map(self.isClosed, connections))) < 34:
            self.assertLess(time.monotonic(), deadline, closed)
            time.sleep(0.05)
        self.assertEqual(closed, 34)
        self.assertEqual(self.server.client("echoscu").status, 0)
        self.assertEqual(self.metric("d360_connections_refused_total") - before, 34)
        self.server.waitFor(
            re.compile(rf"from {self.crowd} closed: its host has 66 open")
        )

    def isClosed(self, connection: socket.socket) -> bool:
        """By the server."""
        try:
            return connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def test_web(self) -> None:
        """The administrator gets in, whatever one host has of the web port."""
        port = int(self.server.web.rpartition(":")[2])
        for _ in range(8):
            connection = socket.create_connection(
                (HOST, port), source_address=(self.crowd, 0)
            )
            self.addCleanup(connection.close)
        status: Any = self.server.get("/api/status")
        self.assertEqual(status["ae_title"], "D360PACS")


class WorkersTests(CrowdingTests):
    """Two processes serve them, and the limit is for both together."""

    workers = 2


class SecureTests(SynchronousTestCase):
    """Over TLS it is the same host."""

    def test_rejected(self) -> None:
        """Those beyond are told so, whichever port the others came in by."""
        for workers in (1, 2):
            server = TLSServer(
                Path(self.mktemp()).absolute(), "", OPTIONS, workers=workers
            )
            self.addCleanup(server.stop)
            server.start()
            peers = [Peer(server) for _ in range(2)]
            for peer in peers:
                self.addCleanup(peer.socket.close)
                peer.associate(_PROPOSALS)
            answer = server.secureClient("echoscu")
            self.assertIn("Local Limit Exceeded", answer.output)
            peers[0].release()
            peers[0].socket.close()
            deadline = time.monotonic() + PATIENCE
            while server.secureClient("echoscu").status:
                self.assertLess(time.monotonic(), deadline)
