"""What led to a question or an approval: the messages that its asker had in hand when it asked.

Noted in the transaction that stores the question (or the approval: `remember` is called from its own), by ids; kept for
90 days. Which turn it was, and what the messages say, is looked up by whoever shows it (screens/origins.py).
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

OriginKind = Literal["question", "approval"]

KEPT_SECONDS: Final = 90 * 86_400
IDS_MAX: Final = 256

_PUT: Final = "INSERT OR IGNORE INTO origins (kind, id, at, messages) VALUES (?,?,?,?)"
_GET: Final = "SELECT messages FROM origins WHERE kind = ? AND id = ?"


def remember(
    conn: sqlite3.Connection, kind: OriginKind, number: int, in_hand: Sequence[int], at: int
) -> None:
    """Notes what was in its asker's hands at that time (unix seconds); the first note of a thing counts."""
    conn.execute(_PUT, (kind, number, at, msgspec.json.encode(in_hand[:IDS_MAX]).decode()))


def of(conn: sqlite3.Connection, kind: OriginKind, number: int) -> list[int] | None:
    """The messages' ids, in order; None where nothing was noted."""
    row = conn.execute(_GET, (kind, number)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=list[int])


def prune(conn: sqlite3.Connection, now: int) -> None:
    """Forgets what was noted long ago."""
    conn.execute("DELETE FROM origins WHERE at < ?", (now - KEPT_SECONDS,))
