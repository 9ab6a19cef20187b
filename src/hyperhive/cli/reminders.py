"""`hyperhive remind` and `reminders`: messages that come back later, to you or to an agent."""

import time
from typing import Annotated

from cyclopts import Parameter

from hyperhive.cli.away import note_if_away
from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.render import clock, table
from hyperhive.cli.spans import seconds_of
from hyperhive.errors import BadRequest
from hyperhive.names import OPERATOR
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.types import ReminderEnd
from hyperhive.terminal import visible


def remind(
    name: str,
    message: str | None = None,
    /,
    *,
    within: Annotated[str | None, Parameter(name="--in")] = None,
    delay_seconds: int | None = None,
    due_at: int | None = None,
    file_path: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Have a message come back later.

    Args:
        name: whose reminder it is: an agent's, or operator, you (or, without a second word, the message).
        message: what to say then.
        within: after how long, as 90, 90s, 10m, 2h or 1d.
        delay_seconds: the same in seconds.
        due_at: at which unix time.
        file_path: write it to this file in the agent's state, and mail where it is.
        common: flags of every command.
    """
    session = Session(common)
    if [within, delay_seconds, due_at].count(None) != 2:
        raise BadRequest("a reminder takes one of --in, --delay-seconds and --due-at")
    if within is not None:
        delay_seconds = seconds_of(within, "--in")
    if message is None:
        _refuse_an_agents_name(session, name)
        name, message = OPERATOR, name
    request = r.Remind(
        message=message,
        delay_seconds=delay_seconds,
        due_at=due_at,
        file_path=file_path,
        to=None if name == OPERATOR else name,
    )
    answer = session.ask(request)

    def render() -> None:
        number = answer.read(p.ReminderQueued).id
        due = due_at if due_at is not None else time.time() + (delay_seconds or 0)
        whose = "you" if name == OPERATOR else name
        session.screen.line(visible(f"reminder {number} is set for {whose}, at {clock(due)}"))
        if name != OPERATOR:
            note_if_away(session, name)

    return session.show(answer, render)


def reminders(
    *,
    cancel: Annotated[int | None, Parameter(name="--cancel")] = None,
    common: Common = DEFAULTS,
) -> int:
    """List the reminders that are still to come, yours and the agents', the next one first.

    Args:
        cancel: take this one back, whoever's it is.
        common: flags of every command.
    """
    session = Session(common)
    if cancel is not None:
        done = session.ask(r.CancelLooseEnd(kind="reminder", id=cancel))
        return session.show(done, lambda: session.screen.line(f"reminder {cancel} is taken back"))
    answer = session.ask(r.GetLooseEnds())

    def render() -> None:
        ends = [end for end in answer.read(p.LooseEnds).loose_ends if isinstance(end, ReminderEnd)]
        rows = [
            (str(end.id), end.owner, clock(end.due_at), end.message, end.failure or "-")
            for end in sorted(ends, key=lambda end: (end.due_at, end.id))
        ]
        header = ("id", "for", "due", "message", "failed")
        if rows:
            session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({0})))
        else:
            session.screen.line("no reminder is still to come")

    return session.show(answer, render)


def _refuse_an_agents_name(session: Session, word: str) -> None:
    """One word that names an agent was meant to be whose reminder it is.

    Raises:
        BadRequest: it is one.
    """
    if word in session.ask(r.List()).read(p.Agents).agents:
        raise BadRequest(
            f"say of what {word} is to be reminded",
            hint=f"hyperhive remind {word} TEXT --in 1h (of that word yourself: remind {OPERATOR} {word})",
        )
