"""Commands about questions: ask an agent, list what waits for you, answer it, withdraw it.

What an agent wrote stands behind a bar at the left, so that no text of it can pass for an option or for a line of
ours. Options are numbered here, and only here: the hive is told the option itself.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.link import Frames
from hyperhive.cli.render import age, ago
from hyperhive.errors import BadRequest, HiveError, TimedOut
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import InboxRows, Ok, Question, QuestionQueued, QuestionRows
from hyperhive.terminal import visible, visible_lines

Flag = Annotated[bool, Parameter(negative="")]
Words = Annotated[list[str] | None, Parameter(negative="")]
BAR: Final = "  | "
WATCHDOG: Final = "ttl-watchdog"
"""Who answers what has expired: what an agent says is its word, whatever it looks like."""


class _Resolved(msgspec.Struct):
    """How a question ended: a frame of the hive's stream, or the body of the mail about it."""

    kind: str = ""
    event: str = ""
    id: object = None
    answer: str = ""
    answerer: str = ""


def ask(
    name: str,
    question: str | None = None,
    /,
    *,
    to: str | None = None,
    option: Words = None,
    multi: Flag = False,
    ttl_seconds: int | None = None,
    wait: Flag = False,
    timeout: float | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Ask an agent a question; the answer comes as mail.

    Args:
        name: the agent (or, without a second word, the question).
        question: what to ask.
        to: the agent, where it is not the first word.
        option: a choice; may be repeated.
        multi: several choices may be taken.
        ttl_seconds: after which the question expires.
        wait: until it is answered, and print the answer.
        timeout: seconds to wait at most (exit code 6); the question stays open.
        common: flags of every command.
    """
    if question is None:
        name, question = to or "", name
    elif to is not None:
        raise BadRequest("say whom you ask once: `ask NAME QUESTION`, or `ask QUESTION --to NAME`")
    request = r.Ask(
        question=question, to=name or None, options=tuple(option or ()), multi=multi, ttl_seconds=ttl_seconds
    )
    session = Session(common)
    if wait:
        return _ask_and_wait(session, request, timeout)
    answer = session.ask(request)

    def render() -> None:
        number = answer.read(QuestionQueued).id
        session.screen.line(visible(f"asked {name} as question {number}; the answer comes to your inbox"))

    return session.show(answer, render)


def questions(
    id: int | None = None,  # noqa: A002 (shown as ID in the help)
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    cancel: Annotated[int | None, Parameter(name="--cancel")] = None,
    common: Common = DEFAULTS,
) -> int:
    """List the questions that wait for you, the oldest first.

    Args:
        id: only this one, whoever it waits for.
        every: also those that wait for agents; you may answer them in their place.
        cancel: withdraw this question; its asker is told.
        common: flags of every command.
    """
    session = Session(common)
    if cancel is not None:
        done = session.ask(r.CancelQuestion(id=cancel))
        return session.show(done, lambda: session.screen.line(f"question {cancel} is withdrawn"))
    answer = session.ask(r.Questions(all=every, id=id))

    def render() -> None:
        reply = answer.read(QuestionRows)
        rows = reply.questions
        now = time.time()
        for row in rows:
            session.screen.line(session.screen.paint(_head(row, now), "bold"))
            session.screen.lines(_described(row))
        if rows:
            first = rows[0]
            what = "1" if first.options else "TEXT"
            session.screen.note(f"answer with: hyperhive answer {first.id} {what}")
            if reply.left_out:
                numbers = ", ".join(map(str, reply.left_out))
                session.screen.note(f"too long to be shown beside these: {numbers} (hyperhive questions ID)")
        elif id is not None:
            session.screen.line(f"no question {id} is open")
        else:
            session.screen.line("no question is open" if every else "no question waits for you")

    return session.show(answer, render)


def answer(
    id: int,  # noqa: A002 (shown as ID in the help)
    /,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    text: Flag = False,
    common: Common = DEFAULTS,
) -> int:
    """Answer a question. The first answer wins.

    Args:
        id: the question's number.
        words: an option's number (several, where several may be taken), an option itself, or your own words.
        text: take the words as they are, also where they are numbers.
        common: flags of every command.
    """
    said = " ".join(words)
    if not said.strip():
        raise BadRequest("there is no answer", hint=f"hyperhive answer {id} TEXT")
    session = Session(common)
    numbers = None if text else _numbers(said)
    if numbers is not None:
        said = _chosen(_open_question(session, id), numbers, said)
    done = session.ask(r.Answer(id=id, answer=said))

    def render() -> None:
        session.screen.line(visible(f"question {done.read(Ok).id} is answered: {said}"))

    return session.show(done, render)


# --- choosing -------------------------------------------------------------------------------------------------------


def _numbers(said: str) -> list[int] | None:
    """`2`, `1 3` and `1,3` as numbers; anything else is none."""
    parts = said.replace(",", " ").split()
    if all(part.isascii() and part.isdecimal() and len(part) < 4 for part in parts):
        return [int(part) for part in parts]
    return None


def _open_question(session: Session, number: int) -> Question | None:
    rows = session.ask(r.Questions(id=number)).read(QuestionRows).questions
    return rows[0] if rows else None


def _chosen(question: Question | None, numbers: Sequence[int], said: str) -> str:
    """The options that these numbers name; the words themselves, where there are no options or one of them is meant.

    Raises:
        BadRequest: it cannot be told what is meant.
    """
    if question is None or not question.options or said in question.options:
        return said  # of a question that is gone the hive says what became of it
    hint = f"the option itself, or --text to answer {said!r}: hyperhive answer {question.id} --text {said}"
    if any(_numbers(option) is not None for option in question.options):
        raise BadRequest(f"options of question {question.id} are numbers themselves: say which", hint=hint)
    if len(numbers) > 1 and not question.multi:
        raise BadRequest(f"question {question.id} takes one option", hint=hint)
    count = len(question.options)
    for one in numbers:
        if not 1 <= one <= count:
            raise BadRequest(f"question {question.id} has {count} options; there is no {one}", hint=hint)
    return ", ".join(question.options[one - 1] for one in dict.fromkeys(numbers))


# --- printing -------------------------------------------------------------------------------------------------------


def _head(row: Question, now: float) -> str:
    whom = "you" if row.target == "operator" else visible(row.target) or "?"
    spent = "" if row.expires_at is None else f", {_left(row.expires_at - now)}"
    return f"#{row.id}  {visible(row.asker) or '?'} asks {whom}  {ago(row.asked_at, now)}{spent}"


def _left(seconds: float) -> str:
    return f"expires in {age(seconds)}" if seconds >= 1 else "expires now"


def _described(row: Question) -> Iterator[str]:
    """Its words behind a bar, its tool call likewise, its options numbered."""
    for line in visible_lines(row.question):
        yield f"{BAR}{line}".rstrip()
    if row.tool is not None:
        yield f"  tool {visible(row.tool.name)}, called with:"
        for line in visible_lines(
            msgspec.json.format(msgspec.json.encode(row.tool.input), indent=2).decode()
        ):
            yield f"{BAR}{line}"
    for number, option in enumerate(row.options, 1):
        yield f"  {number}) {visible(option)}"
    if row.multi and row.options:
        yield f"  several may be taken: hyperhive answer {row.id} 1 2"


# --- waiting --------------------------------------------------------------------------------------------------------


def _ask_and_wait(session: Session, request: r.Ask, timeout: float | None) -> int:
    until = None if timeout is None else time.monotonic() + timeout
    with session.dial() as watching:
        frames = watching.subscribe("hive")
        number = session.ask(request).read(QuestionQueued).id
        if not session.common.as_json:
            session.screen.note(f"asked {request.to} as question {number}")
        end = _until_resolved(session, frames, number, until)
    if end.answerer == WATCHDOG:
        raise TimedOut(f"question {number} expired without an answer")
    if session.common.as_json:
        facts = {"ok": True, "id": number, "answer": end.answer, "answerer": end.answerer}
        session.screen.json(msgspec.json.encode(facts))
    else:
        session.screen.body(end.answer, indent="")
    return 0


def _until_resolved(session: Session, frames: Frames, number: int, until: float | None) -> _Resolved:
    """How the question ended.

    Raises:
        TimedOut: it has not by `until` (monotonic seconds).
    """
    while True:
        try:
            raw = frames.next(None if until is None else max(0.0, until - time.monotonic()))
        except TimedOut:
            raise TimedOut(
                f"question {number} is not answered yet", hint="it stays open; the answer comes to your inbox"
            ) from None
        frame = msgspec.json.decode(raw, type=_Resolved)
        if frame.kind == "question_resolved" and frame.id == number:
            return frame
        if frame.kind in {"lagged", "heartbeat"} and _open_question(session, number) is None:
            return _from_mail(session, number)  # the frame was missed


def _from_mail(session: Session, number: int) -> _Resolved:
    for row in session.ask(r.Inbox(limit=2000, all=True)).read(InboxRows).messages:
        if row.sender == "system" and row.body.startswith("{"):
            mail = msgspec.json.decode(row.body, type=_Resolved)
            if mail.event == "question_answered" and mail.id == number:
                return mail
    raise HiveError(f"question {number} is resolved, and its answer is not in your inbox any more")
