"""Tests for L{d360.config}."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from d360.config import Configuration, load, options
from d360.errors import ConfigurationError
from d360.model import Duplicates

EXAMPLE = Path(__file__).parent.parent / "etc" / "d360.toml"


class ConfigurationTests(SynchronousTestCase):
    """The configuration file and the options that win over it."""

    def write(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text, "utf-8")
        return path

    def refused(self, text: str) -> str:
        """The one line that a file of this text is refused with."""
        path = self.write(text)
        error = self.assertRaises(ConfigurationError, load, path, {})
        message = str(error)
        self.assertTrue(message.startswith(f"{path}: "), message)
        self.assertNotIn("\n", message)
        return message.removeprefix(f"{path}: ")

    def test_defaults(self) -> None:
        """Without a file, all is as the conformance statement says (4.4.3)."""
        configuration = load(None, {})
        self.assertEqual(configuration.dicom.aeTitle, "D360PACS")
        self.assertEqual(configuration.dicom.address, "127.0.0.1")
        self.assertEqual(configuration.dicom.port, 104)
        self.assertEqual(configuration.dicom.maxPDULength, 65534)
        self.assertFalse(configuration.dicom.requireKnownCallers)
        self.assertEqual(configuration.web.port, 8360)
        self.assertEqual(configuration.database.url, "")
        self.assertEqual(configuration.dataDirectory, Path.cwd() / "d360-data")

    def test_file(self) -> None:
        """Sections and keys are read."""
        path = self.write(
            'data_directory = "/srv/d360"\n'
            "[dicom]\n"
            'ae_title = "PACS"\n'
            "max_pdu_length = 16384\n"
            'duplicates = "keep"\n'
            "require_known_callers = true\n"
        )
        configuration = load(path, {})
        self.assertEqual(configuration.dataDirectory, Path("/srv/d360"))
        self.assertEqual(configuration.dicom.aeTitle, "PACS")
        self.assertEqual(configuration.dicom.maxPDULength, 16384)
        self.assertIs(configuration.dicom.duplicates, Duplicates.KEEP)
        self.assertTrue(configuration.dicom.requireKnownCallers)
        self.assertEqual(configuration.dicom.port, 104)

    def test_unreadable(self) -> None:
        """Whatever is in the file, it is refused with one line."""
        self.assertIn("a path", self.refused('data_directory = "~nobody-here/x"\n'))
        deep = "[" * 5000
        self.assertIn("not valid TOML", self.refused(f"workers = {deep}\n"))
        digits = "9" * 5000
        self.assertIn("not valid TOML", self.refused(f"workers = {digits}\n"))
        self.assertIn("workers", self.refused(f"workers = 0x{digits}\n"))
        inside = self.refused(f'data_directory = {{a = [0x{digits}, "{"x" * 5000}"]}}')
        self.assertLess(len(inside), 500)

    def test_optionsWin(self) -> None:
        """Options of the command line win over the file."""
        path = self.write('[dicom]\nport = 1\nae_title = "PACS"\n')
        configuration = load(path, {"dicom.port": 2, "web.port": 3})
        self.assertEqual(configuration.dicom.port, 2)
        self.assertEqual(configuration.dicom.aeTitle, "PACS")
        self.assertEqual(configuration.web.port, 3)

    def test_unknownKeys(self) -> None:
        """A key that is not known is an error that names those that are."""
        self.assertIn("unknown key 'dicom.prot'", self.refused("[dicom]\nprot = 1"))
        self.assertIn("dicom.port", self.refused("[dicom]\nprot = 1"))
        self.assertIn("unknown key 'aet'", self.refused('aet = "X"'))
        self.assertIn("unknown key 'dicom.aeTitle'", self.refused("dicom.aeTitle = 1"))

    def test_wrongValues(self) -> None:
        """A wrong value is an error that says what would be right."""
        for text, words in (
            ("dicom.port = 70000", "from 0 to 65535"),
            ('dicom.port = "104"', "a whole number"),
            ("dicom.port = true", "a whole number"),
            ('dicom.ae_title = "ABCDEFGHIJKLMNOPQ"', "1 to 16 characters"),
            ('dicom.ae_title = "A\\\\B"', "without a backslash"),
            ('dicom.ae_title = "  "', "1 to 16 characters"),
            ('dicom.address = "localhost"', "an IP address"),
            ("dicom.accept_any_called_ae = 1", "true or false"),
            ("dicom.require_known_callers = 1", "true or false"),
            ('dicom.duplicates = "newest"', '"replace" or "keep"'),
            ('database.url = "mysql://x"', "postgresql://"),
            ('log.level = "loud"', '"debug" or "info"'),
            ("dicom = 3", "write [dicom]"),
            ("data_directory = 3", "a text in quotes"),
            ('data_directory = ""', "a path"),
            ("dicom.port =", "not valid TOML"),
        ):
            self.assertIn(words, self.refused(text), text)

    def test_noSuchFile(self) -> None:
        """A file that cannot be read is an error."""
        error = self.assertRaises(
            ConfigurationError, load, Path("no-such-file.toml"), {}
        )
        self.assertIn("cannot read the configuration file", str(error))

    def test_notText(self) -> None:
        """So is one that is no text."""
        path = Path(self.mktemp())
        path.write_bytes(b"\xff\xfe\x00")
        error = self.assertRaises(ConfigurationError, load, path, {})
        self.assertIn("not valid TOML", str(error))

    def test_webNeedsToken(self) -> None:
        """The web is on loopback, or it has a token."""
        self.assertIn("web.token", self.refused('web.address = "0.0.0.0"'))
        path = self.write('[web]\naddress = "0.0.0.0"\ntoken = "secret"')
        self.assertEqual(load(path, {}).web.address, "0.0.0.0")


class ExampleTests(SynchronousTestCase):
    """C{etc/d360.toml} tells the truth."""

    def test_everyOption(self) -> None:
        """It has every option there is, with its default."""
        text = re.sub(r"(?m)^# (\w+ = .*)$", r"\1", EXAMPLE.read_text("utf-8"))
        path = Path(self.mktemp())
        path.write_text(text, "utf-8")
        self.assertEqual(load(path, {}), load(None, {}))
        keys = re.findall(r"(?m)^(\w+) = ", text)
        self.assertEqual(
            sorted(keys), sorted(name.split(".")[-1] for name in options())
        )

    def test_asItIs(self) -> None:
        """As it is, it changes nothing."""
        self.assertEqual(load(EXAMPLE, {}), load(None, {}))
        self.assertIsInstance(load(EXAMPLE, {}), Configuration)
