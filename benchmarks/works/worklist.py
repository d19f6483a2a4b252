"""The modality worklist, when it is long."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from pydicom.dataset import Dataset

from benchmarks import bulkworklist, population
from benchmarks.association import WORKLIST_FIND, Association, encode
from benchmarks.bulkworklist import DAYS, STATIONS
from benchmarks.results import FIRST, MILLISECONDS, Figure
from benchmarks.run import Run
from benchmarks.servers import Server
from d360.index.embedded import EmbeddedServer

_SHOWN = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
]
_SHOWN_OF_STEP = [
    "Modality",
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "ScheduledProcedureStepDescription",
    "ScheduledProcedureStepID",
]


def _keys(step: dict[str, str], **wanted: str) -> bytes:
    """An identifier of worklist query, encoded."""
    dataset, inner = Dataset(), Dataset()
    for keyword, value in (dict.fromkeys(_SHOWN, "") | wanted).items():
        setattr(dataset, keyword, value)
    for keyword, value in (dict.fromkeys(_SHOWN_OF_STEP, "") | step).items():
        setattr(inner, keyword, value)
    dataset.ScheduledProcedureStepSequence = [inner]
    return encode(dataset)


def _questions(count: int) -> Iterator[tuple[str, bytes, int]]:
    """What is asked, and how many items match."""
    day = {"ScheduledProcedureStepStartDate": DAYS[3]}
    of = [bulkworklist.item(number) for number in range(count)]
    steps = [one["ScheduledProcedureStepSequence"][0] for one in of]

    def matching(wanted: dict[str, str]) -> int:
        return sum(all(s[k] == v for k, v in wanted.items()) for s in steps)

    station = day | {"ScheduledStationAETitle": STATIONS[5]}
    yield "a station's day", _keys(station), matching(station)
    modality = day | {"Modality": "MR"}
    yield "a modality's day", _keys(modality), matching(modality)
    yield "a day", _keys(day), matching(day)
    number = count // 2
    yield "patient ID", _keys({}, PatientID=population.patientID(number)), 1
    accession = population.accessionNumber(number)
    yield "accession number", _keys({}, AccessionNumber=accession), 1
    planted = population.PLANTED["name prefix"]
    yield "name prefix", _keys({}, **dict([planted.key])), len(planted.numbers)


def _ask(server: Server, count: int, times: int) -> list[Figure]:
    figures = []
    for name, identifier, expected in _questions(count):
        first, whole = [], []
        notes: tuple[str, ...] = ()
        with Association(server, WORKLIST_FIND) as association:
            association.find(identifier)
            for _ in range(times):
                answer = association.find(identifier)
                first.append(answer.first)
                whole.append(answer.all)
        if len(answer.matches) != expected:
            notes = (f"{len(answer.matches)} of {expected} found",)
        values = {MILLISECONDS: statistics.median(whole)}
        if expected > 1:
            values[FIRST] = statistics.median(first)
        title = f"worklist, {name}, {expected} of {count} items"
        figures.append(Figure(title, server.name, values, notes))
    return figures


def worklist(run: Run) -> None:
    """Queries of a long worklist, of D360 alone: the others read it from files."""
    count = max(run.sizes.worklist, population.FEWEST)
    folder = run.made("worklist")

    def once(kind: type[Server]) -> list[Figure]:
        with run.serving(kind, folder=folder) as server:
            return _ask(server, count, run.sizes.queries)

    kinds = run.called("D360")
    if not kinds:
        return
    run.say(f"loading {count} worklist items into D360")
    database = EmbeddedServer(folder / "data")
    database.start()
    try:
        bulkworklist.load(database.url, count)
    finally:
        database.stopNow()
    run.measure("worklist", kinds, once)
    run.forget("worklist")
