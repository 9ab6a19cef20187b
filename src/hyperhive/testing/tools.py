"""A small MCP server of the hive's kind, without a hive: for trying a `TurnRunner` alone, and for tests.

It speaks the JSON-RPC that the CLI expects of an `sdk` server. Its tools are plain async functions of their arguments.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

Tool = Callable[[dict[str, Any]], Awaitable[str]]


class _Call(msgspec.Struct):
    name: str = ""
    arguments: dict[str, Any] = {}


class _Request(msgspec.Struct):
    method: str = ""
    id: str | int | None = None
    params: dict[str, Any] = {}


class LocalTools:
    """Passes for a `hyperhive.ports.ToolServer`. `calls` lists what was called, `open` how many sessions are open."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.tools = dict(tools)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.open = 0
        self.cancelled = 0

    async def open_session(self) -> "LocalToolSession":
        """A session; several at once share `calls`."""
        self.open += 1
        return LocalToolSession(self)


class LocalToolSession:
    """Passes for a `hyperhive.ports.ToolSession`."""

    def __init__(self, server: LocalTools) -> None:
        self._server = server
        self._closed = False

    async def handle(self, message: bytes) -> bytes | None:
        """One JSON-RPC message; the reply to a request."""
        try:
            request = msgspec.json.decode(message, type=_Request)
        except msgspec.MsgspecError as error:
            return _encode(None, error=str(error))
        if request.id is None:
            return None
        if request.method == "initialize":
            return _encode(request.id, _initialized(request.params))
        if request.method == "tools/list":
            return _encode(request.id, {"tools": [_described(name) for name in self._server.tools]})
        if request.method == "tools/call":
            return _encode(request.id, await self._call(msgspec.convert(request.params, _Call)))
        return _encode(request.id, error=f"no method {request.method}")

    async def _call(self, call: _Call) -> dict[str, Any]:
        self._server.calls.append((call.name, call.arguments))
        tool = self._server.tools.get(call.name)
        if tool is None:
            return {"content": [{"type": "text", "text": f"no tool {call.name}"}], "isError": True}
        done = False
        try:
            text = await tool(call.arguments)
            done = True
        finally:
            self._server.cancelled += not done
        return {"content": [{"type": "text", "text": text}]}

    async def aclose(self) -> None:
        """Ends the session. Any number of times."""
        if not self._closed:
            self._closed = True
            self._server.open -= 1


def _initialized(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "protocolVersion": params.get("protocolVersion", "2025-11-25"),
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "hyperhive", "version": "0"},
    }


def _described(name: str) -> dict[str, Any]:
    return {"name": name, "description": f"The tool {name}.", "inputSchema": {"type": "object"}}


def _encode(request_id: str | int | None, result: object = None, *, error: str | None = None) -> bytes:
    if error is not None:
        return msgspec.json.encode(
            {"jsonrpc": "2.0", "id": request_id, "error": {"code": -32600, "message": error}}
        )
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result})
