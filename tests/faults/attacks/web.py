"""Programs that ask the web port what they should not, or not in time."""

from __future__ import annotations

import gzip
import json
import socket
import time
import urllib.error
import urllib.request
from urllib.parse import quote

from tests.faults.attacks.victim import (
    GRACE,
    REQUEST,
    Victim,
    Wrong,
    atOnce,
    ended,
    flood,
    isEnded,
)
from tests.interop.running import PATIENCE

#: What the victim is configured to have open at the same time.
_CONNECTIONS = 50


def slowRequests(victim: Victim) -> None:
    """Headers or a body that come byte by byte: a request has its time as a whole."""
    head = b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    posting = b"POST /api/worklist HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    sized = posting + b"Content-Length: 100000\r\n\r\n"
    chunked = posting + b"Transfer-Encoding: chunked\r\n\r\n"
    connections = []
    for first, more in (
        (b"", b"G"),
        (head, b"X"),
        (head, b"X: 1\r\n"),
        (sized, b" "),
        (chunked, b"1\r\n \r\n"),
    ):
        connection = victim.connect()
        connection.sendall(first)
        connections.append((connection, more))
    start = time.monotonic()
    while connections:
        for pair in tuple(connections):
            connection, more = pair
            try:
                connection.sendall(more)
                gone = ended(connection, 0.02) is not None
            except OSError:
                gone = True
            if gone:
                connection.close()
                connections.remove(pair)
        if connections and time.monotonic() - start > REQUEST + GRACE:
            raise Wrong(f"slow: {[more for _, more in connections]} are open")
        time.sleep(0.05)


def manyConnections(victim: Victim) -> None:
    """More connections than are allowed: those beyond are closed, not kept."""
    # Later, those that ask nothing are closed in any case.
    closed, deadline = 0, time.monotonic() + REQUEST - 0.3
    connections = [victim.connect() for _ in range(_CONNECTIONS + 20)]
    while closed < 20 and time.monotonic() < deadline:
        closed = sum(map(isEnded, connections))
    for each in connections:
        each.close()
    if closed < 20:
        raise Wrong(f"of {len(connections)} connections {closed} were closed")
    deadline = time.monotonic() + GRACE
    while True:
        try:
            victim.server.get("/api/status")
            return
        except OSError:
            # It may not have noticed yet that they have gone.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def endlessBodies(victim: Victim) -> None:
    """Without an end, and at full speed: a line, headers, a body in chunks."""
    head = b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    posting = b"POST /api/worklist HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    chunked = posting + b"Transfer-Encoding: chunked\r\n\r\n"
    cases = {
        "a line": (b"GET /", b"x" * 60000),
        "a header": (head + b"X: ", b"x" * 60000),
        "headers": (head, b"X: 1\r\n" * 10000),
        "chunks": (chunked, b"10000\r\n" + bytes(0x10000) + b"\r\n"),
        "a chunk's size": (chunked, b"0" * 9000),
        "a body": (posting + b"Content-Length: 99999999999\r\n\r\n", bytes(60000)),
    }

    def send(name: str) -> None:
        first, more = cases[name]
        with victim.connect() as connection:
            connection.sendall(first)
            _, isOver = flood(connection, lambda: more, REQUEST + GRACE)
        if not isOver:
            raise Wrong(f"{name} without an end goes on")

    atOnce(send, cases)


def neverReads(victim: Victim) -> None:
    """Requests one after the other whose answers nobody reads."""
    request = b"GET /api/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = victim.server.web.removeprefix("http://").partition(":")
        connection.connect((host, int(port)))
        connection.settimeout(0.2)
        start, sent = time.monotonic(), 0
        while time.monotonic() - start < 3 * REQUEST + GRACE:
            try:
                sent += connection.send(request * 100)
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            raise Wrong("answers that nobody reads are kept for ever")
        if sent > 16 << 20:
            raise Wrong(f"{sent} bytes of requests were taken")


def _call(
    victim: Victim,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> int:
    """The status of an answer, which is JSON in any case."""
    request = urllib.request.Request(
        victim.server.web + path, body, headers or {}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    if text:
        json.loads(text)
    return int(status)


#: Names as nobody has them.
BAD = (
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    "'; DROP TABLE instances; --",
    '" OR ""="',
    "%",
    "\0",
    "A\0B",
    "\x1b[2J",
    "\r\nX: 1",
    "A\\B",
    "\udcff",
    "é",
    "1" * 65,
    "1" * 7000,
    "$(touch /tmp/x)",
    "{0.__class__}",
)


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


def badNames(victim: Victim) -> None:
    """
    Paths, SQL, NUL and control characters as AE titles, UIDs, IDs and keys: what
    cannot be one is refused, and nothing else comes of it.
    """
    ae = json.dumps({"host": "127.0.0.1", "port": 11112}).encode()
    for bad in BAD:
        name = _quoted(bad)
        for method, path, body in (
            ("GET", f"/api/aes/{name}", None),
            ("PUT", f"/api/aes/{name}", ae),
            ("POST", f"/api/aes/{name}/echo", b""),
            ("DELETE", f"/api/aes/{name}", None),
            ("GET", f"/api/studies/{name}", None),
            ("DELETE", f"/api/studies/{name}", None),
            ("GET", f"/api/studies?PatientName={name}", None),
            ("GET", f"/api/studies?StudyInstanceUID={name}", None),
            ("GET", f"/api/studies?{name}=1", None),
            ("GET", f"/api/jobs/{name}", None),
            ("GET", f"/api/worklist/{name}", None),
            ("DELETE", f"/api/worklist/{name}", None),
            ("GET", f"/api/worklist?PatientName={name}", None),
            ("GET", f"/api/worklist?after={name}", None),
            ("GET", f"/{name}", None),
        ):
            status = _call(victim, method, path, body)
            if status >= 500:
                raise Wrong(f"{method} {path[:80]}: {status}")
        for field in ("host", "port", "x" + bad):
            told = {"host": "127.0.0.1", "port": 11112, field: bad}
            status = _call(victim, "PUT", "/api/aes/GOOD", json.dumps(told).encode())
            if status >= 500 or (status < 300 and field == "port"):
                raise Wrong(f"a remote AE with {field} {bad[:20]!r}: {status}")
        item = {
            "PatientName": bad,
            "PatientID": bad,
            "StudyInstanceUID": bad,
            "ScheduledProcedureStepSequence": [
                {
                    "Modality": "CT",
                    "ScheduledStationAETitle": bad,
                    "ScheduledProcedureStepStartDate": bad,
                }
            ],
        }
        status = _call(victim, "POST", "/api/worklist", json.dumps(item).encode())
        if not 400 <= status < 500:
            raise Wrong(f"a worklist item of {bad[:20]!r}: {status}")
    _call(victim, "DELETE", "/api/aes/GOOD")


def badBodies(victim: Victim) -> None:
    """What is no JSON, or JSON beyond all measure."""
    deep = b"[" * 500000
    for body in (
        b"\xff\xfe",
        b"{",
        deep,
        b'{"a":' * 100000,
        b'{"PatientName": ' + b"9" * 900000 + b"}",
        b'{"PatientName": 1e999999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\u0000"}',
        bytes(100),
        b"[" + b"{}," * 100000 + b"{}]",
        b"x" * 2000000,
    ):
        for method, path in (
            ("POST", "/api/worklist"),
            ("PUT", "/api/aes/A"),
            ("POST", "/api/reindex"),
        ):
            for kind in ("application/json", "application/dicom+json"):
                try:
                    status = _call(victim, method, path, body, {"Content-Type": kind})
                except OSError:
                    # Closed in the middle of a body that is too long.
                    continue
                if not 400 <= status < 500:
                    raise Wrong(f"{method} {path} {body[:20]!r}: {status}")
    bomb = gzip.compress(bytes(100 << 20))
    told = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    if not 400 <= _call(victim, "POST", "/api/worklist", bomb, told) < 500:
        raise Wrong("a compressed body was taken")
