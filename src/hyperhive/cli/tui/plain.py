"""`top` and `attach` where nobody can place a cursor: plain lines, one for each thing that happens, no control codes.

It ends at once, and silently, when the reader of the pipe has gone. A hive that goes away is waited for.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from hyperhive.cli.common import Session
from hyperhive.cli.link import Answer
from hyperhive.cli.render import clock
from hyperhive.cli.tui.agent_feed import PAGE, AgentFeed
from hyperhive.cli.tui.commands import COMMANDS, Fault, parse
from hyperhive.cli.tui.fleet import Fleet, state_word
from hyperhive.cli.tui.log_view import plain_line
from hyperhive.cli.tui.rows import Row
from hyperhive.cli.tui.wires import Frame, Wires
from hyperhive.errors import HiveError
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveSnapshot
from hyperhive.protocol.types import ContainerView
from hyperhive.terminal import visible

_WAIT_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.2
_INPUT: Final = 0


def plain_top(session: Session) -> int:
    """Every agent, who needs the operator first, and from then on each change."""
    told = _Changes(session)
    told.wires.connect()
    _follow(session, told.wires, {})
    return 0


def plain_attach(session: Session, name: str) -> int:
    """The newest history, and from then on each row; each line of standard input is sent, or is a command."""
    told = _Rows(session, name)
    told.feed.wires.connect()
    if not session.common.as_json:
        session.screen.note(f"watching {name}; a line typed here is sent to it, Ctrl-C leaves")
    lines = _Lines(told.typed)
    _follow(session, told.feed.wires, {_INPUT: lines.read}, keep=lambda: not lines.ended)
    return 0


def plain_log(
    session: Session,
    name: str,
    *,
    follow: bool,
    lines: int,
    span: tuple[int | None, int | None],
    picked: Callable[[str], bool],
    level: int,
) -> int:
    """An agent's newest rows that are wanted, and with `follow` what comes then.

    Args:
        session: the command.
        name: the agent.
        follow: go on until Ctrl-C.
        lines: how many of the rows that are there already.
        span: from when to when, in unix seconds.
        picked: whether a line is wanted.
        level: 2: only notes and failures; 3: only failures.
    """
    log = _Log(session, name, lines, span, picked, level)
    log.feed.wires.connect()
    _follow(session, log.feed.wires, {}, go_on=lambda: follow or not log.printed)
    return 0


class _Changes:
    """What is said of the fleet: a line where an agent's state, doing or mail is another than was said."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.wires = Wires(session, ["hive"], self._frame, self._ask)
        self._fleet = Fleet()
        self._said: dict[str, tuple[object, ...]] = {}

    def _ask(self) -> None:
        self._fleet.asked()
        self.wires.request(r.State(), self._told)

    def _told(self, answer: Answer | HiveError) -> None:
        if isinstance(answer, HiveError):
            return
        if self._session.common.as_json:
            self._session.screen.json(answer.raw)
        self._fleet.load(answer.read(HiveSnapshot))
        for view in self._fleet.shown("", "state", time.time()):
            self._say(view)
        self._session.screen.flush()

    def _frame(self, stream: str, frame: Frame) -> None:
        del stream
        view, _ = self._fleet.apply(frame)
        if self._session.common.as_json:
            if frame.get("kind") != "heartbeat":
                self._session.screen.json(msgspec.json.encode(frame))
        elif frame.get("kind") == "container_removed":
            self._said.pop(str(frame.get("name")), None)
            self._session.screen.line(f"{clock(time.time())}  gone       {visible(str(frame.get('name')))}")
        elif view is not None:
            self._say(view)
        self._session.screen.flush()

    def _say(self, view: ContainerView) -> None:
        doing = self._fleet.doing(view, time.time())
        facts = (view.state, doing, view.unread)
        if self._session.common.as_json or self._said.get(view.name) == facts:
            return
        self._said[view.name] = facts
        unread = f"  {view.unread} unread" if view.unread else ""
        line = f"{clock(time.time())}  {state_word(view):<9}  {visible(view.name)}  {visible(doing)}{unread}"
        self._session.screen.line(line)


class _Rows:
    """What is said of one agent: a line a row."""

    def __init__(self, session: Session, name: str, history: int = PAGE) -> None:
        self._session = session
        self.feed = AgentFeed(
            session, name, self._made, self._changed, time.time, self._frame, history=history
        )
        self._remark = ""

    def _frame(self, frame: Frame) -> None:
        if self._session.common.as_json:
            self._session.screen.json(msgspec.json.encode(frame))
            self._session.screen.flush()

    def _made(self, rows: list[Row]) -> None:
        if not self._session.common.as_json:
            for row in rows:
                stamp = clock(row.at) if row.at is not None else ""
                self._session.screen.line(f"{stamp:8}  {plain_line(row)}")
            self._session.screen.flush()

    def _changed(self) -> None:
        if self.feed.said and self.feed.said not in {self._remark, "sending ..."}:
            self._remark = self.feed.said
            self._session.screen.note(self.feed.said)

    def typed(self, line: str) -> None:
        """A line of standard input."""
        if not line.strip():
            return
        asked = parse(self.feed.name, line)
        if isinstance(asked, Fault):
            self._session.screen.note(asked)
        elif asked is None:
            for words, what in COMMANDS.items():
                self._session.screen.note(f"/{words}: {what}")
        elif isinstance(asked, r.Send):
            self.feed.send(asked)
        else:
            self.feed.ask(asked, "done")


class _Log(_Rows):
    """The same, as far as it is wanted; of what is there already only the last lines."""

    def __init__(
        self,
        session: Session,
        name: str,
        lines: int,
        span: tuple[int | None, int | None],
        picked: Callable[[str], bool],
        level: int,
    ) -> None:
        super().__init__(session, name, history=min(2000, lines * 5))
        self.printed = False
        """Whether what was there already has been printed."""
        self._lines = lines
        self._span = span
        self._picked = picked
        self._level = level

    def _frame(self, frame: Frame) -> None:
        """JSON, too, is printed by the row: what is not wanted is left out of it."""

    def _made(self, rows: list[Row]) -> None:
        wanted = [row for row in rows if self._wants(row)]
        if not self.printed:
            wanted = wanted[-self._lines :]
        if self._session.common.as_json:
            for row in wanted:
                facts = {"at": row.at, "eid": row.eid, "label": row.label, "title": row.title}
                body = "\n".join(line for _, line in row.body)
                self._session.screen.json(msgspec.json.encode({**facts, "body": body}))
            self._session.screen.flush()
        else:
            super()._made(wanted)

    def _changed(self) -> None:
        self.printed = self.printed or self.feed.has_history
        super()._changed()

    def _wants(self, row: Row) -> bool:
        since, until = self._span
        grave = (
            3 if row.error else 2 if row.label in {"note", "stderr", "gap", "limit", "retry", "denied"} else 1
        )
        at = row.at or 0
        return (
            grave >= self._level
            and (since is None or at >= since)
            and (until is None or at < until + 1)
            and self._picked(plain_line(row))
        )


class _Lines:
    """Standard input, line by line, as it comes."""

    def __init__(self, took: Callable[[str], None]) -> None:
        self._took = took
        self._rest = b""
        self.ended = False

    def read(self) -> None:
        try:
            chunk = os.read(_INPUT, 65536)
        except OSError:
            chunk = b""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if not chunk:
            lines, self._rest, self.ended = [*lines, self._rest], b"", True
        for line in lines:
            self._took(line.decode("utf-8", "replace"))


def _follow(
    session: Session,
    wires: Wires,
    also: dict[int, Callable[[], None]],
    keep: Callable[[], bool] = lambda: True,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Until Ctrl-C, `go_on()` says no, or nobody reads any more; `also` is waited for while `keep()` says so."""
    out, away = sys.stdout.fileno(), False
    while go_on():
        wires.tick(time.monotonic())
        if away is wires.up:
            away = not wires.up
            session.screen.note("the hive does not answer; waiting for it" if away else "the hive is back")
        calls = {**wires.files(), **(also if keep() else {})}
        poll = select.poll()
        poll.register(out, 0)  # an error there is told without being asked for: the pipe's reader is gone
        for file in calls:
            poll.register(file, select.POLLIN)
        for file, event in poll.poll((_WAIT_SECONDS if wires.up else _LOOK_SECONDS) * 1000):
            if file in calls:
                calls[file]()
            elif event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                raise BrokenPipeError
