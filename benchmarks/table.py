"""Results as tables, for Markdown and for reStructuredText."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import Measure, Results, advantage

OURS = "D360"


def number(value: float) -> str:
    """With three digits that count, or all before the point."""
    size = abs(value)
    for limit, places in ((100, 0), (10, 1), (1, 2)):
        if size >= limit:
            return f"{value:.{places}f}"
    return f"{value:.3f}" if size else "0"


def _cell(
    results: Results, work: str, measure: Measure, server: str, ours: float | None
) -> str:
    value = results.median(work, measure, server)
    if value is None:
        return ""
    text = number(value)
    if server != OURS and ours is not None:
        ratio = advantage(measure, ours, value)
        text += f" ({number(ratio)} x)" if ratio else ""
    return text + (" *" if results.notes(work, server) else "")


def _best(
    results: Results, work: str, measure: Measure, peers: Sequence[str]
) -> float | None:
    values = [results.median(work, measure, peer) for peer in peers]
    there = [value for value in values if value is not None]
    if not there:
        return None
    return max(there) if measure.more else min(there)


def cells(results: Results, servers: Sequence[str]) -> list[list[str]]:
    """
    The table, its head first. A peer's figure has behind it how many times
    better ours is.
    """
    peers = [s for s in servers if s != OURS and s not in results.references]
    table = [["work", "measure", *servers, f"{OURS} to best peer"]]
    for work, measure in results.rows():
        ours = results.median(work, measure, OURS)
        best = _best(results, work, measure, peers)
        ratio = None
        if ours is not None and best is not None:
            ratio = advantage(measure, ours, best)
        row = [_cell(results, work, measure, s, ours) for s in servers]
        table.append([work, measure.name, *row, f"{number(ratio)} x" if ratio else ""])
    return table


def notes(results: Results, servers: Sequence[str]) -> list[str]:
    """What the asterisks stand for."""
    lines = []
    for work in dict.fromkeys(work for work, _ in results.rows()):
        for server in servers:
            found = results.notes(work, server)
            if found:
                lines.append(f"{work}, {server}: {'; '.join(found)}")
    return lines


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines
    )


def restructured(table: Sequence[Sequence[str]]) -> str:
    """A C{list-table} of reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in table:
        for number_, cell in enumerate(row):
            mark = "-" if number_ else "* -"
            text = cell.replace(" *", r" \*")
            lines.append(f"   {mark:>3} {text}".rstrip())
    return "\n".join(lines)
