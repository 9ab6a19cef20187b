"""One MCP session of one actor, on the `mcp` package's low-level server.

Lines in, lines out; the package does the protocol (both eras of it), this file the hive's part: who calls, a call's
id, and that what a call handed over counts only when its reply got out. Imported late and in a thread: the package
takes the better part of a second and 60 MB.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import anyio
import mcp_types as types
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from hyperhive.errors import Closed
from hyperhive.mcp import tools
from hyperhive.mcp.calls import Calls, Handed
from hyperhive.mcp.schema import input_schema
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import Actor

log = logging.getLogger(__name__)

CALL_META: Final = "hyperhive/call"
CALL_ID_MAX: Final = 200
"""Characters; a longer id counts as none."""
TOOK_META: Final = "hyperhive/took"
"""In a result's `_meta`: the messages that the call handed over, for a harness in a process of its own."""

Id = str | int
Context = ServerRequestContext[Any, Any]
Deliver = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class _Request:
    """A request under way: its reply (None: it gets none), and what its call handed over."""

    reply: "asyncio.Future[bytes | None]"
    handed: Handed | None = None


class CoreSession:
    """Implements `sockets.SocketToolSession` and `ports.ToolSession`. `start` before use; usable from any task."""

    def __init__(
        self, dispatcher: Dispatcher, calls: Calls, actor: Actor, *, version: str, instructions: str
    ) -> None:
        self._dispatcher = dispatcher
        self._calls = calls
        self._actor = actor
        self._server: Server[Any] = Server(
            "hyperhive",
            version=version,
            instructions=instructions,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )
        self._under_way: dict[Id, _Request] = {}
        self._task: asyncio.Task[None] | None = None
        self._to_server: MemoryObjectSendStream[SessionMessage | Exception]
        self._on_close: Callable[[CoreSession], None] | None = None

    def on_close(self, tell: "Callable[[CoreSession], None]") -> None:
        """`tell` is called once, when the session has ended."""
        self._on_close = tell

    def start(self) -> None:
        """Runs the session's server in a task of its own."""
        self._to_server, read = anyio.create_memory_object_stream[SessionMessage | Exception](16)
        write, replies = anyio.create_memory_object_stream[SessionMessage](16)
        self._task = asyncio.get_running_loop().create_task(
            self._run(read, write, replies), name=f"mcp session of {self._actor.name}"
        )
        self._task.add_done_callback(self._ended)

    # --- ports ------------------------------------------------------------------------------------------------------

    async def serve(self, message: bytes, deliver: Deliver) -> None:
        """See `SocketToolSession`."""
        try:
            parsed = types.jsonrpc_message_adapter.validate_json(message, by_name=False)
        except (ValidationError, ValueError, RecursionError) as error:
            await deliver(_fault(None, -32600, f"no valid JSON-RPC message: {_reason(error)}"))
            return
        if not isinstance(parsed, types.JSONRPCRequest):
            await self._notice(parsed)
            return
        if parsed.id in self._under_way:
            await deliver(_fault(parsed.id, -32600, "a request of this id is under way"))
            return
        request = _Request(asyncio.get_running_loop().create_future())
        self._under_way[parsed.id] = request
        try:
            await self._submit(parsed)
            reply = await request.reply
            if reply is not None:
                await deliver(reply)
        except BaseException:
            self._give_back(parsed.id, request)
            raise
        else:
            if request.handed is not None:
                request.handed.written() if reply is not None else request.handed.undo()
        finally:
            del self._under_way[parsed.id]

    async def handle(self, message: bytes) -> bytes | None:
        """See `ToolSession`."""
        replies: list[bytes] = []

        async def keep(reply: bytes) -> None:
            replies.append(reply)

        await self.serve(message, keep)
        return replies[0] if replies else None

    async def aclose(self) -> None:
        """Ends the session; what is under way gets no reply. Idempotent."""
        self._end_requests()
        if self._task is not None:
            self._task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    # --- in ---------------------------------------------------------------------------------------------------------

    async def _notice(self, message: types.JSONRPCMessage) -> None:
        """A notification, or a reply to nothing that we asked."""
        await self._submit(message)
        if isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            number = (message.params or {}).get("requestId")
            request = self._under_way.get(number) if isinstance(number, str | int) else None
            if request is not None and not request.reply.done():
                request.reply.set_result(None)  # a cancelled request is not answered

    async def _submit(self, message: types.JSONRPCMessage) -> None:
        try:
            await self._to_server.send(SessionMessage(message))
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise Closed("the tool session has ended") from None

    def _give_back(self, number: Id, request: _Request) -> None:
        """Nobody waits for the reply any more: end the call, and undo what it handed over."""
        if request.handed is not None:
            request.handed.undo()
            request.handed = None
        if request.reply.done() and not request.reply.cancelled():
            return
        cancelled = types.JSONRPCNotification(
            jsonrpc="2.0", method="notifications/cancelled", params={"requestId": number}
        )
        try:
            self._to_server.send_nowait(SessionMessage(cancelled))
        except (anyio.WouldBlock, anyio.ClosedResourceError, anyio.BrokenResourceError):
            log.debug("cancel_not_passed_on agent=%s", self._actor.name)

    # --- the server -------------------------------------------------------------------------------------------------

    async def _run(
        self,
        read: MemoryObjectReceiveStream[SessionMessage | Exception],
        write: MemoryObjectSendStream[SessionMessage],
        replies: MemoryObjectReceiveStream[SessionMessage],
    ) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._take_replies, replies)
            await self._server.run(read, write, self._server.create_initialization_options())
            group.cancel_scope.cancel()

    async def _take_replies(self, replies: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async with replies:
            async for item in replies:
                message = item.message
                if not isinstance(message, types.JSONRPCResponse | types.JSONRPCError) or message.id is None:
                    continue  # nothing that the server says by itself has a taker
                request = self._under_way.get(message.id)
                if request is not None and not request.reply.done():
                    line = message.model_dump_json(by_alias=True, exclude_unset=True).encode()
                    request.reply.set_result(line)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._to_server.close()
        if self._on_close is not None:
            self._on_close(self)
        self._end_requests()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("tool_session_failed agent=%s", self._actor.name, exc_info=error)

    def _end_requests(self) -> None:
        """What is under way gets no reply: an error would be taken for the call's own, and it may be made again."""
        for request in self._under_way.values():
            if not request.reply.done():
                request.reply.set_exception(Closed("the tool session has ended"))

    async def _list_tools(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        del ctx, params
        return types.ListToolsResult(
            tools=[_as_mcp(tool) for tool in tools.served(self._dispatcher, self._actor)]
        )

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        meta: dict[str, Any] = dict(ctx.meta) if ctx.meta else {}
        call_id = meta.get(CALL_META)
        if not isinstance(call_id, str) or len(call_id) > CALL_ID_MAX:
            call_id = None
        handed = await self._calls.make(self._actor, params.name, params.arguments or {}, call_id)
        request = self._under_way.get(ctx.request_id) if ctx.request_id is not None else None
        if request is None or request.reply.done():
            handed.undo()
        else:
            request.handed = handed
        result = handed.result
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=result.text)],
            is_error=result.failed,
            _meta={TOOK_META: list(result.took)} if result.took else None,
        )


def _as_mcp(tool: tools.Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=input_schema(tool),
        annotations=types.ToolAnnotations(
            read_only_hint=tool.read_only,
            destructive_hint=tool.destructive,
            idempotent_hint=tool.idempotent,
            open_world_hint=False,
        ),
    )


def _fault(number: Id | None, code: int, message: str) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}})


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(str(fault["msg"]) for fault in error.errors(include_input=False)[:3])[:300]
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]
