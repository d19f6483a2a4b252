"""
The digest of a data set, by which a file is known to be what was received.

It is BLAKE3, which is as safe as SHA-256 and takes a fifth of the time: each
byte that is stored passes through it. A digest is kept with a first byte that
names its kind; those without one are the SHA-256 of archives that were begun
with an earlier release, and stay as they are.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Protocol

from blake3 import blake3

_BLAKE3 = b"\x03"


class Digest(Protocol):
    """Takes the bytes of a data set, piece by piece; large ones are best."""

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes."""

    def digest(self) -> bytes:
        """Of all that came."""


class _BLAKE3Digest:
    def __init__(self) -> None:
        self._state = blake3()

    def update(self, data: bytes | memoryview) -> None:
        self._state.update(data)

    def digest(self) -> bytes:
        return _BLAKE3 + self._state.digest()


def newDigest() -> Digest:
    """For what comes in."""
    return _BLAKE3Digest()


def sameKind(known: bytes) -> Digest:
    """
    For what is to be compared with a digest that is known.

    A digest that is none is like no other.
    """
    return sha256() if len(known) == sha256().digest_size else newDigest()


def digestOf(data: bytes | memoryview) -> bytes:
    """Of what is in memory."""
    digest = newDigest()
    digest.update(data)
    return digest.digest()
