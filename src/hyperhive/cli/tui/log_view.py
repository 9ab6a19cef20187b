"""Rows on the screen: wrapped, clamped, scrolled, filtered. It follows the newest only while one is at the bottom.

The place is kept by the row that stands at the bottom, so nothing moves under the reader when rows come.
"""

import time
from typing import Final, cast

from hyperhive.cli.tui.rows import Row, Rows
from hyperhive.cli.tui.term import Line
from hyperhive.cli.tui.tools import MAIL
from hyperhive.cli.tui.wrapping import wrapped
from hyperhive.terminal import cut, pad, visible, visible_lines, width

_LABEL: Final = 9
_STAMP: Final = 10
_CLAMP: Final = 20
"""Lines of a body that are shown at first; Enter shows all of it."""


class LogView:
    """What part of an agent's rows is shown."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.words = ""
        self.chosen: Row | None = None
        self.new = 0
        """How many rows have come below the reader."""
        self._bottom: tuple[Row, int] | None = None
        self._columns = 80
        self._height = 20
        self._first: Row | None = None

    @property
    def follows(self) -> bool:
        """Whether it stays with the newest row."""
        return self._bottom is None

    def came(self, count: int) -> None:
        """Rows were added at the end."""
        self.new = 0 if self.follows else self.new + count

    def shown(self) -> list[Row]:
        """The rows that match the filter."""
        if not self.words:
            return self.rows.rows
        return [row for row in self.rows.rows if _matches(row, self.words)]

    # --- drawing ----------------------------------------------------------------------------------------------------

    def picture(self, columns: int, height: int) -> list[Line]:
        """So many lines, the last ones of what is above and at the place."""
        self._columns, self._height = columns, height
        rows = self.shown()
        index, offset = self._place(rows)
        lines: list[Line] = []
        while index >= 0 and len(lines) < height:
            part = self._lines(rows[index])[: offset + 1]
            lines[:0] = part
            self._first = rows[index]
            index -= 1
            offset = 1_000_000
        lines = lines[-height:]
        return [*lines, *([] for _ in range(height - len(lines)))]

    @property
    def at_top(self) -> bool:
        """Whether the oldest row is on the screen."""
        rows = self.shown()
        return not rows or self._first is rows[0]

    def _place(self, rows: list[Row]) -> tuple[int, int]:
        """The row at the bottom, and which of its lines."""
        if self._bottom is not None:
            row, offset = self._bottom
            if row in rows:
                return rows.index(row), offset
            self._bottom = (rows[0], 0) if rows else None
            return (0, 0) if rows else (-1, 0)
        return len(rows) - 1, 1_000_000

    def _lines(self, row: Row) -> list[Line]:
        key = (self._columns, row.level, row is self.chosen)
        kept = cast("tuple[object, list[Line]] | None", row.lines)
        if kept is None or kept[0] != key:
            kept = (key, _draw(row, self._columns, chosen=row is self.chosen))
            row.lines = kept
        return kept[1]

    # --- moving -----------------------------------------------------------------------------------------------------

    def scroll(self, by: int) -> None:
        """Moves by lines; down past the end follows again."""
        rows = self.shown()
        index, offset = self._place(rows)
        if index < 0:
            return
        offset = min(offset, len(self._lines(rows[index])) - 1) + by
        while offset < 0 and index > 0:
            index -= 1
            offset += len(self._lines(rows[index]))
        while index < len(rows) and offset >= len(self._lines(rows[index])):
            offset -= len(self._lines(rows[index]))
            index += 1
        if index >= len(rows) or (index == len(rows) - 1 and offset == len(self._lines(rows[index])) - 1):
            self.end()
        else:
            self._bottom = (rows[index], max(0, offset))
            self._keep_full(rows)

    def _keep_full(self, rows: list[Row]) -> None:
        """At the very top the screen is still full."""
        assert self._bottom is not None  # noqa: S101 (the caller set it)
        index, offset = self._place(rows)
        above = offset + 1
        while above < self._height and index > 0:
            index -= 1
            above += len(self._lines(rows[index]))
        if above < self._height:
            self._go_below(rows, 0, self._height - 1)

    def _go_below(self, rows: list[Row], index: int, lines: int) -> None:
        """The bottom is so many lines below the first line of that row."""
        while index < len(rows) and lines >= len(self._lines(rows[index])):
            lines -= len(self._lines(rows[index]))
            index += 1
        self._bottom = (rows[index], lines) if index < len(rows) else None

    def end(self) -> None:
        """To the newest, and follow."""
        self._bottom, self.new = None, 0

    def hold(self) -> None:
        """Stays where it is, whatever comes."""
        rows = self.shown()
        if self._bottom is None and rows:
            self._bottom = (rows[-1], len(self._lines(rows[-1])) - 1)

    def choose(self, by: int) -> None:
        """Chooses another row, and moves so that it is on the screen."""
        rows = self.shown()
        if not rows:
            return
        at = rows.index(self.chosen) + by if self.chosen in rows else len(rows) - 1
        at = max(0, min(at, len(rows) - 1))
        self.chosen = rows[at]
        bottom, _ = self._place(rows)
        first = rows.index(self._first) if self._first in rows else 0
        if at == len(rows) - 1 and by > 0:
            self.end()
        elif at <= first:
            self._go_below(rows, at, self._height - 1)
        elif at >= bottom:
            self._bottom = (rows[at], len(self._lines(rows[at])) - 1)
        elif self._bottom is None:
            self.hold()

    def toggle(self) -> None:
        """Opens the chosen row (its beginning, then all of it), and closes it again."""
        row = self.chosen
        if row is None:
            return
        row.level = _next_level(row)
        row.lines = None

    def toggle_all(self) -> None:
        """Opens every row, or closes all that are no text."""
        opened = any(row.level == 0 and row.body for row in self.rows.rows)
        for row in self.rows.rows:
            row.level = 1 if opened or not row.title else 0
            row.lines = None


def _next_level(row: Row) -> int:
    if row.level == 0:
        return 1
    long = len(row.body) > _CLAMP or sum(len(line) for _, line in row.body) > _CLAMP * 60
    return 2 if row.level == 1 and long else 0


def _matches(row: Row, words: str) -> bool:
    text = f"{row.label} {row.title} " + "\n".join(line for _, line in row.body)
    text = text.lower()
    return all(
        (word[1:] not in text) if word.startswith("!") and len(word) > 1 else word in text
        for word in words.lower().split()
    )


def plain_line(row: Row) -> str:
    """A row as one line of text, without its time: for a pipe."""
    first = next((line for _, line in row.body if line.strip()), "")
    more = " …" if len(row.body) > 1 else ""
    beside = row.label in {"turn", *MAIL} and first
    how = f"  · {row.how}" if row.how not in {"", "runs"} else ""
    text = f"{row.title}: {first}{more}" if beside else f"{row.title}{how}" if row.title else first + more
    return f"{pad(visible(row.label), _LABEL)} {visible(text)}".rstrip()


def _draw(row: Row, columns: int, *, chosen: bool) -> list[Line]:
    """The lines of a row: time and label in columns of their own, its text beside them."""
    label, title = row.label, row.title + (f"  · {row.how}" if row.how else "")
    if width(label) > _LABEL:  # another server's tool: its name is long, and must not be cut
        label, title = "tool", f"{label}  {title}"
    stamp = "" if columns < 60 else pad(_stamp(row.at), _STAMP)
    mark = ">" if chosen else " "
    indent = len(stamp) + 1 + _LABEL + 1
    room = max(10, columns - indent - 2 * row.depth)
    text = _text(row, title, room)
    lines: list[Line] = []
    for number, (style, part) in enumerate(text):
        if number == 0:
            head: Line = [
                ("dim", stamp),
                ("bold", mark),
                (row.style, pad(cut(visible(label), _LABEL), _LABEL) + " "),
            ]
        else:
            head = [("", " " * indent)]
        lines.append([*head, ("", "  " * row.depth), (style, part)])
    return lines


def _text(row: Row, title: str, room: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if title:
        found += [
            ("bold" if row.label == "turn" else _of_title(row), part)
            for part in wrapped(visible(title), room)
        ]
    if row.level == 0:
        if not title:
            lines = [line for _, line in row.body if line.strip()]
            first = visible(lines[0]) if lines else ""
            found.append((row.style, cut(first, room - 2) + (" …" if len(row.body) > 1 else "")))
        return found
    inner = "  " if title else ""
    body = row.body if row.level == 2 else row.body[:_CLAMP]
    for style, line in body:
        parts = [part for each in visible_lines(line) for part in wrapped(each, room - len(inner))]
        found += [(style or _of_body(row), inner + part) for part in parts]
    if row.level == 1 and len(found) > 2 * _CLAMP:  # long lines, wrapped
        del found[2 * _CLAMP :]
        found.append(("dim", f"{inner}… it goes on: Enter"))
    elif (left := len(row.body) - len(body)) > 0:
        found.append(("dim", f"{inner}… {left} more lines: Enter"))
    return found or [("", "")]


def _of_title(row: Row) -> str:
    return row.style if row.style in {"red", "dim", "amber"} else ""


def _of_body(row: Row) -> str:
    return row.style if row.style in {"dim", "amber", "magenta"} else ""


def _stamp(at: float | None) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at)) if at is not None else ""
