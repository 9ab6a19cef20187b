"""Questions in SQL: the rows, what is stored with one, and how one is resolved. Run by the store's writer.

A question and the mail that it sets off are one transaction: who was asked, and who asked, cannot miss it. A row that
cannot be read (its options are no JSON, say) is given as one with a `fault`, never left out. Nothing here knows of
waiters, clocks or events.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from hyperhive.broker import repeats
from hyperhive.broker.bodies import cut_body
from hyperhive.broker.repeats import Effect
from hyperhive.broker.rows import NewMessage, insert
from hyperhive.errors import BadRequest, Conflict, Forbidden, InvalidName, NotAvailable, NotFound
from hyperhive.names import OPERATOR, SYSTEM, parse_principal
from hyperhive.protocol.events import HelperEvent, QuestionAnswered, QuestionAsked
from hyperhive.protocol.types import BODY_MAX_BYTES, ToolCall

WATCHDOG: Final = "ttl-watchdog"
EXPIRED: Final = "[expired]"
TOOL: Final = "tool"
"""The kind of a tool approval, which mails nobody: its harness waits for it."""

RESOLVED_KEPT_DAYS: Final = 90
SWEEP_ROWS: Final = 500


class QuestionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One question, as stored. It is open while `answered_at` is None.

    Attributes:
        kind, about: what a question of the hive's own machinery is for; `kind` names its `Errand`.
        cause, hops, chain: the place in a chain of messages that its asker had when it asked.
        fault: why the row cannot be read; the other fields hold what could be, and `question` says so.
    """

    id: int
    asker: str
    target: str
    question: str
    options: tuple[str, ...] = ()
    multi: bool = False
    tool: ToolCall | None = None
    kind: str = ""
    about: str = ""
    asked_at: int
    expires_at: int | None = None
    answered_at: int | None = None
    answer: str | None = None
    answerer: str | None = None
    cause: int | None = None
    hops: int = 0
    chain: int | None = None
    fault: str | None = None


class Errand(Protocol):
    """What the answers to one kind of question carry out, in the answer's own transaction."""

    def carry_out(self, conn: sqlite3.Connection, question: QuestionRow, answer: str, at: int) -> object:
        """On the writer's thread, inside the transaction. May be run again where a batch is; keeps no state.

        Raises:
            HiveError: the answer is refused, and nothing is stored.
        """
        ...

    def carried_out(self, question: QuestionRow, result: object) -> None:
        """On the loop's thread after the commit, with what `carry_out` gave. Returns at once."""
        ...


class Place(msgspec.Struct, frozen=True):
    """A place in a chain of messages: what it follows from, how far down, and which chain (None: a new one)."""

    cause: int | None = None
    hops: int = 0
    chain: int | None = None


class Posted(msgspec.Struct, frozen=True):
    """A message that was stored with a question or its answer."""

    id: int
    message: NewMessage


# --- reading --------------------------------------------------------------------------------------------------------

_TEXTS: Final = ("asker", "target", "question", "options", "tool", "kind", "about", "answer", "answerer")
_NUMBERS: Final = ("multi", "asked_at", "expires_at", "answered_at", "cause", "hops", "chain")
# Whatever somebody wrote into a column comes out as bytes or as a number, and only `_decoded` judges it.
_COLUMNS: Final = ", ".join(
    [
        "id",
        *(f"CAST({name} AS BLOB)" for name in _TEXTS),
        *(f"iif(typeof({name}) IN ('integer', 'null'), {name}, '?')" for name in _NUMBERS),
    ]
)
# Nobody has resolved it: a damaged time counts as none, so that the row is shown.
_FROM_OPEN: Final = "FROM questions WHERE typeof(answered_at) <> 'integer'"
_ONE: Final = f"SELECT {_COLUMNS} {'FROM questions WHERE id = ?'}"
_ALL_OPEN: Final = f"SELECT {_COLUMNS} {_FROM_OPEN} ORDER BY id"
_OWN_OPEN: Final = f"SELECT {_COLUMNS} {_FROM_OPEN} AND (asker = ?1 OR target = ?1) ORDER BY id"


def find(conn: sqlite3.Connection, number: int) -> QuestionRow | None:
    """One question, open or resolved."""
    row = conn.execute(_ONE, (number,)).fetchone()
    return None if row is None else _decoded(row)


def open_rows(conn: sqlite3.Connection, of: str | None = None) -> list[QuestionRow]:
    """The open questions, oldest first: all of them, or those that one principal asked or was asked."""
    rows = conn.execute(_ALL_OPEN) if of is None else conn.execute(_OWN_OPEN, (of,))
    return [_decoded(row) for row in rows]


def _decoded(row: Sequence[object]) -> QuestionRow:
    """The row, or one in its place that says why it cannot be read."""
    number, *values = row
    fields: dict[str, object] = {"id": number}
    try:
        for name, value in zip((*_TEXTS, *_NUMBERS), values, strict=True):
            fields[name] = value.decode() if isinstance(value, bytes) else value
        options, tool = fields["options"], fields["tool"]
        fields["options"] = msgspec.json.decode(
            options if isinstance(options, str) else "", type=tuple[str, ...]
        )
        fields["tool"] = None if tool is None else msgspec.json.decode(str(tool), type=ToolCall)
        fields["multi"] = {0: False, 1: True}.get(fields["multi"], fields["multi"])  # type: ignore[call-overload]
        return msgspec.convert(fields, QuestionRow)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return _placeholder(int(str(number)), values, str(error))


def _placeholder(number: int, values: Sequence[object], fault: str) -> QuestionRow:
    asker, target = (_name(value) for value in values[:2])
    asked_at = values[len(_TEXTS) + 1]
    text = f"[row {number} of the questions cannot be read: {fault[:200]}; cancel it, and its asker is told]"
    return QuestionRow(
        id=number,
        asker=asker,
        target=target,
        question=text,
        asked_at=asked_at if isinstance(asked_at, int) else 0,
        fault=fault,
    )


def _name(value: object) -> str:
    """A principal's name that a damaged row still holds; else none."""
    try:
        return parse_principal(value.decode()) if isinstance(value, bytes) else ""
    except (InvalidName, UnicodeError):
        return ""


# --- asking ---------------------------------------------------------------------------------------------------------


class NewQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question to be stored."""

    asker: str
    target: str
    question: str
    options: tuple[str, ...] = ()
    multi: bool = False
    tool: ToolCall | None = None
    kind: str = ""
    about: str = ""
    at: int
    ttl_seconds: int | None = None
    place: Place = Place()
    effect: Effect | None = None


class Asked(msgspec.Struct, frozen=True):
    """The question's id; its row and mail only where it was stored by this very job."""

    id: int
    row: QuestionRow | None = None
    posted: Posted | None = None


_INSERT: Final = (
    "INSERT INTO questions (asker, target, question, options, multi, tool, kind, about, asked_at, expires_at,"
    " cause, hops, chain) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)


def ask(conn: sqlite3.Connection, batch: Sequence[NewQuestion]) -> list[Asked]:
    """Stores questions that were not asked before, each with the mail to who is asked."""
    return [_ask_one(conn, new) for new in batch]


def _ask_one(conn: sqlite3.Connection, new: NewQuestion) -> Asked:
    if new.effect is not None:
        found = repeats.earlier(conn, new.effect)
        if found is not None:
            return Asked(found.result_id)
    row = _store(conn, new)
    posted = None
    if new.target != OPERATOR and new.kind != TOOL:
        posted = post(conn, new.target, asked_mail(row), new.place, new.at)
        if row.chain is None:  # the question's mail began a chain, which its answer goes on with
            conn.execute("UPDATE questions SET chain = ? WHERE id = ?", (posted.id, row.id))
            row = msgspec.structs.replace(row, chain=posted.id)
    if new.effect is not None:
        repeats.remember(conn, new.effect, row.id)
    return Asked(row.id, row, posted)


def find_asked(conn: sqlite3.Connection, batch: Sequence[Effect]) -> list[int | None]:
    """What was asked before, of questions that are not to be stored now."""
    found = [repeats.earlier(conn, effect) for effect in batch]
    return [None if one is None else one.result_id for one in found]


def _store(conn: sqlite3.Connection, new: NewQuestion) -> QuestionRow:
    expires_at = None if new.ttl_seconds is None else new.at + new.ttl_seconds
    cursor = conn.execute(
        _INSERT,
        (
            new.asker, new.target, new.question, msgspec.json.encode(new.options).decode(), new.multi,
            None if new.tool is None else msgspec.json.encode(new.tool).decode(),
            new.kind, new.about, new.at, expires_at, new.place.cause, new.place.hops, new.place.chain,
        ),
    )  # fmt: skip
    return QuestionRow(
        id=int(cursor.lastrowid or 0),
        asker=new.asker,
        target=new.target,
        question=new.question,
        options=new.options,
        multi=new.multi,
        tool=new.tool,
        kind=new.kind,
        about=new.about,
        asked_at=new.at,
        expires_at=expires_at,
        cause=new.place.cause,
        hops=new.place.hops,
        chain=new.place.chain,
    )


_SAME: Final = f"SELECT id {_FROM_OPEN} AND asker = 'system' AND kind = ? AND about = ?"


def raise_in(
    conn: sqlite3.Connection,
    *,
    question: str,
    options: Sequence[str],
    kind: str,
    about: str,
    at: int,
    asker: str = SYSTEM,
    target: str = OPERATOR,
    ttl: int | None = None,
) -> tuple[QuestionRow, bool]:
    """A question of the hive's own to the operator, inside another part's transaction.

    Of `system` there is at most one open question of a kind about the same thing: that one is given, with False. After
    the commit call `Questions.announce`.
    """
    same = conn.execute(_SAME, (kind, about)).fetchone() if asker == SYSTEM else None
    if same is not None and (row := find(conn, same[0])) is not None:
        return row, False
    new = NewQuestion(
        asker=asker,
        target=target,
        question=question,
        options=tuple(options),
        kind=kind,
        about=about,
        at=at,
        ttl_seconds=ttl,
    )
    return _store(conn, new), True


# --- resolving ------------------------------------------------------------------------------------------------------

How = Literal["answer", "cancel", "expire", "withdraw"]


class Resolve(msgspec.Struct, frozen=True, kw_only=True):
    """One question to be resolved. `any_`: whoever does it may do it to anybody's."""

    id: int
    how: How
    answer: str
    by: str
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
    "UPDATE questions SET answered_at = ?, answer = ?, answerer = ?"
    " WHERE id = ? AND typeof(answered_at) <> 'integer'"
)


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
    conn.execute(_RESOLVE, (job.at, job.answer, job.by, job.id))
    row = msgspec.structs.replace(row, answered_at=job.at, answer=job.answer, answerer=job.by)
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
    """What the answer is to carry out. The hive's own questions take one of their options, and nothing else."""
    if job.how in ("expire", "withdraw"):
        return None
    if row.asker != SYSTEM:  # an agent's tool call: the hive has something to do with the answer, too
        return errands.get(row.kind) if row.kind and job.how == "answer" else None
    if job.how == "cancel":
        raise Conflict(f"question {row.id} is the hive's own", hint=f"answer it: {', '.join(row.options)}")
    if row.options and job.answer not in row.options:
        raise BadRequest(
            f"question {row.id} takes one of its options, and {job.answer[:80]!r} is none",
            hint=f"one of: {', '.join(row.options)}",
        )
    errand = errands.get(row.kind)
    if errand is None:
        raise NotAvailable(f"nothing in this version carries out answers to {row.kind or 'plain'} questions")
    return errand


def already(row: QuestionRow, now: int) -> str:
    """Who was first, and when."""
    ago = max(0, now - (row.answered_at or now))
    what = (
        "expired" if row.answer == EXPIRED else f"was resolved by {row.answerer}: {(row.answer or '')[:200]}"
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
        conn.execute(_RESOLVE, (job.at, job.answer, SYSTEM, row.id))
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
