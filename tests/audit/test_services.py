"""Tests for L{d360.audit.services}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.audit.services import AuditedService, AuditedServices
from d360.audit.values import Peer
from d360.errors import AssociationAborted, DIMSEError
from d360.interfaces import IOperation, IServiceClass
from d360.model import Command
from tests.contracts.archive import checkSignatures
from tests.contracts.audit import FIND
from tests.contracts.memoryaudit import MemoryAudit
from tests.contracts.operation import FakeOperation

#: Requests (PS3.7 E.1).
C_STORE, C_FIND = 0x0001, 0x0020

MODALITY = Peer("MODALITY", "192.0.2.7")


@implementer(IServiceClass)
class Service:
    """
    See L{IServiceClass}.

    @ivar answer: what becomes of an operation.
    """

    sopClasses = frozenset({FIND.abstractSyntax})
    commandFields = frozenset({C_STORE, C_FIND})
    permission = None

    def __init__(self) -> None:
        self.answer: Callable[[], Deferred[None]] = lambda: succeed(None)

    def transferSyntaxesFor(self, sopClass: str) -> frozenset[str]:
        return frozenset({"1.2.840.10008.1.2"})

    def grantsSCPRole(self, sopClass: str) -> bool:
        return True

    def perform(self, operation: IOperation) -> Deferred[None]:
        reading = operation.readDataset(1000)
        return reading.addCallback(lambda _: self.answer())


class ServiceTests(SynchronousTestCase):
    """What a service class does, and who may not have it done."""

    def setUp(self) -> None:
        self.audit = MemoryAudit()
        self.service = Service()
        self.audited = AuditedService(self.service, self.audit)

    def perform(self, command: int) -> Deferred[None]:
        # (0008,0052) CS STUDY, implicit VR.
        data = b"\x08\0\x52\0\x06\0\0\0STUDY "
        operation: Any = FakeOperation(FIND, Command(command), data)
        return self.audited.perform(operation)

    def test_interface(self) -> None:
        verifyObject(IServiceClass, self.audited)
        checkSignatures(self, IServiceClass, self.audited)
        self.assertEqual(self.audited.sopClasses, Service.sopClasses)
        self.assertTrue(self.audited.grantsSCPRole(""))

    def test_queried(self) -> None:
        """A query is told of, with its identifier as it came."""
        self.successResultOf(self.perform(C_FIND))
        ((what, title, context, identifier, why),) = self.audit.calls
        self.assertEqual((what, title, why), ("queried", "MODALITY", ""))
        self.assertEqual(context, FIND)
        self.assertEqual(identifier, b"\x08\0\x52\0\x06\0\0\0STUDY ")

    def test_failed(self) -> None:
        """So is one that fails, and it fails as it did."""
        for error, why in (
            (DIMSEError(0xA700, "Database is not available"), "A700 Database is not"),
            (AssociationAborted(0, 0, "Rossi"), "AssociationAborted"),
        ):
            self.service.answer = lambda error=error: fail(error)  # type: ignore[misc]
            failure = self.failureResultOf(self.perform(C_FIND))
            self.assertIs(failure.value, error)
            self.assertTrue(self.audit.calls[-1][-1].startswith(why))
            self.assertNotIn("Rossi", self.audit.calls[-1][-1])

    def test_others(self) -> None:
        """What else there is, its service tells of itself."""
        self.successResultOf(self.perform(C_STORE))
        self.service.answer = lambda: fail(DIMSEError(0xA700, "full"))
        self.failureResultOf(self.perform(C_STORE), DIMSEError)
        self.assertEqual(self.audit.calls, [])

    def test_notPermitted(self) -> None:
        """PS3.7 Annex C, 0124: an alert, however it was raised."""

        def refuse() -> Deferred[None]:
            raise DIMSEError(0x0124, "Not permitted: store")

        self.service.answer = refuse
        self.failureResultOf(self.perform(C_STORE), DIMSEError)
        self.service.perform = lambda operation: refuse()  # type: ignore[method-assign]
        self.failureResultOf(self.perform(C_STORE), DIMSEError)
        expected = ("notPermitted", MODALITY, "Not permitted: store")
        self.assertEqual(self.audit.calls, [expected, expected])

    def test_registry(self) -> None:
        """Each service is found by what it serves, audited."""

        class Services:
            def serviceFor(_, abstractSyntax: str) -> IServiceClass | None:
                return self.service if abstractSyntax == FIND.abstractSyntax else None

        services = AuditedServices(Services(), self.audit)
        self.assertIsNone(services.serviceFor("1.2.3"))
        found = services.serviceFor(FIND.abstractSyntax)
        self.assertIsInstance(found, AuditedService)
        self.assertIs(services.serviceFor(FIND.abstractSyntax), found)
