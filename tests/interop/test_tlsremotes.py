"""Remote AEs over TLS: bound to certificates, and called by D360 (PS3.15 B)."""

from __future__ import annotations

import time
from pathlib import Path

from pydicom import dcmread

from tests.audit.reading import readFile
from tests.interop.files import makeCT
from tests.interop.receivers import StoreSCP, readRetrieved
from tests.interop.running import HOST, PATIENCE, Answer
from tests.interop.test_largeretrieve import MIB, digestOf, makeLarge
from tests.interop.test_realfiles import NO_DELAY, dataSetOf
from tests.interop.test_tls import TLSCase
from tests.interop.tls import TLSServer


class BoundTests(TLSCase):
    """Who calls by an AE title has to show its certificate."""

    def setUp(self) -> None:
        super().setUp()
        answer = self.server.ctl(
            *("ae", "add", "CT1", HOST, "104"),
            *("--certificate", self.server.modality.fingerprint.upper()),
        )
        self.assertEqual(answer.status, 0, answer.output)

    def echoAs(self, title: str, identity: str = "") -> Answer:
        return self.server.secureClient(
            "echoscu", "-d", "-aet", title, identity=identity
        )

    def test_shown(self) -> None:
        """It is it."""
        answer = self.echoAs("CT1", "modality")
        self.assertEqual(answer.status, 0, answer.output)

    def test_notShown(self) -> None:
        """1,1,3 over TLS without it, and without TLS."""
        answer = self.echoAs("CT1")
        self.assertIn("Calling AE Title Not Recognized", answer.output)
        self.waitForLine("none was shown: have it call the port of TLS")
        plain = self.server.client("echoscu", "-d", "-aet", "CT1")
        self.assertIn("Calling AE Title Not Recognized", plain.output)

    def test_another(self) -> None:
        """1,1,3; others may call as whom they like."""
        other = self.server.issue("other")
        answer = self.echoAs("CT1", "other")
        self.assertIn("Calling AE Title Not Recognized", answer.output)
        self.waitForLine(f"another was shown, {other.fingerprint}")
        self.assertEqual(self.echoAs("CT2", "other").status, 0)

    def test_unbound(self) -> None:
        """From the next association on."""
        self.server.ctl("ae", "add", "CT1", HOST, "104")
        self.assertEqual(self.echoAs("CT1").status, 0)


class CallingCase(TLSCase):
    """D360 opens associations over TLS."""

    def receiver(self, title: str, hosts: tuple[str, ...] = (HOST,)) -> StoreSCP:
        """storescp with TLS, which asks for our certificate, as a remote AE."""
        self.server.issue("receiver", hosts=hosts)
        folder = self.server.folder
        files = [str(folder / f"receiver.{kind}") for kind in ("key", "pem")]
        options = ("+tls", *files, "+cf", str(folder / "ca.pem"), "-pdu", "131072")
        receiver = StoreSCP(self, *options)
        answer = self.server.ctl(
            *("ae", "add", title, HOST, str(receiver.port), "--tls")
        )
        self.assertEqual(answer.status, 0, answer.output)
        return receiver


class ImpostorTests(CallingCase):
    """Somebody else is where a remote AE should be."""

    def setUp(self) -> None:
        # Of one's own, for of all that a host does in a minute there is one alert.
        self.server = TLSServer(Path(self.mktemp()).absolute())
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_audited(self) -> None:
        """The audit trail has who it should have been (PS3.15 A.5.3.11)."""
        self.receiver("WS2", ("192.0.2.1",))
        self.assertEqual(self.server.ctl("ae", "echo", "WS2").status, 1)
        path = self.server.folder / "data" / "audit" / "audit.log"
        deadline = time.monotonic() + PATIENCE
        while not (found := [m for m in readFile(path) if m.type == "110126"]):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        (alert,) = found
        _, who = alert.root.findall("ActiveParticipant")
        self.assertEqual(who.get("UserID"), "WS2")
        self.assertIn(b"not for the host", alert.details["Alert Description"])


class CalledTests(CallingCase):
    """To tell how they are, and to send to them."""

    def move(self, title: str, study: str) -> int:
        """The final status."""
        answer = self.server.client(
            *("movescu", "-d", "-S", "-aem", title, "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", f"StudyInstanceUID={study}"),
            env=NO_DELAY,
            timeout=PATIENCE,
        )
        return readRetrieved(answer.output)[-1].status

    def test_echo(self) -> None:
        """C{d360ctl ae echo}, and what it says if the host is another."""
        self.receiver("WS1")
        answer = self.server.ctl("ae", "echo", "WS1")
        self.assertEqual(answer.status, 0, answer.output)
        self.receiver("WS2", ("192.0.2.1",))
        answer = self.server.ctl("ae", "echo", "WS2")
        self.assertEqual(answer.status, 1)
        self.assertIn("not for the host", answer.output)

    def test_move(self) -> None:
        """C-MOVE: byte for byte."""
        receiver = self.receiver("WS3")
        paths = makeCT(Path(self.mktemp()).absolute(), 30)
        self.assertEqual(self.server.store(*map(str, paths)).status, 0)
        study = str(dcmread(paths[0]).StudyInstanceUID)
        self.assertEqual(self.move("WS3", study), 0x0000)
        stored = {p.stem: dataSetOf(p) for p in self.server.archived()}
        found = receiver.files()
        self.assertEqual(len(found), 30)
        for uid, path in found.items():
            self.assertTrue(dataSetOf(path) == stored[uid])

    def test_large(self) -> None:
        """So does an instance of 100 MB."""
        receiver = self.receiver("WS4")
        study, path = makeLarge(Path(self.mktemp()).absolute(), 100 * MIB)
        self.assertEqual(self.server.store(str(path)).status, 0)
        self.assertEqual(self.move("WS4", study), 0x0000)
        (received,) = receiver.files().values()
        self.assertEqual(digestOf(received), digestOf(path))

    def test_never(self) -> None:
        """A remote AE without TLS is not called without it."""
        receiver = StoreSCP(self)
        self.server.ctl("ae", "add", "WS5", HOST, str(receiver.port), "--tls")
        answer = self.server.ctl("ae", "echo", "WS5")
        self.assertEqual(answer.status, 1)
        paths = makeCT(Path(self.mktemp()).absolute(), 1)
        self.assertEqual(self.server.store(*map(str, paths)).status, 0)
        study = str(dcmread(paths[0]).StudyInstanceUID)
        self.assertEqual(self.move("WS5", study), 0xA702)
        self.assertEqual(receiver.files(), {})
