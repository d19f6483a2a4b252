"""Queries as SQL: what comes from outside is a parameter, always."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from d360.attributes import REGISTRY, Level
from d360.index import pages, rows, sql
from d360.index.sql import Statement
from d360.model import AnyOf, NameMatch, Nothing, Query, Range, Wildcard
from tests.contracts.instances import attribute, record

NAME = attribute("PatientName")
HOSTILE = "'; DROP TABLE studies; -- %s %"


class ConditionTests(SynchronousTestCase):
    """PS3.4 C.2.2.2."""

    def sql(self, *args: object, **kwargs: object) -> tuple[str, tuple[object, ...]]:
        statement = sql.conditionSQL(NameMatch(NAME, *args, **kwargs), False)  # type: ignore[arg-type]
        return statement.text, statement.parameters

    def test_nameByLikeAlone(self) -> None:
        """A wild card at an edge cannot leave its component group for worse."""
        for pattern, expected in (("*anna", "%anna=%"), ("*oss*", "%oss%")):
            text = "s.patient_name_key LIKE %s"
            self.assertEqual(self.sql((pattern,)), (text, (expected,)))

    def test_nameByItsBeginning(self) -> None:
        """In the first component group, or in another of a name that has some."""
        like = "s.patient_name_key LIKE %s"
        for pattern, first, other in (
            ("rossi", "=rossi=%", "%=rossi=%"),
            ("rossi*", "=rossi%", "%=rossi%"),
            ("100%_\\", "=100\\%\\_\\\\=%", "%=100\\%\\_\\\\=%"),
        ):
            self.assertEqual(
                self.sql((pattern,)),
                (f"({like} OR ({like} AND {like}))", (first, "=%=%=", other)),
            )

    def test_nameInAlternatives(self) -> None:
        """What every name with other groups has to fulfil is asked once."""
        like = "s.patient_name_key LIKE %s"
        self.assertEqual(
            self.sql(("rossi", "rossi^*")),
            (
                f"({like} OR {like} OR ({like} AND ({like} OR {like})))",
                ("=rossi=%", "=rossi^%", "=%=%=", "%=rossi=%", "%=rossi^%"),
            ),
        )

    def test_nameLooksAgain(self) -> None:
        """One within must not cross into the next group."""
        text, parameters = self.sql(("*a*b?.",))
        self.assertEqual(
            text, "(s.patient_name_key LIKE %s AND s.patient_name_key ~ %s)"
        )
        self.assertEqual(parameters, ("%a%b_.=%", "=[^=]*a[^=]*b[^=]\\.="))

    def test_nameInItsGroup(self) -> None:
        self.assertEqual(self.sql(("rossi*",), 0)[1], ("=rossi%",))
        self.assertEqual(
            self.sql(("山田*",), 1)[1], ("%=山田%=%", "^=(?:[^=]*=){1}山田[^=]*=")
        )

    def test_wildcard(self) -> None:
        self.assertEqual(
            sql.conditionSQL(Wildcard(attribute("PatientID"), ("a%_*?",)), True),
            Statement("p.patient_id LIKE %s", ("a\\%\\_%_",)),
        )

    def test_nothing(self) -> None:
        for condition in (Nothing(NAME), AnyOf(NAME, ()), NameMatch(NAME, ())):
            self.assertEqual(sql.conditionSQL(condition, False), Statement("FALSE"))

    def test_countsAreNoKeys(self) -> None:
        condition = AnyOf(attribute("NumberOfStudyRelatedSeries"), ("1",))
        self.assertRaises(ValueError, sql.conditionSQL, condition, False)

    def test_parametersOnly(self) -> None:
        """Not a character of a key gets into the text."""
        kinds = (
            AnyOf(NAME, (HOSTILE,)),
            AnyOf(NAME, (HOSTILE, "b")),
            Wildcard(attribute("StudyID"), (HOSTILE,)),
            NameMatch(NAME, (HOSTILE, "*" + HOSTILE + "?")),
            Range(attribute("StudyDate"), HOSTILE, HOSTILE),
        )
        for condition in kinds:
            query = Query(Level.STUDY, (condition,), REGISTRY.attributes[:7])
            for statement in (
                pages.found(query, 1, 1),
                pages.details(query, ["5"]),
                pages.probe(query, 1, 1),
                pages.walk(query, (5,) * pages.positionLength(query), 1),
                sql.firstSeries(query, 1),
                sql.instancesOf(query, [1], sql.START, 1),
                sql.namedInstances(query, sql.START, 1),
            ):
                self.assertNotIn("DROP", statement.text)
                self.assertEqual(
                    statement.text.count("%s"), len(statement.parameters), statement
                )


class RowTests(SynchronousTestCase):
    """Instances as rows."""

    def test_clean(self) -> None:
        self.assertEqual(rows.clean("a\0b"), "ab")
        self.assertEqual(rows.clean("é\udcff𝄞"), "é\ufffd𝄞")
        self.assertEqual(len(rows.clean("漢" * 9999)), rows.LONGEST)

    def test_identity(self) -> None:
        """Patient ID and issuer; where there is none, name, birth date and sex."""

        def identity(**elements: str) -> str:
            return rows.patientIdentity(record(**elements))

        self.assertEqual(identity(PatientID=" P1 "), identity(PatientName="Other"))
        self.assertNotEqual(identity(), identity(IssuerOfPatientID="X"))
        self.assertEqual(
            identity(PatientID="", PatientName="Müller", PatientBirthDate="2000.01.02"),
            identity(PatientID="", PatientName="muller^", PatientBirthDate="20000102"),
        )
        self.assertNotEqual(identity(PatientID=""), identity())
