"""
Keys and certificates in files, as an administrator has put them there. What is
wrong with one is said in a line that names the option and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509

from d360.errors import CertificateError

#: Of kinds that certificates for TLS have.
_PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

#: Bytes of a file that are read at most; a system's whole store of CAs has a
#: quarter of a million.
_LONGEST = 4 << 20

#: What changes with a file: its times, its size, and which file it is.
Signature = tuple[tuple[int, ...] | None, ...]


@frozen
class Credentials:
    """
    What files say, as PEM; empty where there is none.

    @ivar section: of the configuration, for people.
    @ivar certificate: ours, and then those between it and its CA.
    @ivar key: the private key of the first of them.
    @ivar clientCA: CAs of the certificates that clients show.
    @ivar ca: CAs of the servers that we connect to.
    """

    section: str
    certificate: str = ""
    key: str = field(default="", repr=False)
    clientCA: str = ""
    ca: str = ""


@frozen
class Files:
    """
    Where L{Credentials} are; an empty path is none.
    """

    section: str
    certificate: str = ""
    key: str = ""
    clientCA: str = ""
    ca: str = ""

    def read(self) -> Credentials:
        """
        Blocks.

        @raise CertificateError: one cannot be read.
        """
        return Credentials(
            self.section,
            self._read("certificate", self.certificate),
            self._read("key", self.key),
            self._read("client_ca", self.clientCA),
            self._read("ca", self.ca),
        )

    def _read(self, option: str, path: str) -> str:
        if not path:
            return ""
        try:
            with open(path, "rb") as file:
                return file.read(_LONGEST).decode("utf-8", "replace")
        except OSError as error:
            raise CertificateError(
                f"cannot read {self.section}.{option} {path}: {error.strerror}; see "
                "that it is there, and that the account that runs D360 may read it"
            ) from None

    def signature(self) -> Signature:
        """By what a change of the files is seen. Blocks."""
        return tuple(
            _signatureOf(path)
            for path in (self.certificate, self.key, self.clientCA, self.ca)
            if path
        )


def _signatureOf(path: str) -> tuple[int, ...] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


@frozen
class Keys:
    """
    L{Credentials} as OpenSSL takes them.

    @ivar key: C{None} where there is no certificate.
    @ivar chain: those between our certificate and its CA.
    """

    key: _PrivateKey | None
    certificate: x509.Certificate | None
    chain: Sequence[x509.Certificate]
    clientCAs: Sequence[X509]
    cas: Sequence[X509]


def keysOf(credentials: Credentials) -> Keys:
    """
    @raise CertificateError: something is no PEM, or key and certificate do not
        belong together.
    """
    section = credentials.section
    own = _certificates(f"{section}.certificate", credentials.certificate)
    key = None
    if own:
        key = _privateKey(f"{section}.key", credentials.key)
        if key.public_key() != _publicKey(f"{section}.certificate", own[0]):
            raise CertificateError(
                f"{section}.key is not the key of the first certificate in "
                f"{section}.certificate; give the two that were made together, our "
                "own certificate before those of CAs"
            )
    return Keys(
        key,
        own[0] if own else None,
        own[1:],
        _authorities(f"{section}.client_ca", credentials.clientCA),
        _authorities(f"{section}.ca", credentials.ca),
    )


def _authorities(option: str, text: str) -> list[X509]:
    return [X509.from_cryptography(one) for one in _certificates(option, text)]


def _certificates(option: str, text: str) -> list[x509.Certificate]:
    if not text:
        return []
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise CertificateError(
            f"{option} has no certificate in PEM, which begins with -----BEGIN "
            "CERTIFICATE-----; openssl x509 -inform DER makes it of DER"
        ) from None


def _publicKey(option: str, certificate: x509.Certificate) -> Any:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{option} has a key that TLS cannot use ({error}); make one with RSA or "
            "an elliptic curve"
        ) from None


def _privateKey(option: str, text: str) -> _PrivateKey:
    why = "is no key for TLS"
    try:
        key = load_pem_private_key(text.encode(), None)
        if isinstance(key, _PrivateKey):
            return key
    except TypeError:
        why = "is protected by a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        why = "has no private key in PEM"
    raise CertificateError(
        f"{option} {why}; openssl pkey -in FILE -out OTHER makes one that D360 can "
        "read: keep it from others by its permissions"
    ) from None


def fingerprintOf(certificate: x509.Certificate) -> str:
    """SHA-256 of its DER, in lower case hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def nameOf(certificate: x509.Certificate) -> str:
    """Whose it is, for people."""
    return certificate.subject.rfc4514_string()[:200]


def daysLeft(certificate: x509.Certificate, now: float) -> int:
    """
    How many whole days it is valid yet; negative when it is not any more.

    @param now: seconds since the epoch.
    """
    left = certificate.not_valid_after_utc - datetime.fromtimestamp(now, UTC)
    return left.days
