"""
Many associations at the same time, in one process: some store, some query, the
rest say now and then that they are there (C-ECHO). As little work as can be, so
that the processors are left to the server: C{python -m tests.faults.loadclient
'{...}'}; see L{Orders}. It says each second what was done, as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections import deque
from typing import Any

from attrs import Factory, define, frozen
from pydicom.uid import generate_uid

from tests.faults.attacks.victim import keys
from tests.interop import wire
from tests.interop.running import HOST
from tests.interop.wire import CT, ECHO, EXPLICIT, IMPLICIT, STUDY_FIND
from tests.services.datasets import encode, instance

#: The contexts of each association, in their order.
_STORE, _ECHO, _FIND = 1, 3, 5
PROPOSALS = [(CT, [EXPLICIT]), (ECHO, [IMPLICIT]), (STUDY_FIND, [EXPLICIT])]

#: Instances of a study.
_STUDY = 50

_PENDING = (0xFF00, 0xFF01)
_STATUS = bytes.fromhex("0000000902000000")

#: Takes the place of a UID; they are as long as this.
_PLACE = "9" * 50


@frozen
class Orders:
    """
    @ivar associations: of all kinds.
    @ivar storing: those of them that store.
    @ivar querying: likewise, that query.
    @ivar size: bytes of an instance's pixels.
    @ivar pace: seconds from the begin of one operation of an association to the
        next, if it is not later anyway.
    @ivar idle: the same of those that do nothing else but C-ECHO.
    """

    port: int
    associations: int
    storing: int
    querying: int
    size: int
    pace: float
    idle: float = 10.0


@define
class Done:
    """
    What was done up to now.

    @ivar echoes: milliseconds that the last C-ECHO of the idle ones took.
    @ivar failures: what went wrong, the first ones.
    """

    associations: int = 0
    stored: int = 0
    queries: int = 0
    matches: int = 0
    echoes: deque[float] = Factory(lambda: deque(maxlen=10000))
    failures: list[str] = Factory(list)


def _template(size: int) -> bytes:
    """A C-STORE, with places for the UIDs."""
    dataset = instance(
        StudyInstanceUID=_PLACE.replace("9", "7"),
        SeriesInstanceUID=_PLACE.replace("9", "8"),
        SOPInstanceUID=_PLACE,
        PixelData=bytes(size),
    )
    return wire.store(_STORE, 1, CT, _PLACE, encode(dataset))


class _Client:
    """One association."""

    def __init__(self, orders: Orders, done: Done) -> None:
        self._orders = orders
        self._done = done
        self._number = 0
        self.kept: list[str] = []

    async def open(self) -> None:
        """Have it accepted."""
        self._reader, self._writer = await asyncio.open_connection(
            HOST, self._orders.port
        )
        self._writer.write(wire.request(PROPOSALS, calling="LOAD"))
        kind, body = await self._receive()
        if kind != wire.ACCEPT:
            raise RuntimeError(f"not accepted: PDU {kind}, {body.hex()}")
        self._done.associations += 1

    async def _receive(self) -> tuple[int, bytes]:
        head = await self._reader.readexactly(6)
        kind, length = struct.unpack(">BxI", head)
        return kind, await self._reader.readexactly(length)

    async def _status(self) -> int:
        """Of the next response; a data set is read and left."""
        while True:
            kind, body = await self._receive()
            if kind != wire.DATA:
                raise RuntimeError(f"PDU {kind}: {body.hex()}")
            at = 0
            while at < len(body):
                length, _, control = struct.unpack_from(">IBB", body, at)
                if control & wire.COMMAND:
                    place = body.index(_STATUS, at) + len(_STATUS)
                    return int.from_bytes(body[place : place + 2], "little")
                at += 4 + length

    async def echo(self) -> None:
        """Once."""
        start = time.perf_counter()
        self._writer.write(wire.echo(_ECHO, 1))
        status = await self._status()
        self._done.echoes.append((time.perf_counter() - start) * 1000)
        self._expect(status, "C-ECHO")

    async def store(self, template: bytes) -> None:
        """A new instance, of a new study now and then."""
        if self._number % _STUDY == 0:
            self._study = generate_uid()[:48].ljust(48, "1")
        self._number += 1
        uid = generate_uid()[:49].rstrip(".").ljust(50, "1")
        data = template.replace(_PLACE.encode(), uid.encode())
        study = f"{self._study}.1".encode()
        data = data.replace(b"7" * 50, study).replace(b"8" * 50, study[:-1] + b"2")
        self._writer.write(data)
        await self._writer.drain()
        if self._expect(await self._status(), "C-STORE"):
            self._done.stored += 1
            self.kept.append(uid)

    async def find(self) -> None:
        """Of one kind after the other: a name, a patient, all studies of a day."""
        self._number += 1
        question = (
            keys(
                "STUDY", PatientName="ROS*", StudyInstanceUID="", StudyDate="20990101"
            ),
            keys("STUDY", PatientID=f"P{self._number % 10}", StudyInstanceUID=""),
            keys("STUDY", PatientName="Rossi*", Modality="", StudyInstanceUID="1.2"),
        )[self._number % 3]
        self._writer.write(wire.find(_FIND, 1, STUDY_FIND, encode(question)))
        while (status := await self._status()) in _PENDING:
            self._done.matches += 1
            if self._done.matches % 500 == 0:
                # Enough of it.
                self._writer.write(wire.cancel(_FIND, 1))
        if self._expect(status, "C-FIND", (0, 0xFE00)):
            self._done.queries += 1

    def _expect(self, status: int, what: str, good: tuple[int, ...] = (0,)) -> bool:
        if status not in good:
            self._fail(f"{what} {status:04X}")
        return status in good

    def _fail(self, what: str) -> None:
        if len(self._done.failures) < 20:
            self._done.failures.append(what)

    async def release(self) -> None:
        """In order."""
        self._writer.write(wire.RELEASE)
        await self._receive()
        self._writer.close()

    async def run(self, kind: str, ends: asyncio.Event, template: bytes) -> None:
        """Do what it is for until the end."""
        pause = self._orders.idle if kind == "idle" else self._orders.pace
        try:
            while not ends.is_set():
                start = time.perf_counter()
                if kind == "store":
                    await self.store(template)
                elif kind == "find":
                    await self.find()
                else:
                    await self.echo()
                await _wait(ends, pause - (time.perf_counter() - start))
            await self.release()
        except (OSError, EOFError, RuntimeError, ValueError) as error:
            self._fail(f"{kind}: {error!r}")


async def _wait(ends: asyncio.Event, seconds: float) -> None:
    """So long, or until the end."""
    if seconds > 0:
        try:
            await asyncio.wait_for(ends.wait(), seconds)
        except TimeoutError:
            return


def _tell(done: Done, **more: Any) -> None:
    said = {
        "associations": done.associations,
        "stored": done.stored,
        "queries": done.queries,
        "matches": done.matches,
        "failures": done.failures,
        **more,
    }
    print(json.dumps(said), flush=True)


async def _work(orders: Orders) -> None:
    done, ends = Done(), asyncio.Event()
    template = _template(orders.size)
    clients = [_Client(orders, done) for _ in range(orders.associations)]
    for first in range(0, len(clients), 20):
        await asyncio.gather(*(client.open() for client in clients[first : first + 20]))
    running = []
    for number, client in enumerate(clients):
        kind = "idle"
        if number < orders.storing:
            kind = "store"
        elif number < orders.storing + orders.querying:
            kind = "find"
        running.append(asyncio.create_task(client.run(kind, ends, template)))
        # Not all in step.
        await asyncio.sleep(0.001)
    asyncio.get_running_loop().add_reader(sys.stdin, ends.set)
    while not ends.is_set():
        _tell(done)
        await _wait(ends, 1.0)
    await asyncio.gather(*running)
    kept = [uid for client in clients for uid in client.kept]
    _tell(done, kept=kept, echoes=list(done.echoes))


if __name__ == "__main__":
    asyncio.run(_work(Orders(**json.loads(sys.argv[1]))))
