"""
Kills at random moments in a short form, and whether what looks for their traces
would see them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.postgres import execute
from tests.faults.crash import ALONE, TOGETHER, Limits, Session, Tally, plan
from tests.faults.inspection import Inspection, awaitSettled
from tests.faults.ledger import Ledger
from tests.faults.material import Content, Stock, fingerprint, templates
from tests.interop.running import RunningServer
from tests.interop.wire import Peer, store


class CrashTests(SynchronousTestCase):
    """What was acknowledged is there, whoever is killed; C{D360_TEST_SEED} repeats."""

    def survive(self, workers: int, *kinds: str) -> None:
        seed = int(os.environ.get("D360_TEST_SEED", random.randrange(10**9)))
        tally, said = Tally(), [f"seed {seed}"]
        session = Session(
            Path(self.mktemp()).absolute(),
            workers,
            random.Random(seed),
            Limits(load=(0.3, 0.8)),
            tally,
            said.append,
        )
        session.run(kinds)
        self.assertEqual([], tally.problems, "\n".join(said))
        self.assertEqual(len(kinds), sum(tally.killed.values()))
        # Each client at least once, on however slow a machine.
        self.assertGreaterEqual(tally.acknowledged, 8)
        self.assertGreaterEqual(tally.checked, 8)

    def test_alone(self) -> None:
        """One process does all."""
        self.survive(1, "everything", "disk")

    def test_workers(self) -> None:
        """Two processes serve associations."""
        self.survive(2, "worker", "postmaster", "server")

    def test_plan(self) -> None:
        """The long form has all kinds, each about as often."""
        sessions = plan(50, random.Random(1))
        killed = [kind for _, kinds in sessions for kind in kinds]
        self.assertEqual(50, len(killed))
        self.assertEqual({*ALONE, *TOGETHER}, set(killed))
        counts = [killed.count(kind) for kind in ALONE]
        self.assertLessEqual(max(counts) - min(counts), 2)
        self.assertNotIn("worker", [k for n, kinds in sessions for k in kinds if n < 2])


class LedgerTests(SynchronousTestCase):
    """What may be there, from what was sent and answered."""

    def setUp(self) -> None:
        self.ledger = Ledger()

    def sent(self, name: bytes, status: int | None = None) -> None:
        sent = self.ledger.begin("1.2", name)
        if status is not None:
            self.ledger.answered(sent, status)

    def assertPermitted(self, isOptional: bool, *names: bytes) -> None:
        verdict = self.ledger.verdict("1.2")
        self.assertEqual(
            (set(names), isOptional), (verdict.permitted, verdict.isOptional)
        )

    def test_nothingAcknowledged(self) -> None:
        """Anything that was sent, or nothing."""
        self.sent(b"a", 0xA700)
        self.sent(b"b")
        self.assertPermitted(True, b"a", b"b")

    def test_newest(self) -> None:
        """What was acknowledged last, and what came later without an answer."""
        self.sent(b"a", 0)
        self.sent(b"b", 0xA700)
        self.sent(b"c", 0)
        self.assertPermitted(False, b"c")
        self.sent(b"d")
        self.sent(b"e", 0xA700)
        self.assertPermitted(False, b"c", b"d", b"e")

    def test_unanswered(self) -> None:
        """It may take effect after what was sent later."""
        self.sent(b"a")
        self.sent(b"b", 0)
        self.assertPermitted(False, b"a", b"b")

    def test_atTheSameTime(self) -> None:
        """Whichever came last."""
        first = self.ledger.begin("1.2", b"a")
        second = self.ledger.begin("1.2", b"b")
        self.ledger.answered(second, 0)
        self.ledger.answered(first, 0)
        self.assertPermitted(False, b"a", b"b")

    def test_settled(self) -> None:
        """What has been found stays, though it had no answer."""
        self.sent(b"a", 0)
        self.sent(b"b")
        self.ledger.settle("1.2", b"b")
        self.assertPermitted(False, b"b")
        self.ledger.settle("1.2", None)
        self.assertEqual([], self.ledger.uids())


class InspectionTests(SynchronousTestCase):
    """Whatever is wrong is noticed."""

    server: RunningServer

    def setUp(self) -> None:
        self.server = RunningServer(Path(self.mktemp()).absolute())
        self.addCleanup(self.server.stop)
        self.server.start()
        self.ledger = Ledger()
        stock = Stock(random.Random(1), templates()[:1], 1)
        self.contents = [stock.new() for _ in range(3)]
        self.send(*self.contents)
        self.assertEqual([], self.problems())

    def send(self, *contents: Content) -> None:
        """Store, and have it in the ledger."""
        with Peer(self.server) as peer:
            kind = contents[0].template
            peer.associate([(kind.sopClass, [kind.transferSyntax])])
            for number, content in enumerate(contents, 1):
                data = content.data()
                sent = self.ledger.begin(content.instance, fingerprint(data))
                peer.send(store(1, number, kind.sopClass, content.instance, data))
                self.ledger.answered(sent, peer.response().status)
            peer.release()
        awaitSettled(self.server)

    def problems(self) -> list[str]:
        """The kinds of what is found."""
        found = Inspection(self.server, self.ledger, False).run().problems
        return sorted({problem.partition(":")[0] for problem in found})

    def fileOf(self, content: Content) -> Path:
        (path,) = (p for p in self.server.archived() if p.stem == content.instance)
        return path

    def execute(self, statement: str) -> None:
        execute(self.server.database, statement)

    def test_bytes(self) -> None:
        """One byte is another."""
        path = self.fileOf(self.contents[0])
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        self.assertEqual(
            [
                "a file that is not what its row says",
                "found, but not retrieved",
                "other bytes than were acknowledged",
            ],
            self.problems(),
        )

    def test_files(self) -> None:
        """One is gone, one too many is there."""
        path = self.fileOf(self.contents[0])
        path.rename(path.with_name("1.2.3.dcm"))
        self.assertEqual(
            [
                "a file without a row",
                "a row without a file",
                "acknowledged, and not there",
                "found, but not retrieved",
            ],
            self.problems(),
        )

    def test_rows(self) -> None:
        """One is gone, and what is counted of its series is wrong."""
        uid = self.contents[0].instance
        self.execute(f"DELETE FROM instances WHERE sop_instance_uid = '{uid}'")
        self.assertEqual(
            [
                "a file without a row",
                "a series with a wrong count or size",
                "acknowledged, and not there",
            ],
            self.problems(),
        )

    def test_older(self) -> None:
        """Not what was acknowledged last, but what was there before."""
        content = self.contents[0]
        sent = self.ledger.begin(content.instance, b"newer")
        self.ledger.answered(sent, 0)
        self.assertEqual(["other bytes than were acknowledged"], self.problems())

    def test_leftBehind(self) -> None:
        """A mark, something set aside, an instance that nobody has sent."""
        archive = self.server.folder / "data" / "archive"
        (archive / ".incoming" / "1-2.part").write_bytes(b"")
        (archive / ".damaged").mkdir()
        self.ledger.settle(self.contents[0].instance, None)
        self.assertEqual(
            [
                "left on its way",
                "nobody has sent it whole",
                "something was set aside as damaged",
            ],
            self.problems(),
        )
