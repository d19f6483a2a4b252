"""
C{d360ctl}: the command line client of the second port, for people and for
scripts.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

from d360 import __version__

DEFAULT_URL = "http://127.0.0.1:8360"

EXAMPLES = """\
examples:
  d360ctl status
  d360ctl --json status | jq .counts.studies
  d360ctl reindex
  d360ctl --url http://pacs:8360 --token SECRET reindex --full --prune

exit status: 0 when it was done, 1 when not; the reason is on stderr.
"""


class Refused(Exception):
    """What was asked for was not done; the message is for the person."""


class Server:
    """
    A D360 server's HTTP side.

    @param url: such as C{http://127.0.0.1:8360}.
    @param token: its C{web.token}, or empty.
    """

    def __init__(self, url: str, token: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused(f"{url!r} is no URL; give one like {DEFAULT_URL}")
        self._url = url
        self._kind: Callable[..., http.client.HTTPConnection] = (
            http.client.HTTPSConnection
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        self._where = parts.hostname, port
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """
        Make a call and return the decoded answer.

        @raise Refused: no answer, or a 4xx or 5xx one.
        """
        connection = self._kind(*self._where, timeout=30)
        headers = {"Content-Type": "application/json"} | self._headers
        try:
            connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
        except OSError as error:
            raise Refused(
                f"no D360 answers at {self._url} ({error}); is it running, and is "
                "this its web.address and web.port? Give another by --url"
            ) from None
        except http.client.HTTPException:
            raise Refused(f"what answers at {self._url} is no D360") from None
        finally:
            connection.close()
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Refused(f"what answers at {self._url} is no D360")
        if response.status >= 400:
            raise Refused(answer.get("error", f"HTTP status {response.status}"))
        return answer


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{rest:02}"
    return f"{days} d {clock}" if days else clock


def status(server: Server, arguments: argparse.Namespace) -> None:
    """Show what the server says of itself."""
    answer = server.call("GET", "/api/status")
    if arguments.json:
        print(json.dumps(answer))
        return
    print(f"D360 {answer['version']}, {answer['ae_title']}")
    print(f"  up            {_duration(answer['uptime_seconds'])}")
    associations = answer["associations"]
    print(
        f"  associations  {associations['live']} open, "
        f"{associations['accepted']} since the start"
    )
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
            f"{counts['instances']} instances, {_size(counts['size'])}"
        )
    disk = answer["disk"]
    print(f"  disk          {_size(disk['free'])} of {_size(disk['total'])} free")


def _progressLine(progress: dict[str, Any]) -> str:
    of = str(progress["total"]) + ("" if progress["counted"] else "+")
    return (
        f"{progress['done']}/{of} files, {progress['added']} added, "
        f"{progress['unchanged']} known, {progress['failed']} failed, "
        f"{_duration(progress['seconds'])}"
    )


def _follow(server: Server, quiet: bool) -> dict[str, Any]:
    """Show the progress until the rebuild has ended."""
    live = sys.stderr.isatty()
    shownAt = 0.0
    while True:
        progress: dict[str, Any] = server.call("GET", "/api/reindex")["progress"]
        running = progress["running"]
        if not quiet and (live or not running or time.monotonic() - shownAt >= 5):
            shownAt = time.monotonic()
            start, end = ("\r\x1b[K", "" if running else "\n") if live else ("", "\n")
            print(start + _progressLine(progress), end=end, file=sys.stderr, flush=True)
        if not running:
            return progress
        time.sleep(0.25)


def reindex(server: Server, arguments: argparse.Namespace) -> None:
    """Have the index rebuilt from the files, and show how it goes."""
    flags = {"prune": arguments.prune, "full": arguments.full}
    try:
        server.call("POST", "/api/reindex", flags)
        progress = _follow(server, arguments.json)
    except KeyboardInterrupt:
        server.call("DELETE", "/api/reindex")
        if sys.stderr.isatty():
            # Below the progress, and the terminal's own ^C.
            print(file=sys.stderr)
        raise Refused("stopped; run it again to go on") from None
    if arguments.json:
        print(json.dumps(progress))
    if progress["error"]:
        raise Refused(progress["error"])
    if progress["missing"] and not arguments.prune:
        print(
            f"{progress['missing']} instances of the index have no file; if their "
            "files are lost for good, d360ctl reindex --prune forgets them",
            file=sys.stderr,
        )
    if progress["failed"]:
        raise Refused(
            f"{progress['failed']} files could not be entered; the server's log "
            "names each with the reason"
        )


class _Parser(argparse.ArgumentParser):
    """A parser that ends with 1, as everything else that was not done does."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}; see {self.prog} --help\n")


def _common() -> _Parser:
    """Options that may stand before the command or behind it."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "--url", help=f"where the server's web port is (or D360_URL; {DEFAULT_URL})"
    )
    parser.add_argument("--token", help="the server's web.token (or D360_TOKEN)")
    parser.add_argument("--json", action="store_true", help="JSON, for scripts")
    return parser


def _parser() -> argparse.ArgumentParser:
    common = _common()
    parser = _Parser(
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

    command = commands.add_parser(
        "reindex",
        parents=[common],
        help="rebuild the index from the files",
        description="Enter all files of the archive into the index. Files that it "
        "knows are passed over. It may be interrupted and run again at any time, "
        "also while studies are being stored.",
    )
    command.add_argument(
        "--full", action="store_true", help="read also the files that are known"
    )
    command.add_argument(
        "--prune", action="store_true", help="forget instances whose file is gone"
    )
    command.set_defaults(run=reindex)
    return parser


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
    except Refused as refused:
        print(f"d360ctl: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
