"""
One request of ours, as the SCU of a service (PS3.7 chapter 9): its command
set and data set go out as the association takes them, its response comes back.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from d360.asynchronous import asynchronous
from d360.dimse import commands
from d360.dimse.fragmentation import fragments
from d360.errors import AssociationEnded
from d360.interfaces import IDatasetReader
from d360.model import Command, PresentationContext
from d360.ul.framing import maxPDVData

if TYPE_CHECKING:
    from d360.dimse.association import Association

#: Bytes of a data set that are handed to the connection at a time, about: it
#: mostly takes all of them at once.
CHUNK = 1024 * 1024

#: In so many fragments at most, for each of them is work, and a peer may want
#: them as small as it likes.
MAX_FRAGMENTS = 500

_US = Struct("<H")
#: The group length of a command set: its tag, 4, and what follows it.
_GROUP_LENGTH = Struct("<HHII")
#: Tag and length of the Affected SOP Instance UID.
_INSTANCE_UID = Struct("<HHI")


@lru_cache(maxsize=256)
def _storeParts(
    sopClass: str,
    priority: int | None,
    originator: str,
    originatorID: int | None,
) -> tuple[bytes, bytes, bytes]:
    """What all C-STORE-RQ of a retrieve have in common, see L{encodeStore}."""
    common = Command(
        commands.C_STORE_RQ,
        AffectedSOPClassUID=sopClass,
        MessageID=0,
        Priority=priority,
        CommandDataSetType=commands.DATA_SET,
    )
    data = commands.encode(common)[_GROUP_LENGTH.size :]
    whole = commands.encode(
        evolve(
            common,
            MoveOriginatorApplicationEntityTitle=originator,
            MoveOriginatorMessageID=originatorID,
        )
    )
    # Priority and Command Data Set Type, ten bytes each, follow the Message ID.
    at = len(data) - (10 if priority is None else 20)
    return data[: at - 2], data[at:], whole[_GROUP_LENGTH.size + len(data) :]


def encodeStore(command: Command, messageID: int) -> bytes:
    """
    The command set of a C-STORE-RQ (PS3.7 9.3.1.1) with a data set, as
    L{commands.encode} writes it. There is one for each instance of a retrieve,
    and they differ in two elements.
    """
    head, middle, tail = _storeParts(
        command.AffectedSOPClassUID,
        command.Priority,
        command.MoveOriginatorApplicationEntityTitle,
        command.MoveOriginatorMessageID,
    )
    uid = command.AffectedSOPInstanceUID.encode("ascii", "replace")
    if len(uid) % 2:
        uid += b"\0"
    length = len(head) + 2 + len(middle) + _INSTANCE_UID.size + len(uid) + len(tail)
    return b"".join(
        (
            _GROUP_LENGTH.pack(0, 0, 4, length),
            head,
            _US.pack(messageID),
            middle,
            _INSTANCE_UID.pack(0, 0x1000, len(uid)),
            uid,
            tail,
        )
    )


class Request:
    """
    A request on its way.

    @param messageID: names it on the association, see PS3.7 9.1.
    @ivar isSending: a part of its message is out, and a part is not.
    """

    def __init__(
        self,
        association: Association,
        context: PresentationContext,
        command: Command,
        messageID: int,
        dataset: IDatasetReader | None,
    ) -> None:
        self.messageID = messageID
        self.isSending = False
        self._association = association
        self._context = context
        self._command = command
        self._dataset = dataset
        self._lost: AssociationEnded | None = None
        self._answer: Deferred[Command] = Deferred()

    def perform(self) -> Deferred[Command]:
        """Send it and wait for its response, see L{IAssociation.request}."""
        try:
            return self._send()
        except Exception:
            return self._notSent(Failure())

    def _notSent(self, failure: Failure) -> Deferred[Command]:
        if self.isSending:
            # Nothing else may be sent before the rest of it.
            self._association.abort("a message cannot be sent to its end")
        # Nobody waits for the answer, which may be that there is none.
        self._answer.addErrback(lambda _: None)
        return fail(failure)

    @property
    def isAnswered(self) -> bool:
        """Its response has come, and there will be no other."""
        return self._answer.called

    def responseReceived(self, command: Command) -> None:
        """Its response came, perhaps before all of its data set was sent."""
        self._answer.callback(command)

    def lose(self, reason: AssociationEnded) -> None:
        """Its association is over."""
        self._lost = reason
        if not self._answer.called:
            self._answer.errback(reason)

    def _encode(self) -> bytes:
        command, dataset = self._command, self._dataset
        if command.CommandField == commands.C_STORE_RQ and dataset is not None:
            return encodeStore(command, self.messageID)
        hasDataset = commands.NO_DATA_SET if dataset is None else commands.DATA_SET
        command = evolve(
            command, MessageID=self.messageID, CommandDataSetType=hasDataset
        )
        return commands.encode(command)

    def _send(self) -> Deferred[Command]:
        association, dataset = self._association, self._dataset
        limit = association.established.peerMaxPDULength
        buffers = fragments(self._context.contextID, True, self._encode(), limit)
        if dataset is None:
            association.send(buffers)
            return self._answer
        size = maxPDVData(limit)
        chunk = min(CHUNK // size, MAX_FRAGMENTS) * size
        coming = dataset.read(chunk)
        if dataset.size > chunk:
            chunks = self._sendChunks(buffers, coming, dataset, chunk)
            return chunks.addErrback(self._notSent)
        # Thousands are sent like this, so that no coroutine is made for it.
        return coming.addCallbacks(self._sendAtOnce, self._notSent, (buffers,))

    def _sendAtOnce(
        self, data: bytes | memoryview, buffers: list[bytes | memoryview]
    ) -> Deferred[Command]:
        """The command set, and a data set that is a single chunk."""
        association, contextID = self._association, self._context.contextID
        limit = association.established.peerMaxPDULength
        buffers += fragments(contextID, False, data, limit)
        association.send(buffers)
        association.setBusy(False)
        association.requestSent()
        return self._answer

    @asynchronous
    async def _sendChunks(
        self,
        buffers: list[bytes | memoryview],
        coming: Deferred[bytes | memoryview],
        dataset: IDatasetReader,
        chunk: int,
    ) -> Command:
        association, contextID = self._association, self._context.contextID
        limit = association.established.peerMaxPDULength
        left = dataset.size
        # The next chunk is read while the connection is busy with this one.
        while True:
            data = await coming
            left -= len(data)
            if left:
                coming = dataset.read(chunk)
            buffers += fragments(contextID, False, data, limit, isEnd=not left)
            self.isSending = bool(left)
            association.send(buffers)
            # As long as the connection takes it, the peer is not silent.
            association.setBusy(False)
            buffers = []
            if not left:
                association.requestSent()
                return await self._answer
            if not association.writable:
                await association.whenWritable()
            if self._lost is not None:
                coming.addErrback(lambda _: None)
                raise self._lost
