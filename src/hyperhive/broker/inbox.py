"""One inbox in memory: the oldest waiting messages, what is in flight, and who waits.

Pure: no clock, no I/O. The rows on disk are the truth, and this follows their commits, in order; only handing out
(`pop`) leads, because losing a lease in a crash is the same as a requeue.

    head      waiting, in memory, by id: every waiting message with id <= `loaded_through`
    tail      how many wait beyond that, on disk only, by urgency
    ahead     messages of the tail that were loaded early, because a reader asked for urgent ones
    flight    handed out and not yet done; `claim` says that an ack, requeue or burial of it is under way
    withdrawn about to be taken back by who sent it: out of head and ahead (the value), or still among the tail (None)
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

import msgspec

from hyperhive.protocol.types import RECENT_MAX, Delivery, FileRef, Urgency

HEAD_COUNT: Final = 1000
HEAD_CHARS: Final = 1_000_000

_FILE_REFS: Final = msgspec.json.Decoder(tuple[FileRef, ...])

URGENCIES: Final[tuple[Urgency, ...]] = ("next_turn", "soon", "interrupt")


class Claim(IntEnum):
    """What is being done to a message in flight, between the call and its commit."""

    NONE = 0
    ACK = 1
    REQUEUE = 2
    PARK = 3


class Entry(msgspec.Struct, gc=False):
    """A message in memory. `back`: it is to wait again, should what claimed it fail."""

    id: int
    sender: str
    body: str
    at: int
    urgency: int = 0
    attempt: int = 0
    tries: int = 0
    hops: int = 0
    chain: int = 0
    file_refs: str | None = None
    claim: Claim = Claim.NONE
    back: bool = False

    def files(self) -> tuple[FileRef, ...]:
        """The files that its body names."""
        return _FILE_REFS.decode(self.file_refs) if self.file_refs else ()

    def delivery(self, recipient: str) -> Delivery:
        """As it is handed out."""
        return Delivery(
            id=self.id,
            sender=self.sender,
            recipient=recipient,
            body=self.body,
            at=self.at,
            redelivered=self.attempt > 0,
            urgency=URGENCIES[self.urgency],
            file_refs=self.files(),
        )


class Waiter:
    """Somebody who waits for mail; `future` gets the entries, or none when its time is up."""

    __slots__ = ("deadline", "future", "level", "limit")

    def __init__(self, future: asyncio.Future[list[Entry]], limit: int, level: int, deadline: float) -> None:
        self.future = future
        self.limit = limit
        self.level = level
        self.deadline = deadline


class Inbox:
    """The memory of one recipient's inbox. See the file's header."""

    __slots__ = (
        "ahead", "flight", "hands_out", "head", "head_chars", "loaded_through", "name", "recent", "recent_complete",
        "refill", "tail", "taken", "waiters", "withdrawn",
    )  # fmt: skip

    def __init__(self, name: str, *, hands_out: bool = True) -> None:
        self.name = name
        self.hands_out = hands_out
        self.head: deque[Entry] = deque()
        self.head_chars = 0
        self.loaded_through = 0
        self.tail = [0, 0, 0]
        self.ahead: dict[int, Entry] = {}
        self.flight: dict[int, Entry] = {}
        self.taken: set[int] = set()
        self.withdrawn: dict[int, Entry | None] = {}
        self.waiters: deque[Waiter] = deque()
        self.refill: asyncio.Future[list[Entry]] | None = None
        self.recent: deque[int] = deque(maxlen=RECENT_MAX)
        self.recent_complete = False

    @property
    def pending(self) -> int:
        """How many wait to be handed out."""
        return len(self.head) + sum(self.tail)

    def in_flight(self) -> list[Entry]:
        """What is in flight and not claimed, by id."""
        found = [entry for entry in self.flight.values() if entry.claim is Claim.NONE]
        found.sort(key=_by_id)
        return found

    def arrived(self, entry: Entry) -> bool:
        """A new message was committed. True where somebody may be waiting for it."""
        tail = self.tail
        self.recent.append(entry.id)
        room = self.hands_out and len(self.head) < HEAD_COUNT and self.head_chars < HEAD_CHARS
        if room and not (tail[0] or tail[1] or tail[2]):
            self.head.append(entry)
            self.head_chars += len(entry.body)
            self.loaded_through = entry.id
            return bool(self.waiters)
        tail[entry.urgency] += 1
        return bool(self.waiters)

    def must_load(self, limit: int, level: int) -> bool:
        """A reader of `limit` messages of at least `level` needs more than is in memory."""
        beyond = sum(self.tail[level:])
        if not beyond:
            return False
        if level == 0:
            return len(self.head) < limit
        ready = sum(entry.urgency >= level for entry in self.head)
        early = sum(entry.urgency >= level for entry in self.ahead.values())
        return early < beyond and ready + early < limit

    def pop(self, limit: int, level: int = 0) -> list[Entry]:
        """Hands out up to `limit` messages of at least this urgency, oldest first."""
        head = self.head
        popped: list[Entry] = []
        if level == 0:
            while head and len(popped) < limit:
                popped.append(head.popleft())
        else:
            popped = [entry for entry in head if entry.urgency >= level][:limit]
            for entry in popped:
                head.remove(entry)
        for entry in popped:
            self.head_chars -= len(entry.body)
        if level and len(popped) < limit and self.ahead:
            popped += self._pop_ahead(limit - len(popped), level)
        for entry in popped:
            self.flight[entry.id] = entry
        return popped

    def _pop_ahead(self, limit: int, level: int) -> list[Entry]:
        ids = sorted(entry.id for entry in self.ahead.values() if entry.urgency >= level)[:limit]
        popped = [self.ahead.pop(one) for one in ids]
        for entry in popped:
            self.tail[entry.urgency] -= 1
        return popped

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Messages wait again, each at the place that its id gives it."""
        back = sorted(entries, key=_by_id)
        near = [entry for entry in back if entry.id <= self.loaded_through]
        for entry in back:
            entry.claim = Claim.NONE
            entry.back = False
            if entry.id > self.loaded_through:
                self.tail[entry.urgency] += 1
                if entry.urgency:
                    self.ahead[entry.id] = entry
        if not near:
            return
        self.head_chars += sum(len(entry.body) for entry in near)
        if not self.head or near[-1].id < self.head[0].id:
            self.head.extendleft(reversed(near))
        else:
            self.head = deque(sorted((*self.head, *near), key=_by_id))

    def remove_waiting(self, message_id: int) -> Entry | None:
        """Takes one message out of what is in memory, if it is there."""
        found = self.find_waiting(message_id)
        if found is not None and self.ahead.pop(message_id, None) is not None:
            self.tail[found.urgency] -= 1
        elif found is not None:
            self.head.remove(found)
            self.head_chars -= len(found.body)
        return found

    def forget_waiting(self, message_id: int, urgency: int) -> None:
        """A waiting message is gone from disk, wherever it waited."""
        if self.remove_waiting(message_id) is None and message_id > self.loaded_through:
            self.tail[urgency] -= 1

    def withdraw(self, message_id: int) -> None:
        """A waiting message is not handed out any more, wherever it waits; until one of the next two is called."""
        self.withdrawn[message_id] = self.remove_waiting(message_id)

    def withdrawal_done(self, message_id: int, urgency: int) -> None:
        """It is gone from disk."""
        if message_id in self.withdrawn and self.withdrawn.pop(message_id) is None:
            self.tail[urgency] -= 1

    def withdrawal_failed(self, message_id: int) -> Entry | None:
        """It is not; gives what was in memory, for `put_back`."""
        return self.withdrawn.pop(message_id, None)

    def _is_withdrawn(self, entry: Entry) -> bool:
        """Whether what was just read from disk is on its way back; it is no part of the tail from here on."""
        if entry.id not in self.withdrawn:
            return False
        if self.withdrawn[entry.id] is None:
            self.withdrawn[entry.id] = entry
            self.tail[entry.urgency] -= 1
        return True

    def find_waiting(self, message_id: int) -> Entry | None:
        """A waiting message, if it is in memory."""
        if message_id > self.loaded_through:
            return self.ahead.get(message_id)
        return next((entry for entry in self.head if entry.id == message_id), None)

    def loaded(self, entries: Sequence[Entry], *, all_of_it: bool) -> None:
        """The next messages of the tail, oldest first, as they stand on disk; `all_of_it`: there are no more."""
        for entry in entries:
            self.loaded_through = entry.id
            # Handed out early, and its lease is not on disk yet; or about to be taken back.
            if entry.id in self.flight or self._is_withdrawn(entry):
                continue
            self.ahead.pop(entry.id, None)
            self.tail[entry.urgency] -= 1
            self.head.append(entry)
            self.head_chars += len(entry.body)
        # Put back too late for this load to see them: their place is in the head now.
        late = [entry for entry in self.ahead.values() if entry.id <= self.loaded_through]
        for entry in late:
            del self.ahead[entry.id]
            self.tail[entry.urgency] -= 1
        self.put_back(late)
        if all_of_it:
            self._tail_is_ahead(0)

    def loaded_early(self, entries: Sequence[Entry], level: int, *, all_of_it: bool) -> None:
        """Urgent messages of the tail, as they stand on disk; `all_of_it`: the tail has no more of this level."""
        for entry in entries:
            known = entry.id <= self.loaded_through or entry.id in self.flight
            if not known and not self._is_withdrawn(entry):
                self.ahead[entry.id] = entry
        if all_of_it:
            self._tail_is_ahead(level)

    def _tail_is_ahead(self, level: int) -> None:
        for urgency in range(level, len(self.tail)):
            self.tail[urgency] = sum(entry.urgency == urgency for entry in self.ahead.values())

    def clear(self) -> None:
        """Nothing waits or is in flight any more."""
        self.head.clear()
        self.head_chars = 0
        self.tail = [0, 0, 0]
        self.ahead.clear()
        self.flight.clear()
        self.taken.clear()
        self.withdrawn.clear()


def _by_id(entry: Entry) -> int:
    return entry.id
