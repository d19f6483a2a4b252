"""
Exceptions that cross a seam. Each carries what goes on the wire or what a
person must read; who is to blame is in its class.
"""

from __future__ import annotations

from collections.abc import Sequence


class D360Error(Exception):
    """Root of everything that D360 raises on purpose."""


class StartupError(D360Error):
    """
    The server cannot start. The message is one line for the person at the
    terminal: what is wrong and what to do.
    """


class ConfigurationError(StartupError):
    """An option or a line of the configuration file is wrong."""


class CertificateError(StartupError):
    """
    A certificate or a key for TLS cannot be used. While the server runs it is
    no reason to end: it goes on with what it had.
    """


class DIMSEError(D360Error):
    """
    Raised by a service class, it is the answer to the operation.

    @ivar status: the Status (0000,0900), e.g. C{0xA900}.
    @ivar comment: the Error Comment (0000,0902); never patients' data.
    @ivar offendingElements: tags for Offending Element (0000,0901).
    """

    def __init__(
        self, status: int, comment: str = "", offendingElements: Sequence[int] = ()
    ) -> None:
        super().__init__(f"{status:04X} {comment}".strip())
        self.status = status
        self.comment = comment
        self.offendingElements = tuple(offendingElements)


class AssociationRejected(D360Error):
    """
    An A-ASSOCIATE-RJ, ours or the peer's (PS3.8 Table 9-21).
    """

    def __init__(self, result: int, source: int, reason: int, why: str = "") -> None:
        super().__init__(f"rejected {result},{source},{reason} {why}".strip())
        self.result = result
        self.source = source
        self.reason = reason
        self.why = why


class PDUError(D360Error):
    """
    The peer broke PS3.8; it is answered by an A-ABORT of the service
    provider.

    @ivar reason: the Reason/Diag. of PS3.8 Table 9-26.
    """

    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU = 1
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6

    def __init__(self, reason: int, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class IllegalEvent(D360Error):
    """A blank cell of PS3.8 Table 9-10 was reached: a mistake of ours."""


class AssociationEnded(D360Error):
    """The association is over; no more can be sent or received on it."""


class AssociationReleased(AssociationEnded):
    """It ended in order (A-RELEASE)."""


class AssociationAborted(AssociationEnded):
    """
    It ended by an A-ABORT, ours or the peer's (PS3.8 Table 9-26).

    @ivar source: 0 the service user, 2 the service provider.
    """

    def __init__(self, source: int, reason: int, why: str = "") -> None:
        super().__init__(f"aborted {source},{reason} {why}".strip())
        self.source = source
        self.reason = reason


class ConnectionClosed(AssociationEnded):
    """The transport connection went away without a release or an abort."""


class DatabaseError(D360Error):
    """The database refused a statement."""


class DatabaseUnavailable(DatabaseError):
    """
    The database cannot be reached now; the caller may try again later.

    @ivar uncertain: the connection was lost while a commit was under way, so
        the change may or may not have been kept.
    """

    def __init__(self, message: str, uncertain: bool = False) -> None:
        super().__init__(message)
        self.uncertain = uncertain


class ArchiveError(D360Error):
    """A file of the archive cannot be written, read or removed."""


class FileMissing(ArchiveError):
    """A file that the index knows is not there."""


class FileDamaged(ArchiveError):
    """A file does not hold what was stored."""


class TranscodingError(D360Error):
    """A data set cannot be brought to another transfer syntax."""


class WorklistConflict(D360Error):
    """
    A worklist item cannot be written as it is now; the message says why.
    """
