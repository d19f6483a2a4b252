"""
What the upper layer has to know of TLS below it (PS3.15 B): who the peer has
shown to be, and why there is no connection.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError

#: What OpenSSL calls the reason of a failure, in part, and what it means; the
#: first one that is found.
_MEANINGS = (
    ("alert", "the peer refuses ({reason})"),
    ("certificate verify failed", "the peer's certificate is not to be trusted: it "
     "has expired, or is of a CA that is not in tls.ca, or tls.client_ca for those "
     "who call"),
    ("did not return a certificate", "the peer shows no certificate, and "
     "tls.require_client_certificate asks for one"),
    ("no shared cipher", "no cipher suite in common; see tls.profile"),
    ("no suitable signature", "the peer's keys do not go with our certificate"),
    ("unsupported protocol", "the peer has no TLS 1.2 or later"),
    ("version too low", "the peer has no TLS 1.2 or later"),
    ("wrong version number", "the peer does not speak TLS"),
    ("http request", "the peer does not speak TLS"),
    ("packet length", "the peer does not speak TLS"),
    ("unknown protocol", "the peer does not speak TLS"),
    ("wrong signature type", "the peer's keys do not go with our certificate"),
)  # fmt: skip


def explain(error: BaseException | None) -> str | None:
    """
    Why TLS has ended a connection, for the log; C{None} if it was not TLS.
    """
    if isinstance(error, VerificationError):
        return "TLS: the peer's certificate is not for the host that we called"
    if not isinstance(error, SSL.Error):
        return None
    reason = _reasonOf(error)
    for part, meaning in _MEANINGS:
        if part in reason:
            return "TLS: " + meaning.format(reason=reason)
    return f"TLS: {reason}"


def isAboutCertificates(error: BaseException | None) -> bool:
    """
    Whether TLS has ended a connection because one side does not trust what the
    other has shown, or has shown nothing.
    """
    if isinstance(error, VerificationError):
        return True
    if not isinstance(error, SSL.Error):
        return False
    reason = _reasonOf(error)
    return "certificate" in reason or "unknown ca" in reason


def _reasonOf(error: SSL.Error) -> str:
    """OpenSSL's own words."""
    try:
        return str(error.args[0][-1][-1]).lower() or "no reason given"
    except (IndexError, TypeError):
        return "no reason given"


def describe(transport: Any) -> str:
    """The version and the cipher suite of a connection, for the log."""
    connection = transport.getHandle()
    return f"{connection.get_protocol_version_name()}, {connection.get_cipher_name()}"


def fingerprintOf(transport: Any) -> str:
    """
    SHA-256 of the certificate that the peer has shown, as
    L{d360.model.AssociationRequest} has it.
    """
    getPeerCertificate = getattr(transport, "getPeerCertificate", None)
    certificate = getPeerCertificate() if getPeerCertificate is not None else None
    if certificate is None:
        return ""
    digest: bytes = certificate.digest("sha256")
    return digest.decode("ascii").replace(":", "").lower()
