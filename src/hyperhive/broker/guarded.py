"""Messages that are not simply stored: they may have been stored before, or belong to a chain that is held.

Operations for the store's writer; a message that starts a chain of its own and has no key never comes here.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from hyperhive.broker import repeats
from hyperhive.broker.questions_sql import QuestionRow
from hyperhive.broker.repeats import Effect
from hyperhive.broker.rows import NewMessage, insert
from hyperhive.broker.storms import Storms
from hyperhive.errors import HiveError, LimitReached


class GuardedMessage(msgspec.Struct, gc=False):
    """A message that may have been stored before."""

    message: NewMessage
    effect: Effect


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The id of a message. `new`: it was stored by this very job; `duplicate`: the receipt says that it was not.

    `held`: it waits for the operator's word; `asked`: the question about that, where this message raised it.
    """

    id: int
    new: bool
    duplicate: bool
    held: bool = False
    asked: QuestionRow | None = None


def send_once(
    conn: sqlite3.Connection, batch: Sequence[GuardedMessage], storms: Storms
) -> list[Stored | HiveError]:
    """Stores those messages that have not been stored before, as `storms` says."""
    return [_find(conn, one.effect) or _store(conn, one.message, one.effect, storms) for one in batch]


def find_sent(conn: sqlite3.Connection, batch: Sequence[Effect]) -> list[Stored | None]:
    """What was stored before, of messages that are not to be stored now."""
    return [_find(conn, effect) for effect in batch]


def _store(conn: sqlite3.Connection, new: NewMessage, effect: Effect, storms: Storms) -> Stored | HiveError:
    try:
        verdict = storms.judge(conn, new, effect.now)
    except LimitReached as refusal:
        return refusal
    number = insert(conn, new)
    if verdict.held:
        conn.execute(_HOLD, (new.at, number))
    repeats.remember(conn, effect, number)
    return Stored(number, new=True, duplicate=False, held=verdict.held, asked=verdict.asked)


def _find(conn: sqlite3.Connection, effect: Effect) -> Stored | None:
    found = repeats.earlier(conn, effect)
    if found is None:
        return None
    row = conn.execute(_IS_HELD, (found.result_id,)).fetchone()
    held = row is not None and bool(row[0])
    return Stored(found.result_id, new=False, duplicate=found.duplicate, held=held)


_HOLD: Final = "UPDATE messages SET parked = 'held', parked_at = ? WHERE id = ?"
_IS_HELD: Final = "SELECT parked IS 'held' FROM messages WHERE id = ?"
