"""
Ends in order, whenever they are asked for: under load, with an operation that does
not end, while the server starts or recovers, twice.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from d360.archive.incoming import LOCK
from d360.errors import StartupError
from tests.contracts.postgres import execute
from tests.faults.inspection import Inspection
from tests.faults.ledger import Ledger
from tests.faults.material import Stock, fingerprint, templates
from tests.faults.processes import Process, allOf, leftOf, running
from tests.faults.senders import Sender, Shared
from tests.interop.running import PATIENCE, RunningServer, twistdCommand
from tests.interop.wire import ABORT, ECHO, IMPLICIT, Peer, store

#: Seconds that operations have, where a test waits for their end; and where one is
#: to come to its own end, on however slow a machine.
_SHUTDOWN, _ENOUGH = 2, 120


class StopCase(SynchronousTestCase):
    """A server that is to be stopped, and started again."""

    workers = 1

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.configuration = self.folder / "d360.toml"
        self.allow(_SHUTDOWN)
        self.server = RunningServer(
            self.folder, f"--config={self.configuration}", workers=self.workers
        )
        self.addCleanup(self.server.stop, signal.SIGKILL)
        self.ledger = Ledger()
        self.kinds = templates()
        self.stock = Stock(random.Random(), self.kinds, 2)

    def allow(self, seconds: int) -> None:
        """Let operations have so long, of the next start on."""
        self.configuration.write_text(f"[dicom]\nshutdown_timeout = {seconds}\n")

    def stop(self, *signals: int, status: int = 0) -> float:
        """
        Stop it; nothing is left of it, and nothing in its log is a mistake.

        @param signals: one a tenth of a second after the other.
        @return: the seconds that it took.
        """
        everyone = allOf(self.server)
        began = time.monotonic()
        process = self.server.process
        assert process is not None
        for number in signals[:-1]:
            process.send_signal(number)
            time.sleep(0.1)
        self.assertEqual(status, self.server.stop(signals[-1]))
        seconds = time.monotonic() - began
        self.assertNoneLeft(everyone)
        for word in ("Traceback", "Unhandled"):
            self.assertNotIn(word, self.server.logged())
        return seconds

    def assertNoneLeft(self, processes: list[Process]) -> None:
        # And those that were started after these had been looked for.
        others = [one for one in running() if str(self.folder) in one.command]
        left = leftOf([*processes, *others], PATIENCE)
        self.assertEqual([], [one.command for one in left])

    def assertKept(self) -> None:
        """All that was acknowledged is there after the next start."""
        self.server.start()
        self.assertEqual([], Inspection(self.server, self.ledger, True).run().problems)
        self.stop(signal.SIGTERM)

    def storing(self) -> tuple[Peer, bytes, str]:
        """A peer, the C-STORE that it is about to send, and of which instance."""
        content = Stock(random.Random(1), self.kinds[:1], 1).new()
        data = content.data()
        kind = content.template
        peer = Peer(self.server)
        self.addCleanup(peer.socket.close)
        peer.associate([(kind.sopClass, [kind.transferSyntax]), (ECHO, [IMPLICIT])])
        message = store(1, 1, kind.sopClass, content.instance, data)
        self.fingerprint = fingerprint(data)
        return peer, message, content.instance

    def begun(self) -> tuple[Peer, bytes]:
        """A peer that has sent a part of an instance, and the rest; it is coming."""
        peer, message, self.instance = self.storing()
        peer.send(message[:20_000])
        self.eventually(self.server.incoming)
        return peer, message[20_000:]

    def whenLogged(self, pattern: str) -> None:
        self.server.waitFor(re.compile(pattern))

    def eventually(self, isSo: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not isSo():
            self.assertLess(time.monotonic(), deadline, self.server.logged()[-2000:])
            time.sleep(0.05)

    def load(self) -> list[Sender]:
        """Eight clients, which go on until they are stopped."""
        shared = Shared(self.stock, 4)
        senders = [
            Sender(
                self.server,
                self.ledger,
                self.kinds,
                Stock(random.Random(), self.kinds, 2),
                shared,
                random.Random(),
            )
            for _ in range(8)
        ]
        for sender in senders:
            sender.start()
        return senders


class LoadTests(StopCase):
    """While clients store."""

    def test_underLoad(self) -> None:
        """What was answered with 0000 is kept, and nothing else is answered."""
        self.server.start()
        senders = self.load()
        self.eventually(lambda: self.ledger.acknowledged > 50)
        for sender in senders:
            # Nobody begins anew, since nobody would listen.
            sender.halt.set()
        self.stop(signal.SIGTERM)
        for sender in senders:
            sender.join(PATIENCE)
            self.assertEqual((False, []), (sender.is_alive(), sender.problems))
        self.assertEqual({}, self.ledger.refused)
        self.assertKept()

    def test_endsInTime(self) -> None:
        """
        An instance that is half there when the signal comes is taken to its end
        and answered; then the association ends, and there is no other.
        """
        self.allow(_ENOUGH)
        self.server.start()
        idle = Peer(self.server)
        self.addCleanup(idle.socket.close)
        idle.associate([(ECHO, [IMPLICIT])])
        peer, rest = self.begun()
        stopping = self.server.process
        assert stopping is not None
        stopping.send_signal(signal.SIGTERM)
        self.assertEqual(ABORT, idle.receive()[0])
        with self.assertRaises(OSError), closing(socket.socket()) as other:
            other.connect(("127.0.0.1", self.server.port))
        sent = self.ledger.begin(self.instance, self.fingerprint)
        peer.send(rest)
        self.ledger.answered(sent, peer.response().status)
        self.assertEqual(1, self.ledger.acknowledged)
        self.assertEqual(ABORT, peer.receive()[0])
        self.assertEqual(0, stopping.wait(PATIENCE))
        self.assertKept()

    def test_doesNotEnd(self) -> None:
        """One that does not end is aborted in time, and nothing of it is kept."""
        self.server.start()
        peer, _ = self.begun()
        seconds = self.stop(signal.SIGTERM)
        self.assertGreater(seconds, _SHUTDOWN - 0.5)
        # Which is how long it would be if nothing were configured.
        self.assertLess(seconds, 30)
        self.assertEqual(ABORT, peer.receive()[0])
        self.assertKept()


class WorkersLoadTests(LoadTests):
    """Likewise where two workers serve associations."""

    workers = 2


class SignalTests(StopCase):
    """Whatever it is told."""

    def test_twice(self) -> None:
        """Whoever is impatient changes nothing."""
        self.server.start()
        self.begun()
        self.stop(signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
        self.assertKept()

    def test_interrupted(self) -> None:
        """SIGINT, as of Ctrl-C, is as good."""
        self.server.start()
        senders = self.load()
        self.eventually(lambda: self.ledger.acknowledged > 20)
        for sender in senders:
            sender.halt.set()
        self.stop(signal.SIGINT)
        self.assertKept()


class StartTests(StopCase):
    """Before it is ready."""

    def lockDatabase(self) -> None:
        """Launch it, with a file to recover and a database in which no turn comes."""
        self.server.start()
        url = self.server.database
        ((self.turn,),) = execute(
            url, "SELECT pg_get_functiondef('take_turn'::regproc)"
        )
        execute(
            url,
            "CREATE OR REPLACE FUNCTION take_turn() RETURNS void LANGUAGE sql"
            " AS 'SELECT pg_sleep(600)'",
        )
        self.server.stop()
        incoming = self.folder / "data" / "archive" / ".incoming"
        place = self.folder / "data" / "archive" / "00" / "1.2" / "1.3" / "1.4.dcm"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"nobody was told of it")
        os.link(place, incoming / "00~1.2~1.3~1.4.dcm@4@abcdef01-2")
        self.begin = self.server.launch()
        self.eventually(self.isWaiting)

    def isWaiting(self) -> bool:
        """It wants the turn: to know what the index has of the file."""
        sleeping = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        try:
            return bool(execute(self.server.database, sleeping))
        except (StartupError, OSError, IndexError):
            # It does not run yet.
            return False

    def assertRecovering(self) -> None:
        """It waits for its turn, and is not ready; later turns come again."""
        self.assertTrue(self.isWaiting())
        self.assertNotIn("is ready", self.server.logged()[self.begin :])
        execute(self.server.database, str(self.turn))

    def test_recovering(self) -> None:
        """It stops, and what it had not looked at is left to the next start."""
        self.lockDatabase()
        self.assertRecovering()
        self.stop(signal.SIGTERM)
        self.assertEqual(1, len(self.server.incoming()))
        self.assertKept()
        self.assertEqual([], self.server.incoming())

    def test_another(self) -> None:
        """Another server on its data directory ends, and it is not disturbed."""
        self.lockDatabase()
        done = subprocess.run(
            twistdCommand(
                "--port=0", "--web-port=0", f"--data-directory={self.folder / 'data'}"
            ),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(1, done.returncode)
        self.assertIn("another D360 uses the data directory", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertRecovering()

    def test_awaitingDisk(self) -> None:
        """While it waits for the process that writes files for one before it."""
        self.server.start()
        self.server.stop()
        path = self.folder / "data" / "archive" / ".incoming" / LOCK
        lock = os.open(path, os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in (signal.SIGTERM, signal.SIGINT):
            begin = self.server.launch()
            self.server.waitFor(re.compile("_Site starting"), begin)
            time.sleep(0.3)
            self.stop(number)
        begin = self.server.launch()
        self.server.waitFor(re.compile("_Site starting"), begin)
        os.close(lock)
        self.server.waitFor(re.compile("is ready"), begin)
        self.stop(signal.SIGTERM)

    def test_anyMoment(self) -> None:
        """While it starts for the first time, and later: it ends, and starts again."""
        rng = random.Random()
        for number in (signal.SIGTERM, signal.SIGINT) * 3:
            begin = self.server.launch()
            self.server.waitFor(re.compile("_Site starting"), begin)
            time.sleep(rng.uniform(0, 2.0))
            self.stop(number)
        self.assertKept()


class WorkersStartTests(StopCase):
    """Before the workers are ready."""

    workers = 2

    def test_startingWorkers(self) -> None:
        """When they have been started and are not ready."""
        self.server.launch()
        self.eventually(
            lambda: any("d360.worker" in one.command for one in allOf(self.server))
        )
        self.stop(signal.SIGTERM)
        self.assertKept()
