"""What is shown of the server's work: frozen values, as they are kept."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen


@frozen
class LiveAssociation:
    """
    An association that is open.

    @ivar number: names it in the log.
    @ivar since: aware, UTC.
    @ivar operation: the name of the one under way, C{""} for none.
    @ivar operations: how many have ended on it, by name.
    """

    number: int
    callingAETitle: str
    calledAETitle: str
    peer: str
    since: datetime
    operation: str
    operations: dict[str, int]


@frozen
class LogEvent:
    """
    An event of the log.

    @ivar time: aware, UTC.
    @ivar level: C{"warn"}, C{"error"} or C{"critical"}.
    """

    time: datetime
    level: str
    text: str


@frozen
class RateHistory:
    """
    How much was done in each interval; the last one is under way.

    @ivar interval: in seconds.
    @ivar start: of the first interval; aware, UTC.
    @ivar stored: instances.
    @ivar bytes: of their data sets.
    @ivar queries: C-FIND operations.
    @ivar retrieved: instances sent by C-MOVE and C-GET.
    @ivar failed: operations that failed, or whose association was lost.
    """

    interval: int
    start: datetime
    stored: tuple[int, ...]
    bytes: tuple[int, ...]
    queries: tuple[int, ...]
    retrieved: tuple[int, ...]
    failed: tuple[int, ...]


@frozen
class WorkerState:
    """
    A process that serves associations.

    @ivar number: its place, which those that take over from it have too.
    @ivar pid: 0 while there is no process.
    @ivar answers: it can be given connections, and answers questions.
    @ivar since: when its process was started; aware, UTC.
    @ivar restarts: how often it was started again.
    """

    number: int
    pid: int
    answers: bool
    connections: int
    live: int
    since: datetime
    restarts: int


@frozen
class CertificateState:
    """
    A certificate that we show.

    @ivar use: C{"DICOM"} or C{"web"}.
    @ivar subject: whose it is.
    @ivar fingerprint: SHA-256, in lower case hexadecimal digits.
    @ivar expires: aware, UTC.
    @ivar daysLeft: whole days until then; negative when it has passed.
    """

    use: str
    subject: str
    fingerprint: str
    expires: datetime
    daysLeft: int
