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
from d360.admin import ctlarchive, ctlcommitments, ctlload, ctlworklist
from d360.admin.client import DEFAULT_URL, Refused, Server
from d360.admin.terminal import Parser, duration, size, table, tell

EXAMPLES = """\
examples:
  d360ctl status
  d360ctl --json status | jq .counts.studies
  d360ctl reindex
  d360ctl --url http://pacs:8360 --token SECRET reindex --full --prune
  d360ctl --url https://pacs:8360 --ca ca.pem status
  d360ctl verify
  d360ctl ae add WS1 127.0.0.1 11113
  d360ctl ae echo WS1
  d360ctl worklist add step.json
  d360ctl worklist list Modality=CT
  d360ctl commitments list

exit status: 0 when it was done, 1 when not; the reason is on stderr.
"""

AE_EXAMPLES = """\
examples:
  d360ctl ae add WS1 127.0.0.1 11113
  d360ctl ae add CT1 192.0.2.9 104 --permissions store,worklist
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
    for one in answer["certificates"]:
        left = f"{one['days_left']} days left" if one["days_left"] >= 0 else "EXPIRED"
        print(
            f"  certificate   {one['use']}, {one['subject']}, until "
            f"{one['expires'][:10]}, {left}"
        )
    counts = answer["counts"]
    if counts is not None:
        print(
            f"  stored        {counts['patients']} patients, "
            f"{counts['studies']} studies, {counts['series']} series, "
            f"{counts['instances']} instances, {size(counts['size'])}"
        )
    disk = answer["disk"]
    low = ", TOO LITTLE: NOTHING IS STORED" if disk["low"] else ""
    print(f"  disk          {size(disk['free'])} of {size(disk['total'])} free{low}")
    print(f"  audit trail   {_audit(answer['audit'])}")


def _audit(state: dict[str, Any]) -> str:
    kept = " and ".join(word for word in ("file", "syslog") if state[word])
    if not kept:
        return "off"
    if state["failing"] or state["dropped"]:
        how = "FAILS" if state["failing"] else "works again"
        return f"{kept} {how}, {state['waiting']} waiting, {state['dropped']} dropped"
    return f"{kept}, {state['written']} messages written"


def _pathOf(title: str) -> str:
    """The call for a remote AE; the server says whether it can be one."""
    return f"/api/aes/{quote(os.fsencode(title), safe='')}"


def listAEs(server: Server, arguments: argparse.Namespace) -> None:
    """Show the remote AEs."""
    answer = server.call("GET", "/api/aes")
    if arguments.json:
        print(json.dumps(answer))
        return
    rows = [_row(one) for one in answer["aes"]]
    if not rows:
        print("there are none; d360ctl ae add TITLE HOST PORT", file=sys.stderr)
        return
    table([("AE TITLE", "HOST", " PORT", "MAY", "TLS", "CERTIFICATE"), *rows])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    """A remote AE in columns, the port to the right."""
    return (
        one["aet"],
        one["host"],
        f"{one['port']:>5}",
        ",".join(one["permissions"]) or "none",
        "yes" if one["tls"] else "no",
        one["certificate"],
    )


def addAE(server: Server, arguments: argparse.Namespace) -> None:
    """Add a remote AE, or replace it."""
    # What is no number goes as it is: the server says what would be right.
    digits = re.fullmatch("[0-9]{1,9}", arguments.port)
    port = int(arguments.port) if digits else arguments.port
    body = {"host": arguments.host, "port": port}
    if arguments.permissions is not None:
        body["permissions"] = _namesIn(arguments.permissions)
    if arguments.tls:
        body["tls"] = True
    if arguments.certificate:
        body["certificate"] = arguments.certificate
    answer = server.call("PUT", _pathOf(arguments.title), body)
    title, host = answer["aet"], answer["host"]
    permissions = ", ".join(answer["permissions"]) or "none"
    tell(
        arguments,
        answer,
        f"{title} is at {host}, port {answer['port']}; permissions: {permissions}; "
        f"to test it: d360ctl ae echo {shlex.quote(title)}",
    )


def _namesIn(text: str) -> list[str]:
    """What stands between the commas."""
    return [] if text in ("", "none") else [name.strip() for name in text.split(",")]


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
    parser.add_argument(
        "--ca",
        help="for https: a PEM file of the CA of the server's certificate (or "
        "D360_CA; those that the system knows)",
    )
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
        "sends to, and that may call it where require_known_callers is set; and "
        "what each of them may do when it calls. A change holds from the next "
        "association on.",
        epilog=AE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _addAECommands(command.add_subparsers(metavar="COMMAND", required=True), common)
    ctlworklist.addCommands(commands, common)
    ctlcommitments.addCommands(commands, common)
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
            _addPermissions(command)
    ctlload.addCommand(commands, common)


def _addPermissions(command: argparse.ArgumentParser) -> None:
    """What a remote AE may do, and how it shows who it is."""
    command.add_argument(
        "--permissions",
        metavar="LIST",
        help="what it may ask of the server: some of store,query,retrieve,worklist, "
        "or none; all of them if this is left out",
    )
    command.add_argument("--tls", action="store_true", help="call it over TLS")
    command.add_argument(
        "--certificate",
        metavar="FINGERPRINT",
        default="",
        help="SHA-256 fingerprint of the certificate that it has to show when it "
        "calls (openssl x509 -noout -fingerprint -sha256)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    defaults = argparse.Namespace(
        url=os.environ.get("D360_URL", DEFAULT_URL),
        token=os.environ.get("D360_TOKEN", ""),
        ca=os.environ.get("D360_CA", ""),
        json=False,
    )
    arguments = _parser().parse_args(argv, defaults)
    try:
        server = Server(arguments.url, arguments.token, arguments.ca)
        arguments.run(server, arguments)
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
