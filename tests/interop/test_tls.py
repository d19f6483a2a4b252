"""DICOM over TLS (PS3.15 B) with DCMTK's clients and pynetdicom's."""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pynetdicom import AE, build_role, evt
from twisted.trial.unittest import SynchronousTestCase

from tests.audit.reading import readFile
from tests.interop.files import makeCT
from tests.interop.receivers import keys
from tests.interop.running import HOST, PATIENCE, sharedFolder, twistdCommand
from tests.interop.test_largeretrieve import MIB, digestOf, makeLarge
from tests.interop.test_realfiles import NO_DELAY, dataSetOf
from tests.interop.tls import TLSServer
from tests.tls.making import issue, rsaKey

STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
CT = "1.2.840.10008.5.1.4.1.1.2"

_servers: dict[str, TLSServer] = {}

ADMINISTRATION = Path(__file__).parents[2] / "docs" / "administration.rst"

#: Short times, for peers that take theirs.
OTHERS = "[dicom]\nartim_timeout = 3\n"


def tlsServer(options: str = "") -> TLSServer:
    """One server for all tests that want the same options of C{[tls]}."""
    if options not in _servers:
        server = TLSServer(sharedFolder("tls"), options, OTHERS)
        atexit.register(server.stop)
        server.start()
        _servers[options] = server
    return _servers[options]


class TLSCase(SynchronousTestCase):
    """Tests of a server, none of which leaves a traceback in its log."""

    options = ""

    def setUp(self) -> None:
        self.server = tlsServer(self.options)
        self.begin = self.server.log.stat().st_size
        self.addCleanup(self.checkLog)

    def checkLog(self) -> None:
        """Nothing went wrong that was not foreseen, and others are served."""
        text = self.server.log.read_bytes()[self.begin :].decode(errors="replace")
        self.assertNotIn("Traceback", text)
        self.assertEqual(self.server.client("echoscu").status, 0)

    def waitForLine(self, words: str) -> str:
        """A line that is logged from the test's beginning on."""
        found = self.server.waitFor(
            re.compile(f"[^\\n]*{re.escape(words)}[^\\n]*"), self.begin
        )
        return found[0]

    def echo(self, *arguments: str, identity: str = "") -> int:
        """The exit status of C{echoscu} over TLS."""
        return self.server.secureClient("echoscu", *arguments, identity=identity).status

    def context(self) -> ssl.SSLContext:
        """Python's own TLS, as a client that trusts the server."""
        return ssl.create_default_context(cafile=str(self.server.folder / "ca.pem"))

    def connect(self) -> ssl.SSLSocket:
        """A connection with nothing said on it but for TLS."""
        plain = socket.create_connection((HOST, self.server.securePort), PATIENCE)
        return self.context().wrap_socket(plain, server_hostname=HOST)

    def shown(self) -> bytes:
        """The certificate that the server shows now."""
        with self.connect() as connection:
            found = connection.getpeercert(binary_form=True)
        assert found is not None
        return found


class ClientTests(TLSCase):
    """What a modality does, it does over TLS."""

    def store(self, *paths: Path) -> None:
        answer = self.server.secureClient(
            "storescu", "-d", *map(str, paths), identity="modality", env=NO_DELAY
        )
        self.assertEqual(answer.status, 0, answer.output)
        self.assertEqual(
            answer.output.count("DIMSE Status                  : 0x0000"), len(paths)
        )

    def get(self, study: str) -> tuple[list[int], dict[str, bytes]]:
        """A C-GET by pynetdicom: its statuses, and the data sets as they came."""
        found: dict[str, bytes] = {}

        def keep(event: Any) -> int:
            request = event.request
            found[str(request.AffectedSOPInstanceUID)] = request.DataSet.getvalue()
            return 0x0000

        client = AE("PYNETDICOM")
        client.add_requested_context(STUDY_GET)
        client.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = client.associate(
            HOST,
            self.server.securePort,
            ae_title=self.server.aeTitle,
            tls_args=(self.context(), HOST),
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, keep)],
        )
        self.assertTrue(association.is_established)
        asked = keys("STUDY", StudyInstanceUID=study)
        statuses = [
            status.Status for status, _ in association.send_c_get(asked, STUDY_GET)
        ]
        association.release()
        return statuses, found

    def test_echo(self) -> None:
        """With a certificate, and without one."""
        self.assertEqual(self.echo(), 0)
        self.assertEqual(self.echo(identity="modality"), 0)

    def test_profiles(self) -> None:
        """DCMTK's profiles that know TLS 1.2."""
        for profile in ("+py", "+px", "+pz"):
            self.assertEqual(self.echo(profile), 0, profile)
        # Of old, with AES in CBC mode only.
        self.assertNotEqual(self.echo("+pa"), 0)
        self.waitForLine("TLS: no cipher suite in common")

    def test_storeAndGet(self) -> None:
        """What is stored is found, and comes back byte for byte."""
        folder = Path(self.mktemp()).absolute()
        paths = makeCT(folder, 40)
        self.store(*paths)
        study = str(dcmread(paths[0]).StudyInstanceUID)
        answer = self.server.secureClient(
            "findscu",
            *("-S", "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", f"StudyInstanceUID={study}"),
            *("-k", "NumberOfStudyRelatedInstances"),
        )
        self.assertEqual(answer.values("(0020,1208)"), ["40"])
        statuses, found = self.get(study)
        self.assertEqual(statuses[-1], 0x0000)
        # As storescu has sent them: it does not read a file as bytes.
        stored = {p.stem: dataSetOf(p) for p in self.server.archived()}
        for path in paths:
            uid = str(dcmread(path).SOPInstanceUID)
            self.assertTrue(found.pop(uid) == stored[uid])
        self.assertEqual(found, {})

    def test_large(self) -> None:
        """An instance of 100 MB, in both directions."""
        study, path = makeLarge(Path(self.mktemp()).absolute(), 100 * MIB)
        self.store(path)
        statuses, found = self.get(study)
        self.assertEqual(statuses[-1], 0x0000)
        (data,) = found.values()
        self.assertEqual(sha256(data).digest(), digestOf(path))

    def test_manyAtOnce(self) -> None:
        """Eight clients at the same time."""
        folder = Path(self.mktemp()).absolute()
        clients = []
        for number in range(8):
            paths = makeCT(folder / str(number), 10)
            command = self.server.secureCommand("storescu", *map(str, paths))
            clients.append(subprocess.Popen(command, env=NO_DELAY))
        self.assertEqual([client.wait(PATIENCE) for client in clients], [0] * 8)


class RefusalTests(TLSCase):
    """Who cannot connect, and how the log says why."""

    def test_unknownServer(self) -> None:
        """A client that does not trust us."""
        other = Path(self.mktemp()).absolute()
        issue("another CA", key=rsaKey(3), isCA=True).write(other, "ca")
        answer = subprocess.run(
            [
                *self.server.secureCommand("echoscu")[:1],
                *("+tla", "+cf", str(other / "ca.pem"), "-aec", "D360PACS"),
                *(HOST, str(self.server.securePort)),
            ],
            capture_output=True,
            timeout=PATIENCE,
        )
        self.assertNotEqual(answer.returncode, 0)
        line = self.waitForLine("TLS: the peer refuses")
        self.assertIn("warn", line)
        self.assertIn(HOST, line)

    def test_plainToSecure(self) -> None:
        """A client that speaks plain DICOM is told to go at once."""
        answer = subprocess.run(
            [*self.server.secureCommand("echoscu")[:1]]
            + ["-aec", "D360PACS", HOST, str(self.server.securePort)],
            capture_output=True,
            timeout=PATIENCE,
        )
        self.assertNotEqual(answer.returncode, 0)
        self.waitForLine("TLS: the peer does not speak TLS")

    def test_secureToPlain(self) -> None:
        """And the other way round."""
        plain = socket.create_connection((HOST, self.server.port), PATIENCE)
        self.assertRaises(
            OSError, self.context().wrap_socket, plain, server_hostname=HOST
        )
        plain.close()

    def test_slow(self) -> None:
        """A handshake that does not begin, or stays in the middle, has 3 s."""
        recorded = ssl.MemoryBIO()
        tls = self.context().wrap_bio(ssl.MemoryBIO(), recorded, server_hostname=HOST)
        self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
        hello = recorded.read()
        for data in (b"", hello[: len(hello) // 2], hello):
            begin = time.monotonic()
            with socket.create_connection(
                (HOST, self.server.securePort), PATIENCE
            ) as peer:
                peer.sendall(data)
                try:
                    while peer.recv(65536):
                        """What it answers to a whole hello."""
                except ConnectionResetError:
                    pass
                seconds = time.monotonic() - begin
                self.assertGreater(seconds, 2.5, len(data))

    def test_vanish(self) -> None:
        """300 that connect, say half a word and go."""
        for _ in range(300):
            with socket.create_connection((HOST, self.server.securePort)) as peer:
                peer.sendall(b"\x16\x03\x01")
        self.assertEqual(self.echo(), 0)


class RequiredTests(TLSCase):
    """C{require_client_certificate}."""

    options = 'client_ca = "{folder}/ca.pem"\nrequire_client_certificate = true'

    def test_shown(self) -> None:
        """One of the CA's."""
        self.assertEqual(self.echo(identity="modality"), 0)

    def test_none(self) -> None:
        """Nothing is shown."""
        self.assertNotEqual(self.echo(), 0)
        self.waitForLine("TLS: the peer shows no certificate")

    def test_another(self) -> None:
        """Of another CA, and one that has expired."""
        issue("stranger", key=rsaKey(3)).write(self.server.folder, "stranger")
        self.server.issue("expired", days=-1)
        for name in ("stranger", "expired"):
            self.begin = self.server.log.stat().st_size
            self.assertNotEqual(self.echo(identity=name), 0)
            self.waitForLine("TLS: the peer's certificate is not to be trusted")

    def test_audited(self) -> None:
        """The audit trail has an alert for the first one (PS3.15 A.5.3.11)."""
        for _ in range(3):
            self.assertNotEqual(self.echo(), 0)
        path = self.server.folder / "data" / "audit" / "audit.log"
        deadline = time.monotonic() + PATIENCE
        while not (found := [one for one in readFile(path) if one.kind == "110113"]):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        alert = found[0]
        self.assertEqual((alert.type, alert.outcome), ("110126", "4"))
        self.assertIn(b"certificate", alert.details["Alert Description"])
        (about,) = alert.objects("110182")
        self.assertEqual(about.get("ParticipantObjectID"), HOST)


class RenewalTests(SynchronousTestCase):
    """A server whose certificate is made anew."""

    def test_renewed(self) -> None:
        """
        New connections see it after a SIGHUP, those that are open go on; what
        is broken changes nothing, and is said.
        """
        server = TLSServer(Path(self.mktemp()).absolute())
        self.addCleanup(server.stop)
        server.start()
        case = RefusalTests("test_vanish")
        case.server = server
        before = case.shown()
        open_ = case.connect()
        self.addCleanup(open_.close)
        renewed = server.issue("pacs")
        self.hangUp(server, "was read again")
        # To the workers it is a moment's way.
        deadline = time.monotonic() + PATIENCE
        while (after := case.shown()) == before:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        (state,) = server.get("/api/status")["certificates"]
        self.assertEqual(state["fingerprint"], renewed.fingerprint)
        self.assertEqual(state["days_left"], 89)
        (server.folder / "pacs.key").write_text("no key")
        self.hangUp(server, "stays as it was: tls.key has no private key")
        self.assertEqual(case.shown(), after)
        self.assertEqual(server.secureClient("echoscu").status, 0)
        open_.sendall(bytes(6))
        # An A-ABORT, for that was no PDU.
        self.assertEqual(open_.recv(1), b"\x07")
        self.assertEqual(server.stop(), 0)

    def hangUp(self, server: TLSServer, words: str) -> None:
        assert server.process is not None
        begin = server.log.stat().st_size
        os.kill(server.process.pid, signal.SIGHUP)
        server.waitFor(re.compile(re.escape(words)), begin)


class StartTests(SynchronousTestCase):
    """What is wrong is said in one line, at the start."""

    def refused(self, *lines: str, port: int = 2762, **files: str) -> str:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        path = folder / "d360.toml"
        path.write_text("\n".join(("workers = 1", "[tls]", f"port = {port}", *lines)))
        answer = subprocess.run(
            twistdCommand(
                f"--config={path}",
                f"--data-directory={folder / 'data'}",
                "--port=0",
                "--web-port=0",
            ),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(answer.returncode, 1)
        (line,) = [
            line for line in answer.stderr.splitlines() if "twistd d360:" in line
        ]
        self.assertNotIn("Traceback", answer.stderr + answer.stdout)
        return line

    def test_files(self) -> None:
        """Files that are missing, no PEM, or do not belong together."""
        own, other = issue("pacs"), issue("other")
        both = ('certificate = "own"', 'key = "key"')
        self.assertIn("cannot read tls.certificate", self.refused(*both, key=own.key))
        self.assertIn(
            "tls.certificate has no certificate in PEM",
            self.refused(*both, own="x", key=own.key),
        )
        self.assertIn(
            "tls.key is not the key", self.refused(*both, own=own.pem, key=other.key)
        )
        self.assertIn(
            "tls.port needs tls.certificate",
            self.refused(),
        )

    def test_inUse(self) -> None:
        """The port is another's."""
        own = issue("pacs")
        with socket.create_server((HOST, 0)) as other:
            line = self.refused(
                *('certificate = "own"', 'key = "own"'),
                port=other.getsockname()[1],
                own=own.pem + own.key,
            )
        self.assertIn("the port is in use", line)
        self.assertIn("by tls.port", line)


class DocumentedTests(SynchronousTestCase):
    """The commands of C{docs/administration.rst} that make certificates."""

    def test_commands(self) -> None:
        """A server takes what they make, and DCMTK trusts it."""
        folder = Path(self.mktemp()).absolute()
        server = TLSServer(folder)
        self.addCleanup(server.stop)
        text = ADMINISTRATION.read_text("utf-8").partition("Making certificates\n")[2]
        commands = re.findall(r"(?m)^    ((?:openssl|chmod) .*)$", text)[:4]
        self.assertEqual(len(commands), 4)
        for command in commands:
            subprocess.run(
                ["sh", "-c", command], cwd=folder, check=True, capture_output=True
            )
        server.start()
        self.assertEqual(server.secureClient("echoscu").status, 0)
        (state,) = server.get("/api/status")["certificates"]
        self.assertEqual((state["subject"], state["days_left"]), ("CN=pacs", 364))
