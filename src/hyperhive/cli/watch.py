"""Commands that print what happens: events (history, and on with -f) and logs.

Following subscribes before it asks for the history, so that nothing falls between the two.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.frames import Fields, agent_line, hive_line
from hyperhive.cli.link import Frames
from hyperhive.cli.render import clock
from hyperhive.cli.spans import moment
from hyperhive.errors import BadRequest, HiveUnreachable, NotFound
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import EventPage, HivePast, HiveStatus, LogLines
from hyperhive.terminal import visible

Follow = Annotated[bool, Parameter(name=["--follow", "-f"], negative="")]

HIVE = "hive"
"""The name of the hive's own stream."""

_POLL_SECONDS = 0.3
"""How often a followed file is looked at; the standard library has no file notification."""


def events(
    name: str | None = None,
    /,
    *,
    follow: Follow = False,
    limit: int = 200,
    before: str | None = None,
    kind: str | None = None,
    grep: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Print what happened, in one agent or in the hive, and with -f what happens from then on.

    Args:
        name: the agent; without one, the hive: mail, decisions and changes of agents.
        follow: go on until Ctrl-C.
        limit: how many events of the history.
        before: only history before this: an event (`eid`) of the agent's, or the place (`older`) that a page of the
            hive's history said.
        kind: only history of this kind (of an agent).
        grep: only history with this text in it (of an agent).
        common: flags of every command.
    """
    session = Session(common)
    if name is None and (kind or grep):
        raise BadRequest("--kind and --grep are for one agent's history", hint="name the agent")
    words = hive_line if name is None else agent_line
    live = session.dial() if follow else None
    frames = live.subscribe(name or HIVE) if live else None
    answer = session.ask(_history(name, limit, before, kind, grep))
    page: EventPage | HivePast = answer.read(HivePast) if name is None else answer.read(EventPage)
    if frames is None and common.as_json:
        return session.show(answer, lambda: None)
    for event in page.events:
        _print_frame(session, event, words, "")
    if frames is None:
        if not page.events:
            session.screen.line("no events")
        return 0
    return _follow(session, frames, words, after=page.seq)


def _history(
    name: str | None, limit: int, before: str | None, kind: str | None, grep: str | None
) -> r.Events | r.History:
    if name is None:
        return r.History(before=before, limit=limit)
    if before is not None and not before.isdecimal():
        raise BadRequest(f"--before {before[:80]!r} is no event of {name}'s", hint="say an event's `eid`")
    return r.Events(name=name, limit=limit, before=None if before is None else int(before), kind=kind, q=grep)


def logs(
    name: str | None = None,
    /,
    *,
    follow: Follow = False,
    lines: int = 200,
    since: str | None = None,
    until: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Print the log of one agent, or of the hive itself.

    Args:
        name: the agent; without one, the hive's own log file, also when the hive is down.
        follow: go on until Ctrl-C.
        lines: how many of the last lines.
        since: only what was said so long ago or later (90s, 10m, 2h, 1d, or unix seconds); of an agent then also what
            the hive's own log says of it.
        until: only what was said so long ago or earlier.
        common: flags of every command.
    """
    session = Session(common)
    if name is None and (follow or not _reachable(session)):
        return _hive_log(session, _log_file(session), follow=follow, lines=lines)
    live = session.dial() if follow else None
    frames = live.subscribe(name) if live and name else None
    answer = session.ask(
        r.Logs(name=name, lines=lines, since=moment(since, "--since"), until=moment(until, "--until"))
    )
    if common.as_json and frames is None:
        return session.show(answer, lambda: None)
    for line in answer.read(LogLines).lines:
        _print_log_line(session, line)
    return 0 if frames is None else _follow(session, frames, agent_line)


# --- streams --------------------------------------------------------------------------------------------------------


def _follow(
    session: Session, frames: Frames, words: Callable[[Fields, int], str | None], after: int = 0
) -> int:
    """Prints frames until Ctrl-C; those up to `after` were in the history already."""
    while True:
        frame: dict[str, Any] = msgspec.json.decode(frames.next())
        if 0 < int(frame.get("seq", 0)) <= after:
            continue
        _print_frame(session, frame, words, clock(time.time()))
        session.screen.flush()


def _print_frame(
    session: Session, frame: Fields, words: Callable[[Fields, int], str | None], otherwise: str
) -> None:
    """One frame, with the time that it bears, or `otherwise` where it bears none."""
    if session.common.as_json:
        session.screen.json(msgspec.json.encode(frame))
        return
    at = next((frame[key] for key in ("ts", "at", "since_unix") if isinstance(frame.get(key), int)), None)
    stamp = f"{clock(at) if at is not None else otherwise:8}"
    if (line := words(frame, session.screen.columns - len(stamp) - 2)) is not None:
        session.screen.line(f"{session.screen.paint(stamp, 'dim')}  {line}")


# --- log files ------------------------------------------------------------------------------------------------------


def _reachable(session: Session) -> bool:
    try:
        return session.link is not None
    except HiveUnreachable:
        return False


def _log_file(session: Session) -> Path:
    """The log of the running hive, else of the one whose state was named."""
    running = _reachable(session)
    state = Path(session.ask(r.Status()).read(HiveStatus).hive.state_dir) if running else session.state_dir()
    return state / "log" / "hive.log"


def _hive_log(session: Session, path: Path, *, follow: bool, lines: int) -> int:
    if lines < 1:
        raise BadRequest("--lines takes a number above 0")
    try:
        file = path.open(encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise NotFound(
            f"there is no log {path}: {error.strerror}", hint="name the hive's state with --state-dir"
        ) from error
    with file:
        for line in _tail(file, lines):
            _print_log_line(session, line)
        session.screen.flush()
        for line in _appended(file, path) if follow else ():
            _print_log_line(session, line)
            session.screen.flush()
    return 0


def _tail(file: IO[str], lines: int) -> list[str]:
    from collections import deque

    return [line.rstrip("\n") for line in deque(file, maxlen=lines)]


def _appended(file: IO[str], path: Path) -> Iterator[str]:
    """Lines as they are written; goes on with the new file when the log is rotated."""
    rest = ""
    while True:
        rest += file.read()
        *whole, rest = rest.split("\n")
        yield from whole
        if whole:
            continue
        if _rotated(file, path):
            with path.open(encoding="utf-8", errors="backslashreplace") as newer:
                yield from _appended(newer, path)
        time.sleep(_POLL_SECONDS)


def _rotated(file: IO[str], path: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _print_log_line(session: Session, line: str) -> None:
    if session.common.as_json:
        session.screen.json(line if line.startswith("{") else msgspec.json.encode({"line": line}))
    else:
        session.screen.line(_readable(line))


def _readable(line: str) -> str:
    """A JSON log line as `time level event key=value`; any other line as it is."""
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return visible(line)
    if not isinstance(fields, dict):
        return visible(line)
    head = [str(fields.pop(key, "")) for key in ("timestamp", "level", "event")]
    text = f"{head[0]}  {head[1]:<8} {head[2]}"
    for key, value in fields.items():
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        text += f" {key}={shown}"
    return visible(text)
