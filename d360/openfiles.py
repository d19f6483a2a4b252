"""
How many files this process may have open, and so how many connections: an
association that cannot open the file that it is asked for is of no use.
"""

from __future__ import annotations

import resource

#: Open files that the server asks for, as far as it may: one for each
#: association, and some for the disk and the database.
OPEN_FILES = 65536

#: Those that are for other things than connections of peers: the database, the
#: log, the web, child processes, threads that are at work with a file.
RESERVED = 64

#: Connections of peers at least; fewer are no server.
_LEAST = 16


def allowedOpenFiles() -> int:
    """How many this process may have open, after L{raiseOpenFiles}."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return OPEN_FILES
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    return max(soft, wanted)


def raiseOpenFiles() -> None:
    """Have as many as the server asks for, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = allowedOpenFiles()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def mostConnections(openFiles: int) -> int:
    """
    Of peers, in one process. Each needs a descriptor, and another one for what
    it is about: a file that is read, or a connection with somebody else.
    """
    return max(_LEAST, (openFiles - RESERVED) // 2)
