"""Which study an instance belongs to, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from d360.asynchronous import asynchronous
from d360.attributes import REGISTRY, Level
from d360.audit.values import AuditedStudy
from d360.interfaces import IIndex
from d360.model import AnyOf, Query, StoredInstance

_INSTANCE = REGISTRY.byKeyword["SOPInstanceUID"]

_RETURNED = tuple(
    REGISTRY.byKeyword[keyword]
    for keyword in (
        "SOPInstanceUID",
        "StudyInstanceUID",
        "PatientID",
        "PatientName",
        "AccessionNumber",
    )
)

#: Instances that one question asks for.
_TOGETHER = 500

#: Where the index does not know it any more.
UNKNOWN = AuditedStudy("")


def folderOf(instance: StoredInstance) -> str:
    """A folder of the archive has the instances of one series."""
    return folderOfPath(instance.location.path)


def folderOfPath(path: str) -> str:
    """Likewise, of a L{Location<d360.model.Location>}'s path."""
    return path.rpartition("/")[0]


class Origins:
    """Asks the index: of each series, for one instance."""

    def __init__(self, index: IIndex) -> None:
        self._index = index

    @asynchronous
    async def studiesOf(self, folders: Mapping[str, str]) -> dict[str, AuditedStudy]:
        """
        The studies of instances, by L{folderOf}.

        @param folders: one SOP Instance UID of each.
        @raise DatabaseError: the index is away.
        """
        uids = tuple(folders.values())
        studies: dict[str, AuditedStudy] = {}
        for first in range(0, len(uids), _TOGETHER):
            studies |= await self._ask(uids[first : first + _TOGETHER])
        return {folder: studies.get(uid, UNKNOWN) for folder, uid in folders.items()}

    async def _ask(self, uids: Sequence[str]) -> dict[str, AuditedStudy]:
        query = Query(Level.IMAGE, (AnyOf(_INSTANCE, tuple(uids)),), _RETURNED)
        matches = self._index.match(query)
        found: dict[str, AuditedStudy] = {}
        try:
            while batch := await matches.nextBatch():
                for match in batch:
                    found[match.values[0]] = AuditedStudy(*match.values[1:])
        finally:
            matches.close()
        return found
