"""`Hub`: the streams of all browsers: who may have how many, what each carries, and when they are written.

One task reads each stream of the core, whoever shows it; one timer gives all heartbeats and clears up; and what comes
within a few milliseconds is written at once, so that two hundred browsers cost little more than one. Knows nothing of
HTTP.
"""

import asyncio
import secrets
from collections.abc import Iterable
from typing import Final

import msgspec

from hyperhive.background import Background
from hyperhive.clock import Clock
from hyperhive.errors import BadRequest, HiveError, LimitReached, NotFound
from hyperhive.protocol.codec import encode
from hyperhive.protocol.events import Resume
from hyperhive.protocol.requests import Subscribe
from hyperhive.web.streaming.feed import Feed, OpenStream, number_after
from hyperhive.web.streaming.stream import BrowserStream, Connection

HEARTBEAT_SECONDS: Final = 15.0
FLUSH_SECONDS: Final = 0.01
KEEP_SECONDS: Final = 90.0
"""So long a browser that went away finds its stream again."""
STUCK_SECONDS: Final = 60.0
"""A connection that takes nothing for so long is given up; a browser that still lives dials anew."""


class HubLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many streams there may be: of one owner (a login), in all, and names on one of them."""

    of_one: int = 32
    in_all: int = 512
    names: int = 512


class Hub:
    """The browsers' streams.

    Args:
        open_stream: subscribes to a stream of the core, as the operator.
        clock: paces heartbeats and what follows from them.
    """

    def __init__(self, open_stream: OpenStream, clock: Clock, *, limits: HubLimits | None = None) -> None:
        self._open_stream = open_stream
        self._clock = clock
        self._limits = limits or HubLimits()
        self._background = Background("browsers' streams")
        self._feeds: dict[str, Feed] = {}
        self._streams: dict[str, BrowserStream] = {}
        self._dirty: dict[BrowserStream, None] = {}
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flushed_at = 0.0

    async def start(self) -> "Hub":
        """Makes it ready; `aclose` ends it."""
        await self._background.start()
        self._background.spawn(self._run, "heartbeats")
        return self

    async def aclose(self) -> None:
        """Every stream is at its end. Any number of times."""
        for stream in tuple(self._streams.values()):
            self._drop(stream)
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        await self._background.aclose()

    # --- opening ----------------------------------------------------------------------------------------------------

    async def open(self, owner: str, last_id: str | None = None, names: Iterable[str] = ()) -> Connection:
        """One browser's stream, as it was left at `last_id` where it is still there, else a new one.

        Args:
            owner: whose it is; streams of others are not found.
            last_id: `Last-Event-ID`.
            names: what it shall carry at least; where there is no such stream, it says `ended`.

        Raises:
            LimitReached: there are too many streams, or names.
        """
        wanted = self._checked(names)
        stream = self._streams.get(last_id.rpartition(":")[0]) if last_id is not None else None
        place = None
        if last_id is not None and stream is not None and stream.owner == owner and stream.only is None:
            place = stream.place_after(_number(last_id))
        else:
            self._make_room(owner)
            stream = BrowserStream(secrets.token_urlsafe(12), owner, self._mark)
            stream.left_at = self._clock.monotonic()
            self._streams[stream.id] = stream
        resume = "ok" if place is not None else "new" if last_id is None else "gap"
        if place is None:
            place = stream.pushed
        number = stream.number if resume != "ok" else _number(last_id or "")
        for name in wanted:
            if name not in stream.feeds:
                await self._join_or_tell(stream, name)
        standing = {name: feed.position for name, feed in stream.feeds.items()}
        head = Resume(resume=resume, id=stream.id, streams=standing)
        return self._connect(stream, _event(stream.id, number, encode(head)), place)

    async def open_one(self, owner: str, name: str, last_id: str | None = None) -> Connection:
        """A stream of one name, its events numbered as the core numbers them: `EPOCH:SEQ` of that stream.

        Raises:
            NotFound: there is no such stream. BadRequest: `last_id` is no id.
            LimitReached: there are too many streams.
        """
        self._make_room(owner)
        async with self._open_stream(Subscribe(stream=name, after=last_id)) as frames:
            feed = await self._feed(name)
            try:
                head = msgspec.json.decode(await anext(frames), type=Resume)
                epoch, _, at = head.id.rpartition(":")
                stream = BrowserStream(epoch, owner, self._mark, only=name, start=int(at))
                while stream.number < feed.position:  # all of it is there
                    line = await anext(frames)
                    stream.push(feed, number_after(stream.number, line), feed.frame(line))
                self._streams[f"one {secrets.token_hex(8)}"] = stream
                stream.join(feed, after=stream.number)
            finally:
                self._joined(feed)
        return self._connect(stream, _event(epoch, int(at), encode(head)), 0)

    async def subscribe(
        self, owner: str, stream_id: str, add: Iterable[str], remove: Iterable[str]
    ) -> dict[str, int]:
        """Changes what a stream carries; gives where each name that it carries then stands.

        What comes after these numbers comes on the stream. Removing what it does not carry is no error.

        Raises:
            NotFound: no stream of this owner's has this id, or there is no stream of such a name; nothing changes.
            LimitReached: too many names.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.owner != owner:
            raise _no_stream()
        wanted, gone = self._checked(add), set(remove)
        if len({*stream.feeds, *wanted} - gone) > self._limits.names:
            raise LimitReached(f"a stream carries at most {self._limits.names} names")
        feeds = []
        try:
            for name in wanted:
                feeds.append(await self._feed(name))
            gone_meanwhile = [feed.error for feed in feeds if feed.error is not None]
            if gone_meanwhile:
                raise gone_meanwhile[0]
            if stream.over:
                raise _no_stream()
            for feed in feeds:
                if feed.name not in stream.feeds:
                    stream.join(feed)
        finally:
            for feed in feeds:
                self._joined(feed)
        for name in gone:
            self._leave(stream, name)
        return {name: feed.position for name, feed in stream.feeds.items()}

    def drop_owner(self, owner: str) -> None:
        """Ends all streams of this owner: the login is over."""
        for stream in tuple(self._streams.values()):
            if stream.owner == owner:
                self._drop(stream)

    def _connect(self, stream: BrowserStream, head: bytes, place: int) -> Connection:
        connection = stream.connect(head, place)
        connection.writing_since = self._clock.monotonic()  # nobody has taken anything yet
        return connection

    def left(self, connection: Connection) -> None:
        """This connection is gone. Its stream is kept for a while, unless it carries one name only."""
        connection.ended = True
        stream = connection.stream
        if stream.connection is connection:
            stream.connection = None
            stream.left_at = self._clock.monotonic()
            if stream.only is not None or stream.over:
                self._drop(stream)

    def statistics(self) -> dict[str, int]:
        """How many streams there are, connected ones, and feeds of the core that are read."""
        connected = sum(stream.connection is not None for stream in self._streams.values())
        return {"streams": len(self._streams), "connected": connected, "feeds": len(self._feeds)}

    # --- feeds ------------------------------------------------------------------------------------------------------

    async def _feed(self, name: str) -> Feed:
        """The open feed of this name, which stays until `_joined`.

        Raises:
            HiveError: there is no such stream.
        """
        feed = self._feeds.get(name)
        if feed is None or feed.error is not None:
            feed = self._feeds[name] = Feed(name, self._open_stream, self._feed_ended)
            feed.scope = self._background.spawn(feed.run, f"stream {name}")
        feed.joining += 1
        try:
            await feed.opened()
        except BaseException:
            self._joined(feed)
            raise
        return feed

    def _joined(self, feed: Feed) -> None:
        feed.joining -= 1
        self._close_unread(feed)

    def _leave(self, stream: BrowserStream, name: str) -> None:
        feed = stream.leave(name)
        if feed is not None:
            self._close_unread(feed)

    def _close_unread(self, feed: Feed) -> None:
        if not feed.readers and not feed.joining:
            if self._feeds.get(feed.name) is feed:
                del self._feeds[feed.name]
            if feed.scope is not None:
                feed.scope.cancel()

    def _feed_ended(self, feed: Feed) -> None:
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
        for reader in tuple(feed.readers):
            reader.ended(feed)

    async def _join_or_tell(self, stream: BrowserStream, name: str) -> None:
        try:
            feed = await self._feed(name)
        except HiveError:
            stream.tell_ended(Feed(name, self._open_stream, lambda _: None))
            return
        if not stream.over:
            stream.join(feed)
        self._joined(feed)

    # --- streams ----------------------------------------------------------------------------------------------------

    def _checked(self, names: Iterable[str]) -> list[str]:
        wanted = list(dict.fromkeys(names))
        if len(wanted) > self._limits.names:
            raise LimitReached(f"a stream carries at most {self._limits.names} names")
        return wanted

    def _make_room(self, owner: str) -> None:
        """Refuses a further stream where there are too many, but for those that nobody reads."""
        mine = [stream for stream in self._streams.values() if stream.owner == owner]
        self._make_room_among(mine, self._limits.of_one, "of one login")
        self._make_room_among([*self._streams.values()], self._limits.in_all, "in all")

    def _make_room_among(self, streams: list[BrowserStream], limit: int, whose: str) -> None:
        if len(streams) < limit:
            return
        left = [(stream.left_at, index) for index, stream in enumerate(streams) if stream.left_at is not None]
        if not left:
            raise LimitReached(
                f"there are {len(streams)} streams {whose}, and may be {limit}",
                hint="close a few of the browser's windows",
            )
        self._drop(streams[min(left)[1]])

    def _drop(self, stream: BrowserStream) -> None:
        for key, each in tuple(self._streams.items()):
            if each is stream:
                del self._streams[key]
        feeds = tuple(stream.feeds.values())
        stream.end()
        for feed in feeds:
            self._close_unread(feed)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _mark(self, stream: BrowserStream) -> None:
        """There is something new on this stream: it is written soon, with what else comes until then."""
        if stream.connection is None:
            return
        self._dirty[stream] = None
        if self._flush_timer is None:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_at(
                max(loop.time(), self._flushed_at + FLUSH_SECONDS), self._flush, loop
            )

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._flush_timer = None
        self._flushed_at = loop.time()
        dirty, self._dirty = self._dirty, {}
        for stream in dirty:
            if stream.connection is not None:
                stream.connection.wake()

    async def _run(self) -> None:
        """The one timer."""
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Heartbeats for all; gives up connections that are stuck, and streams that nobody came back for."""
        now = self._clock.monotonic()
        for stream in tuple(self._streams.values()):
            connection = stream.connection
            if connection is None:
                if stream.left_at is not None and now - stream.left_at >= KEEP_SECONDS:
                    self._drop(stream)
            elif connection.writing_since is not None and now - connection.writing_since >= STUCK_SECONDS:
                connection.end()
                self.left(connection)
            else:
                connection.beat()


def _no_stream() -> NotFound:
    return NotFound("there is no such stream (any more)", hint="open /stream anew")


def _number(last_id: str) -> int:
    """The count in `EPOCH:SEQ`.

    Raises:
        BadRequest: it is no such id.
    """
    number = last_id.rpartition(":")[2]
    if not (number.isascii() and number.isdecimal() and len(number) < 20):
        raise BadRequest(f"{last_id[:80]!r} is no event id: expected EPOCH:SEQ")
    return int(number)


def _event(epoch: str, number: int, data: bytes) -> bytes:
    return b"id: %b:%d\ndata: %b\n\n" % (epoch.encode(), number, data)
