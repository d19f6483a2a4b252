"""The service classes as data, and who serves what."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pydicom import uid as uids
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.interfaces import (
    IAssociation,
    IOperation,
    IServiceClass,
    ISupportedSyntaxes,
)
from d360.model import ALL_PERMISSIONS, Command, PresentationContext
from d360.services import sopclasses, transfersyntaxes
from d360.services.registry import ServiceRegistry
from d360.services.verification import VerificationService
from tests.contracts.archive import checkSignatures
from tests.contracts.operation import FakeOperation

#: Where nobody is asked what callers may do.
NOBODY: Any = None


class SOPClassTests(SynchronousTestCase):
    """Conformance 4.2.1."""

    def test_storage(self) -> None:
        """4.2.1.3: 109 rows, 105 UIDs, each by the keyword of PS3.6."""
        path = Path(__file__).with_name("storage_sop_classes.csv")
        with path.open() as file:
            rows = [(row["uid"], row["keyword"]) for row in csv.DictReader(file)]
        self.assertEqual(109, len(rows))
        self.assertEqual(105, len(sopclasses.STORAGE))
        self.assertEqual(dict(rows), sopclasses.STORAGE_KEYWORDS)

    def test_query(self) -> None:
        """4.2.1.4, 4.2.1.1."""
        self.assertEqual("1.2.840.10008.5.1.4.1.2.1.1", sopclasses.PATIENT_ROOT_FIND)
        self.assertEqual("1.2.840.10008.5.1.4.1.2.2.1", sopclasses.STUDY_ROOT_FIND)
        self.assertEqual("1.2.840.10008.1.1", sopclasses.VERIFICATION)

    def test_mayBeStorage(self) -> None:
        """Standard storage classes, and private ones."""
        for uid in (
            "1.2.840.10008.5.1.4.1.1.200.8",
            "1.2.840.10008.5.1.4.34.10",
            "1.2.840.10008.5.1.4.39.2",
            "1.3.12.2.1107.5.9.1",
        ):
            expected = uid != "1.2.840.10008.5.1.4.39.2"
            self.assertEqual(expected, sopclasses.mayBeStorage(uid), uid)
        for uid in (
            "1.2.840.10008.1.1",
            "1.2.840.10008.1.20.1",
            "1.2.840.10008.5.1.4.1.2.2.2",
            "1.2.840.10008.5.1.4.31",
            "1.2.840.10008.3.1.2.3.3",
            "not a uid",
        ):
            self.assertFalse(sopclasses.mayBeStorage(uid), uid)


class TransferSyntaxTests(SynchronousTestCase):
    """Conformance 6.2 and 7.2."""

    def test_stated(self) -> None:
        """20 of 6.2, 3 of 7.2, apart from what goes beyond."""
        self.assertEqual(20, len(transfersyntaxes.STORAGE_STATED))
        suffixes = [50, 51, 57, 70, 80, 81, 90, 91, 92, 93, *range(100, 107)]
        self.assertEqual(
            transfersyntaxes.QUERY
            | {f"1.2.840.10008.1.2.4.{suffix}" for suffix in suffixes},
            transfersyntaxes.STORAGE_STATED,
        )
        self.assertEqual(
            {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"},
            transfersyntaxes.QUERY,
        )

    def test_beyond(self) -> None:
        """None twice, and no JPIP."""
        self.assertFalse(
            transfersyntaxes.STORAGE_BEYOND & transfersyntaxes.STORAGE_STATED
        )
        for uid in transfersyntaxes.STORAGE:
            self.assertNotIn("JPIP", uids.UID(uid).name)
        suffixes = ["1.99", "5", "4.107", "4.108"]
        suffixes += ["4.110", "4.111", "4.112", "4.201", "4.202", "4.203"]
        self.assertEqual(
            {f"1.2.840.10008.1.2.{suffix}" for suffix in suffixes},
            transfersyntaxes.STORAGE_BEYOND,
        )


class Service(VerificationService):
    def __init__(self, *sopClasses: str) -> None:
        self.sopClasses = frozenset(sopClasses)

    def grantsSCPRole(self, sopClass: str) -> bool:
        return True


class RegistryTests(SynchronousTestCase):
    """Negotiation and dispatch agree (PS3.7 D.3)."""

    def test_services(self) -> None:
        one, two = Service("1.1", "1.2"), VerificationService()
        registry = ServiceRegistry([one, two], NOBODY)
        verifyObject(ISupportedSyntaxes, registry)
        verifyObject(IServiceClass, two)
        self.assertIs(one, registry.serviceFor("1.2"))
        self.assertIs(two, registry.serviceFor("1.2.840.10008.1.1"))
        self.assertIsNone(registry.serviceFor("1.3"))
        self.assertIsNone(registry.transferSyntaxesFor("1.3"))
        self.assertEqual(
            transfersyntaxes.QUERY, registry.transferSyntaxesFor("1.2.840.10008.1.1")
        )
        self.assertTrue(registry.grantsSCPRole("1.1", ALL_PERMISSIONS))
        self.assertFalse(registry.grantsSCPRole("1.2.840.10008.1.1", ALL_PERMISSIONS))
        self.assertFalse(registry.grantsSCPRole("1.3", ALL_PERMISSIONS))
        self.assertTrue(registry.grantsSCURole("1.1", frozenset()))
        self.assertFalse(registry.grantsSCURole("1.3", ALL_PERMISSIONS))

    def test_claimedTwice(self) -> None:
        """Two services of one SOP class are a mistake of ours."""
        with self.assertRaisesRegex(ValueError, "two services for SOP class 1.1"):
            ServiceRegistry([Service("1.1"), Service("1.1")], NOBODY)

    def test_fallback(self) -> None:
        """C{accept_unknown_storage}: any storage class, and nothing else."""
        storage = Service("1.1")
        registry = ServiceRegistry([storage, VerificationService()], NOBODY, storage)
        self.assertIs(storage, registry.serviceFor("1.2.840.10008.5.1.4.1.1.999"))
        self.assertIsNone(registry.serviceFor("1.2.840.10008.5.1.4.31"))
        other = "1.2.840.10008.5.1.4.1.1.999"
        self.assertTrue(registry.grantsSCPRole(other, ALL_PERMISSIONS))


class VerificationTests(SynchronousTestCase):
    """PS3.4 A.4: the SCP answers."""

    def test_echo(self) -> None:
        context = PresentationContext(1, "1.2.840.10008.1.1", "1.2.840.10008.1.2")
        operation = FakeOperation(context, Command(0x0030, "1.2.840.10008.1.1"))
        self.successResultOf(VerificationService().perform(operation))
        self.assertEqual([0x0000], operation.statuses())
        checkSignatures(self, IOperation, operation)
        checkSignatures(self, IAssociation, operation.association)
