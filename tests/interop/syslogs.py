"""Receivers of syslog, on a port that is free."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import (
    AF_INET,
    SHUT_RDWR,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.audit.reading import Read
from tests.interop.running import HOST, PATIENCE


class Receiver:
    """
    Takes messages in a thread.

    @ivar frames: the SYSLOG-MSGs that came.
    """

    kind = SOCK_STREAM

    def __init__(self, port: int = 0) -> None:
        self.frames: list[bytes] = []
        self._socket = socket(AF_INET, self.kind)
        self._socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        self._socket.bind((HOST, port))
        self._connections: list[Any] = []
        self.port = int(self._socket.getsockname()[1])
        if self.kind == SOCK_STREAM:
            self._socket.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection = self._wrap(self._socket.accept()[0])
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._read, args=[connection], daemon=True).start()

    def _wrap(self, connection: socket) -> Any:
        return connection

    def _read(self, connection: Any) -> None:
        """RFC 6587 3.4.1."""
        with connection, connection.makefile("rb") as file:
            try:
                while length := _length(file):
                    self.frames.append(file.read(length))
            except OSError:
                return

    def close(self) -> None:
        """It goes away, and its connections with it."""
        # Whoever waits in accept() or recv() does not notice a close().
        for one in (self._socket, *self._connections):
            with suppress(OSError):
                one.shutdown(SHUT_RDWR)
            one.close()

    def messages(self, kind: str, count: int) -> list[Read]:
        """Those of a kind, once there are so many."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = [
                one for one in map(_message, tuple(self.frames)) if one.kind == kind
            ]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(found)} of {count} messages {kind}")
            time.sleep(0.05)


def _length(file: Any) -> int:
    digits = b""
    while (byte := file.read(1)) not in (b" ", b""):
        digits += byte
    return int(digits or b"0")


def _message(frame: bytes) -> Read:
    head, mark, xml = frame.partition(b"\xef\xbb\xbf")
    fields = head.split(b" ")
    if [fields[3], *fields[5:]] != [b"D360", b"DICOM+RFC3881", b"-", b""] or not mark:
        raise AssertionError(f"no header of ours: {head!r}")
    return Read(xml)


class DatagramReceiver(Receiver):
    """UDP."""

    kind = SOCK_DGRAM

    def _run(self) -> None:
        while True:
            try:
                frame = self._socket.recv(65536)
            except OSError:
                return
            if not frame:
                return
            self.frames.append(frame)


class TLSReceiver(Receiver):
    """
    TLS, with a certificate of its own.

    @ivar certificate: its file.
    """

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "syslog.pem"
        key = _makeCertificate(self.certificate)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key)
        super().__init__()

    def _wrap(self, connection: socket) -> Any:
        return self._context.wrap_socket(connection, server_side=True)


def _makeCertificate(path: Path) -> Path:
    """Of this host; its key is in the file returned."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "syslog")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), False
        )
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    place = path.with_suffix(".key")
    place.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return place
