"""The frames of encapsulated Pixel Data (PS3.5 A.4)."""

from __future__ import annotations

from io import BytesIO
from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from d360.errors import TranscodingError
from d360.transcoding.frames import framesOf, readFrame
from d360.transcoding.syntaxes import Codec
from tests.transcoding.building import SEQUENCE_END, explicit, item

A, B, C = b"\xff\xd8\xffa", b"\xff\xd8\xffbb\0", b"\xff\xd8\xffc"
MORE = b"more"


class FramesTests(SynchronousTestCase):
    def frames(
        self, count: int, *fragments: bytes, table: tuple[int, ...] = ()
    ) -> list[bytes]:
        data = item(pack(f"<{len(table)}L", *table)) + b"".join(map(item, fragments))
        return self.read(data + SEQUENCE_END + b"behind", count, b"behind")

    def read(self, data: bytes, count: int, behind: bytes = b"") -> list[bytes]:
        file = BytesIO(data)
        found = framesOf(file, Codec.JPEG, count, len(data))
        self.assertEqual(file.read(), behind)
        return [readFrame(file, fragments) for fragments in found]

    def fails(self, why: str, data: bytes, count: int = 1) -> None:
        with self.assertRaisesRegex(TranscodingError, why):
            self.read(data, count)

    def test_fragmentAFrame(self) -> None:
        """With and without a Basic Offset Table."""
        self.assertEqual(self.frames(3, A, B, C), [A, B, C])
        self.assertEqual(self.frames(3, A, B, C, table=(0, 12, 26)), [A, B, C])

    def test_oneFrame(self) -> None:
        """Of one frame all fragments are parts, with or without a table."""
        self.assertEqual(self.frames(1, A, MORE, MORE), [A + MORE + MORE])
        self.assertEqual(self.frames(1, A, MORE, table=(0,)), [A + MORE])

    def test_table(self) -> None:
        """The Basic Offset Table tells where frames begin."""
        self.assertEqual(
            self.frames(2, A, MORE, b"B", MORE, table=(0, 24)), [A + MORE, b"B" + MORE]
        )

    def test_noTable(self) -> None:
        """Without one, their first bytes do."""
        self.assertEqual(self.frames(3, A, MORE, B, C, MORE), [A + MORE, B, C + MORE])

    def test_wrongTable(self) -> None:
        """A table that leads nowhere is no help, and no reason to guess."""
        with self.assertRaisesRegex(TranscodingError, "cannot be told apart"):
            self.frames(2, A, MORE, C, MORE, table=(0, 25))

    def test_wrongNumber(self) -> None:
        """The number of frames must be the one that the data set says."""
        for count, fragments in ((2, (A,)), (1, (A, B)), (3, (A, B, MORE, C, A))):
            with self.assertRaisesRegex(TranscodingError, f"should have {count}"):
                self.frames(count, *fragments)

    def test_apart(self) -> None:
        """Frames whose beginnings cannot be seen are not made up."""
        with self.assertRaisesRegex(TranscodingError, "cannot be told apart"):
            self.frames(2, MORE, MORE, MORE)

    def test_broken(self) -> None:
        self.fails("Basic Offset Table", SEQUENCE_END)
        self.fails("too long", item(bytes(8)) + item(A) + SEQUENCE_END)
        self.fails("truncated", item(b"") + item(A))
        self.fails("truncated", item(b"") + item(A, 1000))
        self.fails("truncated", item(b"") + item(A, 0xFFFFFFFF))
        self.fails("other than items", item(b"") + explicit(0x00100010, "PN", b""))
