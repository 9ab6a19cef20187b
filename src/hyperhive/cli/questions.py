"""Commands about questions: ask an agent, list what waits for you, answer it, withdraw it.

What an agent wrote stands behind a bar at the left, so that no text of it can pass for an option or for a line of
ours. Options are numbered here, and only here: the hive is told the option itself.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from hyperhive.cli.away import note_if_away
from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.link import Frames
from hyperhive.cli.mail import body_of
from hyperhive.cli.origin import origin_lines
from hyperhive.cli.render import age, ago
from hyperhive.cli.spans import seconds_of
from hyperhive.errors import BadRequest, HiveError, NotFound, TimedOut
from hyperhive.names import OPERATOR
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import InboxRows, Ok, Question, QuestionQueued, QuestionRows
from hyperhive.terminal import visible, visible_lines

Flag = Annotated[bool, Parameter(negative="")]
Words = Annotated[list[str] | None, Parameter(negative="")]
BAR: Final = "  | "
SHOWN_MAX: Final = 4000
"""Of a question in a list; all of it is shown where it is asked for by its number."""
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
    ttl_seconds: str | None = None,
    wait: Flag = False,
    timeout: float | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Ask an agent a question; the answer comes as mail.

    Args:
        name: the agent (or, with --to, the question).
        question: what to ask; `-`, or nothing where input is piped in, reads it from standard input.
        to: the agent, where it is not the first word.
        option: a choice; may be repeated.
        multi: several choices may be taken.
        ttl_seconds: after which the question expires; also as 10m, 2h or 1d.
        wait: until it is answered, and print the answer.
        timeout: seconds to wait at most (exit code 6); the question stays open.
        common: flags of every command.
    """
    if question is not None and to is not None:
        raise BadRequest("say whom you ask once: `ask NAME QUESTION`, or `ask QUESTION --to NAME`")
    if to is not None:
        name, question = to, name
    elif question is None:
        if sys.stdin.isatty():
            raise BadRequest("say whom you ask, and what", hint="hyperhive ask NAME QUESTION")
        question = body_of(())
    elif question == "-":
        question = body_of(("-",))
    if not question.strip():
        raise BadRequest("there is no question", hint="hyperhive ask NAME QUESTION")
    if multi and not option:
        raise BadRequest("--multi is about options, and there are none", hint="--option A --option B --multi")
    request = r.Ask(
        question=question,
        to=name,
        options=tuple(option or ()),
        multi=multi,
        ttl_seconds=None if ttl_seconds is None else seconds_of(ttl_seconds, "--ttl-seconds"),
    )
    session = Session(common)
    if wait:
        return _ask_and_wait(session, request, timeout)
    answer = session.ask(request)

    def render() -> None:
        number = answer.read(QuestionQueued).id
        session.screen.line(visible(f"asked {name} as question {number}; the answer comes to your inbox"))
        note_if_away(session, name)

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
        id: only this one, whoever it waits for, and whole; also one that was resolved in the last 90 days.
        every: also those that wait for agents; you may answer them in their place.
        cancel: withdraw this question; its asker is told.
        common: flags of every command.
    """
    session = Session(common)
    if cancel is not None:
        done = session.ask(r.CancelQuestion(id=cancel))
        return session.show(done, lambda: session.screen.line(f"question {cancel} is withdrawn"))
    answer = session.ask(r.Questions(all=every, id=id))
    if id is not None and not answer.read(QuestionRows).questions:
        raise NotFound(f"there is no question {id}", hint="`hyperhive questions --all` shows the open ones")

    def render() -> None:
        reply = answer.read(QuestionRows)
        rows = reply.questions
        now = time.time()
        for row in rows:
            session.screen.line(session.screen.paint(_head(row, now), "bold"))
            session.screen.lines(_described(row, whole=id is not None))
        if id is not None and rows:
            session.screen.lines(origin_lines(session, r.Origin(question=id)))
        if rows:
            if how := next((each for row in rows if (each := _how_to_answer(row))), None):
                session.screen.note(f"answer with: {how}")
            if reply.left_out:
                numbers = ", ".join(map(str, reply.left_out))
                session.screen.note(f"too long to be shown beside these: {numbers} (hyperhive questions ID)")
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
    return rows[0] if rows and rows[0].answered_at is None else None


def _chosen(question: Question | None, numbers: Sequence[int], said: str) -> str:
    """The options that these numbers name; the words themselves, where there are no options or one of them is meant.

    Raises:
        BadRequest: it cannot be told what is meant.
    """
    if question is None or not question.options or said in question.options:
        return said  # of a question that is gone the hive says what became of it
    hint = f"the option itself, or --text to answer {said!r}: hyperhive answer {question.id} --text {said}"
    if _named_by_numbers(question):
        words = said.replace(",", " ").split()
        if question.multi and all(word in question.options for word in words):
            return ", ".join(dict.fromkeys(words))
        several = _how_to_answer(question)
        raise BadRequest(
            f"options of question {question.id} are numbers themselves: say which",
            hint=f"the options as they are written: {several}" if several else hint,
        )
    if len(numbers) > 1 and not question.multi:
        raise BadRequest(f"question {question.id} takes one option", hint=hint)
    count = len(question.options)
    for one in numbers:
        if not 1 <= one <= count:
            raise BadRequest(f"question {question.id} has {count} options; there is no {one}", hint=hint)
    return ", ".join(question.options[one - 1] for one in dict.fromkeys(numbers))


def _named_by_numbers(question: Question) -> bool:
    """Whether a number could be an option itself, as well as the place of one."""
    return any(_numbers(option) is not None for option in question.options)


def _how_to_answer(row: Question) -> str | None:
    """The command that answers it; None where nobody here is asked, or it cannot be read."""
    if row.target != OPERATOR or not row.asker or row.answered_at is not None:
        return None
    if not row.options:
        return f"hyperhive answer {row.id} TEXT"
    if not _named_by_numbers(row):
        return f"hyperhive answer {row.id} 1"
    return f"hyperhive answer {row.id} {next(one for one in row.options if _numbers(one) is not None)}"


# --- printing -------------------------------------------------------------------------------------------------------


def _head(row: Question, now: float) -> str:
    whom = "you" if row.target == OPERATOR else visible(row.target) or "?"
    open_until = row.expires_at if row.answered_at is None else None
    spent = "" if open_until is None else f", {_left(open_until - now)}"
    return f"#{row.id}  {visible(row.asker) or '?'} asks {whom}  {ago(row.asked_at, now)}{spent}"


def _left(seconds: float) -> str:
    return f"expires in {age(seconds)}" if seconds >= 1 else "expires now"


def _described(row: Question, *, whole: bool) -> Iterator[str]:
    """Its words behind a bar, its tool call likewise, its options numbered, and how it ended where it has."""
    text = row.question if whole else row.question[:SHOWN_MAX]
    for line in visible_lines(text):
        yield f"{BAR}{line}".rstrip()
    if len(text) < len(row.question):
        yield f"  {len(row.question) - len(text)} characters more: hyperhive questions {row.id}"
    if row.tool is not None:
        yield f"  tool {visible(row.tool.name)}, called with:"
        for line in visible_lines(
            msgspec.json.format(msgspec.json.encode(row.tool.input), indent=2).decode()
        ):
            yield f"{BAR}{line}"
    for number, option in enumerate(row.options, 1):
        yield f"  {number}) {visible(option)}"
    if row.multi and row.options and row.answered_at is None:
        if not _named_by_numbers(row):
            yield f"  several may be taken: hyperhive answer {row.id} 1 2"
        else:
            yield f"  several may be taken, as they are written: hyperhive answer {row.id} 'A, B'"
    if row.answered_at is not None:
        yield f"  resolved {ago(row.answered_at, time.time())} by {visible(row.answerer or '?')}:"
        for line in visible_lines(row.answer or ""):
            yield f"{BAR}{line}".rstrip()


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
