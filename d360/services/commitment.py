"""
The Storage Commitment service class, as SCP of the Push Model (PS3.4 Annex J): a
modality asks by an N-ACTION whether we have its instances for good, and is told
by an N-EVENT-REPORT, see L{d360.services.committing}.

The N-ACTION is answered with 0000 after the request is committed to the
database, so that it is seen to whatever happens to us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.dimse import status
from d360.errors import DatabaseError, DIMSEError
from d360.interfaces import (
    IAssociation,
    ICommitmentRequests,
    IOperation,
    IServiceClass,
)
from d360.model import (
    CommitmentRequest,
    Permission,
    PresentationContext,
    Referenced,
)
from d360.reading import BoundedFile, TooManyElements, itemsOf
from d360.services import transfersyntaxes
from d360.services.sopclasses import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from d360.services.uids import cleanUID, isUID

_N_ACTION = 0x0130

#: PS3.4 Table J.3-1: Request Storage Commitment.
_REQUEST = 1

_REFERENCED_SOP_CLASS_UID = 0x00081150
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_TRANSACTION_UID = 0x00081195
_REFERENCED_SOP_SEQUENCE = 0x00081199
_UNDEFINED_LENGTH = 0xFFFFFFFF

#: Bytes of the data set of a request, and instances in it.
MAX_LENGTH = 4 << 20
MAX_REFERENCES = 20_000

#: Bytes of the data sets of all that come in at the same time.
MAX_TOGETHER = 256 << 20

#: Items and elements of so many: each item has two of these.
_MAX_ELEMENTS = 3 * MAX_REFERENCES + 100

#: Seconds that whoever took a request has for it, before others see to it.
LEASE = 600.0


class ITeller(Protocol):
    """Sees to a request that was kept."""

    def begin(
        self,
        request: CommitmentRequest,
        association: IAssociation,
        context: PresentationContext,
    ) -> None:
        """
        Check the instances, and tell the requestor. A plain call.

        @param association: where it came in, and may be told of.
        """


@implementer(IConsumer)
class _Gathering:
    """
    Keeps a data set in memory, up to L{MAX_LENGTH}.

    @param take: is told of each piece's length; it may refuse it.
    """

    def __init__(self, take: Callable[[int], None] = lambda size: None) -> None:
        self.data = bytearray()
        self._take = take

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """It is always ready for more."""

    def unregisterProducer(self) -> None:
        """See L{registerProducer}."""

    def write(self, data: bytes) -> None:
        self._take(len(data))
        self.data += data
        if len(self.data) > MAX_LENGTH:
            raise DIMSEError(
                status.RESOURCE_LIMITATION, f"More than {MAX_LENGTH} bytes"
            )


def readRequest(data: bytes | bytearray, transferSyntax: str) -> tuple[str, Any]:
    """
    The Transaction UID of a request, and its instances as L{Referenced} (PS3.4
    Table J.3-2). Blocks: for a thread.

    @raise DIMSEError: 0115 or 0213, it has none of them, or what is none.
    """
    syntax = UID(transferSyntax)
    try:
        dataset = read_dataset(
            BoundedFile(data, _MAX_ELEMENTS),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
        )
        _checkWhole(dataset)
        transaction = _uid(dataset, _TRANSACTION_UID)
        references = _references(dataset)
    except TooManyElements:
        raise _tooMany() from None
    except Exception:
        # pydicom raises whatever its readers stumble over.
        raise _invalid("Action Information cannot be decoded") from None
    if not isUID(transaction):
        raise _invalid("Transaction UID is missing, or no valid UID")
    if not references:
        raise _invalid("Referenced SOP Sequence is missing, or empty")
    if len(references) > MAX_REFERENCES:
        raise _tooMany()
    for one in references:
        if not (isUID(one.SOPClassUID) and isUID(one.SOPInstanceUID)):
            raise _invalid("Referenced SOP Class or Instance UID is no valid UID")
    return transaction, references


def _checkWhole(dataset: Dataset) -> None:
    """
    pydicom takes what is there for a value that was cut off: half a UID is
    another UID.

    @raise ValueError: one was.
    """
    for tag in tuple(dataset.keys()):
        raw: Any = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.length not in (
            len(raw.value or b""),
            _UNDEFINED_LENGTH,
        ):
            raise ValueError("cut off")


def _references(dataset: Dataset) -> tuple[Referenced, ...]:
    if _REFERENCED_SOP_SEQUENCE not in dataset:
        return ()
    items = itemsOf(dataset, _REFERENCED_SOP_SEQUENCE, _MAX_ELEMENTS) or ()
    for item in items:
        _checkWhole(item)
    return tuple(map(_referenced, items))


def _uid(dataset: Dataset, tag: int) -> str:
    """
    As it was sent: pydicom would go on about one that is none, and there are
    thousands.
    """
    element: Any = dataset.get_item(tag) if tag in dataset else None
    if element is None or not element.value:
        return ""
    value = element.value
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return cleanUID(text)


def _referenced(item: Dataset) -> Referenced:
    return Referenced(
        _uid(item, _REFERENCED_SOP_CLASS_UID), _uid(item, _REFERENCED_SOP_INSTANCE_UID)
    )


def _tooMany() -> DIMSEError:
    return DIMSEError(
        status.RESOURCE_LIMITATION, f"More than {MAX_REFERENCES} instances"
    )


def _invalid(comment: str) -> DIMSEError:
    return DIMSEError(status.INVALID_ARGUMENT_VALUE, comment)


@implementer(IServiceClass)
class CommitmentService:
    """
    See the module.

    @param inThread: runs a function in a thread, with its arguments.
    """

    sopClasses = frozenset({STORAGE_COMMITMENT})
    commandFields = frozenset({_N_ACTION})
    permission = Permission.STORE

    def __init__(
        self,
        requests: ICommitmentRequests,
        teller: ITeller,
        inThread: Callable[..., Deferred[Any]],
    ) -> None:
        self._requests = requests
        self._teller = teller
        self._inThread = inThread
        self._held = 0

    def _take(self, size: int) -> None:
        """Bytes of all requests that come in."""
        if self._held + size > MAX_TOGETHER:
            raise DIMSEError(status.RESOURCE_LIMITATION, "Too many at the same time")
        self._held += size

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return transfersyntaxes.QUERY

    def grantsSCPRole(self, sopClass: str) -> bool:
        return False

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        _checkCommand(operation)
        gathering = _Gathering(self._take)
        try:
            await operation.deliverDataset(gathering, MAX_LENGTH)
            transactionUID, references = await self._inThread(
                readRequest, gathering.data, operation.context.transferSyntax
            )
        finally:
            self._held -= len(gathering.data)
        association = operation.association
        title = association.established.callingAETitle
        asked = CommitmentRequest(transactionUID, title, references)
        try:
            request = await self._requests.add(asked, LEASE)
        except DatabaseError as error:
            operation.log.error("Cannot keep the request: {why}", why=str(error))
            raise DIMSEError(
                status.RESOURCE_LIMITATION, "Database is not available"
            ) from error
        if request is None:
            operation.log.error(
                "{title} is not told of too many storage commitments: see that it "
                "can be, by d360ctl ae echo",
                title=title,
            )
            raise DIMSEError(status.RESOURCE_LIMITATION, "Too many are not told of")
        operation.log.info(
            "Storage commitment {transaction} of {count} instances is asked for",
            transaction=transactionUID,
            count=len(references),
        )
        await operation.respond(status.SUCCESS, ActionTypeID=_REQUEST)
        self._teller.begin(request, association, operation.context)


def _checkCommand(operation: IOperation) -> None:
    request = operation.request
    if cleanUID(request.RequestedSOPClassUID) != STORAGE_COMMITMENT:
        raise DIMSEError(
            status.SOP_CLASS_NOT_SUPPORTED,
            "SOP Class UID is not that of the presentation context",
        )
    if cleanUID(request.RequestedSOPInstanceUID) != STORAGE_COMMITMENT_INSTANCE:
        raise DIMSEError(
            status.NO_SUCH_SOP_INSTANCE,
            f"The SOP instance is {STORAGE_COMMITMENT_INSTANCE}",
        )
    if request.ActionTypeID != _REQUEST:
        raise DIMSEError(status.NO_SUCH_ACTION_TYPE, f"The action type is {_REQUEST}")
