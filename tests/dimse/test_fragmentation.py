"""Messages into P-DATA-TF PDUs (PS3.7 6.3.1, PS3.8 Annex E)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from d360.dimse.fragmentation import fragments
from d360.ul.framing import LONGEST_SENT


class FragmentTests(SynchronousTestCase):
    """The data itself, and a header before each part of it."""

    def test_whole(self) -> None:
        """PS3.8 9.3.5: one PDV in one PDU, the last of a command set."""
        data = b"command set!"
        header = bytes.fromhex("0400000000120000000e0303")
        self.assertEqual([header, data], fragments(3, True, data, 16384))

    def test_parts(self) -> None:
        """PS3.8 E.2: bit 1 is set in the last fragment, bit 0 in a command's."""
        self.assertEqual(
            [
                bytes.fromhex("04000000000a000000060500"),
                b"abcd",
                bytes.fromhex("04000000000a000000060500"),
                b"efgh",
                bytes.fromhex("040000000008000000040502"),
                b"ij",
            ],
            fragments(5, False, b"abcdefghij", 11),
        )

    def test_moreFollows(self) -> None:
        """No fragment is the last, be there one or several."""
        for data, limit in ((b"ab", 16384), (b"abcdef", 10), (b"abcdefgh", 10)):
            headers = fragments(1, False, data, limit, isEnd=False)[::2]
            self.assertEqual([0] * len(headers), [one[11] for one in headers])

    def test_unlimited(self) -> None:
        """A peer that sets no limit gets PDUs of the length that we announce."""
        buffers = fragments(1, False, bytes(LONGEST_SENT * 2), 0)
        self.assertEqual(LONGEST_SENT, 6 + len(buffers[1]))

    @given(
        st.integers(0, 127).map(lambda number: 2 * number + 1),
        st.booleans(),
        st.binary(max_size=200).map(lambda data: data + bytes(len(data) % 2)),
        st.integers(8, 80),
        st.booleans(),
    )
    def test_anything(
        self, contextID: int, isCommand: bool, data: bytes, limit: int, isEnd: bool
    ) -> None:
        """Put together again it is what it was, in fragments that fit."""
        buffers = fragments(contextID, isCommand, memoryview(data), limit, isEnd)
        self.assertEqual(data, b"".join(buffers[1::2]))
        flags = []
        for header, piece in zip(buffers[::2], buffers[1::2], strict=True):
            length = len(piece)
            self.assertEqual(b"\4\0", header[:2])
            self.assertEqual(length + 6, int.from_bytes(header[2:6], "big"))
            self.assertLessEqual(length + 6, limit)
            self.assertEqual(0, length % 2)
            self.assertEqual(length + 2, int.from_bytes(header[6:10], "big"))
            self.assertEqual(contextID, header[10])
            flags.append(header[11])
        ours = [int(isCommand)] * len(flags)
        ours[-1] |= 2 * isEnd
        self.assertEqual(ours, flags)
