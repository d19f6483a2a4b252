"""
What the server and a worker say to each other: frozen values, each a frame of
JSON behind its length, over a pair of UNIX sockets that also carries the
descriptors of connections. Both ends are of one release, and trust each other.
"""

from __future__ import annotations

import json
from typing import Any, Union

from attrs import field, fields, frozen
from twisted.protocols.basic import Int32StringReceiver

#: Bytes of a frame at most; the longest are answers of a few ten thousand.
_LONGEST = 1 << 26


@frozen
class Begin:
    """
    To a worker, first of all: what it is.

    @ivar number: from 1 on; names its folders and its lines of the log.
    @ivar workers: how many there are.
    @ivar settings: the configuration by key, secrets included, as
        L{d360.config.load} takes it.
    @ivar database: where the database is.
    @ivar maxAssociations: this worker's share of them.
    @ivar firstAssociation: the number of its first one; the others follow in
        steps that leave room for those of the other processes.
    @ivar isAgain: it takes the place of one that died, and is to resolve what
        that has left behind.
    """

    number: int
    workers: int
    settings: dict[str, Any]
    database: str
    maxAssociations: int
    firstAssociation: int
    isAgain: bool


@frozen
class Ready:
    """
    From a worker: it takes connections.

    @ivar recovered: files that it found left behind, and resolved.
    """

    recovered: int


@frozen
class Tell:
    """
    To a worker: something that all of them have to know has changed, or is so
    from the beginning.

    @ivar what: by name.
    """

    what: str
    value: Any


@frozen
class Take:
    """
    To a worker: serve a connection, whose descriptor comes along.

    @ivar family: of its address, see L{socket.AddressFamily}.
    @ivar door: by which one it came in, see L{d360.workers.doorway.Doorway}.
    @ivar isTooMany: its host has as many associations as one may have.
    """

    family: int
    door: str
    isTooMany: bool = False


@frozen
class Report:
    """
    From a worker, soon after something has changed.

    @ivar taken: connections taken since its start.
    @ivar connections: those that are open.
    @ivar live: associations that are established.
    @ivar accepted: those established since its start.
    @ivar nextAssociation: the number of the next one.
    @ivar hosts: how many of the connections are open now of each host of which
        one has begun or ended since the last report.
    """

    taken: int
    connections: int
    live: int
    accepted: int
    nextAssociation: int
    hosts: dict[str, int] = field(factory=dict)


@frozen
class Ask:
    """
    To a worker: say what you have counted.

    @ivar serial: comes back with the answer.
    @ivar what: which question, by name.
    """

    serial: int
    what: str


@frozen
class Answer:
    """From a worker, to L{Ask}."""

    serial: int
    value: Any


@frozen
class Noted:
    """
    From a worker: a warning or an error of its log.

    @ivar time: seconds since the epoch.
    """

    time: float
    level: str
    text: str


@frozen
class Stop:
    """To a worker: let what is under way end, and then end."""

    why: str


Message = Union[Begin, Ready, Tell, Take, Report, Ask, Answer, Noted, Stop]

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (Begin, Ready, Tell, Take, Report, Ask, Answer, Noted, Stop)
}


#: What each kind has, in the order of its arguments.
_NAMES = {
    kind: tuple(attribute.name for attribute in fields(kind))
    for kind in _KINDS.values()
}


def encode(message: Message) -> bytes:
    """As a frame has it, without the length."""
    # Some are sent for each association: C{attrs.asdict} takes five times as
    # long.
    kind = type(message)
    values = [getattr(message, name) for name in _NAMES[kind]]
    return json.dumps([kind.__name__, *values]).encode()


def decode(frame: bytes) -> Message:
    """The inverse of L{encode}."""
    name, *values = json.loads(frame)
    return _KINDS[name](*values)


class Wire(Int32StringReceiver):
    """One end; a subclass takes what arrives."""

    MAX_LENGTH = _LONGEST
    noisy = False

    def send(self, message: Message) -> None:
        """Have the other end receive it; of no effect if that has gone."""
        self.sendString(encode(message))

    def stringReceived(self, string: bytes) -> None:
        """See L{Int32StringReceiver.stringReceived}."""
        self.received(decode(string))

    def received(self, message: Message) -> None:
        """The other end has sent it."""
        raise NotImplementedError
