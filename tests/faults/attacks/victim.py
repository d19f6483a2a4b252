"""The server that is attacked, and what each attack needs of it."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import field, frozen
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.interop import wire
from tests.interop.running import RunningServer
from tests.interop.wire import (
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    STUDY_FIND,
    Peer,
    Proposal,
)
from tests.services.datasets import encode, instance

DEFLATED = "1.2.840.10008.1.2.1.99"
WORKLIST = "1.2.840.10008.5.1.4.31"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"

#: The contexts of every association here, in their order.
STORE, ECHOING, FIND, LIST, GET = 1, 3, 5, 7, 9
PROPOSALS = [
    (CT, [EXPLICIT]),
    (ECHO, [IMPLICIT]),
    (STUDY_FIND, [EXPLICIT]),
    (WORKLIST, [EXPLICIT]),
    (STUDY_GET, [EXPLICIT]),
]

#: MiB that an instance may have.
LONGEST = 16

#: What is there to be asked for: so many instances of so many bytes.
INSTANCES, PIXELS = 30, 500_000

#: Seconds that are configured for the server: those of its defaults are longer
#: than a test may take.
ARTIM, IDLE, REQUEST = 2, 3, 3

#: Seconds beyond those of a limit by which the server has kept it, on however slow
#: a machine.
GRACE = 30.0

CONFIGURATION = f"""
[dicom]
artim_timeout = {ARTIM}
idle_timeout = {IDLE}
min_rate = 100
# One host attacks in the place of many.
max_associations_per_host = 2000
max_instance_size = {LONGEST}
[web]
request_timeout = {REQUEST}
max_connections = 50
[transcoding]
workers = 1
timeout = 120
max_memory = 512
"""


class Wrong(Exception):
    """The server did what it should not; what."""


@frozen
class Victim:
    """
    @ivar scale: how much of everything: 1 for a test, more for the long form.
    @ivar study: UID of one with L{INSTANCES}.
    """

    server: RunningServer
    scale: int
    study: str = field(factory=generate_uid)

    def open(
        self, isNarrow: bool = False, proposals: Sequence[Proposal] = PROPOSALS
    ) -> Peer:
        """An association, in which instances may be sent to us, too."""
        peer = Peer(self.server, isNarrow)
        peer.associate(proposals, user=wire.role(CT, 1, 1))
        return peer

    def prepare(self) -> None:
        """Have the study in the archive, and whatever starts late started."""
        with self.open() as peer:
            for number in range(INSTANCES):
                dataset = fresh(
                    StudyInstanceUID=self.study,
                    SeriesInstanceUID=f"{self.study[:60]}.1",
                    InstanceNumber=number,
                    PixelData=bytes(PIXELS),
                )
                store(peer, encode(dataset), dataset.SOPInstanceUID)
            peer.release()
        self._openConnections()

    def _openConnections(self) -> None:
        """As many to the database as there may be."""
        peers = [self.open() for _ in range(30)]
        for _ in range(3):
            for peer in peers:
                peer.send(asking(FIND, STUDY_FIND, self.images()))
            for peer in peers:
                while peer.response().status in (0xFF00, 0xFF01):
                    continue
        for peer in peers:
            peer.release()
            peer.socket.close()

    def images(self) -> bytes:
        """An identifier that asks for all of the study's images, or is for them."""
        return encode(keys("IMAGE", StudyInstanceUID=self.study, SOPInstanceUID=""))

    def connect(self) -> socket.socket:
        """A connection to the web port."""
        host, _, port = self.server.web.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), 20)


def keys(level: str, **values: object) -> Dataset:
    """An identifier."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def store(peer: Peer, data: bytes, uid: str, contextID: int = STORE) -> int:
    """C-STORE; the status."""
    peer.send(wire.store(contextID, 1, CT, uid, data))
    return peer.response().status


def fresh(**elements: object) -> Dataset:
    """An instance that the server has not seen."""
    study = generate_uid()
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study[:60]}.1"}
    return instance(**{**uids, "SOPInstanceUID": generate_uid(), **elements})


def ended(connection: socket.socket, within: float) -> float | None:
    """
    Read until the server ends a connection.

    @return: the seconds it took; C{None} if it does not end in that time.
    """
    start = time.monotonic()
    while (left := start + within - time.monotonic()) > 0:
        if select.select([connection], [], [], left)[0]:
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            if not data:
                return time.monotonic() - start
    return None


def isEnded(connection: socket.socket) -> bool:
    """Whether the server has ended it by now."""
    return ended(connection, 0.001) is not None


def push(
    connection: socket.socket, more: Callable[[], bytes], seconds: float
) -> tuple[int, bool]:
    """
    Send without an end, and read nothing.

    @param more: gives the next bytes.
    @return: bytes that were taken, and whether the server ended it.
    """
    connection.settimeout(0.2)
    deadline = time.monotonic() + seconds
    sent, data = 0, memoryview(b"")
    while time.monotonic() < deadline:
        data = data or memoryview(more())
        try:
            count = connection.send(data)
        except TimeoutError:
            continue
        except OSError:
            return sent, True
        sent += count
        data = data[count:]
    return sent, False


def flood(
    connection: socket.socket, more: Callable[[], bytes], seconds: float
) -> tuple[int, bool]:
    """As L{push}, but what the server answers is read."""
    connection.setblocking(False)
    deadline = time.monotonic() + seconds
    sent, data = 0, memoryview(b"")
    while time.monotonic() < deadline:
        data = data or memoryview(more())
        readable, writable, _ = select.select([connection], [connection], [], 0.2)
        try:
            if readable and not connection.recv(65536):
                return sent, True
            if writable:
                count = connection.send(data)
                sent += count
                data = data[count:]
        except BlockingIOError:
            continue
        except OSError:
            return sent, True
    return sent, False


def atOnce(attack: Callable[[str], None], cases: Iterable[str]) -> None:
    """All of several cases at the same time."""
    with ThreadPoolExecutor(20) as pool:
        for _ in pool.map(attack, cases):
            continue


def reset(connection: socket.socket) -> None:
    """Close it with a RST: the harshest way."""
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def storeCommand(contextID: int, uid: str) -> bytes:
    """The command set of a C-STORE, whose data set is to follow."""
    command = {2: CT, 0x100: 1, 0x110: 1, 0x700: 0, 0x800: 1, 0x1000: uid}
    return wire.message(contextID, wire.commandSet(command))


def asking(
    contextID: int, sopClass: str, identifier: bytes | None, field: int = 0x20
) -> bytes:
    """
    A C-FIND, or a C-GET, by its Command Field.

    @param identifier: C{None} if it is to follow.
    """
    command: dict[int, int | str] = {2: sopClass, 0x100: field, 0x110: 1}
    return wire.message(
        contextID, wire.commandSet({**command, 0x700: 0, 0x800: 1}), identifier
    )


def scratch(victim: Victim, name: str) -> Path:
    """A folder for files of an attack."""
    folder = victim.server.folder / "attacks" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
