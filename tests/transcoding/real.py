"""Real files in other transfer syntaxes: what we make of them, and what others do."""

from __future__ import annotations

import subprocess
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path

from attrs import frozen
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info

from d360.services.header import HeaderError
from d360.services.part10 import readHead
from d360.transcoding.conversion import convert
from d360.transcoding.job import Job
from tests.interop.files import realFiles
from tests.interop.running import dcmtk

#: Plenty for a test's frame.
MEMORY = 1 << 30


@frozen
class Stored:
    """A Part 10 file as the archive would have it."""

    path: Path
    transferSyntax: str
    offset: int


def stored(path: Path) -> Stored:
    with open(path, "rb") as file:
        head = readHead(file)
    return Stored(path, head.transferSyntax, head.dataSetOffset)


@cache
def storedFiles() -> tuple[Stored, ...]:
    """The real ones with a complete File Meta Information."""
    found = []
    for path in realFiles():
        if "TINY_ALPHA" in path.parts:
            # Fifty that differ in their UIDs only.
            continue
        try:
            found.append(stored(path))
        except HeaderError:
            continue
    return tuple(found)


def named(name: str) -> Stored:
    """The real file of this name."""
    (file,) = (file for file in storedFiles() if file.path.name == name)
    return file


def converted(file: Stored, target: str, output: Path) -> bytes:
    """
    Our data set.

    @raise TranscodingError: as L{convert} does.
    """
    output.unlink(missing_ok=True)
    job = Job(str(file.path), file.offset, file.transferSyntax, target, str(output))
    size = convert(job, MEMORY)
    data = output.read_bytes()
    assert len(data) == size
    return data


def part10(data: bytes, transferSyntax: str) -> bytes:
    """A file of a data set."""
    meta = Dataset()
    meta.MediaStorageSOPClassUID = "1.2"
    meta.MediaStorageSOPInstanceUID = "1.2"
    meta.TransferSyntaxUID = transferSyntax
    meta.ImplementationClassUID = "1.2"
    file = DicomBytesIO()
    file.write(bytes(128) + b"DICM")
    write_file_meta_info(file, meta)  # type: ignore[arg-type]
    return file.getvalue() + data


def parsed(data: bytes, transferSyntax: str) -> FileDataset:
    """A data set as pydicom reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(BytesIO(part10(data, transferSyntax)))


def run(program: str, *arguments: str | Path) -> bool:
    """Run one of DCMTK's or another's; whether it was content."""
    path = dcmtk(program) if program.startswith("dcm") else program
    done = subprocess.run(
        [path, *map(str, arguments)], capture_output=True, check=False
    )
    return done.returncode == 0
