"""Text in the character sets of DICOM (PS3.5 6.1, Annexes H to K)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from d360.services import text
from d360.services.text import decodeText, encodingsOf


class HostileTests(SynchronousTestCase):
    """What would take long, or much memory."""

    def test_escapes(self) -> None:
        """Thousands of code extensions are none: each takes its time."""
        calls: list[bytes] = []
        decode = text._decodeExtended

        def counted(value: bytes, *arguments: object) -> str:
            calls.append(value)
            return decode(value, *arguments)  # type: ignore[arg-type]

        self.patch(text, "_decodeExtended", counted)
        encodings = encodingsOf("\\ISO 2022 IR 87")
        some = b"\x1b$B;3\x1b(B^" * (text.MAX_ESCAPES // 2)
        self.assertIn("\u5c71", decodeText(some, encodings))
        self.assertEqual([some], calls)
        self.assertEqual("a", decodeText(b"a" + b"\x1b" * 100_000, encodings))
        self.assertEqual([some], calls)

    def test_characterSets(self) -> None:
        """Nothing long is remembered."""
        text._encodingsOf.cache_clear()
        for number in range(300):
            self.assertEqual(
                ("UTF8",), encodingsOf(f"ISO_IR 192\\{number}" + " " * 100_000)
            )
        self.assertLessEqual(text._encodingsOf.cache_info().currsize, 256)
        self.assertEqual(
            encodingsOf("ISO_IR 192" + "\\x" * 400),
            encodingsOf("ISO_IR 192" + "\\x" * 400 + "y" * 100),
        )
        self.assertEqual(301, text._encodingsOf.cache_info().misses)


class DecodeTests(SynchronousTestCase):
    """The standard's own examples, and what senders make of them."""

    def assertNames(self, *cases: tuple[str, bytes, str]) -> None:
        for characterSet, value, expected in cases:
            found = decodeText(value, encodingsOf(characterSet), isName=True)
            self.assertEqual(expected, found, characterSet)

    def test_japanese(self) -> None:
        """PS3.5 H.3.1, H.3.2."""
        self.assertNames(
            (
                "\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
                b"=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ),
        )

    def test_korean(self) -> None:
        """PS3.5 I.2."""
        self.assertNames(
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"
                b"=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
                "Hong^Gildong=洪^吉洞=홍^길동",
            )
        )

    def test_chinese(self) -> None:
        """PS3.5 J.1, J.2, K.2."""
        self.assertNames(
            (
                "GB18030",
                b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab",
                "Wang^XiaoDong=王^小东",
            ),
            ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
            (
                "\\ISO 2022 IR 58",
                b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
                "Zhang^XiaoDong=张^小东",
            ),
        )

    def test_notDeclared(self) -> None:
        """UTF-8 where it is, else Latin 1; nothing of an escape remains."""
        self.assertNames(
            ("", "Müller^山田".encode(), "Müller^山田"),
            ("", b"M\xfcller", "Müller"),
            ("no such set", b"M\xfcller", "Müller"),
            ("", b"Rossi\x1b(B^Anna", "Rossi^Anna"),
        )
