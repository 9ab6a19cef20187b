"""`HiveHistory`: what happened in the hive, as its stream told it, for those who were not there.

Mail is nearly all that happens, and stands in its own rows: it is read from them (`broker.past`), so that sends pay for
no history. The rest that is worth knowing later is kept here, for 30 days, written with whatever is committed next. A
disk that refuses costs history, never the stream.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hyperhive.broker import Broker
from hyperhive.broker.bodies import cut_body
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import BadRequest, Closed, HiveError
from hyperhive.protocol import replies as p
from hyperhive.protocol.codec import encode
from hyperhive.protocol.events import (
    EVENT_BODY_MAX_BYTES,
    AnyDashboardEvent,
    ApprovalAdded,
    ApprovalChanged,
    ApprovalResolved,
    ContainerRemoved,
    ContainerStateChanged,
    QuestionAdded,
    QuestionResolved,
    TransientCleared,
    TransientSet,
)
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES
from hyperhive.store import Database, Deferred, Migrations, Operation, Store

log = logging.getLogger(__name__)

MIGRATIONS: Final = Migrations("hive")

KEPT_DAYS: Final = 30
PAGE_MAX: Final = 2000
REPLY_ROOM: Final = REPLY_LINE_MAX_BYTES - 4096
SWEEP_ROWS: Final = 2000

_KEPT: Final = (
    ApprovalAdded, ApprovalChanged, ApprovalResolved, QuestionAdded, QuestionResolved, TransientSet,
    TransientCleared, ContainerRemoved,
)  # fmt: skip
_WORTH_A_LOOK: Final = {"needs_you", "failed"}
_UNREMARKABLE: Final = {"working", "idle"}
"""Going from one to the other is what turns do; the agents' own histories have it."""

Row = tuple[int, str, bytes]
"""Unix seconds, kind, and the event as JSON."""
Told = tuple[int, bytes]
"""Unix seconds, and the event as JSON."""


@MIGRATIONS()
def m0001_events(db: Database) -> None:
    """One row an event of the hive's stream that no other row tells of."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS hive_events (id INTEGER PRIMARY KEY AUTOINCREMENT, ts INTEGER NOT NULL,"
        " kind TEXT NOT NULL, payload TEXT NOT NULL)"
    )
    db.execute("CREATE INDEX IF NOT EXISTS hive_events_ts ON hive_events(ts)")


class HiveHistory:
    """The hive's past. On the loop's thread.

    Args:
        store: the hive's.
        position: the number of the newest event on the hive's stream.
    """

    def __init__(self, store: Store, broker: Broker, clock: Clock, position: Callable[[], int]) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._position = position
        self._states: dict[str, str] = {}
        self._open: Deferred[list[Row]] | None = None
        self._failing = False
        self._keep: Operation[list[Row], None] = Operation(
            "keep hive events", _keep, applied=self._kept, failed=self._not_kept
        )
        self._sweep: Operation[int, int] = Operation("sweep hive events", _sweep)
        self._catch_up: Operation[None, None] = Operation("catch up with hive events", _nothing)

    def note(self, event: AnyDashboardEvent) -> None:
        """Keeps an event, where it is one to be kept. For `Bus.tap`: neither waits nor raises."""
        if isinstance(event, ContainerStateChanged):
            if not self._remarkable(event):
                return
        elif not isinstance(event, _KEPT):
            return
        kind = str(event.__struct_config__.tag)
        row = (unix_seconds(self._clock), kind, encode(_cut(event)))
        if self._open is not None and not self._open.taken:
            self._open.argument.append(row)
            return
        try:
            self._open = self._store.defer(self._keep, [row])
        except Closed:
            self._open = None

    def _remarkable(self, event: ContainerStateChanged) -> bool:
        name, state = event.container.name, event.container.state
        before = self._states.get(name)
        self._states[name] = state
        if before is None:  # as it was when the hive started
            return state in _WORTH_A_LOOK
        return state != before and not {before, state} <= _UNREMARKABLE

    async def page(self, before: str | None = None, limit: int = 200) -> p.HivePast:
        """What happened, oldest first: at most `limit` events, but all of one message.

        A message's events stand together in time, on the page of when it was sent. The newest page tells of all that
        was on the stream up to its `seq`; older pages go on from it, and have nothing that came after it.

        Raises:
            BadRequest: `before` is nothing that a page said.
        """
        message, event = _place(before)
        limit = max(1, min(limit, PAGE_MAX))
        seq = self._position()
        if before is None:
            await self._written()
        mail = await self._broker.past(message, limit + 1)
        kept = await self._store.read(lambda conn: _newest(conn, event, limit + 1))
        if message is None:
            message = mail[0].id + 1 if mail else 1
        if event is None:
            event = kept[0][0] + 1 if kept else 1
        taken: list[list[Told]] = []
        count = size = 0
        while mail or kept:
            its_mail = not kept or (bool(mail) and mail[0].at >= kept[0][1])
            group = [(at, encode(one)) for at, one in mail[0].events] if its_mail else [kept[0][1:]]
            count, size = count + len(group), size + sum(len(told) + 32 for _, told in group)
            if taken and (count > limit or size > REPLY_ROOM):
                break
            taken.append(group)
            if its_mail:
                message = mail.pop(0).id
            else:
                event = kept.pop(0)[0]
        events = [told for group in reversed(taken) for told in group]
        events.sort(key=lambda told: told[0])
        return p.HivePast(
            seq=seq,
            events=[{"ts": at, **msgspec.json.decode(told)} for at, told in events],
            older=f"{message}.{event}" if mail or kept else None,
        )

    async def _written(self) -> None:
        """What was to be written with the next commit is: hand-outs of messages, and what is kept here."""
        try:
            await self._store.submit(self._catch_up, None)
        except HiveError as error:  # the page is as good as the disk
            log.info("history_not_caught_up error=%s", error)

    async def sweep(self) -> None:
        """Retention."""
        cutoff = unix_seconds(self._clock) - KEPT_DAYS * 86_400
        while await self._store.submit(self._sweep, cutoff) >= SWEEP_ROWS:
            pass

    def _kept(self, rows: list[Row], done: None) -> None:
        del rows, done
        self._failing = False

    def _not_kept(self, rows: list[Row], error: HiveError) -> None:
        if not self._failing and not isinstance(error, Closed):
            self._failing = True
            log.warning("hive_events_not_kept events=%d error=%s", len(rows), error)


def _cut(event: AnyDashboardEvent) -> AnyDashboardEvent:
    """What is long in it, as long as bodies are on the wire."""
    match event:
        case ApprovalAdded():
            return msgspec.structs.replace(event, diff=cut_body(event.diff)[0])
        case QuestionAdded():
            tool = event.tool
            if tool is not None and len(encode(tool)) > EVENT_BODY_MAX_BYTES:
                tool = None
            return msgspec.structs.replace(event, question=cut_body(event.question)[0], tool=tool)
        case QuestionResolved():
            return msgspec.structs.replace(event, answer=cut_body(event.answer)[0])
        case _:
            return event


def _place(before: str | None) -> tuple[int | None, int | None]:
    """Where a page goes on: before this message, and before this row of ours; None for the newest."""
    if before is None:
        return None, None
    message, _, event = before.partition(".")
    if not all(one.isascii() and one.isdecimal() and len(one) < 19 for one in (message, event)):
        raise BadRequest(f"`before` {before[:80]!r} is no place in the history: say the `older` of a page")
    return int(message) or None, int(event) or None


def _newest(conn: sqlite3.Connection, before: int | None, limit: int) -> list[tuple[int, int, bytes]]:
    query = (
        "SELECT id, ts, CAST(payload AS BLOB) FROM hive_events"
        " WHERE id < coalesce(?, 9223372036854775807) ORDER BY id DESC LIMIT ?"
    )
    return conn.execute(query, (before, limit)).fetchall()


def _keep(conn: sqlite3.Connection, batch: Sequence[list[Row]]) -> list[None]:
    query = "INSERT INTO hive_events (ts, kind, payload) VALUES (?, ?, CAST(? AS TEXT))"
    conn.executemany(query, [row for rows in batch for row in rows])
    return [None] * len(batch)


def _nothing(conn: sqlite3.Connection, batch: Sequence[None]) -> list[None]:
    del conn
    return [None] * len(batch)


def _sweep(conn: sqlite3.Connection, batch: Sequence[int]) -> list[int]:
    query = "DELETE FROM hive_events WHERE id IN (SELECT id FROM hive_events WHERE ts < ? LIMIT ?)"
    return [conn.execute(query, (cutoff, SWEEP_ROWS)).rowcount for cutoff in batch]
