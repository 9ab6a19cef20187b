"""How the live table looks: header, columns that fit, one row an agent, and the line that says what the keys do. Pure.

Names are never cut: where it is narrow, other columns go. A state is an icon and a word, never colour alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hyperhive.cli.render import age, clock, count, plural
from hyperhive.cli.tui.edit import Edit
from hyperhive.cli.tui.fleet import STATES, Fleet, chips, state_word
from hyperhive.cli.tui.fleet_pages import Page
from hyperhive.cli.tui.term import Line
from hyperhive.protocol.types import ContainerView
from hyperhive.terminal import cut, pad, visible, width

ICONS: Final = {"needs_you": "!", "failed": "✗", "working": "●", "idle": "○", "stopped": "-"}
COLOURS: Final = {"needs_you": "amber", "failed": "red", "working": "blue", "idle": "green", "stopped": "dim"}
_KEYS: Final = "j/k move  Enter open  r write  Space peek  / filter  s sort  S stop  A start  ? keys  q quit"
_KEYS_SHORT: Final = "Enter open  r write  / filter  s sort  S stop  A start  ? keys  q quit"


@dataclass
class Look:
    """What the operator made of the table: filter, order, marks, and what they are asked or told."""

    words: Edit = field(default_factory=Edit)
    typing: bool = False
    sort: str = "state"
    absolute: bool = False
    paused: float | None = None
    marked: set[str] = field(default_factory=set)
    place: int = 0
    page: Page | None = None
    asks: tuple[str, list[str], Edit] | None = None
    said: str = ""
    lost: int | None = None


def head(fleet: Fleet, look: Look, columns: int, now: float) -> list[Line]:
    """How many are in which state, and what else waits; below it, what is wrong."""
    counts = fleet.counts()
    line: Line = [("bold", "hive")]
    for state in STATES:
        if counts[state] or state in {"needs_you", "working", "idle"}:
            words = f"{counts[state]} {state.replace('_', ' ')}"
            line += [("", "  "), (COLOURS[state] if counts[state] else "dim", f"{ICONS[state]} {words}")]
    stamp = time.strftime("%H:%M:%S", time.localtime(now))
    used = sum(width(text) for _, text in line)
    if columns - used > len(stamp):
        line.append(("dim", pad(stamp, columns - used, right=True)))
    lines: list[Line] = [line]
    lines.append(_waits(fleet, look))
    if look.lost is not None:
        lines.append(
            [("red", f"the hive does not answer; trying again (attempt {look.lost + 1}); this is how it was")]
        )
    hive = fleet.snapshot.hive if fleet.snapshot else None
    if hive is not None and hive.low_disk:
        lines.append([("amber", f"! {visible(hive.low_disk)}")])
    return lines


def _waits(fleet: Fleet, look: Look) -> Line:
    snapshot = fleet.snapshot
    parts: list[str] = []
    if snapshot is not None:
        approvals = sum(approval.status == "pending" for approval in snapshot.approvals)
        waiting = (
            (snapshot.hive.questions, "question"),
            (approvals, "approval"),
            (snapshot.hive.operator_unread, "message"),
        )
        parts = [plural(number, noun) for number, noun in waiting if number]
        parts += [plural(snapshot.hive.dead, "dead letter")] if snapshot.hive.dead else []
        parts += [plural(snapshot.hive.held, "held message")] if snapshot.hive.held else []
    line: Line = [("amber" if parts else "dim", ", ".join(parts) or "nothing waits for you")]
    if look.sort != "state":
        line.append(("dim", f"   by {look.sort}"))
    if look.words.text:
        line.append(("cyan", f"   / {visible(look.words.text)}"))
    if look.marked:
        line.append(("cyan", f"   {len(look.marked)} marked"))
    if look.paused:
        line.append(("amber", "   paused: p goes on"))
    return line


def picture_of(
    fleet: Fleet,
    look: Look,
    views: list[ContainerView],
    place: int,
    top: int,
    columns: int,
    rows: int,
    now: float,
) -> tuple[list[Line], tuple[int, int] | None]:
    """The whole screen, and the cursor's place where one types."""
    lines = head(fleet, look, columns, now)
    room = max(1, rows - len(lines) - 2)
    table = Columns(fleet, views, look, columns, now)
    lines.append([("dim", table.header())])
    shown = views[top : top + room]
    for number, view in enumerate(shown, start=top):
        lines.append(table.row(view, chosen=number == place))
    if not views:
        lines.append([("dim", _why_empty(fleet, look))])
    lines += [[] for _ in range(rows - 1 - len(lines))]
    foot, cursor = _foot(look, len(views) - top - len(shown), columns)
    return [*lines[: rows - 1], foot], (rows - 1, cursor) if cursor is not None else None


def _why_empty(fleet: Fleet, look: Look) -> str:
    if fleet.snapshot is None:
        return "asking the hive ..."
    if look.words.text:
        return f"none of {plural(len(fleet.views), 'agent')} matches; Esc shows all"
    return "no agents yet; create one with `hyperhive spawn NAME`"


def _foot(look: Look, below: int, columns: int) -> tuple[Line, int | None]:
    if look.asks is not None:
        return _question(look.asks, look.said, columns)
    if look.typing:
        text, cursor = look.words.shown(max(8, columns - 40))
        return [
            ("cyan", "/"),
            ("", text),
            ("dim", "   !word leaves out; Enter keeps, Esc clears"),
        ], cursor + 1
    if look.said:
        return [("bold", cut(visible(look.said), columns))], None
    keys = _KEYS if columns >= width(_KEYS) + 12 else _KEYS_SHORT
    more = f"{below} more" if below > 0 else ""
    room = columns - width(more) - 2
    return [("dim", pad(cut(keys, room), room + 2)), ("", more)], None


def _question(asks: tuple[str, list[str], Edit], said: str, columns: int) -> tuple[Line, int | None]:
    verb, names, typed = asks
    if len(names) == 1:
        then = "? Its running turn ends first." if verb == "stop" else "?"
        return [("amber", f"{verb} {names[0]}{then}"), ("bold", "  y yes, n no")], None
    ask = said or f"{verb} {len(names)} agents ({', '.join(names)})"
    goal = f" -- type: {verb} {len(names)}  > "
    text = cut(visible(ask), max(8, columns - width(goal) - 12)) + goal
    shown, cursor = typed.shown(12)
    return [("amber", text), ("", shown)], width(text) + cursor


class Columns:
    """The columns that fit: the name whole, the others as far as there is room, the least important left out first."""

    def __init__(
        self, fleet: Fleet, views: list[ContainerView], look: Look, columns: int, now: float
    ) -> None:
        self._fleet, self._look, self._now = fleet, look, now
        name = max([4, *(len(view.name) for view in fleet.views.values())])
        model = min(18, max([5, *(width(visible(view.model)) for view in views)]))
        since = 8 if look.absolute else 5
        wanted = [
            ("NAME", name), ("STATE", 11), ("SINCE", since), ("DOING", 18), ("UNREAD", 6), ("CTX", 6),
            ("MODEL", model),
        ]  # fmt: skip
        self._fits: dict[str, int] = {}
        left = columns - 2
        for title, size in wanted:
            if left >= size or title == "NAME":
                self._fits[title] = size
                left -= size + 2
        order = ["STATE", "NAME", "DOING", "SINCE", "UNREAD", "CTX", "MODEL"]
        self._order = [title for title in order if title in self._fits]
        if "DOING" in self._fits and left > 0:
            more = min(left, 40) if left > 30 else left
            self._fits["DOING"] += more
            left -= more
        self._chips = max(0, left - 2)

    def header(self) -> str:
        """The names of the columns."""
        parts = [pad(title, self._fits[title], right=title in _RIGHT) for title in self._order]
        return "  " + "  ".join(parts)

    def row(self, view: ContainerView, *, chosen: bool) -> Line:
        """One agent."""
        mark = (">" if chosen else " ") + ("*" if view.name in self._look.marked else " ")
        line: Line = [("bold" if chosen else "", mark)]
        for title in self._order:
            text = visible(_CELLS[title](self, view))
            size = self._fits[title]
            shown = text if title == "NAME" else cut(text, size)
            style = (
                COLOURS[view.state] if title == "STATE" else "chosen" if chosen and title == "NAME" else ""
            )
            line += [(style, pad(shown, size, right=title in _RIGHT)), ("", "  ")]
        if self._chips > 8:
            line.append(("dim", cut(chips(view), self._chips)))
        return line

    def since(self, view: ContainerView) -> str:
        """How long it has been doing that, or since when."""
        at = view.turn_state_since
        if not at:  # it has done nothing since the hive runs
            return ""
        return clock(at)[-8:] if self._look.absolute else age(max(0.0, self._now - at))

    def doing(self, view: ContainerView) -> str:
        """What it does."""
        doing = self._fleet.doing(view, self._now)
        return "" if doing == view.state else doing


_RIGHT: Final = frozenset({"SINCE", "UNREAD", "CTX"})
_CELLS: Final[dict[str, Callable[[Columns, ContainerView], str]]] = {
    "STATE": lambda _, view: f"{ICONS[view.state]} {state_word(view)}",
    "NAME": lambda _, view: view.name,
    "DOING": Columns.doing,
    "SINCE": Columns.since,
    "UNREAD": lambda _, view: str(view.unread) if view.unread else "",
    "CTX": lambda _, view: count(view.ctx_tokens) if view.ctx_tokens is not None else "",
    "MODEL": lambda _, view: view.model,
}
