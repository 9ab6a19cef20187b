"""One agent on the whole terminal: what it does now, its rows, and a box to write to it.

It has two modes, as a page has a focus: in the box everything typed is text; Esc leaves it, and the keys of the page
move in the log. `agent_feed` knows the agent, `log_view` the place.
"""

import time
from collections.abc import Callable, Mapping

from hyperhive.cli.common import Session
from hyperhive.cli.render import age, count
from hyperhive.cli.tui import fleet_pages
from hyperhive.cli.tui.agent_feed import AgentFeed
from hyperhive.cli.tui.commands import COMMANDS, Fault, parse
from hyperhive.cli.tui.edit import Edit
from hyperhive.cli.tui.fleet_pages import Page
from hyperhive.cli.tui.log_view import LogView
from hyperhive.cli.tui.loop import Picture, Screen
from hyperhive.cli.tui.rows import Row
from hyperhive.cli.tui.term import Line
from hyperhive.protocol import requests as r
from hyperhive.terminal import cut, pad, visible, width

_KEYS = (
    ("in the box", ""),
    ("Enter", "send; Alt-Enter: a new line; a paste sends nothing by itself"),
    ("Esc, Tab", "leave the box for the log"),
    ("PgUp PgDn, Up Down", "scroll the log"),
    ("Ctrl-D", "detach, where the box is empty"),
    ("in the log", ""),
    ("j k, arrows", "choose a row; Enter: open it, all of it, close it; Space: open all"),
    ("G, End", "to the newest, and follow; Home: the oldest that is here, and older ones"),
    ("p", "pause: stay here, whatever comes; p or G goes on"),
    ("/", "filter: words that must be there, !word that must not; Esc shows all"),
    ("r, i, Tab", "to the box"),
    ("q", "detach; the agent goes on working"),
    ("anywhere", ""),
    ("Ctrl-C", "leave at once"),
)
_FOOT_BOX = "Enter sends  /help  PgUp PgDn scroll  Esc log keys  Ctrl-D detach"
_FOOT_LOG = "j/k rows  Enter open  / filter  p pause  G newest  r write  ? keys  q detach"
_DONE = {
    r.Cancel: "the turn is cancelled; its messages: hyperhive dead",
    r.Compact: "it compacts its session",
    r.Model: "the model is changed from its next turn on",
    r.NewSession: "its next turn starts a new session",
}


class AgentScreen:
    """A `loop.Screen`. `connect` before it is shown raises what keeps it from being shown."""

    def __init__(self, session: Session, name: str, *, write: bool) -> None:
        self.dirty, self.done = True, False
        self.name = name
        self.box = Edit()
        self.writing = write
        self._filter = Edit()
        self._filtering = False
        self._page: Page | None = None
        self._history: list[str] = []
        self.feed = AgentFeed(session, name, self._rows_came, self._changed, time.time)
        self.view = LogView(self.feed.rows)

    def connect(self) -> None:
        """Opens the lines. Raises HiveError: there is no such agent, or no hive."""
        self.feed.wires.connect()

    def _rows_came(self, rows: list[Row]) -> None:
        self.view.came(len(rows))
        self.dirty = True

    def _changed(self) -> None:
        self.dirty = True

    def tick(self, now: float) -> None:
        """Ages go on; lost lines are looked for."""
        self.feed.wires.tick(now)
        self.dirty = True

    def files(self) -> Mapping[int, Callable[[], None]]:
        """The lines to the hive."""
        return self.feed.wires.files()

    def close(self) -> None:
        """Hangs up; the agent goes on."""
        self.feed.wires.close()

    def title(self) -> str:
        """The window's: with a mark where it needs the operator."""
        view = self.feed.view
        return ("(!) " if view is not None and view.state == "needs_you" else "") + f"{self.name} - hive"

    # --- the picture ------------------------------------------------------------------------------------------------

    def picture(self, columns: int, rows: int) -> Picture:
        """Header, log, what was said last, box, keys."""
        if self._page is not None:
            return fleet_pages.picture(self._page, columns, rows)
        self.view.words = self._filter.text
        log = self.view.picture(columns, max(1, rows - 4))
        mark = "> " if self.writing else "  "
        text, at = self.box.shown(columns - 3)
        hint = "" if self.box.text else f"write to {self.name}" + ("" if self.writing else ": r")
        box: Line = [("cyan" if self.writing else "dim", mark), ("", text), ("dim", hint)]
        foot: Line = [("dim", cut(_FOOT_BOX if self.writing else _FOOT_LOG, columns))]
        cursor: tuple[int, int] | None = (rows - 2, at + 2) if self.writing else None
        if self._filtering:
            shown, at = self._filter.shown(columns - 30)
            foot = [("cyan", "/"), ("", shown), ("dim", "   Enter keeps, Esc shows all")]
            cursor = (rows - 1, at + 1)
        lines = [self._head(columns), *log, self._status(columns), box, foot]
        return lines[-rows:], cursor

    def _head(self, columns: int) -> Line:
        feed, now = self.feed, time.time()
        page, view, facts = feed.page, feed.view, feed.facts
        if page is None:
            return [("bold", self.name), ("dim", "  asking the hive ...")]
        state = str(facts.get("state", page.turn_state))
        since = facts.get("since_unix", page.turn_state_since)
        reason = facts.get("reason", page.waiting_reason)
        running = view.running if view else page.running
        word, style = _state_word(state, str(reason or ""), running=running)
        if view is not None and view.state in {"needs_you", "failed"}:
            style = "amber" if view.state == "needs_you" else "red"
            word = f"! needs you, {word}" if view.state == "needs_you" else f"✗ failed, {word}"
        status = str(facts.get("status", page.status))
        parts = [
            visible(str(facts.get("model", page.model))),
            f"context {count(_context(facts, page.ctx_usage.context_tokens if page.ctx_usage else None))}"
            if facts.get("ctx") or page.ctx_usage
            else "",
            "" if status == "online" else visible(status).replace("_", " "),
            f"{view.unread} unread" if view is not None and view.unread else "",
        ]
        line: Line = [("bold", self.name), ("", "  "), (style, f"{word} {age(max(0.0, now - float(since)))}")]
        used = sum(width(text) for _, text in line)
        rest = "  ".join(part for part in parts if part)
        return [*line, ("dim", pad("  " + cut(rest, max(0, columns - used - 2)), columns - used))]

    def _status(self, columns: int) -> Line:
        """What was said last; at the right, where in the log one is."""
        wires, view = self.feed.wires, self.view
        if not wires.up:
            said: tuple[str, str] = (
                "red",
                f"the hive does not answer; trying again (attempt {wires.attempt + 1})",
            )
        else:
            said = ("bold", visible(self.feed.said))
        place = ""
        if not view.follows:
            place = f"↓ {view.new} new: G" if view.new else "paused: G goes on"
        if self._filter.text:
            place = f"/ {visible(cut(self._filter.text, 20))}   {place}"
        text = cut(said[1], max(0, columns - width(place) - 1))
        return [(said[0], pad(text, columns - width(place))), ("amber", place)]

    # --- keys -------------------------------------------------------------------------------------------------------

    def key(self, key: str) -> Screen | None:
        """What a key does."""
        if self._page is not None:
            if key in {"q", "esc", "enter", "?", "o"}:
                self._page = None
            else:
                self._page.move(
                    {"j": 1, "down": 1, "k": -1, "up": -1, "pagedown": 10, "pageup": -10}.get(key, 0)
                )
        elif self._filtering:
            self._filter_key(key)
        elif key in {"pageup", "pagedown"}:
            self._scroll(-10 if key == "pageup" else 10)
        elif self.writing:
            self._box_key(key)
        else:
            self._log_key(key)
        return None

    def _filter_key(self, key: str) -> None:
        if key in {"enter", "esc"}:
            self._filtering = False
            if key == "esc":
                self._filter.clear()
        else:
            self._filter.key(key)
        self.view.end()

    def _box_key(self, key: str) -> None:
        if key == "enter":
            self._submit()
        elif key in {"esc", "tab"}:
            self.writing = False
        elif key == "ctrl+d" and not self.box.text:
            self.done = True
        elif key in {"up", "down"}:
            self._scroll(-1 if key == "up" else 1)
        elif key == "end" and not self.box.text:
            self.view.end()
        else:
            self.box.key(key)

    def _log_key(self, key: str) -> None:
        view = self.view
        if key in {"j", "down"}:
            view.choose(1)
        elif key in {"k", "up"}:
            view.choose(-1)
            self._want_older()
        elif key in {"enter", " "}:
            view.toggle() if key == "enter" else view.toggle_all()
        elif key in {"G", "end"}:
            view.chosen = None
            view.end()
        elif key == "home":
            self._scroll(-1_000_000)
        elif key == "p":
            view.hold() if view.follows else view.end()
        elif key == "/":
            self._filtering = True
        elif key in {"r", "i", "tab"}:
            self.writing = True
        elif key == "?":
            self._page = _help(self.name)
        elif key == "esc" and self._filter.text:
            self._filter.clear()
        elif key in {"q", "o", "ctrl+d"}:
            self.done = True

    def _scroll(self, by: int) -> None:
        self.view.scroll(by)
        if by < 0:
            self._want_older()

    def _want_older(self) -> None:
        if self.view.at_top and not self.view.words:
            self.feed.older()

    def _submit(self) -> None:
        if not self.box.text.strip():
            return
        asked = parse(self.name, self.box.text)
        if isinstance(asked, Fault):
            self.feed.said = asked
            return
        self.box.clear()
        self.view.end()
        if asked is None:
            self._page = _help(self.name)
        elif isinstance(asked, r.Send):
            self.feed.send(asked)
        else:
            self.feed.ask(asked, _DONE[type(asked)])


def _help(name: str) -> Page:
    lines: list[Line] = [[("" if what else "bold", f"{pad(key, 22)}{what}")] for key, what in _KEYS]
    lines.append([("bold", "commands, in the box")])
    lines += [[("", f"{pad('/' + words, 22)}{what}")] for words, what in COMMANDS.items()]
    return Page(f"Keys, with {name}", lines, hang=22)


def _state_word(state: str, reason: str, *, running: bool) -> tuple[str, str]:
    if not running:
        return "- stopped", "dim"
    if state in {"thinking", "compacting"}:
        return f"● {state}", "blue"
    if state == "waiting":
        return f"○ waiting{f' ({visible(reason)})' if reason else ''}", "amber"
    return f"○ {visible(state)}", "green"


def _context(facts: Mapping[str, object], otherwise: int | None) -> int:
    ctx = facts.get("ctx")
    if isinstance(ctx, dict):
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return sum(int(ctx.get(name) or 0) for name in names)
    return otherwise or 0
