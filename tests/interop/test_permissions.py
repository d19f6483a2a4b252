"""
What callers may do (PS3.8 Table 9-18, PS3.7 Annex C), as DCMTK's clients meet
it, and a peer that does what no client does.
"""

from __future__ import annotations

import atexit
from pathlib import Path

from pydicom.dataset import Dataset
from twisted.trial.unittest import SynchronousTestCase

from tests.interop import wire
from tests.interop.files import makeCT
from tests.interop.findset import many
from tests.interop.receivers import STUDY_GET, STUDY_MOVE
from tests.interop.running import HOST, Answer, RunningServer, sharedFolder
from tests.interop.test_worklist import WORKLIST
from tests.services.datasets import encode

NOT_AUTHORIZED = 0x0124

#: What findscu and the others say of a context that was refused.
REFUSED = "No Acceptable Presentation Contexts"

#: Each with a title of its own.
PERMISSIONS = ("store", "query", "retrieve", "worklist")

#: Contexts 1, 3, 5 and so on.
PROPOSALS = (
    wire.ECHO,
    wire.CT,
    wire.STUDY_FIND,
    STUDY_MOVE,
    STUDY_GET,
    WORKLIST,
    "1.2.3",
)

_servers: dict[str, RunningServer] = {}


def serverOf(options: str = "") -> RunningServer:
    """
    One that has a study, and knows an AE for each of the permissions, one for
    none, and one for all.

    @param options: lines of its configuration file.
    """
    if options not in _servers:
        folder = sharedFolder("permissions")
        path = folder / "d360.toml"
        path.write_text(options)
        server = RunningServer(folder, f"--config={path}")
        atexit.register(server.stop)
        server.start()
        for title in (*PERMISSIONS, "none"):
            permit(server, title.upper(), title)
        makeCT(folder / "files", 2)
        permit(server, "ANY", "store,query,retrieve,worklist")
        stored = server.store("-aet", "ANY", "+sd", str(folder / "files"))
        if stored.status:
            raise RuntimeError(stored.output)
        _servers[options] = server
    return _servers[options]


def permit(server: RunningServer, title: str, permissions: str) -> None:
    """Add a remote AE that may do so much; it listens nowhere."""
    added = server.ctl("ae", "add", title, HOST, "104", "--permissions", permissions)
    if added.status:
        raise RuntimeError(added.output)


class PermissionsCase(SynchronousTestCase):
    """Tests that call C{server} as somebody."""

    def setUp(self) -> None:
        self.server = serverOf()

    def query(self, title: str, model: str = "-S", level: str = "STUDY") -> Answer:
        """C{findscu}; the worklist has no level."""
        keys = [f"QueryRetrieveLevel={level}", "StudyInstanceUID"]
        if model == "-W":
            keys = ["PatientName"]
        given = [part for key in keys for part in ("-k", key)]
        return self.server.client("findscu", "-v", "-aet", title, model, *given)

    def store(self, title: str) -> Answer:
        """C{storescu}, of what is there already."""
        files = str(self.server.folder / "files")
        return self.server.store("-aet", title, "+sd", files)

    def retrieve(self, client: str, title: str, *options: str) -> Answer:
        """C{getscu} or C{movescu}, of the one study there is."""
        (study,) = self.server.get("/api/studies")["studies"]
        uid = study["StudyInstanceUID"]
        keys = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={uid}")
        given = [part for key in keys for part in ("-k", key)]
        return self.server.client(client, "-v", "-aet", title, "-S", *options, *given)

    def fetch(self, title: str) -> tuple[Answer, int]:
        """C{getscu}, and how many files it has got."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        answer = self.retrieve("getscu", title, "-od", str(folder))
        return answer, len(list(folder.iterdir()))

    def peer(self) -> wire.Peer:
        """One that writes each byte itself."""
        peer = wire.Peer(self.server)
        self.addCleanup(peer.socket.close)
        return peer


class ClientTests(PermissionsCase):
    """Each permission is for its own operations, and no other."""

    def test_store(self) -> None:
        for title in ("STORE", "ANY"):
            self.assertEqual(self.store(title).status, 0)
        for title in ("QUERY", "RETRIEVE", "WORKLIST", "NONE"):
            answer = self.store(title)
            self.assertNotEqual(answer.status, 0, title)
            self.assertIn(REFUSED, answer.output, title)

    def test_query(self) -> None:
        for title in ("QUERY", "ANY"):
            for model in ("-S", "-P"):
                self.assertIn("Success", self.query(title, model).output)
        for title in ("STORE", "RETRIEVE", "WORKLIST", "NONE"):
            for model in ("-S", "-P"):
                self.assertIn(REFUSED, self.query(title, model).output, title)

    def test_worklist(self) -> None:
        for title in ("WORKLIST", "ANY"):
            self.assertIn("Success", self.query(title, "-W").output)
        for title in ("STORE", "QUERY", "RETRIEVE", "NONE"):
            self.assertIn(REFUSED, self.query(title, "-W").output, title)

    def test_get(self) -> None:
        """C-GET needs storage contexts, but not to store."""
        for title in ("RETRIEVE", "ANY"):
            answer, files = self.fetch(title)
            self.assertEqual((answer.status, files), (0, 2), answer.output)
        for title in ("STORE", "QUERY", "WORKLIST", "NONE"):
            answer, files = self.fetch(title)
            self.assertEqual(files, 0)
            self.assertNotIn("Success", answer.output)

    def test_move(self) -> None:
        """To a destination that is known; what that may do is of no matter."""
        unreachable = self.retrieve("movescu", "RETRIEVE", "-aem", "NONE")
        self.assertNotIn(REFUSED, unreachable.output)
        self.assertIn("OutOfResourcesSubOperations", unreachable.output)
        for title in ("STORE", "QUERY", "WORKLIST", "NONE"):
            answer = self.retrieve("movescu", title, "-aem", "NONE")
            self.assertRegex(
                answer.output, "No (Acceptable|valid) Presentation Context"
            )
            self.assertNotIn("OutOfResources", answer.output)

    def test_echo(self) -> None:
        """Each may see whether the server is there."""
        for title in ("NONE", "STORE", "ANY", "STRANGER"):
            self.assertEqual(self.server.client("echoscu", "-aet", title).status, 0)

    def test_unknown(self) -> None:
        """Who is not known may do everything, unless it is configured."""
        self.assertEqual(self.store("STRANGER").status, 0)
        self.assertIn("Success", self.query("STRANGER").output)
        self.assertEqual(self.fetch("STRANGER")[1], 2)

    def test_changed(self) -> None:
        """With the next association, whichever process has it."""
        for _ in range(3):
            permit(self.server, "CHANGING", "query")
            for _ in range(3):
                self.assertIn("Success", self.query("CHANGING").output)
            permit(self.server, "CHANGING", "none")
            for _ in range(3):
                self.assertIn(REFUSED, self.query("CHANGING").output)
        self.server.ctl("ae", "remove", "CHANGING")
        self.assertIn("Success", self.query("CHANGING").output)


class DefaultTests(PermissionsCase):
    """C{dicom.default_permissions}."""

    def setUp(self) -> None:
        self.server = serverOf('[dicom]\ndefault_permissions = ["worklist"]\n')

    def test_others(self) -> None:
        """Who is not known may do so much; who is, what its entry says."""
        self.assertIn("Success", self.query("STRANGER", "-W").output)
        self.assertIn(REFUSED, self.query("STRANGER").output)
        self.assertIn(REFUSED, self.store("STRANGER").output)
        self.assertIn("Success", self.query("QUERY").output)
        self.assertIn(REFUSED, self.query("QUERY", "-W").output)
        settings = self.server.get("/api/settings")["settings"]
        self.assertEqual(settings["dicom.default_permissions"], ["worklist"])


class WireTests(PermissionsCase):
    """What stands in the A-ASSOCIATE-AC, and what comes all the same."""

    def results(self, title: str, user: bytes = b"") -> list[int]:
        """The results of the contexts, in their order (PS3.8 Table 9-18)."""
        peer = self.peer()
        accepted = peer.associate(
            [(uid, [wire.IMPLICIT]) for uid in PROPOSALS],
            calling=title,
            user=user,  # type: ignore[arg-type]
        )
        peer.release()
        return [accepted.results[2 * n + 1][0] for n in range(len(PROPOSALS))]

    def test_results(self) -> None:
        """1 for what it may not do, 3 for what there is not."""
        for title, results in (
            ("ANY", [0, 0, 0, 0, 0, 0, 3]),
            ("STORE", [0, 0, 1, 1, 1, 1, 3]),
            ("QUERY", [0, 1, 0, 1, 1, 1, 3]),
            ("RETRIEVE", [0, 1, 1, 0, 0, 1, 3]),
            ("WORKLIST", [0, 1, 1, 1, 1, 0, 3]),
            ("NONE", [0, 1, 1, 1, 1, 1, 3]),
        ):
            self.assertEqual(self.results(title), results, title)

    def test_roles(self) -> None:
        """PS3.7 D.3.3.4: to receive by C-GET, and not to store."""
        for scu in (0, 1):
            user = wire.role(wire.CT, scu, 1)
            self.assertEqual(self.results("RETRIEVE", user)[1], 0)
            self.assertEqual(self.results("QUERY", user)[1], 1)
            self.assertEqual(self.results("STORE", user)[1], 1 - scu)
            peer = self.peer()
            accepted = peer.associate(
                [(wire.CT, [wire.IMPLICIT])],
                calling="RETRIEVE",
                user=user,  # type: ignore[arg-type]
            )
            uid = wire.CT.encode()
            granted = bytes([0, len(uid)]) + uid + b"\0\1"
            self.assertEqual(accepted.user[0x54], [granted])

    def test_storeOverGet(self) -> None:
        """A C-STORE in a context that was accepted to receive: 0124, nothing kept."""
        before = self.server.entered()
        begin = self.server.log.stat().st_size
        peer = self.peer()
        peer.associate(
            [(wire.ECHO, [wire.IMPLICIT]), (wire.CT, [wire.IMPLICIT])],
            calling="RETRIEVE",
            user=wire.role(wire.CT, 1, 1),  # type: ignore[arg-type]
        )
        (dataset,) = many("FORBIDDEN", 1, 1)
        data = encode(dataset, wire.IMPLICIT)
        for number in (1, 2):
            peer.send(wire.store(3, number, wire.CT, dataset.SOPInstanceUID, data))
            response = peer.response()
            self.assertEqual(response.status, NOT_AUTHORIZED)
            self.assertEqual(response.messageID, number)
            self.assertEqual(response.text(0x902), "Not permitted: store")
        peer.send(wire.echo(1, 3))
        self.assertEqual(peer.response().status, 0)
        peer.release()
        self.assertEqual(self.server.entered(), before)
        self.assertEqual(self.server.incoming(), [])
        (line, *_) = self.server.linesOf("RETRIEVE may not do this", begin, 2)
        self.assertIn("d360ctl ae add", line)

    def test_refusedContext(self) -> None:
        """A message in a context that was refused breaks PS3.8, as always."""
        peer = self.peer()
        peer.associate([(wire.STUDY_FIND, [wire.IMPLICIT])], calling="STORE")
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        peer.send(wire.find(1, 1, wire.STUDY_FIND, encode(query, wire.IMPLICIT)))
        kind, body = peer.receive()
        self.assertEqual((kind, body[2]), (wire.ABORT, 2))

    def test_log(self) -> None:
        """Why a client finds no context, for who looks there."""
        begin = self.server.log.stat().st_size
        self.query("NONE")
        (line,) = self.server.linesOf("NONE may not use", begin, 1)
        self.assertIn("1 of the contexts", line)
        self.assertIn("d360ctl ae list", line)
