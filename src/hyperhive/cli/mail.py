"""Commands about mail: send (and wait until it was worked), inbox, dead.

Waiting watches the hive's own stream: a message is done when the hive says so, never because time has passed.
"""

import sys
import time
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from hyperhive.cli.away import note_if_away
from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.frames import mail_line
from hyperhive.cli.link import Frames
from hyperhive.cli.render import ago, plural
from hyperhive.errors import BadRequest, HiveError, NotFound, TimedOut
from hyperhive.protocol import requests as r
from hyperhive.protocol.events import QuestionAnswered
from hyperhive.protocol.replies import DeadLetters, HiveStatus, InboxRows, Ok
from hyperhive.protocol.types import OperatorInboxRow, Urgency
from hyperhive.terminal import cut, visible

Ids = Annotated[list[int] | None, Parameter(negative="", consume_multiple=True)]
Flag = Annotated[bool, Parameter(negative="")]


class _Moved(msgspec.Struct, rename={"sender": "from", "recipient": "to"}):
    """The frames of the hive's stream that a waiting `send` looks at, with the fields it needs."""

    kind: str
    id: object = None
    state: object = None
    note: object = None
    sender: object = None
    recipient: object = None


def send(
    to: str,
    /,
    *body: Annotated[str, Parameter(allow_leading_hyphen=True)],
    wait: Flag = False,
    timeout: float | None = None,
    urgency: Urgency = "next_turn",
    dedupe_key: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Write to an agent. When this returns, the message is durable.

    Args:
        to: the agent.
        body: the message; `-`, or nothing where input is piped in, reads it from standard input.
        wait: until the message was worked in a turn that ended well; then print what the agent wrote back.
        timeout: seconds to wait at most (exit code 6); the message stays where it is.
        urgency: next_turn, soon (at the running turn's next tool call) or interrupt (ends the running turn first).
        dedupe_key: repeating the key within 24 hours stores nothing and gives the first message's number.
        common: flags of every command.
    """
    session = Session(common)
    text = body_of(body)
    if not wait:
        answer = session.ask(r.Send(to=to, body=text, urgency=urgency, dedupe_key=dedupe_key))

        def taken() -> None:
            session.screen.line(_receipt(answer.read(Ok), to))
            note_if_away(session, to)

        return session.show(answer, taken)
    began = time.monotonic()
    with session.dial() as watching:
        frames = watching.subscribe("hive")
        answer = session.ask(r.Send(to=to, body=text, urgency=urgency, dedupe_key=dedupe_key))
        receipt = answer.read(Ok)
        if not common.as_json:
            session.screen.note(_receipt(receipt, to))
            note_if_away(session, to)
        until = None if timeout is None else began + timeout
        answered = _until_worked(session, frames, receipt.id or 0, to, until)
    rows = _answers(session, answered)
    if common.as_json:
        facts = {"ok": True, "id": receipt.id, "state": "acked", "answers": rows}
        session.screen.json(msgspec.json.encode({**facts, "seconds": round(time.monotonic() - began, 3)}))
        return 0
    session.screen.note(f"{to} has worked message {receipt.id} ({time.monotonic() - began:.1f}s)")
    for row in rows:
        session.screen.body(row.body, indent="")
    if not rows:
        session.screen.note(f"it wrote nothing to you; `hyperhive events {to}` shows what it did")
    return 0


def inbox(
    *,
    done: Ids = None,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    limit: int = 50,
    common: Common = DEFAULTS,
) -> int:
    """Read what agents wrote to you, newest last. Looking changes nothing.

    Args:
        done: put these messages away.
        every: also show what was put away.
        limit: how many at most.
        common: flags of every command.
    """
    session = Session(common)
    if done:
        answer = session.ask(r.Ack(ids=done))
        put_away = answer.read(Ok).count or 0
        if not put_away:
            raise NotFound(
                "no such message waits in your inbox", hint="`hyperhive inbox` shows those that do"
            )
        return session.show(answer, lambda: session.screen.line(f"{plural(put_away, 'message')} put away"))
    answer = session.ask(r.Inbox(limit=limit, all=every))

    def render() -> None:
        rows = answer.read(InboxRows).messages
        if not rows:
            session.screen.line("no mail for you" if every else "no mail for you that is not put away")
        now = time.time()
        for row in reversed(rows):
            _print_message(session, row, now)
        if rows:
            session.screen.note(f"put away with: hyperhive inbox --done {rows[0].id}")

    return session.show(answer, render)


def dead(
    action: Literal["list", "requeue", "drop"] = "list",
    /,
    *ids: int,
    limit: int = 100,
    common: Common = DEFAULTS,
) -> int:
    """List the dead letters with their reasons; give some another try, or drop them.

    Args:
        action: list, requeue or drop.
        ids: which ones.
        limit: how many to list at most.
        common: flags of every command.
    """
    session = Session(common)
    if (action == "list") is bool(ids):
        raise BadRequest("say `dead`, `dead requeue ID...` or `dead drop ID...`")
    if action == "list":
        return _list_dead(session, limit)
    make = r.Requeue if action == "requeue" else r.Drop
    outcomes = session.link.ask_all([make(id=each) for each in ids], timeout=30.0)
    for outcome in outcomes:
        if isinstance(outcome, HiveError):
            raise outcome
    verb = "back in its inbox" if action == "requeue" else "dropped"
    return session.say({"ids": list(ids)}, f"{plural(len(ids), 'message')} {verb}")


def drop(*ids: int, common: Common = DEFAULTS) -> int:
    """Take back messages that you sent and that nobody has read yet; or put dead letters away.

    One that its agent has in hand stays: exit code 4.

    Args:
        ids: which ones, as `send` named them.
        common: flags of every command.
    """
    if not ids:
        raise BadRequest("say which messages: `hyperhive drop ID...`")
    session = Session(common)
    for outcome in session.link.ask_all([r.Drop(id=each) for each in ids], timeout=30.0):
        if isinstance(outcome, HiveError):
            raise outcome
    return session.say({"ids": list(ids)}, f"{plural(len(ids), 'message')} dropped")


# --- waiting --------------------------------------------------------------------------------------------------------


def _until_worked(session: Session, frames: Frames, message: int, to: str, until: float | None) -> list[int]:
    """Waits until the message is acked; the ids of what `to` wrote to the operator meanwhile.

    Raises:
        TimedOut: not by `until` (monotonic seconds).
        HiveError: it became a dead letter.
    """
    answers: list[int] = []
    while True:
        frame = _next(frames, message, to, until)
        if frame.kind == "sent" and (frame.sender, frame.recipient) == (to, "operator"):
            if isinstance(frame.id, int):
                answers.append(frame.id)
        elif frame.kind == "message_state" and frame.id == message:
            if frame.state == "acked" and frame.note == "dropped":
                raise HiveError(f"message {message} was taken back", code="dropped")
            if frame.state == "acked":
                return answers
            if frame.state == "dead":
                raise _given_up(message, str(frame.note or "no reason given"))
            if frame.state == "held":
                session.screen.note(f"message {message} is held until you release or drop it")
        elif frame.kind in {"lagged", "heartbeat"} and _is_idle(session, to):
            # Frames may have been missed, but an idle agent without mail has worked what it had, or given it up.
            _check_not_dead(session, message)
            return answers


def _check_not_dead(session: Session, message: int) -> None:
    for letter in session.ask(r.Dead(limit=2000)).read(DeadLetters).dead:
        if letter.id == message:
            raise _given_up(message, letter.reason)


def _given_up(message: int, why: str) -> HiveError:
    return HiveError(f"message {message} was given up: {why}", hint="`hyperhive dead` has it", code="dead")


def _next(frames: Frames, message: int, to: str, until: float | None) -> _Moved:
    left = None if until is None else max(0.0, until - time.monotonic())
    try:
        return msgspec.json.decode(frames.next(left), type=_Moved)
    except TimedOut:
        raise TimedOut(
            f"{to} has not worked message {message} yet",
            hint="it stays in the inbox; `hyperhive status` says more",
        ) from None


def _is_idle(session: Session, name: str) -> bool:
    details = session.ask(r.Status(name=name)).read(HiveStatus).agents
    return bool(details) and all(d.view.unread == 0 and d.view.turn_state == "idle" for d in details)


def _answers(session: Session, ids: list[int]) -> list[OperatorInboxRow]:
    if not ids:
        return []
    rows = session.ask(r.Inbox(limit=2000, all=True)).read(InboxRows).messages
    return [row for row in reversed(rows) if row.id in ids]


# --- reading and printing -------------------------------------------------------------------------------------------


def body_of(words: tuple[str, ...]) -> str:
    """The words; `-`, or none where input is piped in: what standard input holds.

    Raises:
        BadRequest: there is nothing to read, or it is no text.
    """
    if words and words != ("-",):
        return " ".join(words)
    if not words and sys.stdin.isatty():
        raise BadRequest("there is no message", hint="hyperhive send NAME TEXT, or pipe it in")
    raw = sys.stdin.buffer.read()
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the message is not UTF-8: {error.reason} at byte {error.start}") from error


def _receipt(receipt: Ok, to: str) -> str:
    if receipt.duplicate:
        return f"message {receipt.id} had been sent before"
    held = ", held until you release it" if receipt.held else ""
    return visible(f"message {receipt.id} is in the inbox of {to}{held}")


def _print_message(session: Session, row: OperatorInboxRow, now: float) -> None:
    mark = ", done" if row.done_at else ""
    head = f"#{row.id}  {visible(row.sender)}  {ago(row.at, now)}{mark}"
    session.screen.line(session.screen.paint(head, "dim" if row.done_at else "bold"))
    session.screen.body(_in_words(row))
    for number, ref in enumerate(row.file_refs, 1):
        what = f"{visible(ref.path)} ({visible(ref.kind)}, {ref.size} bytes)"
        session.screen.line(session.screen.paint(f"  {what}: hyperhive file {row.id} {number}", "dim"))


def _in_words(row: OperatorInboxRow) -> str:
    """What the message says; of the answer to a question of the operator's, that in place of its JSON."""
    if row.sender == "system" and row.body.startswith('{"event":"question_answered"'):
        with suppress(msgspec.MsgspecError):
            told = msgspec.json.decode(row.body, type=QuestionAnswered)
            return f"{told.answerer} answered question {told.id} ({cut(told.question, 60)}):\n{told.answer}"
    return mail_line({"from": row.sender, "body": row.body}) if _is_event(row) else row.body


def _is_event(row: OperatorInboxRow) -> bool:
    """Whether the hive's own mail is one of its events, which are JSON for programs."""
    return row.sender == "system" and row.body.startswith('{"event":')


def _list_dead(session: Session, limit: int) -> int:
    answer = session.ask(r.Dead(limit=limit))

    def render() -> None:
        rows = answer.read(DeadLetters).dead
        if not rows:
            session.screen.line("no dead letters")
        now = time.time()
        for row in rows:
            tries = f", after {plural(row.tries, 'try').replace('trys', 'tries')}" if row.tries else ""
            way = f"{visible(row.sender)} -> {visible(row.recipient)}"
            session.screen.line(f"#{row.id}  {way}  {ago(row.dead_at, now)}: {visible(row.reason)}{tries}")
            session.screen.body(row.body)
        if rows:
            session.screen.note(
                f"another try: hyperhive dead requeue {rows[0].id}; put away: hyperhive dead drop ID"
            )

    return session.show(answer, render)
