"""Instances that are large, and servers that are stopped meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import threading
import time
from hashlib import sha256
from pathlib import Path

from pydicom import dcmread
from pydicom.tag import Tag

from tests.interop.files import makeCT
from tests.interop.receivers import (
    C_STORE,
    IMPATIENT,
    STUDY_GET,
    STUDY_MOVE,
    Receiver,
    Requestor,
    RetrieveCase,
    Stored,
    StoreSCP,
    acceptance,
    keys,
    readRequest,
    readRetrieved,
    respond,
)
from tests.interop.running import HOST, PATIENCE, RunningServer
from tests.interop.test_realfiles import NO_DELAY
from tests.interop.wire import (
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    Peer,
    cancel,
    echo,
    request,
    role,
)

MIB = 1 << 20

SIZE = 200 * MIB


def makeLarge(folder: Path, size: int = SIZE) -> tuple[str, Path]:
    """
    One CT of that many bytes.

    @return: Study Instance UID and the file.
    """
    (path,) = makeCT(folder, 1)
    dataset = dcmread(path)
    for tag in (Tag(0x7FE00010), Tag(0xFFFCFFFC)):
        if tag in dataset:
            del dataset[tag]
    dataset.save_as(path)
    piece = bytes(range(256)) * 4096
    with open(path, "ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little"))
        for number in range(size // len(piece)):
            file.write(number.to_bytes(4, "little") + piece[4:])
    return str(dataset.StudyInstanceUID), path


def digestOf(path: Path) -> bytes:
    """The SHA-256 of a Part 10 file's data set."""
    digest = sha256()
    with open(path, "rb") as file:
        head = file.read(144)
        file.seek(144 + int.from_bytes(head[140:144], "little"))
        while data := file.read(MIB):
            digest.update(data)
    return digest.digest()


class EchoWatch:
    """C-ECHO over an association of its own, all the time."""

    def __init__(self, server: RunningServer) -> None:
        self.seconds: list[float] = []
        self._done = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> EchoWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        with Peer(self._server) as peer:
            peer.associate([(ECHO, [IMPLICIT])])
            number = 0
            while not self._done.wait(0.005):
                number += 1
                begin = time.monotonic()
                peer.send(echo(1, number))
                peer.response()
                self.seconds.append(time.monotonic() - begin)
            peer.release()


class LargeTests(RetrieveCase):
    """200 MB pass through in constant memory, and nobody else waits."""

    study = ""
    digest = b""

    def setUp(self) -> None:
        super().setUp()
        if not LargeTests.study:
            folder = Path(self.mktemp()).absolute()
            study, path = makeLarge(folder)
            command = self.server.clientCommand("storescu", str(path))
            subprocess.run(command, check=True, capture_output=True, env=NO_DELAY)
            path.unlink()
            (kept,) = (p for p in self.server.archived() if study in str(p))
            LargeTests.study, LargeTests.digest = study, digestOf(kept)

    def memory(self, what: str) -> int:
        """Bytes, by a line of C{/proc/PID/status}."""
        kibibytes = 0
        for process in self.server.processes():
            status = Path(f"/proc/{process}/status").read_text()
            (line,) = (s for s in status.splitlines() if s.startswith(f"{what}:"))
            kibibytes += int(line.split()[1])
        return kibibytes * 1024

    def forget(self) -> int:
        """Forget the peak of memory in use; what is in use now."""
        for process in self.server.processes():
            Path(f"/proc/{process}/clear_refs").write_text("5")
        return self.memory("VmRSS")

    def assertModest(self, before: int, watch: EchoWatch) -> None:
        """Neither much memory nor much time of others was taken."""
        self.assertLess(self.memory("VmHWM") - before, 64 * MIB)
        self.assertGreater(len(watch.seconds), 3)
        self.assertLess(statistics.median(watch.seconds), 1)

    def test_move(self) -> None:
        receiver = StoreSCP(self)
        self.register("LARGE", receiver.port)
        before = self.forget()
        with EchoWatch(self.server) as watch:
            (*_, final) = self.move(
                "LARGE", keys("STUDY", StudyInstanceUID=self.study), 1
            )
        self.assertEqual((final.status, final.completed), (0, 1))
        self.assertModest(before, watch)
        (path,) = receiver.files().values()
        self.assertEqual(digestOf(path), self.digest)

    def test_get(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        before = self.forget()
        with EchoWatch(self.server) as watch:
            answer = self.client(
                "getscu",
                "-S",
                *("-od", str(folder), "+B", "--max-pdu", "131072"),
                *("-k", "QueryRetrieveLevel=STUDY"),
                *("-k", f"StudyInstanceUID={self.study}"),
            )
        (*_, final) = readRetrieved(answer.output)
        self.assertEqual((final.status, final.completed), (0, 1))
        self.assertModest(before, watch)
        (path,) = folder.iterdir()
        self.assertEqual(digestOf(path), self.digest)

    def test_slowReader(self) -> None:
        """
        Requestors that do not read hold up nothing but themselves, and take
        what was opened with them when they go.
        """
        files, before = self.openFiles(), self.forget()
        peers = [Requestor(self.server, isNarrow=True) for _ in range(5)]
        with EchoWatch(self.server) as watch:
            for peer in peers:
                peer.send(
                    request(
                        [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT])],
                        user=role(CT, 1, 1),
                    )
                )
                peer.receive()
                identifier = keys("STUDY", StudyInstanceUID=self.study)
                peer.ask(1, STUDY_GET, identifier)
            time.sleep(0.7)
            self.eventually(lambda: len(watch.seconds) > 3)
            for number, peer in enumerate(peers):
                if number % 2:
                    peer.send(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
                peer.socket.close()
        self.assertModest(before, watch)
        self.assertNoneLeft(files)

    def test_silentReader(self) -> None:
        """A destination that reads no more is given up after a while."""
        self.use(IMPATIENT)
        study, path = makeLarge(Path(self.mktemp()).absolute(), 20 * MIB)
        self.store(path)
        listener = socket.create_server((HOST, 0))
        self.addCleanup(listener.close)
        files = self.openFiles()
        done = threading.Event()
        self.addCleanup(done.set)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                body = connection.recv(65536)[6:]
                _, answer = acceptance(readRequest(body), body)
                connection.sendall(answer)
                done.wait(PATIENCE)

        threading.Thread(target=serve, daemon=True).start()
        self.register("SILENT", listener.getsockname()[1])
        (*_, final) = self.move("SILENT", keys("STUDY", StudyInstanceUID=study), 1)
        self.assertEqual((final.status, final.failed), (0xA702, 1))
        self.assertNoneLeft(files)
        done.set()

    def test_cancelled(self) -> None:
        """A C-CANCEL in the middle of it: it is sent to its end."""
        receiver = Receiver(self, keeps=False)
        self.register("LARGE", receiver.port)
        with Requestor(self.server) as peer:
            peer.associate([(STUDY_MOVE, [IMPLICIT])])
            identifier = keys("STUDY", StudyInstanceUID=self.study)
            peer.ask(1, STUDY_MOVE, identifier, "LARGE")
            self.eventually(lambda: receiver.longest > 0)
            peer.send(cancel(1, 7))
            responses = peer.toTheEnd()
            peer.release()
        self.assertEqual(responses[-1].counts, (None, 1, 0, 0))
        self.assertEqual(responses[-1].status, 0)
        self.eventually(lambda: receiver.ends == ["released"])
        self.assertEqual(receiver.stored[0].digest, self.digest)


class StopTests(RetrieveCase):
    """SIGTERM while a C-MOVE is under way."""

    def setUp(self) -> None:
        self.begin = 0

    def start(self, seconds: int) -> None:
        """
        @param seconds: C{shutdown_timeout}.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        path = folder / "d360.toml"
        path.write_text(f"[dicom]\nshutdown_timeout = {seconds}\n")
        self.server = RunningServer(folder, f"--config={path}")
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_inTime(self) -> None:
        """It is carried to its end."""
        self.start(PATIENCE)
        study, _ = self.makeStudy(20)

        def answer(stored: Stored) -> int:
            time.sleep(0.05)
            return 0

        receiver = Receiver(self, answer=answer)
        self.register("STOPPING", receiver.port)
        with Requestor(self.server) as peer:
            peer.associate([(STUDY_MOVE, [IMPLICIT])])
            identifier = keys("STUDY", StudyInstanceUID=study)
            peer.ask(1, STUDY_MOVE, identifier, "STOPPING")
            peer.retrieved()
            assert self.server.process is not None
            self.server.process.send_signal(signal.SIGTERM)
            responses = peer.toTheEnd()
        self.assertEqual(responses[-1].counts, (None, 20, 0, 0))
        self.assertEqual(self.server.stop(0), 0)
        self.assertEqual(receiver.ends, ["released"])
        self.assertNotIn("Traceback", self.server.logged())

    def test_tooLong(self) -> None:
        """C{shutdown_timeout} ends it."""
        self.start(3)
        study, _ = self.makeStudy(5)
        receiver = Receiver(self)
        receiver.goOn.clear()
        self.register("STOPPING", receiver.port)
        with Requestor(self.server) as peer:
            peer.associate([(STUDY_MOVE, [IMPLICIT])])
            identifier = keys("STUDY", StudyInstanceUID=study)
            peer.ask(1, STUDY_MOVE, identifier, "STOPPING")
            self.eventually(lambda: len(receiver.stored) == 1)
            begin = time.monotonic()
            self.assertEqual(self.server.stop(), 0)
            # Which is how long it would be if nothing were configured.
            self.assertLess(time.monotonic() - begin, 30)
        receiver.goOn.set()
        self.assertNotIn("Traceback", self.server.logged())


class TruncatedTests(RetrieveCase):
    """A large file that is cut off after it was found to be right."""

    def study(self) -> tuple[str, list[str]]:
        """Three instances, the second of 20 MB; their UIDs in their order."""
        folder = Path(self.mktemp()).absolute()
        study, large = makeLarge(folder, 20 * MIB)
        dataset = dcmread(large, stop_before_pixels=True)
        paths, uids = [], []
        for number, path in enumerate(makeCT(folder / "small", 3)):
            if number == 1:
                uids.append(str(dataset.SOPInstanceUID))
                paths.append(large)
                continue
            one = dcmread(path)
            one.StudyInstanceUID = study
            one.SeriesInstanceUID = dataset.SeriesInstanceUID
            one.InstanceNumber = number
            one.save_as(path)
            uids.append(str(one.SOPInstanceUID))
            paths.append(path)
        self.store(*paths)
        return study, uids

    def truncate(self, kept: Path, left: int) -> None:
        """Cut it off when the server has opened it, as it does ahead of time."""
        self.eventually(lambda: self.hasOpen(kept))
        # It looks at what is in there, before it sends any of it.
        time.sleep(0.5)
        os.truncate(kept, left)

    def hasOpen(self, path: Path) -> bool:
        """Whether the server has it open."""
        for process in self.server.processes():
            for name in Path(f"/proc/{process}/fd").iterdir():
                try:
                    if os.readlink(name) == str(path):
                        return True
                except OSError:
                    # It was closed meanwhile.
                    continue
        return False

    def test_move(self) -> None:
        """It fails alone, whether a part of it was sent already or not."""
        for left in (5 * MIB, 0):
            study, uids = self.study()
            kept = self.kept(uids[1])

            def answer(stored: Stored) -> int:
                if stored.instance == uids[0]:  # noqa: B023
                    self.truncate(kept, left)  # noqa: B023
                return 0

            receiver = Receiver(self, answer=answer)
            self.register("TRUNCATED", receiver.port)
            before = self.openFiles()
            (*_, final) = self.move(
                "TRUNCATED", keys("STUDY", StudyInstanceUID=study), 3
            )
            self.assertEqual((final.status, final.counts), (0xB000, (None, 2, 1, 0)))
            self.assertEqual(final.failedUIDs, (uids[1],))
            self.assertEqual([s.instance for s in receiver.stored], [uids[0], uids[2]])
            self.assertNoneLeft(before)
            self.assertIn("released", receiver.ends)

    def test_get(self) -> None:
        """
        The requestor's association cannot go on behind a half of a message; it
        can where nothing was sent.
        """
        for left in (5 * MIB, 0):
            study, uids = self.study()
            kept = self.kept(uids[1])
            before = self.openFiles()
            with Requestor(self.server) as peer:
                peer.send(
                    request(
                        [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT])],
                        user=role(CT, 1, 1),
                    )
                )
                peer.receive()
                peer.ask(1, STUDY_GET, keys("STUDY", StudyInstanceUID=study))
                first = peer.response()
                self.truncate(kept, left)
                respond(peer, first)
                if left:
                    with self.assertRaises(RuntimeError) as caught:
                        peer.toTheEnd()
                    self.assertIn("PDU of type 7", str(caught.exception))
                    continue
                third = peer.response()
                while third.number(0x100) != C_STORE:
                    third = peer.response()
                self.assertEqual(third.text(0x1000), uids[2])
                respond(peer, third)
                final = peer.toTheEnd()[-1]
                self.assertEqual(final.counts, (None, 2, 1, 0))
                self.assertEqual(final.failedUIDs, (uids[1],))
                peer.release()
            self.assertNoneLeft(before)
