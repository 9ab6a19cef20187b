"""Asking and resolving questions, as operations for the store's writer.

A question and the mail that it sets off are one transaction: who was asked, and who asked, cannot miss it; what an
answer carries out is part of it, too. Nothing here knows of waiters, timers or events.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from hyperhive.broker import origins, repeats
from hyperhive.broker.bodies import cut_body
from hyperhive.broker.questions_sql import Errand, QuestionRow, find, open_rows, store
from hyperhive.broker.repeats import Effect
from hyperhive.broker.rows import NewMessage, insert
from hyperhive.broker.storms import Storms
from hyperhive.errors import BadRequest, Conflict, Forbidden, HiveError, LimitReached, NotAvailable, NotFound
from hyperhive.names import OPERATOR, SYSTEM
from hyperhive.protocol.events import HelperEvent, QuestionAnswered, QuestionAsked
from hyperhive.protocol.types import BODY_MAX_BYTES

WATCHDOG: Final = "ttl-watchdog"
EXPIRED: Final = "[expired]"
TOOL: Final = "tool"
"""The kind of a tool approval, which mails nobody: its harness waits for it."""

RESOLVED_KEPT_DAYS: Final = 90
SWEEP_ROWS: Final = 500


class Place(msgspec.Struct, frozen=True):
    """A place in a chain of messages: what it follows from, how far down, and which chain (None: a new one)."""

    cause: int | None = None
    hops: int = 0
    chain: int | None = None


class Posted(msgspec.Struct, frozen=True):
    """A message that was stored with a question or its answer."""

    id: int
    message: NewMessage


# --- asking ---------------------------------------------------------------------------------------------------------


class Asking(msgspec.Struct, frozen=True):
    """A question to be stored, and the messages that its asker has in hand.

    `steady`: seconds on a clock that does not jump while the process lives.
    """

    draft: QuestionRow
    effect: Effect | None
    steady: int
    in_hand: tuple[int, ...] = ()


class Asked(msgspec.Struct, frozen=True):
    """The question's id; its row and mail only where it was stored by this very job.

    `held`: it was not asked, because its chain of messages is held; `storm`: the operator was asked about that now.
    """

    id: int = 0
    row: QuestionRow | None = None
    posted: Posted | None = None
    held: bool = False
    storm: QuestionRow | None = None


def ask(conn: sqlite3.Connection, batch: Sequence[Asking], storms: Storms) -> list[Asked | HiveError]:
    """Stores questions that were not asked before, each with the mail to the agent that is asked."""
    return [_ask_one(conn, job, storms) for job in batch]


def _ask_one(conn: sqlite3.Connection, job: Asking, storms: Storms) -> Asked | HiveError:
    if job.effect is not None:
        found = repeats.earlier(conn, job.effect)
        if found is not None:
            return Asked(found.result_id)
    draft = job.draft
    mailed = draft.target != OPERATOR and draft.kind != TOOL
    if mailed:
        # Between two agents a question counts as what it is: a message of the one to the other.
        place = (draft.cause or 0, draft.hops, draft.chain or 0)
        message = NewMessage(draft.asker, draft.target, draft.question, draft.asked_at, 0, *place)
        try:
            verdict = storms.judge(conn, message, job.steady, question=True)
        except LimitReached as refusal:
            return refusal
        if verdict.held:
            return Asked(held=True, storm=verdict.asked)
    row = store(conn, draft)
    origins.remember(conn, "question", row.id, job.in_hand, row.asked_at)
    posted = None
    if mailed:
        posted = post(conn, row.target, asked_mail(row), Place(row.cause, row.hops, row.chain), row.asked_at)
        if row.chain is None:  # the question's mail began a chain, which its answer goes on with
            conn.execute("UPDATE questions SET chain = ? WHERE id = ?", (posted.id, row.id))
            row = msgspec.structs.replace(row, chain=posted.id)
    if job.effect is not None:
        repeats.remember(conn, job.effect, row.id)
    return Asked(row.id, row, posted)


# --- resolving ------------------------------------------------------------------------------------------------------

How = Literal["answer", "cancel", "expire", "withdraw"]


class Resolve(msgspec.Struct, frozen=True, kw_only=True):
    """One question to be resolved. `any_`: whoever does it may do it to anybody's."""

    id: int
    how: How
    answer: str
    by: str
    channel: str | None = None
    at: int
    any_: bool = False
    place: Place | None = None


class Resolved(msgspec.Struct, frozen=True):
    """The question as it stands now, the mail to its asker, and what its errand gave (with the errand)."""

    row: QuestionRow
    posted: Posted | None = None
    errand: Errand | None = None
    result: object = None


_RESOLVE: Final = (
    "UPDATE questions SET answered_at = ?, answer = ?, answerer = ?, channel = ?"
    " WHERE id = ? AND typeof(answered_at) <> 'integer'"
)


def resolve_all(
    conn: sqlite3.Connection, batch: Sequence[Resolve], errands: Mapping[str, Errand]
) -> list[Resolved | HiveError]:
    """`resolve_one` for each; of one that is refused, whatever its errand has done by then is undone."""
    results: list[Resolved | HiveError] = []
    for job in batch:
        conn.execute("SAVEPOINT resolving")
        try:
            results.append(resolve_one(conn, job, errands))
        except HiveError as refused:
            conn.execute("ROLLBACK TO resolving")
            results.append(refused)
        conn.execute("RELEASE resolving")
    return results


def resolve_one(conn: sqlite3.Connection, job: Resolve, errands: Mapping[str, Errand]) -> Resolved:
    """Resolves a question, carries out what hangs on it, and tells its asker: all or nothing.

    Raises:
        NotFound, Forbidden, Conflict, BadRequest: see `Questions.answer` and `Questions.cancel`.
    """
    row = find(conn, job.id)
    if row is None:
        raise NotFound(f"there is no question {job.id}")
    _check_authority(job, row)
    if row.answered_at is not None:
        raise Conflict(already(row, job.at))
    errand = _errand(job, row, errands)
    conn.execute(_RESOLVE, (job.at, job.answer, job.by, job.channel, job.id))
    row = msgspec.structs.replace(
        row, answered_at=job.at, answer=job.answer, answerer=job.by, channel=job.channel
    )
    posted = None
    if row.kind != TOOL and row.asker not in ("", SYSTEM):
        posted = post(conn, row.asker, answered_mail(row), job.place or _next(row), job.at)
    result = None if errand is None else errand.carry_out(conn, row, job.answer, job.at)
    return Resolved(row, posted, errand, result)


def _next(row: QuestionRow) -> Place:
    """The answer goes on with the question's chain; at a human's word its hops begin anew."""
    return Place(row.cause, 0 if row.answerer == OPERATOR else row.hops + 1, row.chain)


def _check_authority(job: Resolve, row: QuestionRow) -> None:
    if job.how == "answer":
        if job.by != row.target and not job.any_:
            raise Forbidden(f"question {row.id} is not {job.by}'s to answer")
        if row.fault is not None:
            raise Conflict(row.question, hint=f"`hyperhive questions --cancel {row.id}`")
    if job.how == "cancel" and job.by != row.asker and not job.any_:
        raise Forbidden(
            f"question {row.id} is not {job.by}'s to cancel", hint="its asker can, or the operator"
        )


def _errand(job: Resolve, row: QuestionRow, errands: Mapping[str, Errand]) -> Errand | None:
    """What the answer is to carry out. The hive's own questions take one of their options, and nothing else.

    One of them that cannot be read takes no answer, so it can be cancelled: what it was about is asked anew.
    """
    if row.asker == SYSTEM and job.how == "cancel" and row.fault is None:
        raise Conflict(f"question {row.id} is the hive's own", hint=f"answer it: {', '.join(row.options)}")
    if job.how != "answer":
        return None
    errand = errands.get(row.kind)
    if row.asker == SYSTEM:
        if row.options and job.answer not in row.options:
            raise BadRequest(
                f"question {row.id} takes one of its options, and {job.answer[:80]!r} is none",
                hint=f"one of: {', '.join(row.options)}",
            )
        if errand is None:
            raise NotAvailable(f"nothing in this version carries out answers to questions about {row.kind}")
    return errand


def already(row: QuestionRow, now: int) -> str:
    """Who was first, and when."""
    ago = max(0, now - (row.answered_at or now))
    way = f" ({row.channel})" if row.channel else ""
    what = (
        "expired"
        if row.answerer == WATCHDOG
        else f"was resolved by {row.answerer}{way}: {(row.answer or '')[:200]}"
    )
    return f"question {row.id} {what} ({ago} s ago)"


class Close(msgspec.Struct, frozen=True):
    """The open questions that one name asked or was asked are withdrawn."""

    name: str
    answer: str
    at: int
    told: Callable[[str], bool]


def close_all(conn: sqlite3.Connection, batch: Sequence[Close]) -> list[list[Resolved]]:
    """Resolves them; tells those askers who shall be told."""
    return [_close(conn, job) for job in batch]


def _close(conn: sqlite3.Connection, job: Close) -> list[Resolved]:
    closed = []
    for row in open_rows(conn, job.name):
        conn.execute(_RESOLVE, (job.at, job.answer, SYSTEM, None, row.id))
        done = msgspec.structs.replace(row, answered_at=job.at, answer=job.answer, answerer=SYSTEM)
        posted = None
        if row.kind != TOOL and row.asker not in ("", SYSTEM) and job.told(row.asker):
            posted = post(conn, row.asker, answered_mail(done), _next(done), job.at)
        closed.append(Resolved(done, posted))
    return closed


# --- mail -----------------------------------------------------------------------------------------------------------


def asked_mail(row: QuestionRow) -> str:
    """The body of the mail to the agent that is asked."""
    return _body(
        QuestionAsked(id=row.id, asker=row.asker, question=row.question, options=row.options, multi=row.multi)
    )


def answered_mail(row: QuestionRow) -> str:
    """The body of the mail to the asker, who knows the question: of a long one its beginning will do."""
    question, cut = cut_body(row.question)
    return _body(
        QuestionAnswered(
            id=row.id,
            question=f"{question}…" if cut else question,
            answer=row.answer or "",
            answerer=row.answerer or "",
        )
    )


def fits(event: HelperEvent) -> bool:
    """Whether this event can be a message's body."""
    return len(msgspec.json.encode(event)) <= BODY_MAX_BYTES


def _body(event: HelperEvent) -> str:
    return msgspec.json.encode(event).decode()


def post(conn: sqlite3.Connection, recipient: str, body: str, place: Place, at: int) -> Posted:
    """Stores a message of the system's."""
    new = NewMessage(SYSTEM, recipient, body, at, 0, place.cause or 0, place.hops, place.chain or 0)
    return Posted(insert(conn, new), new)


# --- sweep ----------------------------------------------------------------------------------------------------------

_SWEEP: Final = (
    "DELETE FROM questions WHERE id IN (SELECT id FROM questions INDEXED BY resolved"
    " WHERE typeof(answered_at) = 'integer' AND answered_at < ? LIMIT ?)"
)


def sweep(conn: sqlite3.Connection, batch: Sequence[int]) -> list[int]:
    """Removes questions that were resolved before a time, a bounded number a step; gives how many went."""
    return [int(conn.execute(_SWEEP, (before, SWEEP_ROWS)).rowcount) for before in batch]
