"""
Instances sent as the SCU of the Storage service class (PS3.4 Annex B), over
an association of either role: which presentation contexts are wanted for them,
which one an instance goes through, and the C-STORE itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from attrs import field, frozen, mutable
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from d360.asynchronous import asynchronous
from d360.attributes import Level
from d360.errors import ArchiveError, TranscodingError
from d360.interfaces import (
    IArchive,
    IAssociation,
    IDatasetReader,
    IIndex,
    ITranscoder,
)
from d360.model import (
    AnyOf,
    Command,
    EstablishedAssociation,
    PresentationContext,
    Query,
    StoredInstance,
)
from d360.services.selection import UNIQUE_KEYS

_C_STORE = 0x0001

#: PS3.8 9.3.2.2: what one association can have.
MAX_CONTEXTS = 128

#: Seconds to wait before each further try to open a file. The index has an
#: instance some time before its file is complete, for the one is told of it while
#: the other is being written.
PAUSES = (0.2, 0.5, 1.0, 2.0)

#: An instance that the index has had for so many seconds has its file, or has
#: lost it: so a retrieve of many lost files is held up by the first ones only.
PATIENCE = sum(PAUSES)

#: An abstract syntax with the transfer syntaxes proposed for it.
Proposal = tuple[str, tuple[str, ...]]


class Selected:
    """
    The instances of a retrieve, as they are found.

    @ivar instances: in the order in which they are to be sent.
    """

    def __init__(self) -> None:
        self.instances: list[StoredInstance] = []
        # The transfer syntaxes of each SOP class, in the order of their
        # appearance.
        self._syntaxes: dict[str, dict[str, None]] = {}

    def add(self, batch: Iterable[StoredInstance]) -> None:
        """These too."""
        self.instances += batch
        for instance in batch:
            syntaxes = self._syntaxes.setdefault(instance.SOPClassUID, {})
            syntaxes[instance.TransferSyntaxUID] = None

    def shares(self, transcoder: ITranscoder) -> Iterable[Share]:
        """
        What to propose for them: each SOP class with each transfer syntax that
        it is stored in, by itself, so that the peer takes what is stored if it
        can; and once with those that the others can be brought to.
        """
        packed: list[dict[str, tuple[Proposal, ...]]] = [{}]
        room = MAX_CONTEXTS
        for sopClass, stored in self._syntaxes.items():
            proposals = tuple(_proposals(sopClass, tuple(stored), transcoder))
            if len(proposals) > room:
                packed.append({})
                room = MAX_CONTEXTS
            packed[-1][sopClass] = proposals
            room -= len(proposals)
        for classes in packed:
            contexts = tuple(one for each in classes.values() for one in each)
            instances = deque(self.instances)
            if len(packed) > 1:
                instances = deque(i for i in instances if i.SOPClassUID in classes)
            if instances:
                yield Share(contexts, instances)


@frozen
class Share:
    """Instances for which the contexts of one association are enough."""

    contexts: tuple[Proposal, ...]
    instances: deque[StoredInstance]


def _proposals(
    sopClass: str, stored: tuple[str, ...], transcoder: ITranscoder
) -> Iterable[Proposal]:
    targets = (target for one in stored for target in transcoder.targetsOf(one))
    others = tuple(dict.fromkeys(t for t in targets if t not in stored))
    # Their order means nothing in the standard, but GDCM reads everything as
    # the last context that it has accepted says.
    if others:
        yield sopClass, others
    for transferSyntax in stored:
        yield sopClass, (transferSyntax,)


@mutable
class Contexts:
    """
    The presentation contexts of an association by which we can send.
    """

    established: EstablishedAssociation
    transcoder: ITranscoder
    _chosen: dict[tuple[str, str], PresentationContext | None] = field(factory=dict)

    def choose(self, instance: StoredInstance) -> PresentationContext | None:
        """The one for an instance: as it is stored, or the best other one."""
        key = instance.SOPClassUID, instance.TransferSyntaxUID
        if key not in self._chosen:
            self._chosen[key] = self._choose(*key)
        return self._chosen[key]

    def _choose(self, sopClass: str, transferSyntax: str) -> PresentationContext | None:
        ours = {
            context.transferSyntax: context
            for context in self.established.contexts.values()
            if context.abstractSyntax == sopClass
            and (context.scu if self.established.requestor else context.scp)
        }
        for wanted in (transferSyntax, *self.transcoder.targetsOf(transferSyntax)):
            if wanted in ours:
                return ours[wanted]
        return None


class Sender:
    """Opens what is stored, as it is or transcoded, and sends it."""

    def __init__(
        self,
        archive: IArchive,
        index: IIndex,
        transcoder: ITranscoder,
        clock: IReactorTime,
    ) -> None:
        self.transcoder = transcoder
        self._archive = archive
        self._index = index
        self._clock = clock

    def seconds(self) -> float:
        """The time, as L{open} is to be told it."""
        return self._clock.seconds()

    def open(
        self, instance: StoredInstance, context: PresentationContext, since: float
    ) -> Deferred[IDatasetReader]:
        """
        The data set of an instance, as the context's transfer syntax wants it.
        May be cancelled.

        @param since: when it was in the index at the latest: a file that is not
            as it must be may be on its way for L{PATIENCE} from then.
        @raise ArchiveError: its file is gone or damaged, or what took its place
            does not belong into the context.
        @raise TranscodingError: it cannot be brought to that transfer syntax.
        """
        opening = self._openAs(instance, context)
        return opening.addErrback(self._openAgain, instance, context, since)

    @asynchronous
    async def _openAgain(
        self,
        failure: Failure,
        instance: StoredInstance,
        context: PresentationContext,
        since: float,
    ) -> IDatasetReader:
        """It may have been replaced since it was found, or be on its way yet."""
        failure.trap(ArchiveError)
        pauses = iter(PAUSES)
        while True:
            there = await self._whereNow(instance)
            if there is None:
                failure.raiseException()
            if there.SOPClassUID != instance.SOPClassUID:
                # The command would name another class than the data set.
                raise ArchiveError("it was replaced by one of another SOP class")
            if there != instance:
                # Its file is as new as what the index has of it.
                since, pauses = self.seconds(), iter(PAUSES)
            else:
                pause = next(pauses, None)
                if pause is None or self.seconds() - since >= PATIENCE:
                    failure.raiseException()
                await deferLater(self._clock, pause)
            instance = there
            try:
                return await self._openAs(instance, context)
            except ArchiveError:
                failure = Failure()

    def _openAs(
        self, instance: StoredInstance, context: PresentationContext
    ) -> Deferred[IDatasetReader]:
        if context.transferSyntax == instance.TransferSyntaxUID:
            # As it is with nearly all, so that no coroutine is made for it.
            return self._openFile(instance)
        return self._transcode(instance, context)

    @asynchronous
    async def _transcode(
        self, instance: StoredInstance, context: PresentationContext
    ) -> IDatasetReader:
        (await self._openFile(instance)).close()
        if context.transferSyntax not in self.transcoder.targetsOf(
            instance.TransferSyntaxUID
        ):
            raise TranscodingError("it was replaced by one in another transfer syntax")
        return await self.transcoder.transcode(
            instance.location, instance.TransferSyntaxUID, context.transferSyntax
        )

    def _openFile(self, instance: StoredInstance) -> Deferred[IDatasetReader]:
        return self._archive.open(instance.location, instance.size, instance.digest)

    @asynchronous
    async def _whereNow(self, instance: StoredInstance) -> StoredInstance | None:
        key = AnyOf(UNIQUE_KEYS[Level.IMAGE], (instance.SOPInstanceUID,))
        found = self._index.locate(Query(Level.IMAGE, (key,)))
        try:
            batch = await found.nextBatch()
        finally:
            found.close()
        return batch[0] if batch else None


def store(
    association: IAssociation,
    context: PresentationContext,
    instance: StoredInstance,
    dataset: IDatasetReader,
    command: Command,
) -> Deferred[int]:
    """
    C-STORE an instance.

    @param dataset: is closed afterwards.
    @param command: what every C-STORE of the retrieve has in common.
    @return: the Status of the response.
    @raise AssociationEnded: no response came.
    """
    request = Command(
        _C_STORE,
        AffectedSOPClassUID=instance.SOPClassUID,
        AffectedSOPInstanceUID=instance.SOPInstanceUID,
        Priority=command.Priority,
        MoveOriginatorApplicationEntityTitle=(
            command.MoveOriginatorApplicationEntityTitle
        ),
        MoveOriginatorMessageID=command.MoveOriginatorMessageID,
    )
    storing = association.request(context, request, dataset)
    return storing.addBoth(_statusOf, dataset)


def _statusOf(outcome: Command | Failure, dataset: IDatasetReader) -> int | Failure:
    dataset.close()
    if isinstance(outcome, Failure):
        return outcome
    return outcome.Status if outcome.Status is not None else 0xC000
