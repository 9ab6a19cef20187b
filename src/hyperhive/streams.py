"""Buses as streams of encoded lines: the opening frame, replay, `lagged`, and the heartbeat.

One stream is `hive`, the others are named for their agents. A stream's id is `EPOCH:SEQ`; the epoch is new with every
core, so that a reader which comes back after a restart is told that there is a gap. Publishes nothing itself.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

import anyio

from hyperhive.bus import Bus, Frame, Missed, Subscription
from hyperhive.errors import BadRequest, NotFound
from hyperhive.protocol.codec import encode
from hyperhive.protocol.events import Heartbeat, Lagged, Resume
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.requests import Subscribe

HEARTBEAT_SECONDS: Final = 15.0
HIVE: Final = "hive"

E = TypeVar("E")


class Source(Generic[E]):
    """One bus, and how its frames are encoded (with their `seq` beside the tag)."""

    def __init__(self, bus: Bus[E], encode_frame: Callable[[Frame[E]], bytes]) -> None:
        self.bus = bus
        self.encode_frame = encode_frame


AnySource = Source[Any]


class Streams:
    """What `subscribe` opens.

    Args:
        epoch: names this run of the core.
        find: the source of `hive` or of an agent; None where there is none of that name.
    """

    def __init__(self, epoch: str, find: Callable[[str], AnySource | None]) -> None:
        self._epoch = epoch
        self._find = find

    @asynccontextmanager
    async def open(self, caller: Caller, request: Subscribe) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The stream's lines, from now on or from `request.after` where that is still known.

        Raises:
            NotFound: there is no such stream.
            BadRequest: `after` is no stream id.
        """
        del caller
        source = self._find(request.stream)
        if source is None:
            raise NotFound(
                f"there is no agent named {request.stream!r}, and no other stream of this name",
                hint="`hyperhive list` shows who there is",
            )
        after, resume = self._resume(request.after, source.bus)
        start = source.bus.current_seq if after is None else after
        async with source.bus.subscribe(after=start) as subscription:
            head = Resume(resume=resume, id=f"{self._epoch}:{start}")
            yield self._lines(encode(head), source, subscription)

    def _resume(self, after: str | None, bus: Bus[Any]) -> tuple[int | None, str]:
        if after is None:
            return None, "new"
        epoch, _, seq = after.partition(":")
        if not seq.isdecimal():
            raise BadRequest(f"{after[:80]!r} is no stream id: expected EPOCH:SEQ")
        if epoch != self._epoch or int(seq) > bus.current_seq:
            return None, "gap"
        kept = bus.statistics().kept
        return (int(seq), "ok") if bus.current_seq - int(seq) <= kept else (None, "gap")

    async def _lines(
        self, head: bytes, source: AnySource, subscription: Subscription[Any]
    ) -> AsyncIterator[bytes]:
        yield head
        while True:
            item: Frame[Any] | Missed | None = subscription.next_nowait() if subscription.ready else None
            if item is None:
                with anyio.move_on_after(HEARTBEAT_SECONDS):
                    try:
                        item = await anext(subscription)
                    except StopAsyncIteration:
                        return
            if item is None:
                yield encode(Heartbeat())
            elif isinstance(item, Missed):
                yield encode(Lagged(missed=item.count))
            else:
                yield source.encode_frame(item)
