"""`Broker`: durable inboxes. The public face; its parts are in the files beside it.

    send      sending.py, repeats.py      hand out   handout.py, inbox.py
    end       turns.py                    set aside  deadletters.py, taking_back.py
    look      looking.py, listings.py     SQL        rows.py, listings.py
    ask       questions.py

Who may write to whom, and how much, is in `Limits`; it knows nothing of agents but their names.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from hyperhive.broker import causes, file_refs, listings, past, rows, storms
from hyperhive.broker.deadletters import SetAside
from hyperhive.broker.desk import Desk
from hyperhive.broker.file_refs import Files, MessageFiles
from hyperhive.broker.handout import Handout, Lease
from hyperhive.broker.limits import Gate, Limits
from hyperhive.broker.listings import InboxCounts
from hyperhive.broker.looking import DAY, Looking
from hyperhive.broker.loose_ends import LooseEnds
from hyperhive.broker.past import PastMessage
from hyperhive.broker.questions import Questions
from hyperhive.broker.reminders import Reminders
from hyperhive.broker.repeats import Cause, Effect, digest_of
from hyperhive.broker.schema import MIGRATIONS
from hyperhive.broker.sending import Sending, checked_principal, level_of
from hyperhive.broker.storms import STORM, StormErrand, Storms
from hyperhive.broker.taking_back import TakingBack
from hyperhive.broker.tool_asks import ToolAsks
from hyperhive.broker.turns import Turns
from hyperhive.bus import Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import BadRequest
from hyperhive.names import OPERATOR, SYSTEM
from hyperhive.opening import Opening
from hyperhive.protocol.events import AnyDashboardEvent
from hyperhive.protocol.types import (
    RECV_WAIT_DEFAULT_SECONDS,
    DeadLetter,
    Delivery,
    InboxRow,
    OperatorInboxRow,
    Receipt,
    Urgency,
)
from hyperhive.spending import Cause as AtWork
from hyperhive.store import Store

T = TypeVar("T")


class Broker:
    """Durable inboxes, one a name, first in first out by id.

    A message is pending, then in flight (handed out), then acked; beside that it can be held, or a dead letter.
    `send`, `ack_turn` and `requeue_inflight` are durable when they return, through `kill -9` and power cuts. What is in
    flight when the process dies stays so until somebody requeues it (the harness does, before it takes anything).

    One process owns a database; a second one is refused with `StoreLocked`.

    >>> import anyio, tempfile
    >>> async def main() -> None:
    ...     async with Broker.open(f"{tempfile.mkdtemp()}/mail.sqlite") as broker:
    ...         await broker.send("alice", "bob", "hi")
    ...         [message] = await broker.recv("bob")
    ...         print(message.sender, message.body, await broker.ack_turn("bob"))
    >>> anyio.run(main)
    alice hi 1
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock = SYSTEM_CLOCK,
        limits: Limits | None = None,
        directory: Callable[[str], bool] | None = None,
        bus: Bus[AnyDashboardEvent] | None = None,
        files: Files | None = None,
    ) -> None:
        """A broker on a shared store, which must have been opened with `hyperhive.broker.MIGRATIONS`.

        `files`: the agents' directories, for the files that bodies name and reminders write; without it there are none.
        Await `start()` before use. Closing it leaves the store open.
        """
        self.bus: Bus[AnyDashboardEvent] = bus if bus is not None else Bus()
        self._store = store
        self._owns_store = False
        limits = limits or Limits()
        self._desk = Desk(store, clock, self.bus)
        self._handout = Handout(self._desk)
        self._turns = Turns(self._desk, self._handout, limits.dead_after)
        self._set_aside = SetAside(self._desk)
        self.gate = Gate(limits, clock, self._waiting)
        self._looking = Looking(self._desk)
        self._taking_back = TakingBack(self._desk)
        storms = Storms(limits)
        self.questions = Questions(self._desk, self.gate, storms, directory)
        self._sending = Sending(
            self._desk, directory, self.gate, storms, self._set_aside, self.questions.announce, files
        )
        self.questions.on_answer(STORM, StormErrand(self._desk, limits, self._set_aside.no_longer_held))
        self.tools = ToolAsks(self._desk, self.questions, limits)
        self.reminders = Reminders(self._desk, self.gate, limits, directory, files, self.cause_of)
        self.loose_ends = LooseEnds()
        self.loose_ends.add("question", self.questions)
        self.loose_ends.add("reminder", self.reminders)
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock = SYSTEM_CLOCK,
        limits: Limits | None = None,
        directory: Callable[[str], bool] | None = None,
    ) -> Opening["Broker"]:
        """Opens or creates a database of inboxes.

        Args:
            path: the SQLite file; a lock file and SQLite's own files stand beside it.
            clock: what the time is.
            limits: see `Limits`.
            directory: says whether a name exists or ever existed; mail to others is refused. Without it every valid
                name has an inbox.

        Raises:
            StoreLocked: another process owns it.
            StoreFailed: it cannot be opened or migrated.
        """
        return Opening(partial(cls._open, Path(path), clock, limits, directory))

    @classmethod
    async def _open(
        cls, path: Path, clock: Clock, limits: Limits | None, directory: Callable[[str], bool] | None
    ) -> "Broker":
        store = await Store.open(path, migrations=[MIGRATIONS], clock=clock)
        try:
            broker = cls(store=store, clock=clock, limits=limits, directory=directory)
            broker._owns_store = True
            return await broker.start()
        except BaseException:
            await store.aclose()
            raise

    async def start(self) -> "Broker":
        """Learns from disk what waits and what was in flight."""
        undone = await self._store.read(rows.undone)
        for recipient, urgency, count in undone.waiting:
            self._desk.inbox(recipient).tail[urgency] = count
        for recipient, entries in undone.oldest.items():
            self._desk.inbox(recipient).loaded(entries, all_of_it=False)
        for recipient, entries in undone.flight.items():
            self._desk.inbox(recipient).flight = {entry.id: entry for entry in entries}
        self._set_aside.held.update(await self._store.read(storms.held_counts))
        await self.questions.start()
        await self.reminders.start()
        return self

    @property
    def store(self) -> Store:
        """The store, for parts that share it."""
        return self._store

    # --- sending ---

    async def send(
        self,
        sender: str,
        recipient: str,
        body: str,
        *,
        dedupe_key: str | None = None,
        urgency: Urgency = "next_turn",
        repeatable: bool = False,
        call_id: str | None = None,
    ) -> Receipt:
        """Stores a message; it is durable when this returns.

        Args:
            sender: a principal's name.
            recipient: a principal's name; mail to `operator` piles up in the operator's inbox.
            body: 1 to 256 KiB of UTF-8, not blank.
            dedupe_key: the same sender saying the key again within 24 h gets the first id, and nothing is stored.
            urgency: for readers that ask for `min_urgency`; the order is by id all the same.
            repeatable: store it even where the sender's turn runs again and has sent the same before.
            call_id: an id of this one call, unique to the sender; saying it again gives the first receipt.

        Returns:
            The id, and whether it is an earlier message's (`duplicate`).

        Raises:
            BadRequest: the body cannot be stored. InvalidName: a name is none.
            NotFound: nobody of this name ever existed (only with a directory).
            LimitReached: one of the broker's `Limits`; says which one and when it ends.
            StoreFailed: the disk refused; nothing was stored.
        """
        new = self._sending.message(sender, recipient, body, urgency)
        return await self._sending.send(new, dedupe_key, call_id, repeatable=repeatable)

    def effect(self, sender: str, request: str, fields: Sequence[object], call_id: str | None) -> Effect:
        """A request with an effect outside of the broker, for `repeats`: what `sender` asks for now."""
        return Effect(
            sender=sender,
            request=request,
            digest=digest_of(request, fields),
            cause=self.cause_of(sender),
            call_id=call_id,
            dedupe_key=None,
            now=self._desk.steady(),
        )

    def cause_of(self, sender: str) -> Cause | None:
        """The oldest message that this sender has in flight: half of the repeat key of its requests."""
        return self._sending.cause_of(sender)

    def at_work_on(self, agent: str, among: Iterable[int] | None = None) -> AtWork | None:
        """The message that this agent is at work for now, and its chain; of `among`, where one of them is in flight."""
        return causes.cause_of(self._desk.inboxes.get(agent), None if among is None else set(among))

    def order_of(self, agent: str) -> tuple[int, int]:
        """What is smaller goes first among agents that were parked: urgent mail, then old mail."""
        return causes.order_of(self._desk.inboxes.get(agent))

    # --- receiving ---

    async def recv(
        self,
        recipient: str,
        max: int = 1,  # noqa: A002 - the wire's name
        wait_seconds: float = RECV_WAIT_DEFAULT_SECONDS,
        min_urgency: Urgency | None = None,
        *,
        turn: int | None = None,
        durable: bool = False,
    ) -> list[Delivery]:
        """Hands out the oldest messages of an inbox; they are in flight from here on.

        Returns the moment one is there, with what else waits then, up to `max`; nothing after `wait_seconds` (which
        may be `math.inf`). Of several readers each message goes to one, in the order in which they came. A reader that
        is cancelled takes nothing with it.

        Args:
            recipient: whose inbox; the operator's is read by `inbox`.
            max: how many at most.
            wait_seconds: how long to wait for the first one.
            min_urgency: only messages of at least this urgency; others keep their places.
            turn: the number that events shall carry.
            durable: see `take`.

        Raises:
            StoreFailed: what waits could not be read from disk; nothing was handed out.
        """
        lease = await self.take(recipient, max, wait_seconds, min_urgency, turn=turn, durable=durable)
        return lease.deliveries

    async def take(
        self,
        recipient: str,
        max: int = 1,  # noqa: A002 - the wire's name
        wait_seconds: float = RECV_WAIT_DEFAULT_SECONDS,
        min_urgency: Urgency | None = None,
        *,
        turn: int | None = None,
        durable: bool = False,
    ) -> Lease:
        """As `recv`, for edges that write the answer to somebody: where that fails, `undo()` what it returned.

        `durable`: return only when it is on disk that the messages are out, so that after a `kill -9` even those of the
        last moment come again with their mark. Costs a commit, which it shares with whoever else waits for one.
        """
        checked_principal(recipient)
        if recipient in (OPERATOR, SYSTEM):
            raise BadRequest(
                f"mail to {recipient} is not handed out", hint="the operator's mail is listed by `inbox`"
            )
        if max < 1:
            raise BadRequest(f"max is {max}; it must be at least 1")
        level = level_of(min_urgency or "next_turn")
        lease = await self._handout.take(self._desk.inbox(recipient), max, wait_seconds, level, turn)
        if durable and lease.deliveries:
            await self._handout.commit(lease)
        return lease

    async def retake(self, recipient: str, ids: Iterable[int]) -> int:
        """Messages that a reader still holds are in flight again, where the mark of their hand-out was lost in a crash.

        For a reader that outlives the broker's process, before it receives anything else. Returns how many were
        waiting.
        """
        return await self._handout.retake(self._desk.inbox(recipient), ids)

    def mark_taken(self, recipient: str, ids: Iterable[int]) -> None:
        """These were shown by a `recv` tool call inside the running turn: `ack_turn(taken=True)` covers them."""
        inbox = self._desk.inbox(recipient)
        inbox.taken.update(number for number in ids if number in inbox.flight)

    def taken_now(self, recipient: str) -> set[int]:
        """What `mark_taken` named since the last ack or requeue. The broker's process remembers it, no disk does."""
        inbox = self._desk.inboxes.get(recipient)
        return set(inbox.taken) if inbox is not None else set()

    # --- ends ---

    async def ack_turn(
        self,
        recipient: str,
        ids: Iterable[int] | None = None,
        *,
        taken: bool = False,
        turn: int | None = None,
    ) -> int:
        """Marks messages as done, durably; they are never handed out again.

        Args:
            recipient: whose messages; others' ids are ignored.
            ids: exactly these, as far as they are in flight, or were requeued and not handed out since. None: all
                that was handed out since the last ack or requeue.
            taken: beside `ids`, what `mark_taken` named since the last ack or requeue.
            turn: the number that events shall carry.

        Returns:
            How many were acked now.
        """
        return await self._turns.ack(self._desk.inbox(recipient), ids, taken, turn)

    async def requeue_inflight(
        self,
        recipient: str,
        ids: Iterable[int] | None = None,
        *,
        blame: str | None = None,
        turn: int | None = None,
        call_id: str | None = None,
    ) -> int:
        """Puts what is in flight back to pending, at its place, marked as redelivered.

        Args:
            recipient: whose messages.
            ids: only these.
            blame: the message itself may be why its turn failed, and how: the `dead_after`th time makes it a dead
                letter, with this reason.
            turn: the number that events shall carry.
            call_id: an id of this one call, unique to the recipient; said again, it blames nothing a second time.

        Returns:
            How many wait again.
        """
        return await self._turns.requeue(self._desk.inbox(recipient), ids, blame, turn, call_id)

    async def dead_letter(
        self, recipient: str, ids: Iterable[int], reason: str, *, turn: int | None = None
    ) -> int:
        """Gives messages in flight up at once (a cancelled turn's); their senders are told. Returns how many."""
        return await self._set_aside.bury(recipient, ids, reason, turn)

    async def purge(self, recipient: str, *, reason: str = "its recipient was purged") -> int:
        """Makes dead letters of all of an inbox that is not done; the senders are told. Returns how many."""
        return await self._set_aside.purge(recipient, reason)

    # --- looking ---

    async def pending(self, recipient: str) -> int:
        """How many messages wait to be handed out (for the operator: that are not done)."""
        return self.pending_now(recipient)

    def pending_now(self, recipient: str) -> int:
        """As `pending`, without waiting."""
        inbox = self._desk.inboxes.get(recipient)
        return inbox.pending if inbox is not None else 0

    def held_now(self, recipient: str) -> int:
        """How many messages to this recipient wait for the operator's word."""
        return self._set_aside.held[recipient]

    def _waiting(self, recipient: str) -> int:
        return self.pending_now(recipient) + self.held_now(recipient)

    def in_flight_now(self, recipient: str) -> list[int]:
        """Ids that are handed out and neither acked nor requeued."""
        inbox = self._desk.inboxes.get(recipient)
        return [entry.id for entry in inbox.in_flight()] if inbox is not None else []

    async def counts(self) -> dict[str, InboxCounts]:
        """Every inbox that is not empty: how many messages in which state, and the age of the oldest."""
        return await self._store.read(listings.counts)

    async def recent(
        self, recipient: str, limit: int = 30, *, max_chars: int | None = None
    ) -> list[InboxRow]:
        """The newest messages of an inbox, newest first, whatever became of them; delivers nothing. At most 100.

        `max_chars`: read no further once the bodies come to so many characters.
        """
        return await self._looking.recent(recipient, limit, max_chars)

    async def read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a look at the broker's tables in a reader's thread: for pages that gather from several at once."""
        return await self._store.read(look)

    def held_in_all(self) -> int:
        """How many messages wait for the operator's word, whomever they are to."""
        return self._set_aside.held.total()

    async def past(self, before: int | None = None, limit: int = 100) -> list[PastMessage]:
        """The newest messages with a smaller id than `before`, newest first, each with what became of it as events."""
        return await self._store.read(lambda conn: past.newest(conn, before, limit))

    # --- the operator's inbox, dead letters, held messages ---

    async def inbox(self, limit: int = 100, *, include_done: bool = False) -> list[OperatorInboxRow]:
        """Mail to the operator, newest first."""
        return await self._store.read(
            lambda conn: listings.operator_rows(conn, limit, include_done=include_done)
        )

    async def files_of(self, message_id: int) -> MessageFiles:
        """The files that a message refers to, as they were when it was sent.

        Raises:
            NotFound: there is no such message (any more).
        """
        return await self._store.read(lambda conn: file_refs.files_of(conn, message_id))

    async def mark_done(self, ids: Iterable[int]) -> int:
        """Sets the done mark on the operator's mail; returns how many had none yet."""
        return await self._looking.mark_done(ids)

    async def dead(self, limit: int = 100) -> list[DeadLetter]:
        """Dead letters, newest first."""
        return await self._set_aside.list(limit)

    async def requeue_dead(self, message_id: int) -> None:
        """Lets a dead letter wait again, at its place, as if it had never failed.

        Raises:
            NotFound: there is no dead letter of this id.
        """
        await self._set_aside.release(message_id, "dead")

    async def drop_dead(self, message_id: int) -> None:
        """Ends a dead letter for good.

        Raises:
            NotFound: there is no dead letter of this id.
        """
        await self._set_aside.drop(message_id, "dead")

    async def take_back(self, message_id: int) -> None:
        """Ends a message of the operator's that nobody has read, for good: it is never handed out. Durable.

        Raises:
            NotFound: there is no such message.
            Forbidden: somebody else wrote it.
            Conflict: it is in hand, is being taken back, or is over.
        """
        await self._taking_back.take_back(message_id)

    async def release_held(self, message_id: int) -> None:
        """Lets a held message be handed out.

        Raises:
            NotFound: there is no held message of this id.
        """
        await self._set_aside.release(message_id, "held")

    async def drop_held(self, message_id: int) -> None:
        """Ends a held message for good.

        Raises:
            NotFound: there is no held message of this id.
        """
        await self._set_aside.drop(message_id, "held")

    # --- housekeeping ---

    async def vacuum(self, older_than_days: float = 30) -> int:
        """Removes messages acked longer ago than this, and what is remembered of requests that are long over.

        Dropped dead letters and resolved questions stay for 90 days. Senders are hardly held up: it goes in small
        steps. Returns how many messages were removed.
        """
        await self.questions.sweep()
        await self.reminders.sweep(self._desk.now() - int(older_than_days * DAY))
        return await self._looking.vacuum(older_than_days)

    def old_mail(
        self, conn: sqlite3.Connection, *, after: int = 0, older_than_days: float = 30
    ) -> list[tuple[int, bytes]]:
        """The first of the messages after an id that `vacuum` would remove now, in order, as id and text; for `read`.

        None at all only where there are no more of them.
        """
        return self._looking.old_mail(conn, after, older_than_days)

    async def aclose(self) -> None:
        """Readers that wait get nothing; leases are written; the database is closed, unless it is shared."""
        if self._closed:
            return
        self._closed = True
        await self.questions.aclose()
        await self.reminders.aclose()
        await self._handout.aclose()
        if self._owns_store:
            await self._store.aclose()
        self._desk.close()
