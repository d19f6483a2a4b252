"""
An operation and its association for unit tests of service classes: the data
set is handed over in pieces, the responses are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from attrs import define, frozen
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from d360.errors import AssociationAborted, AssociationEnded, DIMSEError
from d360.interfaces import IOperation
from d360.metrics.null import NULL_METRICS
from d360.model import Command, EstablishedAssociation, PresentationContext
from tests.contracts.opener import OpenedAssociation


@frozen
class Response:
    """One that was sent."""

    status: int
    dataset: Dataset | bytes | None
    elements: dict[str, Any]


class Log(Logger):
    """Keeps its events."""

    def __init__(self) -> None:
        super().__init__("tests")
        self.events: list[tuple[str, str]] = []

    def __get__(self, instance: object, owner: type | None = None) -> Log:
        return self

    def emit(self, level: Any, format: str | None = None, **kwargs: Any) -> None:
        self.events.append((level.name, (format or "").format(**kwargs)))


@implementer(IOperation, IPushProducer)
@define(eq=False, slots=False)
class FakeOperation:
    """
    See L{IOperation}.

    @ivar pieceLength: the data set comes in pieces of this many bytes.
    @ivar lostAfter: the association ends after so many bytes of it.
    @ivar hold: responses that fire only when L{letGo} is called.
    """

    context: PresentationContext
    request: Command
    data: bytes = b""
    pieceLength: int = 16384
    lostAfter: int | None = None
    hold: bool = False
    association: OpenedAssociation | None = None

    def __attrs_post_init__(self) -> None:
        if self.association is None:
            self.association = OpenedAssociation(
                EstablishedAssociation(
                    False, "MODALITY", "D360PACS", "192.0.2.7", 16384, {}
                )
            )
        self.log = Log()
        self.metrics: Any = NULL_METRICS
        self.identifier = b""
        self.cancelled = False
        self.responses: list[Response] = []
        self.calls: list[str] = []
        self.lost: AssociationEnded | None = None
        self._offset = 0
        self._consumer: IConsumer | None = None
        self._delivered: Deferred[None] | None = None
        self._paused = False
        self._waiting: list[Deferred[None]] = []
        self._cancelWaiters: list[Deferred[None]] = []

    # --- data set

    def readDataset(self, limit: int) -> Deferred[Dataset]:
        if len(self.data) > limit:
            return fail(DIMSEError(0xC000, "too long"))
        self.identifier = self.data
        syntax = UID(self.context.transferSyntax)
        file = BytesIO(self.data)
        return succeed(
            read_dataset(file, syntax.is_implicit_VR, syntax.is_little_endian)
        )

    def deliverDataset(
        self, consumer: IConsumer, limit: int | None = None
    ) -> Deferred[None]:
        self._consumer = consumer
        self._delivered = delivered = Deferred()
        consumer.registerProducer(self, True)
        self.resumeProducing()
        return delivered

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self._paused = True

    def stopProducing(self) -> None:
        self.calls.append("stop")

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self._paused = False
        while self._delivered is not None and not self._paused:
            piece = self.data[self._offset : self._offset + self.pieceLength]
            self._offset += len(piece)
            if self.lostAfter is not None and self._offset > self.lostAfter:
                self._end(AssociationAborted(0, 0))
            elif piece:
                self._consumer.write(memoryview(piece))
            else:
                self._end(None)

    def _end(self, error: AssociationEnded | None) -> None:
        delivered, self._delivered = self._delivered, None
        self._consumer.unregisterProducer()
        if error is None:
            delivered.callback(None)
        else:
            self.lost = error
            delivered.errback(error)

    # --- responses

    def respond(
        self, status: int, dataset: Dataset | bytes | None = None, **elements: Any
    ) -> Deferred[None]:
        if self.lost is not None:
            return fail(self.lost)
        self.responses.append(Response(status, dataset, elements))
        return self._sent()

    def respondAll(self, status: int, datasets: Sequence[bytes]) -> Deferred[None]:
        if self.lost is not None:
            return fail(self.lost)
        self.responses += (Response(status, dataset, {}) for dataset in datasets)
        return self._sent()

    def _sent(self) -> Deferred[None]:
        if not self.hold:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter

    def letGo(self) -> None:
        """The association can take more."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def statuses(self) -> list[int]:
        """Of the responses."""
        return [response.status for response in self.responses]

    # --- cancel

    def whenCancelled(self) -> Deferred[None]:
        if self.cancelled:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._cancelWaiters.remove)
        self._cancelWaiters.append(waiter)
        return waiter

    def lose(self) -> None:
        """Its association ends."""
        self.lost = AssociationAborted(0, 0)
        self.cancel()

    def cancel(self) -> None:
        """A C-CANCEL comes."""
        self.cancelled = True
        waiting, self._cancelWaiters = self._cancelWaiters, []
        for waiter in waiting:
            waiter.callback(None)
