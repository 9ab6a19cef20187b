"""Looking at questions: one, those that are open, and what of them is shown where there is little room.

What is open is known in memory, and the texts are read from disk as far as they are wanted. Changes nothing.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from hyperhive.broker import questions_sql as sql
from hyperhive.broker.desk import Desk
from hyperhive.broker.questions_open import OpenQuestion, OpenQuestions
from hyperhive.broker.questions_sql import Begun, QuestionRow
from hyperhive.errors import NotFound
from hyperhive.names import OPERATOR
from hyperhive.protocol.types import LooseEnd, QuestionEnd

log = logging.getLogger(__name__)

SHOWN_CHARS: Final = 500


class QuestionViews:
    """The questions of one broker, to be looked at. `expire`: called with the id of one whose time is up."""

    def __init__(self, desk: Desk, expire: Callable[[int], None]) -> None:
        self._desk = desk
        self._open = OpenQuestions(desk.clock, expire)
        self._reported: set[int] = set()

    async def start(self) -> None:
        """Learns from disk what is open; what is overdue expires now."""
        rows = await self._desk.store.read(sql.open_rows)
        self._report(rows)
        for row in rows:
            self._open.remember(row)

    async def aclose(self) -> None:
        """Nothing expires any more, and whoever waits for an answer waits no longer."""
        await self._open.aclose()

    async def find(self, id: int) -> QuestionRow:  # noqa: A002
        """One question, open or resolved (those resolved are kept for 90 days).

        Raises:
            NotFound: there is no such question.
        """
        row = await self._desk.store.read(partial(sql.find, number=id))
        if row is None:
            raise NotFound(f"there is no question {id}")
        return row

    def open_now(self, target: str | None = None, *, asker: str | None = None) -> list[OpenQuestion]:
        """The open questions to this target, or of this asker, or all; from memory, oldest first."""
        return self._open.find(target, asker)

    def asks(self, asker: str, target: str) -> bool:
        """Whether this asker waits for this target; from memory, however many questions there are."""
        return self._open.between(asker, target) > 0

    async def open(self, target: str | None = None) -> list[QuestionRow]:
        """The open questions, oldest first: all, or those to one target.

        Rows that cannot be read are in the operator's list, whomever they were for: `fault` says why.
        """
        rows = await self._desk.store.read(sql.open_rows)
        self._report(rows)
        return [row for row in rows if _is_for(row, target)]

    async def fitting(self, target: str | None, room: int) -> tuple[list[QuestionRow], list[int]]:
        """As `open`, but of those whose texts come to `room` bytes together, the shortest first; and the others' ids.

        What agents write is no reason to read all of it at once.
        """
        ids = self._ids_for(target)

        def look(conn: sqlite3.Connection) -> tuple[list[QuestionRow], list[int]]:
            left = room
            fit: list[int] = []
            others: list[int] = []
            for number, size in sorted(sql.sizes(conn, ids), key=lambda one: one[1]):
                left -= size
                (fit if left >= 0 or not fit else others).append(number)
            return sql.some(conn, sorted(fit)), sorted(others)

        rows, others = await self._desk.store.read(look)
        self._report(rows)
        return [row for row in rows if _is_for(row, target)], others

    def beginnings(self, conn: sqlite3.Connection, target: str, limit: int, most: int) -> list[Begun]:
        """The oldest open questions to this target, each whole or its beginning, as `questions_sql.begun` gives them.

        For a reader's thread: it looks at memory once.
        """
        return sql.begun(conn, self._ids_for(target)[:limit], most)

    def _ids_for(self, target: str | None) -> list[int]:
        """From memory: those to this target; the operator is also shown what cannot be read."""
        return [
            one.id
            for one in self._open.find(None, None)
            if target in (None, one.target) or (target == OPERATOR and one.id in self._reported)
        ]

    async def loose_ends(self, owner: str | None) -> Sequence[LooseEnd]:
        """The open questions as loose ends: those that `owner` asked or is asked, or the whole hive's (None)."""

        def look(conn: sqlite3.Connection) -> list[Begun]:
            return sql.begun(conn, sql.open_ids(conn, owner), 4 * SHOWN_CHARS)

        rows = [one.row for one in await self._desk.store.read(look)]
        self._report(rows)
        now = self._desk.now()
        return [
            QuestionEnd(
                id=row.id,
                asker=row.asker,
                target=row.target,
                question=_begun(row.question),
                age_seconds=max(0, now - row.asked_at),
            )
            for row in rows
        ]

    def _report(self, rows: Iterable[QuestionRow]) -> None:
        for row in rows:
            if row.fault is not None and row.id not in self._reported:
                self._reported.add(row.id)
                log.error("question_unreadable question=%s fault=%s", row.id, row.fault)


def _is_for(row: QuestionRow, target: str | None) -> bool:
    return target in (None, row.target) or (target == OPERATOR and row.fault is not None)


def _begun(text: str) -> str:
    """A loose end says which question it is, not all that it asks."""
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
