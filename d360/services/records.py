"""
From the header of a data set to what the index keeps of the instance.
"""

from __future__ import annotations

from attrs import frozen

from d360.attributes import REGISTRY
from d360.audit.values import AuditedInstance, AuditedStudy
from d360.services.header import SPECIFIC_CHARACTER_SET, HeaderError
from d360.services.text import TEXT_VRS, decodeText, encodingsOf
from d360.services.uids import cleanUID, isUID

#: Characters of a value that the index gets. The standard ends its values long
#: before (64 a component, PS3.5 6.2); the file has all of it anyway.
MAX_INDEXED_LENGTH = 512

_REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

_TEXTS = tuple(
    (a.tag, a.keyword, a.vr == "PN", a.vr in TEXT_VRS)
    for a in REGISTRY.stored()
    if a.vr != "UI"
)
_UIDS = tuple((a.tag, a.keyword) for a in REGISTRY.stored() if a.vr == "UI")


@frozen
class Header:
    """
    The identity of an instance and its indexed attributes.

    @ivar texts: the further fields of an
        L{InstanceRecord<d360.model.InstanceRecord>}, by keyword; those that
        are absent or empty are left out.
    """

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    texts: dict[str, str]


def auditedOf(header: Header) -> AuditedInstance:
    """What the audit trail is told of an instance."""
    text = header.texts.get
    study = AuditedStudy(
        header.StudyInstanceUID,
        text("PatientID", ""),
        text("PatientName", ""),
        text("AccessionNumber", ""),
    )
    return AuditedInstance(study, header.SOPClassUID, header.SOPInstanceUID)


def readHeader(values: dict[int, bytes]) -> Header:
    """
    @param values: as a L{HeaderScanner<d360.services.header.HeaderScanner>}
        collects them.
    @raise HeaderError: the instance has no usable identity.
    """
    uids = {
        keyword: cleanUID(values.get(tag, b"").decode("latin-1"))
        for tag, keyword in _UIDS
    }
    for keyword in _REQUIRED:
        if not isUID(uids[keyword]):
            problem = "is no valid UID" if uids[keyword] else "is missing"
            raise HeaderError(f"{keyword} {problem}")
    if not isUID(uids["SOPClassUID"]):
        uids["SOPClassUID"] = ""
    encodings = encodingsOf(
        values.get(SPECIFIC_CHARACTER_SET, b"").decode("ascii", "replace")
    )
    texts = {}
    for tag, keyword, isName, isText in _TEXTS:
        value = values.get(tag)
        if value:
            text = decodeText(value, encodings if isText else (), isName)
            if text:
                texts[keyword] = text[:MAX_INDEXED_LENGTH]
    return Header(texts=texts, **uids)
