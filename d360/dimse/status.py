"""
Values of Status (0000,0900), by the names of PS3.7 Annex C and PS3.4, and
their classes.
"""

from __future__ import annotations

SUCCESS = 0x0000

#: Matches, or sub-operations, are continuing.
PENDING = 0xFF00
#: So they are, and some optional keys were not supported (PS3.4 C.4.1.1.4).
PENDING_WARNING = 0xFF01

CANCEL = 0xFE00

#: Refused: out of resources (PS3.4 B.2.3, C.4.1.1.4).
OUT_OF_RESOURCES = 0xA700
#: Refused: out of resources, unable to calculate number of matches.
UNABLE_TO_CALCULATE_MATCHES = 0xA701
#: Refused: out of resources, unable to perform sub-operations.
UNABLE_TO_PERFORM_SUBOPERATIONS = 0xA702
#: Data set, or identifier, does not match SOP class.
DATA_SET_DOES_NOT_MATCH = 0xA900
#: Cannot understand, or unable to process.
CANNOT_UNDERSTAND = 0xC000
#: Move destination unknown, as the conformance statement has it (8.2.2.2).
MOVE_DESTINATION_UNKNOWN = 0xC001

#: Warning: coercion of data elements; for C-MOVE and C-GET: sub-operations
#: complete, one or more failures.
WARNING = 0xB000
ELEMENTS_DISCARDED = 0xB006
DATA_SET_DOES_NOT_MATCH_WARNING = 0xB007

#: PS3.7 Annex C.
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
UNRECOGNIZED_OPERATION = 0x0211


def isPending(status: int) -> bool:
    """Whether more responses to the same request will follow."""
    return status in (PENDING, PENDING_WARNING)


def isWarning(status: int) -> bool:
    """Whether what was asked for was done, with some reserve (PS3.7 C.3)."""
    return status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)
