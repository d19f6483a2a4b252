"""The little of reStructuredText that a statement is made of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

_WIDTH = 80
_UNDERLINES = ("=", "-", "~", "^")


def heading(depth: int, text: str) -> str:
    """
    A heading.

    @param depth: 0 for a chapter.
    """
    return f"{text}\n{_UNDERLINES[depth] * len(text)}\n"


def title(text: str) -> str:
    """The document's own."""
    line = "=" * len(text)
    return f"{line}\n{text}\n{line}\n"


def paragraph(text: str) -> str:
    """Text, filled."""
    words = " ".join(text.split())
    return (
        textwrap.fill(words, _WIDTH, break_long_words=False, break_on_hyphens=False)
        + "\n"
    )


def bullets(items: Iterable[str]) -> str:
    """A list."""
    return "".join(
        textwrap.fill(
            " ".join(item.split()),
            _WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
        for item in items
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]
) -> str:
    """
    A table.

    @param widths: of the columns, in hundredths.
    """
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        f"   :widths: {' '.join(map(str, widths))}",
        "",
    ]
    for row in (header, *rows):
        for number, cell in enumerate(row):
            start = "   * - " if number == 0 else "     - "
            lines.append((start + cell).rstrip())
    return "\n".join(lines) + "\n"


def document(parts: Iterable[str]) -> str:
    """The parts, with an empty line between them."""
    return "\n".join(parts)
