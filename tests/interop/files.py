"""DICOM files for the tests: made for one, or the real ones that pydicom has."""

from __future__ import annotations

from pathlib import Path

import data_store
import pydicom
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.misc import is_dicom
from pydicom.uid import generate_uid

#: Where pydicom keeps its test files, and the package pydicom-data the rest.
PLACES = (
    Path(pydicom.__file__).parent / "data" / "test_files",
    Path(data_store.__file__).parent / "data",
)


def ct() -> FileDataset:
    """A small CT, with a new UID at each level."""
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    dataset = dcmread(path)
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    rename(dataset)
    return dataset


def rename(dataset: FileDataset) -> None:
    """Give it another SOP Instance UID."""
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def makeCT(folder: Path, count: int) -> list[Path]:
    """So many CT of one new study."""
    folder.mkdir(parents=True)
    dataset = ct()
    paths = []
    for number in range(count):
        rename(dataset)
        dataset.InstanceNumber = number + 1
        path = folder / f"{number:04}.dcm"
        dataset.save_as(path)
        paths.append(path)
    return paths


def realFiles() -> list[Path]:
    """All DICOM files with a File Meta Information of the two places."""
    return sorted(
        path
        for place in PLACES
        for path in place.rglob("*")
        if path.is_file() and is_dicom(path)
    )
