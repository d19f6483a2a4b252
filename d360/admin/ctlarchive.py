"""
C{d360ctl reindex} and C{d360ctl verify}: the files of the archive and what the
index knows of them. Both are done by the server in the background, and followed
from here.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from attrs import frozen

from d360.admin.client import Refused, Server
from d360.admin.terminal import Parser, duration, printable, size

VERIFY_EXAMPLES = """\
examples:
  d360ctl verify
  d360ctl verify --rate 0
  d360ctl verify --study 1.2.840.113619.2.55.3
  d360ctl verify --after 1234567
  d360ctl verify --json | jq -r .findings[].path

exit status: 0 when each file was read and is what was stored, else 1.
"""

#: Seconds between two looks, and without an answer before it is given up.
_INTERVAL = 0.25
_PATIENCE = 60.0

#: Seconds between two lines where there is no terminal.
_LINES = 5.0


@frozen
class _Work:
    """
    What the server does in the background.

    @ivar path: the call that starts, shows and stops it.
    @ivar line: shows how far it is.
    @ivar goOn: says, for how far it was, what goes on there.
    """

    path: str
    line: Callable[[dict[str, Any]], str]
    goOn: Callable[[dict[str, Any]], str]


def _run(
    server: Server, arguments: argparse.Namespace, work: _Work, body: dict[str, Any]
) -> dict[str, Any]:
    """Have it done, and show how it goes; its last state."""
    last: dict[str, Any] = {}
    try:
        server.call("POST", work.path, body)
        _follow(server, work, arguments.json, last)
    except KeyboardInterrupt:
        progress = server.call("DELETE", work.path)["progress"]
        if sys.stderr.isatty():
            # Below the progress, and the terminal's own ^C.
            print(file=sys.stderr)
        raise Refused(f"stopped; {work.goOn(progress or last)}") from None
    if arguments.json:
        print(json.dumps(last))
    if last["error"]:
        raise Refused(f"{last['error']}; {work.goOn(last)}")
    return last


def _follow(server: Server, work: _Work, quiet: bool, last: dict[str, Any]) -> None:
    """
    Show the progress until it has ended.

    @param last: is kept up to date with it.
    """
    live = sys.stderr.isatty()
    shownAt = -_LINES
    while True:
        progress = _look(server, work, last)
        if progress is None or _isAnother(progress, last):
            if live and last:
                print(file=sys.stderr)
            raise Refused(f"the server was started again meanwhile; {work.goOn(last)}")
        last.update(progress)
        running = progress["running"]
        isDue = time.monotonic() - shownAt >= _LINES
        if not quiet and (live or not running or isDue):
            shownAt = time.monotonic()
            start, end = ("\r\x1b[K", "" if running else "\n") if live else ("", "\n")
            print(start + work.line(progress), end=end, file=sys.stderr, flush=True)
        if not running:
            return
        time.sleep(_INTERVAL)


def _isAnother(progress: dict[str, Any], last: dict[str, Any]) -> bool:
    """Whether it is not what was begun, but what somebody began after it."""
    return bool(last) and progress["seconds"] < last["seconds"]


def _look(server: Server, work: _Work, last: dict[str, Any]) -> dict[str, Any] | None:
    """
    How far it is; C{None} if the server knows of nothing. One that does not
    answer may be about to start again.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            progress: dict[str, Any] | None
            progress = server.call("GET", work.path)["progress"]
            return progress
        except Refused as refused:
            if refused.status:
                raise
            if time.monotonic() > deadline:
                raise Refused(f"{refused}; {work.goOn(last)}") from None
        time.sleep(_INTERVAL * 4)


# --- reindex


def _reindexLine(progress: dict[str, Any]) -> str:
    of = str(progress["total"]) + ("" if progress["counted"] else "+")
    return (
        f"{progress['done']}/{of} files, {progress['added']} added, "
        f"{progress['unchanged']} known, {progress['failed']} failed, "
        f"{duration(progress['seconds'])}"
    )


_REINDEX = _Work("/api/reindex", _reindexLine, lambda _: "run it again to go on")


def reindex(server: Server, arguments: argparse.Namespace) -> None:
    """Have the index rebuilt from the files, and show how it goes."""
    flags = {"prune": arguments.prune, "full": arguments.full}
    progress = _run(server, arguments, _REINDEX, flags)
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


# --- verify


def _verifyLine(progress: dict[str, Any]) -> str:
    changed = f", {progress['changed']} changed" if progress["changed"] else ""
    seconds = progress["seconds"]
    rate = f" at {size(progress['size'] / seconds)}/s" if seconds >= 1 else ""
    return (
        f"{progress['done']}/{progress['total']} files, {progress['intact']} intact, "
        f"{progress['damaged']} damaged, {progress['missing']} missing, "
        f"{progress['unreadable']} unreadable{changed}, "
        f"{size(progress['size'])}{rate}, {duration(seconds)}"
    )


def _goOnVerifying(progress: dict[str, Any]) -> str:
    position = progress.get("position", 0)
    if not position:
        return "run it again"
    return f"d360ctl verify --after {position} goes on"


_VERIFY = _Work("/api/verify", _verifyLine, _goOnVerifying)


def verify(server: Server, arguments: argparse.Namespace) -> None:
    """Have the files compared with what was stored, and show how it goes."""
    given = {
        "rate": arguments.rate,
        "study": arguments.study,
        "after": arguments.after,
    }
    body = {name: value for name, value in given.items() if value is not None}
    progress = _run(server, arguments, _VERIFY, body)
    bad = sum(progress[state] for state in ("damaged", "missing", "unreadable"))
    if not bad:
        return
    if not arguments.json:
        for one in progress["findings"]:
            print(printable(f"{one['state']}: {one['path']}: {one['why']}"))
    more = bad - len(progress["findings"])
    also = f" {more} more are in the server's log." if more else ""
    raise Refused(
        f"{bad} of {progress['done']} files are not intact.{also} Restore them from "
        "the backup (cp -p; rsync needs --checksum), or have these instances sent "
        "again, and run it again. If all is missing, see that the disk is mounted. "
        "d360ctl reindex --prune forgets those that are missing for good"
    )


# --- the command line


def _rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # The server says what is too much; these would be no JSON.
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError("give a number of MiB a second")
    return number


def addCommands(commands: Any, common: Parser) -> None:
    """Add C{reindex} and C{verify} to the commands."""
    command = commands.add_parser(
        "reindex",
        parents=[common],
        help="rebuild the index from the files",
        description="Enter all files of the archive into the index. Files that it "
        "knows are passed over. It may be interrupted and run again at any time, "
        "also while studies are being stored.",
    )
    command.add_argument(
        "--full",
        action="store_true",
        help="read also the files that are known, for what an earlier release did not "
        "read of them",
    )
    command.add_argument(
        "--prune", action="store_true", help="forget instances whose file is gone"
    )
    command.set_defaults(run=reindex)

    command = commands.add_parser(
        "verify",
        parents=[common],
        help="compare the files with what was stored",
        description="Read the file of each instance that the index knows, and "
        "compare it with the digest of what was stored. It changes nothing. It may "
        "be interrupted at any time, says where it was, and goes on there.",
        epilog=VERIFY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--rate",
        metavar="MiB",
        type=_rate,
        help="so many MiB a second at most (50); 0: as fast as it can",
    )
    command.add_argument("--study", metavar="UID", help="only one study")
    command.add_argument(
        "--after", metavar="POSITION", type=int, help="go on where one was stopped"
    )
    command.set_defaults(run=verify)
