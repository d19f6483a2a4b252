"""
Associations that are opened without a network: remote AEs that answer as a
test tells them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, evolve, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import (
    ArchiveError,
    AssociationAborted,
    AssociationEnded,
    AssociationReleased,
)
from d360.interfaces import IAssociation, IAssociationOpener, IDatasetReader
from d360.model import (
    Command,
    EstablishedAssociation,
    PresentationContext,
    RemoteAE,
)

#: The most that is read of a data set at a time.
CHUNK = 65536

_RESPONSE = 0x8000


@frozen
class Received:
    """
    A request as it came in.

    @ivar data: the bytes of its data set; C{None} without one.
    """

    context: PresentationContext
    command: Command
    data: bytes | None


#: What a remote AE makes of a request: the status of its response, the whole
#: response, an error in its place, or a Deferred of one of these.
Answer = Callable[[Received], Any]

#: Which of the transfer syntaxes proposed for an abstract syntax it accepts.
Accept = Callable[[str, tuple[str, ...]], str | None]


@implementer(IAssociation)
class OpenedAssociation:
    """
    See L{IAssociation}.

    @ivar received: its requests, in their order.
    @ivar calls: everything else that was asked of it, in order.
    @ivar ended: how, C{None} while it is open.
    """

    def __init__(
        self,
        established: EstablishedAssociation,
        answer: Answer = lambda received: 0x0000,
    ) -> None:
        self.established = established
        self.log = Logger()
        self.received: list[Received] = []
        self.calls: list[Any] = []
        self.ended: AssociationEnded | None = None
        self._endWaiters: list[Deferred[None]] = []
        self._answer = answer
        self._waiting: Deferred[Any] | None = None
        self._busy = False

    @property
    def isOpen(self) -> bool:
        return self.ended is None

    @property
    def isIdle(self) -> bool:
        return self.isOpen and not self._busy

    @asynchronous
    async def request(
        self,
        context: PresentationContext,
        command: Command,
        dataset: IDatasetReader | None = None,
    ) -> Command:
        if self._busy:
            raise RuntimeError("a request of ours is under way")
        if self.ended is not None:
            raise self.ended
        if self.established.contexts.get(context.contextID) != context:
            raise RuntimeError(f"{context} was not accepted")
        self._busy = True
        try:
            return await self._request(context, command, dataset)
        finally:
            self._busy = False

    async def _request(
        self,
        context: PresentationContext,
        command: Command,
        dataset: IDatasetReader | None,
    ) -> Command:
        data = None if dataset is None else await self._read(dataset)
        received = Received(
            context,
            evolve(
                command,
                MessageID=len(self.received) + 1,
                CommandDataSetType=0x0101 if dataset is None else 0x0001,
            ),
            data,
        )
        self.received.append(received)
        waiting: Deferred[Any] = Deferred()
        self._waiting = waiting
        answer = self._answer(received)
        if isinstance(answer, Deferred):
            answer.addBoth(self._answered)
        else:
            self._answered(answer)
        answer = await waiting
        if isinstance(answer, Command):
            return answer
        return Command(
            command.CommandField | _RESPONSE,
            AffectedSOPClassUID=command.AffectedSOPClassUID,
            MessageIDBeingRespondedTo=received.command.MessageID,
            Status=answer,
        )

    def _answered(self, answer: Any) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if isinstance(answer, AssociationEnded):
            self.end(answer)
        if isinstance(answer, Exception):
            waiting.errback(answer)
        else:
            waiting.callback(answer)

    async def _read(self, dataset: IDatasetReader) -> bytes:
        data = b""
        while len(data) < dataset.size:
            try:
                chunk = await dataset.read(CHUNK)
            except ArchiveError:
                self.abort("the data set cannot be read")
                raise
            if self.ended is not None:
                raise self.ended
            if not chunk:
                raise RuntimeError(f"a data set of {dataset.size} has {len(data)}")
            data += chunk
        return data

    def release(self) -> Deferred[None]:
        self.calls.append("release")
        self.end(AssociationReleased("released"))
        return succeed(None)

    def abort(self, why: str) -> None:
        self.calls.append(("abort", why))
        self.end(AssociationAborted(0, 0, why))

    def whenEnded(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        if self.ended is not None:
            return succeed(None)
        self._endWaiters.append(waiter)
        return waiter

    def end(self, how: AssociationEnded) -> None:
        """It ends, by whomever; a second time makes no difference."""
        if self.ended is None:
            self.ended = how
            self._answered(how)
            for waiter in self._endWaiters:
                waiter.callback(None)


@implementer(IAssociationOpener)
@define(eq=False, slots=False)
class FakeOpener:
    """
    See L{IAssociationOpener}.

    @ivar answer: see L{Answer}; success by default.
    @ivar accept: see L{Accept}; the first one by default.
    @ivar refusal: raised instead of an association being opened.
    @ivar waiter: what opening waits for first, if anything.
    @ivar opened: with whom, and what was proposed.
    @ivar asSCP: of what we proposed to be the SCP.
    @ivar associations: those that were opened.
    """

    answer: Answer = lambda received: 0x0000
    accept: Accept = lambda abstractSyntax, transferSyntaxes: transferSyntaxes[0]
    refusal: Exception | None = None
    waiter: Deferred[None] | None = None

    def __attrs_post_init__(self) -> None:
        self.opened: list[tuple[RemoteAE, list[tuple[str, tuple[str, ...]]]]] = []
        self.asSCP: list[str] = []
        self.associations: list[OpenedAssociation] = []

    @property
    def received(self) -> list[Received]:
        """The requests on all associations."""
        return [one for each in self.associations for one in each.received]

    def open(
        self,
        remote: RemoteAE,
        contexts: Sequence[tuple[str, tuple[str, ...]]],
        asSCP: Sequence[str] = (),
    ) -> Deferred[IAssociation]:
        if not 0 < len(contexts) <= 128:
            raise ValueError(f"{len(contexts)} presentation contexts")
        self.opened.append((remote, list(contexts)))
        self.asSCP += asSCP
        if self.refusal is not None:
            return fail(self.refusal)
        waiter = self.waiter if self.waiter is not None else succeed(None)
        return waiter.addCallback(lambda _: self._establish(remote, contexts))

    def _establish(
        self, remote: RemoteAE, contexts: Sequence[tuple[str, tuple[str, ...]]]
    ) -> OpenedAssociation:
        accepted = {}
        for number, (abstractSyntax, transferSyntaxes) in enumerate(contexts):
            chosen = self.accept(abstractSyntax, transferSyntaxes)
            if chosen is not None:
                contextID = 2 * number + 1
                accepted[contextID] = PresentationContext(
                    contextID, abstractSyntax, chosen
                )
        association = OpenedAssociation(
            EstablishedAssociation(
                True, "D360PACS", remote.title, remote.host, 16384, accepted
            ),
            self.answer,
        )
        self.associations.append(association)
        return association
