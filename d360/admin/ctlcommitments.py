"""C{d360ctl commitments}: storage commitments that nobody was told of yet."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any
from urllib.parse import quote

from d360.admin.client import Refused, Server
from d360.admin.terminal import Parser, printable, table

EXAMPLES = """\
examples:
  d360ctl commitments list
  d360ctl commitments list --json | jq '.commitments[] | select(.aet == "CT01")'
  d360ctl commitments retry 17
  d360ctl commitments retry all
  d360ctl commitments drop 17 18

exit status: 0 when it was done for each, 1 when not; the reason is on stderr.
"""

_PATH = "/api/commitments"


def _all(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.call("GET", _PATH)["commitments"]
    return found


def list_(server: Server, arguments: argparse.Namespace) -> None:
    """Show all of them, the oldest first."""
    found = _all(server)
    if arguments.json:
        print(json.dumps({"commitments": found}))
        return
    if not found:
        print("none waits: everybody was told", file=sys.stderr)
        return
    names = ("ID", "AE TITLE", "INSTANCES", "ASKED", "STATE", "LAST TRIED", "NEXT")
    table([names, *map(_row, found)])
    for one in found:
        if one["error"]:
            print(printable(f"{one['id']}: {one['error']}"))


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(one["id"]),
        one["aet"],
        f"{one['instances']:>9}",
        one["asked"],
        one["state"],
        one["failed"] or "",
        one["next"] if one["state"] == "waiting" else "",
    )


def retry(server: Server, arguments: argparse.Namespace) -> None:
    """Have some told now."""
    _each(server, arguments, "POST", "/retry", "retried", "is tried now")


def drop(server: Server, arguments: argparse.Namespace) -> None:
    """Tell nobody of some any more."""
    _each(server, arguments, "DELETE", "", "dropped", "is dropped")


def _each(
    server: Server,
    arguments: argparse.Namespace,
    method: str,
    below: str,
    key: str,
    words: str,
) -> None:
    names = arguments.ids
    if names == ["all"]:
        names = [str(one["id"]) for one in _all(server)]
    done, failed = [], False
    for name in names:
        try:
            server.call(method, f"{_PATH}/{quote(name, safe='')}{below}")
        except Refused as refused:
            if refused.status != 404:
                raise
            failed = True
            print(f"d360ctl: {printable(name)}: {refused}", file=sys.stderr)
            continue
        done.append(name)
        if not arguments.json:
            print(f"{printable(name)} {words}")
    if arguments.json:
        print(json.dumps({key: done}))
    if failed:
        raise Refused("not done for each of them")


def addCommands(commands: Any, common: Parser) -> None:
    """Make them known to the parser."""
    command = commands.add_parser(
        "commitments",
        parents=[common],
        help="storage commitments that nobody was told of yet",
        description="List, retry and drop storage commitments that were asked for "
        "and that nobody was told of yet. Whoever could not be told is tried again "
        "for seven days.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = command.add_subparsers(metavar="COMMAND", required=True)
    for name, run, words in (
        ("list", list_, "all of them, the oldest first"),
        ("retry", retry, "have some told now, or all"),
        ("drop", drop, "tell nobody of some any more; who has asked may ask again"),
    ):
        one = below.add_parser(
            name, parents=[common], help=words, description=f"{words.capitalize()}."
        )
        one.set_defaults(run=run)
        if run is not list_:
            one.add_argument("ids", metavar="ID", nargs="+", help="see list; or: all")
