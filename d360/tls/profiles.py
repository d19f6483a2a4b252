"""
The Secure Transport Connection Profiles of PS3.15 Annex B that are TLS. None
negotiates a version before TLS 1.2 (RFC 8996).
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.ssl import AcceptableCiphers
from twisted.python.filepath import FilePath

#: RFC 7919 A.2, for profiles with DHE: who calls us may know nothing else.
GROUP = FilePath(__file__).sibling("ffdhe3072.pem")

#: RFC 9325 4.2, and the ones of RFC 7525 that have an elliptic curve.
_ECDHE = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
#: RFC 7525 4.2.
_DHE = ("DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256")

#: Further ones with encryption that authenticates.
_FURTHER = (
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM",
)


@frozen
class Profile:
    """
    @ivar title: as PS3.15 has it, without "Secure Transport Connection
        Profile".
    @ivar clause: of PS3.15.
    @ivar suites: of TLS 1.2, the preferred one first, by OpenSSL's names. Those
        of TLS 1.3 are all that OpenSSL has on by default.
    """

    title: str
    clause: str
    suites: tuple[str, ...]

    @property
    def hasDHE(self) -> bool:
        """Some of the suites need a group of L{GROUP}'s kind."""
        return any(suite.startswith("DHE-") for suite in self.suites)

    def ciphers(self) -> AcceptableCiphers:
        """As Twisted takes them."""
        found: AcceptableCiphers = AcceptableCiphers.fromOpenSSLCipherString(
            ":".join(self.suites)
        )
        return found


#: By the word of the configuration.
PROFILES = {
    "bcp195": Profile("BCP 195 RFC 8996, 9325 TLS", "B.12", _ECDHE),
    "bcp195-modified": Profile(
        "Modified BCP 195 RFC 8996, 9325 TLS", "B.13", _ECDHE + _FURTHER
    ),
    "bcp195-nd": Profile("Non-Downgrading BCP 195 TLS", "B.10", _ECDHE + _DHE),
    "bcp195-extended": Profile("Extended BCP 195 TLS", "B.11", _ECDHE + _DHE),
}
