"""
Whether an archive keeps its word: each instance in its files, in its index, by
C-FIND and by C-GET, held against what was sent and acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO

from attrs import define, field, frozen
from pydicom.filereader import read_dataset

from d360.archive.layout import DAMAGED, INCOMING
from d360.digests import digestOf
from tests.contracts.postgres import execute
from tests.faults.ledger import Ledger
from tests.faults.material import fingerprint
from tests.interop.receivers import STUDY_GET, Requestor, keys, respond
from tests.interop.running import PATIENCE, RunningServer
from tests.interop.wire import IMPLICIT, STUDY_FIND, Peer, find, request, role
from tests.services.datasets import encode

_ROWS = """
    SELECT i.sop_instance_uid, e.series_instance_uid, s.study_instance_uid,
        i.sop_class_uid, i.transfer_syntax_uid, i.path, i.data_set_offset::int,
        i.size::int, i.digest
    FROM instances i JOIN series e ON e.id = i.series JOIN studies s ON s.id = e.study
"""

#: What must not be there, and what to say of it.
_NONE_OF = {
    "a series without instances": (
        "SELECT series_instance_uid FROM series e"
        " WHERE NOT EXISTS (SELECT FROM instances WHERE series = e.id)"
    ),
    "a study without series": (
        "SELECT study_instance_uid FROM studies s"
        " WHERE NOT EXISTS (SELECT FROM series WHERE study = s.id)"
    ),
    "a patient without studies": (
        "SELECT id FROM patients p"
        " WHERE NOT EXISTS (SELECT FROM studies WHERE patient = p.id)"
    ),
    "a series with a wrong count or size": (
        "SELECT series_instance_uid FROM series e WHERE instance_count <>"
        " (SELECT count(*) FROM instances WHERE series = e.id) OR size <>"
        " (SELECT sum(size) FROM instances WHERE series = e.id)"
    ),
    "a path that two instances have": (
        "SELECT path FROM instances GROUP BY path HAVING count(*) > 1"
    ),
}


@frozen
class _Row:
    instance: str
    series: str
    study: str
    sopClass: str
    transferSyntax: str
    path: str
    offset: int
    size: int
    digest: bytes = field(converter=bytes)


@define
class Findings:
    """
    @ivar problems: what is wrong, for people.
    @ivar checked: instances that were acknowledged, and were looked at.
    """

    problems: list[str] = field(factory=list)
    checked: int = 0


class Inspection:
    """
    One look at a server that nobody sends to.

    @param hasStarted: it has done so since anything was sent: then nothing is
        unconfirmed either.
    """

    def __init__(self, server: RunningServer, ledger: Ledger, hasStarted: bool) -> None:
        self._server = server
        self._ledger = ledger
        self._hasStarted = hasStarted
        self._archive = server.folder / "data" / "archive"
        self._findings = Findings()
        self._rows: dict[str, _Row] = {}
        self._seen: dict[str, bytes] = {}

    def run(self) -> Findings:
        """Look at all, and have the ledger know what was found."""
        rows = [_Row(*row) for row in execute(self._server.database, _ROWS)]  # type: ignore[arg-type]
        self._rows = {row.instance: row for row in rows}
        self._tidy()
        self._files()
        self._answers()
        self._retrieve()
        self._compare()
        return self._findings

    def _wrong(self, text: str) -> None:
        self._findings.problems.append(text)

    def _tidy(self) -> None:
        """Nothing is left on its way, and no row without what it belongs to."""
        for path in self._server.incoming():
            self._wrong(f"left on its way: {path.name}")
        if self._hasStarted:
            for row in execute(self._server.database, "SELECT * FROM unconfirmed"):
                self._wrong(f"not confirmed: {row}")
        for what, statement in _NONE_OF.items():
            for row in execute(self._server.database, statement):
                self._wrong(f"{what}: {row}")

    def _files(self) -> None:
        """A file for each row, a row for each file, and the same bytes."""
        files = set(self._onDisk())
        entered = {row.path for row in self._rows.values()}
        for path in sorted(files - entered):
            self._wrong(f"a file without a row: {path}")
        for path in sorted(entered - files):
            self._wrong(f"a row without a file: {path}")
        for row in self._rows.values():
            if row.path in files:
                data = (self._archive / row.path).read_bytes()[row.offset :]
                self._seen[row.instance] = fingerprint(data)
                if len(data) != row.size or digestOf(data) != row.digest:
                    self._wrong(f"a file that is not what its row says: {row.path}")

    def _onDisk(self) -> Iterator[str]:
        for path in self._archive.rglob("*"):
            relative = path.relative_to(self._archive)
            if path.is_file() and relative.parts[0] != INCOMING:
                yield str(relative)
        if (self._archive / DAMAGED).exists():
            self._wrong("something was set aside as damaged")

    def _answers(self) -> None:
        """C-FIND at IMAGE level finds what is entered, and nothing else."""
        series = {(row.study, row.series) for row in self._rows.values()}
        found: set[str] = set()
        with Peer(self._server) as peer:
            peer.associate([(STUDY_FIND, [IMPLICIT])])
            for number, (study, one) in enumerate(sorted(series), 1):
                identifier = keys(
                    "IMAGE",
                    StudyInstanceUID=study,
                    SeriesInstanceUID=one,
                    SOPInstanceUID="",
                )
                peer.send(find(1, number, STUDY_FIND, encode(identifier, IMPLICIT)))
                while (response := peer.response()).data is not None:
                    answer = read_dataset(BytesIO(response.data), True, True)
                    found.add(str(answer.SOPInstanceUID))
                if response.status:
                    self._wrong(f"C-FIND was answered with {response.status:04X}")
            peer.release()
        for uid in found ^ set(self._rows):
            self._wrong(f"C-FIND and the index differ: {uid}")

    def _retrieve(self) -> None:
        """All that is found can be retrieved, byte for byte."""
        contexts = sorted(
            {(row.sopClass, row.transferSyntax) for row in self._rows.values()}
        )
        if not contexts:
            return
        roles = b"".join(role(one, 0, 1) for one in {c for c, _ in contexts})
        proposals = [(STUDY_GET, [IMPLICIT]), *((c, [s]) for c, s in contexts)]
        got: dict[str, bytes] = {}
        with _Getting(self._server) as peer:
            peer.send(request(proposals, user=roles, maximum=1 << 18))
            peer.receive()
            for study in sorted({row.study for row in self._rows.values()}):
                got.update(peer.get(study))
            peer.release()
        for uid in self._rows:
            if uid not in got:
                self._wrong(f"found, but not retrieved: {uid}")
            elif got[uid] != self._seen.get(uid):
                self._wrong(f"retrieved with other bytes than its file has: {uid}")

    def _compare(self) -> None:
        """What is there is what was acknowledged, or came later."""
        known = set(self._ledger.uids())
        for uid in self._rows.keys() - known:
            self._wrong(f"nobody has sent it whole: {uid}")
        for uid in known:
            verdict = self._ledger.verdict(uid)
            found = self._seen.get(uid)
            if not verdict.isOptional:
                self._findings.checked += 1
            if found is None and not verdict.isOptional:
                self._wrong(f"acknowledged, and not there: {uid}")
            elif found is not None and found not in verdict.permitted:
                self._wrong(f"other bytes than were acknowledged: {uid}")
            self._ledger.settle(uid, found)


class _Getting(Requestor):
    """Asks by C-GET and takes what comes (PS3.4 C.4.3)."""

    _contextID = 0

    def _nextPDV(self) -> tuple[int, int, bytes]:
        pdv = super()._nextPDV()
        self._contextID = pdv[0]
        return pdv

    def get(self, study: str) -> dict[str, bytes]:
        """The fingerprints of a study's instances, by SOP Instance UID."""
        got: dict[str, bytes] = {}
        self.ask(1, STUDY_GET, keys("STUDY", StudyInstanceUID=study))
        while True:
            response = self.response()
            if response.number(0x100) == 1:
                assert response.data is not None
                got[response.text(0x1000)] = fingerprint(response.data)
                respond(self, response, contextID=self._contextID)
            elif response.status != 0xFF00:
                return got


def awaitSettled(server: RunningServer) -> None:
    """
    Wait until nothing is on its way any more: what nobody could know at first is
    found out some seconds later.
    """
    deadline = time.monotonic() + PATIENCE
    while server.incoming() and time.monotonic() < deadline:
        time.sleep(0.05)
