"""`hyperhive remind` and `reminders`: messages that come back later, to you or to an agent."""

from typing import Annotated, Final

from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.render import clock, table
from hyperhive.errors import BadRequest
from hyperhive.names import OPERATOR
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.types import ReminderEnd

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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
    if message is None:
        name, message = OPERATOR, name
    if [within, delay_seconds, due_at].count(None) != 2:
        raise BadRequest("a reminder takes one of --in, --delay-seconds and --due-at")
    if within is not None:
        delay_seconds = _seconds(within)
    request = r.Remind(
        message=message,
        delay_seconds=delay_seconds,
        due_at=due_at,
        file_path=file_path,
        to=None if name == OPERATOR else name,
    )
    session = Session(common)
    answer = session.ask(request)
    number = answer.read(p.ReminderQueued).id
    return session.show(answer, lambda: session.screen.line(f"reminder {number} is set"))


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


def _seconds(text: str) -> int:
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise BadRequest(f"{text[:80]!r} is no time span: a number with s, m, h or d behind it")
    return int(number) * _UNITS[unit]
