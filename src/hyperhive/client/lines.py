"""One connection to a hive's socket: lines out, lines in, told apart by nobody here.

It has no task of its own, so it may be used from any task of its loop, also after the one that made it is gone. Who
dials again, and what is said again then, is its user's business.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import anyio

from hyperhive.errors import Closed, HiveUnreachable
from hyperhive.protocol.codec import LineSplitter, LineTooLong
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES


class Lines(asyncio.Protocol):
    """A connected line.

    Args:
        on_line: called for every line, without its newline.
        on_lost: called once when the connection is gone, for whatever reason.
        limit: how long a line may be; a longer one ends the connection.
    """

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_lost: Callable[[], None],
        *,
        limit: int = REPLY_LINE_MAX_BYTES,
    ) -> None:
        self._on_line = on_line
        self._on_lost = on_lost
        self._splitter = LineSplitter(limit)
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._ended = asyncio.Event()
        self.lost = False

    async def send(self, line: bytes) -> None:
        """Writes one line (without newline), as soon as the other side reads.

        Raises:
            Closed: the connection is gone.
        """
        while not self._writable.is_set() and not self.lost:
            await self._writable.wait()
        self.send_now(line)

    def send_now(self, line: bytes) -> None:
        """The same without waiting. Raises `Closed` likewise."""
        if self._transport is None or self.lost or self._transport.is_closing():
            raise Closed("the connection to the hive is gone")
        self._transport.write(line + b"\n")

    @property
    def blocked(self) -> bool:
        """Whether the other side has not read what was sent."""
        return not self._writable.is_set()

    def pause_reading(self) -> None:
        """Takes no further lines until `resume_reading`; the other side notices."""
        if self._transport is not None and not self.lost:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Takes lines again."""
        if self._transport is not None and not self.lost:
            self._transport.resume_reading()

    def close(self) -> None:
        """Ends the connection. `on_lost` is called a little later."""
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """The same, and returns when it has ended."""
        self.close()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    # --- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            lines = self._splitter.feed(data)
        except LineTooLong:  # the hive does not do that; there is no finding the next line
            self.close()
            return
        for line in lines:
            self._on_line(line)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        self._writable.set()
        self._ended.set()
        self._on_lost()


async def dial(
    path: Path,
    on_line: Callable[[bytes], None],
    on_lost: Callable[[], None],
    *,
    limit: int = REPLY_LINE_MAX_BYTES,
) -> Lines:
    """A connection to the socket at `path`.

    Raises:
        HiveUnreachable: nobody answers there; the message says why.
    """
    try:
        _, lines = await asyncio.get_running_loop().create_unix_connection(
            lambda: Lines(on_line, on_lost, limit=limit), os.fspath(path)
        )
    except OSError as error:
        raise HiveUnreachable(f"{path} ({reason(error)})") from error
    return lines


def reason(error: OSError) -> str:
    """Why nobody answers, in a word or two."""
    match error:
        case FileNotFoundError():
            return "not there"
        case ConnectionRefusedError():
            return "nobody listens"
        case PermissionError():
            return "not yours"
        case _:
            return error.strerror or str(error)
