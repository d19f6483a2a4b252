"""The worklist: see L{d360.admin.worklist}."""

from __future__ import annotations

from d360.admin.describing import (
    COUNT,
    JSON,
    NOTHING,
    TEXT,
    Data,
    answer,
    answers,
    body,
    call,
    listOf,
    orNull,
    parameter,
    record,
    ref,
)
from d360.admin.worklist import DICOM, DICOM_JSON, LIMIT, MAX_LIMIT

_TITLE: Data = {"type": "string", "pattern": r"^[ -\[\]-~]{1,16}$"}

_STEP: Data = {
    "type": "object",
    "properties": {
        "Modality": {"type": "string", "pattern": "^[A-Z0-9 _]{1,16}$"},
        "ScheduledStationAETitle": {"anyOf": [_TITLE, listOf(_TITLE)]},
        "ScheduledProcedureStepStartDate": {
            "type": "string",
            "pattern": "^[0-9]{8}$",
            "description": "YYYYMMDD",
        },
        "ScheduledProcedureStepStartTime": {
            "type": "string",
            "description": "HHMMSS; 000000 where it is not given",
        },
        "ScheduledProcedureStepID": {
            "type": "string",
            "maxLength": 16,
            "description": "made where it is not given",
        },
    },
    "required": [
        "Modality",
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
    ],
}

_ITEM: Data = {
    "type": "object",
    "description": "Attributes by keyword, any of DICOM's dictionary but bulk data; "
    "those of a scheduled procedure step are in the sequence of it. Several values "
    "are a list, the component groups of a name are joined by =.",
    "properties": {
        "PatientName": TEXT,
        "PatientID": {"type": "string", "maxLength": 64},
        "AccessionNumber": {"type": "string", "maxLength": 16},
        "StudyInstanceUID": {
            "type": "string",
            "maxLength": 64,
            "description": "made where it is not given; no two items have the same",
        },
        "ScheduledProcedureStepSequence": {
            "type": "array",
            "minItems": 1,
            "items": _STEP,
        },
    },
    "required": ["PatientName", "PatientID", "ScheduledProcedureStepSequence"],
    "example": {
        "PatientName": "Rossi^Anna",
        "PatientID": "1",
        "ScheduledProcedureStepSequence": [
            {
                "Modality": "CT",
                "ScheduledStationAETitle": "CT01",
                "ScheduledProcedureStepStartDate": "20260101",
                "ScheduledProcedureStepStartTime": "0900",
            }
        ],
    },
}

_MODEL_ELEMENT: Data = {
    "type": "object",
    "properties": {
        "vr": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "Value": {"type": "array"},
    },
    "required": ["vr"],
}


SCHEMAS: Data = {
    "NewItem": _ITEM,
    "Item": {
        **_ITEM,
        "properties": {**_ITEM["properties"], "id": TEXT, "version": COUNT},
        "required": ["id", "version", *_ITEM["required"]],
    },
    "DataSet": {
        "type": "object",
        "description": "The DICOM JSON Model (PS3.18 F.2).",
        "patternProperties": {"^[0-9A-F]{8}$": _MODEL_ELEMENT},
        "additionalProperties": False,
    },
}


_UNKNOWN_ITEM = {404: "There is no such item."}
_OTHER_FORM = {406: "Accept asks for another form than there are."}
_CHANGED = {412: "If-Match: another has changed it."}
_TAG: Data = {"ETag": {"schema": TEXT, "description": "names the item's version"}}
_ONE: Data = {JSON: ref("Item"), DICOM_JSON: ref("DataSet")}
_IF_MATCH = parameter("If-Match", "header", words="the ETag of what is to be changed")
_WRITES: Data = body(
    {
        JSON: ref("NewItem"),
        DICOM_JSON: {"anyOf": [ref("DataSet"), listOf(ref("DataSet"))]},
        DICOM: {"type": "string", "format": "binary"},
    }
)
_BAD_ITEM = {
    400: "The item is not right: which keyword, and why.",
    409: "There is an item with its Study Instance UID, or of another version.",
    415: "The body is in none of these forms.",
}

_worklist: Data = {
    "": {
        "get": call(
            "listWorklist",
            "Worklist items, by the start of their first step",
            parameters=(
                parameter(
                    "keys",
                    schema={"type": "object", "additionalProperties": TEXT},
                    words="matching keys by keyword, as in a C-FIND: "
                    "PatientName=ros*, ScheduledStationAETitle=CT01, "
                    "ScheduledProcedureStepStartDate=20260101-20260131",
                ),
                parameter(
                    "limit",
                    schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
                    words=f"{LIMIT} by default",
                ),
                parameter("after", words="what the answer before had as next"),
            ),
            ok={
                200: answers(
                    "A page of them; next is null on the last.",
                    {
                        JSON: record(items=listOf(ref("Item")), next=orNull(TEXT)),
                        DICOM_JSON: listOf(ref("DataSet")),
                    },
                    {"Link": {"schema": TEXT, "description": "the next page"}},
                )
            },
            refused={
                400: "A parameter is not known, or not right.",
                409: "The item of after was removed: begin again.",
            }
            | _OTHER_FORM,
        ),
        "post": call(
            "addWorklistItem",
            "Add a worklist item",
            takes=_WRITES,
            ok={
                201: answer(
                    "Its identifier.",
                    record(id=TEXT),
                    _TAG | {"Location": {"schema": TEXT, "required": True}},
                )
            },
            refused=_BAD_ITEM,
        ),
    },
    "/{id}": {
        "get": call(
            "getWorklistItem",
            "A worklist item",
            parameters=(
                parameter("If-None-Match", "header", words="ETags that are known"),
            ),
            ok={
                200: answers("It.", _ONE, _TAG),
                304: {"description": "It has not changed.", "headers": _TAG},
            },
            refused=_UNKNOWN_ITEM | _OTHER_FORM,
        ),
        "put": call(
            "replaceWorklistItem",
            "Give a worklist item other attributes",
            parameters=(_IF_MATCH,),
            takes=_WRITES,
            ok={200: answers("As it is now.", _ONE, _TAG)},
            refused=_BAD_ITEM | _UNKNOWN_ITEM | _OTHER_FORM | _CHANGED,
        ),
        "delete": call(
            "removeWorklistItem",
            "Remove a worklist item",
            parameters=(_IF_MATCH,),
            ok={204: NOTHING},
            refused=_UNKNOWN_ITEM | _CHANGED,
        ),
    },
}


CALLS: dict[str, Data] = {"worklist": _worklist}
