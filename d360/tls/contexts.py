"""
What connections over TLS are made with. New ones are made with what was last
given; those that are open go on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    DiffieHellmanParameters,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from d360.errors import CertificateError
from d360.tls.credentials import Credentials, Keys, keysOf
from d360.tls.profiles import GROUP, Profile

#: Hosts whose options are kept. A remote AE has one, so there are few.
_MOST_HOSTS = 1000

#: Makes the options for connections to a host.
ForHost = Callable[[str], IOpenSSLClientConnectionCreator]


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
    profile: Profile, credentials: Credentials, requireCertificate: bool = False
) -> SSL.Context:
    """
    For connections that we accept. A client is always asked for its
    certificate, by which an AE can be known; without C{clientCA} any will do.

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
    context = _usable(credentials, options)
    if not keys.clientCAs:
        context.set_verify(SSL.VERIFY_PEER, _acceptAny)
    return context


def _usable(credentials: Credentials, options: dict[str, Any]) -> SSL.Context:
    try:
        context: SSL.Context = CertificateOptions(**options).getContext()
        return context
    except SSL.Error as error:
        # Such as a key that is too short for OpenSSL's security level.
        said = error.args[0][-1][-1] if error.args and error.args[0] else "no reason"
        raise CertificateError(
            f"{credentials.section}.certificate cannot be used: OpenSSL says "
            f"{said!r}; make a new key of at least 2048 bits, and a certificate "
            "signed with SHA-256"
        ) from None


@implementer(IOpenSSLTrustRoot)
class _SystemCAs:
    """
    The CAs that the system knows. They are read once, and not by the reactor
    for each host that is called: there are more than a hundred of them.
    """

    def __init__(self) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_default_verify_paths()
        self._store = context.get_cert_store()

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        """See L{IOpenSSLTrustRoot}."""
        assert self._store is not None
        context.set_cert_store(self._store)


def clientOptions(profile: Profile, credentials: Credentials) -> ForHost:
    """
    For connections that we open: to hosts whose certificate is signed by
    C{ca}, or by a CA of the system's where that is empty, and names them.

    @raise CertificateError: these credentials cannot be used.
    """
    keys = keysOf(credentials)
    options = _ownOptions(profile, keys)
    if keys.cas:
        root = trustRootFromCertificates([Certificate(one) for one in keys.cas])
    else:
        root = _SystemCAs()
    # That our own certificate can be used.
    _usable(credentials, options)

    def forHost(host: str) -> IOpenSSLClientConnectionCreator:
        return optionsForClientTLS(
            host, trustRoot=root, extraCertificateOptions=dict(options)
        )

    return forHost


@implementer(IOpenSSLServerConnectionCreator)
class Accepting:
    """
    Connections that peers open.

    @param requireCertificate: they have to show one.
    """

    def __init__(self, profile: Profile, requireCertificate: bool = False) -> None:
        self._profile = profile
        self._requireCertificate = requireCertificate
        self._context: SSL.Context | None = None

    def prepare(self, credentials: Credentials) -> Callable[[], None]:
        """
        See whether these can be used; what is returned has new connections
        made with them. May be called in a thread.

        @raise CertificateError: they cannot be.
        """
        context = serverContext(self._profile, credentials, self._requireCertificate)

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
        return TLSMemoryBIOFactory(self, False, factory, clock)


class Connecting:
    """Connections that we open; without credentials, as nobody in particular."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._forHost = clientOptions(profile, Credentials("tls"))
        self._hosts: dict[str, IOpenSSLClientConnectionCreator] = {}

    def prepare(self, credentials: Credentials) -> Callable[[], None]:
        """
        See L{Accepting.prepare}.

        @raise CertificateError: likewise.
        """
        forHost = clientOptions(self._profile, credentials)

        def use() -> None:
            self._forHost = forHost
            self._hosts = {}

        return use

    def secure(
        self, host: str, endpoint: IStreamClientEndpoint
    ) -> IStreamClientEndpoint:
        """
        TLS over a connection to a host.

        @param host: a name or an IP address, which its certificate must have.
        """
        if host not in self._hosts:
            if len(self._hosts) >= _MOST_HOSTS:
                self._hosts = {}
            self._hosts[host] = self._forHost(host)
        secured: IStreamClientEndpoint = wrapClientTLS(self._hosts[host], endpoint)
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
