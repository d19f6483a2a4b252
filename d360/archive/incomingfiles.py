"""
All files on their way, by token: what L{d360.archive.disk} asks for, done where
it may block.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from d360.archive.incoming import Folders, IncomingFile
from d360.archive.intact import Signature
from d360.archive.layout import PART, fromMark
from d360.model import Location


class IncomingFiles:
    """
    The files on their way, by token; for several threads, of which each is at
    work with another file.

    @param root: the archive's folder.
    @param incoming: the one for marks, below it.
    @param direct: whether files may be written past the page cache.
    """

    def __init__(self, root: str, incoming: str, direct: bool) -> None:
        self._folders = Folders(root)
        self._incoming = os.path.join(root, incoming)
        self._direct = direct
        self._files: dict[str, IncomingFile] = {}

    def _file(self, token: str, offset: int) -> IncomingFile:
        file = self._files.get(token)
        if file is None:
            file = self._files[token] = IncomingFile(
                self._folders, self._incoming, token, offset, self._direct
            )
        return file

    def place(self, token: str, offset: int, folder: str, instance: str) -> Location:
        """See L{d360.archive.disk.IDisk.place}."""
        return self._file(token, offset).place(folder, instance)

    def append(self, token: str, offset: int, data: memoryview) -> None:
        """See L{d360.archive.disk.IDisk.append}."""
        self._file(token, offset).append(data)

    def commit(
        self,
        token: str,
        offset: int,
        pieces: Sequence[memoryview],
        folder: str,
        instance: str,
        placed: Callable[[Location], None],
    ) -> tuple[Location, Signature]:
        """See L{d360.archive.disk.IDisk.commit}."""
        return self._file(token, offset).commit(pieces, folder, instance, placed)

    def settle(self, tokens: Sequence[str]) -> list[str]:
        """See L{d360.archive.disk.IDisk.settle}."""
        problems = []
        for token in tokens:
            file = self._files.get(token)
            try:
                if file is not None:
                    file.settle()
                else:
                    self._settleByName(token)
            except OSError as error:
                problems.append(error.strerror or "it cannot be unlinked")
            else:
                self._files.pop(token, None)
                problems.append("")
        return problems

    def remove(self, token: str) -> list[str]:
        """See L{d360.archive.disk.IDisk.remove}."""
        file = self._files.pop(token, None)
        if file is not None:
            problems = file.remove()
        else:
            problems = self._removeByName(token)
        return [problem.strerror or "it cannot be unlinked" for problem in problems]

    def _names(self, token: str) -> list[str]:
        """
        What there is of a file whose maker has ended: there are few of these,
        and each is looked for.
        """
        return [
            os.path.join(self._incoming, name)
            for name in os.listdir(self._incoming)
            if name == token + PART or name.endswith("@" + token)
        ]

    def _settleByName(self, token: str) -> None:
        for name in self._names(token):
            os.unlink(name)

    def _removeByName(self, token: str) -> list[OSError]:
        problems = []
        for name in self._names(token):
            mark = fromMark(os.path.basename(name))
            try:
                if mark is not None:
                    place = os.path.join(self._folders.root, mark[0].path)
                    with suppress(FileNotFoundError):
                        if os.path.samefile(name, place):
                            os.unlink(place)
                    self._folders.prune(mark[0].path.rpartition("/")[0])
                os.unlink(name)
            except OSError as error:
                problems.append(error)
        return problems
