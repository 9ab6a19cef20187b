"""The command that prints what happens, in one agent or in the hive: `events`, its history, and with -f on from there.

Following subscribes before it asks for the history, so that nothing falls between the two.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.frames import Fields, agent_line, hive_line
from hyperhive.cli.link import Frames
from hyperhive.cli.render import clock
from hyperhive.errors import BadRequest
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import EventPage, HivePast

Follow = Annotated[bool, Parameter(name=["--follow", "-f"], negative="")]

HIVE = "hive"
"""The name of the hive's own stream."""


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
