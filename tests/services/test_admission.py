"""Tests for L{d360.services.admission}."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.errors import AssociationRejected, DatabaseError
from d360.interfaces import IAdmission, ICallers, IRemoteAEs
from d360.model import ALL_PERMISSIONS, AssociationRequest, Permission, RemoteAE
from d360.services.admission import Admission
from tests.contracts.archive import checkSignatures
from tests.contracts.memoryremoteaes import MemoryRemoteAEs


class AdmissionTests(SynchronousTestCase):
    """Who may open an association (PS3.8 9.3.4, conformance 4.2.4)."""

    def rejected(
        self, admission: Admission, called: str, live: int
    ) -> tuple[int, int, int]:
        """What the A-ASSOCIATE-RJ says."""
        request = AssociationRequest("MODALITY", called, ())
        failure = self.failureResultOf(
            admission.admit(request, live), AssociationRejected
        )
        error = failure.value
        return error.result, error.source, error.reason

    def admitted(self, admission: Admission, called: str, live: int) -> None:
        request = AssociationRequest("MODALITY", called, ())
        permissions = self.successResultOf(admission.admit(request, live))
        self.assertEqual(permissions, ALL_PERMISSIONS)

    def test_interface(self) -> None:
        """It provides what it says."""
        admission = Admission("D360PACS", False, 10, MemoryRemoteAEs())
        for interface in (IAdmission, ICallers):
            verifyObject(interface, admission)
            checkSignatures(self, interface, admission)

    def test_called(self) -> None:
        """Our AE title, letter by letter; another: 1,1,7."""
        admission = Admission("D360PACS", False, 10, MemoryRemoteAEs())
        self.admitted(admission, "D360PACS", 0)
        for called in ("d360pacs", "D360", "ANY-SCP", ""):
            self.assertEqual(self.rejected(admission, called, 0), (1, 1, 7))

    def test_anyCalled(self) -> None:
        """Any, if C{accept_any_called_ae} says so."""
        admission = Admission("D360PACS", True, 10, MemoryRemoteAEs())
        self.admitted(admission, "ANY-SCP", 0)

    def test_limit(self) -> None:
        """C{max_associations} may be open; one more: 2,3,2, transient."""
        for anyCalled in (False, True):
            admission = Admission("D360PACS", anyCalled, 2, MemoryRemoteAEs())
            self.admitted(admission, "D360PACS", 1)
            for live in (2, 3):
                self.assertEqual(self.rejected(admission, "D360PACS", live), (2, 3, 2))

    def test_share(self) -> None:
        """Others admit the rest of them; the peer hears the same."""
        admission = Admission("D360PACS", False, 10, MemoryRemoteAEs(), share=2)
        self.admitted(admission, "D360PACS", 1)
        self.assertEqual(self.rejected(admission, "D360PACS", 2), (2, 3, 2))

    def test_why(self) -> None:
        """The log is told what to change."""
        request = AssociationRequest("MODALITY", "OTHER", ())
        for live, words in ((0, "'OTHER'"), (9, "max_associations = 2")):
            admission = Admission("D360PACS", False, 2, MemoryRemoteAEs())
            failing = admission.admit(request, live)
            self.assertIn(words, self.failureResultOf(failing).value.why)


class PermissionTests(SynchronousTestCase):
    """What those may do that are admitted."""

    def setUp(self) -> None:
        self.known = MemoryRemoteAEs(
            RemoteAE("WS1", "127.0.0.1", 104),
            RemoteAE("CT1", "127.0.0.1", 104, frozenset({Permission.STORE})),
            RemoteAE("NONE", "127.0.0.1", 104, frozenset()),
        )

    def permissions(self, calling: str, **options: Any) -> frozenset[Permission] | None:
        """What it may."""
        admission = Admission("D360PACS", False, 10, self.known, **options)
        request = AssociationRequest(calling, "D360PACS", ())
        permissions: frozenset[Permission] | None = self.successResultOf(
            admission.admit(request, 0)
        )
        if permissions is not None:
            asked = self.successResultOf(admission.permissionsOf(calling))
            self.assertEqual(asked, permissions)
        return permissions

    def test_known(self) -> None:
        """As their entries say, whatever others may."""
        for options in (
            {},
            {"requireKnown": True},
            {"default": frozenset()},
        ):
            self.assertEqual(self.permissions("WS1", **options), ALL_PERMISSIONS)
            self.assertEqual(self.permissions("CT1", **options), {Permission.STORE})
            self.assertEqual(self.permissions("NONE", **options), frozenset())

    def test_others(self) -> None:
        """C{default_permissions}; titles are compared letter by letter."""
        query = frozenset({Permission.QUERY})
        for calling in ("OTHER", "ct1", "CT"):
            self.assertEqual(self.permissions(calling), ALL_PERMISSIONS)
            self.assertEqual(self.permissions(calling, default=query), query)

    def test_change(self) -> None:
        """Seen by the next association."""
        self.permissions("CT1")
        self.successResultOf(self.known.put(RemoteAE("CT1", "127.0.0.1", 104)))
        self.assertEqual(self.permissions("CT1"), ALL_PERMISSIONS)
        self.successResultOf(self.known.remove("CT1"))
        self.assertEqual(self.permissions("CT1", default=frozenset()), frozenset())

    def test_databaseAway(self) -> None:
        """
        Admitted all the same, for a C-ECHO needs no database and a modality
        is to hear A700; nobody is taken for one who may do all.
        """
        self.known.away = True
        self.assertIsNone(self.permissions("CT1"))
        self.assertIsNone(self.permissions("OTHER", default=frozenset()))
        admission = Admission("D360PACS", False, 10, self.known)
        self.failureResultOf(admission.permissionsOf("CT1"), DatabaseError)


class KnownCallersTests(SynchronousTestCase):
    """C{require_known_callers}."""

    def setUp(self) -> None:
        self.known = MemoryRemoteAEs(RemoteAE("WS1", "127.0.0.1", 104))
        self.admission = self.make(self.known)

    def make(self, known: IRemoteAEs) -> Admission:
        return Admission("D360PACS", False, 10, known, requireKnown=True)

    def rejected(self, calling: str, called: str = "D360PACS", live: int = 0) -> str:
        """The numbers of the A-ASSOCIATE-RJ, and what the log says."""
        request = AssociationRequest(calling, called, ())
        failure = self.failureResultOf(
            self.admission.admit(request, live), AssociationRejected
        )
        return str(failure.value)

    def test_known(self) -> None:
        """Those in the list, at once after they were added."""
        request = AssociationRequest("WS2", "D360PACS", ())
        self.rejected("WS2")
        self.successResultOf(self.known.put(RemoteAE("WS2", "127.0.0.1", 104)))
        self.successResultOf(self.admission.admit(request, 0))
        self.successResultOf(self.known.remove("WS2"))
        self.rejected("WS2")

    def test_unknown(self) -> None:
        """1,1,3 for another, letter by letter; the log says what to do."""
        for calling in ("WS2", "ws1", "WS", "*"):
            text = self.rejected(calling)
            self.assertIn("rejected 1,1,3", text)
            self.assertIn(repr(calling), text)
            self.assertIn("d360ctl ae add", text)

    def test_certificate(self) -> None:
        """Who is known has to show its certificate all the same."""
        self.known = MemoryRemoteAEs(
            RemoteAE("WS1", "127.0.0.1", 104, certificate="ab" * 32)
        )
        self.admission = self.make(self.known)
        self.assertIn("rejected 1,1,3", self.rejected("WS1"))

    def test_othersFirst(self) -> None:
        """Neither room nor the called AE title needs the list."""
        self.known.away = True
        self.assertIn("rejected 1,1,7", self.rejected("WS1", called="OTHER"))
        self.assertIn("rejected 2,3,2", self.rejected("WS1", live=10))

    def test_databaseAway(self) -> None:
        """2,3,1, transient: whether it is known cannot be said now."""
        self.known.away = True
        self.assertIn("rejected 2,3,1", self.rejected("WS1"))

        class Refusing(MemoryRemoteAEs):
            def get(self, aeTitle: str) -> Deferred[RemoteAE | None]:
                return fail(DatabaseError("refused"))

        self.admission = self.make(Refusing())
        self.assertIn("rejected 2,3,1", self.rejected("WS1"))

    def test_cancelled(self) -> None:
        """The requestor is gone before the answer."""
        self.known.waiter = Deferred()
        request = AssociationRequest("WS1", "D360PACS", ())
        admitting = self.admission.admit(request, 0)
        self.assertNoResult(admitting)
        admitting.cancel()
        self.failureResultOf(admitting, CancelledError)


class CertificateTests(SynchronousTestCase):
    """AE titles that are bound to a certificate (PS3.15 B)."""

    mine, another = "ab" * 32, "cd" * 32

    def setUp(self) -> None:
        self.known = MemoryRemoteAEs(
            RemoteAE("CT1", "127.0.0.1", 104, certificate=self.mine),
            RemoteAE("WS1", "127.0.0.1", 104),
        )
        self.admission = Admission("D360PACS", False, 10, self.known)

    def admit(self, calling: str, certificate: str = "") -> Deferred[None]:
        request = AssociationRequest(calling, "D360PACS", (), certificate=certificate)
        return self.admission.admit(request, 0)

    def rejected(self, calling: str, certificate: str = "") -> str:
        admitting = self.admit(calling, certificate)
        return str(self.failureResultOf(admitting, AssociationRejected).value)

    def test_shown(self) -> None:
        """It calls with its own."""
        self.successResultOf(self.admit("CT1", self.mine))

    def test_notShown(self) -> None:
        """1,1,3 without TLS, or without a certificate; the log says what to do."""
        text = self.rejected("CT1")
        self.assertIn("rejected 1,1,3", text)
        self.assertIn("'CT1'", text)
        self.assertIn("none was shown", text)
        self.assertIn("port of TLS", text)

    def test_another(self) -> None:
        """1,1,3; the log has the other one, should it be the new one."""
        text = self.rejected("CT1", self.another)
        self.assertIn("rejected 1,1,3", text)
        self.assertIn(self.another, text)
        self.assertIn("d360ctl ae add", text)

    def test_notBound(self) -> None:
        """Others may show what they like, or nothing."""
        for calling in ("WS1", "WS2"):
            for certificate in ("", self.mine, self.another):
                self.successResultOf(self.admit(calling, certificate))

    def test_databaseAway(self) -> None:
        """
        Whoever calls is told so by each operation; and one that is bound may do
        nothing later, for nobody has seen what it showed.
        """
        self.known.away = True
        self.assertIsNone(self.successResultOf(self.admit("CT1")))
        self.known.away = False
        for title, permissions in (("CT1", frozenset()), ("WS1", ALL_PERMISSIONS)):
            asking = self.admission.permissionsOf(title)
            self.assertEqual(self.successResultOf(asking), permissions)

    def test_certain(self) -> None:
        """Unless it has to be certain: 2,3,1, transient."""
        self.admission = Admission("D360PACS", False, 10, self.known, certain=True)
        self.known.away = True
        self.assertIn("rejected 2,3,1", self.rejected("CT1", self.mine))
