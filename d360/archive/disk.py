"""
How new files get to the disk: what L{d360.archive.incoming} does, asked for by
the reactor and done elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredLock

from d360.archive.blocks import Blocks
from d360.archive.incomingfiles import IncomingFiles
from d360.archive.intact import Signature
from d360.model import Location

#: Runs a function in a thread, as C{deferToThread} does.
InThread = Callable[..., Deferred[Any]]

#: Calls a function of one argument by the reactor, out of a thread.
Tell = Callable[[Callable[[Any], None], Any], None]


@frozen
class Part:
    """A part of a block."""

    block: memoryview
    begin: int
    end: int


class IDisk(Protocol):
    """
    What can be done with new files, which go by their token. What is asked for
    one of them is done in the order in which it was asked for.
    """

    def place(
        self, token: str, offset: int, folder: str, instance: str
    ) -> Deferred[Location]:
        """
        Make the file, under its mark and in its place.

        @param offset: where in the file the data set begins.
        @raise OSError: it can only be removed.
        """

    def append(self, token: str, offset: int, part: Part) -> Deferred[None]:
        """
        Write a part, which ends at a multiple of
        L{ALIGNMENT<d360.archive.incoming.ALIGNMENT>}.

        @raise OSError: it can only be removed.
        """

    def commit(
        self,
        token: str,
        offset: int,
        parts: Sequence[Part],
        folder: str,
        instance: str,
        placed: Callable[[Location], None],
    ) -> Deferred[tuple[Location, Signature]]:
        """
        Write the last bytes and make the file durable in its place.

        @param placed: is called with that before, unless L{place} was.
        @raise OSError: it could not be done, or something before it; the file
            can only be removed.
        """

    def settle(self, tokens: Sequence[str]) -> Deferred[list[str]]:
        """Take away marks; fires with what is wrong, C{""} where nothing is."""

    def remove(self, token: str) -> Deferred[list[str]]:
        """Remove all of a file; fires with why some of it is still there."""


class ThreadedDisk:
    """
    Does it in threads of this process; or on the spot, as C{inThread} has it.

    @param tell: has a function called by the reactor, for one of the threads.
    """

    def __init__(self, files: IncomingFiles, inThread: InThread, tell: Tell) -> None:
        self._files = files
        self._inThread = inThread
        self._tell = tell
        self._turns: WeakValueDictionary[str, DeferredLock] = WeakValueDictionary()

    def _inTurn(self, function: Callable[..., Any], token: str, *rest: Any) -> Any:
        turn = self._turns.get(token)
        if turn is None:
            turn = self._turns[token] = DeferredLock()
        return turn.run(self._inThread, function, token, *rest)

    def place(
        self, token: str, offset: int, folder: str, instance: str
    ) -> Deferred[Location]:
        """See L{IDisk.place}."""
        placed: Deferred[Location] = self._inTurn(
            self._files.place, token, offset, folder, instance
        )
        return placed

    def append(self, token: str, offset: int, part: Part) -> Deferred[None]:
        """See L{IDisk.append}."""
        data = part.block[part.begin : part.end]
        done: Deferred[None] = self._inTurn(self._files.append, token, offset, data)
        return done

    def commit(
        self,
        token: str,
        offset: int,
        parts: Sequence[Part],
        folder: str,
        instance: str,
        placed: Callable[[Location], None],
    ) -> Deferred[tuple[Location, Signature]]:
        """See L{IDisk.commit}."""
        data = [part.block[part.begin : part.end] for part in parts]

        def tell(location: Location) -> None:
            self._tell(placed, location)

        done: Deferred[tuple[Location, Signature]] = self._inTurn(
            self._files.commit, token, offset, data, folder, instance, tell
        )
        return done

    def settle(self, tokens: Sequence[str]) -> Deferred[list[str]]:
        """See L{IDisk.settle}."""
        return self._inThread(self._files.settle, tokens)

    def remove(self, token: str) -> Deferred[list[str]]:
        """See L{IDisk.remove}."""
        removed: Deferred[list[str]] = self._inTurn(self._files.remove, token)
        return removed


class IDiskMaker(Protocol):
    """Makes what an archive needs, for its folders and its blocks."""

    def __call__(self, root: str, incoming: str, direct: bool, blocks: Blocks) -> IDisk:
        """
        @param root: the archive's folder.
        @param incoming: the folder for marks, below it.
        @param direct: whether files may be written past the page cache.
        """
