"""What was told of, by which channel, and how that went: rows. Beside SQL it knows only which state follows which.

matters   open -> settled
notices   waiting -> sending -> sent | unknown         (sending -> waiting, where it surely was not delivered)
          waiting -> withdrawn                         (settled before anybody was told)
          sent -> resolving -> resolved | unresolved
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from hyperhive.config import MatterKind
from hyperhive.notices.matters import Matter
from hyperhive.store import Database, Migrations

MIGRATIONS: Final = Migrations("notices")
KEEP_SECONDS: Final = 90 * 86400

NoticeState = Literal[
    "waiting", "sending", "sent", "unknown", "failed", "withdrawn", "resolving", "resolved", "unresolved"
]


@MIGRATIONS()
def m0001_notices(db: Database) -> None:
    """`matters`: every matter that was ever seen; `notices`: one row for each channel and each time that it came up."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS matters (key TEXT PRIMARY KEY, kind TEXT NOT NULL, agent TEXT,"
        " title TEXT NOT NULL, body TEXT NOT NULL, at INTEGER NOT NULL, settled_at INTEGER,"
        " time INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE IF NOT EXISTS notices (id INTEGER PRIMARY KEY, channel TEXT NOT NULL, matter TEXT NOT NULL,"
        " time INTEGER NOT NULL, state TEXT NOT NULL, due_at INTEGER NOT NULL, told_as TEXT,"
        " tries INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL, error TEXT, UNIQUE (channel, matter, time))"
    )
    db.execute(
        "CREATE INDEX IF NOT EXISTS notices_to_do ON notices(state, due_at)"
        " WHERE state IN ('waiting', 'sending', 'sent', 'resolving')"
    )


class NoticeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the delivery log. `told_as`: the key of the notice that told of it, where one told of many."""

    id: int
    channel: str
    key: str
    kind: MatterKind
    agent: str | None
    title: str
    text: str
    state: NoticeState
    due_at: int
    tries: int
    at: int
    told_as: str | None = None
    error: str | None = None


class Seen(msgspec.Struct, frozen=True):
    """What waits now, and for whom: (matter, [(channel, due at)])."""

    matters: list[tuple[Matter, list[tuple[str, int]]]]
    at: int


class Changed(msgspec.Struct, frozen=True):
    """Keys that were not known before, and keys that wait no longer."""

    new: list[str]
    settled: list[str]


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that go into another state together."""

    ids: list[int]
    state: NoticeState
    at: int
    told_as: str | None = None
    error: str | None = None
    due_at: int | None = None


def reconcile(conn: sqlite3.Connection, batch: Sequence[Seen]) -> list[Changed]:
    """Takes down what is new and what is settled. What waits already is not new; what was settled since, is again."""
    return [_reconcile(conn, seen) for seen in batch]


def _reconcile(conn: sqlite3.Connection, seen: Seen) -> Changed:
    new = []
    for matter, channels in seen.matters:
        row = (matter.key, matter.kind, matter.agent, matter.title, matter.text, seen.at)
        found = conn.execute(_COMES_UP, row).fetchone()
        if found is None:
            continue
        new.append(matter.key)
        conn.executemany(
            "INSERT INTO notices (channel, matter, time, state, due_at, at) VALUES (?,?,?,'waiting',?,?)",
            [(channel, matter.key, found[0], due, seen.at) for channel, due in channels],
        )
    open_keys = {matter.key for matter, _ in seen.matters}
    known = [key for (key,) in conn.execute("SELECT key FROM matters WHERE settled_at IS NULL").fetchall()]
    settled = [key for key in known if key not in open_keys]
    for key in settled:
        conn.execute("UPDATE matters SET settled_at = ? WHERE key = ?", (seen.at, key))
        conn.execute(
            "UPDATE notices SET state = 'withdrawn', at = ? WHERE matter = ? AND state = 'waiting'",
            (seen.at, key),
        )
    return Changed(new, settled)


_COMES_UP: Final = (
    "INSERT INTO matters (key, kind, agent, title, body, at) VALUES (?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET"
    " title = excluded.title, body = excluded.body, at = excluded.at, settled_at = NULL, time = time + 1"
    " WHERE settled_at IS NOT NULL RETURNING time"
)


def move(conn: sqlite3.Connection, batch: Sequence[Move]) -> list[None]:
    """Moves rows on."""
    for one in batch:
        conn.executemany(
            "UPDATE notices SET state = ?, at = ?, told_as = coalesce(?, told_as), error = ?,"
            " due_at = coalesce(?, due_at), tries = tries + (? = 'sending') WHERE id = ?",
            [
                (one.state, one.at, one.told_as, one.error, one.due_at, one.state, number)
                for number in one.ids
            ],
        )
    return [None] * len(batch)


def interrupted(conn: sqlite3.Connection, batch: Sequence[int]) -> list[int]:
    """What was on its way when the last hive died may have arrived: it is not sent again. Gives how many."""
    text = "the hive ended while it was on its way"
    counts = []
    for at in batch:
        rows = (
            conn.execute(
                "UPDATE notices SET state = ?, at = ?, error = ? WHERE state = ?", (after, at, text, before)
            ).rowcount
            for before, after in (("sending", "unknown"), ("resolving", "unresolved"))
        )
        counts.append(sum(rows))
    return counts


_ROW: Final = (
    "SELECT n.id, n.channel, m.key || iif(n.time = 1, '', '#' || n.time), m.kind, m.agent, m.title, m.body, n.state,"
    " n.due_at, n.tries, n.at, n.told_as, n.error FROM notices n JOIN matters m ON m.key = n.matter"
)
_IS_SETTLED: Final = "({m}.settled_at IS NOT NULL OR {n}.time < {m}.time)"
_SETTLED: Final = (  # constants, all of them
    f"{_ROW} WHERE n.state = 'sent' AND {_IS_SETTLED.format(m='m', n='n')} AND NOT EXISTS"  # noqa: S608
    " (SELECT 1 FROM notices o JOIN matters p ON p.key = o.matter WHERE o.channel = n.channel"
    f" AND o.told_as = n.told_as AND o.state = 'sent' AND NOT {_IS_SETTLED.format(m='p', n='o')})"
    " ORDER BY n.id LIMIT 1000"
)


def waiting(conn: sqlite3.Connection) -> list[NoticeRow]:
    """What is to be sent, the oldest first."""
    return _rows(conn, f"{_ROW} WHERE n.state = 'waiting' ORDER BY n.due_at, n.id LIMIT 1000")


def to_resolve(conn: sqlite3.Connection) -> list[NoticeRow]:
    """What was told of and is settled; of one notice for many, only when all of them are."""
    return _rows(conn, _SETTLED)


def log_rows(conn: sqlite3.Connection, limit: int) -> list[NoticeRow]:
    """The delivery log, newest first."""
    return _rows(conn, f"{_ROW} ORDER BY n.id DESC LIMIT ?", limit)


def prune(conn: sqlite3.Connection, batch: Sequence[int]) -> list[int]:
    """Forgets what was settled long ago; gives how many matters went."""
    counts = []
    for at in batch:
        old = "settled_at < ?"
        conn.execute(
            f"DELETE FROM notices WHERE matter IN (SELECT key FROM matters WHERE {old})",  # noqa: S608 - a constant
            (at - KEEP_SECONDS,),
        )
        counts.append(conn.execute(f"DELETE FROM matters WHERE {old}", (at - KEEP_SECONDS,)).rowcount)  # noqa: S608
    return counts


def _rows(conn: sqlite3.Connection, sql: str, *values: object) -> list[NoticeRow]:
    found = []
    for number, channel, key, kind, agent, title, text, state, due, tries, at, told_as, error in conn.execute(
        sql, values
    ).fetchall():
        found.append(
            NoticeRow(
                id=number, channel=channel, key=key, kind=kind, agent=agent, title=title, text=text, state=state,
                due_at=due, tries=tries, at=at, told_as=told_as, error=error,
            )
        )  # fmt: skip
    return found
