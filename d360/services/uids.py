"""
UIDs as they come from a peer (PS3.5 chapter 9).
"""

from __future__ import annotations

import re

_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")

#: PS3.5 9.1.
MAX_LENGTH = 64


def isUID(text: str) -> bool:
    """
    Whether this is a UID: digits in components, none of them empty, 64
    characters at most. Leading zeros are against PS3.5 9.1 and common; they
    do no harm.
    """
    return len(text) <= MAX_LENGTH and _UID.match(text) is not None


def cleanUID(text: str) -> str:
    """A UID without the padding that some senders leave around it."""
    return text.strip("\0 ")
