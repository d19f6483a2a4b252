"""What the server does and holds, and how it is configured."""

from __future__ import annotations

from d360.admin.describing import (
    COUNT,
    FLAG,
    JSON,
    NOTHING,
    NUMBER,
    TEXT,
    TIME,
    Data,
    answer,
    answers,
    body,
    call,
    listOf,
    orNull,
    record,
    ref,
)

_verification = record(
    running=FLAG,
    started=TIME,
    rate=NUMBER,
    study=TEXT,
    position=COUNT,
    total=COUNT,
    done=COUNT,
    size=COUNT,
    intact=COUNT,
    damaged=COUNT,
    missing=COUNT,
    unreadable=COUNT,
    changed=COUNT,
    seconds=NUMBER,
    findings=listOf(
        record(
            state={
                "type": "string",
                "enum": ["damaged", "missing", "unreadable"],
            },
            SOPInstanceUID=TEXT,
            path=TEXT,
            why=TEXT,
        )
    ),
    error=TEXT,
)

SCHEMAS: Data = {
    "Reindex": record(
        progress=orNull(
            record(
                running=FLAG,
                counted=FLAG,
                total=COUNT,
                done=COUNT,
                added=COUNT,
                unchanged=COUNT,
                failed=COUNT,
                missing=COUNT,
                pruned=COUNT,
                seconds=NUMBER,
                error=TEXT,
            )
        )
    ),
    "Verification": record(
        progress=orNull(_verification), regular=orNull(_verification)
    ),
}


_status: Data = {
    "": {
        "get": call(
            "status",
            "What the server does and holds",
            ok={
                200: answer(
                    "Counts are null while the database is away. The disk is low "
                    "while nothing is stored for want of free space.",
                    record(
                        version=TEXT,
                        ae_title=TEXT,
                        uptime_seconds=NUMBER,
                        associations=record(live=COUNT, accepted=COUNT),
                        workers=listOf(
                            record(
                                number=COUNT,
                                pid=COUNT,
                                answers=FLAG,
                                connections=COUNT,
                                live=COUNT,
                                since=TIME,
                                restarts=COUNT,
                            )
                        ),
                        certificates=listOf(
                            record(
                                use=TEXT,
                                subject=TEXT,
                                fingerprint=TEXT,
                                expires=TIME,
                                days_left={"type": "integer"},
                            )
                        ),
                        counts=orNull(
                            record(
                                patients=COUNT,
                                studies=COUNT,
                                series=COUNT,
                                instances=COUNT,
                                size=COUNT,
                            )
                        ),
                        database=record(
                            available=FLAG, kind=TEXT, version=TEXT, schema=COUNT
                        ),
                        disk=record(total=COUNT, free=COUNT, min_free=COUNT, low=FLAG),
                        audit=record(
                            file=FLAG,
                            syslog=FLAG,
                            failing=FLAG,
                            written=COUNT,
                            waiting=COUNT,
                            dropped=COUNT,
                        ),
                    ),
                )
            },
            database=False,
        )
    }
}


_reindex: Data = {
    "": {
        "get": call(
            "reindexProgress",
            "How far a rebuild of the index has come",
            ok={200: answer("Null before the first.", ref("Reindex"))},
            database=False,
        ),
        "post": call(
            "reindexStart",
            "Rebuild the index from the files",
            takes=body({JSON: record(("prune", "full"), prune=FLAG, full=FLAG)}, False),
            ok={202: answer("It has begun.", ref("Reindex"))},
            refused={
                400: "The body is not right.",
                409: "One is running already.",
                415: "The body is no JSON.",
            },
            database=False,
        ),
        "delete": call(
            "reindexStop",
            "End a rebuild of the index; running it again goes on",
            ok={200: answer("It has ended.", ref("Reindex"))},
            database=False,
        ),
    }
}


_verify: Data = {
    "": {
        "get": call(
            "verifyProgress",
            "How far the verification of the files has come",
            ok={200: answer("Null before the first.", ref("Verification"))},
            database=False,
        ),
        "post": call(
            "verifyStart",
            "Read the files and compare them with what was stored",
            takes=body(
                {
                    JSON: record(
                        ("rate", "study", "after"),
                        rate={
                            "type": "number",
                            "minimum": 0,
                            "maximum": 1_000_000,
                            "description": "MiB a second at most; 0 for no limit.",
                        },
                        study={
                            "type": "string",
                            "maxLength": 64,
                            "description": "A Study Instance UID, for it alone.",
                        },
                        after=COUNT
                        | {
                            "maximum": (1 << 63) - 1,
                            "description": "Go on behind a position.",
                        },
                    )
                },
                False,
            ),
            ok={202: answer("It has begun.", ref("Verification"))},
            refused={
                400: "The body is not right.",
                409: "One is running already.",
                415: "The body is no JSON.",
            },
            database=False,
        ),
        "delete": call(
            "verifyStop",
            "End the verification of the files where it is",
            ok={200: answer("It has ended.", ref("Verification"))},
            database=False,
        ),
    }
}


_rates: Data = {
    "": {
        "get": call(
            "rates",
            "The last day's work, minute by minute",
            ok={
                200: answer(
                    "All lists have the same length.",
                    record(
                        **{"from": TIME},
                        interval_seconds=COUNT,
                        stored=listOf(COUNT),
                        bytes=listOf(COUNT),
                        queries=listOf(COUNT),
                        retrieved=listOf(COUNT),
                        failed=listOf(COUNT),
                    ),
                )
            },
            database=False,
        )
    }
}


_EACH: Data = {"type": "object", "additionalProperties": COUNT}

_associations: Data = {
    "": {
        "get": call(
            "listAssociations",
            "Who is connected",
            ok={
                200: answer(
                    "How many there are, and the latest of them.",
                    record(
                        live=COUNT,
                        associations=listOf(
                            record(
                                number=COUNT,
                                calling=TEXT,
                                called=TEXT,
                                peer=TEXT,
                                since=TIME,
                                operation=TEXT,
                                operations={
                                    "type": "object",
                                    "additionalProperties": COUNT,
                                },
                            )
                        ),
                    ),
                )
            },
            database=False,
        )
    }
}


_errors: Data = {
    "": {
        "get": call(
            "listErrors",
            "The log's last warnings and errors, the latest first",
            ok={
                200: answer(
                    "All.",
                    record(errors=listOf(record(time=TIME, level=TEXT, text=TEXT))),
                )
            },
            database=False,
        )
    }
}


_NONE = "There is none."

_commitments: Data = {
    "": {
        "get": call(
            "listCommitments",
            "Storage commitments that were asked for and not told of yet",
            ok={
                200: answer(
                    "The oldest first. One that is under way is being checked or told "
                    "of; failed is when it could not be told last, error why, next "
                    "when it is tried again.",
                    record(
                        commitments=listOf(
                            record(
                                id=COUNT,
                                aet=TEXT,
                                transaction=TEXT,
                                instances=COUNT,
                                state={
                                    "type": "string",
                                    "enum": ["under way", "waiting"],
                                },
                                asked=TIME,
                                attempts=COUNT,
                                failed=orNull(TIME),
                                error=TEXT,
                                next=TIME,
                            )
                        )
                    ),
                )
            },
        )
    },
    "/{number}": {
        "delete": call(
            "dropCommitment",
            "Tell nobody of a storage commitment any more",
            ok={204: NOTHING},
            refused={404: _NONE},
        ),
    },
    "/{number}/retry": {
        "post": call(
            "retryCommitment",
            "Have a storage commitment told now, unless it is under way",
            ok={204: NOTHING},
            refused={404: _NONE},
        ),
    },
}


_settings: Data = {
    "": {
        "get": call(
            "settings",
            "The configuration in effect, without secrets",
            ok={200: answer("By key.", record(settings={"type": "object"}))},
            database=False,
        )
    }
}


_document: Data = {
    "": {
        "get": call(
            "openapi",
            "This description",
            ok={200: answer("OpenAPI 3.1.", {"type": "object"})},
            database=False,
        )
    }
}


CALLS: dict[str, Data] = {
    "associations": _associations,
    "commitments": _commitments,
    "errors": _errors,
    "openapi.json": _document,
    "rates": _rates,
    "reindex": _reindex,
    "settings": _settings,
    "status": _status,
    "verify": _verify,
}


#: C{/metrics}, which does not stand below C{/api}.
METRICS: Data = {
    "get": call(
        "metrics",
        "Counters and gauges in the text format of Prometheus",
        ok={200: answers("All of them.", {"text/plain": TEXT})},
        database=False,
    )
}
