"""The Query service class, and its identifiers (PS3.4 C.4.1; conformance 7)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.errors import (
    AssociationEnded,
    DatabaseError,
    DatabaseUnavailable,
    DIMSEError,
)
from d360.interfaces import IServiceClass
from d360.model import Command, Match, PresentationContext, Query
from d360.services import answering
from d360.services.find import FindService
from d360.services.identifiers import Field, IdentifierEncoder
from tests.contracts.operation import FakeOperation
from tests.services.datasets import BIG_ENDIAN, EXPLICIT, IMPLICIT, encode

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"


class Index:
    """
    Gives the batches that it is told to.

    @ivar batches: tuples of matches, failures, or Deferreds.
    """

    def __init__(self, *batches: Any) -> None:
        self.batches = list(batches)
        self.queries: list[Query] = []
        self.asked = 0
        self.closed = 0

    def match(self, query: Query) -> Index:
        self.queries.append(query)
        return self

    def nextBatch(self) -> Deferred[tuple[Match, ...]]:
        self.asked += 1
        if not self.batches:
            return succeed(())
        batch = self.batches.pop(0)
        if isinstance(batch, Deferred):
            return batch
        if isinstance(batch, Exception):
            return fail(batch)
        return succeed(batch)

    def close(self) -> None:
        self.closed += 1


class FindCase(SynchronousTestCase):
    def operation(
        self,
        sopClass: str = STUDY_ROOT,
        transferSyntax: str = EXPLICIT,
        level: str = "STUDY",
        **keys: Any,
    ) -> FakeOperation:
        dataset = Dataset()
        dataset.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(dataset, keyword, value)
        context = PresentationContext(1, sopClass, transferSyntax)
        data = encode(dataset, transferSyntax)
        return FakeOperation(context, Command(0x0020, sopClass), data)

    def find(self, operation: FakeOperation, *batches: Any) -> Index:
        index = Index(*batches)
        self.successResultOf(FindService(index, "D360PACS").perform(operation))
        self.assertTrue(index.closed)
        return index

    def answers(self, operation: FakeOperation) -> list[Dataset]:
        syntax = UID(operation.context.transferSyntax)
        return [
            read_dataset(
                BytesIO(response.dataset),
                syntax.is_implicit_VR,
                syntax.is_little_endian,
            )
            for response in operation.responses
            if response.dataset is not None
        ]


class FindTests(FindCase):
    """C-FIND (PS3.4 C.4.1.2, C.4.1.3)."""

    def test_interface(self) -> None:
        service = FindService(Index(), "D360PACS")
        verifyObject(IServiceClass, service)
        self.assertEqual({STUDY_ROOT, PATIENT_ROOT}, service.sopClasses)
        self.assertEqual(3, len(service.transferSyntaxesFor(STUDY_ROOT)))
        self.assertFalse(service.grantsSCPRole(STUDY_ROOT))

    def test_answers(self) -> None:
        """The asked keys, and what stands in every answer."""
        for transferSyntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
            operation = self.operation(
                transferSyntax=transferSyntax, PatientName="R*", StudyDate=""
            )
            self.find(
                operation,
                (Match(("20240102", "Rossi^Anna")),),
                (Match(("20240103", "Rossi^Ugo")),),
            )
            self.assertEqual([0xFF00, 0xFF00, 0x0000], operation.statuses())
            first, second = self.answers(operation)
            self.assertEqual(
                "SpecificCharacterSet StudyDate QueryRetrieveLevel RetrieveAETitle "
                "InstanceAvailability PatientName",
                " ".join(element.keyword for element in first),
            )
            self.assertEqual("STUDY", first.QueryRetrieveLevel)
            self.assertEqual("D360PACS", first.RetrieveAETitle)
            self.assertEqual("ONLINE", first.InstanceAvailability)
            self.assertEqual("Rossi^Anna", first.PatientName)
            self.assertEqual("Rossi^Ugo", second.PatientName)
            self.assertIsNone(operation.responses[-1].dataset)

    def test_nothing(self) -> None:
        operation = self.operation(PatientID="nobody")
        self.find(operation)
        self.assertEqual([0x0000], operation.statuses())

    def test_unsupported(self) -> None:
        """Empty, and FF01 in place of FF00."""
        item = Dataset()
        item.CodeValue = "x"
        operation = self.operation(
            PatientComments="x", ProcedureCodeSequence=Sequence([item]), StudyID=""
        )
        self.find(operation, (Match(("7",)),))
        self.assertEqual([0xFF01, 0x0000], operation.statuses())
        (answer,) = self.answers(operation)
        self.assertEqual("7", answer.StudyID)
        self.assertFalse(answer.PatientComments)
        self.assertEqual(0, len(answer.ProcedureCodeSequence))

    def test_refused(self) -> None:
        """A900: no or another level, PATIENT in Study Root, a key missing."""
        for operation in (
            self.operation(level=""),
            self.operation(level="PATIENT"),
            self.operation(level="SERIES"),
        ):
            index = Index()
            failure = self.failureResultOf(
                FindService(index, "A").perform(operation), DIMSEError
            )
            self.assertEqual(0xA900, failure.value.status)
            self.assertTrue(failure.value.offendingElements)
            self.assertEqual([], index.queries)
        self.find(self.operation(PATIENT_ROOT, level="PATIENT"))

    def test_databaseAway(self) -> None:
        """A700, also in the middle."""
        for batches in ((), ((Match(("1",)),),)):
            index = Index(*batches, DatabaseUnavailable("away"))
            failure = self.failureResultOf(
                FindService(index, "A").perform(self.operation(StudyID="")), DIMSEError
            )
            self.assertEqual(0xA700, failure.value.status)
            self.assertTrue(index.closed)

    def test_databaseRefuses(self) -> None:
        """Such as after its time for one statement: A700, and no traceback."""
        operation = self.operation(StudyID="")
        index = Index(DatabaseError("statement timeout"))
        failure = self.failureResultOf(
            FindService(index, "A").perform(operation), DIMSEError
        )
        self.assertEqual(0xA700, failure.value.status)
        self.assertTrue(index.closed)

    def test_pages(self) -> None:
        """The next is asked for when the peer has taken the last."""
        self.patch(answering, "TOGETHER", 1)
        index = Index((Match(("1",)), Match(("2",))), (Match(("3",)),))
        operation = self.operation(StudyID="")
        operation.hold = True
        performed = FindService(index, "A").perform(operation)
        self.assertEqual((1, 1), (len(operation.responses), index.asked))
        operation.letGo()
        self.assertEqual((2, 1), (len(operation.responses), index.asked))
        operation.letGo()
        self.assertEqual((3, 2), (len(operation.responses), index.asked))
        operation.letGo()
        operation.letGo()
        self.successResultOf(performed)
        self.assertEqual([0xFF00] * 3 + [0x0000], operation.statuses())

    def test_associationEnds(self) -> None:
        index = Index((Match(("1",)),))
        operation = self.operation(StudyID="")
        operation.lost = AssociationEnded()
        self.failureResultOf(
            FindService(index, "A").perform(operation), AssociationEnded
        )
        self.assertTrue(index.closed)


class CancelTests(FindCase):
    """C-CANCEL (PS3.4 C.4.1.2.2): FE00, without identifier."""

    def test_whileSending(self) -> None:
        self.patch(answering, "TOGETHER", 1)
        index = Index(tuple(Match((str(n),)) for n in range(100)))
        operation = self.operation(StudyID="")
        operation.hold = True
        performed = FindService(index, "A").perform(operation)
        operation.letGo()
        operation.cancel()
        operation.hold = False
        operation.letGo()
        self.successResultOf(performed)
        self.assertEqual([0xFF00, 0xFF00, 0xFE00], operation.statuses())
        self.assertIsNone(operation.responses[-1].dataset)
        self.assertTrue(index.closed)

    def test_whileTheDatabaseWorks(self) -> None:
        """It is not waited for; what it says later is of no consequence."""
        for late in ((Match(("1",)),), DatabaseUnavailable("away")):
            slow: Deferred[Any] = Deferred()
            index = Index(slow)
            operation = self.operation(StudyID="")
            performed = FindService(index, "A").perform(operation)
            operation.cancel()
            self.successResultOf(performed)
            self.assertEqual([0xFE00], operation.statuses())
            self.assertTrue(index.closed)
            if isinstance(late, Exception):
                slow.errback(late)
            else:
                slow.callback(late)
            self.assertEqual([0xFE00], operation.statuses())

    def test_manyBatches(self) -> None:
        """What waits for a cancel does not grow with the answer."""
        waiting = []
        wait = FakeOperation.whenCancelled

        def whenCancelled(operation: FakeOperation) -> Deferred[None]:
            waiting.append(wait(operation))
            return waiting[0]

        self.patch(FakeOperation, "whenCancelled", whenCancelled)
        last: Deferred[Any] = Deferred()
        batches = [(Match((str(n),)),) for n in range(100)]
        operation = self.operation(StudyID="")
        performed = FindService(Index(*batches, last), "A").perform(operation)
        self.assertEqual(100, len(operation.responses))
        self.assertEqual(1, len(waiting))
        self.assertLess(len(waiting[0].callbacks), 4)
        operation.cancel()
        self.successResultOf(performed)
        self.assertEqual(0xFE00, operation.statuses()[-1])

    def test_nobodyWaitsAfterwards(self) -> None:
        operation = self.operation(StudyID="")
        self.find(operation, (Match(("1",)),))
        self.assertEqual([], operation._cancelWaiters)
        operation.cancel()
        self.assertEqual([0xFF00, 0x0000], operation.statuses())


class CharacterSetTests(FindCase):
    """Conformance 4.5: ISO_IR 100, and more where that is not enough."""

    def answer(self, name: str) -> Dataset:
        operation = self.operation(PatientName="")
        self.find(operation, (Match((name,)),))
        return self.answers(operation)[0]

    def test_sets(self) -> None:
        for name, expected in (
            ("Rossi^Anna", "ISO_IR 100"),
            ("Müller^Jörg", "ISO_IR 100"),
            ("Łukasz", "ISO_IR 192"),
            ("Yamada=山田", "ISO_IR 192"),
            ("", "ISO_IR 100"),
        ):
            answer = self.answer(name)
            self.assertEqual(expected, answer.SpecificCharacterSet)
            self.assertEqual(name, answer.PatientName)

    def test_noText(self) -> None:
        """Without an attribute that it applies to, there is none."""
        operation = self.operation(StudyDate="")
        self.find(operation, (Match(("20240101",)),))
        self.assertNotIn("SpecificCharacterSet", self.answers(operation)[0])


VALUES = {
    "PN": st.text("abcXYZ^ äöü山", max_size=20),
    "LO": st.text("abcXYZ äöü山", max_size=20),
    "CS": st.text("ABC_", max_size=10),
    "UI": st.from_regex(r"\A[1-9][0-9]{0,5}(\.[1-9][0-9]{0,5}){0,4}\Z"),
    "DA": st.sampled_from(["", "20240101"]),
    "TM": st.sampled_from(["", "101112.5"]),
    "IS": st.integers(0, 10**9).map(str),
    "SQ": st.just(""),
    "UN": st.just(""),
    "UT": st.text("abcäöü", max_size=20),
}
TAGS = {
    "PN": 0x00100010,
    "LO": 0x00100020,
    "CS": 0x00080060,
    "UI": 0x0020000D,
    "DA": 0x00080020,
    "TM": 0x00080030,
    "IS": 0x00200011,
    "SQ": 0x00081032,
    "UN": 0x00091001,
    "UT": 0x0040A160,
}


class EncoderTests(SynchronousTestCase):
    """Byte by byte what pydicom writes (PS3.5 chapter 7)."""

    @settings(max_examples=200, deadline=None)
    @given(
        st.fixed_dictionaries({}, optional=VALUES),
        st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN]),
    )
    def test_pydicom(self, values: dict[str, str], transferSyntax: str) -> None:
        fields, dataset = [Field(0x00080054, "AE", text="ME")], Dataset()
        dataset.RetrieveAETitle = "ME"
        values = {vr: text.rstrip() for vr, text in values.items()}
        for column, (vr, text) in enumerate(values.items()):
            empty = vr in ("SQ", "UN")
            fields.append(Field(TAGS[vr], vr, None if empty else column))
            dataset.add_new(TAGS[vr], vr, Sequence([]) if vr == "SQ" else text or None)
        if values.keys() & {"PN", "LO", "UT"}:
            try:
                "".join(values.values()).encode("latin-1")
                dataset.SpecificCharacterSet = "ISO_IR 100"
            except UnicodeEncodeError:
                dataset.SpecificCharacterSet = "ISO_IR 192"
        encoder = IdentifierEncoder(fields, transferSyntax)
        self.assertEqual(
            encode(dataset, transferSyntax), encoder.encode(list(values.values()))
        )

    def test_characterSetInItsPlace(self) -> None:
        """Elements are in the order of their tags."""
        encoder = IdentifierEncoder(
            [Field(0x00080001, "UL"), Field(0x00100020, "LO", 0)], EXPLICIT
        )
        self.assertEqual(
            b"\x08\x00\x01\x00UL\x00\x00\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
            b"\x10\x00\x20\x00LO\x02\x00P1",
            encoder.encode(["P1"]),
        )
