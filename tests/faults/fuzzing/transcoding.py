"""
Compressed frames and what is around them, as a child process that transcodes
gets them: with its memory limit, and in a process of its own, for its decoders
are C libraries.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
from functools import cache
from pathlib import Path

from d360.errors import TranscodingError
from d360.services.header import HeaderError
from d360.transcoding.conversion import convert
from d360.transcoding.job import Job
from d360.transcoding.worker import answer
from tests.faults.fuzzing.target import Target, allowing, check
from tests.services.datasets import DEFLATED, EXPLICIT, IMPLICIT, part10Files
from tests.transcoding.building import (
    BASELINE,
    BIG_ENDIAN,
    HTJ2K,
    JPEG_2000,
    JPEG_LS,
    LOSSLESS,
    RLE,
    SV1,
    encapsulated,
    explicit,
    header,
)
from tests.transcoding.real import stored

_SYNTAXES = (
    EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, RLE, BASELINE, LOSSLESS, SV1, JPEG_LS,
    JPEG_2000, HTJ2K,
)  # fmt: skip
_TARGETS = (EXPLICIT, IMPLICIT, BIG_ENDIAN, SV1)

#: Bytes that a job may take, and what its answer may be of.
_MEMORY = 256 << 20
_LARGEST = 64 << 20


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="d360-fuzz-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _limit() -> None:
    """As the child process does, with what a harness takes of its own."""
    most = 6 << 30
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST, _LARGEST))


def transcode(data: bytes) -> None:
    """The first two bytes choose what from and what to."""
    if len(data) < 3:
        return
    _limit()
    path, output = _folder() / "stored", _folder() / "output"
    path.write_bytes(data[2:])
    output.unlink(missing_ok=True)
    source = _SYNTAXES[data[0] % len(_SYNTAXES)]
    target = _TARGETS[data[1] % len(_TARGETS)]
    line = json.dumps(
        {
            "path": str(path),
            "offset": 0,
            "transferSyntax": source,
            "target": target,
            "output": str(output),
        }
    )
    said = answer(line, _MEMORY)
    if "size" in said:
        check(os.path.getsize(output) == said["size"], "another size than it says")
    else:
        check(not output.exists(), "what failed has left its file")
        if "unexpected" in said["error"]:
            # Once more, to see where it comes from.
            with allowing(TranscodingError):
                convert(Job(**json.loads(line)), _MEMORY)


def _seeds() -> list[bytes]:
    """Short real files, and pixels without compression."""
    pixels = header(4, 6, 16) + explicit(0x7FE00010, "OW", bytes(range(48)))
    found = [bytes([0, target]) + pixels for target in range(4)]
    found.append(
        bytes([4, 0])
        + header(2, 2)
        + encapsulated(b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\3abcd")
    )
    for path in part10Files():
        if path.stat().st_size > 60_000:
            continue
        try:
            file = stored(path)
        except HeaderError:
            continue
        if file.transferSyntax in _SYNTAXES[3:]:
            number = _SYNTAXES.index(file.transferSyntax)
            data = path.read_bytes()[file.offset :]
            found.append(bytes([number, 0]) + data)
    return found


TARGETS = (Target("transcoding", transcode, _seeds, 4, longest=65536),)
