"""
What the code does, as facts: read from its registries, and where it has none,
found by asking the code itself.
"""

from __future__ import annotations

from typing import Any

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.uid import UID

from d360.attributes import REGISTRY, Attribute, Level
from d360.errors import DIMSEError
from d360.interfaces import IServiceClass
from d360.model import NameMatch, Range, Wildcard
from d360.services.commitment import CommitmentService
from d360.services.find import FindService
from d360.services.matching import Root, conditionsFor, readQuestion
from d360.services.retrieve import GetService, MoveService
from d360.services.selection import UNIQUE_KEYS, readSelection
from d360.services.storage import StorageService
from d360.services.verification import VerificationService
from d360.services.worklist import WorklistService

# They are asked what they serve, and serve nothing here.
_nothing: Any = None

VERIFICATION: IServiceClass = VerificationService()
STORAGE: IServiceClass = StorageService(
    _nothing, _nothing, _nothing, _nothing, _nothing
)
FIND: IServiceClass = FindService(_nothing, "")
MOVE: IServiceClass = MoveService(_nothing, _nothing, _nothing, _nothing, _nothing)
GET: IServiceClass = GetService(_nothing, _nothing, _nothing)
WORKLIST: IServiceClass = WorklistService(_nothing)
COMMITMENT: IServiceClass = CommitmentService(_nothing, _nothing, _nothing)

#: Every service class of the server.
SERVICES = (VERIFICATION, WORKLIST, STORAGE, FIND, MOVE, GET, COMMITMENT)

#: Those of which we are the SCU too: remote AEs are verified, and what is
#: retrieved is stored with them.
REQUESTED = VERIFICATION.sopClasses | STORAGE.sopClasses


def nameOf(uid: str) -> str:
    """The name of a UID in PS3.6."""
    return UID(uid).name


def orderOf(uid: str) -> tuple[int, ...]:
    """By the numbers of a UID."""
    return tuple(map(int, uid.split(".")))


def transferSyntaxesOf(service: IServiceClass) -> tuple[str, ...]:
    """
    Those that it accepts, by UID.

    @raise ValueError: not the same for all of its SOP classes.
    """
    found = {service.transferSyntaxesFor(one) for one in service.sopClasses}
    (syntaxes,) = found
    return tuple(sorted(syntaxes, key=orderOf))


def tagOf(attribute: Attribute) -> str:
    """C{(GGGG,EEEE)}."""
    return f"({attribute.tag >> 16:04X},{attribute.tag & 0xFFFF:04X})"


def descriptionOf(attribute: Attribute) -> str:
    """The name of an attribute in PS3.6."""
    return dictionary_description(attribute.tag)


# --- keys ---------------------------------------------------------------------

SINGLE_VALUE = "Single value"
LIST_OF_UID = "Single value, list of UID"
WILD_CARD = "Wild card"
RANGE = "Range"


def matchingOf(attribute: Attribute) -> str:
    """The kind of matching (PS3.4 C.2.2.2), as keys of that kind are read."""
    (condition,) = conditionsFor(attribute, "1*1")
    if isinstance(condition, (Wildcard, NameMatch)):
        return WILD_CARD
    period = "10-11" if attribute.vr == "TM" else "20260101-20260102"
    (condition,) = conditionsFor(attribute, period)
    if isinstance(condition, Range):
        return RANGE
    return LIST_OF_UID if attribute.vr == "UI" else SINGLE_VALUE


def attributesAt(level: Level) -> tuple[Attribute, ...]:
    """Those that a query at a level may ask for: its own, and those above it."""
    return tuple(a for a in REGISTRY.attributes if a.level <= level)


def _identifier(level: Level, attributes: tuple[Attribute, ...]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level.name
    for attribute in attributes:
        setattr(identifier, attribute.keyword, "1")
    return identifier


def requiredForFind(level: Level) -> tuple[Attribute, ...]:
    """The keys that a C-FIND-RQ at a level must have."""
    try:
        readQuestion(_identifier(level, ()), Root.PATIENT)
    except DIMSEError as error:
        return tuple(REGISTRY.byTag[tag] for tag in error.offendingElements)
    return ()


def keysOfRetrieve(level: Level) -> dict[Attribute, bool]:
    """The keys of a C-MOVE-RQ or C-GET-RQ at a level, and whether required."""
    keys = tuple(a for upper, a in UNIQUE_KEYS.items() if upper <= level)
    required = {}
    for key in keys:
        others = tuple(one for one in keys if one is not key)
        try:
            readSelection(_identifier(level, others), Root.PATIENT)
        except DIMSEError:
            required[key] = True
        else:
            required[key] = False
    return required
