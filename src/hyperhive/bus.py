"""`Bus`: numbered events, fanned out to subscribers through bounded buffers.

Publishing never waits and never fails because of a reader: one that falls behind loses frames and is told how many.
The bus knows nothing of what its events mean; `eventlog.py` keeps an agent's events on disk.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
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

    It gets what is published after `Bus.subscribe` returned. After `Bus.close` it ends when its buffer is empty.
    Leaving the context (or `close`) ends it for the bus as well. Made for one reading task.
    """

    def __init__(
        self, bus: "Bus[E]", buffer: int, *, replay: Sequence[Frame[E]] = (), missed: int = 0
    ) -> None:
        self._bus = bus
        self._buffer = buffer
        self._frames: deque[Frame[E]] = deque(replay)
        self._missed = missed
        self._wake = anyio.Event()
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Frame[E] | Missed]:
        return self

    async def __anext__(self) -> Frame[E] | Missed:
        while not self._frames and not self._missed:
            if self._closed:
                raise StopAsyncIteration
            self._wake = anyio.Event()
            await self._wake.wait()
        return self.next_nowait()

    def next_nowait(self) -> Frame[E] | Missed:
        """The next item, which must be there (`ready`)."""
        if self._missed:
            missed, self._missed = self._missed, 0
            return Missed(missed)
        return self._frames.popleft()

    @property
    def ready(self) -> bool:
        """Something can be read without waiting."""
        return bool(self._frames) or self._missed > 0

    def offer(self, frame: Frame[E]) -> int:
        """Called by the bus: takes the frame, at the cost of the oldest one where the buffer is full.

        Returns:
            How many frames were lost by it.
        """
        lost = 0
        if len(self._frames) >= self._buffer:
            self._frames.popleft()
            self._missed += 1
            lost = 1
        self._frames.append(frame)
        self._wake.set()
        return lost

    def close(self) -> None:
        """Ends the subscription; what is buffered can still be read."""
        self._bus.forget(self)
        self._closed = True
        self._wake.set()

    async def __aenter__(self) -> "Subscription[E]":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Bus(Generic[E]):
    """Numbered fan-out of events of one kind. Used on the loop's thread; nothing in it waits.

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
        self._kept: deque[Frame[E]] = deque(maxlen=keep)
        self._kind_of = kind_of
        self._text_of = text_of
        self._subscribers: tuple[Subscription[E], ...] = ()
        self._taps: tuple[Callable[[E], object], ...] = ()
        self._seq = 0
        self._lost = 0

    @property
    def current_seq(self) -> int:
        """The number of the newest event; 0 before the first. Read it before you gather a snapshot."""
        return self._seq

    def publish(self, event: E) -> int:
        """Numbers the event, from 1, without gaps, and offers it to every subscriber. Returns its number."""
        self._seq = seq = self._seq + 1
        frame = Frame(seq, event)
        self._kept.append(frame)
        for subscriber in self._subscribers:
            self._lost += subscriber.offer(frame)
        for tap in self._taps:
            tap(event)
        return seq

    def tap(self, listener: Callable[[E], object]) -> None:
        """Calls `listener` with every event, at once and in order; it must neither wait nor raise."""
        self._taps = (*self._taps, listener)

    def subscribe(self, *, after: int | None = None) -> Subscription[E]:
        """A reader of what is published from now on.

        Args:
            after: begin with the kept frames after this number; those that are no longer kept count as missed.
        """
        replay: list[Frame[E]] = []
        missed = 0
        if after is not None and after < self._seq:
            replay = [frame for frame in self._kept if frame.seq > after]
            missed = self._seq - max(after, 0) - len(replay)
        subscription = Subscription(self, self._buffer, replay=replay, missed=missed)
        self._subscribers = (*self._subscribers, subscription)
        return subscription

    def forget(self, subscription: Subscription[E]) -> None:
        """Called by a subscription that ends."""
        self._subscribers = tuple(one for one in self._subscribers if one is not subscription)

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
        for frame in reversed(self._kept):
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
            published=self._seq, subscribers=len(self._subscribers), lost=self._lost, kept=len(self._kept)
        )

    def close(self) -> None:
        """Ends every subscription once its reader has read what is buffered."""
        for subscriber in self._subscribers:
            subscriber.close()
