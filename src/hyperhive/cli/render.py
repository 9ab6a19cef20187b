"""Facts to words: ages, counts, tables. Pure; what it returns is safe to print."""

import time
from collections.abc import Callable, Sequence

from hyperhive.terminal import cut, pad, visible, width

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def age(seconds: float) -> str:
    """A span as its largest unit: `3m`, `2h`, `0s`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


def ago(at: int, now: float) -> str:
    """How long ago a unix time was; the future counts as now."""
    return f"{age(max(0.0, now - at))} ago"


def clock(at: float) -> str:
    """A unix time as the local time of day, with the date where it is not today's."""
    local, today = time.localtime(at), time.localtime()
    return time.strftime("%H:%M:%S" if local[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", local)


def count(number: int) -> str:
    """A count in at most five columns: `950`, `12.3k`, `4.0M`."""
    if number < 1000:
        return str(number)
    return f"{number / 1000:.1f}k" if number < 1_000_000 else f"{number / 1_000_000:.1f}M"


def money(dollars: float) -> str:
    """A cost; nothing known is no `$0`."""
    return f"${dollars:.4f}" if dollars else "-"


def plural(number: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: int,
    *,
    right: frozenset[int] = frozenset(),
    paint: Callable[[int, str], str] | None = None,
) -> list[str]:
    """An aligned plain table, at most `columns` wide: the widest columns are cut where needed.

    Args:
        header: the names of the columns; all of them empty prints no header.
        rows: cells as others wrote them: they are made visible here.
        columns: how wide the terminal is.
        right: numbers of the columns that are aligned right.
        paint: colours a padded cell, by the number of its column.
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    shown = [list(header), *cells] if any(header) else cells
    if not shown:
        return []
    widths = [max(width(row[index]) for row in shown) for index in range(len(header))]
    _fit(widths, columns - 2 * (len(widths) - 1))
    lines = []
    for number, row in enumerate(shown):
        parts = [
            pad(cut(cell, widths[index]), widths[index], right=index in right)
            for index, cell in enumerate(row)
        ]
        if paint and not (number == 0 and any(header)):
            parts = [paint(index, part) for index, part in enumerate(parts)]
        lines.append("  ".join(parts).rstrip())
    return lines


def _fit(widths: list[int], columns: int) -> None:
    while sum(widths) > columns and max(widths) > 8:
        widest = widths.index(max(widths))
        widths[widest] = max(
            8, widths[widest] - (sum(widths) - columns), sorted(widths)[-2] if len(widths) > 1 else 8
        )
        if widths.count(widths[widest]) > 1 and sum(widths) > columns:
            widths[widest] -= 1
