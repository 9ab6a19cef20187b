"""One connection from an agent's box: HTTP/1.1 bytes to requests, and replies back. Knows no accounts and no API.

Whoever is on it is hostile: heads and bodies have a size and a time in which they must have come, a reply that is not
taken is given up, and a client that hangs up ends whatever is done for it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
import h11
import msgspec
from anyio.abc import SocketStream

from hyperhive.gateway.rules import Headers, declared_length, framed_twice

IDLE_SECONDS: Final = 120.0
"""A connection without a request may stay so long."""
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 60.0
WRITE_SECONDS: Final = 60.0
"""How long one piece of a reply may wait for the client to take it."""
HEAD_MAX: Final = 64 * 1024
BODY_MAX: Final = 32 * 2**20
"""The API's own limit."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes


class Room(Protocol):
    """How much of bodies one agent may have under way. `take` says False where there is none left."""

    def take(self, size: int) -> bool: ...

    def give(self, size: int) -> None: ...


class Gone(Exception):
    """The client hung up, or took too long: nobody is there to answer."""


class Refused(Exception):
    """A request that is answered without being looked at; the connection ends with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


Handler = Callable[["Connection", Request], Awaitable[None]]

_OVER: Final = (Gone, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""How a connection ends that nobody is at fault for but the client."""


class Connection:
    """Serves one client until it goes, one request after the other.

    Args:
        stream: the accepted socket; closed by whoever accepted it.
        handle: answers a request: with `refuse`, or with `head`, any number of `piece`, and `end`. Leaving without
            `end` cuts the reply off, and the connection with it.
        room: for bodies.
    """

    def __init__(self, stream: SocketStream, handle: Handler, room: Room) -> None:
        self._stream = stream
        self._handle = handle
        self._room = room
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        self._head_only = False

    async def serve(self) -> None:
        """Returns when the client is gone or has broken a rule. Never raises for what it did."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except* (*_OVER, h11.ProtocolError):
            pass

    async def _serve_one(self) -> bool:
        """One request and its reply. False: the connection is at its end."""
        body = bytearray()
        try:
            head = await self._next_head()
            if head is None:
                return False
            await self._read_body(body)
            await self._handle(self, Request(head.method, head.target, list(head.headers), bytes(body)))
        except Refused as refused:
            await self.refuse(refused.status, "invalid_request_error", refused.message, close=True)
        except h11.RemoteProtocolError as error:
            if self._http.our_state is h11.SEND_RESPONSE or self._http.our_state is h11.IDLE:
                await self.refuse(
                    error.error_status_hint, "invalid_request_error", "no valid HTTP", close=True
                )
            return False
        finally:
            self._room.give(len(body))
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    # --- the request ------------------------------------------------------------------------------------------------

    async def _next_head(self) -> h11.Request | None:
        """A client may be silent between requests, but one that has begun must go on."""
        event = self._http.next_event()
        if event is h11.NEED_DATA and not self._http.trailing_data[0]:
            with anyio.fail_after(IDLE_SECONDS):
                await self._read()
        with anyio.fail_after(HEAD_SECONDS):
            while event is h11.NEED_DATA:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    await self._read()
        if not isinstance(event, h11.Request):
            return None
        self._head_only = event.method == b"HEAD"
        if framed_twice(list(event.headers)):
            raise Refused(400, "a request gives its length in two ways")
        if (declared_length(list(event.headers)) or 0) > BODY_MAX:
            raise Refused(413, f"a request may have {BODY_MAX} bytes")
        return event

    async def _read_body(self, body: bytearray) -> None:
        """Reads it into `body`, of which every byte has been taken from the room."""
        with anyio.fail_after(BODY_SECONDS):
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                    await self._read()
                elif isinstance(event, h11.Data):
                    if len(body) + len(event.data) > BODY_MAX:
                        raise Refused(413, f"a request may have {BODY_MAX} bytes")
                    if not self._room.take(len(event.data)):
                        raise Refused(503, "too many large requests at once")
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return
                else:
                    raise Gone

    async def _read(self) -> None:
        try:
            self._http.receive_data(await self._stream.receive())
        except anyio.EndOfStream:
            self._http.receive_data(b"")

    # --- the reply --------------------------------------------------------------------------------------------------

    async def while_there(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work`, and cancels it when the client hangs up.

        Raises:
            Gone: it did. What `work` raises comes in a group.
        """
        gone = False
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                nonlocal gone
                with suppress(*_OVER):
                    early = 0
                    while early <= HEAD_MAX:  # the next request may come before this one is answered
                        data = await self._stream.receive()
                        early += len(data)
                        self._http.receive_data(data)
                gone = True
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await work()
            group.cancel_scope.cancel()
        if gone:
            raise Gone

    async def head(self, status: int, headers: Headers) -> None:
        """Begins the reply."""
        await self._write(h11.Response(status_code=status, headers=list(headers)))

    async def piece(self, data: bytes) -> None:
        """One more piece of its body."""
        if data and not self._head_only:
            await self._write(h11.Data(data=data))

    async def end(self) -> None:
        """The reply is whole."""
        await self._write(h11.EndOfMessage())

    async def refuse(self, status: int, kind: str, message: str, *, close: bool = False) -> None:
        """A whole reply of the gateway's own, in the shape of the API's errors."""
        await self.answer(status, {"type": "error", "error": {"type": kind, "message": message}}, close=close)

    async def answer(self, status: int, content: object, *, close: bool = False) -> None:
        """A whole reply of the gateway's own."""
        body = msgspec.json.encode(content)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.head(status, [*headers, (b"connection", b"close")] if close else headers)
        await self.piece(body)
        await self.end()

    async def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            with anyio.fail_after(WRITE_SECONDS):
                await self._stream.send(data)
