"""
The studies that queries are measured on: which patient, which day, which
numbers the n-th of them has. The same whether it is sent as a file or loaded
as rows, so that every server is asked the same and finds the same.

Most are spread evenly over names and days. Some stand apart (L{PLANTED}), so
that a query for them finds as many among a million as among thousands.
"""

from __future__ import annotations

from datetime import date, timedelta
from itertools import product

from attrs import fields, frozen

ROOT = "1.2.826.0.1.3680043.8.498.360"

#: The fewest studies with which all of L{PLANTED} are there.
FEWEST = 2000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# In Latin-1, which every server reads.
_FAMILY_STEMS = _words(
    "Ross Bianch Ferr Russ Mart Esposit Roman Colomb Ricc Marin Müll Schmid Web "
    "Fisch Schneid Hoff Koch Bau Kram Garc Lop Hernand Gonzál Fernánd Sánch Núñ "
    "Duboi Lef Mor Girard Bonn Fontain Peters Johans Anders Nils Larss Björk "
    "Lindstr Kowal Nowak Wisniew Zielin Novot Svobod Horv Petrov Ivan Smirn Kuznets "
    "Smith Taylor Brown Walk Robins Thomps Wrigh Evan Costa Silv Sant Oliveir"
)
_FAMILY_ENDINGS = _words(
    "i o ini etti elli one ino ez er ert mann burg sen son ov ova ski ska eau ier "
    "ard ström a oglu"
)
_GIVEN_STEMS = _words(
    "Ann Mari Giov Joh Pet Luc Franc Alex Cat El Christ Dan Gabri Hel Jul Karl Nic "
    "Osc Paul Raf Seb Thom Vict Yv Andr Jos Mich Rob Sof Renat"
)
_GIVEN_ENDINGS = _words(
    "a e o ina ine ia io an en ette ella ara is as us ek el ika iel elle er ert "
    "ander olas ian in é ita ito ó ís ea eo ane ona ene"
)

FAMILY_NAMES = tuple(a + b for a, b in product(_FAMILY_STEMS, _FAMILY_ENDINGS))
GIVEN_NAMES = tuple(a + b for a, b in product(_GIVEN_STEMS, _GIVEN_ENDINGS))

_FIRST_DAY = date(2015, 1, 1)
_DAYS = tuple((_FIRST_DAY + timedelta(n)).strftime("%Y%m%d") for n in range(3653))
_BIRTHS = tuple(
    (date(1930, 1, 1) + timedelta(n)).strftime("%Y%m%d") for n in range(30000)
)
_MODALITIES = ("CT", "MR", "US", "CR", "XA")
_DESCRIPTIONS = ("Thorax", "Abdomen", "Head", "Spine", "Knee", "Follow-up")


@frozen
class Planted:
    """
    Studies that stand apart.

    @ivar numbers: which they are.
    @ivar key: keyword and value of the query that finds them and no others.
    @ivar family: their patients' family name, empty for any.
    @ivar day: their date, empty for any.
    """

    numbers: range
    key: tuple[str, str]
    family: str = ""
    day: str = ""


#: By what is asked for. The second infix is made of what other names are full
#: of, so that an index of trigrams alone rules out few.
PLANTED = {
    "name prefix": Planted(
        range(100, 120), ("PatientName", "WYSZO*"), family="Wyszogrod"
    ),
    "name infix": Planted(
        range(120, 140), ("PatientName", "*brugg*"), family="Vanderbrugghen"
    ),
    "name infix of common syllables": Planted(
        range(140, 160), ("PatientName", "*rtinetti*"), family="Martinettini"
    ),
    "month": Planted(
        range(200, 300), ("StudyDate", "20120301-20120331"), day="201203{:02}"
    ),
    "year": Planted(
        range(300, 800), ("StudyDate", "20100101-20101231"), day="201007{:02}"
    ),
    "1000 matches": Planted(
        range(1000, 2000), ("StudyDate", "20080505"), day="20080505"
    ),
}
_APART = {n: planted for planted in PLANTED.values() for n in planted.numbers}


@frozen
class Study:
    """One study of one patient, by DICOM's keywords."""

    StudyInstanceUID: str
    PatientID: str
    PatientName: str
    PatientBirthDate: str
    PatientSex: str
    StudyID: str
    StudyDate: str
    StudyTime: str
    AccessionNumber: str
    StudyDescription: str
    ReferringPhysicianName: str
    Modality: str


def _spread(number: int) -> int:
    """The same number for the same, and neighbours far apart."""
    return ((number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 24


def patientID(number: int) -> str:
    """The Patient ID of the n-th patient."""
    return f"P{number:07}"


def accessionNumber(number: int) -> str:
    """The Accession Number of the n-th study."""
    return f"A{number:07}"


def study(number: int, patients: int = 0) -> Study:
    """
    The n-th study, counted from 0.

    @param patients: how many patients share the studies; 0 for one each.
    """
    person = number % patients if patients else number
    some, other = _spread(person), _spread(number + 7_000_000_000)
    apart = _APART.get(number)
    day = _DAYS[other % len(_DAYS)]
    if apart is not None and apart.day:
        day = apart.day.format(number % 28 + 1)
    # A patient has one name, whichever study it is.
    named = _APART.get(person)
    family = FAMILY_NAMES[some % len(FAMILY_NAMES)]
    if named is not None and named.family:
        family = named.family
    return Study(
        StudyInstanceUID=f"{ROOT}.2.{number}",
        PatientID=patientID(person),
        PatientName=f"{family}^{GIVEN_NAMES[(some >> 11) % len(GIVEN_NAMES)]}",
        PatientBirthDate=_BIRTHS[(some >> 5) % len(_BIRTHS)],
        PatientSex="FM"[some >> 7 & 1],
        StudyID=str(number),
        StudyDate=day,
        StudyTime=f"{7 + other % 12:02}{other % 60:02}{(other >> 6) % 60:02}",
        AccessionNumber=accessionNumber(number),
        StudyDescription=_DESCRIPTIONS[other % len(_DESCRIPTIONS)],
        ReferringPhysicianName=f"{FAMILY_NAMES[(other >> 9) % 500]}^Dr",
        Modality=_MODALITIES[other % len(_MODALITIES)],
    )


#: The keywords of L{Study}.
KEYWORDS = tuple(attribute.name for attribute in fields(Study))
