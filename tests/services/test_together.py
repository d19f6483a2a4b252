"""What was stored is found, and what was found comes from the files alone."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from d360.model import Command, PresentationContext
from d360.services.find import FindService
from d360.services.recovery import Recovery
from d360.services.reindex import Reindex
from d360.services.storage import StorageService
from tests.contracts.memoryarchive import MemoryArchive
from tests.contracts.memoryfreespace import MemoryFreeSpace
from tests.contracts.memoryindex import MemoryIndex
from tests.contracts.operation import FakeOperation
from tests.services.datasets import CT, EXPLICIT, encode, instance

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"


class TogetherTests(SynchronousTestCase):
    """C-STORE, then C-FIND, then a rebuild, on a whole index and archive."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.archive = MemoryArchive()
        self.index = MemoryIndex()

    def store(self, number: int, **elements: Any) -> int:
        recovery = Recovery(self.archive, self.index, self.clock)
        service = StorageService(
            self.archive, self.index, recovery, self.clock, MemoryFreeSpace()
        )
        uid = f"1.2.3.4.{number}"
        operation = FakeOperation(
            PresentationContext(1, CT, EXPLICIT),
            Command(1, AffectedSOPClassUID=CT, AffectedSOPInstanceUID=uid),
            encode(instance(SOPInstanceUID=uid, **elements)),
        )
        self.successResultOf(service.perform(operation))
        return operation.responses[0].status

    def find(self, level: str, **keys: Any) -> list[Dataset]:
        dataset = Dataset()
        dataset.QueryRetrieveLevel = level
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in keys.items():
            setattr(dataset, keyword, value)
        operation = FakeOperation(
            PresentationContext(1, STUDY_ROOT, EXPLICIT),
            Command(0x20, STUDY_ROOT),
            encode(dataset),
        )
        service = FindService(self.index, "D360PACS")
        self.successResultOf(service.perform(operation))
        self.assertEqual(0x0000, operation.responses[-1].status)
        return [
            read_dataset(BytesIO(response.dataset), False, True)
            for response in operation.responses[:-1]
        ]

    def check(self) -> None:
        (study,) = self.find(
            "STUDY",
            PatientName="MÜLLER^*",
            ModalitiesInStudy="CT",
            StudyTime="10",
            NumberOfStudyRelatedInstances="",
        )
        self.assertEqual("Muller^Jörg", study.PatientName)
        self.assertEqual(3, study.NumberOfStudyRelatedInstances)
        images = self.find("IMAGE", StudyInstanceUID="1.2.3", SOPInstanceUID="")
        self.assertEqual(
            ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"],
            sorted(image.SOPInstanceUID for image in images),
        )

    def test_all(self) -> None:
        elements = {
            "SpecificCharacterSet": "ISO_IR 100",
            "PatientName": "Muller^Jörg",
            "StudyTime": "103000",
        }
        for number in (1, 2, 3):
            self.assertEqual(0x0000, self.store(number, **elements))
        self.check()
        # The same again is the same.
        self.assertEqual(0x0000, self.store(1, **elements))
        self.assertEqual(3, len(self.archive.files))
        self.assertEqual(set(), self.archive.marks)
        self.check()
        # Changed, it is replaced, and the older file is gone.
        self.assertEqual(0x0000, self.store(1, **elements, PatientComments="x"))
        self.assertEqual(3, len(self.archive.files))
        self.check()
        # The index is lost.
        self.index = MemoryIndex()
        reindex = Reindex(self.archive, self.index, self.clock)
        reindex.start(False, False)
        self.assertEqual(3, reindex.progress().added)
        self.check()
