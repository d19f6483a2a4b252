"""
One DIMSE operation as a service class sees it (PS3.7 chapters 9 and 10): its
request, its data set as it streams in, its responses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from d360.dimse import commands
from d360.dimse.fragmentation import fragments
from d360.dimse.pending import pendingCommand
from d360.dimse.status import CANNOT_UNDERSTAND, PENDING, isPending
from d360.errors import AssociationEnded, DIMSEError, PDUError
from d360.interfaces import IOperation
from d360.logs import ContextLogger
from d360.model import Command, Fragment, PresentationContext
from d360.reading import BoundedFile, TooManyElements

UNDEFINED_LENGTH = 0xFFFFFFFF

#: With these, and nothing else, the responses of a retrieve are pending.
_COUNTS = dict.fromkeys(
    f"NumberOf{what}Suboperations"
    for what in ("Remaining", "Completed", "Failed", "Warning")
).keys()

#: Keys that an identifier may have, and about as many within its sequences:
#: reading them takes its time.
MAX_ELEMENTS = 1024

#: Bytes beyond its limit that are read of an identifier, for its sender to be told
#: that it is too long; one that goes on has no end.
MAX_EXCESS = 16 << 20

if TYPE_CHECKING:
    from d360.dimse.association import Association


@implementer(IConsumer)
class _Gathering:
    """Keeps a data set in memory, up to a limit: for identifiers."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """It is always ready for more."""

    def unregisterProducer(self) -> None:
        """See L{registerProducer}."""

    def write(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._limit:
            raise DIMSEError(
                CANNOT_UNDERSTAND, f"Identifier longer than {self._limit} bytes"
            )

    @property
    def data(self) -> bytes:
        """As it came."""
        return bytes(self._data)

    def dataset(self, transferSyntax: str) -> Dataset:
        syntax = UID(transferSyntax)
        data = BoundedFile(self._data, MAX_ELEMENTS)
        tags = count(1)

        def isTooMuch(tag: BaseTag, vr: str | None, length: int) -> bool:
            if next(tags) > MAX_ELEMENTS:
                raise DIMSEError(
                    CANNOT_UNDERSTAND, f"Identifier of more than {MAX_ELEMENTS} keys"
                )
            return False

        try:
            dataset = read_dataset(
                data,
                syntax.is_implicit_VR,
                syntax.is_little_endian,
                stop_when=isTooMuch,
            )
            keys = tuple(dataset.keys())
            elements: list[Any] = [dataset.get_item(key) for key in keys]
        except DIMSEError:
            raise
        except TooManyElements:
            raise DIMSEError(
                CANNOT_UNDERSTAND, f"Identifier of more than {MAX_ELEMENTS} keys"
            ) from None
        except Exception:
            # pydicom raises whatever its readers stumble over.
            raise DIMSEError(
                CANNOT_UNDERSTAND, "Identifier cannot be decoded"
            ) from None
        for element in elements:
            # pydicom takes what is there for a value that was cut off.
            if isinstance(element, RawDataElement) and element.length not in (
                len(element.value or b""),
                UNDEFINED_LENGTH,
            ):
                raise DIMSEError(CANNOT_UNDERSTAND, "Identifier is cut off")
        return dataset


def _encodeDataset(dataset: Dataset, transferSyntax: str) -> bytes:
    syntax = UID(transferSyntax)
    output = DicomBytesIO()
    output.is_implicit_VR = syntax.is_implicit_VR
    output.is_little_endian = syntax.is_little_endian
    write_dataset(output, dataset)
    return output.getvalue()


@implementer(IOperation, IPushProducer)
class Operation:
    """
    See L{IOperation}. It is the producer of its own data set.

    @ivar ended: its final response was sent, or its association is over.
    @ivar received: bytes of its data set that came.
    """

    def __init__(
        self,
        association: Association,
        context: PresentationContext,
        request: Command,
    ) -> None:
        self.association = association
        self.context = context
        self.request = request
        self.name = commands.NAMES.get(request.CommandField, "request")
        self.log = ContextLogger(
            "d360.operation",
            f"{association.log.context}, {self.name} {request.MessageID}",
        )
        self.metrics = association.metrics
        self.received = 0
        self.identifier = b""
        self.cancelled = False
        self.ended = False
        self.finalStatus: int | None = None
        self._pending: Callable[[int, int, int, int], bytes] | None = None
        self._lastCommand: tuple[int, bytes] = (-1, b"")
        self.finalComment = ""
        self._lost: AssociationEnded | None = None
        self._consumer: IConsumer | None = None
        self._delivered: Deferred[None] | None = None
        self._awaitsDataset = request.CommandDataSetType != commands.NO_DATA_SET
        self._discarding = False
        # Bytes of its data set at most, if it is kept in memory.
        self._longest: int | None = None
        self._datasetEnd: list[Deferred[None]] = []
        self._cancelWaiters: list[Deferred[None]] = []

    @property
    def awaitsDataset(self) -> bool:
        """Its data set, or a part of it, is still to come."""
        return self._awaitsDataset

    @property
    def takesFragments(self) -> bool:
        """Somebody wants its data set, if only to throw it away."""
        return self._consumer is not None or self._discarding

    # --- the data set comes in

    def readDataset(self, limit: int) -> Deferred[Dataset]:
        """See L{IOperation.readDataset}."""
        gathering = _Gathering(limit)
        delivered = self.deliverDataset(gathering, limit)

        def decode(_: None) -> Dataset:
            self.identifier = gathering.data
            return gathering.dataset(self.context.transferSyntax)

        return delivered.addCallback(decode)

    def deliverDataset(
        self, consumer: IConsumer, limit: int | None = None
    ) -> Deferred[None]:
        """See L{IOperation.deliverDataset}."""
        if limit is not None:
            self._longest = limit + MAX_EXCESS
        if self._lost is not None:
            return fail(self._lost)
        if self._consumer is not None:
            raise RuntimeError("the data set is delivered already")
        if not self._awaitsDataset:
            return succeed(None)
        self._consumer = consumer
        delivered = self._delivered = Deferred()
        consumer.registerProducer(self, True)
        # What has come already is handed out before this returns, to its end.
        self.association.letGo("unwanted")
        return delivered

    def fragmentReceived(self, fragment: Fragment) -> None:
        """A piece of its data set came."""
        if not self.takesFragments:
            raise RuntimeError("a data set is read that nobody has asked for yet")
        self.received += len(fragment.data)
        if self._longest is not None and self.received > self._longest:
            raise PDUError(PDUError.INVALID_PARAMETER, "data set without an end")
        if not self._discarding and self._consumer is not None:
            try:
                self._consumer.write(fragment.data)  # type: ignore[arg-type]
            except Exception as error:
                self._endDelivery(error)
                self._discarding = True
        if fragment.isLast:
            self._awaitsDataset = False
            self._endDelivery(None)
            waiting, self._datasetEnd = self._datasetEnd, []
            for waiter in waiting:
                waiter.callback(None)

    def _endDelivery(self, error: Exception | None) -> None:
        consumer, delivered = self._consumer, self._delivered
        if consumer is None or delivered is None:
            return
        self._delivered = None
        consumer.unregisterProducer()
        # What paused us has gone, and could not resume us any more.
        self.association.letGo("consumer")
        if error is None:
            delivered.callback(None)
        else:
            delivered.errback(error)

    def pauseProducing(self) -> None:
        """Its consumer is behind."""
        if self._delivered is not None:
            self.association.hold("consumer")

    def resumeProducing(self) -> None:
        """Its consumer has caught up."""
        if self._delivered is not None:
            self.association.letGo("consumer")

    def stopProducing(self) -> None:
        """Its consumer wants no more."""
        self._discarding = True
        self.association.letGo("consumer")

    def _datasetRead(self) -> Deferred[None]:
        """
        The peer sends a data set to its end before it reads a response, so
        none goes out before that.
        """
        if not self._awaitsDataset:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._datasetEnd.append(waiter)
        if self._consumer is None:
            self._discarding = True
            self.association.letGo("unwanted")
        return waiter

    # --- the responses go out

    def respond(
        self, status: int, dataset: Dataset | bytes | None = None, **elements: Any
    ) -> Deferred[None]:
        """See L{IOperation.respond}."""
        if self._awaitsDataset and self._lost is None:
            return self._datasetRead().addCallback(
                lambda _: self._respond(status, dataset, elements)
            )
        return self._respond(status, dataset, elements)

    def _respond(
        self, status: int, dataset: Dataset | bytes | None, elements: dict[str, Any]
    ) -> Deferred[None]:
        # A query has thousands of responses, so that no coroutine is made for
        # one that can be sent at once.
        if self._lost is not None:
            return fail(self._lost)
        if self.ended:
            return fail(RuntimeError("the final response was sent already"))
        if isinstance(dataset, Dataset):
            dataset = _encodeDataset(dataset, self.context.transferSyntax)
        buffers = self._response(status, dataset, elements)
        if not isPending(status):
            self.ended = True
            self.finalStatus = status
            self.finalComment = elements.get("ErrorComment", "")
            self.association.sendResponse(buffers)
            self.association.operationEnded(self)
            return succeed(None)
        return self._send(buffers)

    def respondAll(self, status: int, datasets: Sequence[bytes]) -> Deferred[None]:
        """See L{IOperation.respondAll}."""
        if self._awaitsDataset and self._lost is None:
            return self._datasetRead().addCallback(
                lambda _: self._respondAll(status, datasets)
            )
        return self._respondAll(status, datasets)

    def _respondAll(self, status: int, datasets: Sequence[bytes]) -> Deferred[None]:
        if self._lost is not None:
            return fail(self._lost)
        if self.ended:
            return fail(RuntimeError("the final response was sent already"))
        buffers: list[bytes | memoryview] = []
        for dataset in datasets:
            buffers += self._response(status, dataset, {})
        # So many small pieces are joined sooner than gathered by the system.
        return self._send([b"".join(buffers)])

    def _send(self, buffers: list[bytes | memoryview]) -> Deferred[None]:
        self.association.sendResponse(buffers)
        if self.association.takesMore:
            return succeed(None)
        return self.association.whenWritable().addCallback(self._unlessLost)

    def _unlessLost(self, _: None) -> None:
        if self._lost is not None:
            raise self._lost

    def _response(
        self, status: int, dataset: bytes | None, elements: dict[str, Any]
    ) -> list[bytes | memoryview]:
        limit = self.association.established.peerMaxPDULength
        contextID = self.context.contextID
        command = self._command(status, dataset is not None, elements)
        buffers = fragments(contextID, True, command, limit)
        if dataset is not None:
            buffers += fragments(contextID, False, dataset, limit)
        return buffers

    def _command(
        self, status: int, hasDataset: bool, elements: dict[str, Any]
    ) -> bytes:
        """The command set of a response; all matches of a query have the same."""
        if not elements and hasDataset and self._lastCommand[0] == status:
            return self._lastCommand[1]
        request = self.request
        if status == PENDING and not hasDataset and elements.keys() == _COUNTS:
            if self._pending is None:
                self._pending = pendingCommand(request)
            return self._pending(*map(elements.__getitem__, _COUNTS))
        command = Command(
            CommandField=request.CommandField | commands.RESPONSE,
            MessageIDBeingRespondedTo=request.MessageID,
            AffectedSOPClassUID=(
                request.AffectedSOPClassUID or request.RequestedSOPClassUID
            ),
            AffectedSOPInstanceUID=(
                request.AffectedSOPInstanceUID or request.RequestedSOPInstanceUID
            ),
            CommandDataSetType=(
                commands.DATA_SET if hasDataset else commands.NO_DATA_SET
            ),
            Status=status,
            **elements,
        )
        data = commands.encode(command)
        if not elements and hasDataset:
            self._lastCommand = (status, data)
        return data

    # --- its end

    def whenCancelled(self) -> Deferred[None]:
        """See L{IOperation.whenCancelled}."""
        if self.cancelled:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._cancelWaiters.remove)
        self._cancelWaiters.append(waiter)
        return waiter

    def cancel(self) -> None:
        """A C-CANCEL came for it."""
        self.cancelled = True
        waiting, self._cancelWaiters = self._cancelWaiters, []
        for waiter in waiting:
            waiter.callback(None)

    def lose(self, reason: AssociationEnded) -> None:
        """Its association is over."""
        self._lost = reason
        self.ended = True
        if self._delivered is not None:
            self._endDelivery(reason)
        waiting, self._datasetEnd = self._datasetEnd, []
        for waiter in waiting:
            waiter.callback(None)
        self.cancel()
