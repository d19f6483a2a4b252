"""Instances to send: made once, from the CT that pydicom brings along."""

from __future__ import annotations

import math
from pathlib import Path

from attrs import frozen
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from benchmarks import population
from benchmarks.population import ROOT

#: What an instance of 1 KB keeps of the CT: what is indexed, and little more.
_SMALL = (
    "SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID StudyDate SeriesDate "
    "StudyTime SeriesTime AccessionNumber Modality Manufacturer InstitutionName "
    "StudyDescription SeriesDescription PatientName PatientID PatientBirthDate "
    "PatientSex StudyInstanceUID SeriesInstanceUID StudyID SeriesNumber "
    "InstanceNumber ImagePositionPatient ImageOrientationPatient SamplesPerPixel "
    "PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit "
    "PixelRepresentation PixelSpacing SliceThickness KVP RescaleIntercept "
    "RescaleSlope"
)

#: How many ways there are to divide what is sent among senders.
PARTS = 16


@frozen
class Batch:
    """
    Instances of one series, in a folder.

    @ivar count: how many.
    """

    folder: Path
    study: str
    series: str
    count: int

    def files(self, share: float) -> list[Path]:
        """The first of its files: this part of all, and one at least."""
        return sorted(self.folder.iterdir())[: math.ceil(self.count * share)]


def _template() -> FileDataset:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    return dcmread(path)


def _ct() -> FileDataset:
    """512 x 512 x 16 bit."""
    dataset = _template()
    dataset.Rows = dataset.Columns = 512
    dataset.PixelData = bytes(range(256)) * 2048
    return dataset


def _small() -> FileDataset:
    """About 1 KB."""
    dataset = _template()
    kept = _SMALL.split()
    for element in list(dataset):
        if element.keyword not in kept:
            del dataset[element.tag]
    return dataset


def _name(dataset: FileDataset, study: str, series: str, instance: str) -> None:
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.SOPInstanceUID = instance
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(instance)


def _write(dataset: FileDataset, batch: Batch) -> Batch:
    """All instances of a batch, which are alike."""
    batch.folder.mkdir(parents=True)
    for number in range(batch.count):
        _name(dataset, batch.study, batch.series, f"{batch.series}.{number + 1}")
        dataset.InstanceNumber = number + 1
        dataset.save_as(batch.folder / f"{number + 1:05}.dcm")
    return batch


def _studies(folder: Path, dataset: FileDataset, root: str, each: int) -> list[Batch]:
    """L{PARTS} studies of as many patients, so many instances in each."""
    batches = []
    for part in range(1, PARTS + 1):
        dataset.PatientID = f"BENCH{part}"
        dataset.PatientName = f"Bench^{part}"
        study = f"{root}.{part}"
        batch = Batch(folder / f"{part:02}", study, f"{study}.1", each)
        batches.append(_write(dataset, batch))
    return batches


def ct(folder: Path, each: int) -> list[Batch]:
    """L{PARTS} studies of CT of 0.5 MB."""
    return _studies(folder, _ct(), f"{ROOT}.1", each)


def small(folder: Path, each: int) -> list[Batch]:
    """L{PARTS} studies of instances of 1 KB."""
    return _studies(folder, _small(), f"{ROOT}.5", each)


def shared(folder: Path, each: int) -> list[Batch]:
    """L{PARTS} parts, in 4 series, of a single study."""
    dataset = _small()
    dataset.PatientID = "SHARED"
    study = f"{ROOT}.6"
    batches = []
    for part in range(PARTS):
        series = f"{study}.{part % 4 + 1}"
        place = folder / f"{part:02}"
        place.mkdir(parents=True)
        for number in range(each):
            _name(dataset, study, series, f"{series}.{part}.{number}")
            dataset.InstanceNumber = part * each + number
            dataset.SeriesNumber = part % 4 + 1
            dataset.save_as(place / f"{number:05}.dcm")
        batches.append(Batch(place, study, series, each))
    return batches


def oneStudy(folder: Path, count: int) -> Batch:
    """One study of so many CT of 0.5 MB."""
    dataset = _ct()
    dataset.PatientID = "RETRIEVED"
    study = f"{ROOT}.7"
    return _write(dataset, Batch(folder, study, f"{study}.1", count))


def compressed(folder: Path, count: int) -> Batch:
    """JPEG Lossless CT of one study."""
    path = get_testdata_file("JPEG-LL.dcm")
    assert isinstance(path, str)
    study = f"{ROOT}.4"
    return _write(dcmread(path), Batch(folder, study, f"{study}.1", count))


def large(folder: Path, size: int) -> Batch:
    """One instance with C{size} bytes of pixel data, in a sparse file."""
    folder.mkdir(parents=True)
    path = folder / "large.dcm"
    dataset = _template()
    study = f"{ROOT}.3"
    _name(dataset, study, f"{study}.1", f"{study}.1.1")
    dataset.PatientID = "LARGE"
    dataset.Rows, dataset.Columns = 1024, 512
    dataset.NumberOfFrames = size // (1 << 20)
    dataset.PixelData = b"\0\0"
    dataset.save_as(path)
    data = path.read_bytes()
    # The value length of Pixel Data, and as many zeros behind it.
    end = data.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    with open(path, "wb") as file:
        file.write(data[:end] + size.to_bytes(4, "little"))
        file.truncate(end + 4 + size)
    return Batch(folder, study, f"{study}.1", 1)


def populated(folder: Path, count: int, parts: int) -> list[Path]:
    """
    The studies of L{population}, each of one small instance, spread over so
    many folders.
    """
    places = [folder / f"{part}" for part in range(parts)]
    for place in places:
        place.mkdir(parents=True)
    dataset = _small()
    for number in range(count):
        study = population.study(number)
        for keyword in population.KEYWORDS:
            setattr(dataset, keyword, getattr(study, keyword))
        series = f"{study.StudyInstanceUID}.1"
        _name(dataset, study.StudyInstanceUID, series, f"{series}.1")
        dataset.save_as(places[number % parts] / f"{number:07}.dcm")
    return places
