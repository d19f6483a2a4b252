"""Tests for L{d360.config}."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from d360.config import Configuration, load, options
from d360.errors import ConfigurationError
from d360.model import ALL_PERMISSIONS, Duplicates, Permission

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
        self.assertEqual(configuration.dicom.defaultPermissions, ALL_PERMISSIONS)
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
            'default_permissions = ["query", "retrieve"]\n'
            "require_known_callers = true\n"
        )
        configuration = load(path, {})
        self.assertEqual(configuration.dataDirectory, Path("/srv/d360"))
        self.assertEqual(configuration.dicom.aeTitle, "PACS")
        self.assertEqual(configuration.dicom.maxPDULength, 16384)
        self.assertIs(configuration.dicom.duplicates, Duplicates.KEEP)
        self.assertTrue(configuration.dicom.requireKnownCallers)
        self.assertEqual(
            configuration.dicom.defaultPermissions,
            {Permission.QUERY, Permission.RETRIEVE},
        )
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
            ('dicom.default_permissions = "store"', 'a list of "store"'),
            ('dicom.default_permissions = ["echo"]', '"worklist"'),
            ('dicom.duplicates = "newest"', '"replace" or "keep"'),
            ('database.url = "mysql://x"', "postgresql://"),
            ('log.level = "loud"', '"debug" or "info"'),
            ('audit.syslog = "log.example.org"', "udp://log.example.org:514"),
            ("audit.syslog = 514", "a text in quotes"),
            ("audit.keep = -1", "from 0 to"),
            ("dicom = 3", "write [dicom]"),
            ("data_directory = 3", "a text in quotes"),
            ("min_free_space = -1", "from 0 to"),
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

    def test_tokens(self) -> None:
        """What HTTP can carry; one to watch, and another one to do everything."""
        for text, words in (
            ('web.token = " secret"', "without spaces at its ends"),
            ('web.token = "secret\\n"', "on one line"),
            ('web.token = "a\\u0000b"', "on one line"),
            ('web.monitoring_token = "a"', "set web.token too"),
            ('web.token = "a"\nweb.monitoring_token = "a"', "give another one"),
        ):
            message = self.refused(text)
            self.assertIn(words, message)
            self.assertNotIn("secret", message)
        path = self.write('[web]\ntoken = "löng secret"\nmonitoring_token = "b"')
        self.assertEqual(load(path, {}).web.monitoringToken, "b")

    def test_auditFile(self) -> None:
        """Below the data directory, or where it is said, or none."""
        data = Path.cwd() / "d360-data"
        for text, expected in (
            ("", data / "audit" / "audit.log"),
            ('file = "who.log"', data / "who.log"),
            ('file = "/var/log/who.log"', Path("/var/log/who.log")),
            ('file = ""', None),
        ):
            path = self.write(f"[audit]\n{text}\n")
            self.assertEqual(load(path, {}).auditFile, expected)

    def test_certificates(self) -> None:
        """What belongs together is given together."""
        own = 'certificate = "a"\nkey = "b"\n'
        for text, words in (
            ("[tls]\nport = 2762", "tls.port needs tls.certificate"),
            ('[tls]\ncertificate = "a"', "tls.key belong together"),
            ('[web]\nkey = "a"', "web.certificate and web.key belong together"),
            ("[tls]\nrequire_client_certificate = true", "needs tls.client_ca"),
            ("[dicom]\nplain = false", "set tls.port"),
            ('[tls]\nprofile = "ssl3"', '"bcp195" or "bcp195-modified"'),
            ("[tls]\ncertificate = 3", "a text in quotes"),
        ):
            self.assertIn(words, self.refused(text), text)
        path = self.write(f"[dicom]\nplain = false\n[tls]\nport = 2762\n{own}")
        tls = load(path, {}).tls
        self.assertEqual((tls.port, tls.profile), (2762, "bcp195"))
        self.assertEqual(tls.certificate, str(Path.cwd() / "a"))
        self.assertEqual(tls.clientCA, "")

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
