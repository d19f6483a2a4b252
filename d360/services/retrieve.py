"""
The Retrieve service classes: C-MOVE and C-GET in the Patient Root and Study
Root models (PS3.4 C.4.2, C.4.3; conformance 8, 9).
"""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.audit.null import NULL_AUDIT
from d360.audit.values import Peer
from d360.dimse import status
from d360.errors import (
    DatabaseError,
    DatabaseUnavailable,
    DIMSEError,
)
from d360.interfaces import (
    IAssociationOpener,
    IAudit,
    IIndex,
    IOperation,
    IRemoteAEs,
    IServiceClass,
)
from d360.model import Command, Permission, Query, RemoteAE
from d360.services import transfersyntaxes
from d360.services.answering import MAX_IDENTIFIER_LENGTH
from d360.services.delivery import Delivery, Lane
from d360.services.matching import Root
from d360.services.selection import readSelection
from d360.services.sending import Selected, Sender
from d360.services.sopclasses import (
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from d360.services.suboperations import SubOperations

_C_GET = 0x0010
_C_MOVE = 0x0021
_C_STORE = 0x0001

_ROOTS = {
    PATIENT_ROOT_GET: Root.PATIENT,
    PATIENT_ROOT_MOVE: Root.PATIENT,
    STUDY_ROOT_GET: Root.STUDY,
    STUDY_ROOT_MOVE: Root.STUDY,
}


class _RetrieveService:
    """What C-MOVE and C-GET have in common."""

    permission = Permission.RETRIEVE

    def __init__(
        self,
        index: IIndex,
        sender: Sender,
        clock: IReactorTime,
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        self._index = index
        self._sender = sender
        self._clock = clock
        self._audit = audit

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return transfersyntaxes.QUERY

    def grantsSCPRole(self, sopClass: str) -> bool:
        return False

    @asynchronous
    async def _readSelection(self, operation: IOperation) -> Query:
        identifier = await operation.readDataset(MAX_IDENTIFIER_LENGTH)
        return readSelection(identifier, _ROOTS[operation.context.abstractSyntax])

    @asynchronous
    async def _locate(self, operation: IOperation, query: Query) -> Selected:
        """All of them, for their number is told with the first of them."""
        selected = Selected()
        batches = self._index.locate(query)
        try:
            while not operation.cancelled:
                batch = await batches.nextBatch()
                if not batch:
                    break
                selected.add(batch)
        except DatabaseError as error:
            raise _unableToCalculate(operation, error) from error
        finally:
            batches.close()
        return selected


def _requestorOf(operation: IOperation) -> Peer:
    established = operation.association.established
    return Peer(established.callingAETitle, established.peer)


def _unableToCalculate(operation: IOperation, error: DatabaseError) -> DIMSEError:
    operation.log.error("Cannot retrieve: {why}", why=str(error))
    away = isinstance(error, DatabaseUnavailable)
    comment = "Database is not available" if away else "Query is refused"
    return DIMSEError(status.UNABLE_TO_CALCULATE_MATCHES, comment)


@implementer(IServiceClass)
class GetService(_RetrieveService):
    """C-GET: instances go to the requestor, over its own association."""

    sopClasses = frozenset({PATIENT_ROOT_GET, STUDY_ROOT_GET})
    commandFields = frozenset({_C_GET})

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        query = await self._readSelection(operation)
        selected = await self._locate(operation, query)
        subOperations = SubOperations(operation, len(selected.instances), self._clock)
        requestor = _requestorOf(operation)
        subOperations.transfer = self._audit.sending(
            requestor, requestor, selected.instances
        )
        command = Command(_C_STORE, Priority=operation.request.Priority or 0)
        lane = Lane(
            operation.association,
            self._sender,
            deque(selected.instances),
            subOperations,
            command,
        )
        subOperations.start()
        try:
            await lane.run()
        finally:
            subOperations.stop()
            subOperations.transfer.end()
        await subOperations.finish()


@implementer(IServiceClass)
class MoveService(_RetrieveService):
    """
    C-MOVE: instances go to a remote AE, over associations that we open.

    @param parallel: how many of them at once, at most. Further ones than the
        first are only tried: many receivers take one at a time.
    """

    sopClasses = frozenset({PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE})
    commandFields = frozenset({_C_MOVE})

    def __init__(
        self,
        index: IIndex,
        sender: Sender,
        clock: IReactorTime,
        remoteAEs: IRemoteAEs,
        opener: IAssociationOpener,
        parallel: int = 1,
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        super().__init__(index, sender, clock, audit)
        self._remoteAEs = remoteAEs
        self._opener = opener
        self._parallel = parallel

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        query = await self._readSelection(operation)
        remote = await self._destination(operation)
        selected = await self._locate(operation, query)
        subOperations = SubOperations(operation, len(selected.instances), self._clock)
        subOperations.transfer = self._audit.sending(
            _requestorOf(operation),
            Peer(remote.title, remote.host),
            selected.instances,
        )
        command = Command(
            _C_STORE,
            Priority=operation.request.Priority or 0,
            MoveOriginatorApplicationEntityTitle=(
                operation.association.established.callingAETitle
            ),
            MoveOriginatorMessageID=operation.request.MessageID,
        )
        delivery = Delivery(
            remote,
            self._opener,
            self._sender,
            subOperations,
            command,
            self._parallel,
            self._clock,
        )
        subOperations.start()
        try:
            for share in selected.shares(self._sender.transcoder):
                if subOperations.isWanted:
                    await delivery.deliver(share)
        finally:
            subOperations.stop()
            subOperations.transfer.end()
        await subOperations.finish()

    @asynchronous
    async def _destination(self, operation: IOperation) -> RemoteAE:
        title = operation.request.MoveDestination
        try:
            remote = await self._remoteAEs.get(title)
        except DatabaseError as error:
            raise _unableToCalculate(operation, error) from error
        if remote is None:
            operation.log.warn(
                "Move destination {title!a} is not known; add it by d360ctl ae add",
                title=title,
            )
            raise DIMSEError(status.MOVE_DESTINATION_UNKNOWN, "Unknown destination")
        return remote
