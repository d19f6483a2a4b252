"""
The server is killed while clients query it; then its audit trail is read: all of
its lines are whole and valid messages, whoever of several processes wrote them and
put full files aside, and every query that was answered some time before the kill is
there, once.

C{python -m tests.faults audit --kills 20} is the long form.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attrs import define, field
from pydicom.dataset import Dataset

from d360.audit.file import AuditFile
from tests.audit.reading import Read
from tests.interop.running import PATIENCE, RunningServer
from tests.interop.scu import associated

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"

#: Event ID of a query.
_QUERY = "110112"

#: Seconds before the kill in which a message may be on its way: one, and what a
#: busy machine adds.
ON_ITS_WAY = 3.0

_CLIENTS = 3

Say = Callable[[str], None]


@define
class Ledger:
    """
    What was answered.

    @ivar answered: when each query was, by the Patient ID that it asked for.
    """

    answered: dict[str, float] = field(factory=dict)
    isOver: bool = False

    def ask(self, server: RunningServer, client: str) -> None:
        """Query until the server is gone."""
        number = 0
        try:
            with associated(server, [(FIND, IMPLICIT)]) as association:
                while not self.isOver:
                    number += 1
                    key = f"{client}-{number}"
                    if not _find(association, key):
                        return
                    self.answered[key] = time.monotonic()
        except RuntimeError:
            # It was killed before it has accepted.
            return


def _find(association: object, key: str) -> bool:
    """Whether it was answered to its end."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.PatientID = key
    # So that files are soon full.
    identifier.StudyDescription = "x" * 64
    responses = association.send_c_find(identifier, FIND)  # type: ignore[attr-defined]
    return [status.get("Status") for status, _ in responses][-1:] == [0]


@define
class Outcome:
    """
    What was found.

    @ivar lost: queries that were answered and are not in the trail.
    @ivar oldest: seconds before the kill at which the first of them was answered.
    @ivar wrong: what must not be.
    """

    kills: int = 0
    answered: int = 0
    lost: int = 0
    oldest: float = 0.0
    files: int = 0
    wrong: list[str] = field(factory=list)


def _read(path: Path, outcome: Outcome) -> Counter[bytes]:
    """The identifiers of all queries in the trail."""
    every = [*AuditFile(path, 1, 0).older(), path]
    outcome.files = len(every)
    found: Counter[bytes] = Counter()
    for one in every:
        lines = one.read_bytes().split(b"\n")
        if lines.pop():
            outcome.wrong.append(f"{one.name} ends in half a line")
        for line in lines:
            try:
                message = Read(line)
            except Exception as error:
                outcome.wrong.append(f"{one.name}: {error}")
                continue
            if message.kind == _QUERY:
                found[_patientID(message.query)] += 1
    return found


def _patientID(identifier: bytes) -> bytes:
    """(0010,0020) of an identifier in Implicit VR."""
    rest = identifier.partition(b"\x10\x00\x20\x00")[2]
    length = int.from_bytes(rest[:4], "little")
    return rest[4 : 4 + length].rstrip()


def _awaitWritten(path: Path, keys: set[str]) -> None:
    """Wait until the trail has all of these queries, which is looked at later."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        # What is being written meanwhile may be half a line.
        if {key.encode() for key in keys} <= _read(path, Outcome()).keys():
            return
        time.sleep(0.5)


def _kill(
    server: RunningServer,
    seconds: float,
    name: str,
    outcome: Outcome,
    onItsWay: float | None,
) -> Ledger:
    ledger = Ledger()
    path = server.folder / "data" / "audit" / "audit.log"
    clients = [
        threading.Thread(target=ledger.ask, args=[server, f"{name}-{n}"], daemon=True)
        for n in range(_CLIENTS)
    ]
    for client in clients:
        client.start()
    time.sleep(seconds)
    written: set[str] = set()
    if onItsWay is None:
        written = set(ledger.answered)
        _awaitWritten(path, written)
    killed = time.monotonic()
    server.stop(signal.SIGKILL)
    ledger.isOver = True
    for client in clients:
        client.join(PATIENCE)
    found = _read(path, outcome)
    outcome.kills += 1
    outcome.answered += len(ledger.answered)
    for key, answered in ledger.answered.items():
        count = found[key.encode()]
        if count > 1:
            outcome.wrong.append(f"{key} is there {count} times")
        if not count:
            outcome.lost += 1
            outcome.oldest = max(outcome.oldest, killed - answered)
            if key in written:
                outcome.wrong.append(f"{key} is lost, of {killed - answered:.1f} s ago")
    if onItsWay is not None and outcome.oldest > onItsWay:
        outcome.wrong.append(f"a query of {outcome.oldest:.1f} s before is lost")
    return ledger


def run(
    kills: int,
    seconds: float,
    workers: int,
    say: Say,
    onItsWay: float | None = ON_ITS_WAY,
) -> Outcome:
    """
    @param seconds: for which is queried before each kill.
    @param say: is told how far it is.
    @param onItsWay: seconds, see L{ON_ITS_WAY}; with C{None} the kill waits until
        all that had been answered is in the trail, however long that takes.
    """
    outcome = Outcome()
    folder = Path(tempfile.mkdtemp(prefix="d360-audit-"))
    config = folder / "config.toml"
    config.write_text("[audit]\nmax_size = 1\nkeep = 0\n")
    server = RunningServer(folder / "server", f"--config={config}", workers=workers)
    try:
        for number in range(kills):
            server.start()
            ledger = _kill(server, seconds, f"kill{number}", outcome, onItsWay)
            say(
                f"kill {number + 1}/{kills}: {len(ledger.answered)} answered, "
                f"{outcome.lost} lost up to now, {len(outcome.wrong)} wrong"
            )
            if not ledger.answered:
                outcome.wrong.append("nothing was answered")
    finally:
        server.stop(signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def main(arguments: list[str]) -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults audit", description=(__doc__ or "").split(";")[0]
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="before each")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    outcome = run(given.kills, given.seconds, given.workers, print)
    print(
        f"{outcome.kills} kills, {outcome.answered} queries answered, {outcome.lost} "
        f"of them not in the audit trail, the oldest {outcome.oldest:.2f} s before its "
        f"kill; {outcome.files} files"
    )
    for wrong in outcome.wrong[:20]:
        print(f"WRONG: {wrong}")
    return 1 if outcome.wrong else 0
