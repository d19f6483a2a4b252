"""
What the server accepts and refuses of an association, byte by byte (PS3.8
7.1.1, 9.3; PS3.7 Annex D; conformance 4.2).
"""

from __future__ import annotations

import csv
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import tests.services
from tests.interop import wire
from tests.interop.running import RunningServer, sharedServer
from tests.interop.wire import BIG_ENDIAN, CT, ECHO, EXPLICIT, IMPLICIT, Peer

#: Conformance 5.2, 7.2: Verification and queries.
UNCOMPRESSED = (IMPLICIT, EXPLICIT, BIG_ENDIAN)

#: Conformance 6.2: storage, in these ...
STATED = UNCOMPRESSED + tuple(
    f"1.2.840.10008.1.2.4.{n}"
    for n in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93, 100, 101, 102, 103, 104, 105, 106)
)
#: ... and in what the standard has added since: deflated, RLE, HEVC, JPEG XL,
#: High-Throughput JPEG 2000.
BEYOND = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5") + tuple(
    f"1.2.840.10008.1.2.4.{n}" for n in (107, 108, 110, 111, 112, 201, 202, 203)
)

#: JPIP Referenced: its pixels stay elsewhere.
JPIP = "1.2.840.10008.1.2.4.94"

QUERIES = (wire.PATIENT_FIND, wire.STUDY_FIND)

#: Results of a presentation context (PS3.8 Table 9-18).
ACCEPTANCE, NO_ABSTRACT_SYNTAX, NO_TRANSFER_SYNTAX = 0, 3, 4


def storageClasses() -> list[str]:
    """Conformance 4.2.1.3."""
    path = Path(tests.services.__file__).with_name("storage_sop_classes.csv")
    with path.open() as file:
        return sorted({row["uid"] for row in csv.DictReader(file)})


class NegotiationTestCase(SynchronousTestCase):
    """Talks to a running server."""

    def setUp(self) -> None:
        self.server = sharedServer()

    def open(self, server: RunningServer | None = None) -> Peer:
        """A connection, closed at the end."""
        peer = Peer(server or self.server)
        self.addCleanup(peer.socket.close)
        return peer

    def negotiate(self, *proposals: wire.Proposal) -> list[tuple[int, str]]:
        """Result and transfer syntax of each context proposed, in their order."""
        with Peer(self.server) as peer:
            accepted = peer.associate(proposals)
            peer.release()
        self.assertEqual(list(accepted.results), list(range(1, 2 * len(proposals), 2)))
        return list(accepted.results.values())

    def rejected(self, request: bytes) -> tuple[int, ...]:
        """Result, source and reason of the A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
        peer = self.open()
        peer.send(request)
        kind, body = peer.receive()
        self.assertEqual(kind, wire.REJECT)
        return tuple(body[1:])


class ContextTests(NegotiationTestCase):
    """Presentation contexts (PS3.8 9.3.3.2)."""

    def test_all(self) -> None:
        """
        Each SOP class of the statement is accepted with each of its transfer
        syntaxes.
        """
        classes = storageClasses()
        self.assertEqual(len(classes), 105)
        pairs = [(uid, syntax) for uid in classes for syntax in STATED + BEYOND]
        pairs += [(uid, syntax) for uid in (ECHO, *QUERIES) for syntax in UNCOMPRESSED]
        for at in range(0, len(pairs), 128):
            part = pairs[at : at + 128]
            results = self.negotiate(*((uid, [syntax]) for uid, syntax in part))
            self.assertEqual(
                results, [(ACCEPTANCE, syntax) for _, syntax in part], part
            )

    def test_unknownAbstractSyntax(self) -> None:
        """Not supported: 3, whatever the transfer syntax; the others stand."""
        results = self.negotiate(
            ("1.2.3.4", [IMPLICIT]),
            (ECHO, [IMPLICIT]),
            ("1.2.840.10008.5.1.4.1.1.200.8", [EXPLICIT]),
            ("1.2.840.10008.5.1.1.9", [IMPLICIT]),
        )
        self.assertEqual([result for result, _ in results], [3, 0, 3, 3])

    def test_unknownTransferSyntax(self) -> None:
        """None that is supported: 4."""
        jpeg = "1.2.840.10008.1.2.4.50"
        results = self.negotiate(
            (CT, ["1.2.3.4"]),
            (CT, [JPIP]),
            (ECHO, [jpeg]),
            (wire.STUDY_FIND, [jpeg, "1.2.3.4"]),
            (CT, ["1.2.3.4", jpeg]),
        )
        self.assertEqual([result for result, _ in results], [4, 4, 4, 4, 0])
        self.assertEqual(results[-1][1], jpeg)

    def test_sameAbstractSyntax(self) -> None:
        """Several contexts with one abstract syntax are each accepted."""
        results = self.negotiate(*((CT, [syntax]) for syntax in STATED))
        self.assertEqual(results, [(ACCEPTANCE, syntax) for syntax in STATED])

    def test_order(self) -> None:
        """Among those we accept, the proposer's order decides."""
        for syntaxes in (
            (EXPLICIT, IMPLICIT, BIG_ENDIAN),
            (BIG_ENDIAN, EXPLICIT, IMPLICIT),
            ("1.2.3.4", IMPLICIT, EXPLICIT),
        ):
            expected = next(uid for uid in syntaxes if uid != "1.2.3.4")
            for uid in (CT, ECHO, wire.PATIENT_FIND):
                ((result, syntax),) = self.negotiate((uid, syntaxes))
                self.assertEqual((result, syntax), (ACCEPTANCE, expected))

    def test_allRefused(self) -> None:
        """Nothing accepted is an A-ASSOCIATE-AC all the same."""
        ((result, _),) = self.negotiate(("1.2.3.4", [IMPLICIT]))
        self.assertEqual(result, NO_ABSTRACT_SYNTAX)
        ((result, _),) = self.negotiate((CT, ["1.2.3.4"]))
        self.assertEqual(result, NO_TRANSFER_SYNTAX)

    def test_contextIDs(self) -> None:
        """An even or a repeated context ID ends in an A-ABORT (PS3.8 9.3.2.2)."""
        for first, second in ((2, 3), (1, 1)):
            proposals = wire.proposal(first, ECHO, [IMPLICIT])
            proposals += wire.proposal(second, ECHO, [IMPLICIT])
            whole = wire.request([])
            # Behind the application context, 25 bytes at 74.
            body = whole[6:99] + proposals + whole[99:]
            peer = self.open()
            peer.send(wire.pdu(1, body))
            kind, abort = peer.receive()
            # AA-1, without an association: from the service user.
            self.assertEqual((kind, abort[2]), (wire.ABORT, 0))

    def test_served(self) -> None:
        """Each accepted context is served in its own transfer syntax."""
        with Peer(self.server) as peer:
            peer.associate([(ECHO, [s]) for s in UNCOMPRESSED])
            for contextID in (1, 3, 5):
                peer.send(wire.echo(contextID, contextID))
                response = peer.response()
                self.assertEqual((response.status, response.messageID), (0, contextID))
            peer.release()


class UserInformationTests(NegotiationTestCase):
    """What is said of ourselves, and granted (PS3.7 Annex D.3.3)."""

    def test_announced(self) -> None:
        """Conformance 4.3.1.4: maximum length and implementation."""
        with Peer(self.server) as peer:
            user = peer.associate([(ECHO, [IMPLICIT])]).user
        self.assertEqual(user[0x51], [(65534).to_bytes(4, "big")])
        self.assertEqual(user[0x52], [b"1.3.6.1.4.1.35672.0.3.6"])
        self.assertEqual(user[0x55], [b"D360-3-6"])

    def test_roles(self) -> None:
        """The SCP role is granted for storage, which C-GET needs."""
        roles = wire.role(CT, 1, 1) + wire.role(ECHO, 1, 1) + wire.role("1.2.3", 1, 1)
        with Peer(self.server) as peer:
            peer.send(
                wire.request(
                    [(CT, [EXPLICIT]), (ECHO, [IMPLICIT]), ("1.2.3", [IMPLICIT])],
                    user=roles,
                )
            )
            kind, body = peer.receive()
        self.assertEqual(kind, wire.ACCEPT)
        answered = wire.readAcceptance(body).user[0x54]
        self.assertIn(wire.role(CT, 1, 1)[4:], answered)
        self.assertIn(wire.role(ECHO, 1, 0)[4:], answered)
        self.assertEqual(len(answered), 2)

    def test_noRoles(self) -> None:
        """No role is answered to one who proposed none."""
        with Peer(self.server) as peer:
            self.assertNotIn(0x54, peer.associate([(CT, [EXPLICIT])]).user)

    def test_ignored(self) -> None:
        """
        An asynchronous operations window, a user identity and unknown items
        are passed over.
        """
        user = wire.item(0x53, b"\0\5\0\5")
        user += wire.item(0x58, b"\x01\x01\0\4user\0\0") + wire.item(0x5F, b"new")
        with Peer(self.server) as peer:
            peer.send(wire.request([(ECHO, [IMPLICIT])], user=user))
            kind, body = peer.receive()
            self.assertEqual(kind, wire.ACCEPT)
            self.assertEqual(sorted(wire.readAcceptance(body).user), [0x51, 0x52, 0x55])
            peer.send(wire.echo(1, 1))
            self.assertEqual(peer.response().status, 0)

    def test_peersMaximum(self) -> None:
        """No PDU is longer than what the peer receives (PS3.8 D.1)."""
        with Peer(self.server) as peer:
            peer.send(wire.request([(ECHO, [IMPLICIT])], maximum=64))
            peer.receive()
            peer.send(wire.echo(1, 1))
            lengths = []
            while True:
                kind, body = peer.receive()
                self.assertEqual(kind, wire.DATA)
                lengths.append(len(body))
                if body[5] & wire.LAST:
                    break
        self.assertGreater(len(lengths), 1)
        self.assertLessEqual(max(lengths), 64)
        self.assertEqual({length % 2 for length in lengths}, {0})


class RejectionTests(NegotiationTestCase):
    """A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    def test_calledAETitle(self) -> None:
        """Another called AE title: 1,1,7."""
        proposals = [(ECHO, [IMPLICIT])]
        for called in ("ANY-SCP", "d360pacs", "D360"):
            self.assertEqual(
                self.rejected(wire.request(proposals, called=called)), (1, 1, 7)
            )

    def test_spaces(self) -> None:
        """Spaces around an AE title do not count (PS3.5 6.2)."""
        with Peer(self.server) as peer:
            peer.associate([(ECHO, [IMPLICIT])], called="  D360PACS")
            peer.release()

    def test_applicationContext(self) -> None:
        """Another application context: 1,1,2."""
        request = wire.request([(ECHO, [IMPLICIT])], applicationContext="1.2.3")
        self.assertEqual(self.rejected(request), (1, 1, 2))

    def test_version(self) -> None:
        """A protocol version without bit 0: 1,2,2 (PS3.8 9.3.2)."""
        request = bytearray(wire.request([(ECHO, [IMPLICIT])]))
        request[6:8] = b"\0\2"
        self.assertEqual(self.rejected(bytes(request)), (1, 2, 2))
        request[6:8] = b"\xff\xff"
        peer = self.open()
        peer.send(bytes(request))
        self.assertEqual(peer.receive()[0], wire.ACCEPT)

    def test_callingAETitle(self) -> None:
        """One with a backslash, or none at all: 1,1,3."""
        for calling in ("A\\B", ""):
            request = wire.request([(ECHO, [IMPLICIT])], calling=calling)
            self.assertEqual(self.rejected(request), (1, 1, 3))

    def test_logged(self) -> None:
        """One line says why."""
        begin = self.server.log.stat().st_size
        self.rejected(wire.request([(ECHO, [IMPLICIT])], called="ELSEWHERE"))
        lines = self.server.linesOf("ended", begin, 1)
        self.assertEqual(len(lines), 1)
        self.assertIn("called AE title is 'ELSEWHERE'", lines[0])


class LimitTests(NegotiationTestCase):
    """C{max_associations}: further ones are rejected for the moment."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        path = folder / "d360.toml"
        path.write_text("[dicom]\nmax_associations = 2\n")
        self.server = RunningServer(folder, f"--config={path}")
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_limit(self) -> None:
        """The third gets 2,3,2 until one of the others has ended."""
        proposals = [(ECHO, [IMPLICIT])]
        first, second = self.open(), self.open()
        first.associate(proposals)
        second.associate(proposals)
        for _ in range(3):
            self.assertEqual(self.rejected(wire.request(proposals)), (2, 3, 2))
        first.release()
        third = self.open()
        third.associate(proposals)
        third.send(wire.echo(1, 1))
        self.assertEqual(third.response().status, 0)
        self.assertEqual(self.rejected(wire.request(proposals)), (2, 3, 2))
        second.socket.close()
        third.release()
