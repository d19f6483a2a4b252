"""
The statuses of each service's responses, and when they are sent (PS3.7 Annex
C; PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, C.4.3.1.4, J.3.2.1.3, K.4.1.1.4).
"""

from __future__ import annotations

from attrs import frozen

from d360.dimse import status
from d360.services.suboperations import PENDING_INTERVAL


@frozen
class Meaning:
    """When a status is sent."""

    status: int
    meaning: str

    @property
    def code(self) -> str:
        """As statements write it."""
        return f"{self.status:04X}"

    @property
    def kind(self) -> str:
        """The class of the status."""
        if self.status == status.SUCCESS:
            return "Success"
        if self.status == status.CANCEL:
            return "Canceled"
        if status.isPending(self.status):
            return "Pending"
        return "Warning" if status.isWarning(self.status) else "Failure"


_UNRECOGNIZED = Meaning(
    status.UNRECOGNIZED_OPERATION, "The SOP class does not have this operation."
)

_NOT_AUTHORIZED = Meaning(
    status.NOT_AUTHORIZED, "The requestor is not permitted to do this."
)

_FIND = (
    Meaning(status.PENDING, "A match; all keys were taken into account."),
    Meaning(
        status.PENDING_WARNING,
        "A match; some keys cannot be matched and were taken as universal.",
    ),
    Meaning(status.SUCCESS, "All matches were sent."),
    Meaning(status.CANCEL, "A C-CANCEL came; no more matches follow."),
    Meaning(status.OUT_OF_RESOURCES, "The database is not available."),
    Meaning(
        status.DATA_SET_DOES_NOT_MATCH,
        "The identifier cannot be answered: Offending Element names the key.",
    ),
    Meaning(
        status.CANNOT_UNDERSTAND,
        "The identifier cannot be decoded or is beyond a limit; an error of D360.",
    ),
    _NOT_AUTHORIZED,
    _UNRECOGNIZED,
)

_GET = (
    Meaning(
        status.PENDING,
        "Sub-operations continue: after each of them, and every "
        f"{PENDING_INTERVAL:.0f} seconds.",
    ),
    Meaning(status.SUCCESS, "All instances were sent, or there are none."),
    Meaning(status.CANCEL, "A C-CANCEL came; what remains is not sent."),
    Meaning(
        status.WARNING,
        "One or more instances were not sent, or were taken with a warning.",
    ),
    Meaning(
        status.UNABLE_TO_CALCULATE_MATCHES,
        "The database is not available.",
    ),
    Meaning(
        status.UNABLE_TO_PERFORM_SUBOPERATIONS,
        "No instance could be sent.",
    ),
    Meaning(
        status.DATA_SET_DOES_NOT_MATCH,
        "The identifier does not select anything, or has a key that is none of "
        "its level: Offending Element names it.",
    ),
    Meaning(
        status.CANNOT_UNDERSTAND,
        "The identifier cannot be decoded or is beyond a limit; an error of D360.",
    ),
    _NOT_AUTHORIZED,
    _UNRECOGNIZED,
)

#: By the service's name.
STATUSES: dict[str, tuple[Meaning, ...]] = {
    "C-ECHO": (
        Meaning(status.SUCCESS, "The association works."),
        Meaning(status.PROCESSING_FAILURE, "An error of D360."),
        _UNRECOGNIZED,
    ),
    "C-STORE": (
        Meaning(status.SUCCESS, "The instance is on the disk and in the index."),
        Meaning(
            status.OUT_OF_RESOURCES,
            "The disk is full or fails, or the database is not available; nothing "
            "is stored.",
        ),
        Meaning(
            status.DATA_SET_DOES_NOT_MATCH,
            "SOP Class UID or SOP Instance UID of command and data set differ.",
        ),
        Meaning(
            status.CANNOT_UNDERSTAND,
            "The data set cannot be read, is cut off, or lacks a UID or has one that "
            "is not valid; an error of D360.",
        ),
        Meaning(
            status.SOP_CLASS_NOT_SUPPORTED,
            "The SOP class is not that of the presentation context.",
        ),
        _NOT_AUTHORIZED,
        _UNRECOGNIZED,
    ),
    "C-FIND": _FIND,
    "N-ACTION": (
        Meaning(
            status.SUCCESS,
            "The request is kept, also if D360 ends; an N-EVENT-REPORT will follow.",
        ),
        Meaning(
            status.NO_SUCH_SOP_INSTANCE,
            "The SOP instance is not the one of Storage Commitment.",
        ),
        Meaning(
            status.INVALID_ARGUMENT_VALUE,
            "The Action Information cannot be read, or lacks a UID or has one that is "
            "not valid.",
        ),
        Meaning(
            status.SOP_CLASS_NOT_SUPPORTED,
            "The SOP class is not that of the presentation context.",
        ),
        Meaning(status.NO_SUCH_ACTION_TYPE, "The action type is not 1."),
        Meaning(
            status.RESOURCE_LIMITATION,
            "The request is beyond a limit, or the database is not available.",
        ),
        Meaning(status.PROCESSING_FAILURE, "An error of D360."),
        _NOT_AUTHORIZED,
        _UNRECOGNIZED,
    ),
    "C-MOVE": (
        *_GET,
        Meaning(
            status.MOVE_DESTINATION_UNKNOWN,
            "The Move Destination is none of the remote AEs.",
        ),
    ),
    "C-GET": _GET,
}
