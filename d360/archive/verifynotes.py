"""How far the regular verification is, in a small file of the data directory."""

from __future__ import annotations

import json
import os

from attrs import asdict
from zope.interface import implementer

from d360.archive.disk import InThread
from d360.asynchronous import asynchronous
from d360.errors import ArchiveError
from d360.interfaces import IVerifyNotes
from d360.model import VerifyRound


def _round(text: str) -> VerifyRound | None:
    try:
        found = json.loads(text)
        return VerifyRound(
            float(found["begunAt"]), int(found["position"]), bool(found["complete"])
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        # Then everything is looked at once more, which is no loss.
        return None


@implementer(IVerifyNotes)
class VerifyNotes:
    """
    See L{IVerifyNotes}.

    @param path: the file.
    @param inThread: see L{FileArchive<d360.archive.files.FileArchive>}.
    """

    def __init__(self, path: str | os.PathLike[str], inThread: InThread) -> None:
        self._path = os.fspath(path)
        self._inThread = inThread

    @asynchronous
    async def read(self) -> VerifyRound | None:
        def read() -> str:
            try:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    return file.read()
            except FileNotFoundError:
                return ""

        try:
            return _round(await self._inThread(read))
        except OSError as error:
            raise self._refusal(error) from error

    @asynchronous
    async def write(self, round: VerifyRound) -> None:
        def write() -> None:
            # Another one, so that there is always a whole one; it need not
            # outlast a loss of power.
            unfinished = self._path + ".new"
            with open(unfinished, "w", encoding="utf-8") as file:
                json.dump(asdict(round), file)
            os.replace(unfinished, self._path)

        try:
            await self._inThread(write)
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> ArchiveError:
        return ArchiveError(f"{self._path}: {error.strerror}")
