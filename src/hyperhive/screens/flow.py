"""`Flow`: everybody's messages with what has become of each, a page at a time from the newest.

Whose messages they are, and what is in them, the index knows; the state of each is read where it lives. Messages that
the index has not taken in yet are looked through as they are. No page reads more of the table than it shows, but for
what has no index of its own: the few that are not done.
"""

import sqlite3
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Final

import msgspec

from hyperhive.broker import file_refs
from hyperhive.errors import NotFound
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.screens import FlowRow
from hyperhive.protocol.types import MessageStateName
from hyperhive.screens import index, words
from hyperhive.screens.indexer import Database, Indexer
from hyperhive.screens.words import Query

BODY_CHARS: Final = 4096
ROWS_MAX: Final = 500
PAGE: Final = 200
LOOKED_AT_MAX: Final = 20_000
"""So many messages are looked at for one page where hardly any is as was asked for; then the page says that there may
be more."""
NEWEST: Final = 2**63 - 1

# ruff: noqa: S608 - statements are made of our own words, values are bound
_BODY: Final = f"substr(body, 1, {BODY_CHARS + 1})"
_COLUMNS: Final = (
    "id, sender, recipient, {body}, sent_at, delivered_at, acked_at, parked, reason, tries, turn, file_refs"
)
_OF: Final = (
    " AND (:agent IS NULL OR sender = :agent OR recipient = :agent)"
    " AND (:other IS NULL OR sender = :other OR recipient = :other)"
)
ALL: Final = f"SELECT id FROM messages WHERE id < :before AND id > :after{_OF} ORDER BY id DESC LIMIT :limit"
NOT_DONE: Final = (
    "SELECT id FROM messages INDEXED BY unacked WHERE acked_at IS NULL AND parked IS NULL"
    f" AND (delivered_at IS NULL) = :waits AND id < :before{_OF} ORDER BY id DESC LIMIT :limit"
)
PARKED: Final = (
    f"SELECT id FROM messages INDEXED BY parked WHERE parked = :parked AND id < :before{_OF}"
    " ORDER BY id DESC LIMIT :limit"
)
ONE: Final = f"SELECT {_COLUMNS.format(body='{body}')} FROM messages WHERE id = ?"


class Flow:
    """The messages of one hive."""

    def __init__(self, database: Database, indexer: Indexer) -> None:
        self._database = database
        self._indexer = indexer

    async def page(self, asked: r.Flow) -> p.FlowPage:
        """The newest messages that are as was asked for, before `asked.before`."""
        query = None if not asked.q else words.parse(asked.q)
        if query is not None and not query.phrases:
            return p.FlowPage(rows=[])
        return await self._database.read(partial(self._page, asked=asked, query=query))

    async def message(self, number: int) -> p.OneMessage:
        """One message, whole.

        Raises:
            NotFound: there is none (any more).
        """
        row = await self._database.read(lambda conn: read(conn, number, whole=True))
        if row is None:
            raise NotFound(
                f"there is no message {number}", hint="messages are removed 30 days after they were done"
            )
        return p.OneMessage(message=row)

    def _page(self, conn: sqlite3.Connection, asked: r.Flow, query: Query | None) -> p.FlowPage:
        limit = min(asked.limit, ROWS_MAX)
        rows: list[FlowRow] = []
        looked_at = 0
        for number in self._numbers(conn, asked, query):
            looked_at += 1
            if looked_at > LOOKED_AT_MAX:
                return p.FlowPage(rows=rows, more=True)
            row = read(conn, number)
            if row is None or (asked.state is not None and row.state != asked.state):
                continue
            if len(rows) == limit:
                return p.FlowPage(rows=rows, more=True)
            rows.append(row)
        return p.FlowPage(rows=rows)

    def _numbers(self, conn: sqlite3.Connection, asked: r.Flow, query: Query | None) -> Iterator[int]:
        """Ids of what may be asked for, newest first."""
        agent, other = asked.agent or asked.other, asked.other if asked.agent else None
        values: dict[str, object] = {
            "agent": agent,
            "other": other,
            "before": asked.before or NEWEST,
            "after": 0,
        }
        if asked.state is not None and asked.state != "acked":
            statement = PARKED if asked.state in {"held", "dead"} else NOT_DONE
            more = {"parked": asked.state, "waits": asked.state == "pending"}
            yield from _with_words(conn, _pages(conn, statement, {**values, **more}), query)
        elif agent is None and query is None:
            yield from _pages(conn, ALL, values)
        else:
            through = self._indexer.through
            tail = _pages(conn, ALL, {**values, "after": through})
            yield from _with_words(conn, islice(tail, LOOKED_AT_MAX), query)
            yield from self._known(agent, other, min(asked.before or NEWEST, through + 1), query)

    def _known(self, agent: str | None, other: str | None, before: int, query: Query | None) -> Iterator[int]:
        """From the index. Messages of one second that a jump of the clock mixed up may be out of order by it."""
        while True:
            if query is not None:
                look = partial(
                    index.find_mail, query=query, before=before, agent=agent, other=other, limit=PAGE
                )
            else:
                look = partial(index.mail_of, agent=agent or "", other=other, before=before, limit=PAGE)
            page = self._indexer.look(look, list[int]())
            yield from page
            if len(page) < PAGE:
                return
            before = min(page)


def _pages(conn: sqlite3.Connection, statement: str, values: dict[str, object]) -> Iterator[int]:
    before = values["before"]
    while True:
        page = [row[0] for row in conn.execute(statement, {**values, "before": before, "limit": PAGE})]
        yield from page
        if len(page) < PAGE:
            return
        before = page[-1]


def _with_words(conn: sqlite3.Connection, numbers: Iterator[int], query: Query | None) -> Iterator[int]:
    if query is None:
        yield from numbers
        return
    for number in numbers:
        row = conn.execute("SELECT body FROM messages WHERE id = ?", (number,)).fetchone()
        if row is not None and words.found_in(query, row[0]):
            yield number


def read(conn: sqlite3.Connection, number: int, *, whole: bool = False) -> FlowRow | None:
    """One message as it stands; its body's beginning, or all of it."""
    row = conn.execute(ONE.format(body="body" if whole else _BODY), (number,)).fetchone()
    if row is None:
        return None
    one = _Row(*row)
    cut = not whole and len(one.body) > BODY_CHARS
    return FlowRow(
        id=one.id,
        sender=one.sender,
        recipient=one.recipient,
        body=one.body[:BODY_CHARS] if cut else one.body,
        at=one.sent_at,
        state=_state(one),
        cut=cut,
        delivered_at=one.delivered_at,
        acked_at=one.acked_at,
        tries=one.tries,
        turn=one.turn,
        note="dropped" if one.parked == "dropped" else one.reason,
        file_refs=file_refs.decode(one.file_refs),
    )


class _Row(msgspec.Struct, frozen=True):
    id: int
    sender: str
    recipient: str
    body: str
    sent_at: int
    delivered_at: int | None
    acked_at: int | None
    parked: str | None
    reason: str | None
    tries: int
    turn: int | None
    file_refs: str | None


def _state(row: _Row) -> MessageStateName:
    if row.acked_at is not None:
        return "acked"
    if row.parked in {"held", "dead"}:
        return "held" if row.parked == "held" else "dead"
    return "pending" if row.delivered_at is None else "in_flight"
