"""
A target: a part of D360 that takes bytes of a stranger's, and what it may do
with them.
"""

from __future__ import annotations

import gc
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from attrs import define, field, frozen
from twisted.logger import LogLevel, globalLogPublisher

#: Seconds of processor time that an input may take: what takes longer is a
#: finding.
SLOWEST = 1.0
#: Seconds after which an input is given up.
_HANGS = 20


class Hang(BaseException):
    """An input takes too long; no code of ours may catch it."""


@frozen
class Target:
    """
    @ivar run: takes one input; what it raises is a finding.
    @ivar seeds: makes inputs to begin with.
    @ivar share: of all inputs of a long run, among those of all targets.
    @ivar longest: bytes of an input.
    @ivar collects: whether failures in Deferreds nobody looks at can be left
        behind, which only the garbage collection tells.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    share: int
    longest: int = 4096
    collects: bool = False


@frozen
class Finding:
    """
    @ivar where: tells one mistake from another.
    """

    target: str
    where: str
    text: str
    data: bytes


def _placeOf(error: BaseException) -> str:
    """The deepest line of D360, or else the deepest of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/d360/" in frame.filename] or list(frames)
    if not ours:
        return type(error).__name__
    last = ours[-1]
    name = last.filename.rsplit("/", 1)[1]
    return f"{type(error).__name__} in {name}:{last.lineno} {last.name}"


@define
class Examination:
    """
    Runs inputs through a target and keeps what was wrong, one of each kind.

    @ivar slowest: seconds of processor time.
    """

    target: Target
    runs: int = 0
    slowest: float = 0.0
    slowestInput: bytes = b""
    findings: dict[str, Finding] = field(factory=dict)
    _logged: list[Any] = field(factory=list)
    _formerly: Any = None

    def __attrs_post_init__(self) -> None:
        globalLogPublisher.addObserver(self._observe)
        self._formerly = signal.signal(signal.SIGALRM, _giveUp)

    def close(self) -> None:
        """No more will come."""
        self._collect(b"")
        globalLogPublisher.removeObserver(self._observe)
        signal.signal(signal.SIGALRM, self._formerly)

    def _observe(self, event: Any) -> None:
        level = event.get("log_level", LogLevel.info)
        if "log_failure" in event or level >= LogLevel.critical:
            self._logged.append(event)

    def examine(self, data: bytes) -> None:
        """Run one input."""
        self.runs += 1
        signal.setitimer(signal.ITIMER_REAL, _HANGS)
        begin = time.thread_time()
        try:
            self.target.run(data)
        except Hang as error:
            self._found(f"hang, {_placeOf(error)}", traceback.format_exc(), data)
        except Exception as error:
            self._found(_placeOf(error), traceback.format_exc(), data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.thread_time() - begin
        if seconds > self.slowest:
            self.slowest, self.slowestInput = seconds, data
        if seconds > SLOWEST:
            self._found("slow", f"{seconds:.2f} s", data)
        if self.target.collects and self.runs % 500 == 0:
            gc.collect()
        if self._logged:
            self._tellLogged(data)

    def _collect(self, data: bytes) -> None:
        gc.collect()
        if self._logged:
            self._tellLogged(data)

    def _tellLogged(self, data: bytes) -> None:
        logged, self._logged = self._logged, []
        for event in logged:
            failure = event.get("log_failure")
            if failure is None:
                self._found("logged", str(event.get("log_format")), data)
            else:
                where = f"logged {_placeOf(failure.value)}"
                self._found(where, failure.getTraceback(), data)

    def _found(self, where: str, text: str, data: bytes) -> None:
        if where not in self.findings:
            self.findings[where] = Finding(self.target.name, where, text, data)


def _giveUp(number: int, frame: Any) -> None:
    raise Hang


@contextmanager
def allowing(*errors: type[Exception]) -> Any:
    """What a peer's mistake may raise."""
    with suppress(*errors):
        yield


def check(condition: bool, what: str) -> None:
    """
    @raise AssertionError: it does not hold, also where Python is optimized.
    """
    if not condition:
        raise AssertionError(what)
