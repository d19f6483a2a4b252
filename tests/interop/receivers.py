"""
Who receives what a server sends, and who asks it to: DCMTK's programs,
pynetdicom, and peers that write each byte themselves, to misbehave at will.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import field, frozen
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.files import makeCT
from tests.interop.running import (
    HOST,
    PATIENCE,
    Answer,
    RunningServer,
    dcmtk,
    freePort,
    sharedFolder,
)
from tests.interop.test_realfiles import NO_DELAY, dataSetOf
from tests.interop.wire import (
    ABORT,
    COMMAND,
    DATA,
    IMPLICIT,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    Peer,
    Response,
    commandSet,
    item,
    message,
    pdu,
    store,
)
from tests.services.datasets import encode

PATIENT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"

C_STORE, C_GET, C_MOVE = 0x0001, 0x0010, 0x0021

#: PS3.8 9.3.8: by the service user.
_ABORT = pdu(ABORT, bytes(4))

#: Options of a server that does not wait long for an answer.
IMPATIENT = "response_timeout = 2\nartim_timeout = 3"

_servers: dict[str, RunningServer] = {}


def configuredServer(options: str = "") -> RunningServer:
    """
    One server for all tests that want the same options, started when it is
    first asked for and stopped at the end.

    @param options: lines of the section C{[dicom]}.
    """
    if options not in _servers:
        folder = sharedFolder("configured")
        path = folder / "d360.toml"
        path.write_text(f"[dicom]\n{options}\n[database]\nconnections = 2\n")
        server = RunningServer(folder, f"--config={path}")
        atexit.register(server.stop)
        server.start()
        _connectAll(server)
        _servers[options] = server
    return _servers[options]


def _connectAll(server: RunningServer) -> None:
    """
    Have it open all of its connections to the database, so that what it opens
    later on is to be closed.
    """
    peers = [Requestor(server) for _ in range(8)]
    for peer in peers:
        peer.associate([(STUDY_MOVE, [IMPLICIT]), (STUDY_GET, [IMPLICIT])])
    for _ in range(2):
        for peer in peers:
            peer.ask(3, STUDY_GET, keys("STUDY", StudyInstanceUID="1.2"))
        for peer in peers:
            peer.toTheEnd()
    for peer in peers:
        with peer:
            peer.release()


# --- what a C-MOVE or C-GET is answered


@frozen
class Retrieved:
    """
    One response of a C-MOVE or C-GET; a count that is absent is C{None}.

    @ivar failedUIDs: Failed SOP Instance UID List.
    """

    status: int
    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None
    failedUIDs: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[int | None, ...]:
        """Remaining, completed, failed, warning."""
        return self.remaining, self.completed, self.failed, self.warning


_BLOCK = re.compile(r"C-(?:MOVE|GET) RSP(.*?)END DIMSE MESSAGE", re.S)


def readRetrieved(output: str) -> list[Retrieved]:
    """The responses in what C{movescu -d} or C{getscu -d} printed."""

    def count(name: str, text: str) -> int | None:
        found = re.search(rf"{name} Suboperations\s*: (\d+)", text)
        return int(found[1]) if found else None

    found = []
    for block in _BLOCK.findall(output):
        status = re.search(r"DIMSE Status\s*: 0x(\w+)", block)
        assert status is not None
        found.append(
            Retrieved(
                int(status[1], 16),
                *(
                    count(name, block.replace("Warning Suboperatations", "Warning"))
                    for name in ("Remaining", "Completed", "Failed", "Warning")
                ),
            )
        )
    return found


class Requestor(Peer):
    """A peer that asks for C-MOVE and C-GET."""

    def ask(
        self,
        contextID: int,
        sopClass: str,
        identifier: Dataset,
        destination: str = "",
        messageID: int = 7,
    ) -> None:
        """Send a C-MOVE-RQ, or without a destination a C-GET-RQ."""
        command: dict[int, int | str] = {
            2: sopClass,
            0x100: C_MOVE if destination else C_GET,
            0x110: messageID,
            0x700: 0,
            0x800: 1,
        }
        if destination:
            command[0x600] = destination + " " * (len(destination) % 2)
        self.send(message(contextID, commandSet(command), encode(identifier, IMPLICIT)))

    def retrieved(self) -> Retrieved:
        """The next response of a C-MOVE or C-GET."""
        response = self.response()
        uids: tuple[str, ...] = ()
        if response.data is not None:
            # (0008,0058) alone, in Implicit VR Little Endian.
            assert response.data[:4] == b"\x08\x00\x58\x00", response.data
            uids = tuple(response.data[8:].decode().rstrip("\0 ").split("\\"))
        return Retrieved(
            response.status,
            *(
                response.number(element) if element in response.command else None
                for element in (0x1020, 0x1021, 0x1022, 0x1023)
            ),
            uids,
        )

    def toTheEnd(self) -> list[Retrieved]:
        """All responses up to the final one."""
        found = [self.retrieved()]
        while found[-1].status == 0xFF00:
            found.append(self.retrieved())
        return found


def respond(
    peer: Requestor,
    asked: Response,
    status: int | None = 0,
    contextID: int = 3,
    messageID: int | None = None,
    dataset: int = 0x0101,
) -> None:
    """
    Answer a C-STORE-RQ, perhaps in a wrong way.

    @param dataset: Command Data Set Type.
    """
    command: dict[int, int | str] = {
        2: asked.text(2),
        0x100: C_STORE | 0x8000,
        0x120: asked.number(0x110) if messageID is None else messageID,
        0x800: dataset,
        0x1000: asked.text(0x1000),
    }
    if status is not None:
        command[0x900] = status
    peer.send(message(contextID, commandSet(command)))


def keys(level: str, **values: Any) -> Dataset:
    """An identifier."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


# --- receivers


class StoreSCP:
    """DCMTK's storescp, which keeps data sets bit by bit."""

    def __init__(self, case: SynchronousTestCase, *options: str) -> None:
        self.folder = Path(case.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.port = freePort()
        self.process = subprocess.Popen(
            [
                dcmtk("storescp"),
                *("-v", "+B", "-od", str(self.folder), *options, str(self.port)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=NO_DELAY,
            start_new_session=True,
        )
        case.addCleanup(self.stop)
        whenListening(self.port)

    def stop(self) -> None:
        """End it, and those that it has forked."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)

    def files(self) -> dict[str, Path]:
        """What it has received, by SOP Instance UID."""
        return received(self.folder)


def received(folder: Path) -> dict[str, Path]:
    """The files of a folder by SOP Instance UID."""
    return {
        str(dcmread(path, specific_tags=[]).file_meta.MediaStorageSOPInstanceUID): path
        for path in folder.iterdir()
    }


def whenListening(port: int) -> None:
    """Wait until somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody listens on {port}")
        time.sleep(0.05)


@frozen
class Stored:
    """A C-STORE that came; C{data} is empty where only its digest is kept."""

    association: int
    command: dict[int, bytes]
    transferSyntax: str
    data: bytes
    size: int
    digest: bytes

    def number(self, element: int) -> int:
        """An element of VR US."""
        return int(struct.unpack("<H", self.command[element])[0])

    def text(self, element: int) -> str:
        """An element of text or a UID."""
        return self.command[element].decode("ascii").rstrip("\0 ")

    @property
    def instance(self) -> str:
        """Affected SOP Instance UID."""
        return self.text(0x1000)


#: What a L{Receiver} does instead of an answer.
SAY_NOTHING, ABORT_IT, HANG_UP = -1, -2, -3


def acceptFirst(abstractSyntax: str, transferSyntaxes: Sequence[str]) -> str | None:
    """Whatever is proposed."""
    return transferSyntaxes[0]


@frozen
class Request:
    """
    An A-ASSOCIATE-RQ that came.

    @ivar proposals: context ID, abstract syntax and transfer syntaxes.
    """

    called: str
    calling: str
    proposals: tuple[tuple[int, str, tuple[str, ...]], ...] = field(factory=tuple)


def _items(data: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def readRequest(body: bytes) -> Request:
    proposals = []
    for kind, value in _items(body[68:]):
        if kind == 0x20:
            syntaxes = [(k, v.decode()) for k, v in _items(value[4:])]
            proposals.append(
                (
                    value[0],
                    *(v for k, v in syntaxes if k == 0x30),
                    tuple(v for k, v in syntaxes if k == 0x40),
                )
            )
    titles = body[4:36].decode("ascii")
    return Request(titles[:16].strip(), titles[16:].strip(), tuple(proposals))


def acceptance(
    request: Request,
    body: bytes,
    accept: Callable[[str, Sequence[str]], str | None] = acceptFirst,
    maximum: int = 0,
) -> tuple[dict[int, str], bytes]:
    """
    The answer to an A-ASSOCIATE-RQ, see L{Receiver}.

    @return: transfer syntaxes by context ID, and the A-ASSOCIATE-AC.
    """
    contexts, items = {}, b""
    for contextID, abstract, transfers in request.proposals:
        chosen = accept(abstract, transfers)
        if chosen is not None:
            contexts[contextID] = chosen
        items += item(
            0x21,
            bytes([contextID, 0, 0 if chosen else 4, 0])
            + item(0x40, (chosen or transfers[0]).encode()),
        )
    user = item(0x51, struct.pack(">I", maximum)) + item(0x52, b"1.2.3.4")
    context = item(0x10, b"1.2.840.10008.3.1.1.1")
    return contexts, pdu(2, body[:68] + context + items + item(0x50, user))


class Receiver:
    """
    A storage SCP on a thread for each connection, that does as it is told.

    @param accept: by abstract syntax and the transfer syntaxes proposed for
        it, the one it accepts; C{None} refuses the context.
    @param answer: what it answers to each C-STORE: a status, or one of
        L{SAY_NOTHING}, L{ABORT_IT}, L{HANG_UP}.
    @param maximum: the PDU length that it announces.
    @param keeps: whether it keeps data sets or their digest only.
    @param isMute: it does not even answer an A-ASSOCIATE-RQ.
    @ivar longest: the largest P-DATA-TF length that came.
    """

    def __init__(
        self,
        case: SynchronousTestCase,
        accept: Callable[[str, Sequence[str]], str | None] = acceptFirst,
        answer: Callable[[Stored], int] = lambda stored: 0,
        maximum: int = 0,
        keeps: bool = True,
        isMute: bool = False,
    ) -> None:
        self._accept = accept
        self._answer = answer
        self._maximum = maximum
        self._keeps = keeps
        self._isMute = isMute
        self.requests: list[Request] = []
        self.stored: list[Stored] = []
        self.ends: list[str] = []
        self.errors: list[Exception] = []
        self.longest = 0
        self._lock = threading.Lock()
        #: Set to have it read on; it waits for that before each C-STORE-RSP.
        self.goOn = threading.Event()
        self.goOn.set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        case.addCleanup(self._check)
        threading.Thread(target=self._listen, daemon=True).start()

    def _check(self) -> None:
        self.goOn.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for error in self.errors:
            raise error

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            threading.Thread(target=self._run, args=[connection], daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb", buffering=1 << 16)
        try:
            with connection, stream:
                self.ends.append(self._serve(connection, stream))
        except OSError as error:
            self.ends.append(f"lost: {error}")
        except Exception as error:
            self.errors.append(error)

    def _serve(self, connection: socket.socket, stream: Any) -> str:
        number = 0
        contexts: dict[int, str] = {}
        command: dict[int, bytes] = {}
        gathered, digest, size = bytearray(), sha256(), 0
        while True:
            head = stream.read(6)
            if len(head) < 6:
                return "closed"
            kind, length = struct.unpack(">BxI", head)
            body = stream.read(length)
            if len(body) < length:
                return "closed"
            if kind == 1:
                request = readRequest(body)
                with self._lock:
                    number = len(self.requests)
                    self.requests.append(request)
                if not self._isMute:
                    contexts, answer = acceptance(
                        request, body, self._accept, self._maximum
                    )
                    connection.sendall(answer)
            elif kind == RELEASE_RQ:
                connection.sendall(pdu(RELEASE_RP, bytes(4)))
                return "released"
            elif kind == ABORT:
                return "aborted"
            elif kind == DATA:
                self.longest = max(self.longest, length)
                at = 0
                while at < length:
                    step, contextID, control = struct.unpack_from(">IBB", body, at)
                    data = memoryview(body)[at + 6 : at + 4 + step]
                    at += 4 + step
                    if control & COMMAND:
                        gathered += data
                        if control & LAST:
                            command = _readCommand(bytes(gathered))
                            gathered, digest, size = bytearray(), sha256(), 0
                        continue
                    size += len(data)
                    digest.update(data)
                    if self._keeps:
                        gathered += data
                    if control & LAST:
                        stored = Stored(
                            number,
                            command,
                            contexts[contextID],
                            bytes(gathered),
                            size,
                            digest.digest(),
                        )
                        gathered = bytearray()
                        self.stored.append(stored)
                        end = self._respond(connection, contextID, stored)
                        if end:
                            return end

    def _respond(
        self, connection: socket.socket, contextID: int, stored: Stored
    ) -> str:
        self.goOn.wait(PATIENCE)
        status = self._answer(stored)
        if status == ABORT_IT:
            connection.sendall(_ABORT)
            return "it aborts"
        if status == HANG_UP:
            return "it hangs up"
        if status != SAY_NOTHING:
            connection.sendall(
                message(
                    contextID,
                    commandSet(
                        {
                            2: stored.text(2),
                            0x100: 0x8001,
                            0x120: stored.number(0x110),
                            0x800: 0x0101,
                            0x900: status,
                            0x1000: stored.instance,
                        }
                    ),
                )
            )
        return ""


def _readCommand(data: bytes) -> dict[int, bytes]:
    command, at = {}, 0
    while at < len(data):
        number, length = struct.unpack_from("<2xHI", data, at)
        command[number] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return command


# --- what tests have in common


class RetrieveCase(SynchronousTestCase):
    """
    Tests of C{server}. None of them leaves a traceback in its log.

    @cvar options: of the section C{[dicom]}.
    """

    options = "artim_timeout = 3"
    server: RunningServer

    def setUp(self) -> None:
        self.use(self.options)
        self.addCleanup(self.checkLog)

    def use(self, options: str) -> None:
        """
        Go on with a server of these options.

        @param options: C{IMPATIENT} for a test of who never answers: others may
            take some time for it, on a machine that is busy.
        """
        self.server = configuredServer(options)
        self.begin = self.server.log.stat().st_size

    def checkLog(self) -> None:
        """What went wrong was foreseen, and the server still answers."""
        self.assertNotIn("Traceback", self.logged())
        self.assertEqual(self.server.client("echoscu").status, 0)

    def logged(self) -> str:
        """What was logged since the test began."""
        return self.server.log.read_bytes()[self.begin :].decode(errors="replace")

    def register(self, title: str, port: int) -> None:
        """With C{d360ctl}, and no restart."""
        answer = self.server.ctl("ae", "add", title, HOST, str(port))
        self.assertEqual(answer.status, 0, answer.output)

    def makeStudy(self, count: int) -> tuple[str, dict[str, Path]]:
        """
        A new study of so many CT, stored.

        @return: Study Instance UID, and the files by SOP Instance UID.
        """
        paths = makeCT(Path(self.mktemp()).absolute(), count)
        self.store(*paths)
        files = {str(dcmread(path).SOPInstanceUID): path for path in paths}
        return str(dcmread(paths[0]).StudyInstanceUID), files

    def store(self, *paths: Path) -> None:
        """Their data sets, as they are."""
        files = [(path, read_file_meta_info(path)) for path in paths]
        contexts = sorted(
            {
                (str(m.MediaStorageSOPClassUID), str(m.TransferSyntaxUID))
                for _, m in files
            }
        )
        with Peer(self.server) as peer:
            peer.associate([(sopClass, [syntax]) for sopClass, syntax in contexts])
            for number, (path, meta) in enumerate(files):
                sopClass = str(meta.MediaStorageSOPClassUID)
                context = contexts.index((sopClass, str(meta.TransferSyntaxUID)))
                uid = str(meta.MediaStorageSOPInstanceUID)
                data = dataSetOf(path)
                peer.send(store(2 * context + 1, number + 1, sopClass, uid, data))
                self.assertEqual(peer.response().status, 0)
            peer.release()

    def client(self, name: str, model: str, *arguments: str, **run: Any) -> Answer:
        """C{movescu} or C{getscu}, verbose, with keys as they take them."""
        return self.server.client(name, "-d", model, *arguments, env=NO_DELAY, **run)

    def movescu(
        self,
        title: str,
        *keys: str,
        total: int,
        model: str = "-S",
        options: Sequence[str] = (),
        **run: Any,
    ) -> list[Retrieved]:
        """What movescu is answered; the counts are checked."""
        arguments = ["-aem", title, *options]
        for key in keys:
            arguments += ["-k", key]
        answer = self.client("movescu", model, *arguments, **run)
        responses = readRetrieved(answer.output)
        self.assertTrue(responses, answer.output)
        self.check(responses, total)
        return responses

    def move(
        self,
        title: str,
        identifier: Dataset,
        total: int,
        sopClass: str = STUDY_MOVE,
    ) -> list[Retrieved]:
        """What a C-MOVE is answered; the counts are checked."""
        with Requestor(self.server) as peer:
            peer.associate([(sopClass, [IMPLICIT])])
            peer.ask(1, sopClass, identifier, title)
            responses = peer.toTheEnd()
            peer.release()
        self.check(responses, total)
        return responses

    def check(self, responses: Sequence[Retrieved], total: int) -> None:
        """Counts always add up (PS3.4 C.4.2.1.6 and following)."""
        *pending, final = responses
        for response in responses:
            self.assertEqual(sum(n or 0 for n in response.counts), total, responses)
        self.assertEqual({r.status for r in pending} - {0xFF00}, set())
        self.assertNotEqual(final.status, 0xFF00)
        self.assertNotIn(None, [r.remaining for r in pending])
        left = [r.remaining for r in pending]
        self.assertEqual(left, sorted(left, reverse=True))  # type: ignore[type-var]
        if final.status != 0xFE00:
            self.assertIsNone(final.remaining)

    def assertExact(self, files: dict[str, Path], sent: dict[str, Path]) -> None:
        """All of them came, byte for byte."""
        self.assertEqual(sorted(files), sorted(sent))
        for uid, path in sent.items():
            self.assertEqual(dataSetOf(files[uid]), dataSetOf(path), path)

    def kept(self, uid: str) -> Path:
        """The file that the archive has of an instance."""
        (path,) = (
            path
            for path in self.server.archived()
            if path.name.partition("-")[0].removesuffix(".dcm") == uid
        )
        return path

    def openFiles(self) -> int:
        """How many file descriptors the server has, but for its own memory."""
        count = 0
        for process in self.server.processes():
            for name in Path(f"/proc/{process}/fd").iterdir():
                with suppress(FileNotFoundError):
                    count += "memfd" not in os.readlink(name)
        return count

    def assertNoneLeft(self, before: int) -> None:
        """All that was opened meanwhile gets closed."""
        deadline = time.monotonic() + PATIENCE
        while self.openFiles() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertLessEqual(self.openFiles(), before)

    def eventually(self, isTrue: Callable[[], object]) -> None:
        """Wait for something."""
        deadline = time.monotonic() + PATIENCE
        while not isTrue():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
