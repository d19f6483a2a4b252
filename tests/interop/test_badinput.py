"""
Peers that send what they should not, over plain sockets: each is answered as
the standard has it, and nobody else notices (PS3.8 9.3, PS3.7 9, PS3.4 B.2.3).
"""

from __future__ import annotations

import random
import struct
import time

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from twisted.trial.unittest import SynchronousTestCase

from tests.interop import wire
from tests.interop.running import PATIENCE, sharedServer
from tests.interop.wire import CT, ECHO, EXPLICIT, IMPLICIT, LAST, STUDY_FIND, Peer
from tests.services.datasets import encode, instance

PROPOSALS = [(CT, [EXPLICIT]), (ECHO, [IMPLICIT]), (STUDY_FIND, [EXPLICIT])]

#: Source of an A-ABORT (PS3.8 Table 9-26).
USER, PROVIDER = 0, 2
#: Its reason, from the provider.
UNRECOGNIZED_PDU, UNEXPECTED_PDU, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 1, 2, 5, 6


def fresh(**elements: object) -> Dataset:
    """An instance that the server has not seen."""
    study = generate_uid()
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study[:60]}.1"}
    return instance(**{**uids, "SOPInstanceUID": generate_uid(), **elements})


class BadInputTestCase(SynchronousTestCase):
    """Sees to it that nothing of what a test did is left behind."""

    def setUp(self) -> None:
        self.server = sharedServer()
        self.begin = self.server.log.stat().st_size
        self.stored = self.server.entered()
        self.files = len(list(self.server.archived()))

    def open(self) -> Peer:
        """An association, closed at the end."""
        peer = Peer(self.server)
        self.addCleanup(peer.socket.close)
        peer.associate(PROPOSALS)
        return peer

    def assertAborted(self, peer: Peer, source: int, reason: int) -> None:
        """The next PDU is an A-ABORT (PS3.8 9.3.8)."""
        kind, body = peer.receive()
        self.assertEqual((kind, body[2], body[3]), (wire.ABORT, source, reason))
        peer.socket.close()

    def assertUnharmed(self, stored: int = 0) -> None:
        """
        The next association is served, and nothing was stored other than so
        many instances.
        """
        self.assertEqual(self.server.client("echoscu").status, 0)
        self.assertTidy()
        self.assertEqual(self.server.entered(), self.stored + stored)
        self.assertEqual(len(list(self.server.archived())), self.files + stored)
        self.assertNotIn("Traceback", self.logged())

    def assertTidy(self) -> None:
        """Nothing is left of what was being received."""
        # Who writes files does one thing after the other: when he has kept one more,
        # he has begun with all that peers have sent before they went.
        for _ in range(self.server.workers):
            dataset = fresh()
            with Peer(self.server) as peer:
                peer.associate(PROPOSALS)
                uid = dataset.SOPInstanceUID
                peer.send(wire.store(1, 1, CT, uid, encode(dataset)))
                self.assertEqual(peer.response().status, 0)
                peer.release()
            self.stored += 1
            self.files += 1
        deadline = time.monotonic() + PATIENCE
        while self.server.incoming() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(self.server.incoming(), [])

    def logged(self) -> str:
        """Since the test began."""
        return self.server.log.read_bytes()[self.begin :].decode(errors="replace")

    def assertWarned(self, words: str) -> None:
        """One line at warn says what the peer did, and there is no other."""
        self.server.linesOf(words, self.begin, 1)
        levels = ("#warn]", "#error]", "#critical]")
        lines = [
            line
            for line in self.logged().splitlines()
            if any(level in line for level in levels)
        ]
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("#warn]", lines[0])
        self.assertIn(words, lines[0])

    def assertNotWarned(self) -> None:
        """No line at warn or above."""
        for level in ("#warn]", "#error]", "#critical]"):
            self.assertNotIn(level, self.logged())


class RandomTests(BadInputTestCase):
    """Noise and damage, seeded, so that what fails fails again."""

    def test_noise(self) -> None:
        """Random bytes before an association: at most an A-ABORT comes back."""
        source = random.Random(360)
        for _ in range(150):
            with Peer(self.server) as peer:
                data = source.randbytes(source.randrange(1, 400))
                if source.random() < 0.5:
                    data = bytes([source.randrange(1, 8)]) + data[1:]
                peer.send(data)
        self.assertUnharmed()

    def test_damagedRequests(self) -> None:
        """An A-ASSOCIATE-RQ with some bytes changed, cut off or doubled."""
        source = random.Random(361)
        whole = wire.request(PROPOSALS, user=wire.role(CT, 1, 1))
        answers = set()
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(source.randrange(1, 6)):
                data[source.randrange(len(data))] = source.randrange(256)
            # The length stays true, so that there is an answer.
            data[0:6] = whole[0:6]
            with Peer(self.server) as peer:
                peer.send(bytes(data))
                answers.add(peer.receive()[0])
        self.assertEqual(answers - {wire.ACCEPT, wire.REJECT, wire.ABORT}, set())
        self.assertUnharmed()

    def test_damagedMessages(self) -> None:
        """A C-STORE with damaged PDVs, command set or data set."""
        source = random.Random(362)
        for number in range(150):
            dataset = fresh()
            whole = bytearray(
                wire.store(1, number, CT, dataset.SOPInstanceUID, encode(dataset))
            )
            # Not the UIDs' bytes alone: anywhere before the pixels.
            for _ in range(source.randrange(1, 5)):
                whole[source.randrange(300)] = source.randrange(256)
            if source.random() < 0.3:
                del whole[source.randrange(1, len(whole)) :]
            with Peer(self.server) as peer:
                peer.associate(PROPOSALS)
                peer.send(bytes(whole))
                peer.socket.shutdown(1)
                while not peer.closed():
                    pass
        # What was only damaged in a value is stored, with file and row alike.
        self.assertTidy()
        self.assertUnharmed(self.server.entered() - self.stored)


class PDUTests(BadInputTestCase):
    """PDUs that break PS3.8: an A-ABORT, one line, and that is all."""

    def test_wrongContext(self) -> None:
        """Data for a presentation context that was not accepted."""
        peer = self.open()
        peer.send(wire.echo(99, 1))
        self.assertAborted(peer, PROVIDER, INVALID_PARAMETER)
        self.assertWarned("presentation context 99 was not accepted")
        self.assertUnharmed()

    def test_changedContext(self) -> None:
        """A data set in another context than its command."""
        peer = self.open()
        dataset = fresh()
        command = wire.store(1, 1, CT, dataset.SOPInstanceUID, b"")
        command = command[: -len(wire.pdv(1, LAST, b""))]
        peer.send(command + wire.pdv(5, LAST, encode(dataset)))
        self.assertAborted(peer, PROVIDER, INVALID_PARAMETER)
        self.assertWarned("presentation context changed in a message")
        self.assertUnharmed()

    def test_commandInDataSet(self) -> None:
        """A command set before the data set is at its end."""
        peer = self.open()
        dataset = fresh()
        whole = wire.store(1, 1, CT, dataset.SOPInstanceUID, b"")
        command = whole[: -len(wire.pdv(1, LAST, b""))]
        peer.send(command + wire.pdv(1, 0, encode(dataset)[:200]) + wire.echo(3, 2))
        self.assertAborted(peer, PROVIDER, UNEXPECTED_PARAMETER)
        self.assertWarned("command set inside a data set")
        self.assertUnharmed()

    def test_dataSetWithoutCommand(self) -> None:
        """A data set out of nowhere."""
        peer = self.open()
        peer.send(wire.pdv(1, LAST, encode(fresh())))
        self.assertAborted(peer, PROVIDER, UNEXPECTED_PARAMETER)
        self.assertWarned("data set without command")
        self.assertUnharmed()

    def test_dataSetOfEcho(self) -> None:
        """A data set behind a command set that announces none."""
        peer = self.open()
        peer.send(wire.echo(3, 1) + wire.pdv(3, LAST, b"\0\0"))
        self.assertEqual(peer.response().status, 0)
        self.assertAborted(peer, PROVIDER, UNEXPECTED_PARAMETER)
        self.assertWarned("data set without command")
        self.assertUnharmed()

    def test_hugePDU(self) -> None:
        """A PDU that says it has 4 GB."""
        for kind in (1, wire.DATA, wire.RELEASE_RQ):
            self.begin = self.server.log.stat().st_size
            peer = self.open()
            peer.send(struct.pack(">BxI", kind, 0xFFFFFFFF) + bytes(64))
            self.assertAborted(peer, PROVIDER, INVALID_PARAMETER)
            self.assertWarned("4294967295 bytes")
        with Peer(self.server) as peer:
            peer.send(struct.pack(">BxI", 1, 0xFFFFFFFF) + bytes(64))
            self.assertAborted(peer, USER, 0)
        self.assertUnharmed()

    def test_unknownPDU(self) -> None:
        """A PDU of no type."""
        peer = self.open()
        peer.send(wire.pdu(0x44, bytes(10)))
        self.assertAborted(peer, PROVIDER, UNRECOGNIZED_PDU)
        self.assertWarned("PDU type 44H")
        self.assertUnharmed()

    def test_unexpectedPDU(self) -> None:
        """A second A-ASSOCIATE-RQ, and data before the first."""
        peer = self.open()
        peer.send(wire.request(PROPOSALS))
        self.assertAborted(peer, PROVIDER, UNEXPECTED_PDU)
        self.server.linesOf("#warn]", self.begin, 1)
        self.assertUnharmed()
        with Peer(self.server) as early:
            early.send(wire.echo(3, 1))
            self.assertEqual(early.receive()[0], wire.ABORT)
        self.assertUnharmed()

    def test_manyContexts(self) -> None:
        """10 000 presentation contexts."""
        items = b"".join(
            wire.proposal(number % 128 * 2 + 1, CT, [EXPLICIT])
            for number in range(10000)
        )
        whole = wire.request([])
        body = whole[6:99] + items + whole[99:]
        with Peer(self.server) as peer:
            peer.send(wire.pdu(1, body))
            self.assertAborted(peer, USER, 0)
        self.assertWarned("presentation context 1 twice")
        self.assertUnharmed()

    def test_noCommandSet(self) -> None:
        """Noise where the command set should be."""
        for data in (b"\xff" * 64, b"", b"\0\0\0\1\xff\xff\xff\x7f", bytes(8)):
            self.begin = self.server.log.stat().st_size
            peer = self.open()
            peer.send(wire.message(3, data))
            self.assertAborted(peer, PROVIDER, INVALID_PARAMETER)
            self.assertWarned("command set")
        self.assertUnharmed()

    def test_endlessCommandSet(self) -> None:
        """One without an end is not collected for ever."""
        peer = self.open()
        piece = wire.pdv(3, wire.COMMAND, bytes(16000))
        try:
            for _ in range(1000):
                peer.send(piece)
        except OSError:
            pass  # It has closed the connection by now.
        self.server.linesOf("#warn]", self.begin, 1)
        self.assertUnharmed()

    def test_nobody(self) -> None:
        """Who connects and leaves, as a load balancer does, leaves no line."""
        for _ in range(20):
            Peer(self.server).socket.close()
        self.assertUnharmed()
        self.assertNotWarned()
        # Those of echoscu, and of who has stored something.
        count = 1 + self.server.workers
        ended = self.server.linesOf(" ended (", self.begin, count)
        self.assertEqual(len(ended), count)


class StoreTests(BadInputTestCase):
    """C-STOREs that cannot be kept (PS3.4 B.2.3, conformance 5.2.3)."""

    def refused(
        self, data: bytes, instanceUID: str, sopClass: str = CT
    ) -> tuple[int, str]:
        """Status and Error Comment; the association goes on."""
        peer = self.open()
        peer.send(wire.store(1, 1, sopClass, instanceUID, data))
        response = peer.response()
        peer.send(wire.echo(3, 2))
        self.assertEqual(peer.response().status, 0)
        peer.release()
        return response.status, response.text(0x902)

    def test_missingUIDs(self) -> None:
        """C000 without a Study, Series or SOP Instance UID."""
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            for value in (None, ""):
                dataset = fresh()
                uid = dataset.SOPInstanceUID
                if value is None:
                    del dataset[keyword]
                else:
                    setattr(dataset, keyword, value)
                status, comment = self.refused(encode(dataset), uid)
                self.assertEqual(status, 0xC000, keyword)
                self.assertIn(keyword, comment)
        self.assertUnharmed()

    def test_noUIDs(self) -> None:
        """What is no UID never becomes a path."""
        passwords = "../../etc/passwd"
        for bad in (passwords, "/etc/passwd", "1..2", "1.2/3", "1" * 65, "1.2\\1.3"):
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                dataset = fresh()
                uid = dataset.SOPInstanceUID
                # Written as it is: pydicom would refuse some of them.
                whole = encode(dataset)
                right = str(getattr(dataset, keyword)).encode()
                right += bytes(len(right) % 2)
                wrong = bad.encode() + bytes(len(bad) % 2)
                whole = whole.replace(
                    b"UI" + struct.pack("<H", len(right)) + right,
                    b"UI" + struct.pack("<H", len(wrong)) + wrong,
                )
                status, _ = self.refused(whole, uid)
                self.assertIn(status, (0xC000, 0xA900), (keyword, bad))
            status, _ = self.refused(encode(fresh()), bad)
            self.assertIn(status, (0xC000, 0xA900), bad)
        self.assertUnharmed()

    def test_differ(self) -> None:
        """A900: the command names another instance or class."""
        dataset = fresh()
        status, comment = self.refused(encode(dataset), "1.2.3.4")
        self.assertEqual(status, 0xA900)
        self.assertIn("SOP Instance UID", comment)
        dataset = fresh(SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
        status, comment = self.refused(encode(dataset), dataset.SOPInstanceUID)
        self.assertEqual(status, 0xA900)
        self.assertIn("SOP Class UID", comment)
        self.assertUnharmed()

    def test_otherContext(self) -> None:
        """0122: the command's SOP class is not that of the context."""
        dataset = fresh(SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
        status, _ = self.refused(
            encode(dataset), dataset.SOPInstanceUID, "1.2.840.10008.5.1.4.1.1.4"
        )
        self.assertEqual(status, 0x0122)
        self.assertUnharmed()

    def test_truncated(self) -> None:
        """C000: a data set that ends inside an element."""
        dataset = fresh()
        whole = encode(dataset)
        for end in (0, 5, 40, len(whole) // 4, len(whole) - 100):
            status, _ = self.refused(whole[:end], dataset.SOPInstanceUID)
            self.assertEqual(status, 0xC000, end)
        self.assertUnharmed()

    def test_vanishes(self) -> None:
        """A peer that goes away in the middle of an instance."""
        dataset = fresh(PixelData=bytes(500000))
        whole = wire.store(1, 1, CT, dataset.SOPInstanceUID, encode(dataset))
        for end in (100, 300, 20000, 250000, len(whole) - 1):
            peer = self.open()
            peer.send(whole[:end])
            # With a reset: the harshest way.
            linger = struct.pack("ii", 1, 0) if end % 2 == 0 else bytes(8)
            peer.socket.setsockopt(1, 13, linger)  # SOL_SOCKET, SO_LINGER
            peer.socket.close()
        self.server.linesOf("ended (PEER", self.begin, 5)
        self.assertUnharmed()

    def test_aborts(self) -> None:
        """A peer that aborts in the middle of an instance."""
        dataset = fresh(PixelData=bytes(500000))
        whole = wire.store(1, 1, CT, dataset.SOPInstanceUID, encode(dataset))
        at = len(whole) - len(wire.pdv(1, 0, bytes(16000))) * 20
        head = whole[:at]
        # To the end of a PDU, whatever the last one's length is.
        position = 0
        while position < at:
            position += 6 + struct.unpack_from(">xxI", whole, position)[0]
        head = whole[:position]
        peer = self.open()
        peer.send(head + wire.pdu(wire.ABORT, bytes(4)))
        self.server.linesOf("ended (PEER", self.begin, 1)
        peer.socket.close()
        self.assertNotWarned()
        self.assertUnharmed()

    def test_releases(self) -> None:
        """A release where the data set should be."""
        dataset = fresh()
        whole = wire.store(1, 1, CT, dataset.SOPInstanceUID, b"")
        peer = self.open()
        peer.send(whole[: -len(wire.pdv(1, LAST, b""))] + wire.RELEASE)
        self.assertEqual(peer.receive()[0], wire.RELEASE_RP)
        peer.socket.close()
        self.server.linesOf("ended (PEER", self.begin, 1)
        self.assertUnharmed()


class FindTests(BadInputTestCase):
    """Identifiers that are none."""

    def test_damaged(self) -> None:
        """C000 or A900; the association goes on."""
        peer = self.open()
        for number, data in enumerate((b"", b"\xff" * 50, b"\x08\0\x52\0CS\xff\xff12")):
            peer.send(wire.find(5, number + 1, STUDY_FIND, data))
            self.assertIn(peer.response().status, (0xC000, 0xA900), data)
        peer.release()
        self.assertUnharmed()

    def test_huge(self) -> None:
        """An identifier of megabytes is refused, and not kept."""
        peer = self.open()
        value = b"A" * 65000
        element = b"\x10\0\x20\0LO" + struct.pack("<H", len(value)) + value
        peer.send(wire.find(5, 1, STUDY_FIND, element * 60))
        self.assertEqual(peer.response().status, 0xC000)
        peer.release()
        self.assertUnharmed()

    def test_unknownOperation(self) -> None:
        """A request that the service class does not know: 0211."""
        peer = self.open()
        command = {2: CT, 0x100: 0x21, 0x110: 1, 0x700: 0, 0x800: 1}
        peer.send(wire.message(1, wire.commandSet(command), b"\0" * 10))
        self.assertEqual(peer.response().status, 0x0211)
        peer.release()
        self.assertUnharmed()


class OddButRightTests(BadInputTestCase):
    """What is unusual, and must be served."""

    def test_byteByByte(self) -> None:
        """A slow peer that sends one byte at a time."""
        dataset = fresh(PixelData=bytes(2))
        whole = wire.store(1, 1, CT, dataset.SOPInstanceUID, encode(dataset))
        with Peer(self.server) as peer:
            for byte in wire.request(PROPOSALS):
                peer.send(bytes([byte]))
            self.assertEqual(peer.receive()[0], wire.ACCEPT)
            for byte in whole:
                peer.send(bytes([byte]))
            self.assertEqual(peer.response().status, 0)
            peer.release()
        self.assertUnharmed(1)

    def test_oneSegment(self) -> None:
        """A whole association but for its beginning, in one write."""
        dataset = fresh()
        data = wire.echo(3, 1)
        data += wire.store(1, 2, CT, dataset.SOPInstanceUID, encode(dataset))
        data += wire.echo(3, 3)
        peer = self.open()
        peer.send(data)
        for number in (1, 2, 3):
            response = peer.response()
            self.assertEqual((response.messageID, response.status), (number, 0))
        peer.release()
        self.assertUnharmed(1)

    def test_severalPDVs(self) -> None:
        """A command set and its data set as PDVs of one PDU (PS3.8 9.3.5.1)."""
        dataset = fresh()
        uid = dataset.SOPInstanceUID
        command = wire.commandSet(
            {2: CT, 0x100: 1, 0x110: 9, 0x700: 0, 0x800: 1, 0x1000: uid}
        )
        data = encode(dataset)
        parts = [(3, command), (0, data[:100]), (0, b""), (2, data[100:])]
        peer = self.open()
        peer.send(wire.pdu(4, b"".join(wire.pdv(1, c, d)[6:] for c, d in parts)))
        self.assertEqual(peer.response().status, 0)
        peer.release()
        self.assertUnharmed(1)

    def test_asynchronous(self) -> None:
        """Requests that do not wait for responses are served in their order."""
        datasets = [fresh() for _ in range(20)]
        peer = self.open()
        peer.send(
            b"".join(
                wire.store(1, number, CT, dataset.SOPInstanceUID, encode(dataset))
                for number, dataset in enumerate(datasets, 1)
            )
        )
        responses = [peer.response() for _ in datasets]
        self.assertEqual([r.messageID for r in responses], list(range(1, 21)))
        self.assertEqual({r.status for r in responses}, {0})
        self.assertEqual(
            [r.text(0x1000) for r in responses], [d.SOPInstanceUID for d in datasets]
        )
        peer.release()
        self.assertUnharmed(20)
