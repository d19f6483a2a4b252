"""Chapter 4.6: TLS, by the profiles that there are."""

from __future__ import annotations

from collections.abc import Iterator

from d360.conformance.rst import bullets, heading, paragraph, table
from d360.tls.profiles import PROFILES


def transport() -> Iterator[str]:
    """Secure transport connection profiles (PS3.15 Annex B)."""
    yield heading(2, "Secure transport connections")
    yield paragraph(
        """With ``tls.port`` D360 accepts associations over TLS 1.2 and 1.3, on a port
        of its own, for which 2762 is registered; ``dicom.plain`` turns the other one
        off. Associations that it requests are over TLS where the remote AE is
        configured so. In both roles it uses the profile of PS3.15 Annex B that
        ``tls.profile`` chooses. No version before TLS 1.2 is negotiated by any. The
        cipher suites of TLS 1.2 are, by OpenSSL's names and in the order of
        preference, which is D360's where it is the acceptor:"""
    )
    yield table(
        ("``tls.profile``", "Profile", "Clause", "Cipher suites"),
        [
            (f"``{word}``", one.title, one.clause, ", ".join(one.suites))
            for word, one in PROFILES.items()
        ],
        (15, 25, 10, 50),
    )
    yield paragraph(
        """For TLS 1.3 they are those that OpenSSL has on by default. Of the ones that
        B.13 names for TLS 1.2, those with Camellia, which OpenSSL does not have with
        GCM, those with a shortened tag (CCM_8) and those with DHE are not offered."""
    )
    yield bullets(
        [
            "A requestor is always asked for a certificate, and need not have one "
            "unless ``tls.require_client_certificate`` is set. One that it shows must "
            "be of a CA of ``tls.client_ca``, if that is set.",
            "A remote AE can be bound to a certificate by its fingerprint (SHA-256). "
            "Whoever calls by its AE title without that certificate is rejected with "
            "1,1,3.",
            "As the requestor D360 checks that the acceptor's certificate is of a CA "
            "of ``tls.ca``, or of one that the system knows, has not expired, and "
            "names the configured host in its Subject Alternative Name; it shows its "
            "own certificate if it has one.",
            "Certificates are X.509, with RSA keys of 2048 bits or more, keys of "
            "elliptic curves or Ed25519, and signed with SHA-256 or better. "
            "Revocation lists are not read.",
            "A TLS handshake and the A-ASSOCIATE-RQ after it together have the time "
            "of the ARTIM timer.",
        ]
    )
