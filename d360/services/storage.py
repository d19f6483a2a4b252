"""
The Storage service class: C-STORE (PS3.4 Annex B; conformance 5.2.3, 6).

An instance is answered with 0000 only after its file is durable and the index
has committed it. The order is: the header checked, the file marked in its
place, all bytes into it; then the file is synced and the index told of it, both
at the same time; then the answer, and the mark taken away. So whatever happens
in between, either the sender was told that we have it and we do, or it was not
and L{Recovery<d360.services.recovery.Recovery>} finds out what became of it, by
the mark, or by what the index has announced and not confirmed.

What the index knows already, it is not told of before the new file is durable,
since that may take the place of another; and that is marked before it does, so
that no crash leaves it behind.

Where too little of the disk is free, an instance is refused before anything of it
is written, and one that is on its way as soon as even less is. So is one that is
longer than any may be: what is there of it is discarded at once, and what still
comes of it goes nowhere.
"""

from __future__ import annotations

import errno
import sys
from datetime import UTC, datetime
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.attributes import Level
from d360.audit.null import NULL_AUDIT
from d360.dimse import status
from d360.errors import ArchiveError, DatabaseError, DatabaseUnavailable, DIMSEError
from d360.interfaces import (
    IArchive,
    IAudit,
    IBlobWriter,
    IFreeSpace,
    IIndex,
    IOperation,
    IServiceClass,
)
from d360.model import (
    Announcement,
    AnyOf,
    Blob,
    Duplicates,
    InstanceRecord,
    Location,
    Outcome,
    Permission,
    Query,
    Registration,
)
from d360.services import transfersyntaxes
from d360.services.header import HeaderError, HeaderScanner
from d360.services.part10 import encodeHead
from d360.services.records import Header, auditedOf, readHeader
from d360.services.recovery import isWhole
from d360.services.scanning import Scanning
from d360.services.selection import UNIQUE_KEYS
from d360.services.sopclasses import STORAGE
from d360.services.uids import cleanUID, isUID

_C_STORE = 0x0001


class IUncertain(Protocol):
    """Takes over what the index may or may not have committed."""

    def add(self, location: Location, writer: IBlobWriter | None = None) -> None:
        """
        Settle or discard the file, as soon as it can be known.

        @param writer: of a file that is on its way; others have a mark only.
        """

    def resolve(
        self,
        location: Location,
        writer: IBlobWriter,
        announcement: Announcement | None = None,
    ) -> Deferred[None]:
        """The same of one that could not be made durable, at once if it can be."""


@implementer(IConsumer)
class _Reception:
    """
    Passes the data set on to the archive, and reads its header by the way.

    @ivar header: what the header says, once it was read.
    @ivar refusal: why the instance will not be stored.
    @ivar scanning: goes on with the header where that takes longer.
    """

    def __init__(
        self,
        operation: IOperation,
        writer: IBlobWriter,
        freeSpace: IFreeSpace,
        clock: IReactorTime,
        maxSize: int,
    ) -> None:
        self.header: Header | None = None
        self.refusal: DIMSEError | None = None
        self._log = operation.log
        self._request = operation.request
        self._scanner = HeaderScanner(operation.context.transferSyntax)
        self.scanning = Scanning(self._scanner, clock)
        self._writer = writer
        self._freeSpace = freeSpace
        self._room = maxSize

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.scanning.registerProducer(producer)
        self._writer.registerProducer(self.scanning.producer, streaming)

    def unregisterProducer(self) -> None:
        self._writer.unregisterProducer()

    def write(self, data: memoryview | bytes) -> None:
        if self.refusal is not None:
            return
        if self._freeSpace.isCritical:
            self._refuse(_tooFull())
            return
        self._room -= len(data)
        if self._room < 0:
            self._refuse(_tooLong())
            return
        self._freeSpace.take(len(data))
        self._writer.write(data)  # type: ignore[arg-type]
        scanner = self._scanner
        scanner.write(data)
        if scanner.isBehind:
            self.scanning.goOn()
        if self.header is None and (scanner.complete or scanner.error):
            refusal = self._check()
            if refusal is not None:
                self._refuse(refusal)

    def _refuse(self, refusal: DIMSEError) -> None:
        """The rest comes all the same, and goes nowhere."""
        self.refusal = refusal
        discarded = self._writer.discard()
        discarded.addErrback(lambda f: self._log.failure("not discarded", f))

    def finish(self) -> Header:
        """
        The data set is at its end.

        @raise DIMSEError: it is refused.
        """
        if self.refusal is None:
            try:
                self._scanner.finish()
            except HeaderError as error:
                self.refusal = DIMSEError(status.CANNOT_UNDERSTAND, str(error))
        if self.refusal is None and self.header is None:
            self.refusal = self._check()
        if self.refusal is not None:
            raise self.refusal
        assert self.header is not None
        return self.header

    def _check(self) -> DIMSEError | None:
        """What has come of the header must be usable, and fit the command."""
        if self._scanner.error:
            return DIMSEError(status.CANNOT_UNDERSTAND, self._scanner.error)
        try:
            header = readHeader(self._scanner.values)
        except HeaderError as error:
            return DIMSEError(status.CANNOT_UNDERSTAND, str(error))
        for keyword, asked, found in (
            ("SOP Class", self._request.AffectedSOPClassUID, header.SOPClassUID),
            (
                "SOP Instance",
                self._request.AffectedSOPInstanceUID,
                header.SOPInstanceUID,
            ),
        ):
            if cleanUID(asked) != found:
                return DIMSEError(
                    status.DATA_SET_DOES_NOT_MATCH,
                    f"{keyword} UID of command and data set differ",
                )
        self.header = header
        try:
            self._writer.expect(
                header.StudyInstanceUID,
                header.SeriesInstanceUID,
                header.SOPInstanceUID,
            )
        except ArchiveError as error:
            return DIMSEError(status.CANNOT_UNDERSTAND, str(error))
        return None


@define(eq=False)
class _Receipt:
    """
    An instance of which all bytes are there.

    @ivar blob: set with the next two, when the file has its place.
    @ivar announced: what the index says.
    @ivar marked: the files that it may take the place of.
    """

    operation: IOperation
    writer: IBlobWriter
    header: Header
    blob: Blob = field(init=False)
    record: InstanceRecord = field(init=False)
    announced: Deferred[Announcement | None] | None = field(init=False, default=None)
    marked: set[Location] = field(init=False, factory=set)


def _tooFull() -> DIMSEError:
    return DIMSEError(
        status.OUT_OF_RESOURCES, "Less disk space is free than min_free_space"
    )


def _tooLong() -> DIMSEError:
    return DIMSEError(
        status.OUT_OF_RESOURCES, "The data set is longer than max_instance_size"
    )


def _commentOf(error: ArchiveError) -> str:
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left in the archive" if full else "Archive fails"


@implementer(IServiceClass)
class StorageService:
    """
    See the module. Whether SOP classes beyond conformance 4.2.1.3 get here is
    the registry's choice; they are stored like any other.

    @param recovery: takes over the files of which the index does not know
        whether it has them.
    @param clock: for the time of receipt and durations.
    @param freeSpace: whether more may be stored.
    @param maxSize: bytes that a data set may have, as it is sent.
    """

    sopClasses = STORAGE
    commandFields = frozenset({_C_STORE})
    permission = Permission.STORE

    def __init__(
        self,
        archive: IArchive,
        index: IIndex,
        recovery: IUncertain,
        clock: IReactorTime,
        freeSpace: IFreeSpace,
        duplicates: Duplicates = Duplicates.REPLACE,
        audit: IAudit = NULL_AUDIT,
        maxSize: int = sys.maxsize,
    ) -> None:
        self._archive = archive
        self._index = index
        self._recovery = recovery
        self._clock = clock
        self._freeSpace = freeSpace
        self._duplicates = duplicates
        self._audit = audit
        self._maxSize = maxSize
        self._tidying: set[Deferred[None]] = set()

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return transfersyntaxes.STORAGE

    def grantsSCPRole(self, sopClass: str) -> bool:
        return True

    def whenTidy(self) -> Deferred[None]:
        """Fires when what goes on behind answers that were given is done."""
        return DeferredList(list(self._tidying)).addCallback(lambda _: None)

    @asynchronous
    async def perform(self, operation: IOperation) -> None:
        head = self._head(operation)
        if self._freeSpace.isLow:
            raise _tooFull()
        writer = self._archive.create(head)
        reception = _Reception(
            operation, writer, self._freeSpace, self._clock, self._maxSize
        )
        try:
            await operation.deliverDataset(reception)
            await reception.scanning.whenDone()
            header = reception.finish()
        except BaseException:
            reception.scanning.stop()
            await writer.discard()
            raise
        receipt = _Receipt(operation, writer, header)
        registration = await self._keepAudited(receipt)
        responded = operation.respond(status.SUCCESS)
        tidying = self._tidy(receipt, registration)
        self._tidying.add(tidying)
        tidying.addErrback(lambda f: operation.log.failure("cannot tidy up", f))
        tidying.addCallback(lambda _: self._tidying.discard(tidying))
        await responded

    def _head(self, operation: IOperation) -> bytes:
        """
        What goes before the data set, from the command set, which is compared
        with the data set later.
        """
        request, context = operation.request, operation.context
        sopClass = cleanUID(request.AffectedSOPClassUID)
        if sopClass != context.abstractSyntax:
            raise DIMSEError(
                status.SOP_CLASS_NOT_SUPPORTED,
                "SOP Class UID is not that of the presentation context",
            )
        instance = cleanUID(request.AffectedSOPInstanceUID)
        if instance and not isUID(instance):
            raise DIMSEError(
                status.CANNOT_UNDERSTAND, "Affected SOP Instance UID is no valid UID"
            )
        established = operation.association.established
        return encodeHead(
            sopClass,
            instance,
            context.transferSyntax,
            established.callingAETitle,
            established.calledAETitle,
        )

    async def _keepAudited(self, receipt: _Receipt) -> Registration:
        association = receipt.operation.association
        instance = auditedOf(receipt.header)
        try:
            registration = await self._keep(receipt)
        except DIMSEError as error:
            why = f"{error.status:04X} {error.comment}"
            self._audit.received(association, instance, None, why)
            raise
        self._audit.received(association, instance, registration.outcome)
        return registration

    async def _keep(self, receipt: _Receipt) -> Registration:
        """
        Have it durable in archive and index.

        @raise DIMSEError: A700, and neither has it, or will have it for long.
        """
        writer, header = receipt.writer, receipt.header

        def announce(blob: Blob) -> None:
            receipt.blob = blob
            receipt.record = self._record(receipt, blob)
            receipt.announced = maybeDeferred(
                self._index.announce, receipt.record, blob.location
            )

        try:
            await writer.commit(
                header.StudyInstanceUID,
                header.SeriesInstanceUID,
                header.SOPInstanceUID,
                announce,
            )
        except ArchiveError as error:
            receipt.operation.log.error("Cannot store: {why}", why=str(error))
            self._freeSpace.look()
            await self._takeBack(receipt)
            raise DIMSEError(status.OUT_OF_RESOURCES, _commentOf(error)) from error
        return await self._register(receipt)

    async def _takeBack(self, receipt: _Receipt) -> None:
        """
        The file is not kept: nor is what the index was told of it. Nobody may
        have relied on it meanwhile and lose it.
        """
        if receipt.announced is None:
            return
        announcement = None
        try:
            announcement = await receipt.announced
        except DatabaseError as error:
            receipt.operation.log.error("Cannot announce: {why}", why=str(error))
            if isinstance(error, DatabaseUnavailable) and error.uncertain:
                # The database may be busy with it still.
                self._recovery.add(receipt.blob.location, receipt.writer)
                return
        await self._recovery.resolve(
            receipt.blob.location, receipt.writer, announcement
        )

    def _record(self, receipt: _Receipt, blob: Blob) -> InstanceRecord:
        header, operation = receipt.header, receipt.operation
        established = operation.association.established
        return InstanceRecord(
            StudyInstanceUID=header.StudyInstanceUID,
            SeriesInstanceUID=header.SeriesInstanceUID,
            SOPInstanceUID=header.SOPInstanceUID,
            SOPClassUID=header.SOPClassUID,
            TransferSyntaxUID=operation.context.transferSyntax,
            digest=blob.digest,
            size=blob.size,
            callingAETitle=established.callingAETitle,
            calledAETitle=established.calledAETitle,
            sourceAddress=established.peer,
            receivedAt=datetime.fromtimestamp(self._clock.seconds(), UTC),
            **header.texts,
        )

    async def _register(self, receipt: _Receipt) -> Registration:
        """
        The file is durable: see that the index has it.

        @raise DIMSEError: A700, and the file is gone, or with the recovery.
        """
        operation, ours = receipt.operation, receipt.blob.location
        assert receipt.announced is not None
        try:
            announcement = await receipt.announced
            if announcement is None:
                return await self._registerAgain(receipt)
            self._index.confirm(announcement)
            return Registration(
                Outcome.STORED, ours, None, announcement.patientConflict
            )
        except DatabaseUnavailable as error:
            operation.log.error("Cannot store: {why}", why=str(error))
            self._freeSpace.look()
            if error.uncertain:
                self._recovery.add(ours, receipt.writer)
                self._leaveMarked(receipt)
            else:
                await self._giveUp(receipt)
            raise DIMSEError(
                status.OUT_OF_RESOURCES, "Database is not available"
            ) from error
        except (DatabaseError, ArchiveError) as error:
            operation.log.error("Cannot store: {why}", why=str(error))
            await self._giveUp(receipt)
            raise DIMSEError(status.OUT_OF_RESOURCES, "Index fails") from error
        except BaseException:
            await self._giveUp(receipt)
            raise

    async def _giveUp(self, receipt: _Receipt) -> None:
        """The index does not have it."""
        self._leaveMarked(receipt)
        await receipt.writer.discard()

    def _leaveMarked(self, receipt: _Receipt) -> None:
        """Whether the others were replaced is found out later."""
        for location in receipt.marked:
            self._recovery.add(location)

    async def _mark(self, receipt: _Receipt, location: Location) -> None:
        """
        Mark a file that this one may take the place of.

        @raise ArchiveError: it cannot be marked.
        """
        receipt.marked.add(location)
        await self._archive.unsettle(location)

    async def _markChanged(self, receipt: _Receipt) -> None:
        """
        Mark the file that the index knows, if it holds other bytes.

        Another receipt may replace it before this one does. Then this one
        replaces that one's file, which has a mark of its own for as long as
        that takes.
        """
        if self._duplicates is Duplicates.KEEP:
            return
        record = receipt.record
        uid = UNIQUE_KEYS[Level.IMAGE]
        found = self._index.locate(
            Query(Level.IMAGE, (AnyOf(uid, (record.SOPInstanceUID,)),))
        )
        try:
            for known in await found.nextBatch():
                if (known.digest, known.TransferSyntaxUID) != (
                    record.digest,
                    record.TransferSyntaxUID,
                ):
                    await self._mark(receipt, known.location)
        finally:
            found.close()

    async def _registerAgain(self, receipt: _Receipt) -> Registration:
        """What the index knows already, perhaps with other bytes."""
        ours = receipt.blob.location
        await self._markChanged(receipt)
        registration = await self._index.register(
            receipt.record, ours, self._duplicates
        )
        if (
            registration.outcome in (Outcome.DUPLICATE, Outcome.KEPT)
            and registration.location != ours
            and not await self._isKept(registration.location)
        ):
            receipt.operation.log.warn(
                "The file of {instance} was gone or damaged, and has come again",
                instance=receipt.record.SOPInstanceUID,
            )
            await self._mark(receipt, registration.location)
            registration = await self._index.relocate(receipt.record, ours)
        return registration

    async def _isKept(self, location: Location) -> bool:
        """
        Whether a file that is said to be there already is, and whole, and
        durable: it may be on its way by another association.
        """
        stored = await self._index.storedAt(location)
        return stored is not None and await isWhole(self._archive, stored)

    @asynchronous
    async def _tidy(self, receipt: _Receipt, registration: Registration) -> None:
        """The answer is on its way: settle what is left on the disk."""
        instance = receipt.record.SOPInstanceUID
        log = receipt.operation.log
        if registration.patientConflict:
            log.warn(
                "Study {study} was first stored with another patient than in "
                "{instance}; it stays indexed with the first",
                study=receipt.record.StudyInstanceUID,
                instance=instance,
            )
        if registration.outcome is Outcome.REPLACED:
            log.warn("{instance} was sent again, changed: replaced", instance=instance)
        elif registration.outcome is Outcome.KEPT:
            log.warn(
                "{instance} was sent again, changed: kept as it was", instance=instance
            )
        try:
            superseded, ours = registration.superseded, receipt.blob.location
            if superseded is not None and superseded != ours:
                await self._archive.remove(superseded)
            for location in receipt.marked:
                await self._archive.settle(location)
            if registration.location == ours:
                await receipt.writer.settle()
            else:
                await receipt.writer.discard()
        except ArchiveError as error:
            log.error(
                "Cannot tidy up after {instance}: {why}",
                instance=instance,
                why=str(error),
            )
