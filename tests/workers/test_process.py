"""Tests for L{d360.workers.process}: a process that is really one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from d360.workers.process import WorkerProcess
from d360.workers.wire import Begin, Message


class _Untold(WorkerProcess):
    """One that is told nothing; its way ends as soon as it is there."""

    def _send(self, message: Message) -> None:
        assert self._wire is not None
        transport: Any = self._wire.transport
        transport.loseConnection()


class _Owner:
    """Waits for its end."""

    def __init__(self) -> None:
        self.how = ""
        self.hasEnded: Deferred[None] = Deferred()

    def ended(self, worker: WorkerProcess, how: str) -> None:
        self.how = how

    def silent(self, worker: WorkerProcess) -> None:
        self.hasEnded.callback(None)


class ProcessTests(TestCase):
    """How it is started."""

    timeout = 300

    async def test_workingDirectory(self) -> None:
        """What is in the server's working directory is none of our code."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for name in ("queue", "json"):
            (folder / f"{name}.py").write_text("raise SystemExit(77)")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        owner, said = _Owner(), list[bytes]()
        worker = _Untold(reactor, 1, owner, said.append)
        worker.spawn(Begin(1, 1, {}, "", 1, 1, False))
        await owner.hasEnded
        # As of one that has come so far as to see that its server has gone.
        self.assertEqual(("exit status 1", []), (owner.how, said))
