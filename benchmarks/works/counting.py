"""How much a server really has: not what was sent to it."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset

from benchmarks.association import STUDY_ROOT_FIND, Association, decode, encode
from benchmarks.instances import Batch
from benchmarks.servers import Server


def keys(level: str, **wanted: str) -> bytes:
    """An identifier, encoded."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in wanted.items():
        setattr(dataset, keyword, value)
    return encode(dataset)


def ask(server: Server, level: str, **wanted: str) -> list[Dataset]:
    """
    What is found.

    @raise RuntimeError: the query fails.
    """
    with Association(server, STUDY_ROOT_FIND) as association:
        answer = association.find(keys(level, **wanted))
    if answer.status:
        raise RuntimeError(f"{server.name} answers a query with {answer.status:04X}")
    return [decode(match) for match in answer.matches]


def stored(server: Server, batches: Iterable[Batch]) -> int:
    """How many instances of these series it has."""
    place = server.files()
    if place is not None:
        return sum(1 for path in place.iterdir() if path.is_file())
    found: set[str] = set()
    for study, series in dict.fromkeys((b.study, b.series) for b in batches):
        matches = ask(
            server,
            "IMAGE",
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID="",
        )
        found.update(match.SOPInstanceUID for match in matches)
    return len(found)
