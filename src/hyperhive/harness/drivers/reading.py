"""Reading what a CLI prints: in lines, no faster than is good for the others of the loop, and none too long.

Knows bytes and newlines; what a line says is others' affair.
"""

from collections.abc import Callable
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream
from anyio.lowlevel import checkpoint

from hyperhive.clock import Clock

CHUNK: Final = 256 * 1024
BYTES_A_SECOND: Final = 16 * 2**20
"""A CLI that prints more is read no faster, so that it cannot keep the loop to itself. Each of its two outputs."""
LINE_COST: Final = 512
"""What a line counts beside its bytes: a short one is as much work as a long one."""
LINES_AT_ONCE: Final = 128
"""So many are handled before the loop goes round."""


async def read_lines(
    stream: ByteReceiveStream,
    lines: "LineReader",
    clock: Clock,
    take: Callable[[bytes], None],
    too_long: Callable[[int], None],
) -> None:
    """Hand the stream's lines to `take` until it ends, no faster than the bounds above say.

    `too_long` is told the bytes of lines that were dropped.
    """
    pace = _Pace(clock)
    try:
        while True:
            chunk = await stream.receive(CHUNK)
            whole = lines.feed(chunk)
            for start in range(0, len(whole), LINES_AT_ONCE):
                some = whole[start : start + LINES_AT_ONCE]
                for line in some:
                    take(line)
                await pace.took(len(some) * LINE_COST)
            if lines.dropped:
                too_long(lines.dropped)
                lines.dropped = 0
            await pace.took(len(chunk))
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        if lines.rest:
            take(lines.rest)


class LineReader:
    """Lines out of chunks. A line longer than `limit` is dropped: its size is added to `dropped`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False
        self.dropped = 0

    @property
    def rest(self) -> bytes:
        """What came after the last newline."""
        return b"".join(self._parts)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their newlines."""
        first, *more = chunk.split(b"\n")
        if not more:
            self._add(first)
            return []
        self._add(first)
        lines = [] if self._skipping else [b"".join(self._parts)]
        self._parts, self._size, self._skipping = [], 0, False
        self._add(more.pop())
        return [*lines, *more]

    def _add(self, part: bytes) -> None:
        if self._skipping:
            self.dropped += len(part)
        elif self._size + len(part) > self._limit:
            self.dropped += self._size + len(part)
            self._parts, self._size, self._skipping = [], 0, True
        elif part:
            self._parts.append(part)
            self._size += len(part)


async def discard(stream: ByteReceiveStream) -> None:
    """Read to the end."""
    try:
        while True:
            await stream.receive(CHUNK)
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


class _Pace:
    """Keeps a reader to BYTES_A_SECOND, and lets the rest of the loop run after every step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._taken = 0

    async def took(self, size: int) -> None:
        """So much was handled: return when more may be."""
        self._taken += size
        now = self._clock.monotonic()
        if self._taken > BYTES_A_SECOND:
            # A step may have been more than a second's worth: it is waited for in full.
            await self._clock.sleep(self._since + self._taken / BYTES_A_SECOND - now)
            self._since, self._taken = self._clock.monotonic(), 0
        elif now - self._since >= 1.0:
            self._since, self._taken = now, 0
        await checkpoint()
