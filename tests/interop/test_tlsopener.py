"""Associations that we open over TLS, with DCMTK's storescp."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from d360.dimse.opener import AssociationOpener
from d360.errors import AssociationEnded
from d360.model import RemoteAE
from d360.services.verification import VerificationSCU
from d360.tls.contexts import Connecting
from d360.tls.credentials import Credentials
from d360.tls.profiles import PROFILES
from d360.ul.settings import UpperLayerSettings
from tests.interop.receivers import StoreSCP
from tests.interop.running import HOST
from tests.tls.making import issue, rsaKey


class OpenerTests(TestCase):
    """C-ECHO to a remote AE that is to be reached over TLS."""

    timeout = 300

    def setUp(self) -> None:
        self.ca = issue("CA", key=rsaKey(0), isCA=True)
        self.ours = issue("pacs", self.ca, rsaKey(1))
        self.folder = Path(self.mktemp()).absolute()
        self.ca.write(self.folder, "ca")
        self.connecting = Connecting(PROFILES["bcp195"])
        settings = UpperLayerSettings(idleTimeout=5, answerTimeout=5, artim=5)
        self.opener = AssociationOpener(
            reactor, "D360PACS", settings, self.connecting.secure
        )

    def use(self, *own: str) -> None:
        self.connecting.prepare(Credentials("tls", *own, ca=self.ca.pem))()

    def receiver(self, hosts: tuple[str, ...] = (HOST,), *options: str) -> RemoteAE:
        """storescp with a certificate for these."""
        theirs = issue("receiver", self.ca, rsaKey(2), hosts=hosts)
        theirs.write(self.folder, "receiver")
        files = [str(self.folder / f"receiver.{kind}") for kind in ("key", "pem")]
        ca = ("+cf", str(self.folder / "ca.pem"))
        receiver = StoreSCP(self, "+tls", *files, *ca, *options)
        return RemoteAE("WS1", HOST, receiver.port, tls=True)

    async def echo(self, remote: RemoteAE) -> str:
        """How it went."""
        try:
            await VerificationSCU(self.opener, reactor).verify(remote)
        except AssociationEnded as ended:
            return str(ended)
        finally:
            self.opener.abortAll("the end of a test")
        return "answered"

    async def test_mutual(self) -> None:
        """It asks for a certificate by default, and we show ours."""
        remote = self.receiver()
        self.use(self.ours.pem, self.ours.key)
        self.assertEqual(await self.echo(remote), "answered")

    async def test_withoutOwn(self) -> None:
        """It asks for one, and we have none."""
        remote = self.receiver()
        self.use()
        self.assertIn("TLS: the peer refuses", await self.echo(remote))

    async def test_anonymous(self) -> None:
        """It does not mind."""
        remote = self.receiver((HOST,), "-vc")
        self.use()
        self.assertEqual(await self.echo(remote), "answered")

    async def test_anotherHost(self) -> None:
        """Its certificate is for another machine."""
        remote = self.receiver(("192.0.2.1", "ws1.example.org"))
        self.use(self.ours.pem, self.ours.key)
        self.assertIn("not for the host", await self.echo(remote))

    async def test_plain(self) -> None:
        """It does not speak TLS."""
        remote = RemoteAE("WS1", HOST, StoreSCP(self).port, tls=True)
        self.use()
        said = await self.echo(remote)
        self.assertNotEqual(said, "answered")
