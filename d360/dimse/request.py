"""
One request of ours, as the SCU of a service (PS3.7 chapter 9): its command
set and data set go out as the association takes them, its response comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import Deferred

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
        self._command = evolve(
            command,
            MessageID=messageID,
            CommandDataSetType=(
                commands.NO_DATA_SET if dataset is None else commands.DATA_SET
            ),
        )
        self._dataset = dataset
        self._lost: AssociationEnded | None = None
        self._answer: Deferred[Command] = Deferred()

    @asynchronous
    async def perform(self) -> Command:
        """Send it and wait for its response, see L{IAssociation.request}."""
        try:
            await self._send()
        except BaseException:
            if self.isSending:
                # Nothing else may be sent before the rest of it.
                self._association.abort("a message cannot be sent to its end")
            # Nobody waits for the answer, which may be that there is none.
            self._answer.addErrback(lambda _: None)
            raise
        return await self._answer

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

    @asynchronous
    async def _send(self) -> None:
        association, contextID = self._association, self._context.contextID
        limit = association.established.peerMaxPDULength
        buffers = fragments(contextID, True, commands.encode(self._command), limit)
        dataset = self._dataset
        if dataset is None:
            association.send(buffers)
            return
        size = maxPDVData(limit)
        chunk = min(CHUNK // size, MAX_FRAGMENTS) * size
        left = dataset.size
        # The next chunk is read while the connection is busy with this one.
        coming = dataset.read(chunk)
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
                return
            if not association.writable:
                await association.whenWritable()
            if self._lost is not None:
                coming.addErrback(lambda _: None)
                raise self._lost
