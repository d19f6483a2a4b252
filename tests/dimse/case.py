"""An association with one service, over an upper layer that records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from d360.dimse import commands
from d360.dimse.association import Association
from d360.interfaces import IServiceClass
from d360.model import Command
from tests.dimse.upperlayer import (
    CT,
    FIND,
    VERIFICATION,
    RecordingUpperLayer,
    established,
    messages,
    pieces,
)


@implementer(IServiceClass)
class RecordingService:
    """Performs what a test puts into C{body}."""

    sopClasses = frozenset({VERIFICATION, CT, FIND})
    commandFields = frozenset(
        {commands.C_ECHO_RQ, commands.C_STORE_RQ, commands.C_FIND_RQ}
    )

    def __init__(self) -> None:
        self.operations: list[Any] = []
        self.body: Callable[[Any], Deferred[None]] = lambda operation: Deferred()

    def transferSyntaxesFor(self, sopClass):
        return frozenset()

    def grantsSCPRole(self, sopClass):
        return False

    def perform(self, operation):
        self.operations.append(operation)
        return self.body(operation)

    def serviceFor(self, abstractSyntax):
        return self


class RecordingConsumer:
    """A consumer of a data set."""

    def __init__(self) -> None:
        self.data = b""
        self.producer: Any = None
        self.producers = 0

    def registerProducer(self, producer, streaming):
        self.producer = producer
        self.producers += 1

    def unregisterProducer(self):
        self.producer = None

    def write(self, data):
        self.data += data


ECHO = Command(
    CommandField=commands.C_ECHO_RQ, AffectedSOPClassUID=VERIFICATION, MessageID=1
)
STORE = Command(
    CommandField=commands.C_STORE_RQ,
    AffectedSOPClassUID=CT,
    AffectedSOPInstanceUID="1.2.3",
    MessageID=2,
    Priority=0,
    CommandDataSetType=commands.DATA_SET,
)
FIND_RQ = Command(
    CommandField=commands.C_FIND_RQ,
    AffectedSOPClassUID=FIND,
    MessageID=3,
    Priority=0,
    CommandDataSetType=commands.DATA_SET,
)
CANCEL = Command(commands.C_CANCEL_RQ, MessageIDBeingRespondedTo=3)


class AssociationTestCase(SynchronousTestCase):
    """An association over a recording upper layer, with one service."""

    peerMaxPDULength = 0

    def setUp(self) -> None:
        self.service = RecordingService()
        self.clock = Clock()
        self.upperLayer = RecordingUpperLayer()
        self.association = Association(self.service, self.clock)
        self.association.associationEstablished(
            self.upperLayer, established(self.peerMaxPDULength)
        )

    def receive(self, contextID: int, command: Command, size: int = 1 << 20) -> None:
        """A command set comes."""
        for piece in pieces(contextID, True, commands.encode(command), size):
            self.association.fragmentReceived(piece)

    def receiveData(self, contextID: int, data: bytes, size: int = 1 << 20) -> None:
        """A data set comes."""
        for piece in pieces(contextID, False, data, size):
            self.association.fragmentReceived(piece)

    def responses(self) -> list[Command]:
        """The command sets sent so far."""
        return [
            commands.decode(data)
            for _, isCommand, data in messages(self.upperLayer.written)
            if isCommand
        ]
