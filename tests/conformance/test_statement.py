"""
D360 and the statement of D360 Server 3.6, table by table. The tables are CSV
files beside this one. What D360 has beyond them, or lacks, is listed here with
the reason; nothing else may differ.
"""

from __future__ import annotations

import csv
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from d360 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from d360.attributes import REGISTRY, Attribute, Level
from d360.config import DICOM, load, options
from d360.conformance import facts
from d360.conformance.statuses import STATUSES
from d360.interfaces import IServiceClass
from d360.model import APPLICATION_CONTEXT
from d360.services import transfersyntaxes
from d360.services.matching import Root
from d360.services.sopclasses import STORAGE_KEYWORDS
from d360.transcoding import syntaxes
from d360.worklistattributes import STEP_SEQUENCE, WORKLIST, isOfStep

Row = dict[str, str]


def rows(name: str, section: str) -> list[Row]:
    """The rows of one table."""
    path = Path(__file__).with_name(f"{name}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["section"] == section]


class SOPClassTests(SynchronousTestCase):
    """4.2.1: SOP classes and roles."""

    #: SCU of what the statement has as SCP only.
    BEYOND = {
        # An administrator verifies a remote AE (architecture: aes/{aet}/echo).
        "1.2.840.10008.1.1": "SCU",
    }

    def roles(self, section: str) -> dict[str, tuple[bool, bool]]:
        return {
            row["uid"]: (row["scu"] == "Yes", row["scp"] == "Yes")
            for row in rows("sop_classes", section)
        }

    def test_served(self) -> None:
        """4.2.1.1 to 4.2.1.6, as SCP."""
        for section, service in (
            ("4.2.1.1", facts.VERIFICATION),
            ("4.2.1.2", facts.WORKLIST),
            ("4.2.1.3", facts.STORAGE),
            ("4.2.1.4", facts.FIND),
            ("4.2.1.5", facts.MOVE),
            ("4.2.1.6", facts.GET),
        ):
            stated = {uid for uid, (_, scp) in self.roles(section).items() if scp}
            self.assertEqual(stated, set(service.sopClasses), section)

    def test_requested(self) -> None:
        """As SCU: what C-MOVE and C-GET send, and what is listed above."""
        for section in ("4.2.1.5", "4.2.1.6"):
            stated = {uid for uid, (scu, _) in self.roles(section).items() if scu}
            self.assertEqual(stated | set(self.BEYOND), set(facts.REQUESTED))
        for section in ("4.2.1.1", "4.2.1.2", "4.2.1.3", "4.2.1.4"):
            self.assertFalse(any(scu for scu, _ in self.roles(section).values()))

    def test_keywords(self) -> None:
        """The names of 4.2.1.3 are those of the dictionary."""
        stated = {r["uid"]: r["keyword"] for r in rows("sop_classes", "4.2.1.3")}
        self.assertEqual(stated, STORAGE_KEYWORDS)

    def test_roleSelection(self) -> None:
        """The requestor may be the SCP of Storage only, which C-GET needs."""
        for service in facts.SERVICES:
            for uid in service.sopClasses:
                self.assertEqual(
                    service.grantsSCPRole(uid), service is facts.STORAGE, uid
                )


class TransferSyntaxTests(SynchronousTestCase):
    """5.2, 6.2, 7.2, 8.2, 9.2."""

    #: Stored beyond 6.2: data sets are kept as they come, so that newer
    #: encodings of the standard cost nothing.
    BEYOND = transfersyntaxes.STORAGE_BEYOND

    def test_accepted(self) -> None:
        """As SCP."""
        for section, service, beyond in (
            ("5.2", facts.WORKLIST, frozenset()),
            ("6.2", facts.STORAGE, self.BEYOND),
            ("7.2", facts.FIND, frozenset()),
            ("8.2", facts.MOVE, frozenset()),
            ("9.2", facts.GET, frozenset()),
        ):
            stated = {
                row["uid"]
                for row in rows("transfer_syntaxes", section)
                if "SCP" in row["role"]
            }
            self.assertFalse(stated & beyond)
            found = set(facts.transferSyntaxesOf(service))
            self.assertEqual(found, stated | beyond, section)

    def test_sent(self) -> None:
        """
        As SCU of Storage: whatever is uncompressed can be sent in each of
        them, and nothing is brought to any other.
        """
        for section in ("8.2", "9.2"):
            stated = {
                row["uid"]
                for row in rows("transfer_syntaxes", section)
                if "SCU" in row["role"]
            }
            self.assertEqual(set(syntaxes.TARGETS), stated)
            for source in transfersyntaxes.QUERY:
                targets = {source, *syntaxes.targetsOf(source)}
                self.assertEqual(targets, stated)

    def test_verification(self) -> None:
        """The statement has none for Verification; it is as with queries."""
        self.assertEqual(
            set(facts.transferSyntaxesOf(facts.VERIFICATION)), transfersyntaxes.QUERY
        )


#: What the statement calls its kinds of matching, and what is at least that.
AT_LEAST = {
    # Every wild card key matches single values; UIDs may also be lists.
    "Single value": {facts.SINGLE_VALUE, facts.LIST_OF_UID, facts.WILD_CARD},
    "Wildcard": {facts.WILD_CARD},
    "Range": {facts.RANGE},
}


class QueryKeyTests(SynchronousTestCase):
    """7.2.2.1: search keys of C-FIND."""

    #: Of a level's own attributes, beyond the statement's rows.
    BEYOND = {
        # Two hospitals' patients may have the same ID.
        Level.PATIENT: {"IssuerOfPatientID"},
        # A return key of most workstations' lists.
        Level.STUDY: {"ReferringPhysicianName"},
        # The statement returns them; what is indexed can be matched too.
        Level.SERIES: {
            "SeriesDescription",
            "SeriesDate",
            "SeriesTime",
            "Laterality",
            "BodyPartExamined",
            "PatientPosition",
            "AnatomicalOrientationType",
        },
        Level.IMAGE: {"InstanceCreationDate", "InstanceCreationTime"},
    }

    def stated(self, level: Level) -> dict[str, Row]:
        return {
            row["keyword"]: row
            for row in rows("search_keys", "7.2.2.1")
            if row["level"] == level.name
        }

    def test_levels(self) -> None:
        """All four, and all but PATIENT in the Study Root model."""
        self.assertEqual(
            {row["level"] for row in rows("search_keys", "7.2.2.1")},
            {level.name for level in Level},
        )
        self.assertEqual(Root.PATIENT.levels, tuple(Level))
        self.assertEqual(Root.STUDY.levels, (Level.STUDY, Level.SERIES, Level.IMAGE))

    def test_stated(self) -> None:
        """Each is matched, and at least as the statement has it."""
        for level in Level:
            supported = {a.keyword: a for a in facts.attributesAt(level)}
            for keyword, row in self.stated(level).items():
                attribute = supported[keyword]
                self.assertTrue(attribute.matched, keyword)
                self.assertEqual(attribute.vr, row["vr"], keyword)
                self.assertEqual(facts.tagOf(attribute), row["tag"])
                kind = facts.matchingOf(attribute)
                self.assertIn(kind, AT_LEAST[row["matching"]], keyword)

    def test_beyond(self) -> None:
        """Of each level's own attributes, nothing but what is listed above."""
        for level in Level:
            ours = {
                a.keyword for a in REGISTRY.attributes if a.level is level and a.matched
            }
            self.assertEqual(ours - set(self.stated(level)), self.BEYOND[level])

    def test_required(self) -> None:
        """Type R is required, and nothing else is."""
        for level in Level:
            stated = {k for k, row in self.stated(level).items() if row["type"] == "R"}
            required = {a.keyword for a in facts.requiredForFind(level)}
            self.assertEqual(required, stated)

    def test_upperLevels(self) -> None:
        """
        Keys of upper levels are matched too; the statement names only a few of
        them, but a query without them would make people ask twice.
        """
        self.assertIn(
            REGISTRY.byKeyword["PatientName"], facts.attributesAt(Level.IMAGE)
        )


class QueryAttributeTests(SynchronousTestCase):
    """7.2.2.2: what C-FIND returns."""

    #: As in L{QueryKeyTests}.
    BEYOND = {
        Level.PATIENT: {"IssuerOfPatientID"},
        Level.STUDY: {"ReferringPhysicianName"},
        Level.SERIES: set(),
        Level.IMAGE: set(),
    }

    def test_returned(self) -> None:
        """Each, with its tag and VR; of the level's own no other."""
        for level in Level:
            supported = {a.keyword: a for a in facts.attributesAt(level)}
            stated = set()
            for row in rows("return_attributes", "7.2.2.2"):
                if row["level"] == level.name:
                    stated.add(row["keyword"])
                    attribute = supported[row["keyword"]]
                    found = facts.tagOf(attribute), attribute.vr
                    self.assertEqual(found, (row["tag"], row["vr"]))
            ours = {a.keyword for a in REGISTRY.attributes if a.level is level}
            self.assertEqual(ours - stated, self.BEYOND[level])


class RetrieveKeyTests(SynchronousTestCase):
    """8.2.2.1 and 9.2.2.1: search keys of C-MOVE and C-GET."""

    #: At levels other than PATIENT: some workstations send it along, and then
    #: it must hold.
    BEYOND = {"PatientID"}

    def test_keys(self) -> None:
        """Each, required or not as stated."""
        for section in ("8.2.2.1", "9.2.2.1"):
            for level in Level:
                stated = {
                    row["keyword"]: row["type"] == "R"
                    for row in rows("search_keys", section)
                    if row["level"] == level.name
                }
                found = {
                    a.keyword: isRequired
                    for a, isRequired in facts.keysOfRetrieve(level).items()
                }
                for keyword in self.BEYOND - set(stated):
                    self.assertFalse(found.pop(keyword))
                self.assertEqual(found, stated, (section, level))

    def test_matching(self) -> None:
        """All are single values."""
        for section in ("8.2.2.1", "9.2.2.1"):
            for row in rows("search_keys", section):
                self.assertEqual(row["matching"], "Single value")


class WorklistTests(SynchronousTestCase):
    """5.2.2: search keys and return attributes of the worklist."""

    #: Matched beyond 5.2.2.1.
    BEYOND = {
        # Modalities ask for the one step, or study, that they have in hand.
        "ScheduledProcedureStepID",
        "StudyInstanceUID",
    }

    #: Returned beyond 5.2.2.2: the first is a key of 5.2.2.1, the others are
    #: those of PS3.4 Table K.6-1 that the statement does not have.
    ALSO_RETURNED = {
        "ScheduledPerformingPhysicianName",
        "AdmittingDate",
        "AdmittingDiagnosesCodeSequence",
        "AdmittingDiagnosesDescription",
        "AdmittingTime",
        "BreedRegistrationSequence",
        "CommentsOnTheScheduledProcedureStep",
        "ConfidentialityCode",
        "FillerOrderNumberImagingServiceRequest",
        "ImagingServiceRequestComments",
        "InstitutionAddress",
        "InstitutionCodeSequence",
        "InstitutionName",
        "IssueDateOfImagingServiceRequest",
        "IssueTimeOfImagingServiceRequest",
        "IssuerOfAccessionNumberSequence",
        "IssuerOfAdmissionIDSequence",
        "IssuerOfPatientID",
        "IssuerOfPatientIDQualifiersSequence",
        "NamesOfIntendedRecipientsOfResults",
        "OrderCallbackPhoneNumber",
        "OrderEnteredBy",
        "OrderEntererLocation",
        "OtherPatientIDsSequence",
        "PatientBreedCodeSequence",
        "PatientInstitutionResidence",
        "PatientInsurancePlanCodeSequence",
        "PatientPrimaryLanguageCodeSequence",
        "PatientSpeciesCodeSequence",
        "PlacerOrderNumberImagingServiceRequest",
        "QualityControlSubject",
        "ReasonForRequestedProcedureCodeSequence",
        "ReasonForTheRequestedProcedure",
        "ReferencedPatientSequence",
        "ReferencedStudySequence",
        "ReferringPhysicianIdentificationSequence",
        "ReportingPriority",
        "RequestedProcedureCodeSequence",
        "RequestedProcedureComments",
        "RequestedProcedureLocation",
        "RequestingPhysicianIdentificationSequence",
        "RequestingService",
        "RouteOfAdmissions",
        "ScheduledPerformingPhysicianIdentificationSequence",
        "ScheduledProcedureStepDescription",
        "ScheduledProcedureStepStatus",
        "ScheduledProtocolCodeSequence",
        "ScheduledSpecimenSequence",
        "StudyDate",
        "StudyTime",
        "TimezoneOffsetFromUTC",
        "TypeOfPatientID",
        "VisitComments",
        "VisitStatusID",
    }

    def place(self, row: Row) -> bool:
        """Whether a row is of the sequence."""
        self.assertIn(row["sequence"], ("", "ScheduledProcedureStepSequence"))
        return bool(row["sequence"])

    def found(self, row: Row) -> Attribute:
        attribute = WORKLIST.byKeyword[row["keyword"]]
        self.assertEqual(isOfStep(attribute), self.place(row), row)
        self.assertEqual(facts.tagOf(attribute), row["tag"])
        self.assertEqual(attribute.vr, row["vr"], row)
        return attribute

    def test_sequence(self) -> None:
        self.assertEqual(STEP_SEQUENCE, 0x00400100)

    def test_keys(self) -> None:
        """Each is matched, at least as stated; no others but those above."""
        stated = set()
        for row in rows("search_keys", "5.2.2.1"):
            attribute = self.found(row)
            stated.add(attribute.keyword)
            self.assertTrue(attribute.matched)
            kind = facts.matchingOf(attribute)
            self.assertIn(kind, AT_LEAST[row["matching"]], row)
        ours = {a.keyword for a in WORKLIST.attributes if a.matched}
        self.assertEqual(ours, stated | self.BEYOND)

    def test_returned(self) -> None:
        """All 58, in their places; no others but those above."""
        stated = [self.found(row) for row in rows("return_attributes", "5.2.2.2")]
        self.assertEqual(len(stated), 58)
        self.assertEqual(len(set(stated)), 58)
        ours = {a.keyword for a in WORKLIST.attributes}
        beyond = ours - {attribute.keyword for attribute in stated}
        self.assertEqual(beyond, self.ALSO_RETURNED)


class StatusTests(SynchronousTestCase):
    """5.2.3.1, 6.2.1.2, 7.2.2.3, 8.2.2.2, 9.2.2.2."""

    #: Sent beyond the statement.
    BEYOND = {
        # PS3.7 Annex C: an operation that the SOP class does not have, and one
        # that the requestor may not use.
        "C-STORE": {"0124", "0211"},
        "C-FIND": {"0124", "0211"},
        "C-MOVE": {"0124", "0211"},
        "C-GET": {"0124", "0211"},
    }

    #: Never sent.
    LACKING = {
        # No element is coerced or discarded, and a data set that does not match
        # its SOP class is refused (A900) and not stored with a warning.
        "C-STORE": {"B000", "B006", "B007"},
    }

    def test_statuses(self) -> None:
        """Code and class."""
        for section in ("5.2.3.1", "6.2.1.2", "7.2.2.3", "8.2.2.2", "9.2.2.2"):
            table = rows("statuses", section)
            service = table[0]["service"]
            stated = {row["code"]: row["kind"] for row in table}
            ours = {one.code: one.kind for one in STATUSES[service]}
            lacking = self.LACKING.get(service, set())
            self.assertEqual(set(stated) - set(ours), lacking, section)
            self.assertEqual(set(ours) - set(stated), self.BEYOND[service], section)
            for code in set(stated) - lacking:
                self.assertEqual(ours[code], stated[code], (section, code))

    def test_verification(self) -> None:
        """The statement has none but success for C-ECHO."""
        codes = [one.code for one in STATUSES["C-ECHO"]]
        self.assertEqual(codes, ["0000", "0110", "0211"])


class ParameterTests(SynchronousTestCase):
    """4.2.2 to 4.4: what is not in a table of many rows."""

    def test_identity(self) -> None:
        """4.2.2.1, 4.2.2.4."""
        self.assertEqual(APPLICATION_CONTEXT, "1.2.840.10008.3.1.1.1")
        self.assertEqual(IMPLEMENTATION_CLASS_UID, "1.3.6.1.4.1.35672.0.3.6")
        self.assertEqual(IMPLEMENTATION_VERSION, "D360-3-6")

    def test_defaults(self) -> None:
        """4.2.3, 4.2.5, 4.4.3."""
        dicom = load(None, {}).dicom
        self.assertEqual(dicom, DICOM())
        self.assertEqual(dicom.maxPDULength, 65534)
        self.assertEqual(dicom.address, "127.0.0.1")
        self.assertEqual(dicom.port, 104)
        self.assertEqual(dicom.aeTitle, "D360PACS")
        for key in ("dicom.address", "dicom.port", "dicom.ae_title"):
            self.assertIn(key, options())


class ServiceTests(SynchronousTestCase):
    """4.2.4: the services that are accepted."""

    def test_commands(self) -> None:
        """C-ECHO, C-FIND for queries and the worklist, C-STORE, C-MOVE, C-GET."""
        expected: dict[IServiceClass, set[int]] = {
            facts.VERIFICATION: {0x0030},
            facts.WORKLIST: {0x0020},
            facts.STORAGE: {0x0001},
            facts.FIND: {0x0020},
            facts.MOVE: {0x0021},
            facts.GET: {0x0010},
            facts.COMMITMENT: {0x0130},
        }
        for service in facts.SERVICES:
            self.assertEqual(set(service.commandFields), expected[service])
