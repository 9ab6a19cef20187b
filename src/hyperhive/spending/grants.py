"""What the operator decided about budgets, in SQL: raises for one window, and what was asked and answered.

Rows are keyed by scope, window and its start; nothing of them outlives its window but as history.
"""

import sqlite3
from typing import Final

import msgspec

from hyperhive.spending.windows import WindowName


class Window(msgspec.Struct, frozen=True, order=True):
    """One window of one scope's budget: an agent's name or `hive`, `hour` or `day`, and when it began."""

    scope: str
    span: WindowName
    start: int


class Grant(msgspec.Struct, frozen=True):
    """What was added to a window's budget: `raises` times as much again.

    `tokens`: the limit, where the operator set one, which has been raised since it had been raised `raises_then` times.
    """

    raises: int = 0
    tokens: int | None = None
    raises_then: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question that was put to the operator. `done`: what its answer asked for has been carried out."""

    window: Window
    raises: int
    question: int
    answer: str | None = None
    done: bool = False


_RAISE: Final = (
    "INSERT INTO budget_grants (scope, span, start, raises) VALUES (?,?,?,?)"
    " ON CONFLICT (scope, span, start) DO UPDATE SET raises = raises + excluded.raises"
    " RETURNING raises, tokens, raises_then"
)
_SET: Final = (
    "INSERT INTO budget_grants (scope, span, start, raises, tokens) VALUES (?,?,?,0,?)"
    " ON CONFLICT (scope, span, start) DO UPDATE SET tokens = excluded.tokens, raises_then = raises"
    " RETURNING raises, tokens, raises_then"
)
_ASKED: Final = (
    "INSERT OR REPLACE INTO budget_questions (scope, span, start, raises, question, done)"
    " VALUES (?,?,?,?,?,0)"
)
_ANSWER: Final = "UPDATE budget_questions SET answer = ? WHERE question = ? AND answer IS NULL"
_DONE: Final = "UPDATE budget_questions SET done = 1, answer = coalesce(answer, ?) WHERE question = ?"
_QUESTIONS: Final = (
    "SELECT scope, span, start, raises, question, answer, done FROM budget_questions WHERE start >= ?"
)


def raise_limit(conn: sqlite3.Connection, window: Window, times: int) -> Grant:
    """So often as much again for this window; gives what it has been granted in all."""
    return Grant(*conn.execute(_RAISE, (window.scope, window.span, window.start, times)).fetchone())


def set_tokens(conn: sqlite3.Connection, window: Window, tokens: int) -> Grant:
    """So many tokens are the window's limit, whatever was configured."""
    return Grant(*conn.execute(_SET, (window.scope, window.span, window.start, tokens)).fetchone())


def asked(conn: sqlite3.Connection, window: Window, raises: int, question: int) -> None:
    """This question is about this window, after so many raises."""
    conn.execute(_ASKED, (window.scope, window.span, window.start, raises, question))


def answered(conn: sqlite3.Connection, question: int, answer: str) -> None:
    """What the operator said; `finished` follows when it is carried out."""
    conn.execute(_ANSWER, (answer, question))


def finished(conn: sqlite3.Connection, question: int, how: str) -> None:
    """Nothing more is to be done about this question; `how`, where nobody answered it."""
    conn.execute(_DONE, (how, question))


def granted_since(conn: sqlite3.Connection, start: int) -> dict[Window, Grant]:
    """The grants of windows that began then or later."""
    query = "SELECT scope, span, start, raises, tokens, raises_then FROM budget_grants WHERE start >= ?"
    return {
        Window(scope, span, at): Grant(*given) for scope, span, at, *given in conn.execute(query, (start,))
    }


def asked_since(conn: sqlite3.Connection, start: int) -> list[Asked]:
    """The questions about windows that began then or later, and all that are not done with."""
    query = f"{_QUESTIONS} OR done = 0 ORDER BY question"
    return [
        Asked(
            window=Window(scope, span, at), raises=raises, question=question, answer=answer, done=bool(done)
        )
        for scope, span, at, raises, question, answer, done in conn.execute(query, (start,))
    ]
