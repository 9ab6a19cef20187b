"""Claims about the tools socket as programs in the agent's real box see it (security: S1)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hyperhive.broker import Broker
from hyperhive.mcp.server import McpServer
from hyperhive.names import AgentName
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import Actor
from hyperhive.sockets import SocketServer
from hyperhive.streams import Streams
from hyperhive.testing.runtime_kit import RuntimeKit
from mcp_lines import INITIALIZE
from small_hive import agent, harness, operator, table

pytestmark = [
    pytest.mark.needs("bwrap"),
    pytest.mark.may_block("the kit looks at files between programs; the sockets are watched elsewhere"),
]


@pytest.fixture
async def kit(root: Path) -> AsyncIterator[RuntimeKit]:
    async with RuntimeKit.open("bwrap", root) as kit:
        yield kit


@asynccontextmanager
async def core(kit: RuntimeKit) -> AsyncIterator[Broker]:
    """All sockets of a hive with two agents, on the kit's paths."""
    paths, bob = kit.paths, AgentName("bob")
    for name in (kit.agent, bob):
        paths.make_agent(name)
    async with Broker.open(paths.state_dir / "hive.sqlite") as broker:
        dispatcher = Dispatcher(table(broker, asyncio.Event()), Streams("1", lambda _: None).open)
        tools = McpServer(dispatcher)
        await tools.preload()
        sockets = SocketServer(dispatcher, tools=tools)
        served: list[tuple[Path, Actor]] = [(paths.host_socket, operator())]
        for name in (kit.agent, bob):
            served += [(paths.tools_socket(name), agent(name)), (paths.harness_socket(name), harness(name))]
        try:
            for path, actor in served:
                await sockets.listen(path, actor)
            await tools.leave_bridge(paths.tools_dir(kit.agent))
            yield broker
        finally:
            await sockets.aclose()
            await tools.aclose()


async def test_the_only_socket_in_the_box_is_the_agents_own(kit: RuntimeKit) -> None:
    async with core(kit):
        found = (await kit.shell("find / -path /proc -prune -o -type s -print 2>/dev/null")).out.split()
        assert found == ["/run/hive/mcp.sock"]
        others = [
            kit.paths.host_socket,
            kit.paths.tools_socket(AgentName("bob")),
            kit.paths.harness_socket(kit.agent),
        ]
        for path in others:
            assert (await kit.shell(f"test -e {path} || ls /proc/*/root{path} 2>/dev/null")).out == ""


async def test_an_mcp_client_in_the_box_reaches_the_tools_by_the_bridge_beside_the_socket(
    kit: RuntimeKit,
) -> None:
    call = {"name": "send", "arguments": {"to": "bob", "body": "out of the box"}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    (kit.paths.agent_state(kit.agent)).mkdir(parents=True, exist_ok=True)
    script = "\n".join(json.dumps(line) for line in lines) + "\n"
    (kit.paths.agent_state(kit.agent) / "client.jsonl").write_text(script)
    async with core(kit) as broker:
        if not (await kit.shell("command -v python3")).out:
            pytest.skip("needs python3 in the box: install the package python3 under /usr")
        done = await kit.shell("python3 -IS /run/hive/bridge.py /run/hive/mcp.sock </state/client.jsonl")
        replies = [json.loads(line) for line in done.out.splitlines()]
        assert [reply["id"] for reply in replies] == [1, 2]
        assert "sent as message 1" in replies[1]["result"]["content"][0]["text"]
        assert [(row.sender, row.body) for row in await broker.recent("bob")] == [("alice", "out of the box")]
        spoil = "echo x >/run/hive/bridge.py || rm /run/hive/bridge.py || echo refused"
        assert (await kit.shell(spoil)).out.strip() == "refused"
