"""A peer on a unix socket that says exactly what a test tells it to, and reads lines."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
from anyio.abc import SocketAttribute, SocketStream

Line = dict[str, Any]


class Peer:
    """One connection."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._rest = b""

    async def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        await self._stream.send(data)

    async def say(self, *messages: Line) -> None:
        """Each message as a line, in one write."""
        await self.raw(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    async def hear(self) -> Line:
        """The next line. `anyio.EndOfStream` where there is none any more."""
        while b"\n" not in self._rest:
            self._rest += await self._stream.receive(1 << 18)
        line, _, self._rest = self._rest.partition(b"\n")
        return cast("Line", json.loads(line))

    async def ask(self, message: Line) -> Line:
        """A request and its reply."""
        await self.say(message)
        return await self.hear()

    async def ended(self) -> bool:
        """Whether the other side says no more (waits for it to say something, or to end)."""
        try:
            self._rest += await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True
        return False

    async def done_writing(self) -> None:
        """Closes this direction only."""
        await self._stream.send_eof()

    async def hang_up(self) -> None:
        """Closes both."""
        await self._stream.aclose()

    @property
    def socket(self) -> socket.socket:
        """The socket itself."""
        return self._stream.extra(SocketAttribute.raw_socket)


@asynccontextmanager
async def peer(path: Path) -> AsyncIterator[Peer]:
    """A connection to that socket."""
    async with await anyio.connect_unix(path) as stream:
        yield Peer(cast("SocketStream", stream))
