"""Handing out: `take`, its waiters, the leases, and reading on from disk.

A message is handed out from memory at once; the mark of it on disk (the lease) rides in the next commit. It is always
committed before anything that the same agent asks for later.
"""

import asyncio
import math
from collections.abc import Iterable, Sequence
from typing import Final

from hyperhive.broker import rows
from hyperhive.broker.deadlines import Deadlines
from hyperhive.broker.desk import Desk
from hyperhive.broker.inbox import HEAD_CHARS, HEAD_COUNT, Claim, Entry, Inbox, Waiter
from hyperhive.broker.rows import Leases, Load
from hyperhive.errors import Closed, HiveError, StoreFailed
from hyperhive.protocol.types import Delivery
from hyperhive.store import Deferred, Operation

_NO_BOUND: Final = 1 << 62


class Lease:
    """Messages that were handed out by `Broker.take`, until it is certain that they got there.

    Edges whose reply could not be written call `undo`: the messages wait again at their place, unmarked.
    """

    __slots__ = ("_entries", "_handout", "_inbox", "deliveries")

    def __init__(self, handout: "Handout", inbox: Inbox, entries: Sequence[Entry]) -> None:
        self._handout = handout
        self._inbox = inbox
        self._entries = [(entry, entry.attempt) for entry in entries]
        self.deliveries: list[Delivery] = [entry.delivery(inbox.name) for entry in entries]

    def keep(self, count: int) -> None:
        """Undoes all but the first `count`: the reply has no room for more."""
        rest = Lease(self._handout, self._inbox, [entry for entry, _ in self._entries[count:]])
        self._entries, self.deliveries = self._entries[:count], self.deliveries[:count]
        rest.undo()

    def undo(self) -> None:
        """As if they had never been handed out. What was acked or requeued since is left alone; once only."""
        entries, self._entries = self._entries, []
        self._handout.undo(
            self._inbox,
            [
                entry
                for entry, attempt in entries
                if self._inbox.flight.get(entry.id) is entry
                and entry.claim is Claim.NONE
                and entry.attempt == attempt
            ],
        )


class Handout:
    """The one way out of an inbox."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = desk.store
        self._lease_op: Operation[Leases, None] = Operation("lease", rows.lease, failed=self._lease_failed)
        self._unlease_op: Operation[list[int], None] = Operation("unlease", rows.unlease)
        self._load_op: Operation[Load, list[Entry]] = Operation(
            "load", rows.load, applied=self._loaded, failed=self._load_failed
        )
        self._commit_op: Operation[None, None] = Operation(
            "commit leases", lambda _, batch: [None] * len(batch)
        )
        self._open_leases: Deferred[Leases] | None = None
        self._deadlines = Deadlines(desk.clock, self._expire)
        self._closed = False
        desk.serve = self.serve

    async def take(
        self, inbox: Inbox, limit: int, wait_seconds: float, level: int, turn: int | None
    ) -> Lease:
        """Pops up to `limit` messages, or waits for the first. Cancellation at any moment leaves them in place."""
        while inbox.must_load(limit, level):
            await self._load(inbox, limit, level)
        entries = inbox.pop(limit, level)
        if entries:
            self._lease(inbox, entries, turn)
        elif wait_seconds > 0 and not self._closed:
            entries = await self._wait(inbox, limit, wait_seconds, level)
        return Lease(self, inbox, entries)

    async def retake(self, inbox: Inbox, ids: Iterable[int]) -> int:
        """See `Broker.retake`."""
        entries: list[Entry] = []
        for number in sorted(ids):
            while number > inbox.loaded_through and any(inbox.tail):
                await self._load(inbox, HEAD_COUNT, 0)
            entry = inbox.remove_waiting(number)
            if entry is not None:
                inbox.flight[number] = entry
                entries.append(entry)
        if entries:
            self._lease(inbox, entries, None)
        return len(entries)

    async def commit(self, lease: Lease) -> None:
        """Returns when it is on disk that these are out; a disk that fails is no reason to keep them back."""
        try:
            await self._store.submit(self._commit_op, None)
        except StoreFailed:
            return
        except asyncio.CancelledError:
            lease.undo()
            raise

    async def _wait(self, inbox: Inbox, limit: int, wait_seconds: float, level: int) -> list[Entry]:
        deadline = self._desk.clock.monotonic() + wait_seconds if wait_seconds < math.inf else math.inf
        future: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()
        waiter = Waiter(future, limit, level, deadline)
        inbox.waiters.append(waiter)
        self._deadlines.add(waiter)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                # woken and cancelled in the same moment
                Lease(self, inbox, future.result()).undo()
            raise
        finally:
            self._deadlines.discard(waiter)
            if waiter in inbox.waiters:
                inbox.waiters.remove(waiter)

    def serve(self, inbox: Inbox) -> None:
        """Gives what is in memory to those who wait, in the order in which they came."""
        for waiter in tuple(inbox.waiters):
            if not inbox.head and not inbox.ahead:
                break
            if waiter.future.done():  # cancelled, and not yet run
                continue
            entries = inbox.pop(waiter.limit, waiter.level)
            if entries:
                inbox.waiters.remove(waiter)
                self._lease(inbox, entries, None)
                waiter.future.set_result(entries)
        for waiter in inbox.waiters:
            if not waiter.future.done() and inbox.must_load(1, waiter.level):
                self._start_load(inbox, waiter.limit, waiter.level)
                break

    def undo(self, inbox: Inbox, entries: Sequence[Entry]) -> None:
        """Puts messages back that were never really handed out."""
        if not entries:
            return
        leases = self._open_leases.argument if self._open_leases and not self._open_leases.taken else {}
        marked = [entry.id for entry in entries if leases.pop(entry.id, None) is None]
        if marked and not self._closed:
            self._store.defer(self._unlease_op, marked)
            self.close_leases()
        for entry in entries:
            del inbox.flight[entry.id]
            inbox.taken.discard(entry.id)
            self._desk.say_state(entry.id, "pending")
        self._desk.put_back(inbox, entries)
        self._desk.serve_woken()

    # --- leases ---

    def _lease(self, inbox: Inbox, entries: Sequence[Entry], turn: int | None) -> None:
        if self._open_leases is None or self._open_leases.taken:
            self._open_leases = self._store.defer(self._lease_op, {})
        leases = self._open_leases.argument
        now = self._desk.now()
        for entry in entries:
            leases[entry.id] = now
            self._desk.say_delivered(inbox.name, entry, turn)

    def close_leases(self) -> None:
        """Later leases are written after what is queued now (a requeue of the same messages, say)."""
        self._open_leases = None

    def acked(self, ids: Sequence[int]) -> None:
        """The lease of a message that is acked before it was written need not be written."""
        if self._open_leases is not None and not self._open_leases.taken:
            leases = self._open_leases.argument
            for number in ids:
                leases.pop(number, None)

    def _lease_failed(self, leases: Leases, error: HiveError) -> None:
        """Tried again with the next commit: the messages are out."""
        if self._closed or isinstance(error, Closed):
            return
        out = {one for inbox in self._desk.inboxes.values() for one in inbox.flight}
        again = {one: at for one, at in leases.items() if one in out}
        if again:
            self._store.defer(self._lease_op, again)

    # --- reading on ---

    async def _load(self, inbox: Inbox, limit: int, level: int) -> None:
        loading = inbox.refill or self._start_load(inbox, limit, level)
        await asyncio.wait([loading])  # does not cancel it for the others
        loading.result()

    def _start_load(self, inbox: Inbox, limit: int, level: int) -> "asyncio.Future[list[Entry]]":
        if inbox.refill is None:
            if level == 0:
                room = max(limit, HEAD_COUNT - len(inbox.head))
                job = Load(inbox.name, inbox.loaded_through, 0, room, HEAD_CHARS)
            else:
                # What is out may still wait on disk: a lease that could not be written.
                count = limit + len(inbox.flight)
                job = Load(inbox.name, inbox.loaded_through, level, count, _NO_BOUND)
            inbox.refill = self._store.submit(self._load_op, job)
            inbox.refill.add_done_callback(_retrieved)
        return inbox.refill

    def _loaded(self, job: Load, entries: list[Entry]) -> None:
        inbox = self._desk.inbox(job.recipient)
        inbox.refill = None
        all_of_it = len(entries) < job.limit and sum(len(entry.body) for entry in entries) < job.chars
        if job.level == 0:
            inbox.loaded(entries, all_of_it=all_of_it)
        else:
            inbox.loaded_early(entries, job.level, all_of_it=all_of_it)
        if inbox.waiters:
            self._desk.wake(inbox)

    def _load_failed(self, job: Load, error: HiveError) -> None:
        inbox = self._desk.inbox(job.recipient)
        inbox.refill = None
        # The callers of `_load` get the error from it; who waits for what was to be read is told here.
        for waiter in inbox.waiters:
            if not waiter.future.done() and inbox.must_load(1, waiter.level):
                waiter.future.set_exception(error)

    # --- ends ---

    def _expire(self, waiter: Waiter) -> None:
        if not waiter.future.done():
            waiter.future.set_result([])

    async def aclose(self) -> None:
        """Waiters get nothing, at once."""
        self._closed = True
        await self._deadlines.aclose()
        for inbox in self._desk.inboxes.values():
            for waiter in tuple(inbox.waiters):
                self._expire(waiter)


def _retrieved(loading: "asyncio.Future[list[Entry]]") -> None:
    """Nobody may be left to ask for the error of a load."""
    if not loading.cancelled():
        loading.exception()
