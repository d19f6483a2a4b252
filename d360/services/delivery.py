"""
How the instances of a C-MOVE or C-GET get to their receiver: one after the
other over one association, or over several at once.
"""

from __future__ import annotations

from collections import deque

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import (
    AssociationEnded,
    AssociationRejected,
    D360Error,
)
from d360.interfaces import IAssociation, IAssociationOpener, IDatasetReader
from d360.model import Command, PresentationContext, RemoteAE, StoredInstance
from d360.services.sending import Contexts, Sender, Share, store
from d360.services.suboperations import Progress

#: So many data sets are opened before it is their turn, on each association,
#: while there is a disk to wait for.
AHEAD = 3

#: Seconds that a receiver may take to release; it has everything by then.
RELEASE_TIMEOUT = 5.0


@frozen
class _Coming:
    """An instance whose data set is being opened, while another is sent."""

    instance: StoredInstance
    context: PresentationContext
    opening: Deferred[IDatasetReader]

    @property
    def isOpen(self) -> bool:
        """It need not be waited for. A Deferred that waits for another is paused."""
        return self.opening.called and not self.opening.paused

    def giveUp(self) -> None:
        """Nobody wants to read it."""
        self.opening.addCallbacks(lambda dataset: dataset.close(), lambda _: None)
        self.opening.cancel()


class _Broken(AssociationEnded):
    """It was for us to abort it: a data set could not be read to its end."""


@implementer(IDatasetReader)
class _Watched:
    """
    A data set that knows whether its message has begun: more of it is asked for
    only to follow what was read before.
    """

    def __init__(self, dataset: IDatasetReader) -> None:
        self.size = dataset.size
        self._reads = 0
        self._dataset = dataset

    @property
    def isBegun(self) -> bool:
        return self._reads > 1

    def read(self, count: int) -> Deferred[bytes | memoryview]:
        self._reads += 1
        return self._dataset.read(count)

    def close(self) -> None:
        self._dataset.close()


class Lane:
    """
    Sends instances over one association, one after the other.

    @param waiting: those to send; other lanes may take from it too.
    @param command: what every C-STORE-RQ has in common.
    """

    def __init__(
        self,
        association: IAssociation,
        sender: Sender,
        waiting: deque[StoredInstance],
        progress: Progress,
        command: Command,
    ) -> None:
        self._association = association
        self._contexts = Contexts(association.established, sender.transcoder)
        self._sender = sender
        # By now, the index has all of them.
        self._since = sender.seconds()
        self._waiting = waiting
        self._ahead: deque[_Coming] = deque()
        # What the requestor was not told of yet.
        self._answered: tuple[StoredInstance, int] | None = None
        self._untaken: list[StoredInstance] = []
        self._progress = progress
        self._command = command

    @asynchronous
    async def run(self) -> None:
        """
        Send until there are no more, or none is wanted.

        @raise AssociationEnded: what was not sent is still waiting.
        """
        try:
            while self._progress.isWanted:
                if not self._ahead:
                    self._lookAhead()
                if not self._ahead:
                    return
                await self._sendNext(self._ahead.popleft())
        except CancelledError:
            return
        finally:
            for coming in reversed(self._ahead):
                coming.giveUp()
                self._waiting.appendleft(coming.instance)
            self._ahead.clear()
            await self._report()

    def _lookAhead(self) -> None:
        while self._waiting and len(self._ahead) < AHEAD:
            instance = self._waiting.popleft()
            context = self._contexts.choose(instance)
            if context is None:
                self._untaken.append(instance)
            else:
                opening = self._sender.open(instance, context, self._since)
                coming = _Coming(instance, context, opening)
                self._ahead.append(coming)
                if coming.isOpen:
                    # What is in memory is not waited for, and further ones
                    # would only take the place of this one in the cache.
                    return

    async def _sendNext(self, coming: _Coming) -> None:
        progress, instance = self._progress, coming.instance
        opening = coming.opening
        if not coming.isOpen:
            await self._report()
            opening = progress.whileWanted(opening)
        try:
            dataset = _Watched(await opening)
        except D360Error as error:
            await progress.failed([instance], str(error))
            return
        # What comes next waits for the receiver, so that it begins at once;
        # all else is done while the receiver is busy.
        storing = store(
            self._association, coming.context, instance, dataset, self._command
        )
        self._lookAhead()
        await self._report()
        try:
            self._answered = instance, await storing
        except AssociationEnded as error:
            await progress.failed([instance], str(error))
            raise
        except D360Error as error:
            await progress.failed([instance], str(error))
            if dataset.isBegun:
                raise _Broken("it had to be aborted") from error

    async def _report(self) -> None:
        """Tell the requestor what became of the one before, and of the untaken."""
        answered, self._answered = self._answered, None
        if answered is not None:
            await self._progress.answered(*answered)
        if self._untaken:
            untaken, self._untaken = self._untaken, []
            await self._progress.failed(
                untaken, "the receiver does not take its SOP class or transfer syntax"
            )


@frozen
class Delivery:
    """
    To a remote AE, over associations that we open.

    @ivar parallel: how many of them at once, at most. Further ones than the
        first are only tried: many receivers take one at a time.
    """

    remote: RemoteAE
    opener: IAssociationOpener
    sender: Sender
    progress: Progress
    command: Command
    parallel: int
    clock: IReactorTime

    @asynchronous
    async def deliver(self, share: Share) -> None:
        """Send a share; what cannot be sent has failed."""
        waiting = share.instances
        goesOn = True
        while goesOn and waiting and self.progress.isWanted:
            try:
                first = await self.progress.whileWanted(self._open(share))
            except CancelledError:
                return
            except (AssociationRejected, AssociationEnded) as error:
                if self.progress.isWanted:
                    await self._fail(waiting, str(error))
                return
            further = [
                self._open(share) for _ in range(min(self.parallel, len(waiting)) - 1)
            ]
            lanes = [self._sendWhenOpen(opening, waiting) for opening in further]
            goesOn = await self._send(first, waiting)
            for opening in further:
                # Those that the receiver has not accepted by now come too late.
                opening.cancel()
            for lane in lanes:
                goesOn = await lane or goesOn
        if self.progress.isWanted:
            await self._fail(waiting, "the association has ended")

    def _open(self, share: Share) -> Deferred[IAssociation]:
        return self.opener.open(self.remote, share.contexts)

    @asynchronous
    async def _fail(self, instances: deque[StoredInstance], why: str) -> None:
        remote = self.remote
        where = f"{remote.title} at {remote.host}:{remote.port}"
        await self.progress.failed(instances, f"{where}: {why}")

    @asynchronous
    async def _sendWhenOpen(
        self, opening: Deferred[IAssociation], waiting: deque[StoredInstance]
    ) -> bool:
        try:
            association = await opening
        except (AssociationRejected, AssociationEnded, CancelledError):
            return False
        return await self._send(association, waiting)

    @asynchronous
    async def _send(
        self, association: IAssociation, waiting: deque[StoredInstance]
    ) -> bool:
        """
        @return: whether what is left is for another one: not where it was the
            receiver that has ended it.
        """
        lane = Lane(association, self.sender, waiting, self.progress, self.command)
        try:
            await lane.run()
            await association.release().addTimeout(RELEASE_TIMEOUT, self.clock)
        except AssociationEnded as error:
            # It was told with the instance that was under way.
            return isinstance(error, _Broken)
        except TimeoutError:
            association.abort("it was not released")
        except BaseException:
            association.abort("an error of ours")
            raise
        return True
