"""`Origins`: what led to a question or an approval: the turn that asked, and the messages that it was answering.

Who was shown what is the broker's note of the very moment (broker/origins.py); texts are read where they live, and the
turn is found in its agent's own history, as far as that goes back. Quotes agents; changes nothing, judges nothing.
"""

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from hyperhive.broker import origins
from hyperhive.broker.origins import OriginKind
from hyperhive.errors import BadRequest, HiveError, NotFound
from hyperhive.handlers.ports import Harnesses
from hyperhive.names import OPERATOR, SYSTEM, parse_resident
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.screens import OriginMessage
from hyperhive.screens.indexer import Database

SHOWN_MAX: Final = 8
"""So many messages, the newest of them: what was said last led to it."""
BODY_CHARS: Final = 600
EVENTS_MAX: Final = 5

_QUESTION: Final = "SELECT CAST(asker AS BLOB), asked_at, cause FROM questions WHERE id = ?"
_APPROVAL: Final = "SELECT requested_by, requested_at, NULL FROM approvals WHERE id = ? AND stage <> 'draft'"
_MESSAGE: Final = (  # the words are our own
    f"SELECT id, sender, recipient, sent_at, substr(body, 1, {BODY_CHARS + 1}), coalesce(chain, id), turn"  # noqa: S608
    " FROM messages WHERE id = ?"
)


class _Noted(msgspec.Struct):
    """What the database says."""

    asker: str
    at: int
    known: bool
    messages: list[OriginMessage] = []
    more: int = 0
    root: OriginMessage | None = None
    turns: set[int] = set()
    """Of the turns that read these messages."""


class Origins:
    """Finds them, for one hive."""

    def __init__(self, database: Database, harnesses: Harnesses) -> None:
        self._database = database
        self._harnesses = harnesses

    async def of(self, asked: r.Origin) -> p.OriginPage:
        """What led to it.

        Raises:
            BadRequest: not exactly one thing is named. NotFound: there is no such question or approval.
        """
        kind: OriginKind
        if asked.question is not None and asked.approval is None:
            kind, number = "question", asked.question
        elif asked.approval is not None and asked.question is None:
            kind, number = "approval", asked.approval
        else:
            raise BadRequest("say one thing: a question or an approval")
        noted = await self._database.read(partial(_look, kind=kind, number=number))
        if noted is None:
            raise NotFound(f"there is no {kind} {number}")
        return p.OriginPage(
            asker=noted.asker,
            at=noted.at,
            turn=await self._turn(noted),
            known=noted.known,
            messages=tuple(noted.messages),
            more=noted.more,
            root=noted.root,
        )

    async def _turn(self, noted: _Noted) -> int | None:
        """The turn that was under way at that second; of two, the one that read the messages."""
        if noted.asker in {OPERATOR, SYSTEM, ""}:
            return None
        try:
            starts = await self._events(noted.asker, "turn_start", until=noted.at)
            ends = await self._events(noted.asker, "turn_end", until=noted.at - 1)
        except HiveError:  # its harness is away, or it is gone
            return None
        over = {event.get("turn") for event in ends}
        found: list[int] = []
        for event in reversed(starts):
            turn, began = event.get("turn"), event.get("ts")
            if isinstance(turn, int) and turn not in over:
                found.append(turn)
            if not isinstance(began, int) or began < noted.at:
                break  # turns follow each other: what began before this one was over by then
        return next((turn for turn in found if turn in noted.turns), found[-1] if found else None)

    async def _events(self, agent: str, kind: str, until: int) -> list[dict[str, Any]]:
        asked = line.History(req=0, limit=EVENTS_MAX, kind=kind, until=until)
        reply = await self._harnesses.ask(parse_resident(agent), asked)
        return reply.events if isinstance(reply, p.EventPage) else []


def _look(conn: sqlite3.Connection, kind: OriginKind, number: int) -> _Noted | None:
    row = conn.execute(_QUESTION if kind == "question" else _APPROVAL, (number,)).fetchone()
    if row is None:
        return None
    asker = row[0].decode(errors="replace") if isinstance(row[0], bytes) else str(row[0])
    ids = origins.of(conn, kind, number)
    noted = _Noted(asker, row[1] if isinstance(row[1], int) else 0, ids is not None)
    if ids is None:
        ids = [row[2]] if isinstance(row[2], int) else []  # at least the one that its chain came by
    _read(conn, noted, ids)
    return noted


def _read(conn: sqlite3.Connection, noted: _Noted, ids: Sequence[int]) -> None:
    chains: set[int] = set()
    for number in sorted(ids, reverse=True):
        row = conn.execute(_MESSAGE, (number,)).fetchone()
        if row is None or len(noted.messages) == SHOWN_MAX:
            noted.more += 1
            continue
        noted.messages.insert(0, _shown(row))
        chains.add(row[5])
        if row[6] is not None:
            noted.turns.add(row[6])
    known = {message.id for message in noted.messages}
    root = min(chains - known, default=None)
    row = None if root is None else conn.execute(_MESSAGE, (root,)).fetchone()
    noted.root = None if row is None else _shown(row)


def _shown(row: Sequence[Any]) -> OriginMessage:
    number, sender, recipient, at, body = row[:5]
    cut = len(body) > BODY_CHARS
    return OriginMessage(
        id=number, sender=sender, recipient=recipient, at=at, body=body[:BODY_CHARS], cut=cut
    )
