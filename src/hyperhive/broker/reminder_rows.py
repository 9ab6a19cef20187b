"""Reminders in SQL, and what a reminder says: set, deliver, fail, cancel, list, sweep.

Functions over a batch of arguments, run by the store's writer inside a transaction; listings run on readers'
connections. The only module that writes the table. It knows neither clocks nor files.
"""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from hyperhive.broker import repeats, rows
from hyperhive.broker.repeats import Effect
from hyperhive.broker.rows import Mail, NewMessage
from hyperhive.errors import Forbidden, HiveError, LimitReached, NotFound
from hyperhive.names import OPERATOR, SYSTEM

LATEST: Final = 253_402_300_799
"""The last second of the year 9999: what a time can be written for."""


class Reminder(msgspec.Struct, frozen=True, kw_only=True):
    """One reminder that is still to come. `delay` is None where it was set for a time rather than after a while."""

    id: int = 0
    owner: str
    set_by: str
    message: str
    set_at: int
    due_at: int
    delay: int | None
    file_path: str | None
    failure: str | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A reminder to be set. `cap` and `gap` (seconds) are its owner's limits; None means none."""

    reminder: Reminder
    effect: Effect
    cap: int | None
    gap: int | None


class WasSet(msgspec.Struct, frozen=True):
    """The id of a reminder. `new`: it was set by this very job."""

    id: int
    new: bool


class Due(msgspec.Struct, frozen=True):
    """A reminder to be delivered. `place`: its text was written there, and is not repeated in the message."""

    id: int
    at: int
    place: str | None = None


class Failed(msgspec.Struct, frozen=True):
    """Why a reminder could not be delivered."""

    id: int
    reason: str


class Cancel(msgspec.Struct, frozen=True):
    """A reminder to be taken back by somebody. `any`: also another's."""

    id: int
    by: str
    any: bool


# --- set ------------------------------------------------------------------------------------------------------------

_COLUMNS: Final = "owner, set_by, message, set_at, due_at, delay, file_path, failure"
_INSERT: Final = f"INSERT INTO reminders ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,NULL) RETURNING id"  # noqa: S608 - our own words
# What the operator set for an agent is none of the agent's own.
_OWN: Final = "FROM reminders WHERE owner = ?1 AND set_by <> 'operator'"
_OPEN_OF: Final = f"SELECT count(*), min(due_at) {_OWN} AND delivered_at IS NULL"
_NEAR: Final = (
    f"SELECT id, coalesce(delivered_at, max(due_at, ?2)) AS at {_OWN}"
    " AND at > ?3 - ?4 AND at < ?3 + ?4 ORDER BY at DESC LIMIT 1"
)


def set_all(conn: sqlite3.Connection, batch: Sequence[Setting]) -> list[WasSet | HiveError]:
    """Sets those reminders that have not been set before and that their owners' limits allow."""
    return [_set_one(conn, job) for job in batch]


def _set_one(conn: sqlite3.Connection, job: Setting) -> WasSet | HiveError:
    found = repeats.earlier(conn, job.effect)
    if found is not None:
        return WasSet(found.result_id, new=False)
    refusal = _beyond_limits(conn, job)
    if refusal is not None:
        return refusal
    one = job.reminder
    row = (one.owner, one.set_by, one.message, one.set_at, one.due_at, one.delay, one.file_path)
    (number,) = conn.execute(_INSERT, row).fetchone()
    repeats.remember(conn, job.effect, number)
    return WasSet(int(number), new=True)


def _beyond_limits(conn: sqlite3.Connection, job: Setting) -> LimitReached | None:
    new = job.reminder
    if job.cap is not None:
        count, first = conn.execute(_OPEN_OF, (new.owner,)).fetchone()
        if count >= job.cap:
            return LimitReached(
                f"{new.owner} has {count} open reminders; at most {job.cap} are kept (open_reminders)",
                hint=f"cancel one, or wait until the first is delivered, at {written_time(first)}"
                if first is not None
                else None,
            )
    if job.gap is not None:
        due = max(new.due_at, new.set_at)
        near = conn.execute(_NEAR, (new.owner, new.set_at, due, job.gap)).fetchone()
        if near is not None:
            return LimitReached(
                f"reminder {near[0]} of {new.owner} is for {written_time(near[1])}, less than {job.gap} s from this "
                "one (reminder_gap_seconds)",
                hint=f"choose {written_time(near[1] + job.gap)} or later, or cancel the other one",
            )
    return None


# --- deliver --------------------------------------------------------------------------------------------------------

_DELIVER: Final = (
    f"UPDATE reminders SET delivered_at = ?, failure = NULL WHERE id = ? AND delivered_at IS NULL"  # noqa: S608 - our own words
    f" RETURNING id, {_COLUMNS}"
)


def deliver(conn: sqlite3.Connection, batch: Sequence[Due]) -> list[Mail | None]:
    """Mails each reminder and marks it as delivered, in one transaction; None for one that is gone or was delivered."""
    results: list[Mail | None] = []
    for due in batch:
        row = conn.execute(_DELIVER, (due.at, due.id)).fetchone()
        if row is None:
            results.append(None)
            continue
        reminder = _read(row)
        body = body_of(reminder, due.place)
        number = rows.insert(conn, NewMessage(SYSTEM, reminder.owner, body, due.at))
        results.append(Mail(number, reminder.owner, body, due.at))
    return results


def body_of(reminder: Reminder, place: str | None) -> str:
    """What its owner is told. The first line is the hive's, so that no reminder passes for an event of the hive."""
    by = "by the operator" if reminder.set_by == OPERATOR and reminder.owner != OPERATOR else "by you"
    head = f"reminder {reminder.id}, set {by} at {written_time(reminder.set_at)} for {written_time(reminder.due_at)}"
    if place is not None:
        return f"[{head}; its text is in the file {place}]"
    return f"[{head}]\n\n{reminder.message}"


def written_time(at: int) -> str:
    """Unix seconds for a reader: `2026-11-20 14:30:00 UTC`."""
    return datetime.fromtimestamp(min(at, LATEST), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def fail(conn: sqlite3.Connection, batch: Sequence[Failed]) -> list[None]:
    """Notes why reminders could not be delivered."""
    query = "UPDATE reminders SET failure = ? WHERE id = ? AND delivered_at IS NULL"
    conn.executemany(query, [(job.reason, job.id) for job in batch])
    return [None] * len(batch)


# --- take back ------------------------------------------------------------------------------------------------------


def cancel(conn: sqlite3.Connection, batch: Sequence[Cancel]) -> list[str | HiveError]:
    """Deletes reminders; gives their owners."""
    return [_cancel_one(conn, job) for job in batch]


def _cancel_one(conn: sqlite3.Connection, job: Cancel) -> str | HiveError:
    query = "SELECT owner FROM reminders WHERE id = ? AND delivered_at IS NULL"
    row = conn.execute(query, (job.id,)).fetchone()
    if row is None:
        return NotFound(
            f"there is no open reminder {job.id}", hint="it was delivered or cancelled, or never was"
        )
    if row[0] != job.by and not job.any:
        return Forbidden(f"reminder {job.id} is not {job.by}'s")
    conn.execute("DELETE FROM reminders WHERE id = ?", (job.id,))
    return str(row[0])


def purge(conn: sqlite3.Connection, batch: Sequence[str]) -> list[None]:
    """Deletes all reminders of these owners."""
    conn.executemany("DELETE FROM reminders WHERE owner = ?", [(owner,) for owner in batch])
    return [None] * len(batch)


def sweep(conn: sqlite3.Connection, batch: Sequence[int]) -> list[None]:
    """Deletes what was delivered before these times."""
    conn.executemany("DELETE FROM reminders WHERE delivered_at < ?", [(before,) for before in batch])
    return [None] * len(batch)


# --- list -----------------------------------------------------------------------------------------------------------

_OPEN: Final = f"SELECT id, {_COLUMNS} FROM reminders WHERE delivered_at IS NULL"  # noqa: S608


def open_ones(conn: sqlite3.Connection, owner: str | None = None) -> list[Reminder]:
    """Reminders that are still to come, in the order in which they are due; of one owner or of all."""
    where, arguments = ("", ()) if owner is None else (" AND owner = ?", (owner,))
    return [_read(row) for row in conn.execute(f"{_OPEN}{where} ORDER BY due_at, id", arguments)]


_BEGUN: Final = _OPEN.replace("message,", "substr(message, 1, ?1),", 1)


def beginnings(
    conn: sqlite3.Connection, chars: int, owner: str | None = None, limit: int = -1
) -> list[Reminder]:
    """As `open_ones`, the next `limit` of them, and of each message no more than so many characters."""
    where, arguments = ("", (chars,)) if owner is None else (" AND owner = ?2", (chars, owner))
    query = f"{_BEGUN}{where} ORDER BY due_at, id LIMIT {limit}"
    return [_read(row) for row in conn.execute(query, arguments)]


def one(conn: sqlite3.Connection, reminder_id: int) -> Reminder | None:
    """One that is still to come."""
    row = conn.execute(f"{_OPEN} AND id = ?", (reminder_id,)).fetchone()
    return None if row is None else _read(row)


def _read(row: tuple[int, str, str, str, int, int, int | None, str | None, str | None]) -> Reminder:
    return Reminder(
        id=row[0],
        owner=row[1],
        set_by=row[2],
        message=row[3],
        set_at=row[4],
        due_at=row[5],
        delay=row[6],
        file_path=row[7],
        failure=row[8],
    )
