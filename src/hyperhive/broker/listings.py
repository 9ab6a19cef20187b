"""Looking at messages without touching them, parking and unparking them, and the sweep of old ones.

SQL that is not on the hot path: listings run on readers' connections, the rest as store operations.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from hyperhive.broker import file_refs, origins, repeats, storms
from hyperhive.broker.inbox import Entry
from hyperhive.broker.rows import ENTRY, Mail, bury
from hyperhive.errors import HiveError, NotFound
from hyperhive.protocol.types import DeadLetter, InboxRow, OperatorInboxRow

DROPPED_KEPT_DAYS: Final = 90
SWEEP_ROWS: Final = 2000
OLD_ROWS: Final = 200


# --- listings -------------------------------------------------------------------------------------------------------


def recent_ids(conn: sqlite3.Connection, recipient: str, limit: int) -> list[int]:
    """The newest messages of an inbox, newest first.

    Walks the table backwards until it has enough: there is no index for it, because every send would pay for it.
    """
    query = "SELECT id FROM messages NOT INDEXED WHERE recipient = ? ORDER BY id DESC LIMIT ?"
    return [row[0] for row in conn.execute(query, (recipient, limit))]


def inbox_rows(conn: sqlite3.Connection, ids: Sequence[int], max_chars: int | None = None) -> list[InboxRow]:
    """Those messages that still exist, in the order of the ids, until their bodies come to `max_chars`."""
    query = "SELECT id, sender, body, sent_at FROM messages WHERE id = ?"
    found: list[InboxRow] = []
    chars = 0
    for one in ids:
        row = conn.execute(query, (one,)).fetchone()
        if row is None:
            continue
        found.append(InboxRow(id=row[0], sender=row[1], body=row[2], at=row[3]))
        chars += len(row[2])
        if max_chars is not None and chars >= max_chars:
            break
    return found


def operator_rows(conn: sqlite3.Connection, limit: int, *, include_done: bool) -> list[OperatorInboxRow]:
    """The operator's mail, newest first."""
    columns = "SELECT id, sender, body, sent_at, acked_at, file_refs FROM messages"
    if include_done:
        query = f"{columns} NOT INDEXED WHERE recipient = 'operator' ORDER BY id DESC LIMIT ?"
    else:
        index = "INDEXED BY unacked WHERE acked_at IS NULL AND"
        query = f"{columns} {index} recipient = 'operator' ORDER BY id DESC LIMIT ?"
    return [
        OperatorInboxRow(
            id=row[0],
            sender=row[1],
            body=row[2],
            at=row[3],
            done_at=row[4],
            file_refs=file_refs.decode(row[5]),
        )
        for row in conn.execute(query, (limit,))
    ]


_BEGINNINGS: Final = (
    "SELECT id, sender, substr(body, 1, ?1 + 1), sent_at, file_refs FROM messages INDEXED BY unacked"
    " WHERE acked_at IS NULL AND recipient = 'operator' ORDER BY id DESC LIMIT ?2"
)


def operator_beginnings(conn: sqlite3.Connection, limit: int, chars: int) -> list[OperatorInboxRow]:
    """The operator's mail that is not done, newest first, of each body no more than so many characters."""
    return [
        OperatorInboxRow(
            id=row[0],
            sender=row[1],
            body=row[2][:chars],
            at=row[3],
            file_refs=file_refs.decode(row[4]),
            cut=len(row[2]) > chars,
        )
        for row in conn.execute(_BEGINNINGS, (chars, limit))
    ]


def dead_count(conn: sqlite3.Connection) -> int:
    """How many dead letters there are."""
    (count,) = conn.execute(
        "SELECT count(*) FROM messages INDEXED BY parked WHERE parked = 'dead'"
    ).fetchone()
    return int(count)


def dead_rows(conn: sqlite3.Connection, limit: int) -> list[DeadLetter]:
    """Dead letters, newest first."""
    query = (
        "SELECT id, sender, recipient, body, sent_at, parked_at, reason, tries FROM messages INDEXED BY parked"
        " WHERE parked = 'dead' ORDER BY id DESC LIMIT ?"
    )
    return [
        DeadLetter(
            id=row[0],
            sender=row[1],
            recipient=row[2],
            body=row[3],
            at=row[4],
            dead_at=row[5],
            reason=row[6],
            tries=row[7],
        )
        for row in conn.execute(query, (limit,))
    ]


class InboxCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How full one inbox is. `oldest_at` is the time of the oldest message that still waits."""

    pending: int = 0
    in_flight: int = 0
    held: int = 0
    dead: int = 0
    oldest_at: int | None = None


def counts(conn: sqlite3.Connection) -> dict[str, InboxCounts]:
    """Every inbox that is not empty, as it stands on disk."""
    query = (
        "SELECT recipient, sum(parked IS NULL AND delivered_at IS NULL),"
        " sum(parked IS NULL AND delivered_at IS NOT NULL), sum(parked IS 'held'), sum(parked IS 'dead'),"
        " min(iif(parked IS NULL AND delivered_at IS NULL, sent_at, NULL))"
        " FROM messages INDEXED BY unacked WHERE acked_at IS NULL GROUP BY recipient"
    )
    return {
        row[0]: InboxCounts(pending=row[1], in_flight=row[2], held=row[3], dead=row[4], oldest_at=row[5])
        for row in conn.execute(query)
    }


class Done(msgspec.Struct, frozen=True):
    """Messages that the operator has dealt with."""

    ids: list[int]
    at: int


def mark_done(conn: sqlite3.Connection, batch: Sequence[Done]) -> list[dict[int, int]]:
    """Sets the operator's done mark; gives the ids that had none yet, with their urgency."""
    query = (
        "UPDATE messages SET acked_at = ? WHERE id = ? AND recipient = 'operator' AND acked_at IS NULL"
        " AND parked IS NULL RETURNING id, urgency"
    )
    return [
        dict(row for one in job.ids for row in conn.execute(query, (job.at, one)).fetchall()) for job in batch
    ]


# --- parking --------------------------------------------------------------------------------------------------------


class Bury(msgspec.Struct, frozen=True):
    """Messages of one recipient to give up; `ids` None means all that is not done."""

    recipient: str
    ids: list[int] | None
    reason: str
    at: int
    turn: int | None = None


class Buried(msgspec.Struct, frozen=True):
    """Ids that became dead letters, and the mail about them."""

    ids: list[int]
    mail: list[Mail]


_NOT_DONE: Final = "SELECT id FROM messages INDEXED BY unacked WHERE recipient = ? AND acked_at IS NULL"


def bury_all(conn: sqlite3.Connection, batch: Sequence[Bury]) -> list[Buried | HiveError]:
    """Gives messages up."""
    results: list[Buried | HiveError] = []
    for job in batch:
        ids = job.ids
        if ids is None:
            conn.execute(
                "UPDATE messages SET parked = NULL WHERE recipient = ? AND acked_at IS NULL AND parked = 'held'",
                (job.recipient,),
            )
            ids = [row[0] for row in conn.execute(_NOT_DONE, (job.recipient,))]
        results.append(Buried(*bury(conn, job.recipient, ids, job.reason, job.at)))
    return results


class Unpark(msgspec.Struct, frozen=True):
    """A parked message, and whether it is to wait again or to be dropped."""

    id: int
    parked: str
    drop: bool
    at: int


class Unparked(msgspec.Struct, frozen=True):
    """Whose it is, and the message itself."""

    recipient: str
    entry: Entry


_RELEASE: Final = "UPDATE messages SET parked = NULL, parked_at = NULL, reason = NULL, tries = 0"
_DROP: Final = "UPDATE messages SET parked = 'dropped', acked_at = ?"
_THIS_ONE: Final = f"WHERE id = ? AND parked = ? RETURNING recipient, {ENTRY}"


def unpark(conn: sqlite3.Connection, batch: Sequence[Unpark]) -> list[Unparked | HiveError]:
    """Lets held or dead messages wait again (as if they had never failed), or ends them."""
    results: list[Unparked | HiveError] = []
    for job in batch:
        if job.drop:
            row = conn.execute(f"{_DROP} {_THIS_ONE}", (job.at, job.id, job.parked)).fetchone()
        else:
            row = conn.execute(f"{_RELEASE} {_THIS_ONE}", (job.id, job.parked)).fetchone()
        word = "dead letter" if job.parked == "dead" else "held message"
        results.append(
            Unparked(row[0], Entry(*row[1:])) if row is not None else NotFound(f"there is no {word} {job.id}")
        )
    return results


# --- sweep ----------------------------------------------------------------------------------------------------------


class Sweep(msgspec.Struct, frozen=True):
    """One step of the sweep: rows after this id, done before these times."""

    after: int
    acked_before: int
    dropped_before: int
    now: int


class Swept(msgspec.Struct, frozen=True):
    """How many rows went, and where the next step begins (None: there is none)."""

    removed: int
    resume_after: int | None


def sweep(conn: sqlite3.Connection, batch: Sequence[Sweep]) -> list[Swept]:
    """Removes old done messages, a bounded number of rows a step, so that senders hardly wait for it.

    Goes by id, so it needs no index; ends at the first message that was sent too late to be old. The newest row
    stays whatever its age: it is where ids continue.
    """
    return [_sweep_one(conn, job) for job in batch]


def old_mail(conn: sqlite3.Connection, job: Sweep) -> list[tuple[int, bytes]]:
    """What `sweep` would remove next, in order, as id and text; none where it would remove nothing more."""
    (end,) = conn.execute(
        "SELECT coalesce((SELECT id FROM messages WHERE sent_at >= ? AND id > ? ORDER BY id LIMIT 1), max(id))"
        " FROM messages",
        (job.acked_before, job.after),
    ).fetchone()
    query = (
        "SELECT id, CAST(body AS BLOB) FROM messages WHERE id > ? AND id < ?"
        " AND acked_at < CASE WHEN parked IS 'dropped' THEN ? ELSE ? END ORDER BY id LIMIT ?"
    )
    return conn.execute(query, (job.after, end, job.dropped_before, job.acked_before, OLD_ROWS)).fetchall()


def _sweep_one(conn: sqlite3.Connection, job: Sweep) -> Swept:
    rows = conn.execute(
        "SELECT id, sent_at, acked_at, parked IS 'dropped' FROM messages WHERE id > ?"
        " AND id < (SELECT max(id) FROM messages) ORDER BY id LIMIT ?",
        (job.after, SWEEP_ROWS),
    ).fetchall()
    old = [
        (number,)
        for number, _, acked_at, dropped in rows
        if acked_at is not None and acked_at < (job.dropped_before if dropped else job.acked_before)
    ]
    conn.executemany("DELETE FROM messages WHERE id = ?", old)
    if len(rows) < SWEEP_ROWS or rows[-1][1] >= job.acked_before:
        repeats.prune(conn, job.now)
        storms.prune(conn, job.now)
        origins.prune(conn, job.now)
        return Swept(len(old), None)
    return Swept(len(old), rows[-1][0])
