"""Claims about other MCP clients: the mcp package's own, over the socket and over the bridge, in every era."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.message import SessionMessage

from hyperhive.mcp import bridge
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import CALL_ID
from hyperhive.protocol.policy import Caller
from peer import peer
from small_hive import SmallHive, small_hive

MODES = ["legacy", "auto", "2026-07-28"]


@asynccontextmanager
async def socket_transport(path: Path) -> AsyncIterator[Any]:
    """An MCP transport on a unix socket, as any client could write it."""
    to_client, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](8)
    outgoing, from_client = anyio.create_memory_object_stream[SessionMessage](8)
    async with await anyio.connect_unix(path) as stream, anyio.create_task_group() as group:

        async def read() -> None:
            rest = b""
            async with to_client:
                async for chunk in stream:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        await to_client.send(
                            SessionMessage(types.jsonrpc_message_adapter.validate_json(line))
                        )

        async def write() -> None:
            async with from_client:
                async for item in from_client:
                    await stream.send(
                        item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                    )

        group.start_soon(read)
        group.start_soon(write)
        yield incoming, outgoing
        group.cancel_scope.cancel()


def bridge_to(path: Path) -> StdioServerParameters:
    """The bridge, as a client starts it."""
    return StdioServerParameters(command=sys.executable, args=["-IS", bridge.__file__, str(path)])


def shown(result: object) -> str:
    assert isinstance(result, types.CallToolResult)
    assert result.structured_content is None
    [content] = result.content
    assert isinstance(content, types.TextContent)
    return content.text


async def converse(client: Client, hive: SmallHive) -> None:
    """A whole conversation."""
    assert [tool.name for tool in (await client.list_tools()).tools] == ["send", "recv", "whoami"]
    assert (
        shown(await client.call_tool("send", {"to": "bob", "body": "hi"}))
        == "sent as message 1\n\ninbox: 0 unread"
    )
    await hive.broker.send("bob", "alice", "ho")
    assert shown(await client.call_tool("recv", {"wait_seconds": 5})) == "from: bob\n\nho\n\ninbox: 0 unread"
    failed = await client.call_tool("send", {"to": "bob"})
    assert isinstance(failed, types.CallToolResult)
    assert failed.is_error
    assert await hive.broker.ack_turn("alice", [], taken=True) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_the_mcp_packages_client_over_the_socket(root: Path, mode: str) -> None:
    async with (
        small_hive(root) as hive,
        Client(socket_transport(hive.tools_socket("alice")), mode=mode) as client,
    ):
        await converse(client, hive)


@pytest.mark.parametrize("mode", MODES)
async def test_the_mcp_packages_client_over_the_bridge(root: Path, mode: str) -> None:
    async with small_hive(root) as hive, Client(bridge_to(hive.tools_socket("alice")), mode=mode) as client:
        await converse(client, hive)


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_of_the_bridge_does_not_notice_that_the_core_restarts(root: Path, mode: str) -> None:
    path = root / "run" / "agents" / "alice" / "mcp.sock"
    got: list[str] = []
    async with small_hive(root) as hive:
        client = Client(bridge_to(path), mode=mode)
        async with client, anyio.create_task_group() as group:

            async def receive() -> None:
                got.append(shown(await client.call_tool("recv", {"wait_seconds": 100})))

            group.start_soon(receive)
            await hive.receiving.wait()
            await hive.kill()
            async with small_hive(root) as again:
                await again.receiving.wait()
                await again.broker.send("bob", "alice", "hi")
                while not got:
                    await anyio.lowlevel.checkpoint()
                assert got == ["from: bob\n\nhi\n\ninbox: 0 unread"]
                await client.call_tool("send", {"to": "bob", "body": "still there"})
                assert await again.broker.pending("bob") == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_send_whose_answer_was_lost_with_the_core_happens_once(root: Path, mode: str) -> None:
    path = root / "run" / "agents" / "alice" / "mcp.sock"
    committed = anyio.Event()

    async def send(caller: Caller, request: r.Send) -> a.Reply:
        await hive.broker.send(caller.name, request.to, request.body, call_id=CALL_ID.get())
        committed.set()
        await anyio.sleep_forever()
        return a.Ok()

    async with small_hive(root, handlers={r.Send: send}) as hive:
        client = Client(bridge_to(path), mode=mode)
        async with client, anyio.create_task_group() as group:
            got: list[str] = []

            async def call() -> None:
                got.append(shown(await client.call_tool("send", {"to": "bob", "body": "once"})))

            group.start_soon(call)
            await committed.wait()
            await hive.kill()
            async with small_hive(root) as again:
                while not got:
                    await anyio.lowlevel.checkpoint()
                assert "message 1" in got[0]
                assert await again.broker.pending("bob") == 1


async def test_a_connection_that_began_with_a_command_is_no_mcp_session_and_the_other_way_round(
    root: Path,
) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with small_hive(root) as hive:
        async with peer(hive.tools_socket("alice")) as one:
            await one.ask({"cmd": "status"})
            assert (await one.ask(ping))["code"] == "bad_request"
        async with peer(hive.tools_socket("alice")) as two:
            assert (await two.ask(ping))["id"] == 1
            assert "error" in await two.ask({"cmd": "status"})
            assert (await two.ask({**ping, "id": 2}))["id"] == 2


async def test_a_line_that_is_too_long_is_answered_in_the_clients_language(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as one:
        await one.ask({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        await one.raw(b"x" * 2_000_000)
        refused = await one.hear()
        assert (refused["jsonrpc"], refused["id"], refused["error"]["code"]) == ("2.0", None, -32600)
        assert await one.ended()


async def test_a_client_that_goes_while_a_tool_waits_takes_no_message(root: Path) -> None:
    async with small_hive(root) as hive:
        async with peer(hive.tools_socket("alice")) as one:
            await one.ask({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
                "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
            }})  # fmt: skip
            await one.say({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "recv"}})
            await hive.receiving.wait()
        with anyio.fail_after(5):
            while hive.tools._calls._tasks:
                await anyio.lowlevel.checkpoint()
        await hive.broker.send("bob", "alice", "hi")
        assert await hive.broker.pending("alice") == 1


async def test_the_operators_socket_speaks_no_mcp(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.host) as one:
        refused = await one.ask({"jsonrpc": "2.0", "id": 1, "method": "initialize"})
        assert "no tools" in refused["error"]["message"]
        assert await one.ended()
