"""C{d360ctl worklist}: the worklist from the command line."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from attrs import asdict, frozen

from d360.admin.client import Refused, Server
from d360.admin.terminal import Parser, printable, table, tell
from d360.worklistattributes import WORKLIST, isOfStep

EXAMPLES = """\
examples:
  d360ctl worklist add step.json more.json
  d360ctl worklist add /var/lib/worklists/*.wl
  d360ctl worklist add PatientName=Rossi^Anna PatientID=1 Modality=CT \\
      ScheduledStationAETitle=CT01 ScheduledProcedureStepStartDate=20260101
  generate-item | d360ctl worklist add -
  d360ctl worklist add --json step.json | jq -r .added[].id
  d360ctl worklist list
  d360ctl worklist list 'PatientName=ros*' Modality=CT
  d360ctl worklist list ScheduledProcedureStepStartDate=20260101-20260131
  d360ctl worklist show ID
  d360ctl worklist remove ID ID
"""

_STEPS = "ScheduledProcedureStepSequence"
_NAME = "the command line"

#: C{Keyword=value}; inside of sequences, C{Sequence.Keyword=value}.
_ASSIGNMENT = re.compile(r"([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)=(.*)", re.ASCII | re.DOTALL)

#: VRs in whose text a backslash is one (PS3.5 6.2).
_WITH_BACKSLASHES = ("LT", "ST", "UR", "UT")

#: Items asked for at a time, and how often a list is begun.
_PAGE = 1000
_ATTEMPTS = 5

_COLUMNS = (
    ("DATE", "ScheduledProcedureStepStartDate"),
    ("TIME", "ScheduledProcedureStepStartTime"),
    ("STATION", "ScheduledStationAETitle"),
    ("MODALITY", "Modality"),
    ("PATIENT ID", "PatientID"),
    ("PATIENT NAME", "PatientName"),
    ("ACCESSION", "AccessionNumber"),
)

#: Statuses that say the same of each further item.
_HOPELESS = (401, 403, 429)


@frozen
class _Body:
    """
    An item to be added.

    @ivar source: where it is from, for people.
    @ivar content: C{bytes} of a DICOM file, or what becomes JSON.
    """

    source: str
    content: Any
    kind: str


@frozen
class _Failure:
    """
    What was not done.

    @ivar source: see L{_Body}; or an identifier.
    """

    source: str
    reason: str


def _path(identifier: str) -> str:
    return f"/api/worklist/{quote(os.fsencode(identifier), safe='')}"


# --- add


def _fromWords(words: list[str]) -> dict[str, Any]:
    """An item by C{Keyword=value}, with one step."""
    item: dict[str, Any] = {}
    for word in words:
        match = _ASSIGNMENT.fullmatch(word)
        assert match is not None
        path = match[1].split(".")
        attribute = WORKLIST.byKeyword.get(path[0])
        if attribute is not None and isOfStep(attribute):
            path.insert(0, _STEPS)
        place = item
        for sequence in path[:-1]:
            items = place.setdefault(sequence, [{}])
            if not isinstance(items, list):
                raise Refused(f"{sequence} is no sequence")
            place = items[0]
        if path[-1] in place:
            raise Refused(f"{path[-1]} is given twice")
        place[path[-1]] = _valueOf(path[-1], match[2])
    return item


def _valueOf(keyword: str, text: str) -> str | list[str]:
    """Several values are divided by backslashes, as DICOM has them."""
    attribute = WORKLIST.byKeyword.get(keyword)
    if attribute is None or attribute.vr in _WITH_BACKSLASHES or "\\" not in text:
        return text
    return text.split("\\")


def _bodiesOf(source: str, data: bytes) -> Iterator[_Body | _Failure]:
    """The items of a file."""
    if data[128:132] == b"DICM" or data.lstrip()[:1] not in (b"{", b"["):
        if not data.strip():
            yield _Failure(source, "it is empty")
        elif all(byte >= 32 or byte in b"\t\r\n" for byte in data[:256]):
            yield _Failure(source, "neither JSON nor a DICOM file")
        else:
            yield _Body(source, data, "application/dicom")
        return
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        yield _Failure(source, f"not valid JSON: {error}")
        return
    # What "list --json" prints, so that a copy can be entered again.
    if isinstance(value, dict) and list(value) == ["items"]:
        value = value["items"]
    if not isinstance(value, list):
        value = [value]
    for number, one in enumerate(value, 1):
        yield _bodyOf(source if len(value) == 1 else f"{source}, item {number}", one)


def _bodyOf(source: str, item: Any) -> _Body | _Failure:
    if not isinstance(item, dict):
        return _Failure(source, "not a JSON object")
    if item and all(re.fullmatch("[0-9A-Fa-f]{8}", name) for name in item):
        return _Body(source, item, "application/dicom+json")
    # Those of the server that it was listed by; this one gives its own.
    content = {k: v for k, v in item.items() if k not in ("id", "version")}
    return _Body(source, content, "application/json")


def _bodies(words: list[str]) -> Iterator[_Body | _Failure]:
    """What is to be added, or why it cannot be."""
    assignments = [word for word in words if _ASSIGNMENT.fullmatch(word)]
    if assignments and len(assignments) < len(words):
        raise Refused("give files, or Keyword=value of one item, not both")
    if words.count("-") > 1:
        raise Refused("standard input can be read once only")
    if assignments:
        yield _Body(_NAME, _fromWords(assignments), "application/json")
        return
    for word in words:
        source = "standard input" if word == "-" else word
        try:
            data = sys.stdin.buffer.read() if word == "-" else Path(word).read_bytes()
        except (OSError, ValueError) as error:
            yield _Failure(source, getattr(error, "strerror", None) or str(error))
        else:
            yield from _bodiesOf(source, data)


def add(server: Server, arguments: argparse.Namespace) -> None:
    """Add items."""
    added: list[dict[str, str]] = []
    failed: list[_Failure] = []
    for body in _bodies(arguments.items):
        if isinstance(body, _Failure):
            failed.append(body)
            continue
        try:
            answer = server.call("POST", "/api/worklist", body.content, kind=body.kind)
        except Refused as refused:
            failed.append(_Failure(body.source, str(refused)))
            if _isHopeless(refused):
                _abandon(arguments, _added(added, failed), failed)
                raise
        else:
            added.append({"source": body.source, "id": answer["id"]})
            if not arguments.json:
                print(f"{printable(body.source)}: added, id {answer['id']}")
    _conclude(arguments, _added(added, failed), failed, len(added))


def _added(added: list[dict[str, str]], failed: list[_Failure]) -> dict[str, Any]:
    return {"added": added, "failed": [asdict(one) for one in failed]}


def _isHopeless(refused: Refused) -> bool:
    return not 400 <= refused.status < 500 or refused.status in _HOPELESS


def _abandon(
    arguments: argparse.Namespace, answer: Any, failed: list[_Failure]
) -> None:
    """Say what was done before there was no use in going on."""
    if arguments.json:
        print(json.dumps(answer))
    for one in failed[:-1]:
        print(f"d360ctl: {printable(one.source)}: {one.reason}", file=sys.stderr)


def _conclude(
    arguments: argparse.Namespace, answer: Any, failed: list[_Failure], done: int
) -> None:
    """Say what was done of several, and what was not."""
    if arguments.json:
        print(json.dumps(answer))
    reasons = [f"{printable(one.source)}: {one.reason}" for one in failed]
    if len(reasons) + done > 1:
        for reason in reasons:
            print(f"d360ctl: {reason}", file=sys.stderr)
        if reasons:
            raise Refused(f"{len(reasons)} of {len(reasons) + done} failed")
    elif reasons:
        raise Refused(reasons[0])


# --- list, show, remove


def _filters(words: list[str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for word in words:
        match = _ASSIGNMENT.fullmatch(word)
        if match is None:
            raise Refused(f"{word!r} is no filter; give Keyword=value")
        keyword = match[1].removeprefix(f"{_STEPS}.")
        if keyword in keys:
            raise Refused(f"{keyword} is given twice")
        keys[keyword] = match[2]
    return keys


def _listed(server: Server, keys: dict[str, str]) -> list[dict[str, Any]]:
    """All items that match, however many there are."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return _allPages(server, keys)
        except Refused as refused:
            # The item to go on behind was removed meanwhile.
            if refused.status != http.client.CONFLICT:
                raise
    return _allPages(server, keys)


def _allPages(server: Server, keys: dict[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        query = urlencode(keys | {"limit": str(_PAGE)} | after)
        answer = server.call("GET", f"/api/worklist?{query}")
        items += answer["items"]
        if answer["next"] is None:
            return items
        after = {"after": answer["next"]}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "\\".join(map(_shown, value))
    return "" if value is None else str(value)


def listItems(server: Server, arguments: argparse.Namespace) -> None:
    """Show the items that match, a line for each step."""
    items = _listed(server, _filters(arguments.filters))
    if arguments.json:
        print(json.dumps({"items": items}))
        return
    if not items:
        print("there are none", file=sys.stderr)
        return
    rows = [("ID", *(title for title, _ in _COLUMNS))]
    for item in items:
        for step in item[_STEPS]:
            values = (item | step).get
            cells = (_shown(values(keyword, "")) for _, keyword in _COLUMNS)
            rows.append((item["id"], *cells))
    table(rows)


def _lines(item: dict[str, Any], indent: str) -> Iterator[str]:
    for keyword, value in item.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for number, one in enumerate(value, 1):
                yield f"{indent}{keyword}, item {number}"
                yield from _lines(one, f"{indent}  ")
        else:
            yield printable(f"{indent}{keyword}: {_shown(value)}".rstrip())


def show(server: Server, arguments: argparse.Namespace) -> None:
    """Show an item."""
    item = server.call("GET", _path(arguments.id))
    tell(arguments, item, "\n".join(_lines(item, "")))


def remove(server: Server, arguments: argparse.Namespace) -> None:
    """Remove items."""
    removed: list[str] = []
    failed: list[_Failure] = []
    for identifier in arguments.ids:
        try:
            server.call("DELETE", _path(identifier))
        except Refused as refused:
            failed.append(_Failure(identifier, str(refused)))
            if _isHopeless(refused):
                _abandon(arguments, _removed(removed, failed), failed)
                raise
        else:
            removed.append(identifier)
            if not arguments.json:
                print(f"{identifier} is removed")
    _conclude(arguments, _removed(removed, failed), failed, len(removed))


def _removed(removed: list[str], failed: list[_Failure]) -> dict[str, Any]:
    return {"removed": removed, "failed": [asdict(one) for one in failed]}


# --- the command line


def addCommands(commands: Any, common: Parser) -> None:
    """Add C{worklist} to the commands."""
    command = commands.add_parser(
        "worklist",
        parents=[common],
        help="the modality worklist",
        description="List, add, show and remove what the modalities are to do. A "
        "change is seen by the next query.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = command.add_subparsers(metavar="COMMAND", required=True)

    def sub(
        name: str, run: Callable[[Server, argparse.Namespace], None], words: str
    ) -> Any:
        one = below.add_parser(
            name,
            parents=[common],
            help=words,
            description=f"{words[0].upper()}{words[1:]}.",
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(run=run)
        return one

    sub("list", listItems, "all items, or those that match").add_argument(
        "filters",
        metavar="Keyword=value",
        nargs="*",
        help="as in a C-FIND: * and ? in texts, FROM-TO for dates",
    )
    sub("add", add, "add items; each gets an id").add_argument(
        "items",
        metavar="FILE|Keyword=value",
        nargs="+",
        help="JSON (by keyword, or the DICOM JSON Model; one item or a list) or "
        "DICOM files (also .wl), - for standard input; or the attributes of one "
        "item with one step",
    )
    sub("show", show, "one item").add_argument("id", metavar="ID")
    sub("remove", remove, "remove items").add_argument("ids", metavar="ID", nargs="+")
