"""`EventStream`: a connection of the hub's as an HTTP response of server-sent events.

Writes what the connection gives, as fast as this one browser takes it. It ends when the browser goes, when the
connection is ended, and it holds up nobody meanwhile.
"""

import anyio
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from hyperhive.clock import Clock
from hyperhive.web.streaming.hub import Hub
from hyperhive.web.streaming.stream import Connection

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(ASGIResponse):
    """The body of one `/stream`."""

    _should_set_content_length = False

    def __init__(self, hub: Hub, connection: Connection, clock: Clock) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        self._hub = hub
        self._connection = connection
        self._clock = clock

    async def send_body(self, send: Send, receive: Receive) -> None:
        """See `ASGIResponse`."""
        try:
            async with anyio.create_task_group() as group:
                self._connection.on_cut = group.cancel_scope.cancel
                group.start_soon(self._write, send, group.cancel_scope)
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()
        finally:
            self._hub.left(self._connection)

    async def _write(self, send: Send, scope: anyio.CancelScope) -> None:
        connection = self._connection
        while chunk := await connection.read():
            connection.writing_since = self._clock.monotonic()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            connection.writing_since = None
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        scope.cancel()
