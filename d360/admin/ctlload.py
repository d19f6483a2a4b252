"""C{d360ctl ae load}: remote AEs from what C{d360ctl ae list --json} has printed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from d360.admin.client import Refused, Server
from d360.admin.terminal import Parser, tell


def _read(path: str) -> list[dict[str, Any]]:
    source = "standard input" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        found = json.loads(data)
    except OSError as error:
        raise Refused(f"{source}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"{source}: not valid JSON: {error}") from None
    entries = found.get("aes") if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(
        isinstance(one, dict) and isinstance(one.get("aet"), str) for one in entries
    ):
        raise Refused(f"{source} is not what d360ctl ae list --json prints")
    return entries


def load(server: Server, arguments: argparse.Namespace) -> None:
    """Add the remote AEs of a file; those of the same titles are replaced."""
    entries = _read(arguments.file)
    for done, entry in enumerate(entries):
        body = dict(entry)
        title = body.pop("aet")
        path = f"/api/aes/{quote(os.fsencode(title), safe='')}"
        try:
            server.call("PUT", path, body)
        except Refused as refused:
            raise Refused(
                f"{title!r}: {refused}; the {done} before it are entered",
                refused.status,
            ) from None
    tell(arguments, {"loaded": len(entries)}, f"{len(entries)} remote AEs are entered")


def addCommand(commands: Any, common: Parser) -> None:
    """Add C{load} to the commands of C{ae}."""
    words = "add those that ae list --json has printed"
    command = commands.add_parser(
        "load",
        parents=[common],
        help=words,
        description=f"{words.capitalize()}. Those of the same titles are replaced, "
        "others stay.",
    )
    command.add_argument("file", metavar="FILE", help="- for standard input")
    command.set_defaults(run=load)
