"""
The registry of the worklist's attributes: each one is listed once, with where
it stands, its value representation and whether it is matched (PS3.4 Table
K.6-1; conformance 5.2.2.1, 5.2.2.2). And how the attributes of a worklist
item, which are in the DICOM JSON Model (PS3.18 F.2), are read by it.

An attribute's level tells its place: C{Level.SERIES} is that of a scheduled
procedure step, inside the Scheduled Procedure Step Sequence; C{Level.PATIENT}
and C{Level.STUDY}, the latter for visit, imaging service request and requested
procedure, are outside of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from d360.attributes import Attribute, Level, Registry, dateKey, timeKey

#: The Scheduled Procedure Step Sequence.
STEP_SEQUENCE = 0x00400100

# Keyword, tag, VR, and a + for what is matched. The first block of each place
# is of the conformance statement, the second of the standard.
_PATIENT = """
PatientName 00100010 PN +
PatientID 00100020 LO +
PatientBirthDate 00100030 DA +
PatientSex 00100040 CS +
OtherPatientIDs 00101000 LO
PatientMotherBirthName 00101060 PN
MedicalRecordLocator 00101090 LO
PatientAge 00101010 AS
Occupation 00102180 SH
ConfidentialityConstraintOnPatientDataDescription 00403001 LO
PatientBirthTime 00100032 TM
BranchOfService 00101081 LO
CountryOfResidence 00102150 LO
RegionOfResidence 00102152 LO
PatientTelephoneNumbers 00102154 SH
PatientReligiousPreference 001021F0 LO
ResponsiblePerson 00102297 PN
ResponsiblePersonRole 00102298 CS
ResponsibleOrganization 00102299 LO
PatientSpeciesDescription 00102201 LO
PatientBreedDescription 00102292 LO
Allergies 00102110 LO
PatientSexNeutered 00102203 CS
OtherPatientNames 00101001 PN
PatientSize 00101020 DS
PatientWeight 00101030 DS
PatientAddress 00101040 LO
MilitaryRank 00101080 LO
MedicalAlerts 00102000 LO
EthnicGroup 00102160 SH
SmokingStatus 001021A0 CS
AdditionalPatientHistory 001021B0 LT
PregnancyStatus 001021C0 US
LastMenstrualDate 001021D0 DA
PatientComments 00104000 LT
SpecialNeeds 00380050 LO
PatientState 00380500 LO
"""
_MORE_OF_PATIENT = """
IssuerOfPatientID 00100021 LO
TypeOfPatientID 00100022 CS
IssuerOfPatientIDQualifiersSequence 00100024 SQ
PatientInsurancePlanCodeSequence 00100050 SQ
PatientPrimaryLanguageCodeSequence 00100101 SQ
QualityControlSubject 00100200 CS
OtherPatientIDsSequence 00101002 SQ
PatientSpeciesCodeSequence 00102202 SQ
PatientBreedCodeSequence 00102293 SQ
BreedRegistrationSequence 00102294 SQ
"""
_PROCEDURE = """
AccessionNumber 00080050 SH +
ReferringPhysicianName 00080090 PN +
StudyInstanceUID 0020000D UI +
RequestingPhysician 00321032 PN +
RequestedProcedureDescription 00321060 LO
AdmissionID 00380010 LO +
CurrentPatientLocation 00380300 LO
RequestedProcedureID 00401001 SH +
RequestedProcedurePriority 00401003 SH +
PatientTransportArrangements 00401004 LO
"""
_MORE_OF_PROCEDURE = """
StudyDate 00080020 DA
StudyTime 00080030 TM
IssuerOfAccessionNumberSequence 00080051 SQ
InstitutionName 00080080 LO
InstitutionAddress 00080081 ST
InstitutionCodeSequence 00080082 SQ
ReferringPhysicianIdentificationSequence 00080096 SQ
TimezoneOffsetFromUTC 00080201 SH
AdmittingDiagnosesDescription 00081080 LO
AdmittingDiagnosesCodeSequence 00081084 SQ
ReferencedStudySequence 00081110 SQ
ReferencedPatientSequence 00081120 SQ
RequestingPhysicianIdentificationSequence 00321031 SQ
RequestingService 00321033 LO
RequestedProcedureCodeSequence 00321064 SQ
VisitStatusID 00380008 CS
IssuerOfAdmissionIDSequence 00380014 SQ
RouteOfAdmissions 00380016 LO
AdmittingDate 00380020 DA
AdmittingTime 00380021 TM
PatientInstitutionResidence 00380400 LO
VisitComments 00384000 LT
ReasonForTheRequestedProcedure 00401002 LO
RequestedProcedureLocation 00401005 LO
ConfidentialityCode 00401008 LO
ReportingPriority 00401009 SH
ReasonForRequestedProcedureCodeSequence 0040100A SQ
NamesOfIntendedRecipientsOfResults 00401010 PN
RequestedProcedureComments 00401400 LT
IssueDateOfImagingServiceRequest 00402004 DA
IssueTimeOfImagingServiceRequest 00402005 TM
OrderEnteredBy 00402008 PN
OrderEntererLocation 00402009 SH
OrderCallbackPhoneNumber 00402010 SH
PlacerOrderNumberImagingServiceRequest 00402016 LO
FillerOrderNumberImagingServiceRequest 00402017 LO
ImagingServiceRequestComments 00402400 LT
"""
_STEP = """
Modality 00080060 CS +
RequestedContrastAgent 00321070 LO
ScheduledStationAETitle 00400001 AE +
ScheduledProcedureStepStartDate 00400002 DA +
ScheduledProcedureStepStartTime 00400003 TM +
ScheduledProcedureStepEndDate 00400004 DA
ScheduledProcedureStepEndTime 00400005 TM
ScheduledPerformingPhysicianName 00400006 PN +
ScheduledProcedureStepID 00400009 SH +
ScheduledStationName 00400010 SH
ScheduledProcedureStepLocation 00400011 SH
PreMedication 00400012 LO
"""
_MORE_OF_STEP = """
ScheduledProcedureStepDescription 00400007 LO
ScheduledProtocolCodeSequence 00400008 SQ
ScheduledPerformingPhysicianIdentificationSequence 0040000B SQ
ScheduledProcedureStepStatus 00400020 CS
CommentsOnTheScheduledProcedureStep 00400400 LT
ScheduledSpecimenSequence 00400500 SQ
"""


def _read(table: str, level: Level) -> Iterator[Attribute]:
    for line in table.strip().splitlines():
        keyword, tag, vr, *matched = line.split()
        # The column is the keyword with underscores between its words.
        column = ""
        if matched:
            column = _COLUMNS.get(keyword) or "".join(
                f"_{c.lower()}" if c.isupper() else c for c in keyword
            ).lstrip("_")
        yield Attribute(keyword, int(tag, 16), vr, level, column, matched=bool(matched))


#: Columns of keywords that have several capitals in a row.
_COLUMNS = {
    "AdmissionID": "admission_id",
    "PatientID": "patient_id",
    "RequestedProcedureID": "requested_procedure_id",
    "ScheduledProcedureStepID": "scheduled_procedure_step_id",
    "ScheduledStationAETitle": "scheduled_station_ae_title",
    "StudyInstanceUID": "study_instance_uid",
}

#: The attributes of the scheduled procedure step in the statement's tables: an
#: answer has them when the whole sequence is asked for.
STATED_OF_STEP = tuple(_read(_STEP, Level.SERIES))

#: Every attribute of the worklist.
WORKLIST = Registry(
    (
        *_read(_PATIENT, Level.PATIENT),
        *_read(_MORE_OF_PATIENT, Level.PATIENT),
        *_read(_PROCEDURE, Level.STUDY),
        *_read(_MORE_OF_PROCEDURE, Level.STUDY),
        *STATED_OF_STEP,
        *_read(_MORE_OF_STEP, Level.SERIES),
    )
)

START_DATE = WORKLIST.byKeyword["ScheduledProcedureStepStartDate"]
START_TIME = WORKLIST.byKeyword["ScheduledProcedureStepStartTime"]

#: Start date and time of a step as one, for a range over both (PS3.4 Table
#: K.6-1): C{YYYYMMDDHHMMSS.FFFFFF}. Nothing that is asked or answered.
START = Attribute(
    "ScheduledProcedureStepStartDateTime", 0x00404005, "DT", Level.SERIES, "start"
)


def isOfStep(attribute: Attribute) -> bool:
    """Whether it stands inside the Scheduled Procedure Step Sequence."""
    return attribute.level is Level.SERIES


@lru_cache(8192)
def jsonKey(tag: int) -> str:
    """A tag as the DICOM JSON Model writes it."""
    return f"{tag:08X}"


def stepsOf(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of the Scheduled Procedure Step Sequence."""
    found: list[dict[str, Any]] = attributes.get(jsonKey(STEP_SEQUENCE), {}).get(
        "Value", []
    )
    return found


def textsOf(element: dict[str, Any] | None) -> tuple[str, ...]:
    """
    The values of an element as text, none where it is absent; the component
    groups of a name are joined by C{=}.
    """
    if element is None:
        return ()
    return tuple(_text(value) for value in element.get("Value", ()))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        groups = ("Alphabetic", "Ideographic", "Phonetic")
        return "=".join(value.get(group, "") for group in groups).rstrip("=")
    return "" if value is None else str(value)


def valuesOf(
    attribute: Attribute, attributes: dict[str, Any], step: dict[str, Any]
) -> tuple[str, ...]:
    """The values by which an item and one of its steps match; at least one."""
    if attribute is START:
        return (startOf(step),)
    place = step if isOfStep(attribute) else attributes
    return textsOf(place.get(jsonKey(attribute.tag))) or ("",)


def startOf(step: dict[str, Any]) -> str:
    """Of L{START}; C{""} where it has no date."""
    date, time = (
        "".join(textsOf(step.get(jsonKey(attribute.tag))))
        for attribute in (START_DATE, START_TIME)
    )
    day = dateKey(date)
    return "" if day is None else day + (timeKey(time) or "000000.000000")
