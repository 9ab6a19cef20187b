"""A line between a browser and a hive that fails as lines do: it stalls, breaks, and spoils what it carries.

One TCP listener of the loopback in front of the hive's. Requests are passed on as they are, but for the port in their
headers, so that the hive takes the browser for one of its own pages. Knows of HTTP only what it needs to find the one
`/stream` and the events in it. Decides nothing of what should come of a fault.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import anyio.abc

Spoil = Callable[[bytes], list[bytes]]
"""What becomes of one event of the stream: nothing, itself, or more."""

_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")


@dataclass
class LineProxy:
    """The line, and how it fares."""

    port: int
    target: int
    spoil: Spoil | None = None
    streams: int = 0
    """So many `/stream` were asked for, ever."""
    open_streams: int = 0
    _flowing: anyio.Event = field(default_factory=anyio.Event)
    _links: set[anyio.abc.SocketStream] = field(default_factory=set)
    _refusing: bool = False

    @property
    def origin(self) -> str:
        """What the browser calls the hive."""
        return f"http://localhost:{self.port}"

    def stall(self) -> None:
        """From now on nothing arrives, and nobody is told: as when a cable is pulled."""
        self._flowing = anyio.Event()

    def flow(self) -> None:
        """The end of a stall, for connections made from now on; those of before are lost for good."""
        self._flowing.set()

    async def cut(self) -> None:
        """Every connection breaks."""
        for link in list(self._links):
            await anyio.aclose_forcefully(link)

    def refuse(self, *, refuse: bool) -> None:
        """Whether new connections break at once."""
        self._refusing = refuse

    async def serve(self, browser: anyio.abc.SocketStream) -> None:
        """One connection of the browser's."""
        if self._refusing:
            await anyio.aclose_forcefully(browser)
            return
        async with browser:
            try:
                hive = await anyio.connect_tcp("127.0.0.1", self.target)
            except OSError:
                return  # nobody is there; the browser learns it by the end of its connection
            async with hive:
                await self._join(_Link(browser, hive, self))

    async def _join(self, link: "_Link") -> None:
        self._links |= {link.browser, link.hive}
        try:
            async with anyio.create_task_group() as group:

                async def pump(one_way: Callable[[], Awaitable[None]]) -> None:
                    # Either side may be gone, which the other learns by the end of its connection.
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await one_way()
                    group.cancel_scope.cancel()

                group.start_soon(pump, link.up)
                group.start_soon(pump, link.down)
        finally:
            self._links -= {link.browser, link.hive}
            link.streaming = False

    async def flowing(self) -> None:
        """Returns when nothing stalls."""
        await self._flowing.wait()


@dataclass
class _Link:
    """One connection, joined to one of the hive's."""

    browser: anyio.abc.SocketStream
    hive: anyio.abc.SocketStream
    line: LineProxy
    _streaming: bool = False

    @property
    def streaming(self) -> bool:
        """Whether it carries the answer to `/stream` now."""
        return self._streaming

    @streaming.setter
    def streaming(self, streaming: bool) -> None:
        self.line.open_streams += streaming - self._streaming
        self._streaming = streaming

    async def up(self) -> None:
        """What the browser says."""
        own, theirs = f"localhost:{self.line.port}".encode(), f"localhost:{self.line.target}".encode()
        async for data in self.browser:
            await self.line.flowing()
            if data.startswith((b"GET /stream?", b"GET /stream ")):
                self.streaming = True
                self.line.streams += 1
            await self.hive.send(data.replace(own, theirs))

    async def down(self) -> None:
        """What the hive says."""
        events = _Events()
        async for data in self.hive:
            await self.line.flowing()
            if not self.streaming:
                await self.browser.send(data)
                continue
            if passed := events.take(data, self.line.spoil):
                await self.browser.send(passed)
            if events.ended:  # the connection may be used again
                events, self.streaming = _Events(), False


@dataclass
class _Events:
    """The answer to `/stream`: its head as it is, its chunks taken apart into events and put together again."""

    raw: bytes = b""
    body: bytes = b""
    head: bool = True
    ended: bool = False

    def take(self, data: bytes, spoil: Spoil | None) -> bytes:
        """What is passed on of this."""
        self.raw += data
        out = b""
        if self.head:
            if b"\r\n\r\n" not in self.raw:
                return b""
            head, _, self.raw = self.raw.partition(b"\r\n\r\n")
            self.head = False
            out = head + b"\r\n\r\n"
        while (found := _CHUNK.match(self.raw)) and len(self.raw) >= found.end() + int(found[1], 16) + 2:
            size = int(found[1], 16)
            self.body += self.raw[found.end() : found.end() + size]
            self.raw = self.raw[found.end() + size + 2 :]
            self.ended = self.ended or size == 0
        *events, self.body = self.body.split(b"\n\n")
        for event in events:
            for each in [event] if spoil is None else spoil(event):
                whole = each + b"\n\n"
                out += b"%x\r\n%s\r\n" % (len(whole), whole)
        return out + (b"0\r\n\r\n" if self.ended else b"")


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[LineProxy]:
    """A line to the hive at this port."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
        own = int(listener.extra(anyio.abc.SocketAttribute.local_port))
        assert len(str(own)) == len(str(port)), "the lengths that headers tell stay true"
        proxy = LineProxy(own, port)
        proxy.flow()
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, proxy.serve)
            yield proxy
            group.cancel_scope.cancel()
