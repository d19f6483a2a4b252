"""
Transcoding away from the reactor: jobs wait in line for a few child processes.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.errors import ArchiveError, TranscodingError
from d360.interfaces import IDatasetReader, ITranscoder
from d360.logs import Logger
from d360.model import Location
from d360.transcoding import syntaxes
from d360.transcoding.children import Child
from d360.transcoding.job import Job

_SUFFIX = ".transcoded"

#: Seconds that a child has for its last job when the server stops.
_LAST_PATIENCE = 2.0

_STOPPING = "the server is stopping"

#: Bytes that one frame may take while it is decoded.
MEMORY = 2 << 30


@implementer(ITranscoder)
class Transcoder:
    """
    See L{ITranscoder}. Children are started when there is something for them to
    do, and stay.

    @param folder: for the new data sets, which are there until they are open,
        and take no name any more then.
    @param pathOf: see L{d360.interfaces.IArchive.pathOf}.
    @param openDataset: opens a file of which all is the data set.
    @param workers: how many children there are at most.
    @param timeout: seconds that a job may take, its time in line not counted.
    @param memory: bytes that a child may take on top of what it begins with.
    """

    _log = Logger("d360.transcoding")

    def __init__(
        self,
        reactor: Any,
        folder: str,
        pathOf: Callable[[Location], str],
        openDataset: Callable[[str], Deferred[IDatasetReader]],
        workers: int = 2,
        timeout: float = 300.0,
        memory: int = MEMORY,
    ) -> None:
        self._reactor = reactor
        self._folder = os.path.abspath(folder)
        self._pathOf = pathOf
        self._openDataset = openDataset
        self._workers = workers
        self._timeout = timeout
        self._memory = memory
        self._runID = secrets.token_hex(4)
        self._serial = count()
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._waiting: deque[tuple[Job, Deferred[int]]] = deque()
        self._stopped: Deferred[None] | None = None

    # --- start and end

    def start(self) -> None:
        """
        Make the folder, and remove what an earlier run has left in it. Blocks:
        for the start of the server.

        @raise OSError: the folder cannot be used.
        """
        os.makedirs(self._folder, 0o700, exist_ok=True)
        for name in os.listdir(self._folder):
            if name.endswith(_SUFFIX):
                os.unlink(os.path.join(self._folder, name))

    @property
    def waiting(self) -> int:
        """How many jobs no child has begun with."""
        return len(self._waiting)

    def stop(self) -> Deferred[None]:
        """
        Give up what waits, and end the children; fires when they have ended.
        Nothing more can be transcoded.
        """
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            done.errback(TranscodingError(_STOPPING))
        for child in self._children:
            child.finish()
        later = self._reactor.callLater(_LAST_PATIENCE, self._killAll)
        stopped.addCallback(lambda _: later.cancel() if later.active() else None)
        if not self._children:
            stopped.callback(None)
        return stopped

    def _killAll(self) -> None:
        for child in self._children:
            child.kill(_STOPPING)

    # --- ITranscoder

    def targetsOf(self, transferSyntax: str) -> tuple[str, ...]:
        return syntaxes.targetsOf(transferSyntax)

    @asynchronous
    async def transcode(
        self, location: Location, transferSyntax: str, target: str
    ) -> IDatasetReader:
        if target not in self.targetsOf(transferSyntax):
            raise TranscodingError(f"{transferSyntax} cannot become {target}")
        output = os.path.join(
            self._folder, f"{self._runID}-{next(self._serial):x}{_SUFFIX}"
        )
        try:
            path = self._pathOf(location)
            job = Job(path, location.dataSetOffset, transferSyntax, target, output)
            await self._inTurn(job)
            try:
                return await self._openDataset(output)
            finally:
                # What is open can be read without a name.
                self._remove(output)
        except ArchiveError as problem:
            raise TranscodingError(f"it cannot be read: {problem}") from problem

    def _inTurn(self, job: Job) -> Deferred[int]:
        """Have a child do it. Can be cancelled, also while a child is at it."""
        done: Deferred[int] = Deferred(lambda _: self._forget(job))
        if self._stopped is not None:
            done.errback(TranscodingError(_STOPPING))
            return done
        self._waiting.append((job, done))
        self._next()
        return done

    def _forget(self, job: Job) -> None:
        """Nobody waits for it any more; a child that is at it ends it."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != job)

    def _next(self) -> None:
        """Give children what waits, the oldest first."""
        while self._waiting and (self._idle or len(self._children) < self._workers):
            job, done = self._waiting.popleft()
            try:
                child = self._idle.pop() if self._idle else self._newChild()
            except OSError as problem:
                done.errback(TranscodingError(f"no process: {problem.strerror}"))
                continue
            answered = child.run(job, self._timeout)
            answered.addBoth(self._answered, child, job, done)

    def _newChild(self) -> Child:
        child = Child(self._reactor, self._ended)
        child.spawn(self._memory)
        self._children.add(child)
        return child

    def _ended(self, child: Child) -> None:
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        if self._stopped is not None and not self._children:
            self._stopped.callback(None)

    def _answered(
        self, result: int | Failure, child: Child, job: Job, done: Deferred[int]
    ) -> None:
        if child in self._children:
            self._idle.append(child)
        if done.called or isinstance(result, Failure):
            self._remove(job.output)
        if not done.called:
            done.callback(result)
        self._next()

    def _remove(self, path: str) -> None:
        """In a thread: a large file can take its time."""
        pool = self._reactor.getThreadPool()
        removed = deferToThreadPool(self._reactor, pool, _unlink, path)
        removed.addErrback(lambda f: self._log.failure("Cannot remove {path}", f))


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
