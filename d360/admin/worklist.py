"""The worklist over HTTP: C{/api/worklist} and what is below it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from twisted.web.http import CREATED, NO_CONTENT, NOT_MODIFIED, PRECONDITION_FAILED
from twisted.web.resource import Resource
from twisted.web.server import Request

from d360.admin.auditing import auditOf, userOf
from d360.admin.negotiation import choose
from d360.admin.resource import (
    HTTPError,
    JSONResource,
    Refusal,
    bodyOf,
    contentType,
    isJSON,
    log,
    parametersOf,
    readJSON,
)
from d360.audit.values import Action, studyOfItem
from d360.errors import WorklistConflict
from d360.interfaces import IWorklist
from d360.model import Condition, WorklistItem

#: Items in an answer: by default, and at most.
LIMIT = 100
MAX_LIMIT = 1000

JSON = "application/json"
DICOM_JSON = "application/dicom+json"
DICOM = "application/dicom"

_PLACE = "/api/worklist"

#: What an identifier may look like; anything else names no item.
_IDENTIFIER = re.compile(rb"[0-9A-Za-z-]{1,64}")

#: RFC 9110 8.8.3.
_TAG = re.compile(r'(W/)?"([^"]*)"')


class WorklistForms(Protocol):
    """
    The forms in which worklist items come and go. What is not right raises
    L{ValueError} with its keyword and the reason.
    """

    def fromKeywords(
        self, body: Mapping[str, Any], known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        What L{IWorklist.schedule} takes, of JSON by keyword; what may be
        generated is.

        @param known: the attributes that are to be replaced: what would be
            generated is kept from there.
        """

    def fromModel(
        self, body: Mapping[str, Any], known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The same, of a data set in the DICOM JSON Model (PS3.18 F.2)."""

    def fromFile(
        self, data: bytes, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The same, of a DICOM file (PS3.10)."""

    def asKeywords(self, item: WorklistItem) -> dict[str, Any]:
        """An item's attributes, as L{fromKeywords} takes them."""

    def asModel(self, item: WorklistItem) -> dict[str, Any]:
        """An item's attributes, as L{fromModel} takes them."""

    def conditions(self, keys: Mapping[str, str]) -> Sequence[Condition]:
        """What L{IWorklist.list} takes, of matching keys by keyword."""


class WorklistResource(JSONResource):
    """C{/api/worklist}: all items."""

    tellsOfPatients = True

    def __init__(self, worklist: IWorklist, forms: WorklistForms) -> None:
        super().__init__()
        self._worklist = worklist
        self._forms = forms

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See L{Resource.getChild}; C{path} is percent-decoded."""
        if not _IDENTIFIER.fullmatch(path):
            return Refusal(404, _unknown().args[0])
        return _ItemResource(self._worklist, self._forms, path.decode("ascii"))

    async def get(self, request: Request) -> Any:
        """Those that match, by the start of their first step, page by page."""
        kind = _chosen(request)
        keys = parametersOf(request)
        limit = _limit(keys.pop("limit", str(LIMIT)))
        after = keys.pop("after", "")
        if after and not _IDENTIFIER.fullmatch(after.encode()):
            raise HTTPError(400, "after: give the id that an answer has as next")
        try:
            conditions = self._forms.conditions(keys)
        except ValueError as error:
            raise HTTPError(400, str(error)) from None
        try:
            items = await self._worklist.list(conditions, after, limit + 1)
        except WorklistConflict as error:
            raise HTTPError(409, str(error)) from None
        following = items[limit - 1].identifier if len(items) > limit else None
        if following is not None:
            query = urlencode({**keys, "limit": limit, "after": following})
            request.setHeader(b"link", f'<{_PLACE}?{query}>; rel="next"'.encode())
        _setKind(request, kind)
        if kind == DICOM_JSON:
            return [self._forms.asModel(item) for item in items[:limit]]
        shown = [_asJSON(self._forms, item) for item in items[:limit]]
        return {"items": shown, "next": following}

    async def post(self, request: Request) -> dict[str, str]:
        """Add an item."""
        attributes, given = _readItem(request, self._forms)
        for name in given:
            raise HTTPError(400, f"{name}: leave it out, it is given by the server")
        try:
            item = await self._worklist.schedule(attributes)
        except WorklistConflict as error:
            raise HTTPError(409, str(error)) from None
        log.info("worklist item {identifier} is added", identifier=item.identifier)
        _audit(request, Action.CREATE, item)
        request.setResponseCode(CREATED)
        request.setHeader(b"location", f"{_PLACE}/{item.identifier}".encode())
        request.setHeader(b"etag", _tag(item, JSON).encode())
        return {"id": item.identifier}


class _ItemResource(JSONResource):
    """C{/api/worklist/ID}: one of them."""

    def __init__(
        self, worklist: IWorklist, forms: WorklistForms, identifier: str
    ) -> None:
        super().__init__()
        self._worklist = worklist
        self._forms = forms
        self._identifier = identifier

    async def get(self, request: Request) -> Any:
        """As it is."""
        kind = _chosen(request)
        item = await self._known()
        _audit(request, Action.READ, item)
        return self._shown(request, kind, item)

    async def put(self, request: Request) -> Any:
        """Give it other attributes."""
        kind = _chosen(request)
        item = await self._known()
        attributes, given = _readItem(request, self._forms, item.attributes)
        if given.pop("id", self._identifier) != self._identifier:
            raise HTTPError(400, "id: it is another than that of the URL")
        version = given.pop("version", None)
        if version is not None and type(version) is not int:
            raise HTTPError(400, "version: give the number that GET gave, or none")
        _checkUnchanged(request, item)
        if version not in (None, item.version):
            raise HTTPError(409, _changed(item, version))
        if version is None and _isConditional(request):
            version = item.version
        try:
            replaced = await self._worklist.replace(
                self._identifier, attributes, version
            )
        except WorklistConflict as error:
            raise await self._conflict(request, item, error) from None
        if replaced is None:
            raise _unknown()
        log.info("worklist item {identifier} is changed", identifier=self._identifier)
        if studyOfItem(item.attributes) != studyOfItem(replaced.attributes):
            _audit(request, Action.UPDATE, item)
        _audit(request, Action.UPDATE, replaced)
        place = f"{_PLACE}/{self._identifier}"
        # So that it is of this answer's content that the ETag is.
        request.setHeader(b"content-location", place.encode())
        return self._shown(request, kind, replaced)

    async def delete(self, request: Request) -> None:
        """Remove it."""
        item = await self._known()
        _checkUnchanged(request, item)
        version = item.version if _isConditional(request) else None
        try:
            removed = await self._worklist.remove(self._identifier, version)
        except WorklistConflict as error:
            raise await self._conflict(request, item, error) from None
        if not removed:
            raise _unknown()
        log.info("worklist item {identifier} is removed", identifier=self._identifier)
        _audit(request, Action.DELETE, item)
        request.setResponseCode(NO_CONTENT)

    async def _known(self) -> WorklistItem:
        item = await self._worklist.get(self._identifier)
        if item is None:
            raise _unknown()
        return item

    async def _conflict(
        self, request: Request, item: WorklistItem, error: WorklistConflict
    ) -> HTTPError:
        """Another item is in the way, or another writer was faster."""
        now = await self._worklist.get(self._identifier)
        if now is not None and now.version == item.version:
            return HTTPError(409, str(error))
        code = PRECONDITION_FAILED if _isConditional(request) else 409
        return HTTPError(code, str(error))

    def _shown(self, request: Request, kind: str, item: WorklistItem) -> Any:
        tag = _tag(item, kind)
        request.setHeader(b"etag", tag.encode())
        _setKind(request, kind)
        if request.method in (b"GET", b"HEAD") and _isNamed(
            request.getHeader(b"if-none-match"), (tag,), weakly=True
        ):
            request.setResponseCode(NOT_MODIFIED)
            return None
        if kind == DICOM_JSON:
            return self._forms.asModel(item)
        return _asJSON(self._forms, item)


def _audit(request: Request, action: Action, item: WorklistItem) -> None:
    study = studyOfItem(item.attributes)
    auditOf(request).worklistUsed(userOf(request), action, study)


def _readItem(
    request: Request, forms: WorklistForms, known: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The item that a request brings.

    @param known: see L{WorklistForms.fromKeywords}.
    @return: its attributes; and what of C{id} and C{version} it has.
    """
    kind = contentType(request)
    data = bodyOf(request)
    given: dict[str, Any] = {}
    try:
        if kind == DICOM:
            return forms.fromFile(data, known), given
        if kind != DICOM_JSON and not isJSON(kind):
            raise HTTPError(415, f"send {JSON}, {DICOM_JSON} or {DICOM}")
        if not data:
            raise HTTPError(400, "send a worklist item")
        body = readJSON(data)
        if kind == DICOM_JSON:
            if isinstance(body, list) and len(body) == 1:
                body = body[0]
            if not isinstance(body, dict):
                raise HTTPError(400, "send one data set")
            return forms.fromModel(body, known), given
        if not isinstance(body, dict):
            raise HTTPError(400, "send a JSON object")
        given = {name: body.pop(name) for name in ("id", "version") if name in body}
        return forms.fromKeywords(body, known), given
    except ValueError as error:
        raise HTTPError(400, str(error)) from None


def _chosen(request: Request) -> str:
    """The form that the answer is asked for in."""
    lines = request.requestHeaders.getRawHeaders(b"accept")
    accept = None if lines is None else b",".join(lines).decode("latin-1")
    kind = choose(accept, (JSON, DICOM_JSON))
    if kind is None:
        raise HTTPError(406, f"there is {JSON} and {DICOM_JSON}")
    return kind


def _setKind(request: Request, kind: str) -> None:
    request.setHeader(b"content-type", kind.encode())
    request.setHeader(b"vary", b"Accept")


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise HTTPError(400, f"limit: give a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _asJSON(forms: WorklistForms, item: WorklistItem) -> dict[str, Any]:
    named = {"id": item.identifier, "version": item.version}
    return named | forms.asKeywords(item)


def _tag(item: WorklistItem, kind: str) -> str:
    """The two forms differ, and so must their strong tags (RFC 9110 8.8.3.3)."""
    suffix = "-dicom" if kind == DICOM_JSON else ""
    return f'"{item.version}{suffix}"'


def _isConditional(request: Request) -> bool:
    return request.requestHeaders.hasHeader("if-match")


def _checkUnchanged(request: Request, item: WorklistItem) -> None:
    """C{If-Match} and C{If-None-Match} of what changes an item."""
    tags = (_tag(item, JSON), _tag(item, DICOM_JSON))
    header = request.getHeader(b"if-match")
    if header is not None and not _isNamed(header, tags, weakly=False):
        raise HTTPError(PRECONDITION_FAILED, _changed(item, None))
    if _isNamed(request.getHeader(b"if-none-match"), tags, weakly=True):
        raise HTTPError(PRECONDITION_FAILED, "If-None-Match: there is such an item")


def _isNamed(header: bytes | None, tags: Sequence[str], weakly: bool) -> bool:
    """
    Whether a list of entity tags (RFC 9110 13.1.1, 13.1.2) has one of C{tags}.

    @param weakly: weak ones count too.
    """
    if header is None:
        return False
    text = header.decode("latin-1").strip()
    return text == "*" or any(
        f'"{tag}"' in tags for weak, tag in _TAG.findall(text) if weakly or not weak
    )


def _changed(item: WorklistItem, version: int | None) -> str:
    than = "" if version is None else f", and no longer {version}"
    return f"the item has version {item.version} by now{than}; get it again"


def _unknown() -> HTTPError:
    return HTTPError(404, "there is no such worklist item")
