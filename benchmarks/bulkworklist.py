"""
Fills D360's worklist with many items in a short time, by the statements that
the web interface uses, many in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

from benchmarks import population
from d360.index.migration import checkAndMigrate, connect
from d360.index.worklist import rowsOf
from d360.services.worklistitems import readKeywords

#: Where the steps are done, and of what kind they are.
STATIONS = tuple(f"STATION{n:02}" for n in range(20))

#: The days that the items are spread over, the same number on each.
DAYS = tuple(f"2026{month:02}{day:02}" for month in (1, 2) for day in range(1, 26))

_BATCH = 1000


def item(number: int) -> dict[str, Any]:
    """The n-th item, by keyword."""
    study = population.study(number)
    step = {
        "Modality": study.Modality,
        "ScheduledStationAETitle": STATIONS[number % len(STATIONS)],
        "ScheduledProcedureStepStartDate": DAYS[number // len(STATIONS) % len(DAYS)],
        "ScheduledProcedureStepStartTime": study.StudyTime,
        "ScheduledPerformingPhysicianName": study.ReferringPhysicianName,
        "ScheduledProcedureStepDescription": study.StudyDescription,
        "ScheduledProcedureStepID": f"S{number}",
    }
    return {
        "PatientName": study.PatientName,
        "PatientID": study.PatientID,
        "PatientBirthDate": study.PatientBirthDate,
        "PatientSex": study.PatientSex,
        "AccessionNumber": study.AccessionNumber,
        "StudyInstanceUID": f"{population.ROOT}.8.{number}",
        "RequestedProcedureID": f"R{number}",
        "RequestedProcedureDescription": study.StudyDescription,
        "ReferringPhysicianName": study.ReferringPhysicianName,
        "ScheduledProcedureStepSequence": [step],
    }


def _rows(count: int) -> Iterator[tuple[str, str, str]]:
    for number in range(count):
        yield (uuid4().hex, *rowsOf(readKeywords(item(number))))


def load(url: str, count: int) -> None:
    """
    Fill the worklist.

    @param url: of the database; its schema is made or brought up to date.
    """
    checkAndMigrate(url)
    with closing(connect(url)) as connection:
        rows = list(_rows(count))
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            for first in range(0, count, _BATCH):
                cursor.execute(
                    "SELECT schedule_worklist_item(i, a::jsonb, s::jsonb)"
                    " FROM unnest(%s::text[], %s::text[], %s::text[]) AS t(i, a, s)",
                    [
                        [row[n] for row in rows[first : first + _BATCH]]
                        for n in range(3)
                    ],
                )
        connection.commit()
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE) worklist_items, worklist_steps")
            cursor.execute("CHECKPOINT")
