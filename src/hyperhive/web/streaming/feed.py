"""`Feed`: one stream of the core, read once for all browsers that show it; each frame is encoded once.

Opened by its first reader and closed after its last. Knows nothing of browsers, ids or HTTP: what it reads it hands to
`Reader`s, at once and in order.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import anyio
import msgspec

from hyperhive.errors import Closed, HiveError
from hyperhive.protocol.codec import decode
from hyperhive.protocol.dispatch import Frames
from hyperhive.protocol.events import Lagged, Resume
from hyperhive.protocol.live import fit_live
from hyperhive.protocol.requests import Subscribe

log = logging.getLogger(__name__)

FRAME_MAX_BYTES: Final = 2**20
"""A longer event goes to browsers as a note that says so; the history has it whole."""

OpenStream = Callable[[Subscribe], AbstractAsyncContextManager[Frames]]


class Reader(Protocol):
    """Who reads a feed. Both return at once and do not raise."""

    def push(self, feed: "Feed", seq: int, frame: bytes) -> None:
        """A frame, as JSON with `stream` and `seq`; `seq` is where the stream stands with it."""
        ...

    def ended(self, feed: "Feed") -> None:
        """Nothing follows: the stream is at its end."""
        ...


class _Head(msgspec.Struct):
    """What a frame of any kind begins with. Its other fields may be an agent's, of any type."""

    kind: str
    seq: int = 0


_HEAD = msgspec.json.Decoder(_Head)
_RESUME = msgspec.json.Decoder(Resume)
_LAGGED = msgspec.json.Decoder(Lagged)


def number_after(position: int, line: bytes) -> int:
    """Where a stream stands with this frame: its own number, or, where it says what was missed, that much further."""
    head = decode(line, _HEAD, "frame")
    return position + decode(line, _LAGGED, "frame").missed if head.kind == "lagged" else head.seq


class Feed:
    """One stream of the core.

    Args:
        name: `hive`, or the agent's.
        open_stream: subscribes to it.
        ended: called once when it has ended, of itself or by a fault.
    """

    def __init__(self, name: str, open_stream: OpenStream, ended: Callable[["Feed"], None]) -> None:
        self.name = name
        self.position = 0
        """The number of the newest frame that was passed on."""
        self.readers: dict[Reader, int] = {}
        """Who reads, and after which number."""
        self.joining = 0
        """How many are about to read."""
        self.error: HiveError | None = None
        self._open_stream = open_stream
        self._ended = ended
        self._opened = anyio.Event()
        self._tail = b',"stream":' + msgspec.json.encode(name) + b"}"
        self.scope: anyio.CancelScope | None = None

    async def opened(self) -> None:
        """Returns when the stream is open.

        Raises:
            HiveError: it cannot be opened (there is no such agent), or has ended by now.
        """
        await self._opened.wait()
        if self.error is not None:
            raise self.error

    async def run(self) -> None:
        """Reads until the stream ends or this is cancelled."""
        try:
            async with self._open_stream(Subscribe(stream=self.name)) as frames:
                async for line in frames:
                    self._pass_on(line)
            self.error = Closed(f"the stream {self.name} has ended")
        except HiveError as error:
            self.error = error
        finally:
            if self.error is None:
                self.error = Closed(f"the stream {self.name} was closed")
            self._opened.set()
            self._ended(self)

    def _pass_on(self, line: bytes) -> None:
        kind = decode(line, _HEAD, "frame").kind
        if kind == "heartbeat":
            return
        if kind == "resume":
            self.position = int(decode(line, _RESUME, "frame").id.rpartition(":")[2])
            self._opened.set()
            return
        self.position = seq = number_after(self.position, line)
        frame = self.frame(line)
        for reader, after in tuple(self.readers.items()):
            if seq > after:
                reader.push(self, seq, frame)

    def frame(self, line: bytes) -> bytes:
        """A frame of this stream's as browsers get it: with the stream's name."""
        return fit_live(line, FRAME_MAX_BYTES)[:-1] + self._tail
