"""Looking at inboxes, the operator's done mark, and the sweep of what is old. Hands nothing out."""

import sqlite3
from collections.abc import Iterable

import msgspec

from hyperhive.broker import listings
from hyperhive.broker.desk import Desk
from hyperhive.broker.listings import Done, Sweep, Swept
from hyperhive.names import OPERATOR
from hyperhive.protocol.types import RECENT_MAX, InboxRow
from hyperhive.store import Operation

DAY = 24 * 3600


class Looking:
    """Reads on readers' connections; the mark and the sweep go through the writer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._done_op: Operation[Done, dict[int, int]] = Operation(
            "mark done", listings.mark_done, applied=self._done
        )
        self._sweep_op: Operation[Sweep, Swept] = Operation("sweep", listings.sweep)

    async def recent(self, recipient: str, limit: int, max_chars: int | None) -> list[InboxRow]:
        """The newest messages of an inbox; the first look finds their ids on disk, later ones know them."""
        limit = max(0, min(limit, RECENT_MAX))
        store = self._desk.store
        inbox = self._desk.inbox(recipient)
        if not inbox.recent_complete:
            older = await store.read(lambda conn: listings.recent_ids(conn, recipient, RECENT_MAX))
            merged = sorted({*older, *inbox.recent})[-RECENT_MAX:]
            inbox.recent.clear()
            inbox.recent.extend(merged)
            inbox.recent_complete = True
        ids = list(inbox.recent)[::-1][:limit]
        return await store.read(lambda conn: listings.inbox_rows(conn, ids, max_chars))

    async def mark_done(self, ids: Iterable[int]) -> int:
        """Sets the operator's done mark."""
        done = await self._desk.store.submit(self._done_op, Done(sorted(set(ids)), self._desk.now()))
        return len(done)

    def _done(self, job: Done, done: dict[int, int]) -> None:
        del job
        for number, urgency in done.items():
            self._desk.inbox(OPERATOR).forget_waiting(number, urgency)
            self._desk.say_state(number, "acked")

    async def vacuum(self, older_than_days: float) -> int:
        """Removes old messages, in steps small enough that senders hardly wait."""
        job = self._sweep(older_than_days)
        removed = 0
        while True:
            step = await self._desk.store.submit(self._sweep_op, job)
            removed += step.removed
            if step.resume_after is None:
                return removed
            job = msgspec.structs.replace(job, after=step.resume_after)

    def old_mail(
        self, conn: sqlite3.Connection, after: int, older_than_days: float
    ) -> list[tuple[int, bytes]]:
        """The first of those that are to go after this id, with their texts; in a reader's thread."""
        return listings.old_mail(conn, msgspec.structs.replace(self._sweep(older_than_days), after=after))

    def _sweep(self, older_than_days: float) -> Sweep:
        """The first step of a sweep that begins now."""
        now = self._desk.now()
        dropped = now - int(max(older_than_days, listings.DROPPED_KEPT_DAYS) * DAY)
        return Sweep(0, now - int(older_than_days * DAY), dropped, self._desk.steady())
