"""The low-water mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from d360.archive.freespace import INTERVAL, LEAST_FILES, FreeSpace, Room, roomOf
from d360.interfaces import IFreeSpace
from tests.contracts.memoryfreespace import MemoryFreeSpace

MIB = 1 << 20


class FreeSpaceTests(SynchronousTestCase):
    """Looked at every second, in a thread; said once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.room: Room | OSError = Room(200 * MIB)
        self.looks = 0
        self.held: Deferred[None] | None = None
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_level") is LogLevel.warn:
            self.said.append(event["log_format"].format_map(event))

    def inThread(self, function: Any, *arguments: Any) -> Deferred[Any]:
        self.looks += 1
        held = self.held or succeed(None)
        return held.addCallback(lambda _: function(*arguments))

    def roomOf(self, folders: Sequence[str]) -> Room:
        self.assertEqual(folders, ["one", "two"])
        if isinstance(self.room, OSError):
            raise self.room
        return self.room

    def make(
        self, minimum: int = 100 * MIB, isTold: bool = True, processes: int = 1
    ) -> FreeSpace:
        space = FreeSpace(
            ["one", "two"],
            self.inThread,
            self.clock,
            minimum,
            isTold,
            processes,
            self.roomOf,
        )
        self.addCleanup(space.stop)
        self.successResultOf(space.start())
        return space

    def after(self, space: FreeSpace, room: Room | OSError) -> tuple[bool, bool]:
        """Whether it is low, and critical, at the next look."""
        self.room = room
        self.clock.advance(INTERVAL)
        return space.isLow, space.isCritical

    def test_interface(self) -> None:
        verifyObject(IFreeSpace, self.make())
        verifyObject(IFreeSpace, MemoryFreeSpace())

    def test_atTheStart(self) -> None:
        """It is known before anything is served."""
        self.assertFalse(self.make().isLow)
        self.room = Room(99 * MIB)
        self.assertTrue(self.make().isLow)

    def test_goesOnByItself(self) -> None:
        """One warning when storing ends, and one when it goes on."""
        space = self.make()
        self.assertEqual(self.after(space, Room(100 * MIB)), (False, False))
        for _ in range(3):
            self.assertEqual(self.after(space, Room(100 * MIB - 1)), (True, False))
        (warning,) = self.said
        self.assertIn("Only 99 MiB are free, and min_free_space is 100", warning)
        # A little more is not enough, or it would begin and end all the time.
        self.assertEqual(self.after(space, Room(101 * MIB)), (True, False))
        self.assertEqual(self.after(space, Room(107 * MIB)), (False, False))
        self.assertEqual(len(self.said), 2)
        self.assertIn("107 MiB: storing goes on", self.said[1])

    def test_critical(self) -> None:
        """What is on its way may use up half of what is kept free."""
        space = self.make()
        self.assertEqual(self.after(space, Room(50 * MIB)), (True, False))
        self.assertEqual(self.after(space, Room(50 * MIB - 1)), (True, True))
        self.assertEqual(self.after(space, Room(50 * MIB)), (True, False))
        self.assertEqual(len(self.said), 1)

    def test_files(self) -> None:
        """A file system may run out of inodes instead."""
        space = self.make()
        self.assertEqual(
            self.after(space, Room(200 * MIB, LEAST_FILES)), (False, False)
        )
        self.assertEqual(
            self.after(space, Room(200 * MIB, LEAST_FILES - 1)), (True, False)
        )
        self.assertIn(f"only {LEAST_FILES - 1} more files", self.said[0])
        self.assertEqual(self.after(space, Room(200 * MIB)), (False, False))

    def test_none(self) -> None:
        """With 0 nothing is looked at, also not when it is asked for."""
        self.room = Room(0)
        space = self.make(0)
        space.look()
        self.clock.advance(10 * INTERVAL)
        self.assertEqual((self.looks, space.isLow), (0, False))

    def test_look(self) -> None:
        """Who has failed to write has it looked at now; once at a time."""
        space = self.make()
        self.room = Room(0)
        self.held = held = Deferred()
        space.look()
        space.look()
        self.assertEqual((self.looks, space.isLow), (2, False))
        held.callback(None)
        self.assertTrue(space.isLow)

    def test_taken(self) -> None:
        """
        Much may arrive within a second: as soon as it may be too much, it is
        looked at; and again when it may be half of that.
        """
        space = self.make()
        space.take(100 * MIB)
        self.assertEqual(self.looks, 1)
        self.room = Room(110 * MIB)
        space.take(1)
        self.assertEqual((self.looks, space.isLow), (2, False))
        self.room = Room(99 * MIB)
        space.take(10 * MIB)
        self.assertEqual((self.looks, space.isLow), (2, False))
        space.take(1)
        self.assertEqual((self.looks, space.isLow), (3, True))
        self.room = Room(49 * MIB)
        space.take(49 * MIB)
        self.assertEqual((self.looks, space.isCritical), (3, False))
        space.take(1)
        self.assertEqual((self.looks, space.isCritical), (4, True))
        space.take(1000 * MIB)
        self.assertEqual(self.looks, 4)
        self.assertEqual(self.after(space, Room(200 * MIB)), (False, False))

    def test_takenByOthers(self) -> None:
        """Of several processes, each takes it that the others write as much."""
        space = self.make(processes=4)
        space.take(25 * MIB)
        self.assertEqual(self.looks, 1)
        self.room = Room(99 * MIB)
        space.take(1)
        self.assertEqual((self.looks, space.isLow), (2, True))

    def test_unknown(self) -> None:
        """Where it cannot be known, all stays as it was."""
        space = self.make()
        self.after(space, Room(0))
        self.assertEqual(self.after(space, OSError(5, "broken")), (True, True))
        self.assertEqual(self.after(space, Room(200 * MIB)), (False, False))

    def test_othersTell(self) -> None:
        """Of several processes, one says so in the log."""
        self.assertTrue(self.after(self.make(isTold=False), Room(0))[0])
        self.assertEqual(self.said, [])

    def test_stopped(self) -> None:
        """No more looks, also not for who asks."""
        space = self.make()
        space.stop()
        space.look()
        self.clock.advance(10 * INTERVAL)
        self.assertEqual(self.looks, 1)


class RoomTests(SynchronousTestCase):
    """What the system says."""

    def test_least(self) -> None:
        """Of several file systems, the one with the least."""
        folder = self.mktemp()
        self.assertRaises(FileNotFoundError, roomOf, [folder])
        room = roomOf([".", "/proc"])
        self.assertEqual(room.size, 0)
        self.assertGreater(roomOf(["."]).size, 0)
