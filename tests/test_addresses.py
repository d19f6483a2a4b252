"""Tests for L{d360.addresses}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from d360.addresses import (
    namesOf,
    readAETitle,
    readCertificate,
    readFlag,
    readHost,
    readPermissions,
    readPort,
    readSyslog,
)
from d360.model import ALL_PERMISSIONS, Permission

DIGITS = "0123456789abcdef" * 4


class AddressesTests(SynchronousTestCase):
    """How an application entity is named and found."""

    def refused(self, read: Any, values: Any, words: str) -> None:
        for value in values:
            error = self.assertRaises(ValueError, read, value)
            self.assertIn(words, str(error), repr(value))

    def test_titles(self) -> None:
        """
        PS3.5 6.2, AE: 1 to 16 characters of the default repertoire; leading
        and trailing spaces do not count.
        """
        for value, title in (
            ("WS1", "WS1"),
            ("  WS1 ", "WS1"),
            ("ws 1", "ws 1"),
            ("A/B?#%&", "A/B?#%&"),
            (" ABCDEFGHIJKLMNOP ", "ABCDEFGHIJKLMNOP"),
            ("~", "~"),
        ):
            self.assertEqual(readAETitle(value), title)

    def test_wrongTitles(self) -> None:
        """No control characters, no backslash, no other repertoire."""
        self.refused(
            readAETitle,
            ("", "  ", "ABCDEFGHIJKLMNOPQ", "A\\B", "A\nB", "A\0", "\tA", "Ä",
             "A\x7fB", "\ud800", "\u3000A"),
            "1 to 16 characters of ASCII without a backslash",
        )  # fmt: skip
        self.refused(readAETitle, (None, 1, b"WS1", ["WS1"]), "a text")

    def test_hosts(self) -> None:
        """Host names by RFC 1123 2.1; addresses in their shortest form."""
        longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
        self.assertEqual(len(longest), 253)
        for host in (
            "localhost",
            "ws1.example.org",
            "3com.example",
            "WS-1",
            "WS_1",
            "a",
            "1a",
            longest,
            "192.0.2.7",
            "2001:db8::7",
            "::1",
        ):
            self.assertEqual(readHost(host), host)
        self.assertEqual(readHost("2001:DB8:0:0::7"), "2001:db8::7")

    def test_wrongHosts(self) -> None:
        """Neither."""
        self.refused(
            readHost,
            ("", " ", "ws1 ", " ws1", "a b", "http://ws1", "ws1:104", "ws1/x", "-a",
             "a-", "a..b", ".a", "a.", "ä.example", "a" * 64, "a\0", "a\n",
             ".".join(["a" * 63] * 4), "192.0.2.256", "192.0.2", "1", "01.2.3.4",
             "[::1]", "fe80::1%eth0", "fe80::1%a b", ":::", "\ud800", "user@ws1",
             "１.1.1.1", "a." * 100000),
            'such as "ws1.example.org" or "192.0.2.7"',
        )  # fmt: skip
        self.refused(readHost, (None, 1, b"ws1", ["ws1"]), "a text")

    def test_ports(self) -> None:
        """Numbers that TCP has."""
        for port in (1, 104, 65535):
            self.assertEqual(readPort(port), port)
        self.refused(
            readPort,
            (0, -1, 65536, 10**400, True, False, 104.0, "104", None, [], float("nan")),
            "a whole number from 1 to 65535",
        )

    def test_permissions(self) -> None:
        """Any of them, in any order, also none; shown in one order."""
        for value, permissions in (
            ([], frozenset()),
            (["query"], frozenset({Permission.QUERY})),
            (["worklist", "retrieve", "query", "store"], ALL_PERMISSIONS),
            (["store", "store"], frozenset({Permission.STORE})),
        ):
            self.assertEqual(readPermissions(value), permissions)
        names = ["store", "query", "retrieve", "worklist"]
        self.assertEqual(namesOf(ALL_PERMISSIONS), names)
        self.assertEqual(namesOf(frozenset()), [])

    def test_wrongPermissions(self) -> None:
        """No other names, and no text for a list of one."""
        self.refused(
            readPermissions,
            (["stor"], ["STORE"], ["store", "echo"], "store", None, {"store": True},
             [None], [["store"]], [{}], True),
            'a list of "store", "query", "retrieve", "worklist", or of some or none',
        )  # fmt: skip

    def test_certificates(self) -> None:
        """SHA-256 as openssl shows it, or as plain digits; or none."""
        pairs = [DIGITS[at : at + 2] for at in range(0, 64, 2)]
        for value in (DIGITS, DIGITS.upper(), ":".join(pairs),
                      ":".join(pairs).upper(), f" {DIGITS}\n"):  # fmt: skip
            self.assertEqual(readCertificate(value), DIGITS)
        self.assertEqual(readCertificate(""), "")
        self.assertEqual(readCertificate(" "), "")

    def test_wrongCertificates(self) -> None:
        """Neither SHA-1, nor a certificate itself."""
        self.refused(
            readCertificate,
            (DIGITS[:40], DIGITS + "0", DIGITS[:-1] + "g", "01:" + DIGITS[2:],
             f"sha256:{DIGITS}", "-----BEGIN CERTIFICATE-----", ":" + DIGITS,
             DIGITS[:-1] + "١", "0" * 10000),
            "its SHA-256 fingerprint, 64 hexadecimal digits",
        )  # fmt: skip
        self.refused(readCertificate, (None, 1, b"", [DIGITS]), "a text")

    def test_flags(self) -> None:
        """Nothing that only looks like one."""
        self.assertIs(readFlag(True), True)
        self.assertIs(readFlag(False), False)
        self.refused(readFlag, (0, 1, "true", None, []), "true or false")

    def test_syslog(self) -> None:
        """Transport, host and port; the port that each has, where none is given."""
        for url, expected in (
            ("udp://log.example.org", ("udp", "log.example.org", 514)),
            ("tcp://192.0.2.7", ("tcp", "192.0.2.7", 601)),
            ("tls://log1", ("tls", "log1", 6514)),
            ("tls://[2001:db8::7]:1", ("tls", "2001:db8::7", 1)),
        ):
            self.assertEqual(readSyslog(url), expected)

    def test_wrongSyslog(self) -> None:
        """Nothing else that a URL may have."""
        self.refused(
            readSyslog,
            ("", "log", "log:514", "http://log", "udp://", "udp://log:0",
             "udp://log:65536", "udp://log:x", "udp://log/x", "udp://a@log",
             "udp://log?x", "udp://log#x", "udp://a b", "udp://[::1", 514, None),
            "udp://log.example.org:514",
        )  # fmt: skip
