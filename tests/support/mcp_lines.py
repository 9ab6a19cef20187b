"""A bare MCP client on a `ToolSession`: JSON-RPC by hand, so that a test sees every line."""

import json
from itertools import count
from typing import Any

from hyperhive.ports import ToolSession

Line = dict[str, Any]

INITIALIZE: Line = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Lines:
    """One client of one session."""

    def __init__(self, session: ToolSession) -> None:
        self.session = session
        self._numbers = count(1)

    async def introduce(self) -> "Lines":
        """The handshake as the agent CLI makes it."""
        await self.ask("initialize", INITIALIZE)
        await self.note("notifications/initialized")
        return self

    async def ask(self, method: str, params: Line | None = None, *, number: int | None = None) -> Line:
        """A request, its whole reply."""
        message: Line = {"jsonrpc": "2.0", "id": number or next(self._numbers), "method": method}
        if params is not None:
            message["params"] = params
        reply = await self.session.handle(json.dumps(message).encode())
        assert reply is not None, "the request was not answered"
        answer: Line = json.loads(reply)
        assert answer["id"] == message["id"]
        return answer

    async def note(self, method: str, params: Line | None = None) -> None:
        """A notification."""
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        assert await self.session.handle(json.dumps(message).encode()) is None

    async def call(
        self, tool: str, *, call: str | None = None, number: int | None = None, **arguments: object
    ) -> Line:
        """A tool call's result."""
        return await self.call_with(tool, arguments, call=call, number=number)

    async def call_with(
        self, tool: str, arguments: dict[str, object], *, call: str | None = None, number: int | None = None
    ) -> Line:
        """The same, with the arguments as a mapping."""
        params: Line = {"name": tool, "arguments": arguments}
        if call is not None:
            params["_meta"] = {"hyperhive/call": call}
        result: Line = (await self.ask("tools/call", params, number=number))["result"]
        return result

    async def text(self, tool: str, **arguments: object) -> str:
        """The text of a call that must not fail."""
        result = await self.call_with(tool, arguments)
        assert not result["isError"], result
        return text_of(result)


def text_of(result: Line) -> str:
    """The one text of a result, which has nothing else to show."""
    [content] = result["content"]
    assert content["type"] == "text"
    assert "structuredContent" not in result
    return str(content["text"])
