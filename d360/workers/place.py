"""What the server remembers of a worker when that has died."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from d360.workers.choosing import Load
from d360.workers.process import WorkerProcess

#: Seconds before a worker that died is started again.
FIRST_DELAY = 0.1


@define(eq=False)
class Place:
    """
    The place of a worker, which outlives it.

    @ivar share: associations that it may have.
    @ivar handedAt: see L{Load}.
    @ivar retired: associations accepted by those that have died.
    @ivar heard: when it last answered.
    @ivar said: what it last answered to each question.
    @ivar kept: what those that have died answered last.
    """

    number: int
    share: int
    worker: WorkerProcess
    handedAt: int = 0
    restarts: int = 0
    delay: float = FIRST_DELAY
    next: int = 0
    retired: int = 0
    heard: float = 0.0
    isSilent: bool = False
    answers: bool = True
    call: IDelayedCall | None = None
    said: dict[str, Any] = field(factory=dict)
    kept: dict[str, list[Any]] = field(factory=dict)

    @property
    def load(self) -> Load:
        """See L{Load}."""
        worker = self.worker
        return Load(worker.connections, worker.report.live, self.share, self.handedAt)
