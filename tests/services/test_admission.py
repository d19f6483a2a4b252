"""Tests for L{d360.services.admission}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.errors import AssociationRejected
from d360.interfaces import IAdmission
from d360.model import AssociationRequest
from d360.services.admission import Admission
from tests.contracts.archive import checkSignatures


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
        self.assertIsNone(self.successResultOf(admission.admit(request, live)))

    def test_interface(self) -> None:
        """It provides what it says."""
        admission = Admission("D360PACS", False, 10)
        verifyObject(IAdmission, admission)
        checkSignatures(self, IAdmission, admission)

    def test_called(self) -> None:
        """Our AE title, letter by letter; another: 1,1,7."""
        admission = Admission("D360PACS", False, 10)
        self.admitted(admission, "D360PACS", 0)
        for called in ("d360pacs", "D360", "ANY-SCP", ""):
            self.assertEqual(self.rejected(admission, called, 0), (1, 1, 7))

    def test_anyCalled(self) -> None:
        """Any, if C{accept_any_called_ae} says so."""
        self.admitted(Admission("D360PACS", True, 10), "ANY-SCP", 0)

    def test_limit(self) -> None:
        """C{max_associations} may be open; one more: 2,3,2, transient."""
        for anyCalled in (False, True):
            admission = Admission("D360PACS", anyCalled, 2)
            self.admitted(admission, "D360PACS", 1)
            for live in (2, 3):
                self.assertEqual(self.rejected(admission, "D360PACS", live), (2, 3, 2))

    def test_why(self) -> None:
        """The log is told what to change."""
        request = AssociationRequest("MODALITY", "OTHER", ())
        for live, words in ((0, "'OTHER'"), (9, "max_associations = 2")):
            failing = Admission("D360PACS", False, 2).admit(request, live)
            self.assertIn(words, self.failureResultOf(failing).value.why)
