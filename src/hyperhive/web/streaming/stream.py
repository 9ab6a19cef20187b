"""`BrowserStream`: what one browser has subscribed to, as numbered server-sent events that it can come back for.

Frames of several streams come together in one ring, numbered `EPOCH:SEQ` by this stream's own count; whoever is
connected reads from the ring at its own pace. A reader that the ring has overtaken is told how much it missed, and
nobody waits for it. Knows nothing of sockets; `response` writes what `Connection` gives.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from hyperhive.protocol.codec import encode
from hyperhive.protocol.events import Ended, Heartbeat, Lagged
from hyperhive.web.streaming.feed import Feed

RING_FRAMES: Final = 2000
RING_BYTES: Final = 4 * 2**20
"""What a browser that was away may come back for. Frames are shared: a hundred rings hold each only once."""
CHUNK_BYTES: Final = 64 * 2**10

_HEARTBEAT: Final = b"data: " + encode(Heartbeat()) + b"\n\n"


class BrowserStream:
    """One `/stream`, or one of the original's streams of a single name. Used on the loop's thread only.

    Args:
        id: names the stream; the EPOCH of its events' ids.
        owner: whose it is (a login).
        dirty: told whenever there is something new to read.
        only: carries this one stream, ends with it, and numbers its events as that stream does, from `start` on.
        start: the number of the last event before the first.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - what it is
        owner: str,
        dirty: Callable[["BrowserStream"], None],
        *,
        only: str | None = None,
        start: int = 0,
    ) -> None:
        self.id = id
        self.owner = owner
        self.only = only
        self.feeds: dict[str, Feed] = {}
        self.connection: Connection | None = None
        self.left_at: float | None = None
        """When its last connection went; None while one is there."""
        self.over = False
        """Nothing follows what is in the ring."""
        self.number = start
        """Of the newest event."""
        self._start = start
        self._dirty = dirty
        self.ring: deque[tuple[int, bytes]] = deque()
        self._ring_bytes = 0
        self.pushed = 0
        """How many events there have been."""

    # --- what it carries --------------------------------------------------------------------------------------------

    def join(self, feed: Feed, after: int | None = None) -> None:
        """Carries this feed from now on, or what comes after that number."""
        self.feeds[feed.name] = feed
        feed.readers[self] = feed.position if after is None else after

    def leave(self, name: str) -> Feed | None:
        """Carries it no more; gives the feed, where it was one."""
        feed = self.feeds.pop(name, None)
        if feed is not None:
            feed.readers.pop(self, None)
        return feed

    def push(self, feed: Feed, seq: int, frame: bytes) -> None:
        """See `feed.Reader`."""
        del feed
        self._append(seq if self.only is not None else self.number + 1, frame)

    def ended(self, feed: Feed) -> None:
        """See `feed.Reader`."""
        self.leave(feed.name)
        if self.only is None:
            self.tell_ended(feed)
        else:
            self.over = True
            self._dirty(self)

    def tell_ended(self, feed: Feed) -> None:
        """Says that there is no such stream (any more)."""
        self._append(self.number + 1, feed.frame(encode(Ended())))

    def _append(self, number: int, frame: bytes) -> None:
        self.number = number
        self.pushed += 1
        self.ring.append((number, frame))
        self._ring_bytes += len(frame)
        while len(self.ring) > RING_FRAMES or (self._ring_bytes > RING_BYTES and len(self.ring) > 1):
            self._ring_bytes -= len(self.ring.popleft()[1])
        self._dirty(self)

    # --- who reads it -----------------------------------------------------------------------------------------------

    def place_after(self, number: int) -> int | None:
        """Where a reader goes on that has seen the event of this number; None where that is no longer known."""
        oldest = self.pushed - len(self.ring)
        if number == self.number:
            return self.pushed
        first = self.ring[0][0] if self.ring else self.number + 1
        if number > self.number or number < (self._start if oldest == 0 else first - 1):
            return None
        behind = sum(1 for each, _ in self.ring if each > number)
        return self.pushed - behind

    def connect(self, head: bytes, place: int) -> "Connection":
        """A reader from this place on, in place of one that is there: a browser that comes back has given that up."""
        if self.connection is not None:
            self.connection.end()
        self.left_at = None
        self.connection = Connection(self, head, place)
        return self.connection

    def end(self) -> None:
        """Carries nothing more, and whoever reads is at the end."""
        for name in tuple(self.feeds):
            self.leave(name)
        self.over = True
        if self.connection is not None:
            self.connection.end()


class Connection:
    """One reader of a stream: gives what there is to write, as bytes."""

    def __init__(self, stream: BrowserStream, head: bytes, place: int) -> None:
        self.stream = stream
        self.writing_since: float | None = None
        """Since when what it was given last has not been written; a reader that is stuck is known by it."""
        self.ended = False
        self.on_cut: Callable[[], None] = lambda: None
        """Called where it is ended in the middle of writing, which may never end by itself."""
        self._head: bytes | None = head
        self._place = place
        self._beat = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """There may be something to write."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def beat(self) -> None:
        """Gives a heartbeat, once what is there was written."""
        self._beat = True
        self.wake()

    def end(self) -> None:
        """Gives nothing more."""
        if not self.ended:
            self.ended = True
            self.wake()
            if self.writing_since is not None:
                self.on_cut()

    async def read(self) -> bytes:
        """What is to be written next, at most some 64 KiB unless one frame is longer; empty at the end."""
        while not self.ended:
            chunk = self._take()
            if chunk:
                return chunk
            if self.stream.over:
                break
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return b""

    def _take(self) -> bytes:
        if self._head is not None:
            head, self._head = self._head, None
            return head
        stream = self.stream
        behind = stream.pushed - self._place
        parts: list[bytes] = []
        if behind > len(stream.ring):
            missed, behind = behind - len(stream.ring), len(stream.ring)
            self._place += missed
            parts.append(b"data: " + encode(Lagged(missed=missed)) + b"\n\n")
        epoch, size, ring = stream.id.encode(), 0, stream.ring
        for index in range(-behind, 0):
            number, frame = ring[index]
            parts.append(b"id: %b:%d\ndata: %b\n\n" % (epoch, number, frame))
            self._place += 1
            size += len(frame)
            if size >= CHUNK_BYTES:
                break
        else:
            if self._beat:
                self._beat = False
                parts.append(_HEARTBEAT)
        return b"".join(parts)
