"""
A whole association: the upper layer, DIMSE and the services of the server, over
stores in memory, a transport that keeps what is written, and a clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.dimse.association import Associations
from d360.errors import ConnectionClosed, PDUError
from d360.interfaces import IAssociation, IAssociationOpener
from d360.model import RemoteAE
from d360.services.admission import Admission
from d360.services.commitment import CommitmentService
from d360.services.committing import Commitments
from d360.services.find import FindService
from d360.services.recovery import Recovery
from d360.services.registry import ServiceRegistry
from d360.services.retrieve import GetService, MoveService
from d360.services.sending import Sender
from d360.services.storage import StorageService
from d360.services.verification import VerificationService
from d360.services.worklist import WorklistService
from d360.ul.factory import UpperLayerFactory
from d360.ul.framing import Framing
from d360.ul.settings import UpperLayerSettings
from tests.contracts.memorycommitments import MemoryCommitmentRequests
from tests.contracts.memoryfreespace import MemoryFreeSpace
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.memoryworklist import MemoryWorklist
from tests.contracts.transcoder import FakeTranscoder
from tests.faults.fuzzing.archive import filled
from tests.faults.fuzzing.conversations import conversations
from tests.faults.fuzzing.target import Target, check
from tests.ul.association import StrictTransport

_LOST = Failure(ConnectionLost())

#: The longest of all times that a peer may be silent.
_IDLE = 600.0
_ARTIM = 30.0


@implementer(IAssociationOpener)
class _Opener:
    """Nobody can be reached."""

    def open(self, *arguments: object, **more: object) -> Deferred[IAssociation]:
        return fail(ConnectionClosed("refused"))


class Conversation:
    """One association of a server of its own."""

    def __init__(self) -> None:
        self.clock = clock = Clock()
        stores = filled()
        self.archive, self.index = stores.archive, stores.index
        recovery = Recovery(self.archive, self.index, clock)
        sender = Sender(self.archive, self.index, FakeTranscoder(), clock)
        storage = StorageService(
            self.archive, self.index, recovery, clock, MemoryFreeSpace()
        )
        remoteAEs = MemoryRemoteAEs(RemoteAE("WS1", "192.0.2.1", 104))
        requests = MemoryCommitmentRequests(clock)
        commitments = Commitments(
            requests,
            self.archive,
            self.index,
            remoteAEs,
            _Opener(),
            clock,
            "D360PACS",
            maybeDeferred,
        )
        admission = Admission("D360PACS", False, 10, remoteAEs)
        services = ServiceRegistry(
            [
                VerificationService(),
                storage,
                FindService(self.index, "D360PACS"),
                WorklistService(MemoryWorklist()),
                GetService(self.index, sender, clock),
                MoveService(self.index, sender, clock, remoteAEs, _Opener()),
                CommitmentService(requests, commitments, maybeDeferred),
            ],
            admission,
        )
        self.associations = Associations(services, clock)
        self.factory = UpperLayerFactory(
            self.associations.build,
            admission,
            services,
            clock,
            UpperLayerSettings(16384, artim=_ARTIM, idleTimeout=_IDLE),
        )
        self.protocol = self.factory.buildProtocol(None)
        self.transport = StrictTransport()
        self.isLost = False
        self.protocol.makeConnection(self.transport)

    @property
    def isClosing(self) -> bool:
        """We have let go of the connection."""
        return self.transport.disconnecting or self.transport.disconnected

    def feed(self, pieces: Iterator[bytes]) -> None:
        """Until the connection is closed, as a reactor would."""
        for piece in pieces:
            # An aborted connection reads no more; one that is closed in order
            # does, until the peer has closed it.
            if self.transport.disconnected or self.transport.producerState != (
                "producing"
            ):
                return
            self.protocol.dataReceived(piece)

    def lose(self) -> None:
        """The connection goes."""
        if not self.isLost:
            self.isLost = True
            self.protocol.connectionLost(_LOST)

    def finish(self) -> None:
        """Nothing more comes; what is left must end by itself."""
        for _ in range(6):
            if self.isClosing:
                break
            self.clock.pump([_IDLE / 2 + 1] * 2)
        check(self.isClosing, "it neither ends nor goes on")
        self.lose()
        self.checkEnd()

    def checkEnd(self) -> None:
        """Nothing is left of it."""
        check(self.factory.connections == 0, "a connection is left")
        check(self.factory.live == 0, "an association is left")
        check(not self.associations.newest(10), "an association is open")
        # What the stores do of themselves ends within a moment.
        self.clock.pump([10] * 6)
        left = self.clock.getDelayedCalls()
        check(not left, f"a timer is left: {left}")
        check(all(reader.closed for reader in self.archive.readers), "a file is open")
        check(not self.archive.marks, "a mark is left")
        check(not self.archive.inUse, "a file is in use")

    def checkAnswers(self) -> None:
        """All that was sent is PDUs, from the first byte to the last."""
        framing = Framing(0)
        framing.feed(self.transport.value())
        try:
            while framing.next() is not None:
                pass
        except PDUError as error:
            raise AssertionError(f"we sent what is no PDU: {error}") from None
        check(framing._pduLeft == 0 and framing._wholeType == 0, "a PDU is not whole")


def _pieces(data: bytes, choice: random.Random) -> Iterator[bytes]:
    sizes = choice.choice(((1, 3, 7), (100, 1000), (1 << 20,)))
    place = 0
    while place < len(data):
        size = choice.choice(sizes)
        yield data[place : place + size]
        place += size


def converse(data: bytes) -> None:
    """
    The first byte chooses how the rest is cut, and whether the peer goes away
    after it.
    """
    if not data:
        return
    choice = random.Random(data[0])
    conversation = Conversation()
    conversation.feed(_pieces(data[1:], choice))
    if data[0] & 1:
        conversation.lose()
        conversation.checkEnd()
    else:
        conversation.finish()
    conversation.checkAnswers()


def _seeds() -> list[bytes]:
    return [
        bytes([number]) + conversation
        for conversation in conversations()
        for number in (0, 1, 2)
    ]


TARGETS = (Target("association", converse, _seeds, 12, collects=True),)
