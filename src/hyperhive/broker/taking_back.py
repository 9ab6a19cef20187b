"""The operator takes a message of theirs back before anybody has read it.

From the moment it is asked for nobody is handed the message; whoever has it in hand keeps it, and the caller is told
so. What comes of it is a message that is done, dropped: no dead letter, and nobody is told. Knows
nothing of dead letters, which are dropped in deadletters.py.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from hyperhive.broker.desk import Desk
from hyperhive.errors import Conflict, Forbidden, HiveError, NotFound
from hyperhive.names import OPERATOR
from hyperhive.store import Operation


class _Found(msgspec.Struct, frozen=True):
    """A message as it stands on disk."""

    sender: str
    recipient: str
    parked: str | None
    acked_at: int | None


class _Back(msgspec.Struct, frozen=True):
    id: int
    recipient: str
    at: int


class TakingBack:
    """See the file's header. On the loop's thread only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        # Asked of the writer and not of a reader: what it finds, memory knows of when it answers.
        self._find_op: Operation[int, _Found | None] = Operation("find message", _find)
        self._back_op: Operation[_Back, int] = Operation(
            "take back", _take_back, applied=self._taken, failed=self._not_taken
        )

    async def take_back(self, message_id: int) -> None:
        """See `Broker.take_back`."""
        found = await self._desk.store.submit(self._find_op, message_id)
        if found is None:
            raise NotFound(f"there is no message {message_id} (any more)")
        if found.sender != OPERATOR:
            raise Forbidden(
                f"message {message_id} is {found.sender}'s; only what the operator wrote can be taken back"
            )
        if found.recipient == OPERATOR:
            raise Conflict(f"message {message_id} is in the operator's own inbox", hint="mark it as done")
        inbox = self._desk.inbox(found.recipient)
        # Memory leads: what is in flight may not be marked so on disk yet.
        if message_id in inbox.withdrawn:
            raise Conflict(f"message {message_id} is being taken back already")
        if message_id in inbox.flight or _is_over(found):
            raise _too_late(message_id, found)
        inbox.withdraw(message_id)
        await self._desk.store.submit(self._back_op, _Back(message_id, found.recipient, self._desk.now()))

    def _taken(self, job: _Back, urgency: int) -> None:
        self._desk.inbox(job.recipient).withdrawal_done(job.id, urgency)
        self._desk.say_state(job.id, "acked", note="dropped")

    def _not_taken(self, job: _Back, error: HiveError) -> None:
        inbox = self._desk.inbox(job.recipient)
        entry = inbox.withdrawal_failed(job.id)
        # Where the row is no waiting one any more, whatever became of it has been counted.
        if entry is not None and not isinstance(error, Conflict):
            self._desk.put_back(inbox, [entry])
            self._desk.serve_woken()


def _is_over(found: _Found) -> bool:
    return found.acked_at is not None or found.parked is not None


def _too_late(message_id: int, found: _Found) -> Conflict:
    if found.parked == "dropped":
        return Conflict(f"message {message_id} is dropped already")
    if found.parked == "held":
        return Conflict(
            f"message {message_id} is held", hint="the hive's question about it releases or drops it"
        )
    if found.acked_at is not None:
        return Conflict(f"{found.recipient} has read message {message_id} already")
    return Conflict(
        f"message {message_id} has been handed to {found.recipient} already",
        hint=f"`hyperhive cancel {found.recipient}` interrupts the turn that it is part of",
    )


_FIND: Final = "SELECT sender, recipient, parked, acked_at FROM messages WHERE id = ?"
_BACK: Final = (
    "UPDATE messages SET parked = 'dropped', parked_at = ?1, acked_at = ?1 WHERE id = ?2 AND recipient = ?3"
    " AND acked_at IS NULL AND parked IS NULL AND delivered_at IS NULL RETURNING urgency"
)


def _find(conn: sqlite3.Connection, batch: Sequence[int]) -> list[_Found | None]:
    rows = [conn.execute(_FIND, (number,)).fetchone() for number in batch]
    return [None if row is None else _Found(*row) for row in rows]


def _take_back(conn: sqlite3.Connection, batch: Sequence[_Back]) -> list[int | HiveError]:
    """Ends them; gives their urgency."""
    results: list[int | HiveError] = []
    for job in batch:
        row = conn.execute(_BACK, (job.at, job.id, job.recipient)).fetchone()
        if row is not None:
            results.append(int(row[0]))
            continue
        [found] = _find(conn, [job.id])
        results.append(
            NotFound(f"there is no message {job.id} (any more)")
            if found is None
            else _too_late(job.id, found)
        )
    return results
