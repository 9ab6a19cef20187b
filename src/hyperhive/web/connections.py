"""One browser's connection: uvicorn's, with a deadline on all that a peer may leave half done.

uvicorn keeps a connection whose request never ends for as long as its peer likes. Here a request's head and body have a
deadline, so has an answer that nobody reads; and of the connections that have no request under way only the newest
`WAITING_MAX` stay. Whoever comes is let in, the one that waited longest goes: nobody can keep the operator out.
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
WAITING_MAX: Final = 128


class Waiting:
    """The connections that have no whole request under way, oldest first."""

    def __init__(self) -> None:
        self._order: dict[Connection, None] = {}

    def add(self, connection: "Connection") -> None:
        """This one waits for its peer, from now on; the oldest may have to go for it."""
        self._order.pop(connection, None)
        self._order[connection] = None
        if len(self._order) > WAITING_MAX:
            next(iter(self._order)).cut()

    def remove(self, connection: "Connection") -> None:
        """This one has a whole request, or is gone."""
        self._order.pop(connection, None)


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
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES and len(data) < self._head_bytes:
                self.send_400_response("the request's head is too long")
                return
        if not self.transport.is_closing():
            super().data_received(data)

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
        self._head_bytes = 0
        if self._deadline is None:
            self._wait(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        names = [name for name, _ in self.headers]
        lengths = names.count(b"content-length")
        if lengths + names.count(b"transfer-encoding") > 1:
            # Two ways to say where the body ends: whoever reads the other one reads another request.
            raise httptools.HttpParserError("more than one length")
        self._in_head = False
        self._wait(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._cancel()
        self._waiting.remove(self)
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline:
            self._waiting.add(self)  # uvicorn ends it if nothing comes

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
        self._waiting.add(self)
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
