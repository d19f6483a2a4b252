"""
The process that writes new files: C{python -m d360.archive.diskchild SOCKET
BLOCKS ROOT INCOMING DIRECT THREADS}, the first two being descriptors that it
inherits. It answers L{d360.archive.diskprocess}, and ends when that is gone.
"""

from __future__ import annotations

import errno
import signal
import socket
import sys
from collections import deque
from threading import Lock, Thread
from typing import Any

from d360.archive.blocks import MappedBlocks
from d360.archive.diskmessages import DONE, PLACED, REFUSED, join, split
from d360.archive.incoming import claim
from d360.archive.incomingfiles import IncomingFiles
from d360.model import Location

_READ = 65536

#: What ends the server, or concerns its terminal, does not concern us: we end
#: after what we are at work with.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class DiskChild:
    """
    Does what is asked for, in threads: for each file in order, for several at
    the same time.
    """

    def __init__(
        self, end: socket.socket, blocks: MappedBlocks, files: IncomingFiles
    ) -> None:
        self._end = end
        self._blocks = blocks
        self._files = files
        self._sending = Lock()
        self._reading = Lock()
        self._read: deque[tuple[Any, ...]] = deque()
        self._rest = b""
        # Of each file that a thread is at work with, what it was asked for next.
        self._following: dict[str, deque[tuple[Any, ...]]] = {}
        self._ordering = Lock()

    def run(self, threads: int) -> None:
        """Until the other end is closed, or gone."""
        working = [Thread(target=self._work) for _ in range(threads)]
        for thread in working:
            thread.start()
        for thread in working:
            thread.join()

    def _work(self) -> None:
        # Who reads a question also answers it, so that nobody else has to be
        # woken for it; the next one who has nothing to do reads on.
        while (asked := self._ask()) is not None:
            while asked is not None:
                self._do(*asked)
                asked = self._next(asked)

    def _ask(self) -> tuple[Any, ...] | None:
        """The next question that can be dealt with; C{None} after the last."""
        with self._reading:
            while True:
                while self._read:
                    question = self._read.popleft()
                    if self._isFirst(question):
                        return question
                try:
                    data = self._end.recv(_READ)
                except ConnectionError:
                    # It ended with answers unread.
                    data = b""
                if not data:
                    return None
                questions, self._rest = split(self._rest + data)
                self._read.extend(questions)

    def _isFirst(self, question: tuple[Any, ...]) -> bool:
        """Whether nobody is at work with its file; else it is left to them."""
        what, about = question[1], question[2]
        if what == "settle":
            return True
        with self._ordering:
            following = self._following.get(about)
            if following is not None:
                following.append(question)
                return False
            self._following[about] = deque()
            return True

    def _next(self, question: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """What to do after it, for the same file."""
        if question[1] == "settle":
            return None
        with self._ordering:
            following = self._following[question[2]]
            if following:
                return following.popleft()
            del self._following[question[2]]
            return None

    def _do(self, number: int, what: str, *arguments: Any) -> None:
        try:
            value = getattr(self, what)(number, *arguments)
        except OSError as error:
            strerror = error.strerror or str(error)
            self._answer(number, REFUSED, (error.errno or errno.EIO, strerror))
        except Exception as error:
            name = f"an unexpected {type(error).__name__}"
            self._answer(number, REFUSED, (errno.EIO, name))
        else:
            self._answer(number, DONE, value)

    def _answer(self, number: int, kind: int, value: Any) -> None:
        try:
            with self._sending:
                self._end.sendall(join((number, kind, value)))
        except OSError:
            # Nobody listens any more: what was done is found by the next start.
            return

    # --- what can be asked for: see IDisk

    def place(
        self, number: int, token: str, offset: int, folder: str, instance: str
    ) -> tuple[str, int]:
        """Where it is."""
        return _asTuple(self._files.place(token, offset, folder, instance))

    def append(
        self, number: int, token: str, offset: int, part: tuple[int, int, int]
    ) -> None:
        """Nothing to tell."""
        self._files.append(token, offset, self._blocks.part(*part))

    def commit(
        self,
        number: int,
        token: str,
        offset: int,
        parts: list[tuple[int, int, int]],
        folder: str,
        instance: str,
    ) -> tuple[Any, Any]:
        """Where it is, and its signature."""

        def placed(location: Location) -> None:
            self._answer(number, PLACED, _asTuple(location))

        data = [self._blocks.part(*part) for part in parts]
        location, signature = self._files.commit(
            token, offset, data, folder, instance, placed
        )
        return _asTuple(location), signature

    def settle(self, number: int, tokens: list[str]) -> list[str]:
        """What is wrong with each."""
        return self._files.settle(tokens)

    def remove(self, number: int, token: str) -> list[str]:
        """What is wrong."""
        return self._files.remove(token)


def _asTuple(location: Location) -> tuple[str, int]:
    return location.path, location.dataSetOffset


def main() -> None:
    """Serve until the server is gone."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    end, blocks, root, incoming, direct, threads = sys.argv[1:]
    # Kept until the end: who comes after us waits for it.
    claim(incoming)
    files = IncomingFiles(root, incoming, bool(int(direct)))
    child = DiskChild(socket.socket(fileno=int(end)), MappedBlocks(int(blocks)), files)
    child.run(int(threads))


if __name__ == "__main__":
    main()
