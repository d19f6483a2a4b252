"""Stores in memory with something in them."""

from __future__ import annotations

from attrs import evolve, frozen

from d360.services.studies import Studies
from tests.contracts.instances import REPLACE, record
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryindex import MemoryIndex
from tests.services.datasets import CT, EXPLICIT, encode, instance

_DATA = encode(instance(SOPInstanceUID="1.2.3.4.9"))


@frozen
class Filled:
    """An archive and its index."""

    archive: MemoryArchive
    index: MemoryIndex


def filled() -> Filled:
    """With one instance, all done at once."""
    archive, index = MemoryArchive(), MemoryIndex()
    one = record("1.2.3", "1.2.3.4", "1.2.3.4.9", PatientName="Rossi^Anna")
    writer = archive.create(b"head")
    writer.write(_DATA)
    blobs = []
    writer.commit(
        one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID, blobs.append
    )
    writer.settle()
    (blob,) = blobs
    one = evolve(
        one,
        digest=blob.digest,
        size=blob.size,
        SOPClassUID=CT,
        TransferSyntaxUID=EXPLICIT,
    )
    index.register(one, blob.location, REPLACE)
    return Filled(archive, index)


def studiesOf(stores: Filled) -> Studies:
    """What people look at."""
    return Studies(stores.archive, stores.index)
