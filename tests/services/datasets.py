"""Data sets for the tests of the services."""

from __future__ import annotations

import os
from functools import cache
from io import BytesIO
from pathlib import Path

import data_store
import pydicom.data
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"


def encode(dataset: Dataset, transferSyntax: str = EXPLICIT) -> bytes:
    """As pydicom writes it."""
    syntax = UID(transferSyntax)
    output = DicomBytesIO()
    output.is_implicit_VR = syntax.is_implicit_VR
    output.is_little_endian = syntax.is_little_endian
    write_dataset(output, dataset)
    return output.getvalue()


def instance(**elements: object) -> Dataset:
    """A small CT instance."""
    dataset = Dataset()
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = "1.2.3.4.5"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.4"
    dataset.PatientName = "Rossi^Anna"
    dataset.PatientID = "P1"
    dataset.Modality = "CT"
    dataset.Rows = 16
    dataset.PixelData = bytes(range(256)) * 2
    dataset["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


@cache
def part10Files() -> tuple[Path, ...]:
    """Every file of pydicom's that begins as PS3.10 7.1 has it."""
    roots = [Path(pydicom.data.__file__).parent, Path(data_store.__file__).parent]
    found = []
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and os.path.getsize(path) > 200:
                with path.open("rb") as file:
                    if file.read(132)[128:] == b"DICM":
                        found.append(path)
    return tuple(found)


def reading(data: bytes) -> BytesIO:
    return BytesIO(data)
