"""`Bus`: numbered events, fanned out to subscribers through bounded buffers.

Publishing never waits and never fails because of a reader: one that falls behind loses frames and is told how many.
The bus knows nothing of what its events mean; `eventlog.py` keeps an agent's events on disk.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from types import TracebackType
from typing import Final, Generic, TypeVar

import anyio
import msgspec

E = TypeVar("E")

BUFFER: Final = 256
KEEP: Final = 2000


class Frame(msgspec.Struct, Generic[E], frozen=True):
    """One event with its number on this bus."""

    seq: int
    event: E


class Missed(msgspec.Struct, frozen=True):
    """This reader fell behind: `count` frames before the next one are gone."""

    count: int


class BusStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the bus was made. `lost` sums over subscribers, those that have left included."""

    published: int
    subscribers: int
    lost: int
    kept: int


class Subscription(Generic[E]):
    """One reader: an async context manager and iterator over `Frame` and `Missed`, in order.

    It gets what is published after `Bus.subscribe` returned. After `Bus.close` it ends when everything up to then was
    read. Leaving the context (or `close`) ends it for the bus as well. Made for one reading task.
    """

    __slots__ = ("_buffer", "_bus", "_end", "_frames", "_read")

    def __init__(self, bus: "Bus[E]", frames: deque[Frame[E]], buffer: int, after: int) -> None:
        self._bus = bus
        self._frames = frames
        self._buffer = buffer
        self._read = after
        self._end: int | None = None

    def __aiter__(self) -> AsyncIterator[Frame[E] | Missed]:
        return self

    async def __anext__(self) -> Frame[E] | Missed:
        behind = self._bus.current_seq - self._read
        if 0 < behind <= self._buffer and behind <= len(self._frames) and self._end is None:  # the hot path
            self._read += 1
            return self._frames[-behind]
        while not self.ready:
            if self._end is not None:
                raise StopAsyncIteration
            await self._bus.next_published()
        return self.next_nowait()

    @property
    def ready(self) -> bool:
        """Something can be read without waiting."""
        return self._read < (self._bus.current_seq if self._end is None else self._end)

    @property
    def lost(self) -> int:
        """How many frames this reader has lost and not been told of."""
        return max(0, self._bus.current_seq - self._read - min(self._buffer, len(self._frames)))

    def next_nowait(self) -> Frame[E] | Missed:
        """The next item, which must be there (`ready`)."""
        behind = self._bus.current_seq - self._read
        there = min(self._buffer, len(self._frames))
        if behind > there:
            missed = behind - there
            if self._end is not None:
                missed = min(missed, self._end - self._read)
            self._bus.tell_lost(missed)
            self._read += missed
            return Missed(missed)
        self._read += 1
        return self._frames[-behind]

    def close(self) -> None:
        """Ends the subscription; what was published until now can still be read."""
        if self._end is None:
            self._end = self._bus.current_seq
            self._bus.forget(self)

    async def __aenter__(self) -> "Subscription[E]":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Bus(Generic[E]):
    """Numbered fan-out of events of one kind. Used on the loop's thread; publishing never waits.

    All readers read from the same newest frames, each from its own place: a publication costs the same whether one
    reads or a hundred, and one that has fallen further behind than `buffer` skips to where it may be.

    Args:
        buffer: how many frames a reader may be behind.
        keep: how many of the newest frames `history` can serve.
        kind_of: names an event's kind, for `history(kind=)`.
        text_of: an event's text, for `history(q=)`.

    >>> bus = Bus[str]()
    >>> bus.publish("one"), bus.publish("two"), bus.current_seq
    (1, 2, 2)
    >>> [(frame.seq, frame.event) for frame in bus.history(limit=1)]
    [(2, 'two')]
    """

    def __init__(
        self,
        *,
        buffer: int = BUFFER,
        keep: int = KEEP,
        kind_of: Callable[[E], str] | None = None,
        text_of: Callable[[E], str] = repr,
    ) -> None:
        self._buffer = buffer
        self._keep = keep
        self._frames: deque[Frame[E]] = deque(maxlen=max(keep, buffer))
        self._kind_of = kind_of
        self._text_of = text_of
        self._subscribers: dict[Subscription[E], None] = {}
        self._published: anyio.Event | None = None
        self._taps: tuple[Callable[[E], object], ...] = ()
        self._lost = 0
        self.current_seq = 0
        """The number of the newest event; 0 before the first. Read it before you gather a snapshot."""

    def publish(self, event: E) -> int:
        """Numbers the event, from 1, without gaps, and shows it to every subscriber. Returns its number."""
        self.current_seq = seq = self.current_seq + 1
        self._frames.append(Frame(seq, event))
        if self._published is not None:
            self._published.set()
            self._published = None
        for tap in self._taps:
            tap(event)
        return seq

    def skip(self, count: int) -> int:
        """Says that `count` events happened which never reached this bus: every reader is told that it missed them.

        What is kept goes with them, so that a reader refetches once and misses nothing in between. Returns the number
        of the last one.
        """
        self.current_seq += count
        self._frames.clear()
        self._wake_all()
        return self.current_seq

    def tap(self, listener: Callable[[E], object]) -> None:
        """Calls `listener` with every event, at once and in order; it must neither wait nor raise."""
        self._taps = (*self._taps, listener)

    async def next_published(self) -> None:
        """Returns after the next event, or when the bus is closed."""
        if self._published is None:
            self._published = anyio.Event()
        await self._published.wait()

    def subscribe(self, *, after: int | None = None) -> Subscription[E]:
        """A reader of what is published from now on.

        Args:
            after: begin with the kept frames after this number; those that are no longer kept count as missed.
        """
        start = self.current_seq if after is None else max(0, min(after, self.current_seq))
        buffer = self._buffer if after is None else max(self._buffer, self._keep)
        subscription = Subscription(self, self._frames, buffer, start)
        self._subscribers[subscription] = None
        return subscription

    def forget(self, subscription: Subscription[E]) -> None:
        """Called by a subscription that ends."""
        self._subscribers.pop(subscription, None)
        self._wake_all()

    def tell_lost(self, count: int) -> None:
        """Called by a subscription that has lost frames."""
        self._lost += count

    def history(
        self, *, before: int | None = None, limit: int = KEEP, kind: str | None = None, q: str | None = None
    ) -> list[Frame[E]]:
        """The newest kept frames, oldest first.

        Args:
            before: only frames with a smaller number.
            limit: at most this many.
            kind: only events of this kind (needs `kind_of`).
            q: only events whose text contains this, whatever its case.
        """
        found: list[Frame[E]] = []
        needle = q.casefold() if q else None
        for frame in islice(reversed(self._frames), self._keep):
            if len(found) >= limit:
                break
            if before is not None and frame.seq >= before:
                continue
            if kind is not None and (self._kind_of is None or self._kind_of(frame.event) != kind):
                continue
            if needle is not None and needle not in self._text_of(frame.event).casefold():
                continue
            found.append(frame)
        found.reverse()
        return found

    def statistics(self) -> BusStatistics:
        """Counts since the bus was made."""
        return BusStatistics(
            published=self.current_seq,
            subscribers=len(self._subscribers),
            lost=self._lost + sum(subscriber.lost for subscriber in self._subscribers),
            kept=min(len(self._frames), self._keep),
        )

    def close(self) -> None:
        """Ends every subscription once its reader has read what was published until now."""
        for subscriber in tuple(self._subscribers):
            subscriber.close()

    def _wake_all(self) -> None:
        if self._published is not None:
            self._published.set()
            self._published = None
