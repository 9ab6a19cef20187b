"""The live table of all agents: what `top` shows on a terminal, and what its keys do.

Rows and their order are `fleet`'s, how a picture is made of them `fleet_picture`'s; here is what the operator does.
"""

import time
from collections.abc import Callable, Mapping

from hyperhive.cli.common import Session
from hyperhive.cli.link import Answer
from hyperhive.cli.tui import fleet_pages
from hyperhive.cli.tui.edit import Edit
from hyperhive.cli.tui.fleet import SORTS, Fleet
from hyperhive.cli.tui.fleet_picture import Look, head, picture_of
from hyperhive.cli.tui.loop import Picture, Screen
from hyperhive.cli.tui.wires import Frame, Wires
from hyperhive.errors import HiveError
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveSnapshot, HiveStatus
from hyperhive.protocol.types import ContainerView

_LOOK_AGAIN_SECONDS = 1.0
"""The least time between two snapshots: counts may be so old, rows are not."""

_MOVES = {"j": 1, "down": 1, "k": -1, "up": -1, "pagedown": 10, "pageup": -10, "ctrl+d": 10, "ctrl+u": -10}


class FleetScreen:
    """A `loop.Screen`. `attach` makes the screen of one agent: (name, whether to begin in its send box)."""

    def __init__(self, session: Session, attach: Callable[[str, bool], Screen]) -> None:
        self.dirty, self.done = True, False
        self.fleet = Fleet()
        self.wires = Wires(session, ["hive"], self._frame, self._ask_all)
        self._attach = attach
        self.look = Look()
        self._chosen: str | None = None
        self._top = 0
        self._first_key = ""
        self._asked_at = 0.0
        self._wanted = False
        self._asking = False

    # --- the hive ---------------------------------------------------------------------------------------------------

    def _ask_all(self) -> None:
        self.fleet.asked()
        self._asked_at, self._wanted, self._asking = time.monotonic(), False, True
        self.wires.request(r.State(), self._told_all)

    def _told_all(self, answer: Answer | HiveError) -> None:
        self._asking = False
        if isinstance(answer, HiveError):
            self.look.said = answer.message
            return
        self._wanted |= self.fleet.load(answer.read(HiveSnapshot))
        self.look.marked &= self.fleet.views.keys()
        self._changed()

    def _frame(self, stream: str, frame: Frame) -> None:
        del stream
        view, wanted = self.fleet.apply(frame)
        self._wanted |= wanted
        if view is not None:
            self._changed()

    def _changed(self) -> None:
        if not self.look.paused:
            self.dirty = True

    def tick(self, now: float) -> None:
        """Ages go on; a snapshot is taken where one is wanted; lost lines are looked for."""
        was_up = self.wires.up
        self.wires.tick(now)
        if (
            self.wires.up
            and self._wanted
            and not self._asking
            and now - self._asked_at >= _LOOK_AGAIN_SECONDS
        ):
            self._ask_all()
        self.look.lost = None if self.wires.up else self.wires.attempt
        if not self.look.paused or not (was_up and self.wires.up):
            self.dirty = True

    def files(self) -> Mapping[int, Callable[[], None]]:
        """The lines to the hive."""
        return self.wires.files()

    def close(self) -> None:
        """Hangs up."""
        self.wires.close()

    # --- the picture ------------------------------------------------------------------------------------------------

    def title(self) -> str:
        """`(3) hive`, as the browser's tab says it."""
        needs = self.fleet.counts()["needs_you"]
        return f"({needs}) hive" if needs else "hive"

    def picture(self, columns: int, rows: int) -> Picture:
        """The whole screen; while it is paused, the one before, with a line that says so."""
        look, now = self.look, look_at_clock(self.look)
        if look.page is not None:
            return fleet_pages.picture(look.page, columns, rows)
        views = self.fleet.shown(look.words.text, look.sort, now)
        place = self._place(views)
        room = max(1, rows - len(head(self.fleet, look, columns, now)) - 2)
        self._top = min(max(self._top, place - room + 1), place, max(0, len(views) - room))
        self._top = max(0, self._top)
        return picture_of(self.fleet, look, views, place, self._top, columns, rows, now)

    def _place(self, views: list[ContainerView]) -> int:
        """Where the chosen agent is now: it stays chosen wherever it moves."""
        names = [view.name for view in views]
        if self._chosen in names:
            return names.index(self._chosen)
        place = min(self.look.place, max(0, len(names) - 1))
        self._chosen = names[place] if names else None
        return place

    # --- keys -------------------------------------------------------------------------------------------------------

    def key(self, key: str) -> Screen | None:
        """What a key does. Nothing that stops an agent is done on one key."""
        look = self.look
        look.said = ""
        if look.asks is not None:
            self._confirm(key)
        elif look.typing:
            self._filter(key)
        elif look.page is not None:
            if key in {"q", "esc", "o", "?", "enter", "backspace"}:
                look.page = None
            else:
                look.page.move(_MOVES.get(key, 0))
        else:
            return self._command(key)
        return None

    def _command(self, key: str) -> Screen | None:
        look = self.look
        views = self.fleet.shown(look.words.text, look.sort, look_at_clock(look))
        place = self._place(views)
        if self._first_key:
            self._first_key = ""
            self._go(key)
        elif key in {"enter", "r"} and views:
            return self._attach(views[place].name, key == "r")
        elif key in _MOVES or key in {"G", "end", "home"}:
            goal = {"G": len(views) - 1, "end": len(views) - 1, "home": 0}.get(
                key, place + _MOVES.get(key, 0)
            )
            look.place = min(max(0, goal), max(0, len(views) - 1))
            self._chosen = views[look.place].name if views else None
        elif key == "g":
            self._first_key = "g"
            look.said = "g: a agents, n needs you, q questions, p approvals, i inbox"
        elif key == "x" and views:
            look.marked ^= {views[place].name}
        elif key in {"S", "A"}:
            self._ask_whether(views, place, stop=key == "S")
        elif key == " " and views:
            self._peek(views[place].name)
        else:
            self._view(key)
        return None

    def _view(self, key: str) -> None:
        look = self.look
        if key == "q":
            self.done = True
        elif key == "/":
            look.typing = True
        elif key == "esc":
            look.words = Edit()
            look.marked = set()
        elif key == "s":
            look.sort = SORTS[(SORTS.index(look.sort) + 1) % len(SORTS)]
        elif key == "t":
            look.absolute = not look.absolute
        elif key == "p":
            look.paused = None if look.paused else time.time()
        elif key == "?":
            look.page = fleet_pages.keys()
        elif key not in {"o", "backspace"}:
            look.said = "? shows the keys"

    def _go(self, key: str) -> None:
        snapshot, look = self.fleet.snapshot, self.look
        if key in {"a", "n"}:
            look.words = Edit("needs you" if key == "n" else "")
        elif snapshot is not None and (page := fleet_pages.page(key, snapshot)) is not None:
            look.page = page
        else:
            look.said = f"g {key}: nothing in a terminal; `hyperhive open` shows the pages"

    def _filter(self, key: str) -> None:
        look = self.look
        if key == "enter":
            look.typing = False
        elif key == "esc":
            look.typing, look.words = False, Edit()
        else:
            look.words.key(key)

    def _peek(self, name: str) -> None:
        def told(answer: Answer | HiveError) -> None:
            self.dirty = True
            if isinstance(answer, HiveError):
                self.look.said = answer.message
            else:
                self.look.page = fleet_pages.detail(answer.read(HiveStatus).agents[0], time.time())

        self.wires.request(r.Status(name=name), told)

    # --- stop and start ---------------------------------------------------------------------------------------------

    def _ask_whether(self, views: list[ContainerView], place: int, *, stop: bool) -> None:
        """The agents are fixed here: what happens to the table while one reads the question changes nothing of it."""
        marked = sorted(self.look.marked) or ([views[place].name] if views else [])
        names = [name for name in marked if self.fleet.views[name].running is stop]
        verb = "stop" if stop else "start"
        if not names:
            self.look.said = f"nothing to {verb}: {'not running' if stop else 'running already'}"
        else:
            self.look.asks = (verb, names, Edit())

    def _confirm(self, key: str) -> None:
        assert self.look.asks is not None  # noqa: S101 (the caller looked)
        verb, names, typed = self.look.asks
        if key == "esc" or (len(names) == 1 and key in {"n", "q"}):
            self.look.asks, self.look.said = None, "nothing was done"
        elif len(names) == 1:
            if key == "y":
                self._act(verb, names)
        elif key == "enter":
            if typed.text.strip() == f"{verb} {len(names)}":
                self._act(verb, names)
            else:
                self.look.said = f"to {verb} them, type: {verb} {len(names)}"
        else:
            typed.key(key)

    def _act(self, verb: str, names: list[str]) -> None:
        self.look.asks, self.look.marked = None, set()
        for name in names:
            self.wires.request(
                r.Kill(name=name) if verb == "stop" else r.Start(name=name),
                lambda answer, name=name: self._acted(verb, name, answer),  # type: ignore[misc]
            )
        what = names[0] if len(names) == 1 else f"{len(names)} agents"
        self.look.said = f"{verb} {what}: asked for" + (
            "; a running turn ends first" if verb == "stop" else ""
        )

    def _acted(self, verb: str, name: str, answer: Answer | HiveError) -> None:
        done = {"stop": "is stopped", "start": "is started"}[verb]
        failed = isinstance(answer, HiveError)
        self.look.said = f"{name}: {answer.message}" if isinstance(answer, HiveError) else f"{name} {done}"
        self.dirty = self.dirty or failed or not self.look.paused


def look_at_clock(look: Look) -> float:
    """The time that the table shows."""
    return look.paused or time.time()
