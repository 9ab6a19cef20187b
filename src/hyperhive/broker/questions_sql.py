"""Questions as rows: reading them, storing one, and what an answer may carry out.

A row that cannot be read (its options are no JSON, say) is given as one with a `fault`, never left out, and hides no
other. How a question is asked and resolved is in questions_changes.py.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from hyperhive.errors import InvalidName
from hyperhive.names import OPERATOR, SYSTEM, parse_principal
from hyperhive.protocol.types import ToolCall


class QuestionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One question, as stored. It is open while `answered_at` is None.

    Attributes:
        id: 0 for one that is not stored yet.
        kind, about: what a question of the hive's own machinery is for; `kind` names its `Errand`.
        cause, hops, chain: the place in a chain of messages that its asker had when it asked.
        channel: by what way the operator resolved it: `web`, `host`.
        fault: why the row cannot be read; the other fields hold what could be, and `question` says so.
    """

    id: int = 0
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
    channel: str | None = None
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


# --- reading --------------------------------------------------------------------------------------------------------

_TEXTS: Final = (
    "asker",
    "target",
    "question",
    "options",
    "tool",
    "kind",
    "about",
    "answer",
    "answerer",
    "channel",
)
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


# What an agent can make long.
_SIZE: Final = " + ".join(
    f"coalesce(length(CAST({name} AS BLOB)), 0)" for name in ("question", "options", "tool")
)
_SIZES: Final = f"SELECT id, {_SIZE} {_FROM_OPEN} AND id = ?"
_IDS: Final = f"SELECT id {_FROM_OPEN}"
_SMALL: Final = f"SELECT {_COLUMNS} {_FROM_OPEN} AND id = ?1 AND {_SIZE} <= ?2"
_BEGINNING: Final = (
    "SELECT id, CAST(asker AS BLOB), CAST(target AS BLOB), substr(CAST(question AS BLOB), 1, ?2),"
    " iif(json_valid(tool), substr(json_extract(tool, '$.name'), 1, 200), NULL), asked_at, expires_at, multi,"
    f" json_valid(options) AND (tool IS NULL OR json_valid(tool)) {_FROM_OPEN} AND id = ?1"
)


class Begun(msgspec.Struct, frozen=True):
    """A question, or its beginning where it is too long (`cut`): then it has no options, and its tool no input."""

    row: QuestionRow
    cut: bool


def open_ids(conn: sqlite3.Connection, of: str | None = None) -> list[int]:
    """The ids of the open questions, oldest first: all of them, or those that one principal asked or was asked."""
    rows = conn.execute(
        _IDS if of is None else f"{_IDS} AND (asker = ?1 OR target = ?1)", () if of is None else (of,)
    )
    return sorted(number for (number,) in rows)


def sizes(conn: sqlite3.Connection, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Those of these questions that are open, each with how many bytes its texts take."""
    return [row for number in ids for row in conn.execute(_SIZES, (number,)).fetchall()]


def some(conn: sqlite3.Connection, ids: Sequence[int]) -> list[QuestionRow]:
    """Those of these questions that there are, in this order."""
    return [row for number in ids if (row := find(conn, number)) is not None]


def begun(conn: sqlite3.Connection, ids: Sequence[int], most: int) -> list[Begun]:
    """Those of these questions that are open: whole where they take at most so many bytes, else so much of the text.

    However much agents write, no more of it than this is ever in memory.
    """
    found = []
    for number in ids:
        row = conn.execute(_SMALL, (number, most)).fetchone()
        if row is not None:
            found.append(Begun(_decoded(row), cut=False))
        elif (long := conn.execute(_BEGINNING, (number, most)).fetchone()) is not None:
            found.append(Begun(_beginning(long), cut=True))
    return found


def _beginning(row: Sequence[object]) -> QuestionRow:
    number, asker, target, text, tool, asked_at, expires_at, multi, sound = row
    if not sound:
        return _placeholder(int(str(number)), asker, target, asked_at, "its options or its tool are no JSON")
    return QuestionRow(
        id=int(str(number)),
        asker=_name(asker),
        target=_name(target),
        question=text.decode(errors="ignore") if isinstance(text, bytes) else "",
        tool=None if tool is None else ToolCall(name=str(tool), input={}),
        multi=multi == 1,
        asked_at=asked_at if isinstance(asked_at, int) else 0,
        expires_at=expires_at if isinstance(expires_at, int) else None,
    )


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
        asker, target, asked_at = values[0], values[1], values[len(_TEXTS) + 1]
        return _placeholder(int(str(number)), asker, target, asked_at, str(error))


def _placeholder(number: int, asker: object, target: object, asked_at: object, fault: str) -> QuestionRow:
    text = f"[row {number} of the questions cannot be read: {fault[:200]}; cancel it, and its asker is told]"
    return QuestionRow(
        id=number,
        asker=_name(asker),
        target=_name(target),
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


# --- storing --------------------------------------------------------------------------------------------------------

_INSERT: Final = (
    "INSERT INTO questions (asker, target, question, options, multi, tool, kind, about, asked_at, expires_at,"
    " cause, hops, chain) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_SAME: Final = f"SELECT id {_FROM_OPEN} AND asker = 'system' AND kind = ? AND about = ?"


def store(conn: sqlite3.Connection, draft: QuestionRow) -> QuestionRow:
    """Stores a question; gives it with its id."""
    cursor = conn.execute(
        _INSERT,
        (
            draft.asker, draft.target, draft.question, msgspec.json.encode(draft.options).decode(), draft.multi,
            None if draft.tool is None else msgspec.json.encode(draft.tool).decode(),
            draft.kind, draft.about, draft.asked_at, draft.expires_at, draft.cause, draft.hops, draft.chain,
        ),
    )  # fmt: skip
    return msgspec.structs.replace(draft, id=int(cursor.lastrowid or 0))


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
    """A question of the hive's own to the operator, inside another part's transaction; and whether it is a new one.

    Of `system` there is at most one open question of a kind about the same thing: else that one is given. One that
    cannot be read does not count, as nobody can answer it. After the commit call `Questions.announce`.
    """
    same = conn.execute(_SAME, (kind, about)).fetchall() if asker == SYSTEM else []
    for (number,) in same:
        row = find(conn, number)
        if row is not None and row.fault is None:
            return row, False
    draft = QuestionRow(
        asker=asker,
        target=target,
        question=question,
        options=tuple(options),
        kind=kind,
        about=about,
        asked_at=at,
        expires_at=None if ttl is None else at + ttl,
    )
    return store(conn, draft), True
