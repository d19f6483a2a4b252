"""
A peer that writes each byte itself: to send what no library would, and to see
the very bytes that come back. It shares no code with the server.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

from attrs import field, frozen

from tests.interop.running import HOST, PATIENCE, RunningServer

ECHO = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

ACCEPT, REJECT, DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7

#: Message control headers (PS3.8 Annex E).
COMMAND, LAST = 1, 2

_NO_DATA_SET = 0x0101

#: A context to propose: abstract syntax and transfer syntaxes. They get the
#: context IDs 1, 3, 5 ... in their order.
Proposal = tuple[str, Sequence[str]]

RELEASE = struct.pack(">BxI4x", RELEASE_RQ, 4)


def item(kind: int, value: bytes) -> bytes:
    """An item or sub-item (PS3.8 9.3.2)."""
    return struct.pack(">BxH", kind, len(value)) + value


def pdu(kind: int, body: bytes) -> bytes:
    """A whole PDU (PS3.8 9.3.1)."""
    return struct.pack(">BxI", kind, len(body)) + body


def proposal(contextID: int, abstract: str, transfers: Iterable[str]) -> bytes:
    """A presentation context item (PS3.8 9.3.2.2)."""
    syntaxes = b"".join(item(0x40, uid.encode()) for uid in transfers)
    head = bytes([contextID, 0, 0, 0])
    return item(0x20, head + item(0x30, abstract.encode()) + syntaxes)


def role(sopClass: str, scu: int, scp: int) -> bytes:
    """A role selection sub-item (PS3.7 D.3.3.4)."""
    uid = sopClass.encode()
    return item(0x54, struct.pack(">H", len(uid)) + uid + bytes([scu, scp]))


def request(
    proposals: Iterable[Proposal],
    called: str = "D360PACS",
    calling: str = "PEER",
    applicationContext: str = APPLICATION_CONTEXT,
    user: bytes = b"",
    maximum: int = 16384,
) -> bytes:
    """
    An A-ASSOCIATE-RQ (PS3.8 9.3.2).

    @param user: further sub-items of the user information.
    """
    contexts = b"".join(
        proposal(2 * number + 1, abstract, transfers)
        for number, (abstract, transfers) in enumerate(proposals)
    )
    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    information = item(0x51, struct.pack(">I", maximum)) + item(0x52, b"1.2.3") + user
    return pdu(
        1,
        struct.pack(">HH", 1, 0)
        + titles
        + bytes(32)
        + item(0x10, applicationContext.encode())
        + contexts
        + item(0x50, information),
    )


def pdv(contextID: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF with one PDV (PS3.8 9.3.5)."""
    return pdu(DATA, struct.pack(">IBB", len(data) + 2, contextID, control) + data)


def elements(values: dict[int, int | str]) -> bytes:
    """A command set without its group length (PS3.7 6.3.1)."""
    encoded = b""
    for number, value in sorted(values.items()):
        if isinstance(value, int):
            data = struct.pack("<H", value)
        else:
            data = value.encode() + bytes(len(value) % 2)
        encoded += struct.pack("<HHI", 0, number, len(data)) + data
    return encoded


def commandSet(values: dict[int, int | str]) -> bytes:
    """A command set, elements by their number (PS3.7 E.1)."""
    body = elements(values)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def message(contextID: int, command: bytes, data: bytes | None = None) -> bytes:
    """A DIMSE message, its data set in fragments (PS3.7 6.3)."""
    pieces = [pdv(contextID, COMMAND | LAST, command)]
    if data is not None:
        step = 16000
        for at in range(0, max(len(data), 1), step):
            last = LAST if at + step >= len(data) else 0
            pieces.append(pdv(contextID, last, data[at : at + step]))
    return b"".join(pieces)


def store(
    contextID: int, messageID: int, sopClass: str, instance: str, data: bytes
) -> bytes:
    """A C-STORE-RQ (PS3.7 9.3.1.1)."""
    command = {2: sopClass, 0x100: 1, 0x110: messageID, 0x700: 0, 0x800: 1}
    return message(contextID, commandSet({**command, 0x1000: instance}), data)


def find(contextID: int, messageID: int, sopClass: str, identifier: bytes) -> bytes:
    """A C-FIND-RQ (PS3.7 9.3.2.1)."""
    command = {2: sopClass, 0x100: 0x20, 0x110: messageID, 0x700: 0, 0x800: 1}
    return message(contextID, commandSet(command), identifier)


def cancel(contextID: int, messageID: int) -> bytes:
    """A C-CANCEL-RQ (PS3.7 9.3.2.3)."""
    return message(
        contextID, commandSet({0x100: 0xFFF, 0x120: messageID, 0x800: _NO_DATA_SET})
    )


def echo(contextID: int, messageID: int) -> bytes:
    """A C-ECHO-RQ (PS3.7 9.3.5.1)."""
    command = {2: ECHO, 0x100: 0x30, 0x110: messageID, 0x800: _NO_DATA_SET}
    return message(contextID, commandSet(command))


@frozen
class Accepted:
    """
    What an A-ASSOCIATE-AC says.

    @ivar results: result and transfer syntax by context ID.
    @ivar user: the values of the user information's sub-items, by type.
    """

    results: dict[int, tuple[int, str]] = field(factory=dict)
    user: dict[int, list[bytes]] = field(factory=dict)


@frozen
class Response:
    """A DIMSE response."""

    command: dict[int, bytes]
    data: bytes | None

    def number(self, element: int) -> int:
        """An element of VR US."""
        return int(struct.unpack("<H", self.command[element])[0])

    def text(self, element: int) -> str:
        """An element of text or a UID."""
        return self.command[element].decode("ascii").rstrip("\0 ")

    @property
    def status(self) -> int:
        """Status (0000,0900)."""
        return self.number(0x900)

    @property
    def messageID(self) -> int:
        """Message ID Being Responded To (0000,0120)."""
        return self.number(0x120)


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def readAcceptance(body: bytes) -> Accepted:
    """Decode the body of an A-ASSOCIATE-AC (PS3.8 9.3.3)."""
    accepted = Accepted()
    for kind, value in _walk(body[68:]):
        if kind == 0x21:
            syntaxes = [v.decode() for k, v in _walk(value[4:]) if k == 0x40]
            accepted.results[value[0]] = (value[2], "".join(syntaxes))
        elif kind == 0x50:
            for sub, content in _walk(value):
                accepted.user.setdefault(sub, []).append(content)
    return accepted


class Peer:
    """
    One connection to a server; closed at the end of C{with}.

    @param isNarrow: it has the system keep next to nothing of what was not
        read yet, so that the server notices.
    @param host: the address of loopback that it comes from; by default any.
    """

    def __init__(
        self, server: RunningServer, isNarrow: bool = False, host: str = ""
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isNarrow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        if host:
            self.socket.bind((host, 0))
        self.socket.connect((HOST, server.port))
        self._received = b""
        self._pdvs: list[tuple[int, int, bytes]] = []

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Write it all."""
        self.socket.sendall(data)

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._received += data
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def receive(self) -> tuple[int, bytes]:
        """
        Type and body of the next PDU.

        @raise EOFError: the connection was closed.
        """
        kind, length = struct.unpack(">BxI", self._take(6))
        return kind, self._take(length)

    def closed(self) -> bool:
        """Whether the server closes the connection, and sends nothing more."""
        try:
            self.receive()
        except EOFError:
            return True
        return False

    def associate(self, proposals: Iterable[Proposal], **options: str) -> Accepted:
        """Open an association that is accepted; see L{request}."""
        self.send(request(proposals, **options))  # type: ignore[arg-type]
        kind, body = self.receive()
        if kind != ACCEPT:
            raise RuntimeError(f"PDU of type {kind}: {body!r}")
        return readAcceptance(body)

    def _nextPDV(self) -> tuple[int, int, bytes]:
        while not self._pdvs:
            kind, body = self.receive()
            if kind != DATA:
                raise RuntimeError(f"PDU of type {kind}: {body!r}")
            at = 0
            while at < len(body):
                length, contextID, control = struct.unpack_from(">IBB", body, at)
                data = body[at + 6 : at + 4 + length]
                self._pdvs.append((contextID, control, data))
                at += 4 + length
        return self._pdvs.pop(0)

    def _assembled(self) -> bytes:
        data = b""
        while True:
            _, control, fragment = self._nextPDV()
            data += fragment
            if control & LAST:
                return data

    def response(self) -> Response:
        """The next DIMSE response, whole."""
        command, at = {}, 0
        data = self._assembled()
        while at < len(data):
            number, length = struct.unpack_from("<2xHI", data, at)
            command[number] = data[at + 8 : at + 8 + length]
            at += 8 + length
        response = Response(command, None)
        if response.number(0x800) == _NO_DATA_SET:
            return response
        return Response(command, self._assembled())

    def release(self) -> None:
        """End the association in order."""
        self.send(RELEASE)
        kind, _ = self.receive()
        if kind != RELEASE_RP:
            raise RuntimeError(f"PDU of type {kind} to an A-RELEASE-RQ")
