"""Requests that must not take effect twice: by call id, by the sender's own key, by the turn that runs again.

Used inside the transaction that stores a request's effect, by the broker's `send` and by every later request with an
effect (questions, reminders, approvals): first `earlier`, and only where it gives nothing, the effect and `remember`.
Neither commits. Fresh results are the caller's business.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

DEDUPE_SECONDS: Final = 24 * 3600


class Cause(msgspec.Struct, frozen=True):
    """The oldest message that the sender had in flight when it asked, and how often that had been requeued."""

    id: int
    attempt: int


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One request with an effect.

    Attributes:
        sender: who asks.
        request: its name (`send`, `ask` ...).
        digest: of its name and fields (`digest_of`).
        cause: None where nothing of the sender's is in flight: then there is no repeat key.
        call_id: names one tool call of this sender; a reconnecting client says it again.
        dedupe_key: the sender's own key, good for 24 h.
        now: seconds on a clock that does not jump while the process lives.
    """

    sender: str
    request: str
    digest: bytes
    cause: Cause | None
    call_id: str | None
    dedupe_key: str | None
    now: int


class Earlier(msgspec.Struct, frozen=True):
    """What the request led to before. `duplicate`: tell the caller that nothing new was stored."""

    result_id: int
    duplicate: bool


def blame_effect(recipient: str, call_id: str, now: int) -> Effect:
    """A requeue that blames its messages, as an effect that happens once."""
    return Effect(
        sender=recipient,
        request="requeue_inflight",
        digest=b"",
        cause=None,
        call_id=f"requeue {call_id}",
        dedupe_key=None,
        now=now,
    )


def digest_of(request: str, fields: Sequence[object]) -> bytes:
    """The same for two equal requests, and for no others."""
    return hashlib.sha256(msgspec.json.encode([request, *fields])).digest()


def earlier(conn: sqlite3.Connection, effect: Effect) -> Earlier | None:
    """What this request has led to already, if it has; nothing more is to be done then.

    A call id gives its first answer again. A turn that runs again (its cause has been requeued since) meets its own
    requests in order: the n-th equal one of the new attempt is the n-th of the old. Two equal ones within one attempt
    are two.
    """
    if effect.call_id is not None:
        row = conn.execute(_SEEN, (effect.sender, "call", effect.call_id)).fetchone()
        if row is not None:
            return Earlier(row[0], bool(row[1]))
    found = _by_dedupe_key(conn, effect)
    if found is not None:  # and will be, whoever asks again: that costs no row
        return found
    found = _by_cause(conn, effect)
    if found is not None and effect.call_id is not None:
        conn.execute(_SEE, (effect.sender, "call", effect.call_id, found.result_id, 1, effect.now))
    return found


def find_results(conn: sqlite3.Connection, batch: Sequence[Effect]) -> list[int | None]:
    """What requests led to already, of those that are not to take effect now."""
    found = [earlier(conn, effect) for effect in batch]
    return [None if one is None else one.result_id for one in found]


def remember(conn: sqlite3.Connection, effect: Effect, result_id: int) -> None:
    """Notes what the request led to, for the next time."""
    if effect.call_id is not None:
        conn.execute(_SEE, (effect.sender, "call", effect.call_id, result_id, 0, effect.now))
    if effect.dedupe_key is not None:
        kind = f"dedupe {effect.request}"
        conn.execute(_SEE, (effect.sender, kind, effect.dedupe_key, result_id, 0, effect.now))
    if effect.cause is not None:
        cause = effect.cause
        row = (cause.id, effect.sender, effect.digest)
        (n,) = conn.execute(_NEXT_N, row).fetchone()
        conn.execute("INSERT INTO repeats VALUES (?,?,?,?,?,?)", (*row, n, cause.attempt, result_id))
        # What a message caused is never on disk without the mark that it was handed out: else, after a crash, it
        # would come again as if for the first time, and this request would be a new one.
        conn.execute(_MARK_DELIVERED, (effect.now, cause.id, cause.attempt))


def prune(conn: sqlite3.Connection, now: int) -> int:
    """Forgets what can no longer be asked for; returns how many rows went."""
    seen = conn.execute("DELETE FROM seen WHERE at < ?", (now - DEDUPE_SECONDS,)).rowcount
    repeats = conn.execute(
        "DELETE FROM repeats WHERE cause NOT IN (SELECT id FROM messages INDEXED BY unacked WHERE acked_at IS NULL)"
    ).rowcount
    return int(seen + repeats)


def _by_dedupe_key(conn: sqlite3.Connection, effect: Effect) -> Earlier | None:
    if effect.dedupe_key is None:
        return None
    row = conn.execute(_SEEN, (effect.sender, f"dedupe {effect.request}", effect.dedupe_key)).fetchone()
    # A time that lies ahead (the clock was put back between two starts) counts as just now.
    return (
        Earlier(row[0], duplicate=True) if row is not None and row[2] > effect.now - DEDUPE_SECONDS else None
    )


def _by_cause(conn: sqlite3.Connection, effect: Effect) -> Earlier | None:
    if effect.cause is None:
        return None
    key = (effect.cause.id, effect.sender, effect.digest)
    row = conn.execute(_FIRST_OF_ANOTHER_ATTEMPT, (*key, effect.cause.attempt)).fetchone()
    if row is None:
        return None
    conn.execute(_TAKE_OVER, (effect.cause.attempt, *key, row[0]))
    return Earlier(row[1], duplicate=True)


_SEEN: Final = "SELECT result_id, duplicate, at FROM seen WHERE sender = ? AND kind = ? AND key = ?"
_SEE: Final = "INSERT OR REPLACE INTO seen VALUES (?,?,?,?,?,?)"
_NEXT_N: Final = "SELECT coalesce(max(n), 0) + 1 FROM repeats WHERE cause = ? AND sender = ? AND digest = ?"
_FIRST_OF_ANOTHER_ATTEMPT: Final = (
    "SELECT n, result_id FROM repeats WHERE cause = ? AND sender = ? AND digest = ? AND attempt <> ?"
    " ORDER BY n LIMIT 1"
)
_TAKE_OVER: Final = "UPDATE repeats SET attempt = ? WHERE cause = ? AND sender = ? AND digest = ? AND n = ?"
_MARK_DELIVERED: Final = (
    "UPDATE messages SET delivered_at = ? WHERE id = ? AND attempt = ?"
    " AND delivered_at IS NULL AND acked_at IS NULL AND parked IS NULL"
)
