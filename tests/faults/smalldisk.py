"""A file system of its own that is soon full; it takes root to mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

#: How file systems are made, and whether they take writes past the page cache.
KINDS = ("tmpfs", "ext4")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class SmallDisk:
    """
    A file system, in C{with}: it is unmounted whatever happens.

    @ivar place: where it is mounted.
    @param kind: one of L{KINDS}; C{"tmpfs"} has no O_DIRECT.
    @param size: MiB.
    @param files: how many it takes; 0 for as many as it wants.
    """

    def __init__(self, place: Path, kind: str, size: int, files: int = 0) -> None:
        self.place = place
        self._kind = kind
        self._size = size
        self._files = files
        self._image = place.with_name(f"{place.name}.image")

    def __enter__(self) -> SmallDisk:
        self.place.mkdir(parents=True, exist_ok=True)
        if self._kind == "ext4":
            with open(self._image, "wb") as image:
                image.truncate(self._size << 20)
            inodes = ["-N", str(self._files)] if self._files else []
            _run("mkfs.ext4", "-q", "-m", "0", *inodes, str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()
        self._image.unlink(missing_ok=True)

    def _mount(self) -> None:
        if self._kind == "ext4":
            _run("mount", "-o", "loop", str(self._image), str(self.place))
            return
        options = f"size={self._size}m,mode=755"
        if self._files:
            options += f",nr_inodes={self._files}"
        _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.place))

    def _unmount(self) -> None:
        for _ in range(50):
            done = subprocess.run(
                ["umount", str(self.place)], capture_output=True, check=False
            )
            if not done.returncode:
                break
            time.sleep(0.1)
        else:
            _run("umount", "--lazy", str(self.place))

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.place).free

    def fill(self, leave: int) -> None:
        """
        Take up all but so many bytes.

        @param leave: 0 takes the last one.
        """
        with open(self.place / "filler", "ab") as filler:
            while (more := self.free - leave) > 0:
                try:
                    os.posix_fallocate(
                        filler.fileno(), filler.tell(), min(more, 1 << 20)
                    )
                except OSError:
                    if more <= 4096:
                        return
                    # What remains is less than it seems.
                    filler.write(bytes(4096))
                    filler.flush()
                filler.seek(0, os.SEEK_END)

    def makeRoom(self) -> None:
        """Undo L{fill}."""
        (self.place / "filler").unlink(missing_ok=True)

    def useUpFiles(self) -> int:
        """Make files until no more can be; how many there were."""
        folder = self.place / "files"
        folder.mkdir(exist_ok=True)
        number = 0
        try:
            while True:
                (folder / str(number)).touch(exist_ok=False)
                number += 1
        except OSError:
            return number

    def makeRoomForFiles(self) -> None:
        """Undo L{useUpFiles}."""
        shutil.rmtree(self.place / "files")

    def abort(self) -> None:
        """
        Make it read-only, whoever has files open on it, as the system does when
        it finds errors: ext4 only.
        """
        _run("mount", "-o", "remount,abort", str(self.place))

    def mountAgain(self) -> None:
        """Unmount it, when nobody uses it, repair it and mount it."""
        self._unmount()
        subprocess.run(["e2fsck", "-fy", self._image], capture_output=True, check=False)
        self._mount()
