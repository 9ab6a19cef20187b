"""`Search`: texts by their words, newest first, by the index; messages that it lacks yet are read as they are.

Hits are read again where they live, so that nothing is shown that is gone. Changes nothing.
"""

import sqlite3
from functools import partial
from typing import Final, Literal

from hyperhive.clock import Clock
from hyperhive.protocol import replies as p
from hyperhive.protocol.screens import HitKind, SearchHit
from hyperhive.screens import index, words
from hyperhive.screens.events import AgentEvents
from hyperhive.screens.index import DECISION, DECISION_TEXT, EVENT, MESSAGE, QUESTION, Found
from hyperhive.screens.indexer import Database, Indexer, as_text
from hyperhive.screens.words import Query

HITS_MAX: Final = 200
TAIL_ROWS: Final = 500
"""Of what is not in the index yet, so many of the newest are looked through."""

Scope = Literal["messages", "events", "all"]

_WHERE: Final = {
    MESSAGE: "SELECT CAST(body AS BLOB) FROM messages WHERE id = ?",
    QUESTION: "SELECT CAST(question AS BLOB) FROM questions WHERE id = ?",
    DECISION: f"SELECT {DECISION_TEXT} FROM audit WHERE id = ?",  # noqa: S608 - our own words
}
_NAMES: Final[dict[int, HitKind]] = {
    MESSAGE: "message",
    EVENT: "event",
    QUESTION: "question",
    DECISION: "decision",
}
_TAIL: Final = (
    "SELECT id, sender, recipient, sent_at, body FROM messages WHERE id > ? ORDER BY id DESC LIMIT ?"
)


class Search:
    """Finds texts.

    Args:
        events: reads an agent's events again; None: there are none in the index.
    """

    def __init__(
        self, database: Database, indexer: Indexer, clock: Clock, events: AgentEvents | None = None
    ) -> None:
        self._database = database
        self._indexer = indexer
        self._clock = clock
        self._events = events

    async def find(
        self, text: str, *, limit: int = 50, before: int | None = None, scope: Scope = "all"
    ) -> p.SearchHits:
        """The newest texts that have all of what is looked for. A query that says nothing finds nothing."""
        began = self._clock.monotonic()
        query = words.parse(text)
        hits: list[SearchHit] = []
        behind = self._indexer.behind
        if query.phrases:
            look = partial(self._look, query=query, limit=min(limit, HITS_MAX), before=before, scope=scope)
            hits, cut = await self._database.read(look)
            behind = behind or cut
        took = int((self._clock.monotonic() - began) * 1000)
        return p.SearchHits(hits=hits, took_ms=took, behind=behind)

    def _look(
        self, conn: sqlite3.Connection, *, query: Query, limit: int, before: int | None, scope: Scope
    ) -> tuple[list[SearchHit], bool]:
        kinds = [kind for name, kinds in index.KINDS.items() if scope in (name, "all") for kind in kinds]
        hits, cut = self._tail(conn, query, before) if MESSAGE in kinds else ([], False)
        hits = hits[:limit]
        new = {hit.id for hit in hits}  # the index may be taking them in just now
        more = True
        while more and len(hits) < limit:
            page = self._indexer.look(
                partial(index.find, query=query, before=before, limit=limit, kinds=kinds), list[Found]()
            )
            more = len(page) == limit
            for found in page:
                before = found.doc
                if found.kind == MESSAGE and found.ref in new:
                    continue
                text = self._text(conn, found)
                if text is not None and (found.kind != EVENT or words.found_in(query, text)):
                    hits.append(_hit(query, found, text))
        hits.sort(key=lambda hit: -hit.cursor)
        return hits[:limit], cut

    def _text(self, conn: sqlite3.Connection, found: Found) -> str | None:
        if found.kind == EVENT:
            return None if self._events is None else self._events.text(found.sender, found.ref)
        row = conn.execute(_WHERE[found.kind], (found.ref,)).fetchone()
        return None if row is None else as_text(row[0])

    def _tail(
        self, conn: sqlite3.Connection, query: Query, before: int | None
    ) -> tuple[list[SearchHit], bool]:
        """Hits among the messages that the index does not have yet; and whether there are more of these than that."""
        rows = conn.execute(_TAIL, (self._indexer.through, TAIL_ROWS)).fetchall()
        hits = []
        for number, sender, recipient, at, body in rows:
            doc = index.number_of(at, number)
            if (before is None or doc < before) and words.found_in(query, body):
                found = Found(doc, MESSAGE, number, sender, recipient, None)
                hits.append(_hit(query, found, body))
        return hits, len(rows) == TAIL_ROWS


def _hit(query: Query, found: Found, text: str) -> SearchHit:
    event = found.kind == EVENT
    agent = found.sender if found.kind in {EVENT, DECISION} else None
    return SearchHit(
        kind=_NAMES[found.kind],
        id=found.ref,
        cursor=found.doc,
        at=found.at,
        snippet=words.snippet(query, text),
        sender=None if event else found.recipient if found.kind == DECISION else found.sender,
        recipient=found.recipient if found.kind in {MESSAGE, QUESTION} else None,
        agent=agent,
        turn=found.turn,
        eid=found.ref if event else None,
    )
