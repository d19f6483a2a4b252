"""Tests for L{d360.tls.credentials}."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import CertificateError
from d360.tls.credentials import Credentials, Files, daysLeft, fingerprintOf, keysOf
from tests.tls.making import issue

CA = issue("CA", isCA=True)
OWN = issue("pacs", CA)


class FilesTests(SynchronousTestCase):
    """What an administrator has put there."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        OWN.write(self.folder, "pacs", [CA])
        self.files = Files(
            "tls", str(self.folder / "pacs.pem"), str(self.folder / "pacs.key")
        )

    def test_read(self) -> None:
        """As it is; what is not given is empty."""
        self.assertEqual(
            self.files.read(), Credentials("tls", OWN.pem + CA.pem, OWN.key)
        )

    def test_missing(self) -> None:
        """The line names the option and the file."""
        (self.folder / "pacs.key").unlink()
        error = self.assertRaises(CertificateError, self.files.read)
        self.assertIn(f"cannot read tls.key {self.folder}/pacs.key", str(error))
        self.assertNotIn("\n", str(error))

    def test_folder(self) -> None:
        """Likewise for one that is no file."""
        files = evolve(self.files, clientCA=str(self.folder))
        error = self.assertRaises(CertificateError, files.read)
        self.assertIn("cannot read tls.client_ca", str(error))

    def test_signature(self) -> None:
        """Changes with each of them, and when one goes or comes."""
        seen = {self.files.signature()}
        for name in ("pacs.pem", "pacs.key"):
            path = self.folder / name
            text = path.read_text()
            # As certbot does it: another file takes the place of the first.
            (self.folder / "new").write_text(text)
            os.replace(self.folder / "new", path)
            seen.add(self.files.signature())
        (self.folder / "pacs.key").unlink()
        seen.add(self.files.signature())
        self.assertEqual(len(seen), 4)
        self.assertEqual(self.files.signature(), self.files.signature())


class KeysTests(SynchronousTestCase):
    """What OpenSSL is given."""

    own = Credentials("tls", OWN.pem, OWN.key)

    def refused(self, **changes: str) -> str:
        error = self.assertRaises(CertificateError, keysOf, evolve(self.own, **changes))
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_own(self) -> None:
        """The first is ours, the others lead to its CA."""
        keys = keysOf(evolve(self.own, certificate=OWN.pem + CA.pem))
        assert keys.certificate is not None
        self.assertEqual(fingerprintOf(keys.certificate), OWN.fingerprint)
        (link,) = keys.chain
        self.assertEqual(link, CA.certificate)
        self.assertEqual([*keys.clientCAs, *keys.cas], [])

    def test_authorities(self) -> None:
        """As many as there are in the file; text between them is no matter."""
        other = issue("other", isCA=True)
        both = f"This is one\n{CA.pem}and this another\n{other.pem}"
        keys = keysOf(Credentials("tls", clientCA=both, ca=CA.pem))
        self.assertIsNone(keys.key)
        self.assertEqual((len(keys.clientCAs), len(keys.cas)), (2, 1))

    def test_noPEM(self) -> None:
        """The line says which option, and how it is put right."""
        broken = OWN.pem.replace("MII", "!!!", 1)
        for text in ("not at all", OWN.key, broken):
            self.assertIn("tls.certificate has no", self.refused(certificate=text))
        for text in ("not at all", OWN.pem, OWN.key[:100]):
            self.assertIn("tls.key has no private key", self.refused(key=text))
        self.assertIn("tls.client_ca has no", self.refused(clientCA="nothing"))
        self.assertIn("openssl", self.refused(ca="nothing"))

    def test_doNotFit(self) -> None:
        """A key of another certificate."""
        text = self.refused(key=issue("other").key)
        self.assertIn("tls.key is not the key of the first certificate", text)
        text = self.refused(certificate=CA.pem + OWN.pem)
        self.assertIn("our own certificate before those of CAs", text)

    def test_passphrase(self) -> None:
        """Nobody is there to be asked for one."""
        secret = OWN.privateKey.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        self.assertIn("protected by a passphrase", self.refused(key=secret.decode()))

    def test_notForTLS(self) -> None:
        """A key of a kind that TLS has not."""
        other = dsa.generate_private_key(2048).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        self.assertIn("is no key for TLS", self.refused(key=other.decode()))

    def test_secret(self) -> None:
        """A key is shown by nothing that shows the values."""
        self.assertNotIn("PRIVATE", repr(self.own))


class DaysTests(SynchronousTestCase):
    """How long a certificate is valid."""

    def test_left(self) -> None:
        """Whole days; negative when it has ended."""
        end = OWN.certificate.not_valid_after_utc.timestamp()
        for seconds, days in ((86400 * 30 + 5, 30), (5, 0), (-5, -1), (-86405, -2)):
            self.assertEqual(daysLeft(OWN.certificate, end - seconds), days)
