"""
What connections over TLS are made with. New ones are made with what was last
given; those that are open go on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet._sslverify import ClientTLSOptions
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    DiffieHellmanParameters,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from d360.errors import CertificateError
from d360.tls.credentials import Credentials, Keys, keysOf
from d360.tls.profiles import GROUP, Profile


def _ownOptions(profile: Profile, keys: Keys) -> dict[str, Any]:
    """What shows who we are, for either role."""
    options: dict[str, Any] = {"acceptableCiphers": profile.ciphers()}
    if keys.certificate is not None:
        options |= {
            "privateKey": keys.key,
            "certificate": keys.certificate,
            "extraCertChain": list(keys.chain),
        }
    return options


def _acceptAny(*arguments: Any) -> bool:
    """
    A certificate that nobody is asked about. Whose it is, its fingerprint
    tells; that the peer has its key, the handshake has shown.
    """
    return True


def serverContext(
    profile: Profile,
    credentials: Credentials,
    requireCertificate: bool = False,
    asksForCertificate: bool = True,
) -> SSL.Context:
    """
    For connections that we accept. A client is asked for its certificate, by
    which an AE can be known; without C{clientCA} any will do.

    @raise CertificateError: these credentials cannot be used.
    """
    keys = keysOf(credentials)
    options = _ownOptions(profile, keys)
    if profile.hasDHE:
        options["dhParameters"] = DiffieHellmanParameters.fromFile(GROUP)
    if keys.clientCAs:
        options |= {
            "verify": True,
            "caCerts": list(keys.clientCAs),
            "requireCertificate": requireCertificate,
        }
    context: SSL.Context = _usable(credentials, options).getContext()
    if asksForCertificate and not keys.clientCAs:
        context.set_verify(SSL.VERIFY_PEER, _acceptAny)
    return context


def _usable(credentials: Credentials, options: dict[str, Any]) -> CertificateOptions:
    """With their context, which is made but once."""
    try:
        found = CertificateOptions(**options)
        found.getContext()
        return found
    except SSL.Error as error:
        # Such as a key that is too short for OpenSSL's security level.
        said = error.args[0][-1][-1] if error.args and error.args[0] else "no reason"
        raise CertificateError(
            f"{credentials.section}.certificate cannot be used: OpenSSL says "
            f"{said!r}; make a new key of at least 2048 bits, and a certificate "
            "signed with SHA-256"
        ) from None


def clientOptions(profile: Profile, credentials: Credentials) -> CertificateOptions:
    """
    For connections that we open: to servers whose certificate is signed by
    C{ca}, or by a CA of the system's where that is empty. These are read now, for
    there are more than a hundred of them.

    @raise CertificateError: these credentials cannot be used.
    """
    keys = keysOf(credentials)
    options = _ownOptions(profile, keys)
    if keys.cas:
        cas = [Certificate(one) for one in keys.cas]
        options["trustRoot"] = trustRootFromCertificates(cas)
    else:
        options["trustRoot"] = platformTrust()
    return _usable(credentials, options)


class _Below(TLSMemoryBIOFactory):
    """One that wraps no protocol where the other has none: it takes no more."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See L{TLSMemoryBIOFactory.buildProtocol}."""
        above = self.wrappedFactory.buildProtocol(addr)
        return None if above is None else self.protocol(self, above)


@implementer(IOpenSSLServerConnectionCreator)
class Accepting:
    """
    Connections that peers open.

    @param requireCertificate: they have to show one.
    @param asksForCertificate: they may show one.
    """

    def __init__(
        self,
        profile: Profile,
        requireCertificate: bool = False,
        asksForCertificate: bool = True,
    ) -> None:
        self._profile = profile
        self._requireCertificate = requireCertificate
        self._asksForCertificate = asksForCertificate
        self._context: SSL.Context | None = None

    def prepare(self, credentials: Credentials) -> Callable[[], None]:
        """
        See whether these can be used; what is returned has new connections
        made with them. May be called in a thread.

        @raise CertificateError: they cannot be.
        """
        context = serverContext(
            self._profile,
            credentials,
            self._requireCertificate,
            self._asksForCertificate,
        )

        def use() -> None:
            self._context = context

        return use

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See L{IOpenSSLServerConnectionCreator.serverConnectionForTLS}."""
        if self._context is None:
            raise CertificateError("no certificate was given yet")
        return SSL.Connection(self._context)

    def over(self, factory: IProtocolFactory, clock: IReactorTime) -> Any:
        """A factory that has TLS below another one's protocols."""
        return _Below(self, False, factory, clock)


class Connecting:
    """Connections that we open; without credentials, as nobody in particular."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._options = clientOptions(profile, Credentials("tls"))

    def prepare(self, credentials: Credentials) -> Callable[[], None]:
        """
        See L{Accepting.prepare}.

        @raise CertificateError: likewise.
        """
        options = clientOptions(self._profile, credentials)

        def use() -> None:
            self._options = options

        return use

    def secure(
        self, host: str, endpoint: IStreamClientEndpoint
    ) -> IStreamClientEndpoint:
        """
        TLS over a connection to a host.

        @param host: a name or an IP address, which its certificate must have.
        """
        # optionsForClientTLS would make a context for each host.
        toHost = ClientTLSOptions(self._options.clientConnectionForTLS, host)
        secured: IStreamClientEndpoint = wrapClientTLS(toHost, endpoint)
        return secured


class Both:
    """
    Connections that peers open and those that we do, with the same
    credentials.
    """

    def __init__(self, profile: Profile, requireCertificate: bool = False) -> None:
        self.accepting = Accepting(profile, requireCertificate)
        self.connecting = Connecting(profile)

    def prepare(self, credentials: Credentials) -> Callable[[], None]:
        """
        See L{Accepting.prepare}.

        @raise CertificateError: likewise.
        """
        connect = self.connecting.prepare(credentials)
        if not credentials.certificate:
            # Nothing to accept connections with; nobody listens then.
            return connect
        accept = self.accepting.prepare(credentials)

        def use() -> None:
            connect()
            accept()

        return use
