"""
The coded terms of audit messages: those of DICOM (PS3.16 CID 400 to 404) and
those that PS3.15 A.5.1.2 took over from RFC 3881.
"""

from __future__ import annotations

from attrs import frozen

_DCM = "DCM"
_RFC_3881 = "RFC-3881"


@frozen
class Code:
    """A C{CodedValueType} of PS3.15 A.5.1.1."""

    value: str
    system: str
    meaning: str


# --- Event ID (CID 400)

APPLICATION_ACTIVITY = Code("110100", _DCM, "Application Activity")
BEGIN_TRANSFERRING = Code("110102", _DCM, "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = Code("110103", _DCM, "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Code("110104", _DCM, "DICOM Instances Transferred")
STUDY_DELETED = Code("110105", _DCM, "DICOM Study Deleted")
PROCEDURE_RECORD = Code("110111", _DCM, "Procedure Record")
QUERY = Code("110112", _DCM, "Query")
SECURITY_ALERT = Code("110113", _DCM, "Security Alert")

# --- Event Type Code (CID 401, CID 403)

APPLICATION_START = Code("110120", _DCM, "Application Start")
APPLICATION_STOP = Code("110121", _DCM, "Application Stop")
NODE_AUTHENTICATION = Code("110126", _DCM, "Node Authentication")
SECURITY_CONFIGURATION = Code("110129", _DCM, "Security Configuration")
USE_OF_RESTRICTED_FUNCTION = Code("110132", _DCM, "Use of Restricted Function")

# --- Role ID Code (CID 402)

APPLICATION = Code("110150", _DCM, "Application")
DESTINATION = Code("110152", _DCM, "Destination Role ID")
SOURCE = Code("110153", _DCM, "Source Role ID")

# --- Participant Object ID Type Code (CID 404; PS3.15 A.5.1.2.4)

STUDY_INSTANCE_UID = Code("110180", _DCM, "Study Instance UID")
SOP_CLASS_UID = Code("110181", _DCM, "SOP Class UID")
NODE_ID = Code("110182", _DCM, "Node ID")
PATIENT_NUMBER = Code("2", _RFC_3881, "Patient Number")
URI = Code("12", _RFC_3881, "URI")
