"""
C-FIND with many matches: streamed, cancelled, and several at the same time
(PS3.4 C.4.1.2, C.4.1.3).
"""

from __future__ import annotations

import re
import subprocess
from threading import Thread

from pydicom.dataset import Dataset

from tests.interop import wire
from tests.interop.findset import many, send
from tests.interop.running import PATIENCE, RunningServer, readResponses
from tests.interop.test_find import FindTestCase
from tests.services.datasets import encode

#: Studies of the patient MANY, and on how many associations they are sent.
MANY, SENDERS = 1200, 4

_many: list[int] = []


def storeMany(server: RunningServer) -> None:
    """Store them, once."""
    if _many:
        return
    share = MANY // SENDERS

    def store(first: int) -> None:
        _many.extend(send(server, many("MANY", first, share)))

    threads = [Thread(target=store, args=(n * share,)) for n in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if _many != [0] * MANY:
        raise RuntimeError("the studies were not stored")


class ManyTests(FindTestCase):
    """A query with many matches (PS3.4 C.4.1.2, C.4.1.3)."""

    def setUp(self) -> None:
        super().setUp()
        storeMany(self.server)

    def question(self) -> bytes:
        """An identifier that finds them all."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.PatientID = "MANY"
        for keyword in ("StudyInstanceUID", "StudyDescription", "PatientName"):
            setattr(query, keyword, "")
        return encode(query)

    def openNarrow(self) -> wire.Peer:
        """An association whose peer takes little at a time."""
        peer = wire.Peer(self.server, isNarrow=True)
        self.addCleanup(peer.socket.close)
        peer.associate([(wire.STUDY_FIND, [wire.EXPLICIT])])
        return peer

    def test_all(self) -> None:
        """Each study comes, once."""
        responses = self.ask("STUDY", "PatientID=MANY", "StudyInstanceUID")
        self.assertEqual(len(responses.matches), MANY)
        self.assertEqual(len({m["0020,000d"] for m in responses.matches}), MANY)

    def test_stream(self) -> None:
        """The first match leaves before the last is read."""
        before = self.server.logged().count("C-FIND 77:")
        peer = self.openNarrow()
        peer.send(wire.find(1, 77, wire.STUDY_FIND, self.question()))
        self.assertEqual(peer.response().status, 0xFF00)
        self.assertEqual(self.server.logged().count("C-FIND 77:"), before)
        statuses = [peer.response().status for _ in range(MANY)]
        self.assertEqual(statuses, [0xFF00] * (MANY - 1) + [0])
        peer.release()

    def test_cancel(self) -> None:
        """
        C-CANCEL stops the query: FE00 without an identifier; a late one is
        ignored.
        """
        peer = self.openNarrow()
        peer.send(wire.find(1, 5, wire.STUDY_FIND, self.question()))
        self.assertEqual(peer.response().status, 0xFF00)
        peer.send(wire.cancel(1, 4) + wire.cancel(1, 5))
        count = 1
        while (response := peer.response()).status == 0xFF00:
            count += 1
        self.assertEqual(response.status, 0xFE00)
        self.assertIsNone(response.data)
        self.assertLess(count, MANY)
        peer.send(wire.cancel(1, 5))
        peer.send(wire.find(1, 6, wire.STUDY_FIND, self.question()))
        self.assertEqual(peer.response().messageID, 6)
        peer.socket.close()

    def test_findscu(self) -> None:
        """findscu's own C-CANCEL."""
        # It may come too late, when findscu is slow: all may be on its way to it.
        for _ in range(10):
            output = self.server.client(
                "findscu",
                *("-d", "-S", "--cancel", "1", "-k", "QueryRetrieveLevel=STUDY"),
                *("-k", "PatientID=MANY", "-k", "StudyInstanceUID", "-pdu", "4096"),
            ).output
            responses = readResponses(output)
            if responses.statuses[-1] != "0000":
                break
        self.assertEqual(responses.statuses[-1], "FE00", len(responses.statuses))
        self.assertLess(len(responses.matches), MANY)

    def test_peerGone(self) -> None:
        """A peer that goes away in the middle of the answers."""
        peer = self.openNarrow()
        peer.send(wire.find(1, 78, wire.STUDY_FIND, self.question()))
        peer.response()
        begin = self.server.log.stat().st_size
        peer.socket.close()
        self.server.waitFor(re.compile(r"ended \(PEER to D360PACS\)"), begin)
        self.assertNotIn("Traceback", self.server.logged()[begin:])

    def test_together(self) -> None:
        """Several query at the same time."""
        command = ["-S", "-v", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=MANY"]
        asking = [
            subprocess.Popen(
                self.server.clientCommand("findscu", *command),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for _ in range(4)
        ]
        for process in asking:
            output, _ = process.communicate(timeout=PATIENCE)
            self.assertEqual(output.count(b"Find Response: "), MANY)
