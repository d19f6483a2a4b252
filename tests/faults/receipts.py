"""
Clients that store, and remember what they were told was kept; and whether it was.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from io import BytesIO

from attrs import Factory, define, field, frozen
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import generate_uid

from tests.contracts.postgres import execute
from tests.interop import wire
from tests.interop.running import RunningServer
from tests.services.datasets import encode, instance

STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"

_C_STORE_RSP = 0x8001
_SUCCESS = "0000"
_LOST = "lost"

#: Seconds in which what was left uncertain must be resolved: it is looked at
#: after five, ten and twenty.
_PATIENCE = 120.0


@frozen
class Outcome:
    """
    What became of some faults.

    @ivar injected: how many, by kind.
    @ivar answers: what clients were told, by status, or C{"lost"}.
    @ivar problems: what must not be.
    @ivar figures: whatever else was measured.
    """

    injected: Counter[str] = field(factory=Counter)
    answers: Counter[str] = field(factory=Counter)
    problems: list[str] = field(factory=list)
    figures: dict[str, float] = field(factory=dict)

    def slowest(self, what: str, seconds: float) -> None:
        """Measured once more: the slowest counts."""
        name = f"slowest {what}"
        self.figures[name] = max(seconds, self.figures.get(name, 0.0))

    def expect(self, isSo: object, problem: str) -> None:
        """Note a problem, unless it is so."""
        if not isSo:
            self.problems.append(problem)


@define
class Receipts:
    """
    What was sent and acknowledged.

    @ivar kept: digests of what was acknowledged, by study and instance.
    @ivar answers: by status, or C{"lost"}.
    @ivar comments: the Error Comments.
    @ivar slowest: seconds that an answer took.
    """

    kept: dict[str, dict[str, bytes]] = Factory(dict)
    answers: Counter[str] = Factory(Counter)
    comments: Counter[str] = Factory(Counter)
    slowest: float = 0.0

    @property
    def acknowledged(self) -> int:
        """How many instances were."""
        return sum(map(len, self.kept.values()))


def made(study: str, size: int) -> Dataset:
    """
    A new instance of a study, which has one series of the same UID, of about so
    many bytes that no other has.
    """
    return instance(
        StudyInstanceUID=study,
        SeriesInstanceUID=study,
        SOPInstanceUID=generate_uid(),
        PixelData=os.urandom(size & ~1),
    )


class Client:
    """
    Stores into a study of its own, over an association that it opens again when
    it is lost.
    """

    def __init__(self, server: RunningServer, receipts: Receipts, size: int) -> None:
        self._server = server
        self._receipts = receipts
        self._size = size
        self._study = generate_uid()
        self._peer: wire.Peer | None = None

    def store(self) -> str:
        """Store one; the status, or C{"lost"}."""
        dataset = made(self._study, self._size)
        data, uid = encode(dataset), str(dataset.SOPInstanceUID)
        began = time.monotonic()
        try:
            answer = self._send(uid, data)
        except (OSError, EOFError, RuntimeError):
            self.close()
            answer = _LOST
        receipts = self._receipts
        receipts.slowest = max(receipts.slowest, time.monotonic() - began)
        receipts.answers[answer] += 1
        if answer == _SUCCESS:
            study = receipts.kept.setdefault(self._study, {})
            study[uid] = sha256(data).digest()
        return answer

    def _send(self, uid: str, data: bytes) -> str:
        if self._peer is None:
            self._peer = peer = wire.Peer(self._server)
            peer.socket.settimeout(_PATIENCE)
            peer.associate([(wire.CT, [wire.EXPLICIT])])
        self._peer.send(wire.store(1, 1, wire.CT, uid, data))
        response = self._peer.response()
        if 0x902 in response.command:
            self._receipts.comments[response.text(0x902)] += 1
        return f"{response.status:04X}"

    def close(self) -> None:
        """Be gone."""
        if self._peer is not None:
            self._peer.socket.close()
            self._peer = None


class Clients:
    """
    Several that store at the same time, each in a thread, in C{with}.

    @param size: bytes of an instance.
    @param pause: seconds that each waits after a refusal.
    @param receipts: of others before them, which they go on with.
    """

    def __init__(
        self,
        server: RunningServer,
        count: int,
        size: int,
        pause: float = 0.05,
        receipts: Receipts | None = None,
    ) -> None:
        self.receipts = receipts or Receipts()
        self._server = server
        self._size = size
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        client = Client(self._server, self.receipts, self._size)
        while not self._stop.is_set():
            if client.store() != _SUCCESS:
                self._stop.wait(self._pause)
        client.close()

    def until(
        self, isSo: Callable[[Receipts], bool], patience: float = _PATIENCE
    ) -> bool:
        """Wait until they have been told something; whether they were."""
        deadline = time.monotonic() + patience
        while not isSo(self.receipts):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def untilStored(self, more: int, patience: float = _PATIENCE) -> bool:
        """Wait until so many more are acknowledged; whether they were."""
        wanted = self.receipts.answers[_SUCCESS] + more
        return self.until(lambda r: r.answers[_SUCCESS] >= wanted, patience)

    def untilTold(self, answer: str, patience: float = _PATIENCE) -> bool:
        """Wait until one more is told something; whether it was."""
        wanted = self.receipts.answers[answer] + 1
        return self.until(lambda r: r.answers[answer] >= wanted, patience)


def found(server: RunningServer, study: str) -> set[str]:
    """The instances of a study, by C-FIND."""
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study
    query.SeriesInstanceUID = study
    query.SOPInstanceUID = ""
    uids = set()
    with wire.Peer(server) as peer:
        peer.associate([(wire.STUDY_FIND, [wire.EXPLICIT])])
        peer.send(wire.find(1, 1, wire.STUDY_FIND, encode(query)))
        while (response := peer.response()).data is not None:
            match = read_dataset(BytesIO(response.data), False, True)
            uids.add(str(match.SOPInstanceUID))
        if response.status:
            raise RuntimeError(f"C-FIND was answered {response.status:04X}")
    return uids


def fetched(server: RunningServer, study: str) -> dict[str, bytes]:
    """The digests of a study's instances, by C-GET."""
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study
    command = {2: STUDY_GET, 0x100: 0x10, 0x110: 1, 0x700: 0, 0x800: 1}
    digests = {}
    with wire.Peer(server) as peer:
        peer.send(
            wire.request(
                [(STUDY_GET, [wire.EXPLICIT]), (wire.CT, [wire.EXPLICIT])],
                user=wire.role(wire.CT, 0, 1),
            )
        )
        peer.receive()
        peer.send(wire.message(1, wire.commandSet(command), encode(query)))
        while True:
            message = peer.response()
            if message.number(0x100) != 1:
                if message.status == 0xFF00:
                    continue
                break
            assert message.data is not None
            uid = message.text(0x1000)
            digests[uid] = sha256(message.data).digest()
            answer = {
                2: wire.CT,
                0x100: _C_STORE_RSP,
                0x120: message.number(0x110),
                0x800: 0x0101,
                0x900: 0,
                0x1000: uid,
            }
            peer.send(wire.message(3, wire.commandSet(answer)))
    return digests


def _problemsOf(
    server: RunningServer, study: str, kept: dict[str, bytes]
) -> Iterable[str]:
    uids, digests = found(server, study), fetched(server, study)
    for uid, digest in kept.items():
        if uid not in uids:
            yield f"{uid} was acknowledged, and is not found"
        elif uid not in digests:
            yield f"{uid} was acknowledged, and is not retrieved"
        elif digests[uid] != digest:
            yield f"{uid} has other bytes than were acknowledged"
    if uids != set(digests):
        yield f"study {study}: {len(uids)} found, {len(digests)} retrieved"


def check(server: RunningServer, receipts: Receipts, outcome: Outcome) -> None:
    """
    Everything acknowledged is found and retrieved bit for bit, and no row and no
    file is left over.
    """
    outcome.answers.update(receipts.answers)
    outcome.slowest("answer, s", receipts.slowest)
    for study, kept in receipts.kept.items():
        outcome.problems.extend(_problemsOf(server, study, kept))
    checkLeft(server, outcome)


def checkLeft(server: RunningServer, outcome: Outcome, database: str = "") -> None:
    """No row and no file is left over."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        left = server.incoming()
        rows = {
            str(path)
            for (path,) in execute(
                database or server.database, "SELECT path FROM instances"
            )
        }
        archive = server.folder / "data" / "archive"
        files = {str(path.relative_to(archive)) for path in server.archived()}
        if (not left and rows == files) or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    outcome.expect(not left, f"{len(left)} files are left on their way")
    outcome.expect(not rows - files, f"{len(rows - files)} rows have no file")
    outcome.expect(not files - rows, f"{len(files - rows)} files have no row")


def endsInOrder(server: RunningServer, outcome: Outcome) -> None:
    """It ends with status 0, and nothing went wrong that nobody expected."""
    outcome.expect(server.stop() == 0, "it did not end with status 0")
    file = server.folder / "data" / "log" / "d360.log"
    last = file.read_text(errors="replace").splitlines()[-1]
    outcome.expect("D360 has stopped" in last, f"the log ends with {last!r}")
    log = server.logged()
    at = log.find("Traceback")
    outcome.expect(at < 0, f"logged: {log[max(at - 300, 0) : at + 3000]}")


def echo(server: RunningServer) -> float:
    """Seconds of a C-ECHO on a new association; its establishment counts."""
    began = time.monotonic()
    with wire.Peer(server) as peer:
        peer.associate([(wire.ECHO, [wire.IMPLICIT])])
        peer.send(wire.echo(1, 1))
        peer.response()
        seconds = time.monotonic() - began
        with suppress(OSError, EOFError, RuntimeError):
            peer.release()
    return seconds
