"""The broker's hot path in SQL: store, lease, ack, requeue, load.

Functions over a batch of arguments, run by the store's writer inside a transaction. They decide nothing that memory
has decided already, and say what changed; nothing here knows of waiters or events.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from hyperhive.broker import repeats
from hyperhive.broker.inbox import HEAD_CHARS, HEAD_COUNT, Entry
from hyperhive.broker.repeats import Effect
from hyperhive.names import SYSTEM


class NewMessage(msgspec.Struct, gc=False):
    """A message to be stored. `cause` is the message in flight that it follows from, 0 for none."""

    sender: str
    recipient: str
    body: str
    at: int
    urgency: int = 0
    cause: int = 0
    hops: int = 0
    chain: int = 0
    file_refs: str | None = None


class Ack(msgspec.Struct, frozen=True):
    """Ids to ack. `sure`: memory says that each is in flight; `maybe`: only if it has been handed out before."""

    recipient: str
    sure: list[int]
    maybe: list[int]
    at: int
    turn: int | None = None


class Requeue(msgspec.Struct, frozen=True):
    """Entries (id, attempt) to put back; `blame` makes each count as failed, up to `dead_after` times.

    `effect`: the blaming, where it is to count once however often it is asked for.
    """

    recipient: str
    entries: list[tuple[int, int]]
    blame: str | None
    dead_after: int
    at: int
    turn: int | None = None
    effect: Effect | None = None


class Mail(msgspec.Struct, frozen=True):
    """A message that the system wrote in the same transaction, and its place in a chain."""

    id: int
    recipient: str
    body: str
    at: int
    hops: int = 0
    chain: int = 0


class Requeued(msgspec.Struct, frozen=True):
    """What became of a requeue: ids that wait again, ids that were given up, mail to their senders, if it counted."""

    back: list[int]
    dead: list[int]
    mail: list[Mail]
    blamed: bool


class Load(msgspec.Struct, frozen=True):
    """Which waiting messages to read: those after an id, at least this urgent, up to a count and a size."""

    recipient: str
    after: int
    level: int
    limit: int
    chars: int


# --- send -----------------------------------------------------------------------------------------------------------

_NEXT_ID: Final = "SELECT coalesce(max(id), 0) + 1 FROM messages"
_INSERT_PLAIN: Final = (
    "INSERT INTO messages (id, sender, recipient, body, sent_at, urgency) VALUES (?,?,?,?,?,?)"
)
_INSERT: Final = (
    "INSERT INTO messages (id, sender, recipient, body, sent_at, urgency, cause, hops, chain, file_refs)"
    " VALUES (?,?,?,?,?,?,?,?,?,?)"
)


def send(conn: sqlite3.Connection, batch: Sequence[NewMessage]) -> list[int]:
    """Stores messages that start chains of their own; gives their ids, in order."""
    first = next_id(conn)
    conn.executemany(
        _INSERT_PLAIN,
        [
            (number, new.sender, new.recipient, new.body, new.at, new.urgency)
            for number, new in enumerate(batch, first)
        ],
    )
    return list(range(first, first + len(batch)))


def next_id(conn: sqlite3.Connection) -> int:
    """The id after the newest: never one that was used before, as the newest row is never removed."""
    (number,) = conn.execute(_NEXT_ID).fetchone()
    return int(number)


def insert(conn: sqlite3.Connection, new: NewMessage) -> int:
    """Stores one message; gives its id."""
    number = next_id(conn)
    row = (number, new.sender, new.recipient, new.body, new.at, new.urgency)
    conn.execute(_INSERT, (*row, new.cause or None, new.hops, new.chain or None, new.file_refs))
    return number


def send_with_files(conn: sqlite3.Connection, batch: Sequence[NewMessage]) -> list[int]:
    """As `send`, for messages that refer to files: they have their own statement, so that others pay nothing for it."""
    return [insert(conn, new) for new in batch]


# --- leases ---------------------------------------------------------------------------------------------------------

_LEASE: Final = "UPDATE messages SET delivered_at = ? WHERE id = ? AND acked_at IS NULL AND parked IS NULL"
_UNLEASE: Final = (
    "UPDATE messages SET delivered_at = NULL WHERE id = ? AND acked_at IS NULL AND parked IS NULL"
)

Leases = dict[int, int]
"""Message id to the time at which it was handed out."""


def lease(conn: sqlite3.Connection, batch: Sequence[Leases]) -> list[None]:
    """Marks messages as handed out."""
    conn.executemany(_LEASE, [(at, number) for leases in batch for number, at in leases.items()])
    return [None] * len(batch)


def unlease(conn: sqlite3.Connection, batch: Sequence[list[int]]) -> list[None]:
    """Takes the mark back: what was to be handed out never was."""
    conn.executemany(_UNLEASE, [(number,) for ids in batch for number in ids])
    return [None] * len(batch)


# --- ack ------------------------------------------------------------------------------------------------------------

_ACK: Final = (
    "UPDATE messages SET acked_at = ?1, delivered_at = coalesce(delivered_at, ?1), turn = ?4"
    " WHERE id = ?2 AND recipient = ?3 AND acked_at IS NULL AND parked IS NULL"
)
_ACK_MAYBE: Final = f"{_ACK} AND (delivered_at IS NOT NULL OR attempt > 0) RETURNING urgency"


def ack(conn: sqlite3.Connection, batch: Sequence[Ack]) -> list[dict[int, int]]:
    """Marks messages as done; gives the `maybe` ones that were, with their urgency."""
    conn.executemany(
        _ACK, [(job.at, number, job.recipient, job.turn) for job in batch for number in job.sure]
    )
    return [_ack_maybe(conn, job) if job.maybe else {} for job in batch]


def _ack_maybe(conn: sqlite3.Connection, job: Ack) -> dict[int, int]:
    done = {}
    for number in job.maybe:
        row = conn.execute(_ACK_MAYBE, (job.at, number, job.recipient, job.turn)).fetchone()
        if row is not None:
            done[number] = int(row[0])
    return done


# --- requeue --------------------------------------------------------------------------------------------------------

# `attempt` is the lease's generation: a requeue that was overtaken by another changes nothing.
_REQUEUE: Final = (
    "UPDATE messages SET delivered_at = NULL, attempt = attempt + 1, tries = tries + ?"
    " WHERE id = ? AND attempt = ? AND recipient = ? AND acked_at IS NULL AND parked IS NULL RETURNING tries"
)
_PARK: Final = (
    "UPDATE messages SET parked = 'dead', parked_at = ?, reason = ?, delivered_at = NULL,"
    " attempt = attempt + (delivered_at IS NOT NULL)"
    " WHERE id = ? AND recipient = ? AND acked_at IS NULL AND parked IS NULL"
    " RETURNING id, sender, recipient, body, hops, coalesce(chain, id)"
)


def requeue(conn: sqlite3.Connection, batch: Sequence[Requeue]) -> list[Requeued]:
    """Puts messages back, or gives them up where they have failed too often."""
    return [_requeue_one(conn, job) for job in batch]


def _requeue_one(conn: sqlite3.Connection, job: Requeue) -> Requeued:
    back: list[int] = []
    spent: list[int] = []
    blamed = int(job.blame is not None)
    if job.effect is not None:
        blamed = int(repeats.earlier(conn, job.effect) is None)
        repeats.remember(conn, job.effect, 0)
    for number, attempt in job.entries:
        row = conn.execute(_REQUEUE, (blamed, number, attempt, job.recipient)).fetchone()
        if row is not None:
            (spent if blamed and row[0] >= job.dead_after else back).append(number)
    dead, mail = bury(conn, job.recipient, spent, job.blame or "", job.at)
    return Requeued(back, dead, mail, bool(blamed))


def bury(
    conn: sqlite3.Connection, recipient: str, ids: Iterable[int], reason: str, at: int
) -> tuple[list[int], list[Mail]]:
    """Makes dead letters of messages, and tells their senders: one message for each agent concerned."""
    dead = [row for one in ids for row in conn.execute(_PARK, (at, reason, one, recipient)).fetchall()]
    senders: dict[str, list[tuple[int, str, str, str, int, int]]] = {}
    for row in dead:
        if row[1] not in NOT_TOLD:
            senders.setdefault(row[1], []).append(row)
    mail = []
    for sender, rows in senders.items():
        text = obituary(recipient, [(row[0], row[3]) for row in rows], reason)
        worst = max(rows, key=lambda row: row[4])
        new = NewMessage(SYSTEM, sender, text, at, 0, worst[0], worst[4] + 1, worst[5])
        mail.append(Mail(insert(conn, new), sender, text, at, new.hops, new.chain))
    return [row[0] for row in dead], mail


NOT_TOLD: Final = frozenset({"operator", "system"})
"""The operator sees dead letters in their list; the system reads no mail."""


def obituary(recipient: str, letters: Sequence[tuple[int, str]], reason: str) -> str:
    """What a sender is told about messages that were given up."""
    numbers = ", ".join(str(number) for number, _ in letters)
    what = f"message {numbers}" if len(letters) == 1 else f"messages {numbers}"
    first = letters[0][1]
    quote = first if len(first) <= 200 else f"{first[:200]}…"
    return (
        f"Your {what} to {recipient} could not be worked: {reason}. "
        "Kept as dead letter; the operator can requeue or drop it.\n\n"
        f"It began: {quote}"
    )


# --- load -----------------------------------------------------------------------------------------------------------

ENTRY: Final = "id, sender, body, sent_at, urgency, attempt, tries, hops, coalesce(chain, id), file_refs"
_UNDONE_ROWS: Final = "FROM messages INDEXED BY unacked WHERE acked_at IS NULL AND parked IS NULL"
_WAITING: Final = (
    f"SELECT {ENTRY} {_UNDONE_ROWS} AND id > ?1 AND recipient = ?2 AND delivered_at IS NULL AND urgency >= ?3"
    " ORDER BY id LIMIT ?4"
)


def load(conn: sqlite3.Connection, batch: Sequence[Load]) -> list[list[Entry]]:
    """Reads waiting messages, oldest first: at least one where there is one."""
    return [_load_one(conn, job) for job in batch]


def _load_one(conn: sqlite3.Connection, job: Load) -> list[Entry]:
    found: list[Entry] = []
    chars = 0
    for row in conn.execute(_WAITING, (job.after, job.recipient, job.level, job.limit)):
        found.append(Entry(*row))
        chars += len(row[2])
        if chars >= job.chars:
            break
    return found


_UNDONE: Final = (
    f"SELECT recipient, urgency, count(*) {_UNDONE_ROWS} AND delivered_at IS NULL GROUP BY recipient, urgency"
)
_IN_FLIGHT: Final = f"SELECT recipient, {ENTRY} {_UNDONE_ROWS} AND delivered_at IS NOT NULL ORDER BY id"
_OLDEST: Final = (
    f"SELECT recipient, {ENTRY} {_UNDONE_ROWS} AND delivered_at IS NULL AND recipient <> 'operator'"
    " ORDER BY id LIMIT ?"
)


class Undone(msgspec.Struct, frozen=True):
    """What a start needs, each by recipient: how many wait (urgency, count), and what was in flight in the last life.

    `oldest`: of those that wait the oldest of all inboxes together, in order; usually all there are.
    """

    waiting: list[tuple[str, int, int]]
    flight: dict[str, list[Entry]]
    oldest: dict[str, list[Entry]]


def undone(conn: sqlite3.Connection) -> Undone:
    """Reads all that is not done in a few walks, however many inboxes there are."""
    flight: dict[str, list[Entry]] = {}
    for recipient, *row in conn.execute(_IN_FLIGHT):
        flight.setdefault(recipient, []).append(Entry(*row))
    oldest: dict[str, list[Entry]] = {}
    chars = 0
    for recipient, *row in conn.execute(_OLDEST, (HEAD_COUNT,)):
        entry = Entry(*row)
        oldest.setdefault(recipient, []).append(entry)
        chars += len(entry.body)
        if chars >= HEAD_CHARS:
            break
    return Undone(conn.execute(_UNDONE).fetchall(), flight, oldest)
