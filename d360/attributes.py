"""
The registry of indexed attributes: each one is listed once, with its level,
its value representation and its column. Matching keys, return keys and the
columns of the index all come from it (PS3.4 C.6.1.1, C.6.2.1; conformance
statement 7.2.2).

Beside the value as the sender wrote it, the index keeps a I{match key} where
equal values may be spelled differently: names without case and accents, dates
and times in one form, numbers as numbers. L{matchKey} makes it, for stored
values and for the keys of a query alike.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Iterable

from attrs import field, frozen


class Level(enum.IntEnum):
    """Query/Retrieve Level (0008,0052), from the root downwards."""

    PATIENT = 1
    STUDY = 2
    SERIES = 3
    IMAGE = 4


#: VRs in which C{*} and C{?} are wild cards (PS3.4 C.2.2.2.4).
WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})

#: VRs matched by range (PS3.4 C.2.2.2.5).
RANGE_VRS = frozenset({"DA", "TM", "DT"})

_KEYED_VRS = frozenset({"PN", "DA", "TM", "IS"})


@frozen
class Attribute:
    """
    An attribute that the index knows.

    @ivar keyword: the keyword of PS3.6.
    @ivar tag: C{0xGGGGEEEE}.
    @ivar level: the information entity that it describes.
    @ivar column: the column with the value as returned. Empty for what the
        index works out when it is asked (counts, Modalities in Study).
    @ivar unique: it is the unique key of its level (PS3.4 C.2.2.1.1).
    @ivar matched: it may be a matching key; otherwise it is only returned.
    """

    keyword: str
    tag: int
    vr: str
    level: Level
    column: str = ""
    unique: bool = False
    matched: bool = True

    @property
    def matchColumn(self) -> str:
        """The column that holds L{matchKey} of the value."""
        return f"{self.column}_key" if self.vr in _KEYED_VRS else self.column


def _list() -> Iterable[Attribute]:
    level = Level.PATIENT
    yield Attribute("PatientID", 0x00100020, "LO", level, "patient_id", unique=True)
    yield Attribute(
        "IssuerOfPatientID", 0x00100021, "LO", level, "issuer_of_patient_id"
    )
    yield Attribute("PatientName", 0x00100010, "PN", level, "patient_name")
    yield Attribute("PatientBirthDate", 0x00100030, "DA", level, "patient_birth_date")
    yield Attribute("PatientSex", 0x00100040, "CS", level, "patient_sex")
    for keyword, tag in (
        ("NumberOfPatientRelatedStudies", 0x00201200),
        ("NumberOfPatientRelatedSeries", 0x00201202),
        ("NumberOfPatientRelatedInstances", 0x00201204),
    ):
        yield Attribute(keyword, tag, "IS", level, matched=False)

    level = Level.STUDY
    yield Attribute(
        "StudyInstanceUID", 0x0020000D, "UI", level, "study_instance_uid", unique=True
    )
    yield Attribute("StudyID", 0x00200010, "SH", level, "study_id")
    yield Attribute("StudyDate", 0x00080020, "DA", level, "study_date")
    yield Attribute("StudyTime", 0x00080030, "TM", level, "study_time")
    yield Attribute("AccessionNumber", 0x00080050, "SH", level, "accession_number")
    yield Attribute("StudyDescription", 0x00081030, "LO", level, "study_description")
    yield Attribute(
        "ReferringPhysicianName", 0x00080090, "PN", level, "referring_physician_name"
    )
    yield Attribute("ModalitiesInStudy", 0x00080061, "CS", level)
    for keyword, tag in (
        ("NumberOfStudyRelatedSeries", 0x00201206),
        ("NumberOfStudyRelatedInstances", 0x00201208),
    ):
        yield Attribute(keyword, tag, "IS", level, matched=False)

    level = Level.SERIES
    yield Attribute(
        "SeriesInstanceUID", 0x0020000E, "UI", level, "series_instance_uid", unique=True
    )
    yield Attribute("SeriesNumber", 0x00200011, "IS", level, "series_number")
    yield Attribute("Modality", 0x00080060, "CS", level, "modality")
    yield Attribute("SeriesDescription", 0x0008103E, "LO", level, "series_description")
    yield Attribute("SeriesDate", 0x00080021, "DA", level, "series_date")
    yield Attribute("SeriesTime", 0x00080031, "TM", level, "series_time")
    yield Attribute("Laterality", 0x00200060, "CS", level, "laterality")
    yield Attribute("BodyPartExamined", 0x00180015, "CS", level, "body_part_examined")
    yield Attribute("PatientPosition", 0x00185100, "CS", level, "patient_position")
    yield Attribute(
        "AnatomicalOrientationType",
        0x00102210,
        "CS",
        level,
        "anatomical_orientation_type",
    )
    yield Attribute(
        "NumberOfSeriesRelatedInstances", 0x00201209, "IS", level, matched=False
    )

    level = Level.IMAGE
    yield Attribute(
        "SOPInstanceUID", 0x00080018, "UI", level, "sop_instance_uid", unique=True
    )
    yield Attribute("SOPClassUID", 0x00080016, "UI", level, "sop_class_uid")
    yield Attribute("InstanceNumber", 0x00200013, "IS", level, "instance_number")
    yield Attribute(
        "InstanceCreationDate", 0x00080012, "DA", level, "instance_creation_date"
    )
    yield Attribute(
        "InstanceCreationTime", 0x00080013, "TM", level, "instance_creation_time"
    )


@frozen
class Registry:
    """The indexed attributes, by keyword and by tag."""

    attributes: tuple[Attribute, ...]
    byKeyword: dict[str, Attribute] = field(init=False)
    byTag: dict[int, Attribute] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "byKeyword", {a.keyword: a for a in self.attributes})
        object.__setattr__(self, "byTag", {a.tag: a for a in self.attributes})

    def stored(self) -> tuple[Attribute, ...]:
        """Those that are read from an instance and have a column."""
        return tuple(a for a in self.attributes if a.column)


#: Everything that D360 indexes.
REGISTRY = Registry(tuple(_list()))

# Letters whose accent is no combining mark, so that decomposition keeps it.
_UNDECOMPOSED = str.maketrans(
    {"ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "ı": "i", "ð": "d", "þ": "th"}
)

_SPACES = re.compile(r"\s+")


def foldText(text: str) -> str:
    """
    Text without case, accents, compatibility forms and repeated spaces.

    Only the Combining Diacritical Marks are dropped, so that the marks that
    make another letter (Japanese, Indic, Hebrew or Arabic ones) remain.
    """
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f")
    folded = unicodedata.normalize("NFC", bare).casefold().translate(_UNDECOMPOSED)
    return _SPACES.sub(" ", folded).strip()


def foldComponentGroup(group: str) -> str:
    """
    One component group of a name, folded; spaces around components and
    trailing C{^} do not count (PS3.5 6.2.1).
    """
    return "^".join(foldText(component) for component in group.split("^")).rstrip("^")


def foldName(name: str) -> str:
    """
    The match key of a person name (PN): its up to three component groups,
    folded, each with a C{=} before and behind it, so that a pattern for one
    group can be anchored: C{=yamada^tarou=山田^太郎=}. Empty for no name.
    """
    groups = [foldComponentGroup(group) for group in name.split("=")[:3]]
    while groups and not groups[-1]:
        groups.pop()
    return "=" + "=".join(groups) + "=" if groups else ""


_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})\Z", re.ASCII)


def dateKey(text: str) -> str | None:
    """
    A date (DA) as C{YYYYMMDD}; also read from the old C{YYYY.MM.DD}
    (PS3.5 6.2). C{None} where it is no date.
    """
    match = _DATE.match(text.strip())
    if match is None or not ("01" <= match[2] <= "12" and "01" <= match[3] <= "31"):
        return None
    return "".join(match.groups())


_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?\Z", re.ASCII)


def timeKey(text: str, latest: bool = False) -> str | None:
    """
    A time (TM) as C{HHMMSS.FFFFFF}; also read from the old C{HH:MM:SS}
    (PS3.5 6.2). C{None} where it is no time.

    @param latest: fill what the text leaves out with the end of the period
        that it names, not with its start.
    """
    match = _TIME.match(text.strip())
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    if hours > "23" or (minutes or "") > "59" or (seconds or "") > "60":
        return None
    fill = ("59", "59", "9") if latest else ("00", "00", "0")
    return (
        f"{hours}{minutes or fill[0]}{seconds or fill[1]}."
        f"{(fraction or '').ljust(6, fill[2])}"
    )


_INTEGER = re.compile(r"[+-]?[0-9]{1,12}\Z")


def integerKey(text: str) -> int | None:
    """An integer string (IS) as a number; C{None} where it is none."""
    text = text.strip()
    return int(text) if _INTEGER.match(text) else None


def matchKey(vr: str, text: str) -> str | int | None:
    """
    What a value of this VR is matched by.

    @return: text, or a number for IS; C{None} where the value cannot be read
        as its VR asks, so that it matches nothing but the universal key.
    """
    if vr == "PN":
        return foldName(text)
    if vr == "DA":
        return dateKey(text)
    if vr == "TM":
        return timeKey(text)
    if vr == "IS":
        return integerKey(text)
    return text
