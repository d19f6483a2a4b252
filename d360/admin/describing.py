"""The vocabulary in which the calls are described (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any

#: A piece of the description.
Data = dict[str, Any]

JSON = "application/json"

TEXT: Data = {"type": "string"}
COUNT: Data = {"type": "integer", "minimum": 0}
NUMBER: Data = {"type": "number"}
FLAG: Data = {"type": "boolean"}
NOTHING: Data = {"description": "Done."}
TIME: Data = {"type": "string", "format": "date-time"}


def ref(name: str) -> Data:
    """A schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def orNull(schema: Data) -> Data:
    """A value that may be absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def listOf(schema: Data) -> Data:
    """A JSON array."""
    return {"type": "array", "items": schema}


def record(optional: tuple[str, ...] = (), /, **members: Data) -> Data:
    """A JSON object with these members and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": [name for name in members if name not in optional],
        "additionalProperties": False,
    }


def answer(words: str, schema: Data, headers: Data | None = None) -> Data:
    """A response with a body."""
    return answers(words, {JSON: schema}, headers)


def answers(words: str, forms: Data, headers: Data | None = None) -> Data:
    """
    A response that comes in several forms.

    @param forms: schemas by media type.
    """
    return {
        "description": words,
        "content": {kind: {"schema": schema} for kind, schema in forms.items()},
        "headers": headers or {},
    }


def refusal(words: str) -> Data:
    """A response that says why not."""
    return answer(words, ref("Error"))


def body(forms: Data, required: bool = True) -> Data:
    """A request's body, see L{answers}."""
    content = {kind: {"schema": schema} for kind, schema in forms.items()}
    return {"required": required, "content": content}


def parameter(
    name: str, place: str = "query", schema: Data | None = None, words: str = ""
) -> Data:
    """A parameter, by default any text."""
    described: Data = {"name": name, "in": place, "schema": schema or TEXT}
    if place == "path":
        described["required"] = True
    if words:
        described["description"] = words
    return described


def call(
    name: str,
    summary: str,
    *,
    ok: dict[int, Data],
    refused: dict[int, str] | None = None,
    takes: Data | None = None,
    parameters: tuple[Data, ...] = (),
    database: bool = True,
) -> Data:
    """
    A method of a path.

    @param name: unique among all.
    @param ok: what it answers when it is done, by status.
    @param refused: why it is not, by status.
    @param takes: the request's body.
    @param database: it answers 503 without the database.
    """
    reasons = dict(refused or {})
    if database:
        reasons[503] = "The database is not available."
    responses = ok | {code: refusal(words) for code, words in reasons.items()}
    described: Data = {
        "operationId": name,
        "summary": summary,
        "responses": {str(code): one for code, one in sorted(responses.items())},
    }
    if parameters:
        described["parameters"] = list(parameters)
    if takes is not None:
        described["requestBody"] = takes
    return described
