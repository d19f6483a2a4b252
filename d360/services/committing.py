"""
What a storage commitment that was asked for comes to (PS3.4 J.3.3): its instances
are checked, and the requestor is told which of them we have for good, and which
not and why.

It is told over the association that it asked over, if that is still open, else
over one of ours, with the remote AE of its AE title; again and again if that
fails, also after a restart. One that cannot be told makes nobody else wait: there
is one association of ours with an AE at a time, and each has a time of its own at
which it is tried again. Nor do one's many files: those of one request at a time are
read for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, KeysView
from typing import Any, Generic, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import (
    Deferred,
    DeferredList,
    DeferredLock,
    DeferredSemaphore,
    fail,
    succeed,
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from d360.asynchronous import asynchronous
from d360.audit.null import NULL_AUDIT
from d360.audit.values import Peer
from d360.errors import DatabaseError
from d360.interfaces import (
    IArchive,
    IAssociation,
    IAssociationOpener,
    IAudit,
    ICommitmentRequests,
    IIndex,
    IRemoteAEs,
)
from d360.logs import Logger
from d360.model import (
    CommitmentFinding,
    CommitmentRequest,
    PresentationContext,
    RemoteAE,
)
from d360.services.commitment import LEASE
from d360.services.commitmentchecks import CommitmentChecks, Pace
from d360.services.commitmentreports import CommitmentReports, NotTold, Unreachable

#: Requests whose files are read at the same time.
AT_ONCE = 4

#: Instances of requests that were just asked for and are seen to at the same time, in
#: all and of one AE; of each request as if it had so many at least. Further ones wait
#: in the database, and are told of over associations of ours.
MOST = 200_000
MOST_OF_ONE = 50_000
LEAST = 500

#: AEs that are seen to at the same time of what was in the database.
MOST_LOOKING = 16

#: Seconds between looks for requests that are due.
INTERVAL = 15.0

#: Seconds to the next attempt, doubled up to the last, and after how many
#: nobody is told any more.
FIRST_DELAY = 60.0
LAST_DELAY = 3600.0
GIVE_UP = 7 * 86400.0


K = TypeVar("K")


class _Taken(Exception):
    """Somebody else sees to it, or nobody has to any more."""


@define(eq=False)
class _Line:
    """Who waits for something."""

    turn: DeferredLock = field(factory=DeferredLock)
    count: int = 0


class _Lines(Generic[K]):
    """
    Does one thing at a time with each AE, or each association.

    @ivar busy: those with which something is done.
    """

    def __init__(self) -> None:
        self._lines: dict[K, _Line] = {}
        self.busy: KeysView[K] = self._lines.keys()

    @asynchronous
    async def run(self, key: K, do: Callable[..., Any], *arguments: Any) -> Any:
        """Do something with one, when it is its turn."""
        line = self._lines.setdefault(key, _Line())
        line.count += 1
        try:
            return await line.turn.run(do, *arguments)
        finally:
            line.count -= 1
            if not line.count:
                del self._lines[key]


def _delayAfter(attempts: int) -> float:
    """Seconds to the next one."""
    return min(FIRST_DELAY * 2.0 ** min(attempts, 10), LAST_DELAY)


class Commitments:
    """
    See the module.

    @param aeTitle: ours.
    @param inThread: runs a function in a thread, with its arguments.
    """

    _log = Logger("d360.commitment")

    def __init__(
        self,
        requests: ICommitmentRequests,
        archive: IArchive,
        index: IIndex,
        remoteAEs: IRemoteAEs,
        opener: IAssociationOpener,
        clock: IReactorTime,
        aeTitle: str,
        inThread: Callable[..., Deferred[Any]],
        audit: IAudit = NULL_AUDIT,
    ) -> None:
        self._requests = requests
        self._checks = CommitmentChecks(archive, index)
        self._remoteAEs = remoteAEs
        self._reports = CommitmentReports(opener, clock, aeTitle, inThread)
        self._clock = clock
        self._audit = audit
        self._reading = DeferredSemaphore(AT_ONCE)
        self._checking: _Lines[str] = _Lines()
        self._tellingThere: _Lines[IAssociation] = _Lines()
        self._telling: _Lines[str] = _Lines()
        self._underWay: set[Deferred[Any]] = set()
        self._call: IDelayedCall | None = None
        # Of those that were just asked for, how many instances there are of each AE.
        self._begun: Counter[str] = Counter()
        # Whose requests are seen to that were in the database.
        self._lookedAt: set[str] = set()
        self._looking = 0
        self._asking = DeferredLock()
        # How often in succession a remote AE could not be told.
        self._failures: Counter[str] = Counter()
        self._stopped = False

    # --- what is seen to

    def begin(
        self,
        request: CommitmentRequest,
        association: IAssociation,
        context: PresentationContext,
    ) -> None:
        """See L{d360.services.commitment.ITeller}."""
        title, size = request.aeTitle, max(len(request.references), LEAST)
        isRoom = self._begun.total() + size <= MOST
        if not isRoom or self._begun[title] + size > MOST_OF_ONE:
            self._goOn(self._requests.postpone(request.identifier, 0))
            return
        self._begun[title] += size
        work = self._seeTo(request, association, context)
        self._goOn(work.addCallback(lambda _: self._hasEnded(title, size)))

    def _hasEnded(self, title: str, size: int) -> None:
        self._begun[title] -= size
        if not self._begun[title]:
            del self._begun[title]

    def start(self) -> None:
        """Look for requests that are due, now and from now on."""
        self.look()

    def look(self) -> None:
        """Look for them now, and again in a while."""
        if self._stopped:
            return
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = self._clock.callLater(INTERVAL, self.look)
        self._goOn(self._look())

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires when what is under way has ended."""
        self._stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        return DeferredList(list(self._underWay)).addCallback(lambda _: None)

    def _goOn(self, work: Deferred[Any]) -> None:
        ended: Deferred[None] = Deferred()
        self._underWay.add(ended)

        def end(_: object) -> None:
            self._underWay.discard(ended)
            ended.callback(None)

        work.addErrback(lambda f: self._log.failure("storage commitment failed", f))
        work.addCallback(end)

    @asynchronous
    async def _look(self) -> None:
        """
        See to what is due, one after the other; and as soon as there is one, have
        others look as well.
        """
        if self._looking >= MOST_LOOKING:
            return
        self._looking += 1
        try:
            while request := await self._asking.run(self._next):
                self._goOn(self._look())
                try:
                    await self._seeTo(request, None, None)
                finally:
                    self._lookedAt.discard(request.aeTitle)
        except DatabaseError as error:
            self._log.warn("Cannot look for commitments: {why}", why=str(error))
        finally:
            self._looking -= 1

    @asynchronous
    async def _next(self) -> CommitmentRequest | None:
        """What is due, of an AE that nobody is busy with."""
        if self._stopped:
            return None
        busy = self._lookedAt.union(self._telling.busy)
        request = await self._requests.due(LEASE, busy)
        if request is not None:
            self._lookedAt.add(request.aeTitle)
        return request

    @asynchronous
    async def _seeTo(
        self,
        request: CommitmentRequest,
        association: IAssociation | None,
        context: PresentationContext | None,
    ) -> None:
        """Check it, tell, and forget it; or see to it that it is tried again."""
        try:
            try:
                await self._checkAndTell(request, association, context)
            except (_Taken, DatabaseError):
                raise
            except NotTold as error:
                await self._notTold(request, str(error))
            except Exception:
                # One must not stand in the way of all others.
                self._log.failure("storage commitment failed", Failure())
                await self._notTold(request, "see the log for the error")
        except _Taken:
            return
        except DatabaseError as error:
            # The lease brings it up again.
            self._log.warn(
                "Storage commitment {transaction} has to wait: {why}",
                transaction=request.transactionUID,
                why=str(error),
            )

    @asynchronous
    async def _checkAndTell(
        self,
        request: CommitmentRequest,
        association: IAssociation | None,
        context: PresentationContext | None,
    ) -> None:
        """@raise NotTold: it could not be done."""
        if association is None:
            # Before files are read for nobody.
            await self._remoteOf(request)
        # So that nobody has all of those who read.
        finding: CommitmentFinding = await self._checking.run(
            request.aeTitle, self._reading.run, self._check, request
        )
        checked = evolve(request, reasons=finding.reasons)
        address = await self._tell(checked, association, context)
        self._audit.committed(
            Peer(request.aeTitle, address),
            request.transactionUID,
            request.references,
            finding,
        )
        await self._requests.remove(request.identifier)

    @asynchronous
    async def _hold(self, request: CommitmentRequest) -> None:
        """
        It may have waited for its turn so long that others had theirs.

        @raise _Taken: they had.
        @raise NotTold: nothing more is to be begun.
        """
        if self._stopped:
            raise NotTold("the server stops")
        if not await self._requests.renew(request, LEASE):
            raise _Taken()

    @asynchronous
    async def _remoteOf(self, request: CommitmentRequest) -> RemoteAE:
        """
        Who is to be told.

        @raise NotTold: nobody, now.
        """
        remote = await self._remoteAEs.get(request.aeTitle)
        if remote is None:
            raise NotTold(
                "it is none of the remote AEs: d360ctl ae add, or have it keep its "
                "association open until it is told"
            )
        return remote

    @asynchronous
    async def _notTold(self, request: CommitmentRequest, why: str) -> None:
        if self._stopped:
            # At the next start, or as soon as others look.
            await self._requests.postpone(request.identifier, 0)
            return
        if request.age > GIVE_UP:
            self._log.error(
                "{title} cannot be told of storage commitment {transaction}, which "
                "is given up: {why}",
                title=request.aeTitle,
                transaction=request.transactionUID,
                why=why,
            )
            await self._requests.remove(request.identifier)
            return
        delay = max(_delayAfter(request.attempts), self._delayOf(request.aeTitle))
        self._log.warn(
            "{title} cannot be told of storage commitment {transaction}, which is "
            "tried again in {seconds:.0f} s: {why}",
            title=request.aeTitle,
            transaction=request.transactionUID,
            seconds=delay,
            why=why,
        )
        await self._requests.postpone(request.identifier, delay, why)

    def _delayOf(self, title: str) -> float:
        """Seconds to the next attempt to tell a remote AE, whatever of."""
        failures = self._failures[title]
        return _delayAfter(failures - 1) if failures else 0.0

    # --- what we have

    @asynchronous
    async def _check(self, request: CommitmentRequest) -> CommitmentFinding:
        await self._hold(request)
        finding = await self._checks.check(
            request.references, self._paceOf(request), request.reasons
        )
        if request.reasons is None:
            await self._requests.checked(request.identifier, finding.reasons)
        return finding

    def _paceOf(self, request: CommitmentRequest) -> Pace:
        """Holds it while it is checked."""
        held = self._clock.seconds()

        def pace(count: int) -> Deferred[None]:
            nonlocal held
            if self._stopped:
                return fail(NotTold("the server stops"))
            if self._clock.seconds() - held < LEASE / 4:
                return succeed(None)
            held = self._clock.seconds()
            return self._hold(request)

        return pace

    # --- who is told

    @asynchronous
    async def _tell(
        self,
        request: CommitmentRequest,
        association: IAssociation | None,
        context: PresentationContext | None,
    ) -> str:
        """
        Fires with the address of who was told.

        @raise NotTold: it could not be done.
        """
        if association is not None and context is not None:
            try:
                await self._tellingThere.run(
                    association, self._tellThere, request, association, context
                )
                return association.established.peer
            except NotTold as error:
                self._log.info(
                    "{title} is told over an association of ours: {why}",
                    title=request.aeTitle,
                    why=str(error),
                )
        title, failures = request.aeTitle, self._failures[request.aeTitle]
        address: str = await self._telling.run(
            title, self._tellInTurn, request, failures
        )
        return address

    @asynchronous
    async def _tellThere(
        self,
        request: CommitmentRequest,
        association: IAssociation,
        context: PresentationContext,
    ) -> None:
        await self._hold(request)
        await self._reports.tellThere(
            request, association, context, lambda: self._stopped
        )

    @asynchronous
    async def _tellInTurn(self, request: CommitmentRequest, failures: int) -> str:
        """
        @param failures: those before it waited for its turn.
        """
        title = request.aeTitle
        await self._hold(request)
        remote = await self._remoteOf(request)
        if self._failures[title] > failures:
            raise NotTold("it could not be told of another one just before")
        if self._stopped:
            # Nobody would end the association.
            raise NotTold("the server stops")
        try:
            await self._reports.tellAt(remote, request)
        except Unreachable:
            self._failures[title] += 1
            await self._requests.putOff(title, self._delayOf(title))
            raise
        del self._failures[title]
        return remote.host
