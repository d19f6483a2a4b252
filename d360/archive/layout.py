"""
Where the files of the archive are: names, and nothing that touches the disk.

Below the archive's folder, an instance is at::

    <2 hex>/<Study Instance UID>/<Series Instance UID>/<SOP Instance UID>.dcm

or, where that name is taken, at C{<SOP Instance UID>-<8 hex>.dcm}: no two
receipts ever share a file. In C{.incoming} are

 - C{<token>.part}: a file on its way that was never committed;
 - C{<path with ~>@<offset of the data set>@<token>}: a mark, a second name of
   a committed file that the index may not know.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from d360.errors import ArchiveError
from d360.model import Location

INCOMING = ".incoming"

#: Where files are put that are not what the index was told of.
DAMAGED = ".damaged"

PART = ".part"

#: PS3.5 chapter 9, and so nothing that means something in a path.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
_FOLDER = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]*\Z")
_MARK = re.compile(r"([^@]+)@([0-9]{1,9})@([0-9a-f-]+)\Z")


def folderOf(study: str, series: str) -> str:
    """
    The folder of a series.

    @raise ArchiveError: a UID is none.
    """
    for uid in (study, series):
        checkUID(uid)
    spread = blake2b(study.encode("ascii"), digest_size=1).hexdigest()
    return f"{spread}/{study}/{series}"


def checkUID(uid: str) -> None:
    """
    @raise ArchiveError: it is no valid UID, and must not become a path.
    """
    if len(uid) > 64 or _UID.match(uid) is None:
        raise ArchiveError("not a valid UID")


def checkFolder(folder: str) -> None:
    """
    @raise ArchiveError: it is no name of a folder on the first level.
    """
    if _FOLDER.match(folder) is None:
        raise ArchiveError("not a folder of the archive")


def checkPath(path: str) -> None:
    """
    @raise ArchiveError: it leads, or could lead, out of the archive.
    """
    parts = path.split("/")
    if "\0" in path or any(not part or part.startswith(".") for part in parts):
        raise ArchiveError("not a path of the archive")


def markOf(path: str, offset: int, token: str) -> str:
    """The name of the mark of a file."""
    return f"{path.replace('/', '~')}@{offset}@{token}"


def fromMark(name: str) -> tuple[Location, str] | None:
    """
    The inverse of L{markOf}.

    @return: the file and the token; C{None} if it is no mark.
    """
    match = _MARK.match(name)
    if match is None:
        return None
    return Location(match[1].replace("~", "/"), int(match[2])), match[3]
