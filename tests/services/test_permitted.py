"""Tests for L{d360.services.permitted}."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.errors import DatabaseUnavailable, DIMSEError
from d360.interfaces import ICallers, IOperation, IServiceClass
from d360.model import (
    ALL_PERMISSIONS,
    Command,
    EstablishedAssociation,
    Permission,
    PresentationContext,
)
from d360.services.find import FindService
from d360.services.permitted import PermittedService
from d360.services.registry import ServiceRegistry
from d360.services.retrieve import GetService, MoveService
from d360.services.sopclasses import (
    MODALITY_WORKLIST_FIND,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
)
from d360.services.storage import StorageService
from d360.services.verification import VerificationService
from d360.services.worklist import WorklistService
from tests.contracts.archive import checkSignatures
from tests.contracts.opener import OpenedAssociation
from tests.contracts.operation import FakeOperation

CT = "1.2.840.10008.5.1.4.1.1.2"
UNKNOWN = "1.2.840.10008.5.1.4.1.1.999"
IMPLICIT = "1.2.840.10008.1.2"

ESTABLISHED = EstablishedAssociation(
    False, "CT1", "D360PACS", "192.0.2.7", 16384, {}, permissions=frozenset()
)


class Storage(VerificationService):
    """A service that notes what it is to do."""

    sopClasses = frozenset({CT})
    commandFields = frozenset({0x0001})
    permission = Permission.STORE

    def __init__(self) -> None:
        self.performed: list[IOperation] = []

    def grantsSCPRole(self, sopClass: str) -> bool:
        return True

    def perform(self, operation: IOperation) -> Deferred[None]:
        self.performed.append(operation)
        return succeed(None)


@implementer(ICallers)
class Callers:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.answer: Deferred[frozenset[Permission]] = Deferred()
        self.asked: list[str] = []

    def permissionsOf(self, aeTitle: str) -> Deferred[frozenset[Permission]]:
        self.asked.append(aeTitle)
        return self.answer


class PermittedTests(SynchronousTestCase):
    """PS3.7 Annex C: 0124, Refused: Not authorized."""

    def setUp(self) -> None:
        self.storage = Storage()
        self.callers = Callers()
        self.service = PermittedService(self.storage, Permission.STORE, self.callers)

    def operation(self, permissions: frozenset[Permission] | None) -> FakeOperation:
        """One of an association that may do so much."""
        return FakeOperation(
            PresentationContext(1, CT, IMPLICIT),
            Command(0x0001, MessageID=1),
            association=OpenedAssociation(evolve(ESTABLISHED, permissions=permissions)),
        )

    def test_interface(self) -> None:
        """It is what it guards, other than that."""
        verifyObject(IServiceClass, self.service)
        checkSignatures(self, IServiceClass, self.service)
        verifyObject(ICallers, self.callers)
        self.assertEqual(self.service.sopClasses, {CT})
        self.assertEqual(self.service.commandFields, {0x0001})
        self.assertEqual(
            self.service.transferSyntaxesFor(CT), self.storage.transferSyntaxesFor(CT)
        )
        self.assertTrue(self.service.grantsSCPRole(CT))

    def test_permitted(self) -> None:
        for permissions in (ALL_PERMISSIONS, frozenset({Permission.STORE})):
            operation = self.operation(permissions)
            self.successResultOf(self.service.perform(operation))
            self.assertIs(self.storage.performed.pop(), operation)
        self.assertEqual(self.callers.asked, [])

    def test_notPermitted(self) -> None:
        """Not by another permission, either; the log says how it would be."""
        for permissions in (frozenset(), ALL_PERMISSIONS - {Permission.STORE}):
            operation = self.operation(permissions)
            error = self.assertRaises(DIMSEError, self.service.perform, operation)
            self.assertEqual(error.status, 0x0124)
            self.assertEqual(error.comment, "Not permitted: store")
            ((level, line),) = operation.log.events
            self.assertEqual(level, "warn")
            self.assertIn("CT1 may not", line)
            self.assertIn("d360ctl ae add", line)
        self.assertEqual(self.storage.performed, [])

    def test_notKnownYet(self) -> None:
        """The database was away when the association began: asked now."""
        operation = self.operation(None)
        performing = self.service.perform(operation)
        self.assertNoResult(performing)
        self.assertEqual(self.callers.asked, ["CT1"])
        self.assertEqual(self.storage.performed, [])
        self.callers.answer.callback(frozenset({Permission.STORE}))
        self.successResultOf(performing)
        self.assertEqual(self.storage.performed, [operation])
        self.callers.answer = succeed(frozenset({Permission.QUERY}))
        failure = self.failureResultOf(
            self.service.perform(self.operation(None)), DIMSEError
        )
        self.assertEqual(failure.value.status, 0x0124)
        self.assertEqual(len(self.storage.performed), 1)

    def test_stillNotKnown(self) -> None:
        """Out of resources, as each service class says it (PS3.4 B.2.3, C.4.2.1.5)."""
        for field, expected in (
            (0x0001, 0xA700),
            (0x0010, 0xA701),
            (0x0020, 0xA700),
            (0x0021, 0xA701),
            (0x0130, 0x0110),
        ):
            self.callers.answer = fail(DatabaseUnavailable("away"))
            operation = self.operation(None)
            operation.request = Command(field, MessageID=1)
            failure = self.failureResultOf(self.service.perform(operation), DIMSEError)
            self.assertEqual(failure.value.status, expected)
            self.assertEqual(failure.value.comment, "Database is not available")
        self.assertEqual(self.storage.performed, [])


class TableTests(SynchronousTestCase):
    """Which permission each service class needs, in negotiation and in dispatch."""

    def setUp(self) -> None:
        nothing: Any = None
        storage = StorageService(nothing, nothing, nothing, nothing)
        self.registry = ServiceRegistry(
            [
                VerificationService(),
                storage,
                FindService(nothing, ""),
                WorklistService(nothing),
                GetService(nothing, nothing, nothing),
                MoveService(nothing, nothing, nothing, nothing, nothing),
            ],
            Callers(),
            storage,
        )

    def test_permissions(self) -> None:
        for permission, abstractSyntaxes in (
            (Permission.STORE, (CT, UNKNOWN)),
            (Permission.QUERY, (PATIENT_ROOT_FIND, STUDY_ROOT_FIND)),
            (Permission.RETRIEVE, (PATIENT_ROOT_GET, STUDY_ROOT_GET, STUDY_ROOT_MOVE)),
            (Permission.WORKLIST, (MODALITY_WORKLIST_FIND,)),
        ):
            others = ALL_PERMISSIONS - {permission}
            for uid in abstractSyntaxes:
                service = self.registry.serviceFor(uid)
                assert service is not None
                self.assertIsInstance(service, PermittedService)
                self.assertIs(service.permission, permission)
                for granted, permissions in (
                    (True, frozenset({permission})),
                    (False, others),
                    (False, frozenset()),
                ):
                    found = self.registry.grantsSCURole(uid, permissions)
                    self.assertIs(found, granted, uid)

    def test_verification(self) -> None:
        """Anybody may see whether we are there."""
        self.assertTrue(self.registry.grantsSCURole(VERIFICATION, frozenset()))

    def test_receiving(self) -> None:
        """C-GET: the SCP role of storage is for those who may retrieve."""
        for uid in (CT, UNKNOWN):
            retrieve = frozenset({Permission.RETRIEVE})
            self.assertTrue(self.registry.grantsSCPRole(uid, retrieve))
            others = ALL_PERMISSIONS - retrieve
            self.assertFalse(self.registry.grantsSCPRole(uid, others))
