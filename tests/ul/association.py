"""What the tests of the upper layer share: literal PDUs and a service user."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from d360.interfaces import IAdmission, ISupportedSyntaxes, IUpperLayerUser
from d360.model import (
    ALL_PERMISSIONS,
    AssociationRequest,
    Permission,
    ProposedContext,
)
from d360.ul.factory import UpperLayerFactory
from d360.ul.settings import UpperLayerSettings

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

#: From ECHOSCU to D360PACS, verification in implicit VR little endian.
REQUEST = bytes.fromhex(
    "0100 000000CD 0001 0000"
    "4433363050414353 2020202020202020"
    "4543484F53435520 2020202020202020"
    + "00"
    * 32
    + "10000015 312E322E3834302E31303030382E332E312E312E31"
    "2000002E 01000000"
    "30000011 312E322E3834302E31303030382E312E31"
    "40000011 312E322E3834302E31303030382E312E32"
    "5000003A 51000004 00004000"
    "5200001B 312E322E3237362E302E373233303031302E332E302E332E362E37"
    "5500000F 4F464649535F44434D544B5F333637"
)
RELEASE_RQ = bytes.fromhex("05000000000400000000")
RELEASE_RP = bytes.fromhex("06000000000400000000")
USER_ABORT = bytes.fromhex("07000000000400000000")
#: One PDV: context 1, the last of a command, four bytes.
COMMAND = bytes.fromhex("04000000000A 00000006 01 03 DEADBEEF")

PROPOSAL = AssociationRequest(
    "D360PACS", "STORE", (ProposedContext(1, VERIFICATION, (IMPLICIT,)),)
)


def providerAbort(reason: int) -> bytes:
    return bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, reason])


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@implementer(IUpperLayerUser)
class User:
    """Notes what it is told; C{reply} is called for each indication."""

    def __init__(self):
        self.told = []
        self.fragments = []
        self.endings = []
        self.upperLayer = None
        self.established = None
        self.reply = lambda what: None

    def associationEstablished(self, upperLayer, established):
        self.told.append("established")
        self.upperLayer = upperLayer
        self.established = established
        self.reply("established")

    def fragmentReceived(self, fragment):
        self.told.append("fragment")
        self.fragments.append(fragment)
        self.reply("fragment")

    def releaseIndicated(self):
        self.told.append("release")
        self.reply("release")

    def associationEnded(self, reason):
        self.told.append("ended")
        self.endings.append(reason)
        self.reply("ended")


@implementer(IAdmission)
class Admission:
    """Admits, or does as it is told."""

    def __init__(self):
        self.answer = None
        self.asked = []

    def admit(self, request, live):
        self.asked.append((request, live))
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Deferred):
            return self.answer
        return succeed(ALL_PERMISSIONS)


@implementer(ISupportedSyntaxes)
class Supported:
    def transferSyntaxesFor(self, abstractSyntax):
        return {
            VERIFICATION: frozenset({IMPLICIT}),
            CT: frozenset({IMPLICIT, EXPLICIT}),
        }.get(abstractSyntax)

    def grantsSCURole(self, abstractSyntax, permissions):
        return abstractSyntax != CT or Permission.STORE in permissions

    def grantsSCPRole(self, abstractSyntax, permissions):
        return abstractSyntax == CT and Permission.RETRIEVE in permissions


class StrictTransport(StringTransport):
    """
    Takes what a TCP connection of Twisted takes: bytes, and no memoryview,
    which a StringTransport joins without a word.
    """

    def writeSequence(self, data):
        for piece in data:
            if type(piece) is not bytes:
                raise TypeError("Data must be bytes")
        super().writeSequence(data)


class AcceptorSide:
    """An acceptor on a StringTransport."""

    def __init__(self, **settings):
        self.clock = Clock()
        self.users = []
        self.admission = Admission()
        self.factory = UpperLayerFactory(
            self.buildUser,
            self.admission,
            Supported(),
            self.clock,
            UpperLayerSettings(**settings),
        )
        self.reply = lambda what: None

    def buildUser(self):
        user = User()
        user.reply = self.reply
        self.users.append(user)
        return user

    def connect(self):
        protocol = self.factory.buildProtocol(None)
        transport = StrictTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def establish(self):
        protocol, transport = self.connect()
        protocol.dataReceived(REQUEST)
        transport.clear()
        return protocol, transport, self.users[-1]
