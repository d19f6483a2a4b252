"""Which form of an answer a request asks for (RFC 9110 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: RFC 9110 12.4.2.
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def choose(accept: str | None, offered: Sequence[str]) -> str | None:
    """
    The media type that suits best.

    @param accept: the C{Accept} header; parameters other than C{q} do not
        count.
    @param offered: the media types that there are, the preferred one first.
    @return: C{None} where none suits.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_readRange(part) for part in accept.split(",")]
    best, quality = None, 0.0
    for kind in offered:
        value = _qualityOf(kind, ranges)
        if value > quality:
            best, quality = kind, value
    return best


def _readRange(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            value = value.strip()
            return name, float(value) if _QUALITY.fullmatch(value) else 0.0
    return name, 1.0


def _qualityOf(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """By the most specific range that it is in."""
    group = kind.split("/")[0] + "/*"
    for name in (kind, group, "*/*"):
        found = [quality for given, quality in ranges if given == name]
        if found:
            return max(found)
    return 0.0
