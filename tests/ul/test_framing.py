import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import PDUError
from d360.model import Fragment
from d360.ul.framing import DataPDU, Framing, WholePDU, dataHeader, maxPDVData
from tests.ul.association import COMMAND, RELEASE_RQ, REQUEST, pieces


def pull(framing):
    taken = []
    while (piece := framing.next()) is not None:
        taken.append(piece)
    return taken


def joined(taken):
    """Fragments of one PDV put together, so that reads do not matter."""
    result = []
    running = b""
    for piece in taken:
        if isinstance(piece, Fragment):
            running += bytes(piece.data)
            if piece.isLast:
                result.append((piece.contextID, piece.isCommand, running))
                running = b""
        elif isinstance(piece, WholePDU):
            result.append(piece)
    return result


class ReceivingTests(SynchronousTestCase):
    """PS3.8 9.3: PDUs are found wherever the reads were cut."""

    stream = REQUEST + COMMAND + COMMAND + RELEASE_RQ

    def test_inPieces(self):
        """In reads of 1, of 7 and of all bytes, the same comes out."""
        expected = [
            WholePDU(1, REQUEST[6:]),
            (1, True, b"\xde\xad\xbe\xef"),
            (1, True, b"\xde\xad\xbe\xef"),
            WholePDU(5, bytes(4)),
        ]
        for size in (1, 7, len(self.stream)):
            framing = Framing()
            taken = []
            for piece in pieces(self.stream, size):
                framing.feed(piece)
                taken += pull(framing)
            self.assertEqual(joined(taken), expected)

    def test_allFedBeforePulling(self):
        """What is not pulled waits."""
        framing = Framing()
        for piece in pieces(self.stream, 3):
            framing.feed(piece)
        self.assertEqual(len(joined(pull(framing))), 4)

    def test_severalPDVs(self):
        """One P-DATA-TF may hold several PDVs (PS3.8 9.3.5)."""
        framing = Framing()
        framing.feed(
            bytes.fromhex("040000000010 00000004 01 03 AAAA 00000004 03 00 BBBB")
        )
        self.assertEqual(
            pull(framing),
            [
                DataPDU(16),
                Fragment(1, True, True, memoryview(b"\xaa\xaa")),
                Fragment(3, False, False, memoryview(b"\xbb\xbb")),
            ],
        )

    def test_lastOnlyAtTheEnd(self):
        """A PDV over two reads is handed on in two, the second is the last."""
        framing = Framing()
        framing.feed(COMMAND[:14])
        first = pull(framing)
        framing.feed(COMMAND[14:])
        second = pull(framing)
        self.assertEqual(
            first, [DataPDU(10), Fragment(1, True, False, memoryview(b"\xde\xad"))]
        )
        self.assertEqual(second, [Fragment(1, True, True, memoryview(b"\xbe\xef"))])

    def test_notCopied(self):
        """Fragments refer to the buffer that was read."""
        framing = Framing()
        framing.feed(COMMAND)
        self.assertIs(pull(framing)[1].data.obj, COMMAND)

    def test_emptyPDV(self):
        """A PDV without data may end a data set."""
        framing = Framing()
        framing.feed(bytes.fromhex("040000000006 00000002 05 02"))
        self.assertEqual(pull(framing)[1], Fragment(5, False, True, memoryview(b"")))

    def test_refused(self):
        """Lengths and types that PS3.8 9.3 does not allow, at once."""
        for header, reason in (
            ("08 00 00000004", PDUError.UNRECOGNIZED_PDU),
            ("00 00 00000004", PDUError.UNRECOGNIZED_PDU),
            ("04 00 FFFFFFFF", PDUError.INVALID_PARAMETER),
            ("04 00 0000FFFF", PDUError.INVALID_PARAMETER),
            ("04 00 00000000", PDUError.INVALID_PARAMETER),
            ("04 00 00000005", PDUError.INVALID_PARAMETER),
            ("01 00 FFFFFFFF", PDUError.INVALID_PARAMETER),
            ("01 00 00000043", PDUError.INVALID_PARAMETER),
            ("02 00 00100001", PDUError.INVALID_PARAMETER),
            ("03 00 00000005", PDUError.INVALID_PARAMETER),
            ("05 00 00000000", PDUError.INVALID_PARAMETER),
            ("07 00 00000003", PDUError.INVALID_PARAMETER),
            ("04 00 00000008 00000001 01 03", PDUError.INVALID_PARAMETER),
            ("04 00 00000008 00000005 01 03", PDUError.INVALID_PARAMETER),
            ("04 00 00000008 FFFFFFFF 01 03", PDUError.INVALID_PARAMETER),
            ("04 00 0000000A 00000004 01 03 AAAA", PDUError.INVALID_PARAMETER),
        ):
            framing = Framing()
            framing.feed(bytes.fromhex(header))
            error = self.assertRaises(PDUError, pull, framing)
            self.assertEqual(error.reason, reason, header)
            framing.feed(RELEASE_RQ)
            self.assertEqual(pull(framing), [])

    def test_longestAccepted(self):
        """A P-DATA-TF of just the announced length is in order."""
        framing = Framing(16384)
        framing.feed(dataHeader(1, False, True, 16378))
        self.assertEqual(pull(framing), [DataPDU(16384)])

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=6))
    def test_anything(self, reads):
        """No bytes lead to anything but pieces or a PDUError."""
        framing = Framing()
        try:
            for read in reads:
                framing.feed(read)
                pull(framing)
        except PDUError:
            pass

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from((1, 3, 255)),
                st.booleans(),
                st.binary(max_size=50),
            ),
            max_size=6,
        ),
        st.integers(1, 30),
    )
    def test_roundTrip(self, messages, size):
        """What is written with our own headers is read again."""
        stream = b"".join(
            dataHeader(contextID, isCommand, True, len(data)) + data
            for contextID, isCommand, data in messages
        )
        framing = Framing()
        taken = []
        for piece in pieces(stream, size):
            framing.feed(piece)
            taken += pull(framing)
        self.assertEqual(joined(taken), messages)


class SendingTests(SynchronousTestCase):
    """PS3.8 9.3.5, Annex D.1 and E."""

    def test_header(self):
        self.assertEqual(
            dataHeader(3, True, False, 16),
            bytes.fromhex("04 00 00000016 00000012 03 01"),
        )
        self.assertEqual(
            dataHeader(255, False, True, 0),
            bytes.fromhex("04 00 00000006 00000002 FF 02"),
        )

    def test_maximum(self):
        """Even, and the PDV's header counts; 0 is no limit."""
        for announced, data in (
            (0, 65528),
            (16384, 16378),
            (16383, 16376),
            (8, 2),
            (9, 2),
            (1 << 31, 65528),
        ):
            self.assertEqual(maxPDVData(announced), data)
        for announced in (1, 6, 7):
            self.assertRaises(ValueError, maxPDVData, announced)


class MemoryTests(SynchronousTestCase):
    """What waits for the rest of its PDU takes about as much as was sent."""

    def test_byteByByte(self):
        framing = Framing()
        header = b"\1\0" + (1 << 20).to_bytes(4, "big")
        framing.feed(header)
        framing.next()
        tracemalloc.start()
        try:
            for _ in range(50000):
                framing.feed(bytes([1]))
                self.assertIsNone(framing.next())
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(used, 200000)
