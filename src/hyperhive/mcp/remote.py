"""The core's tools for a harness in a process of its own: an MCP session over the harness socket.

The `mcp` package stays in the core: lines are only carried. What must be remembered to outlive a restart of the core
is the bridge's `Relay`; this file drives it on the event loop. It implements `ports.ToolServer`.
"""

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from hyperhive.client.lines import Lines, dial
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import BadRequest, Closed, HiveUnreachable
from hyperhive.mcp.bridge import DIAL_AGAIN_SECONDS, Relay
from hyperhive.protocol.codec import decode
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES

TOOK_META = "hyperhive/took"
RESULT_LINE_MAX_BYTES = 4 * REPLY_LINE_MAX_BYTES
"""Well above what a result can come to: a line that is too long would be asked for again, for ever."""

OnTook = Callable[[list[int]], None]


class _Meta(msgspec.Struct):
    took: list[int] = msgspec.field(default_factory=list, name=TOOK_META)


class _ResultHead(msgspec.Struct):
    meta: _Meta | None = msgspec.field(default=None, name="_meta")


class _Params(msgspec.Struct):
    request_id: str | int | None = msgspec.field(default=None, name="requestId")


class _Message(msgspec.Struct):
    id: str | int | None = None
    method: str | None = None
    params: _Params | None = None


class _Reply(msgspec.Struct):
    id: str | int | None = None
    result: _ResultHead | None = None


_MESSAGE = msgspec.json.Decoder(_Message)
_REPLY = msgspec.json.Decoder(_Reply)


class RemoteToolServer:
    """Sessions over the harness socket at `path`.

    Args:
        path: the harness socket.
        on_took: told which messages a tool call of the session took from the inbox, before its result is handed on.
        clock: paces the dialling.
    """

    def __init__(self, path: Path, *, on_took: OnTook | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path = path
        self._on_took = on_took
        self._clock = clock

    async def open_session(self) -> "RemoteToolSession":
        """See `ToolServer`. It dials on its own; there need be no core yet."""
        session = RemoteToolSession(self._path, self._on_took, self._clock)
        session.start()
        return session


class RemoteToolSession:
    """Implements `ports.ToolSession`."""

    def __init__(self, path: Path, on_took: OnTook | None, clock: Clock) -> None:
        self._path = path
        self._on_took = on_took
        self._clock = clock
        self._relay = Relay(uuid.uuid4().hex)
        self._lines: Lines | None = None
        self._waiting: dict[str | int, asyncio.Future[bytes | None]] = {}
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keeps a connection up, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(
            self._stay_connected(), name="remote tool session"
        )

    async def handle(self, message: bytes) -> bytes | None:
        """See `ToolSession`."""
        try:
            head = decode(message, _MESSAGE, "JSON-RPC message")
        except BadRequest as error:
            fault = {"code": -32600, "message": str(error)}
            return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": fault})
        self._check_open()
        if head.method is None or head.id is None:
            self._notice(message, head)
            return None
        # A CLI that is slow to start connects twice, and each of its clients counts from 0: one id after the other.
        while (earlier := self._waiting.get(head.id)) is not None:
            await asyncio.wait([earlier])
            await asyncio.sleep(0)  # whoever waited for it takes it out
            self._check_open()
        waiter: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting[head.id] = waiter
        try:
            to_core, at_once = self._relay.from_client(message)
            if at_once:
                return at_once[0]
            self._send(to_core)
            return await waiter
        except asyncio.CancelledError:
            params = {"requestId": head.id}
            self._send(
                self._relay.from_client(
                    msgspec.json.encode(
                        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
                    )
                )[0]
            )
            raise
        finally:
            del self._waiting[head.id]

    def _check_open(self) -> None:
        if self._task is None or self._task.done():
            raise Closed("the tool session has ended")

    async def aclose(self) -> None:
        """Hangs up. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(Closed("the tool session has ended"))

    def _notice(self, message: bytes, head: _Message) -> None:
        self._send(self._relay.from_client(message)[0])
        if head.method == "notifications/cancelled" and head.params is not None:
            waiter = self._waiting.get(head.params.request_id or "")
            if waiter is not None and not waiter.done():
                waiter.set_result(None)  # a cancelled request is not answered

    # --- the connection ---------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        attempts = 0
        while True:
            self._lost.clear()
            try:
                self._lines = await dial(
                    self._path, self._arrived, self._lost.set, limit=RESULT_LINE_MAX_BYTES
                )
            except HiveUnreachable:
                await self._clock.sleep(DIAL_AGAIN_SECONDS[min(attempts, len(DIAL_AGAIN_SECONDS) - 1)])
                attempts += 1
                continue
            try:
                self._send(self._relay.dialled())
                await self._lost.wait()
            finally:
                self._relay.lost()
                lines, self._lines = self._lines, None
                await lines.aclose()
            attempts = 1

    def _send(self, lines: list[bytes]) -> None:
        for line in lines:
            if self._lines is None or self._lines.lost:
                return  # what must not be lost is asked again on the next connection
            try:
                self._lines.send_now(line)
            except Closed:
                return

    def _arrived(self, line: bytes) -> None:
        to_core, to_client = self._relay.from_core(line)
        self._send(to_core)
        for reply in to_client:
            try:
                head = decode(reply, _REPLY, "reply")
            except BadRequest:
                continue
            waiter = self._waiting.get(head.id) if head.id is not None else None
            if waiter is None or waiter.done():
                continue
            if self._on_took is not None and head.result and head.result.meta and head.result.meta.took:
                self._on_took(head.result.meta.took)
            waiter.set_result(reply)
