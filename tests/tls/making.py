"""Certificates made for a test, valid from yesterday on."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def ecKey() -> Key:
    """Made in no time; DCMTK before 3.6.8 takes it with few profiles only."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsaKey(number: int = 0, bits: int = 2048) -> Key:
    """Takes a while to make, so that there are few of them."""
    return rsa.generate_private_key(65537, bits)


@frozen
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    privateKey: Key = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key(self) -> str:
        """Its private key."""
        return self.privateKey.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode()

    @property
    def fingerprint(self) -> str:
        """As C{RemoteAE.certificate} has it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path, name: str, chain: Sequence[Issued] = ()) -> None:
        """As C{NAME.pem}, which is followed by a chain, and C{NAME.key}."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.pem").write_text("".join(one.pem for one in (self, *chain)))
        (folder / f"{name}.key").write_text(self.key)


def issue(
    name: str,
    by: Issued | None = None,
    key: Key | None = None,
    isCA: bool = False,
    hosts: Sequence[str] = ("localhost", "127.0.0.1"),
    days: float = 90,
) -> Issued:
    """
    A certificate.

    @param by: who signs it; itself by default.
    @param hosts: names and addresses that it is for.
    @param days: that it is valid yet.
    """
    key = key or ecKey()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=isCA, path_length=None), True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
        )
    )
    if not isCA:
        names = x509.SubjectAlternativeName([_generalName(host) for host in hosts])
        builder = builder.add_extension(names, False)
    signer = by.privateKey if by else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
    )
    return Issued(builder.sign(signer, hashes.SHA256()), key)


def _generalName(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
