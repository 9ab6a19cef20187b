"""`Digests`: what has happened since then, in counts and the few lines that are worth reading after a night away.

Counted from the rows that each part keeps anyway: nothing is written for it. What a month holds is read by index, and
of each kind no more than is shown. Changes nothing.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import HiveError
from hyperhive.handlers.ports import Harnesses
from hyperhive.harness.stats import Tally, TurnStats
from hyperhive.names import AgentName
from hyperhive.protocol import replies as p
from hyperhive.protocol.events import ContainerCrash
from hyperhive.protocol.harness_line import TurnHistory
from hyperhive.protocol.screens import DigestAgent, DigestItem
from hyperhive.protocol.types import TurnRow
from hyperhive.screens import index
from hyperhive.screens.indexer import Database, Indexer, as_text
from hyperhive.screens.words import Query

ITEMS_MAX: Final = 50
DAYS_MAX: Final = 30
TEXT_MAX: Final = 160
FAILED_EACH: Final = 5
TAIL_ROWS: Final = 200
_CRASHES: Final = Query((("container", "crash"),))
NANO: Final = 1_000_000_000

_ANSWERED: Final = (
    "SELECT id, CAST(asker AS BLOB), answered_at, substr(CAST(question AS BLOB), 1, 400),"
    " substr(CAST(answer AS BLOB), 1, 400) FROM questions INDEXED BY resolved"
    " WHERE typeof(answered_at) = 'integer' AND answered_at >= ? AND answerer <> 'ttl-watchdog'"
    " ORDER BY answered_at DESC LIMIT ?"
)
_ANSWERS: Final = (
    "SELECT count(*) FROM questions INDEXED BY resolved WHERE typeof(answered_at) = 'integer'"
    " AND answered_at >= ? AND answerer <> 'ttl-watchdog'"
)
_APPROVALS: Final = (
    "SELECT id, agent, kind, stage, resolved_at, coalesce(note, '') FROM approvals"
    " WHERE stage IN ('deployed', 'failed') AND resolved_at >= ? ORDER BY resolved_at DESC"
)
_DECISIONS: Final = (
    "SELECT approval, agent, action, who, at, coalesce(why, '') FROM audit WHERE at >= ?"
    " AND action IN ('approved', 'denied') ORDER BY id DESC LIMIT ?"
)
_DEAD: Final = (
    "SELECT id, sender, recipient, parked_at, reason FROM messages INDEXED BY parked"
    " WHERE parked = 'dead' AND parked_at >= ? ORDER BY id DESC LIMIT ?"
)
_TAIL: Final = "SELECT id FROM messages WHERE id > ? AND sender = 'system' ORDER BY id DESC LIMIT ?"
_SPENT: Final = (
    "SELECT agent, sum(input_tokens + output_tokens + cache_read_input_tokens + cache_creation_input_tokens),"
    " sum(cost_nano) FROM spending WHERE at >= ? GROUP BY agent"
)


class Told(msgspec.Struct):
    """What the database says: lines, and numbers by name."""

    items: list[DigestItem]
    answered: int = 0
    deployed: int = 0
    messages: int = 0
    spent: dict[str, tuple[int, int]] = {}


class Digests:
    """Makes them.

    Args:
        agents: who there is.
        stats_of: an agent's turn statistics, where they are on this host.
        harnesses: tell an agent's turns, wherever they are kept.
    """

    def __init__(
        self,
        database: Database,
        indexer: Indexer,
        clock: Clock,
        *,
        agents: Callable[[], Sequence[str]],
        stats_of: Callable[[str], TurnStats],
        harnesses: Harnesses,
    ) -> None:
        self._database = database
        self._indexer = indexer
        self._clock = clock
        self._agents = agents
        self._stats_of = stats_of
        self._harnesses = harnesses

    async def since(self, at: int) -> p.DigestPage:
        """What has happened since this time (unix seconds), at most a month ago."""
        since = max(at, unix_seconds(self._clock) - DAYS_MAX * 86_400)
        told = await self._database.read(partial(self._look, since=since))
        agents: list[DigestAgent] = []
        finished = failed = 0
        for name in self._agents():
            tally = await self._tally(name, since)
            tokens = told.spent.get(name, (0, 0))[0]
            finished += tally.ok
            failed += tally.failed
            if tally.failed:
                told.items += await self._failures(name, since)
            if tally.ok or tally.failed or tokens:
                agents.append(
                    DigestAgent(name=name, turns=tally.ok + tally.failed, failed=tally.failed, tokens=tokens)
                )
        nano = sum(cost for _, cost in told.spent.values())
        tokens = sum(used for used, _ in told.spent.values())
        return p.DigestPage(
            since=since,
            finished=finished,
            failed=failed,
            answered=told.answered,
            deployed=told.deployed,
            messages=told.messages,
            tokens=tokens,
            cost=None if tokens and not nano else nano / NANO,
            agents=sorted(agents, key=lambda one: (-one.tokens, -one.turns, one.name)),
            items=sorted(told.items, key=lambda item: -item.at)[:ITEMS_MAX],
        )

    async def _tally(self, name: str, since: int) -> Tally:
        stats = self._stats_of(name)
        if await stats.there():
            return await stats.tally(since)
        rows = await self._turns(name, TurnHistory(req=0, since=since, limit=2000))
        ok = sum(row.result_kind == "ok" for row in rows)
        return Tally(ok=ok, failed=len(rows) - ok)

    async def _failures(self, name: str, since: int) -> list[DigestItem]:
        rows = await self._turns(name, TurnHistory(req=0, failed=True, since=since, limit=FAILED_EACH))
        return [
            DigestItem(
                kind="failed",
                at=row.ended_at,
                agent=name,
                ref=row.turn,
                text=row.result_kind.replace("_", " "),
            )
            for row in rows
        ]

    async def _turns(self, name: str, asked: TurnHistory) -> Sequence[TurnRow]:
        try:
            reply = await self._harnesses.ask(AgentName(name), asked)
        except HiveError:  # it does not run, and what it did is where it is
            return []
        return reply.turns if isinstance(reply, p.TurnRows) else []

    # --- in a reader's thread ---------------------------------------------------------------------------------------

    def _look(self, conn: sqlite3.Connection, since: int) -> Told:
        told = Told(items=[])
        first = first_since(conn, since)
        (newest,) = conn.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
        told.messages = 0 if first is None else newest - first + 1
        for number, asker, at, question, answer in conn.execute(_ANSWERED, (since, ITEMS_MAX)):
            text = f"{_cut(as_text(question))} → {_cut(as_text(answer))}"
            told.items.append(DigestItem(kind="answered", at=at, agent=as_text(asker), ref=number, text=text))
        (told.answered,) = conn.execute(_ANSWERS, (since,)).fetchone()
        for number, agent, kind, stage, at, note in conn.execute(_APPROVALS, (since,)):
            told.deployed += stage == "deployed"
            what = "a new agent" if kind == "spawn" else f"config {stage}"
            told.items.append(
                DigestItem(
                    kind="deployed" if stage == "deployed" else "failed",
                    at=at,
                    agent=agent,
                    ref=number,
                    text=_cut(f"{what}: {note}" if note else what),
                )
            )
        for number, agent, action, who, at, why in conn.execute(_DECISIONS, (since, ITEMS_MAX)):
            text = f"{action} by {who}" + (f": {why}" if why else "")
            told.items.append(DigestItem(kind="decided", at=at, agent=agent, ref=number, text=_cut(text)))
        for number, sender, recipient, at, reason in conn.execute(_DEAD, (since, ITEMS_MAX)):
            text = _cut(f"from {sender}: {reason or ''}")
            told.items.append(DigestItem(kind="dead", at=at, agent=recipient, ref=number, text=text))
        told.items += self._crashes(conn, first)
        told.spent = {agent: (tokens, nano) for agent, tokens, nano in conn.execute(_SPENT, (since,))}
        return told

    def _crashes(self, conn: sqlite3.Connection, first: int | None) -> list[DigestItem]:
        """Those that the system has told of: by the index, and of what it lacks yet."""
        if first is None:
            return []
        look = partial(
            index.find_mail, query=_CRASHES, before=index.TOP, agent="system", other=None, limit=ITEMS_MAX
        )
        tail = conn.execute(_TAIL, (self._indexer.through, TAIL_ROWS)).fetchall()
        items = []
        found = self._indexer.look(look, list[int]())
        for number in dict.fromkeys([*(row[0] for row in tail), *found]):  # it may be taking some in just now
            row = conn.execute("SELECT sent_at, body FROM messages WHERE id = ?", (number,)).fetchone()
            if number < first or row is None:
                continue
            try:
                crash = msgspec.json.decode(row[1], type=ContainerCrash)
            except msgspec.MsgspecError:  # a letter that only has these words in it
                continue
            items.append(
                DigestItem(
                    kind="crashed",
                    at=row[0],
                    agent=crash.agent,
                    ref=number,
                    text=_cut(crash.note or "crashed"),
                )
            )
        return items


def first_since(conn: sqlite3.Connection, since: int) -> int | None:
    """The id of the first message that was sent at this time or later; found by halving, as there is no index for it.

    Where the clock was put back in between it is near enough.
    """
    low, high = 0, conn.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0]
    found = None
    while low < high:
        middle = (low + high) // 2
        number, at = conn.execute(
            "SELECT id, sent_at FROM messages WHERE id > ? ORDER BY id LIMIT 1", (middle,)
        ).fetchone()
        if at >= since:
            found, high = number, middle
        else:
            low = number
    row = conn.execute("SELECT id, sent_at FROM messages WHERE id > ? ORDER BY id LIMIT 1", (low,)).fetchone()
    return row[0] if row is not None and row[1] >= since else found


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_MAX else f"{line[:TEXT_MAX]}…"
