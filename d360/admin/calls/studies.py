"""Studies, and how they are sent: see L{d360.admin.studies}."""

from __future__ import annotations

from d360.admin.describing import (
    COUNT,
    JSON,
    TEXT,
    TIME,
    Data,
    answer,
    body,
    call,
    listOf,
    orNull,
    parameter,
    record,
    ref,
)

#: By keyword; of a level's attributes those that are known.
_BY_KEYWORD: Data = {"type": "object", "additionalProperties": TEXT}


SCHEMAS: Data = {
    "Job": record(
        id=TEXT,
        kind={"const": "send"},
        aet=TEXT,
        StudyInstanceUID=TEXT,
        state={"enum": ["running", "done", "failed", "cancelled"]},
        total=COUNT,
        completed=COUNT,
        failed=COUNT,
        error=TEXT,
        started=TIME,
    ),
}


_UNKNOWN_STUDY = {404: "There is no such study."}

_studies: Data = {
    "": {
        "get": call(
            "searchStudies",
            "Studies, newest first",
            parameters=(
                *(
                    parameter(keyword, words="matches as in a C-FIND")
                    for keyword in (
                        "PatientName",
                        "PatientID",
                        "PatientBirthDate",
                        "PatientSex",
                        "StudyInstanceUID",
                        "StudyID",
                        "StudyDate",
                        "StudyTime",
                        "StudyDescription",
                        "AccessionNumber",
                        "ReferringPhysicianName",
                        "ModalitiesInStudy",
                    )
                ),
                parameter(
                    "limit",
                    schema={"type": "integer", "minimum": 1, "maximum": 1000},
                    words="50 by default",
                ),
                parameter("after", words="what the answer before had as next"),
            ),
            ok={
                200: answer(
                    "A page of them; next is null on the last.",
                    record(studies=listOf(_BY_KEYWORD), next=orNull(TEXT)),
                )
            },
            refused={400: "A parameter is not known, or not right."},
        )
    },
    "/{study}": {
        "get": call(
            "getStudy",
            "A study with its series",
            ok={
                200: answer(
                    "It.", record(study=_BY_KEYWORD, series=listOf(_BY_KEYWORD))
                )
            },
            refused=_UNKNOWN_STUDY,
        ),
        "delete": call(
            "deleteStudy",
            "Remove a study with its files, for good",
            ok={200: answer("How much went.", record(instances=COUNT))},
            refused=_UNKNOWN_STUDY,
        ),
    },
    "/{study}/send": {
        "post": call(
            "sendStudy",
            "Send a study to a remote AE, in the background",
            takes=body({JSON: record(aet=TEXT)}),
            ok={202: answer("The job that it is.", record(id=TEXT))},
            refused={
                400: "The body is not right.",
                404: "There is no such study, or no such remote AE.",
                415: "The body is no JSON.",
            },
        )
    },
    "/{study}/series": {
        "get": call(
            "listSeries",
            "The series of a study",
            ok={200: answer("All.", record(series=listOf(_BY_KEYWORD)))},
            refused=_UNKNOWN_STUDY,
        )
    },
    "/{study}/series/{series}": {
        "get": call(
            "getSeries",
            "A series with its instances",
            ok={
                200: answer(
                    "It.",
                    record(series=_BY_KEYWORD, instances=listOf({"type": "object"})),
                )
            },
            refused={404: "There is no such study or series."},
        )
    },
}


_UNKNOWN_JOB = {404: "There is no such job."}

_jobs: Data = {
    "": {
        "get": call(
            "listJobs",
            "What is sent, or was, newest first",
            ok={200: answer("All.", record(jobs=listOf(ref("Job"))))},
            database=False,
        )
    },
    "/{id}": {
        "get": call(
            "getJob",
            "How far a job is",
            ok={200: answer("It.", ref("Job"))},
            refused=_UNKNOWN_JOB,
            database=False,
        ),
        "delete": call(
            "cancelJob",
            "End a job after the instance that is under way",
            ok={200: answer("It.", ref("Job"))},
            refused=_UNKNOWN_JOB,
            database=False,
        ),
    },
}


CALLS: dict[str, Data] = {"studies": _studies, "jobs": _jobs}
