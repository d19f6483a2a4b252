"""
C{d360ctl}: the command line client of the second port, for people and for
scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from d360 import __version__
from d360.admin import ctlarchive, ctlload, ctlworklist
from d360.admin.client import DEFAULT_URL, Refused, Server
from d360.admin.terminal import Parser, duration, size, table, tell

EXAMPLES = """\
examples:
  d360ctl status
  d360ctl --json status | jq .counts.studies
  d360ctl reindex
  d360ctl --url http://pacs:8360 --token SECRET reindex --full --prune
  d360ctl verify
  d360ctl ae add WS1 127.0.0.1 11113
  d360ctl ae echo WS1
  d360ctl worklist add step.json
  d360ctl worklist list Modality=CT

exit status: 0 when it was done, 1 when not; the reason is on stderr.
"""

AE_EXAMPLES = """\
examples:
  d360ctl ae add WS1 127.0.0.1 11113
  d360ctl ae echo WS1
  d360ctl ae list
  d360ctl ae list --json | jq -r .aes[].aet
  d360ctl ae remove WS1
  d360ctl ae list --json > aes.json
  d360ctl ae load aes.json

A title with a space is quoted: d360ctl ae add "CT 1" ct1.example.org 104
"""

#: Seconds for a C-ECHO: to connect, to negotiate, for its answer, to release.
ECHO_TIMEOUT = 120.0


def status(server: Server, arguments: argparse.Namespace) -> None:
    """Show what the server says of itself."""
    answer = server.call("GET", "/api/status")
    if arguments.json:
        print(json.dumps(answer))
        return
    print(f"D360 {answer['version']}, {answer['ae_title']}")
    print(f"  up            {duration(answer['uptime_seconds'])}")
    associations = answer["associations"]
    print(
        f"  associations  {associations['live']} open, "
        f"{associations['accepted']} since the start"
    )
    workers = answer["workers"]
    if workers:
        serving = sum(worker["answers"] for worker in workers)
        print(f"  workers       {serving} of {len(workers)} serve")
    database = answer["database"]
    if database["available"]:
        print(f"  database      {database['kind']} PostgreSQL {database['version']}")
    else:
        print(f"  database      {database['kind']} PostgreSQL, NOT AVAILABLE")
    counts = answer["counts"]
    if counts is not None:
        print(
            f"  stored        {counts['patients']} patients, "
            f"{counts['studies']} studies, {counts['series']} series, "
            f"{counts['instances']} instances, {size(counts['size'])}"
        )
    disk = answer["disk"]
    print(f"  disk          {size(disk['free'])} of {size(disk['total'])} free")


def _pathOf(title: str) -> str:
    """The call for a remote AE; the server says whether it can be one."""
    return f"/api/aes/{quote(os.fsencode(title), safe='')}"


def listAEs(server: Server, arguments: argparse.Namespace) -> None:
    """Show the remote AEs."""
    answer = server.call("GET", "/api/aes")
    if arguments.json:
        print(json.dumps(answer))
        return
    rows = [(one["aet"], one["host"], str(one["port"])) for one in answer["aes"]]
    if not rows:
        print("there are none; d360ctl ae add TITLE HOST PORT", file=sys.stderr)
        return
    rows.insert(0, ("AE TITLE", "HOST", "PORT"))
    # The ports to the right.
    table([(title, host, f"{port:>5}") for title, host, port in rows])


def addAE(server: Server, arguments: argparse.Namespace) -> None:
    """Add a remote AE, or replace it."""
    # What is no number goes as it is: the server says what would be right.
    digits = re.fullmatch("[0-9]{1,9}", arguments.port)
    port = int(arguments.port) if digits else arguments.port
    body = {"host": arguments.host, "port": port}
    answer = server.call("PUT", _pathOf(arguments.title), body)
    title, host = answer["aet"], answer["host"]
    tell(
        arguments,
        answer,
        f"{title} is at {host}, port {answer['port']}; to test it: "
        f"d360ctl ae echo {shlex.quote(title)}",
    )


def removeAE(server: Server, arguments: argparse.Namespace) -> None:
    """Remove a remote AE."""
    server.call("DELETE", _pathOf(arguments.title))
    tell(arguments, {"removed": arguments.title}, f"{arguments.title} is removed")


def echoAE(server: Server, arguments: argparse.Namespace) -> None:
    """Have the server verify a remote AE."""
    path = f"{_pathOf(arguments.title)}/echo"
    answer = server.call("POST", path, timeout=ECHO_TIMEOUT)
    if not answer["ok"]:
        if arguments.json:
            print(json.dumps(answer))
        raise Refused(answer["error"])
    tell(
        arguments,
        answer,
        f"{arguments.title} answers within {answer['milliseconds']} ms",
    )


def _common() -> Parser:
    """Options that may stand before the command or behind it."""
    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "--url", help=f"where the server's web port is (or D360_URL; {DEFAULT_URL})"
    )
    parser.add_argument("--token", help="the server's web.token (or D360_TOKEN)")
    parser.add_argument("--json", action="store_true", help="JSON, for scripts")
    return parser


def _parser() -> argparse.ArgumentParser:
    common = _common()
    parser = Parser(
        prog="d360ctl",
        description="Ask and configure a running D360.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"D360 {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser(
        "status", parents=[common], help="what the server does and holds"
    )
    command.set_defaults(run=status)

    ctlarchive.addCommands(commands, common)

    command = commands.add_parser(
        "ae",
        parents=[common],
        help="the remote AEs",
        description="List, add, remove and test the remote AEs: those that D360 "
        "sends to, and that may call it where require_known_callers is set. A "
        "change holds from the next association on.",
        epilog=AE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _addAECommands(command.add_subparsers(metavar="COMMAND", required=True), common)
    ctlworklist.addCommands(commands, common)
    return parser


def _addAECommands(commands: Any, common: Parser) -> None:
    for name, run, words in (
        ("list", listAEs, "all of them, by title"),
        ("add", addAE, "add one, or replace the one of this title"),
        ("remove", removeAE, "remove one"),
        ("echo", echoAE, "test one by a C-ECHO from the server"),
    ):
        command = commands.add_parser(
            name, parents=[common], help=words, description=f"{words.capitalize()}."
        )
        command.set_defaults(run=run)
        if run is not listAEs:
            command.add_argument("title", metavar="TITLE", help="its AE title")
        if run is addAE:
            command.add_argument("host", metavar="HOST", help="a name or an IP address")
            command.add_argument("port", metavar="PORT", help="1 to 65535")
    ctlload.addCommand(commands, common)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    defaults = argparse.Namespace(
        url=os.environ.get("D360_URL", DEFAULT_URL),
        token=os.environ.get("D360_TOKEN", ""),
        json=False,
    )
    arguments = _parser().parse_args(argv, defaults)
    try:
        arguments.run(Server(arguments.url, arguments.token), arguments)
        # Not only at the end, where nobody would say what is wrong.
        sys.stdout.flush()
    except Refused as refused:
        print(f"d360ctl: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    except OSError as error:
        # Who reads the output wants no more of it; or its disk is full.
        if not isinstance(error, BrokenPipeError):
            print(f"d360ctl: {error.strerror}, writing the output", file=sys.stderr)
        # Python may not write the rest of it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
