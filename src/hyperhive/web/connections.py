"""One browser's connection: uvicorn's, with a deadline on all that a peer may leave half done.

uvicorn keeps a connection whose request never ends for as long as its peer likes. Here a request's head and body have a
deadline, so has an answer that nobody reads; and of the connections that have no request under way only the newest
`WAITING_MAX` stay. Whoever comes is let in, the one that waited longest goes: nobody can keep the operator out.

Where a request ends is the parser's to say, which is strict (`tests/web/test_framing.py` pins how): two lengths, folded
lines and bare line feeds are none.
"""

import asyncio
from typing import Any, Final

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hyperhive.web.headers import complete
from hyperhive.web.problems import MEDIA_TYPE, problem

HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
UNREAD_SECONDS: Final = 30.0
HEAD_MAX_BYTES: Final = 64 * 1024
READ_MAX_BYTES: Final = 256 * 1024
"""What asyncio reads at once, at most."""
REQUEST_MAX_BYTES: Final = 8 * 1024 * 1024
"""Of a whole request as it comes, however little of that is its body: chunks may bring along what nobody reads."""
WAITING_MAX: Final = 128
WAITING_AT_ALL: Final = 512
"""So many for a moment: in a rush, the operator's request may not have been read yet."""
FRESH_SECONDS: Final = 1.0


class Waiting:
    """The connections that have no whole request under way, the one that has waited longest first."""

    def __init__(self) -> None:
        self._since: dict[Connection, float] = {}

    def add(self, connection: "Connection", now: float) -> None:
        """This one waits for its peer, from now on; those that have waited longest may have to go for it."""
        self._since.pop(connection, None)
        self._since[connection] = now
        while len(self._since) > WAITING_MAX:
            oldest = next(iter(self._since))
            if now - self._since[oldest] < FRESH_SECONDS and len(self._since) <= WAITING_AT_ALL:
                return  # it has not been heard yet
            oldest.cut()

    def remove(self, connection: "Connection") -> None:
        """This one has a whole request, or is gone."""
        self._since.pop(connection, None)


class Connection(HttpToolsProtocol):
    """Made by uvicorn, one for each connection that it accepted."""

    def __init__(
        self,
        waiting: Waiting,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._waiting = waiting
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._fed = 0
        self._in_head = True

    def cut(self) -> None:
        """Ends it now."""
        self._waiting.remove(self)
        if self.transport is not None:
            self.transport.abort()

    # --- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.remove(self)
        self._cancel()
        self._read_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        # What the parser holds of a line that does not end is told to nobody: count what it was fed.
        self._fed += len(data)
        if self._in_head and self._fed > HEAD_MAX_BYTES + READ_MAX_BYTES:
            self.send_400_response("the request's head is too long")
        elif self._fed > REQUEST_MAX_BYTES:
            self.cut()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_SECONDS, self.cut)

    def resume_writing(self) -> None:
        self._read_on()
        super().resume_writing()

    # --- httptools --------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._fed = 0
        if self._deadline is None:
            self._wait(HEAD_SECONDS)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_MAX_BYTES:
            raise httptools.HttpParserError("the head is too long")
        if self._in_head:  # what follows a body would pass for part of the head
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            raise httptools.HttpParserError("nobody here decodes this")
        self._in_head = False
        self._wait(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._cancel()
        self._waiting.remove(self)
        self._in_head = True
        self._fed = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline:
            self._waiting.add(self, self.loop.time())  # uvicorn ends it if nothing comes

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request that we take, and ends the connection; `msg` is uvicorn's sentence for it."""
        del msg
        if self.transport.is_closing():
            return
        body = msgspec.json.encode(problem("bad_request", "this is no valid HTTP request", ""))
        headers = complete(
            [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ],
            "",
        )
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers)]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()

    # --- deadlines --------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        self._waiting.add(self, self.loop.time())
        self._cancel()
        self._deadline = self.loop.call_later(seconds, self.cut)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
