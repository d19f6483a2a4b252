"""
A made set of instances to query: four patients and some more, names in several
character sets, dates in the old form, several modalities in a study.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from tests.interop import wire
from tests.interop.running import RunningServer
from tests.services.datasets import encode

ROOT = "1.2.826.0.1.3680043.9.7433"

THORAX, HEAD, JAPANESE, POLISH, NAMELESS, TWIN = (f"{ROOT}.{n}" for n in range(1, 7))

_PATIENTS = {
    "F1": ("Müller^Jürgen", "ISO_IR 100", "19700131", "M"),
    "F2": (
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "\\ISO 2022 IR 87",
        "19801224",
        "M",
    ),
    "F3": ("Łukasiewicz^Żaneta", "ISO_IR 192", "1990.05.06", "F"),
    "F4": ("MULLER^JURGEN", "ISO_IR 6", "", "O"),
    "": ("Nobody^One", "", "", ""),
}


def _setOld(dataset: Dataset, keyword: str, vr: str, value: str) -> None:
    """Set a value that may have the form of ACR-NEMA, which pydicom warns of."""
    dataset.add(DataElement(keyword, vr, value, validation_mode=IGNORE))


def _dataset(patient: str, study: str, series: int, image: int) -> Dataset:
    name, characterSet, birthDate, sex = _PATIENTS[patient]
    dataset = Dataset()
    if characterSet:
        dataset.SpecificCharacterSet = characterSet.split("\\")
    dataset.SOPClassUID = wire.CT
    dataset.PatientName = name
    dataset.PatientID = patient
    _setOld(dataset, "PatientBirthDate", "DA", birthDate)
    dataset.PatientSex = sex
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.{series}"
    dataset.SOPInstanceUID = f"{study}.{series}.{image}"
    dataset.SeriesNumber = series
    dataset.InstanceNumber = image
    return dataset


def _thorax() -> Iterator[Dataset]:
    """One study of a CT series with two instances and a PR series with one."""
    for series, modality, images in ((1, "CT", 2), (2, "PR", 1)):
        for image in range(1, images + 1):
            dataset = _dataset("F1", THORAX, series, image)
            dataset.StudyDate = "20240110"
            dataset.StudyTime = "101530.25"
            dataset.AccessionNumber = "ACC1"
            dataset.StudyID = "ST1"
            dataset.StudyDescription = "Thorax, schräg"
            dataset.ReferringPhysicianName = "House^Gregory"
            dataset.Modality = modality
            dataset.SeriesDescription = "Axial"
            dataset.SeriesDate = "20240111"
            dataset.SeriesTime = "101531"
            dataset.Laterality = "L"
            dataset.BodyPartExamined = "CHEST"
            dataset.PatientPosition = "HFS"
            dataset.AnatomicalOrientationType = "BIPED"
            dataset.InstanceCreationDate = "20240112"
            dataset.InstanceCreationTime = f"10160{image}"
            dataset.PatientWeight = 80
            yield dataset


def _others() -> Iterator[Dataset]:
    for patient, study, date, time, modality, description in (
        ("F1", HEAD, "2024.02.20", "09:30:00", "MR", "Head 100%_"),
        ("F2", JAPANESE, "20231231", "2359", "MR", "頭部"),
        ("F3", POLISH, "20240301", "10", "CR", "Ręka"),
        ("F4", f"{ROOT}.7", "20240110", "110000", "DX", "Thorax"),
        ("", NAMELESS, "", "", "US", ""),
        ("", TWIN, "20240401", "120000", "US", "Twin"),
    ):
        dataset = _dataset(patient, study, 1, 1)
        _setOld(dataset, "StudyDate", "DA", date)
        _setOld(dataset, "StudyTime", "TM", time)
        dataset.Modality = modality
        dataset.StudyDescription = description
        if study == TWIN:
            dataset.PatientName = "Nobody^Two"
        yield dataset


def instances() -> Iterable[Dataset]:
    """All of them."""
    return [*_thorax(), *_others()]


def many(patient: str, first: int, count: int) -> list[Dataset]:
    """So many studies of one patient, of one small instance each."""
    made = []
    for number in range(first, first + count):
        dataset = _dataset("F4", f"{ROOT}.8.{number}", 1, 1)
        dataset.PatientID = patient
        dataset.PatientName = "Many^Studies"
        dataset.StudyDescription = "D" * 64
        dataset.Modality = "OT"
        made.append(dataset)
    return made


def send(server: RunningServer, datasets: Iterable[Dataset]) -> list[int]:
    """
    Store them on one association, without a wait in between.

    @return: the statuses.
    """
    datasets = list(datasets)
    with wire.Peer(server) as peer:
        peer.associate([(wire.CT, [wire.EXPLICIT])])
        for number, dataset in enumerate(datasets, 1):
            peer.send(
                wire.store(1, number, wire.CT, dataset.SOPInstanceUID, encode(dataset))
            )
        statuses = [peer.response().status for _ in datasets]
        peer.release()
    return statuses
