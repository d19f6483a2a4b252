"""Instances to send: made once, from the CT that pydicom brings along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset

ROOT = "1.2.826.0.1.3680043.8.498.360"

#: Family names are pairs of these, given names single ones.
SYLLABLES = tuple(
    name + vowel for name in ("Ros", "Bia", "Fer", "Rus", "Mar") for vowel in "aeio"
)


def _template() -> FileDataset:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    return dcmread(path)


def _name(dataset: FileDataset, study: str, series: str, instance: str) -> None:
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.SOPInstanceUID = instance
    dataset.file_meta.MediaStorageSOPInstanceUID = instance


def ct(folder: Path, count: int, sender: int) -> None:
    """C{count} CT of 512 x 512 x 16 bit in one series, for one sender."""
    folder.mkdir(parents=True)
    dataset = _template()
    dataset.Rows = dataset.Columns = 512
    dataset.PixelData = bytes(range(256)) * 2048
    dataset.PatientID = f"BENCH{sender}"
    study = f"{ROOT}.1.{sender}"
    for number in range(count):
        _name(dataset, study, f"{study}.1", f"{study}.1.{number}")
        dataset.InstanceNumber = number
        dataset.save_as(folder / f"{number:05}.dcm")


def compressed(folder: Path, count: int) -> None:
    """C{count} JPEG Lossless CT of one study."""
    folder.mkdir(parents=True)
    path = get_testdata_file("JPEG-LL.dcm")
    assert isinstance(path, str)
    dataset = dcmread(path)
    for number in range(count):
        _name(dataset, f"{ROOT}.4", f"{ROOT}.4.1", f"{ROOT}.4.1.{number}")
        dataset.save_as(folder / f"{number:05}.dcm")


def studies(folder: Path, count: int) -> None:
    """C{count} studies of one small instance, and of a patient, each."""
    folder.mkdir(parents=True)
    dataset = _template()
    del dataset.PixelData
    for number in range(count):
        study = f"{ROOT}.2.{number}"
        _name(dataset, study, f"{study}.1", f"{study}.1.1")
        first, second, given = (
            SYLLABLES[number // step % len(SYLLABLES)] for step in (1, 20, 400)
        )
        dataset.PatientName = f"{first}{second.lower()}^{given}"
        dataset.PatientID = f"P{number:06}"
        dataset.AccessionNumber = f"A{number:06}"
        # 16 days, so that 20 000 studies are 1250 a day.
        dataset.StudyDate = f"202601{number % 16 + 1:02}"
        dataset.save_as(folder / f"{number:06}.dcm")


def large(path: Path, size: int) -> None:
    """One instance with C{size} bytes of pixel data, in a sparse file."""
    dataset = _template()
    study = f"{ROOT}.3"
    _name(dataset, study, f"{study}.1", f"{study}.1.1")
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


def spread(folder: Path, parts: int) -> list[Path]:
    """The files of a folder, linked into so many others, for as many senders."""
    places = [folder.with_name(f"{folder.name}-{part}") for part in range(parts)]
    for place in places:
        place.mkdir()
    for number, path in enumerate(_files(folder)):
        (places[number % parts] / path.name).hardlink_to(path)
    return places


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir())
