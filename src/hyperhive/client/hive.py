"""`connect`: a running hive as an object, over its admin socket.

One connection carries all requests, numbered, so that they may be under way at once; each stream has a connection of
its own. A connection that was lost is dialled again by the next request. Nothing is repeated by itself.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from hyperhive.client.lines import Lines, dial
from hyperhive.client.parts import RemoteApprovals, RemoteBroker, RemoteLifecycle
from hyperhive.client.places import run_dirs
from hyperhive.errors import BadRequest, Closed, HiveUnreachable
from hyperhive.opening import Opening
from hyperhive.protocol.codec import decode, decode_host_reply, encode
from hyperhive.protocol.replies import Reply
from hyperhive.protocol.requests import Request, Subscribe

SOCKET_NAME = "host.sock"
FRAMES_AHEAD = 256
"""Frames of a stream that wait for a slow reader before the hive is made to wait, and then to drop."""


class _Number(msgspec.Struct):
    req: int | None = None
    kind: str | None = None


_NUMBER = msgspec.json.Decoder(_Number)
_FRAME = msgspec.json.Decoder(dict[str, Any])

Frame = dict[str, object]
"""One frame of a stream: `kind`, `seq`, and the fields of that kind. Kinds that are unknown are passed on."""


def connect(
    run_dir: Path | str | None = None, *, environ: Mapping[str, str] | None = None
) -> "Opening[RemoteHive]":
    """A running hive: enter what this returns, or await it and later call its `aclose`.

    Args:
        run_dir: the hive's run directory. Default: `HYPERHIVE_RUN_DIR`, else the user's own, else the system's.
        environ: default: this process's.

    Raises:
        HiveUnreachable: no hive answers; the message names all that was tried.

    >>> async def greet() -> None:
    ...     async with connect() as hive:
    ...         await hive.broker.send("operator", "manager", "hello")
    """
    places = run_dirs(None if run_dir is None else Path(run_dir), os.environ if environ is None else environ)

    async def start() -> RemoteHive:
        hive = RemoteHive(places)
        await hive.reach()
        return hive

    return Opening(start)


class RemoteHive:
    """The surfaces of a running hive. Made by `connect`; usable from any task of one loop."""

    def __init__(self, places: list[Path]) -> None:
        self._places = places
        self._lines: Lines | None = None
        self._dialling: asyncio.Lock = asyncio.Lock()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._closed = False
        self._streams: set[Lines] = set()
        self.broker = RemoteBroker(self.request)
        self.lifecycle = RemoteLifecycle(self.request)
        self.approvals = RemoteApprovals(self.request)

    async def request(self, request: Request) -> Reply:
        """Any request of the protocol, and its reply.

        Raises:
            HiveError: what the hive answered, as the class of its code.
            HiveUnreachable: no hive answers.
            Closed: the hive went away before it answered; whether it did what was asked is unknown.
        """
        lines = await self.reach()
        number = next(self._numbers)
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiter
        try:
            await lines.send(encode(msgspec.structs.replace(request, req=number)))
            reply = decode_host_reply(await waiter, type(request))
            return msgspec.structs.replace(reply, req=request.req)
        finally:
            del self._waiting[number]

    @asynccontextmanager
    async def events(
        self, stream: str = "hive", *, after: str | None = None
    ) -> AsyncGenerator[AsyncIterator[Frame]]:
        """The frames of a stream: `hive`, or one agent's name. `async with hive.events() as frames: async for …`.

        The first frame's kind is `resume`; `lagged` says that this reader fell behind and lost frames; `heartbeat`
        comes every 15 seconds. With `after` (a frame's id, `EPOCH:SEQ`) it goes on from there where that is known.

        Raises:
            NotFound: there is no such stream.
            Closed: (while reading) the hive went away.
        """
        frames: asyncio.Queue[bytes | None] = asyncio.Queue()

        def on_line(line: bytes) -> None:
            frames.put_nowait(line)
            if frames.qsize() >= FRAMES_AHEAD:
                lines.pause_reading()

        lines = await self._dial_one(on_line, lambda: frames.put_nowait(None))
        self._streams.add(lines)
        try:
            lines.send_now(encode(Subscribe(stream=stream, after=after)))
            first = await frames.get()
            if first is not None and decode(first, _NUMBER, "frame").kind is None:
                decode_host_reply(first, Subscribe)
            yield self._frames(first, frames, lines)
        finally:
            self._streams.discard(lines)
            await lines.aclose()

    async def _frames(
        self, line: bytes | None, frames: "asyncio.Queue[bytes | None]", lines: Lines
    ) -> AsyncIterator[Frame]:
        while line is not None:
            yield decode(line, _FRAME, "frame")
            if frames.qsize() <= FRAMES_AHEAD // 2:
                lines.resume_reading()
            line = await frames.get()
        raise Closed("the hive ended the stream")

    async def aclose(self) -> None:
        """Hangs up. Idempotent."""
        self._closed = True
        for lines in (self._lines, *self._streams):
            if lines is not None:
                await lines.aclose()

    # --- the connection ---------------------------------------------------------------------------------------------

    async def reach(self) -> Lines:
        """The connection, dialled if there is none.

        Raises:
            HiveUnreachable: no hive answers; the message names all that was tried.
        """
        async with self._dialling:
            if self._closed:
                raise Closed("this connection was closed")
            if self._lines is None:
                self._lines = await self._dial_one(self._on_line, self._on_lost)
            return self._lines

    async def _dial_one(self, on_line: Callable[[bytes], None], on_lost: Callable[[], None]) -> Lines:
        tried: list[str] = []
        for place in self._places:
            try:
                return await dial(place / SOCKET_NAME, on_line, on_lost)
            except HiveUnreachable as error:
                tried.append(error.message)
        raise HiveUnreachable(
            f"no hive is running: tried {', '.join(tried)}", hint="start one with `hyperhive up`"
        )

    def _on_line(self, line: bytes) -> None:
        try:
            number = decode(line, _NUMBER, "reply").req
        except BadRequest:
            return
        waiter = self._waiting.get(number) if number is not None else None
        if waiter is not None and not waiter.done():
            waiter.set_result(line)

    def _on_lost(self) -> None:
        self._lines = None
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(Closed("the hive went away before it answered"))
