"""
From the identifier of a C-MOVE or C-GET to the instances that it selects
(PS3.4 C.4.2.2.1, C.4.3.2.1; conformance 8.2.2.1, 9.2.2.1). Pure: no I/O.

The keys of a level select together; those of upper levels may be absent, but
one must be there, or the whole archive would be meant. UIDs may be lists.
Patient ID also restricts at the levels below its own.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from d360.attributes import REGISTRY, Attribute, Level, matchKey
from d360.dimse.status import CANNOT_UNDERSTAND, DATA_SET_DOES_NOT_MATCH
from d360.errors import DIMSEError
from d360.model import AnyOf, Nothing, Query
from d360.services.matching import (
    MAX_VALUES,
    Root,
    isUniversal,
    readKey,
    readLevel,
)

#: The unique key of each level.
UNIQUE_KEYS = {
    attribute.level: attribute
    for attribute in sorted(REGISTRY.byTag.values(), key=lambda a: a.level)
    if attribute.unique
}

#: Conformance 8.2.2.1: what must be there.
_REQUIRED = (Level.PATIENT, Level.STUDY)


def readSelection(identifier: Dataset, root: Root) -> Query:
    """
    @raise DIMSEError: A900 or C000, it selects nothing, or what cannot be
        told.
    """
    level = readLevel(identifier, root)
    conditions: list[AnyOf | Nothing] = []
    for upper, attribute in UNIQUE_KEYS.items():
        text = readKey(identifier, attribute.tag, attribute.vr)
        if isUniversal(text):
            if upper is level and level in _REQUIRED:
                raise _missing(attribute)
        elif upper > level:
            raise DIMSEError(
                DATA_SET_DOES_NOT_MATCH,
                f"{attribute.keyword} is below the level {level.name}",
                (attribute.tag,),
            )
        else:
            conditions.append(_condition(attribute, text))
    # A Patient ID alone would mean all of a patient, of which the level says
    # otherwise.
    if all(c.attribute.level is Level.PATIENT for c in conditions) and (
        level is not Level.PATIENT
    ):
        raise _missing(UNIQUE_KEYS[level])
    return Query(level, tuple(conditions))


def _missing(attribute: Attribute) -> DIMSEError:
    return DIMSEError(
        DATA_SET_DOES_NOT_MATCH,
        f"{attribute.keyword} is required at this level",
        (attribute.tag,),
    )


def _condition(attribute: Attribute, text: str) -> AnyOf | Nothing:
    """Single value matching, or one of a list of UIDs; never wild cards."""
    values = [value.strip() for value in text.split("\\") if value.strip()]
    if len(values) > 1 and attribute.vr != "UI":
        raise DIMSEError(
            DATA_SET_DOES_NOT_MATCH,
            f"{attribute.keyword} has several values",
            (attribute.tag,),
        )
    if len(values) > MAX_VALUES:
        raise DIMSEError(
            CANNOT_UNDERSTAND, f"More than {MAX_VALUES} values", (attribute.tag,)
        )
    found = (matchKey(attribute.vr, value) for value in values)
    keys = tuple(dict.fromkeys(key for key in found if key is not None))
    return AnyOf(attribute, keys) if keys else Nothing(attribute)
