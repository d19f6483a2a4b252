"""Tests for L{d360.dimse.commands}."""

import contextlib
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import C_FIND_RSP, C_MOVE_RSP, C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_FIND, C_MOVE, C_STORE
from pynetdicom.dsutils import decode as oracleDecode
from pynetdicom.dsutils import encode as oracleEncode
from twisted.trial.unittest import SynchronousTestCase

from d360.dimse.commands import NO_DATA_SET, decode, encode
from d360.errors import PDUError
from d360.model import Command

#: C-ECHO-RQ, Message ID 7 (PS3.7 Table 9.3-12), as it is on the wire.
ECHO_RQ = bytes.fromhex(
    "0000000004000000 38000000"
    "0000020012000000 312e322e3834302e31303030382e312e3100"
    "0000000102000000 3000"
    "0000100102000000 0700"
    "0000000802000000 0101"
)

uids = st.from_regex(r"[12](\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True)
words = st.integers(0, 0xFFFF)
titles = st.from_regex(r"[A-Z0-9]([A-Z0-9 ]{0,14}[A-Z0-9])?", fullmatch=True)
comments = st.from_regex(r"[!-~]([ -~]{0,62}[!-~])?", fullmatch=True)

commandSets = st.builds(
    Command,
    CommandField=words,
    AffectedSOPClassUID=st.just("") | uids,
    RequestedSOPClassUID=st.just("") | uids,
    MessageID=st.none() | words,
    MessageIDBeingRespondedTo=st.none() | words,
    MoveDestination=st.just("") | titles,
    Priority=st.none() | words,
    CommandDataSetType=words,
    Status=st.none() | words,
    OffendingElement=st.lists(st.integers(0, 0xFFFFFFFF), max_size=4).map(tuple),
    ErrorComment=st.just("") | comments,
    ErrorID=st.none() | words,
    AffectedSOPInstanceUID=st.just("") | uids,
    RequestedSOPInstanceUID=st.just("") | uids,
    EventTypeID=st.none() | words,
    ActionTypeID=st.none() | words,
    NumberOfRemainingSuboperations=st.none() | words,
    NumberOfCompletedSuboperations=st.none() | words,
    NumberOfFailedSuboperations=st.none() | words,
    NumberOfWarningSuboperations=st.none() | words,
    MoveOriginatorApplicationEntityTitle=st.just("") | titles,
    MoveOriginatorMessageID=st.none() | words,
)


def asDataset(command: Command) -> Dataset:
    """The same command set as pynetdicom holds it."""
    dataset = Dataset()
    for keyword in Command.__slots__:
        value = getattr(command, keyword, None)
        if not keyword.startswith("__") and value not in (None, "", ()):
            value = list(value) if isinstance(value, tuple) else value
            setattr(dataset, keyword, value)
    return dataset


class CommandSetTests(SynchronousTestCase):
    """Command sets are Implicit VR Little Endian (PS3.7 6.3.1)."""

    def test_literal(self) -> None:
        """A C-ECHO-RQ reads and writes as PS3.7 Table 9.3-12 lists it."""
        command = Command(
            CommandField=0x0030,
            AffectedSOPClassUID="1.2.840.10008.1.1",
            MessageID=7,
            CommandDataSetType=NO_DATA_SET,
        )
        self.assertEqual(decode(ECHO_RQ), command)
        self.assertEqual(encode(command), ECHO_RQ)

    @given(commandSets)
    def test_equalsOracle(self, command: Command) -> None:
        """The codec writes what pynetdicom writes, and reads it back."""
        dataset = asDataset(command)
        body = oracleEncode(dataset, True, True)
        dataset.CommandGroupLength = len(body)
        data = oracleEncode(dataset, True, True)
        self.assertEqual(encode(command), data)
        self.assertEqual(decode(data), command)
        self.assertEqual(oracleDecode(BytesIO(encode(command)), True, True), dataset)

    def test_pynetdicomMessages(self) -> None:
        """Requests and responses as pynetdicom's own primitives make them."""
        store = C_STORE()
        store.MessageID = 3
        store.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        store.AffectedSOPInstanceUID = "1.2.3.4"
        store.Priority = 2
        store.DataSet = BytesIO(b"\0\0")
        store.MoveOriginatorApplicationEntityTitle = "WS1"
        store.MoveOriginatorMessageID = 9
        request = self.encodedBy(C_STORE_RQ(), store)
        self.assertEqual(decode(request).MoveOriginatorApplicationEntityTitle, "WS1")
        self.assertEqual(decode(request).CommandField, 0x0001)
        self.assertEqual(encode(decode(request)), request)

        store = C_STORE()
        store.MessageIDBeingRespondedTo = 3
        store.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        store.AffectedSOPInstanceUID = "1.2.3.4"
        store.Status = 0
        find = C_FIND()
        find.MessageIDBeingRespondedTo = 4
        find.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.2.1.1"
        find.Status = 0xFF00
        find.Identifier = BytesIO(b"\0\0")
        move = C_MOVE()
        move.MessageIDBeingRespondedTo = 5
        move.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.2.1.2"
        move.Status = 0xFF00
        move.NumberOfRemainingSuboperations = 1
        move.NumberOfCompletedSuboperations = 2
        move.NumberOfFailedSuboperations = 0
        move.NumberOfWarningSuboperations = 0
        for message, primitive in (
            (C_STORE_RSP(), store),
            (C_FIND_RSP(), find),
            (C_MOVE_RSP(), move),
        ):
            response = self.encodedBy(message, primitive)
            self.assertEqual(encode(decode(response)), response)

    def encodedBy(self, message, primitive) -> bytes:
        message.primitive_to_message(primitive)
        return oracleEncode(message.command_set, True, True)

    @given(st.binary(max_size=200))
    def test_anyBytes(self, data: bytes) -> None:
        """What is no command set is the peer's error and nothing else."""
        with contextlib.suppress(PDUError):
            decode(data)

    @given(st.data())
    def test_damaged(self, data) -> None:
        """So is a damaged one."""
        damaged = bytearray(ECHO_RQ)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(damaged)))
        with contextlib.suppress(PDUError):
            decode(bytes(damaged[:cut]))

    def test_unknownElements(self) -> None:
        """Retired and unknown elements of group 0000 are passed over."""
        retired = bytes.fromhex("0000010004000000 4c4f4c20")
        self.assertEqual(decode(retired + ECHO_RQ), decode(ECHO_RQ))

    def test_missingCommandField(self) -> None:
        """A command set without Command Field (0000,0100) is none."""
        self.assertRaises(PDUError, decode, ECHO_RQ[12:38])

    def test_titleOfSpaces(self) -> None:
        """Spaces around text, and the NUL behind a UID, do not count."""
        data = bytes.fromhex("0000000102000000 2100 0000000608000000") + b" WS1    "
        self.assertEqual(decode(data).MoveDestination, "WS1")
