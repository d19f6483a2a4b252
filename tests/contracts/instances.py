"""Instances to enter into an index, and how its contract asks for them."""

from __future__ import annotations

import hashlib
import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from d360.attributes import REGISTRY, Attribute, Level
from d360.model import (
    Condition,
    Duplicates,
    InstanceRecord,
    Location,
    Query,
    Registration,
)

REPLACE, KEEP, NEWEST = Duplicates.REPLACE, Duplicates.KEEP, Duplicates.NEWEST
MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


def attribute(keyword: str) -> Attribute:
    """One of the registry."""
    return REGISTRY.byKeyword[keyword]


def record(
    study: str = "1.1",
    series: str = "1.1.1",
    instance: str = "1.1.1.1",
    content: str = "",
    minute: int = 0,
    **elements: str,
) -> InstanceRecord:
    """
    An instance.

    @param content: what its digest is of.
    @param minute: after L{MORNING}, of its reception.
    """
    given: dict[str, Any] = {
        "PatientID": "P1",
        "PatientName": "Rossi^Anna",
        "Modality": "CT",
        **elements,
    }
    return InstanceRecord(
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        SOPInstanceUID=instance,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        TransferSyntaxUID=given.pop("TransferSyntaxUID", "1.2.840.10008.1.2.1"),
        digest=hashlib.sha256((content or instance).encode()).digest(),
        size=1000,
        callingAETitle="CT01",
        calledAETitle="D360PACS",
        sourceAddress="192.0.2.1",
        receivedAt=MORNING + timedelta(minutes=minute),
        **given,
    )


def place(entered: InstanceRecord, variant: str = "") -> Location:
    """Where an archive might keep it."""
    return Location(
        f"ab/{entered.StudyInstanceUID}/{entered.SOPInstanceUID}{variant}.dcm", 340
    )


def assertSameSignatures(test: Any, interface: Any, provider: object) -> None:
    """C{verifyObject} does not see through a wrapped method; C{inspect} does."""
    verifyObject(interface, provider)
    for name, method in interface.namesAndDescriptions():
        if isinstance(method, Method):
            actual = inspect.signature(getattr(provider, name)).parameters
            test.assertEqual(tuple(actual), method.getSignatureInfo()["positional"])


async def drained(batches: Any) -> list[Any]:
    """Everything of an L{IMatches} or an L{IStoredInstances}."""
    found: list[Any] = []
    while batch := await batches.nextBatch():
        found.extend(batch)
    return found


class IndexCase:
    """
    What the mixins of the contract share. C{setUp} puts an empty index into
    C{index}.
    """

    index: Any

    async def enter(
        self, *records: InstanceRecord, duplicates: Duplicates = REPLACE
    ) -> list[Registration]:
        return [
            await self.index.register(one, place(one), duplicates) for one in records
        ]

    async def ask(
        self, level: Level, *conditions: Condition, returned: str
    ) -> list[tuple[str, ...]]:
        """The values of all matches, sorted."""
        wanted = tuple(attribute(keyword) for keyword in returned.split())
        query = Query(level, tuple(conditions), wanted)
        return sorted(m.values for m in await drained(self.index.match(query)))

    async def studies(self, *conditions: Condition) -> list[str]:
        """UIDs of the studies that match."""
        rows = await self.ask(Level.STUDY, *conditions, returned="StudyInstanceUID")
        return [row[0] for row in rows]

    async def stored(self, level: Level, *conditions: Condition) -> list[str]:
        """SOP Instance UIDs of what L{IIndex.locate} finds, in its order."""
        query = Query(level, tuple(conditions))
        found = await drained(self.index.locate(query))
        return [instance.SOPInstanceUID for instance in found]
