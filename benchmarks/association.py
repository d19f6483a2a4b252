"""
A requestor of associations of our own, for what DCMTK's clients do not tell:
the time to a first match, that of one query among many, what many associations
cost. It does as little as can be, so that it measures the server.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BytesIO
from types import TracebackType

from attrs import field, frozen
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from benchmarks.servers import HOST, Server
from d360.dimse import commands
from d360.dimse.fragmentation import fragments
from d360.model import AssociationRequest, Command, ProposedContext
from d360.ul import pdus

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
_IMPLICIT = "1.2.840.10008.1.2"

_ACCEPTED, _DATA, _RELEASED = 2, 4, 6
_RELEASE = bytes.fromhex("05000000000400000000")
_ABORT = bytes.fromhex("07000000000400000000")
_HEADER = struct.Struct(">BxI")
_PDV = struct.Struct(">IBB")

#: Status (0000,0900), a value of two bytes.
_STATUS = bytes.fromhex("0000000902000000")
_SIZE = 65534


class Refused(Exception):
    """The server does not take the association; why."""


@lru_cache
def request(aeTitle: str, sopClass: str) -> bytes:
    """An A-ASSOCIATE-RQ to a title, for one SOP class."""
    context = ProposedContext(1, sopClass, (_IMPLICIT,))
    return bytes(
        pdus.encodeRequest(
            AssociationRequest("BENCHMARK", aeTitle, (context,), maxPDULength=_SIZE)
        )
    )


def encode(dataset: Dataset) -> bytes:
    """A data set in Implicit VR Little Endian."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, True
    write_dataset(file, dataset)
    return bytes(file.getvalue())


def decode(data: bytes) -> Dataset:
    """The inverse of L{encode}."""
    return read_dataset(BytesIO(data), is_implicit_VR=True, is_little_endian=True)


def messages(readPDU: Callable[[], tuple[int, bytes]]) -> Iterator[tuple[bool, bytes]]:
    """
    Command sets (C{True}) and data sets, whole, as they come.

    @param readPDU: gives the type of the next PDU, and what is behind its head.
    @raise ConnectionResetError: it is no P-DATA-TF: the association has ended.
    """
    held = b""
    while True:
        kind, data = readPDU()
        if kind != _DATA:
            raise ConnectionResetError(f"a PDU of type {kind}")
        place = 0
        while place < len(data):
            length, _, control = _PDV.unpack_from(data, place)
            held += data[place + 6 : place + 4 + length]
            place += 4 + length
            if control & 2:
                yield bool(control & 1), held
                held = b""


def statusOf(command: bytes) -> int:
    """The status of a response's command set."""
    place = command.index(_STATUS) + len(_STATUS)
    return int.from_bytes(command[place : place + 2], "little")


@frozen
class Answer:
    """
    The answer to a query.

    @ivar first: milliseconds to the first match; to the end, if there is none.
    @ivar all: milliseconds to the end.
    @ivar status: the last one.
    @ivar matches: the identifiers as they came.
    """

    first: float
    all: float
    status: int
    matches: list[bytes] = field(repr=False)


class Association:
    """
    One association, blocking, as the requestor.

    @param patience: seconds to wait for whatever the server has to say.
    @raise Refused: it is rejected, or nothing is answered.
    """

    def __init__(self, server: Server, sopClass: str, patience: float = 60.0) -> None:
        self._sopClass = sopClass
        self._size = _SIZE
        try:
            self.socket = socket.create_connection((HOST, server.port), patience)
        except OSError as error:
            raise Refused(f"no connection: {error}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.sendall(request(server.aeTitle, sopClass))
            kind, data = self._readPDU()
        except OSError as error:
            self.socket.close()
            raise Refused(str(error) or type(error).__name__) from None
        if kind != _ACCEPTED:
            self.socket.close()
            result, source, reason = data[1:4]
            raise Refused(
                f"rejected: result {result}, source {source}, reason {reason}"
            )
        self._context = 1

    def _readPDU(self) -> tuple[int, bytes]:
        kind, length = _HEADER.unpack(self._read(6))
        return kind, self._read(length)

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise ConnectionResetError("the server has closed the connection")
            data = data + piece if data else piece
        return data

    def _command(self, field: int, data: bytes = b"") -> bytes:
        command = Command(
            field,
            AffectedSOPClassUID=self._sopClass,
            MessageID=1,
            Priority=0 if data else None,
            CommandDataSetType=0x0001 if data else 0x0101,
        )
        pieces = list(fragments(1, True, commands.encode(command), 0))
        if data:
            pieces += fragments(1, False, data, 0)
        return b"".join(pieces)

    def echo(self) -> float:
        """C-ECHO; milliseconds."""
        start = time.perf_counter()
        self.socket.sendall(self._command(commands.C_ECHO_RQ))
        next(messages(self._readPDU))
        return (time.perf_counter() - start) * 1000

    def find(self, identifier: bytes) -> Answer:
        """C-FIND, of L{encode}d keys."""
        message = self._command(commands.C_FIND_RQ, identifier)
        first, matches, status = 0.0, [], 0
        start = time.perf_counter()
        self.socket.sendall(message)
        for isCommand, data in messages(self._readPDU):
            if not isCommand:
                first = first or time.perf_counter() - start
                matches.append(data)
                continue
            status = statusOf(data)
            if status not in (0xFF00, 0xFF01):
                break
        end = time.perf_counter() - start
        return Answer((first or end) * 1000, end * 1000, status, matches)

    def release(self) -> None:
        """In order."""
        self.socket.sendall(_RELEASE)
        self._readPDU()
        self.socket.close()

    def abort(self) -> None:
        """At once; the port is free again."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.socket.sendall(_ABORT)
        self.socket.close()

    def __enter__(self) -> Association:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.socket.close()
